# SPDX-License-Identifier: MIT
"""The administrator's command on a booted host, with a real sshd, a running service and three shells."""

import json

import pytest

from .host import KEY, MOUNTS, PACKAGE, Host
from .machines.commands import Result

KNOWN_HOSTS = "/var/lib/docker-volume-sshfs/known_hosts"

TYPING = r"""
import os, pty, sys
shell, settings, typed, expected = sys.argv[1:]
process, terminal = pty.fork()
if process == 0:
    os.environ["TERM"] = "dumb"
    os.execvp(shell.split()[0], shell.split())
said = ""

def read_until(text):
    global said
    while text not in said:
        said += os.read(terminal, 4096).decode(errors="replace")

os.write(terminal, f"{settings}; PS1='it is rea''dy> '\n".encode())
read_until("ready> ")
os.write(terminal, f"docker-volume-sshfs {typed}\t".encode())
read_until(expected)
print(said)
"""
"""Types the beginning of a word and a tab into an interactive shell; whoever waits for what never comes is killed."""

SHELLS = {
    "bash": ("bash --noprofile --norc -i", ". /usr/share/bash-completion/bash_completion"),
    "zsh": ("zsh -f -i", "autoload -U compinit; compinit -u -D"),
}
"""How each is started, and what a person's settings do in it."""


def command(host: Host, *words: str) -> Result:
    """Type the command; its exit code is part of the answer."""
    return host.machine.run(PACKAGE, *words, check=False)


def test_check_gets_to_a_directory_and_names_what_has_failed(host: Host) -> None:
    directory = host.directory("checked")
    before = host.machine.run("cat", KNOWN_HOSTS, check=False).stdout
    good = command(host, "check", "--write", f"alice@localhost:{directory}", "-o", f"IdentityFile={KEY}")
    assert good.returncode == 0, good
    assert good.stdout.count("✓") == 10
    assert "login" in good.stdout
    assert host.machine.run("ls", "-A", directory).stdout == ""
    broken = command(host, "check", "alice@localhost:/nowhere", "-o", f"IdentityFile={KEY}")
    assert broken.returncode == 1
    assert "✗ directory" in broken.stdout
    assert "make it first" in broken.stderr
    refused = command(host, "check", "--write", "alice@localhost:/etc", "-o", f"IdentityFile={KEY}")
    assert refused.returncode == 1
    assert "alice may not write to /etc on localhost" in refused.stderr
    assert host.machine.run("cat", KNOWN_HOSTS, check=False).stdout == before, "a question is no act"


def test_check_is_for_root(host: Host) -> None:
    said = host.machine.run("runuser", "-u", "alice", "--", PACKAGE, "check", "alice@localhost:/", check=False)
    assert said.returncode == 2
    assert said.stderr.endswith("are for root alone: say sudo before the command\n")


def test_status_shows_a_mounted_volume_to_people_and_to_programs(host: Host) -> None:
    directory = host.directory("shown")
    host.create("shown", directory)
    host.create("idle", directory)
    with host.writing("shown", directory):
        asked = command(host, "status", "--json")
        assert asked.returncode == 0, asked
        answer = json.loads(asked.stdout)
        shown, idle = (next(one for one in answer["volumes"] if one["name"] == name) for name in ("shown", "idle"))
        assert (shown["state"], shown["holders"], shown["unitState"]) == ("mounted", 1, "active (running)")
        assert (idle["state"], idle["holders"], idle["unitState"]) == ("unmounted", 0, "inactive (dead)")
        assert answer["units"] == {f"{PACKAGE}.socket": "active (running)", f"{PACKAGE}.service": "active (running)"}
        table = command(host, "status").stdout
        assert "NAME   STATE        HOLDERS  UNIT              REMOTE" in table
        assert f"shown  mounted      1        active (running)  alice@localhost:{directory} port 22" in table
        one = command(host, "status", "shown")
        assert one.returncode == 0
        assert "unit:       docker-volume-sshfs@shown.service, active (running)" in one.stdout
        assert f"IdentityFile={KEY}" in one.stdout
        assert "journalctl -u docker-volume-sshfs@shown" in one.stdout
        assert command(host, "check", "shown").returncode == 0


def test_status_tells_a_failure_that_is_over_and_alerts_to_what_is_wrong_now(host: Host) -> None:
    machine, directory = host.machine, host.directory("fails")
    host.create("fails", directory)
    machine.run("rmdir", directory)
    assert not host.run("fails", "true", check=False)
    over = command(host, "status")
    assert over.returncode == 0, over
    assert "does not exist on localhost for alice" in over.stdout
    machine.run("install", "-d", "-o", "alice", directory)
    host.start("user", "fails", "sleep 1000")
    assert "lastError" not in host.status("fails")
    machine.run("systemctl", "stop", f"{PACKAGE}@fails")
    lost = command(host, "status", "fails")
    assert lost.returncode == 1
    assert "state:      not mounted, although containers hold it\n" in lost.stdout
    assert host.status("fails")["state"] == "lost"


def test_status_without_the_socket_ends_with_three_and_the_cure_works(host: Host) -> None:
    host.machine.run("systemctl", "stop", f"{PACKAGE}.socket", f"{PACKAGE}.service")
    said = command(host, "status")
    assert said.returncode == 3
    cure = "systemctl enable --now docker-volume-sshfs.socket"
    assert f"/run/docker-volume-sshfs/sshfs.sock is closed: {cure} opens it" in said.stderr
    host.machine.run(*cure.split())
    assert command(host, "status").returncode == 0


