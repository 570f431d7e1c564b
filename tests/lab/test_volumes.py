# SPDX-License-Identifier: MIT
"""Volumes in containers, with a real Docker, a real systemd and a real SSH server."""

import itertools
import random
import re
from collections.abc import Iterator
from datetime import datetime

import pytest

from sshfs_plugin.options import values
from sshfs_plugin.ssh import sshfs

from .host import KEY, MOUNTS, PACKAGE, STAY, Host
from .machines.machine import CONTENT_IMAGE, IMAGE

PASSWORD = """ c,o=r"r'e\\ct %h ${HOME}; hörse#"""


def test_one_container_writes_what_another_reads(host: Host) -> None:
    directory = host.directory("photos")
    assert host.create("photos", directory).stdout == "photos\n"
    host.run("photos", "echo hello >/data/hello")
    assert host.run("photos", "cat /data/hello").stdout == "hello\n"
    assert host.machine.read(f"{directory}/hello") == "hello\n"
    assert host.machine.run("stat", "-c", "%U", f"{directory}/hello").stdout == "alice\n"
    host.machine.run("docker", "volume", "rm", "photos")
    assert host.machine.read(f"{directory}/hello") == "hello\n"
    assert not host.machine.run("test", "-e", f"{MOUNTS}/photos", check=False)


def test_inspect_tells_what_one_wants_to_know(host: Host) -> None:
    directory = host.directory("told")
    host.create("told", directory)
    inspected = host.inspect("told")
    assert inspected["Driver"] == "sshfs"
    assert inspected["Scope"] == "local"
    assert inspected["CreatedAt"]
    with host.writing("told", directory):
        told = dict(host.status("told"))
        assert datetime.fromisoformat(told.pop("since")) >= datetime.fromisoformat(inspected["CreatedAt"])
        assert told == {
            "remote": f"alice@localhost:{directory} port 22",
            "state": "mounted",
            "holders": 1,
            "access": "as owner, group and mode allow",
            "hostKey": "accept-new",
            "unit": "docker-volume-sshfs@told.service",
        }


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"sshcmd": "alice@localhost:/srv/nothing"},
            "the directory /srv/nothing does not exist on localhost for alice",
        ),
        (
            {"sshcmd": "alice@localhost:/etc/hostname"},
            "/etc/hostname on localhost is not a directory",
        ),
        (
            {"sshcmd": "alice@localhost:/root"},
            "the directory /root on localhost is not readable for alice",
        ),
        ({"sshcmd": "mallory@localhost:/srv"}, "localhost refused to let mallory in with the key"),
        (
            {"sshcmd": "alice@nowhere.invalid:/srv"},
            "the host name nowhere.invalid does not resolve to an address",
        ),
        ({"port": "9"}, "cannot connect to localhost port 9, connection refused"),
        ({"pasword": "x"}, "unknown option 'pasword': did you mean 'password'?"),
        ({"ProxyCommand": "touch /tmp/owned"}, "option 'ProxyCommand' is refused"),
        ({"IdentityFile": f"{KEY}.pub"}, f"cannot use the identity file {KEY}.pub, it is a public key: name"),
        ({"IdentityFile": "/none"}, "cannot use the identity file /none, it does not exist"),
    ],
)
def test_a_mistake_is_named_with_its_cure(host: Host, options: dict[str, str], sentence: str) -> None:
    refused = host.create("wrong", host.directory("wrong"), check=False, **options)
    assert refused.returncode != 0
    assert f"VolumeDriver.Create: {sentence}" in refused.stderr
    assert "wrong" not in host.machine.run("docker", "volume", "ls", "-q").stdout


STRANGE = """ 'ab'  "c" \\ \\" $HOME ${HOME} $$ `id` $(id) %i %% %n #;=,:@ *?[a]{b}~!^&|<>() ü€😀 \N{NO-BREAK SPACE}"""


def test_a_directory_of_the_strangest_name_is_that_very_directory(host: Host) -> None:
    machine, directory = host.machine, f"/srv/alice/{STRANGE}"
    host.directory("strange")
    machine.run("install", "-d", "-o", "alice", directory, f"{directory}/ below\\")
    for name, place in (("strange", directory), ("below", f"{directory}/ below\\")):
        host.create(name, place)
        host.run(name, f"echo {name} >/data/file")
        assert machine.read(f"{place}/file") == f"{name}\n"
    refused = host.create("refused", f"{directory}/a\nb", check=False)
    assert "option 'sshcmd' must not hold line breaks or control characters" in refused.stderr


def admitted(character: str) -> bool:
    """Tell whether an option may hold a character."""
    try:
        values.plain_text(character)
    except ValueError:
        return False
    return True


def test_systemd_reads_whatever_a_value_of_a_mount_can_hold_as_it_was_meant(host: Host) -> None:
    """Each character of the first plane, all triples of those that mean something, and mixtures."""
    characters = [character for character in map(chr, range(0x10000)) if admitted(character)]
    chance = random.Random("values")  # noqa: S311 (the same each time)
    texts = [
        *("".join(characters[first : first + 64]) for first in range(0, len(characters), 64)),
        *map("".join, itertools.product("a \"'\\$`%#;={}", repeat=3)),
        *("".join(chance.choices((*STRANGE, *characters), k=chance.randrange(40))) for _ in range(500)),
        *("".join(chance.choices(STRANGE, k=chance.randrange(40))) for _ in range(500)),
    ]
    meant = {f"V{number}": text for number, text in enumerate(texts)}
    host.machine.write("/run/environment", sshfs.environment_file(meant))
    words = ("--quiet", "--wait", "--pipe", "--property=EnvironmentFile=/run/environment")
    said = host.machine.run("systemd-run", *words, "/usr/bin/env", "-0").stdout
    read = dict(line.split("=", 1) for line in said.split("\0") if line)
    assert {name: read.get(name) for name in meant if read.get(name) != meant[name]} == {}


@pytest.fixture
def interface(host: Host) -> Iterator[str]:
    """Give the machine one more network interface, whose addresses are 192.0.2.9 and fd00:9::9."""
    host.machine.sh(
        "ip link add lab0 type bridge && ip address add 192.0.2.9/32 dev lab0 && "
        "ip address add fd00:9::9/128 dev lab0 nodad && ip link set lab0 up"
    )
    yield "lab0"
    host.machine.run("ip", "link", "delete", "lab0")


@pytest.mark.parametrize(("server", "address"), [("127.0.0.1", "192.0.2.9"), ("[::1]", "fd00:9::9")])
def test_a_volume_connects_from_the_network_interface_that_it_names(
    host: Host, interface: str, server: str, address: str
) -> None:
    machine, directory = host.machine, host.directory("bound")
    source = f"alice@{server}:{directory}"
    with machine.sshd_with(f"AllowUsers alice@{address}\n"):
        refused = host.create("bound", directory, check=False, sshcmd=source)
        assert "refused to let alice in" in refused.stderr
        host.create("bound", directory, sshcmd=source, BindInterface=interface)
        host.run("bound", "echo hi >/data/file")
    assert machine.read(f"{directory}/file") == "hi\n"


def test_a_login_that_is_locked_into_a_directory_gets_a_hint(host: Host) -> None:
    machine = host.machine
    machine.sh("mkdir -p /volume1/photo && chown root:root /volume1 && chown alice /volume1/photo")
    with machine.sshd_with("Match User alice\n ChrootDirectory /volume1\n ForceCommand internal-sftp\n"):
        refused = host.create("locked", "/volume1/photo", check=False)
        assert (
            "/photo exists, and if this login is locked into a directory of the server, that may be it"
            in refused.stderr
        )
        host.create("locked", "/photo")
        host.run("locked", "echo hi >/data/file")
        assert machine.read("/volume1/photo/file") == "hi\n"


@pytest.fixture
def awkward_password(host: Host) -> Iterator[None]:
    """Give alice a password with all that a command line, a list or a configuration file could stumble over."""
    usual = host.machine.run("getent", "shadow", "alice").stdout.split(":")[1]
    host.machine.sh('printf "alice:%s\\n" "$1" | chpasswd', PASSWORD)
    yield
    host.machine.run("usermod", "-p", usual, "alice")


TYPED = "PasswordAuthentication no\nKbdInteractiveAuthentication yes\nUsePAM yes\n"
"""Settings of a server that takes a password only as if a person typed it."""