def test_a_container_that_waits_for_a_frozen_server_can_be_stopped_after_a_release_by_force(host: Host) -> None:
    machine, directory = host.machine, host.directory("frozen")
    host.create("frozen", directory)
    host.start("waiting", "frozen", "while true; do date >/data/date; sleep 0.1; done")
    machine.until(f"test -s {directory}/date")
    machine.sh("pkill -STOP -x sftp-server")
    try:
        stuck = machine.run("docker", "stop", "-t", "1", "waiting", check=False, timeout=50)
        assert stuck.returncode != 0
        assert "did not receive an exit event" in stuck.stderr
        asked = command(host, "release", "frozen")
        assert asked.returncode == 1
        assert "docker-volume-sshfs release --force frozen takes it away from them" in asked.stderr
        assert host.is_mounted("frozen")
        machine.run("systemctl", "stop", f"{PACKAGE}.socket", PACKAGE)  # it needs no service
        forced = command(host, "release", "--force", "frozen")
        machine.run("systemctl", "start", f"{PACKAGE}.socket")
        assert forced.returncode == 0, forced
        assert "frozen is unmounted." in forced.stdout
        assert not host.is_mounted("frozen")
        assert host.property("docker-volume-sshfs@frozen", "ActiveState") == "inactive"
        assert not machine.run("test", "-e", f"{MOUNTS}/frozen", check=False)
        machine.run("docker", "stop", "-t", "1", "waiting")
        machine.run("docker", "rm", "-f", "waiting")
    finally:
        machine.sh("pkill -CONT -x sftp-server || true")
    assert host.run("frozen", "ls /data").stdout == "date\n"
    machine.until(lambda: not host.is_mounted("frozen"))
    assert command(host, "release", "frozen").stdout == "frozen is not mounted.\n"


def test_release_by_force_takes_a_volume_away_until_its_container_is_restarted(host: Host) -> None:
    machine = host.machine
    host.create("taken", host.directory("taken"))
    host.start("user", "taken", "sleep 1000")
    assert command(host, "release", "--force", "taken").returncode == 0
    assert machine.run("docker", "exec", "user", "ls", "/data", check=False).returncode != 0
    assert host.status("taken")["state"] == "lost"
    machine.run("docker", "restart", "-t", "0", "user")
    machine.run("docker", "exec", "user", "touch", "/data/back")


def test_a_host_key_is_shown_trusted_and_forgotten(host: Host) -> None:
    machine = host.machine
    new = command(host, "host-key", "show", "localhost")
    assert new.returncode == 1
    assert "localhost port 22 is not known here." in new.stdout
    fingerprint = machine.run("ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub").stdout.split()[1]
    assert fingerprint in new.stdout
    trusted = command(host, "host-key", "trust", "alice@localhost:/srv", "--fingerprint", fingerprint)
    assert trusted.returncode == 0, trusted
    key = " ".join(machine.read("/etc/ssh/ssh_host_ed25519_key.pub").split()[:2])
    assert f"localhost {key}\n" in machine.read(KNOWN_HOSTS)
    assert command(host, "host-key", "show", "localhost").returncode == 0
    strict = ("-o", f"IdentityFile={KEY}", "-o", "host_key_check=yes")
    assert command(host, "check", "alice@localhost:/", *strict).returncode == 0
    machine.sh("ssh-keygen -q -t ed25519 -N '' -f /root/other")
    machine.sh(f'echo "localhost $(cut -d " " -f 1-2 /root/other.pub)" >{KNOWN_HOSTS}')
    changed = command(host, "check", "alice@localhost:/", *strict)
    assert changed.returncode == 1
    assert changed.stderr.endswith("remove its old key: docker-volume-sshfs host-key forget localhost\n")
    assert command(host, "host-key", "forget", "localhost").returncode == 0
    assert command(host, "host-key", "show", "localhost").returncode == 1
    assert machine.run("sh", "-c", f"yes | {PACKAGE} host-key trust localhost").stdout.endswith(f"({KNOWN_HOSTS}).\n")
    assert command(host, "host-key", "show", "localhost").returncode == 0


COMPLETED = {
    "host-": "host-key",
    "release com": "release completed",
    "check com": "check completed",
    "check -o umas": "-o umask=",
    "check -o idmap=us": "-o idmap=user",
    "options ProxyC": "ProxyCommand",
}


@pytest.mark.parametrize("typed", COMPLETED)
@pytest.mark.parametrize("shell", SHELLS)
def test_bash_and_zsh_complete_commands_volumes_and_options_at_the_first_tab(
    host: Host, shell: str, typed: str
) -> None:
    host.create("completed", host.directory("completed"))
    words = ("/usr/bin/python3", "-c", TYPING, *SHELLS[shell], typed, COMPLETED[typed])
    assert COMPLETED[typed] in host.machine.run(*words).stdout


@pytest.mark.parametrize("typed", COMPLETED)
def test_fish_completes_them_as_well(host: Host, typed: str) -> None:
    host.create("completed", host.directory("completed"))
    suggested = host.machine.run("fish", "-c", f"complete -C '{PACKAGE} {typed}'").stdout.split()
    assert COMPLETED[typed].split()[-1] in suggested


def test_the_manual_page_has_the_command(host: Host) -> None:
    page = host.machine.sh("MANWIDTH=100 MANPAGER=cat man docker-volume-sshfs 2>&1").stdout
    for heading in ("COMMANDS", "EXIT STATUS"):
        assert f"\n{heading}\n" in page
    assert "docker-volume-sshfs check" in page
    as_installed = "zcat /usr/share/man/man8/docker-volume-sshfs.8.gz"
    warnings = host.machine.sh(f"{as_installed} | man --warnings -l - 2>&1 >/dev/null").stdout.splitlines()
    # docutils before 0.20 sets what is literal in a font that groff 1.23 does not have
    assert [line for line in warnings if "cannot select font 'C'" not in line] == []