@pytest.mark.usefixtures("awkward_password")
@pytest.mark.parametrize("way", ["password", "password_file", "keyboard-interactive"])
def test_a_password_opens_the_volume_and_shows_up_nowhere(host: Host, way: str) -> None:
    machine, directory = host.machine, host.directory(way)
    options = {"sshcmd": f"alice@localhost:{directory}", "password": PASSWORD}
    machine.write("/root/nas.password", f"{PASSWORD}\n", mode=0o600)
    if way == "password_file":
        options = {"sshcmd": f"alice@localhost:{directory}", "password_file": "/root/nas.password"}
    words = [word for option, value in options.items() for word in ("-o", f"{option}={value}")]
    with machine.sshd_with(TYPED if way == "keyboard-interactive" else ""):
        machine.run("docker", "volume", "create", "-d", "sshfs", *words, "secret")
        with host.writing("secret", directory):
            assert PASSWORD not in machine.sh("cat /proc/*/cmdline /proc/*/environ 2>/dev/null", check=False).stdout
            assert PASSWORD not in machine.journal("-o", "export", "-n", "300")
            assert not any(PASSWORD in str(value) for value in host.status("secret").values())
        readable = machine.sh("find /run/docker-volume-sshfs /var/lib/docker-volume-sshfs -type f -perm /077")
        assert "known_hosts" not in readable.stdout
        assert "volumes" not in readable.stdout
        # the connection is made again with the same password
        host.start("again", "secret", STAY)
        host.cut_connections()
        machine.until(lambda: machine.run("docker", "exec", "again", "touch", "/data/again"))


def test_a_container_that_is_not_root_writes_with_uid_and_gid(host: Host) -> None:
    directory = host.directory("unprivileged")
    host.machine.run("chmod", "0700", directory)
    host.create("strict", directory)
    host.create("mapped", directory, uid="33", gid="33")
    refused = host.run("strict", "touch /data/file", "--user", "33:33", check=False)
    assert "Permission denied" in refused.stderr
    host.run("mapped", "touch /data/file", "--user", "33:33")
    assert host.machine.run("stat", "-c", "%U", f"{directory}/file").stdout == "alice\n"


def test_restart_and_kill_of_the_service_leave_containers_alone(host: Host) -> None:
    directory = host.directory("restart")
    host.create("restart", directory)
    with host.writing("restart", directory):
        for act in (("restart",), ("kill", "-s", "KILL")):
            host.machine.run("systemctl", *act, PACKAGE)
            host.await_progress(directory)
            assert host.status("restart")["holders"] == 1
    host.machine.until(lambda: not host.is_mounted("restart"))


def test_a_restart_of_the_service_amid_a_mount_of_a_volume_in_use_leaves_its_containers_alone(host: Host) -> None:
    """The mount does not answer, so the Mount asks systemd for a unit that is active, when the restart comes."""
    machine, unit = host.machine, "docker-volume-sshfs@amid.service"
    host.create("amid", host.directory("amid"))
    host.start("user", "amid", STAY)
    sshfs, service = host.sshfs("amid"), host.property(PACKAGE, "MainPID")
    call = "curl -s --unix-socket /run/docker-volume-sshfs/sshfs.sock -H Accept:x"
    machine.sh("pkill -STOP -x sftp-server")
    try:
        mount = f'{call} -d \'{{"Name": "amid", "ID": "second"}}\' http://plugin/VolumeDriver.Mount'
        machine.run("systemd-run", "-q", "--collect", "sh", "-c", mount)
        machine.until(f"pgrep -f 'systemctl start .*{unit}'", pause=0.01)
        machine.run("systemctl", "restart", "--no-block", PACKAGE)
        machine.until(lambda: host.property(PACKAGE, "MainPID") not in ("0", service))
    finally:
        machine.sh("pkill -CONT -x sftp-server")
    machine.run("docker", "exec", "user", "touch", "/data/still-here")
    assert host.sshfs("amid") == sshfs


def test_docker_cp_and_a_second_container_do_not_take_the_volume_away(host: Host) -> None:
    """Docker mounts a live ID a second time for docker cp, and gives it back while the container runs on."""
    directory = host.directory("copied")
    host.create("copied", directory)
    with host.writing("copied", directory) as container:
        host.machine.run("docker", "cp", f"{container}:/data/log", "/root/copied")
        assert host.machine.read("/root/copied").startswith("1\n2\n")
        # into the volume it can't: Docker gives the copy to root, and alice may not give files away
        host.machine.run("docker", "cp", "/root/copied", f"{container}:/data/copied", check=False)
        assert host.run("copied", "ls /data/log").stdout == "/data/log\n"
        assert host.status("copied")["holders"] == 1
    host.machine.until(lambda: not host.is_mounted("copied"))


def test_an_image_with_content_at_the_path_needs_nocopy_where_chown_is_refused(host: Host) -> None:
    host.create("filled", host.directory("filled"))
    words = ("docker", "run", "--rm", "-v")
    refused = host.machine.run(*words, "filled:/data", CONTENT_IMAGE, "ls", "/data", check=False)
    assert "chown" in refused.stderr
    host.machine.run(*words, "filled:/data:nocopy", CONTENT_IMAGE, "ls", "/data")


def test_a_killed_sshfs_comes_back_and_the_container_after_a_restart(host: Host) -> None:
    directory = host.directory("killed")
    host.create("killed", directory)
    host.start("user", "killed", STAY)
    before = host.property("docker-volume-sshfs@killed", "MainPID")
    host.machine.run("systemctl", "kill", "-s", "KILL", "docker-volume-sshfs@killed")
    host.machine.until(lambda: host.property("docker-volume-sshfs@killed", "MainPID") not in ("0", before))
    host.machine.until(lambda: host.run("killed", "touch /data/new"))
    assert host.status("killed")["state"] == "remounted"
    host.machine.run("docker", "restart", "-t", "0", "user")
    assert host.status("killed")["state"] == "mounted"
    assert host.machine.run("docker", "exec", "user", "ls", "/data").stdout == "new\n"


def test_a_mount_that_is_gone_cannot_be_mistaken_for_a_local_directory(host: Host) -> None:
    directory = host.directory("gone")
    host.create("gone", directory)
    with host.writing("gone", directory):
        host.machine.run("umount", "--lazy", f"{MOUNTS}/gone")
        refused = host.machine.run("touch", f"{MOUNTS}/gone/local", check=False)
        assert refused.returncode != 0, "even root must not be able to write below a lost mount"


def test_a_lost_count_takes_no_volume_away_from_a_running_container(host: Host) -> None:
    machine, directory = host.machine, host.directory("miscounted")
    host.create("miscounted", directory)
    with host.writing("miscounted", directory):
        machine.sh(f"systemctl stop {PACKAGE}; rm /run/docker-volume-sshfs/holders/*")
        assert host.run("miscounted", "ls /data/log").stdout == "/data/log\n"
        assert host.is_mounted("miscounted")
        assert "left mounted: a container or a process on this host still uses it" in host.log("miscounted")
    host.machine.until(lambda: not host.is_mounted("miscounted"))


def test_a_volume_that_is_removed_just_after_its_sshfs_was_killed_leaves_no_unit_to_start(host: Host) -> None:
    """For a second systemd waits to start it again, and would find nothing that says what to mount."""
    host.create("brief", host.directory("brief"))
    host.start("user", "brief", STAY)
    unit = "docker-volume-sshfs@brief"
    host.machine.sh(f"systemctl kill -s KILL {unit}; docker rm -f user && docker volume rm brief")
    assert host.property(unit, "ActiveState") == "inactive"
    assert not host.is_mounted("brief")


def test_an_sshfs_that_ends_while_its_server_is_away_leaves_no_failed_unit(host: Host) -> None:
    machine, unit = host.machine, "docker-volume-sshfs@away"
    host.create("away", host.directory("away"), own_connection="yes")
    host.start("user", "away", STAY)
    machine.run("systemctl", "stop", "ssh.socket", "ssh.service")
    try:
        machine.run("systemctl", "kill", "-s", "KILL", unit)
        machine.until(lambda: host.property(unit, "ActiveState") in ("inactive", "failed"))
        assert host.status("away")["state"] == "lost"
    finally:
        machine.run("systemctl", "start", "ssh.service")
    machine.run("docker", "rm", "-f", "user")
    machine.run("docker", "volume", "rm", "away")
    assert unit not in machine.run("systemctl", "list-units", "--all", "--plain", "--state=failed").stdout


def test_containers_keep_their_files_when_systemd_is_asked_for_another_target(host: Host) -> None:
    """Which stops each service that the target does not need."""
    machine, directory = host.machine, host.directory("isolated")
    host.create("isolated", directory)
    with host.writing("isolated", directory):
        machine.run("systemctl", "isolate", "multi-user.target")
        assert machine.run("docker", "volume", "ls", "-q", "-f", "driver=sshfs").stdout.split() == ["isolated"]
        assert host.status("isolated")["state"] == "mounted"
    assert not host.is_mounted("isolated")


def test_a_killed_docker_leaves_no_mount_behind(host: Host) -> None:
    """It sends no Unmount, and its restart=always container comes back with the ID of before."""
    machine, directory = host.machine, host.directory("crash")
    host.create("crash", directory)
    host.start("always", "crash", STAY, "--restart=always")
    host.start("never", "crash", STAY)
    machine.run("systemctl", "kill", "-s", "KILL", "docker")
    machine.until(lambda: machine.run("docker", "exec", "always", "touch", "/data/back"))
    machine.run("docker", "rm", "-f", "never")
    assert host.is_mounted("crash")
    machine.run("docker", "rm", "-f", "always")
    machine.until(lambda: not host.is_mounted("crash"))


def test_stopping_docker_with_volumes_in_use_does_not_deadlock(host: Host) -> None:
    machine, directory = host.machine, host.directory("stopped")
    host.create("stopped", directory)
    host.start("quick", "stopped", "trap 'exit 0' TERM; while true; do sleep 0.1; done")
    machine.run("systemctl", "stop", "docker.socket", "docker.service")
    machine.until(lambda: not host.is_mounted("stopped"))
    machine.run("systemctl", "start", "docker.service")


def test_the_journal_can_be_filtered_by_volume_and_verb(host: Host) -> None:
    host.create("filtered", host.directory("filtered"))
    host.run("filtered", "true")
    last = ("-u", PACKAGE, "-n", "1")
    assert host.machine.journal(*last, "VOLUME=filtered", "VERB=Mount") == "Mount filtered: mounted\n"
    mount_id = host.machine.journal(*last, "VOLUME=filtered", "VERB=Unmount", "--output-fields=MOUNT_ID").strip()
    assert host.machine.journal(*last, f"MOUNT_ID={mount_id}", "VERB=Mount") == "Mount filtered: mounted\n"


def test_nothing_is_left_of_many_containers(host: Host) -> None:
    host.create("many", host.directory("many"))
    for _ in range(3):
        host.run("many", "true")
    host.machine.until("! ps -eo stat,comm | grep -E '^Z|sshfs'")


def test_podman_uses_the_same_plugin(host: Host) -> None:
    machine, directory = host.machine, host.directory("podman")
    refused = machine.run(
        *("podman", "volume", "create", "--driver", "sshfs", "-o", "sshcmd=alice@localhost:/none"),
        *("-o", f"IdentityFile={KEY}", "pod"),
        check=False,
    )
    assert "the directory /none does not exist on localhost for alice" in refused.stderr
    options = ("-o", f"sshcmd=alice@localhost:{directory}", "-o", f"IdentityFile={KEY}")
    machine.run("podman", "volume", "create", "--driver", "sshfs", *options, "pod")
    run = ("podman", "run", "--rm", "--network=none", "-v", "pod:/data", IMAGE)
    machine.run(*run, "sh", "-c", "echo hello >/data/file")
    assert machine.run(*run, "cat", "/data/file").stdout == "hello\n"
    machine.run("podman", "volume", "rm", "pod")
    assert machine.read(f"{directory}/file") == "hello\n"
    machine.until(lambda: not host.is_mounted("pod"))


def test_reason_of_a_failed_mount_is_told_where_the_journal_keeps_warnings_alone(host: Host) -> None:
    machine, file = host.machine, "/etc/systemd/journald.conf.d/warnings.conf"
    host.create("quiet", "/srv/alice/nowhere", o="check=never")
    machine.write(file, "[Journal]\nMaxLevelStore=warning\n")
    try:
        machine.run("systemctl", "restart", "systemd-journald")
        refused = host.run("quiet", "true", check=False)
    finally:
        machine.sh(f"rm {file}; systemctl restart systemd-journald")
    assert re.search("sshfs could not mount volume 'quiet', its last words: .*No such file", refused.stderr)
