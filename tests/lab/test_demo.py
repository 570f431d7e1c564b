# SPDX-License-Identifier: MIT
"""The newcomer's first command, on a machine that has the package, Docker and volumes of its own already."""

import json

import pytest

from .documents import block
from .host import PACKAGE, Host
from .machine import Machine

COMMAND = block("README.md", "sudo ./scripts/demo").strip()

LEFT = """\
docker ps -aq; docker volume ls -q; docker images -q | sort
# but for the one that runs for a moment whenever Docker has started
systemctl list-units --no-legend --plain 'docker*' 'containerd*' | awk '$1 !~ /-activate/ { print $1, $3, $4 }'
findmnt --noheadings --raw --output TARGET | grep -E 'docker-volume-sshfs|sshfs[-]demo' || true
ls -d /etc/docker/* /run/docker* /run/containerd
find /var/lib/docker-volume-sshfs /run/docker-volume-sshfs /var/lib/sshfs[-]demo -name '*demo*' || true
find /sys/fs/cgroup -maxdepth 2 -name 'sshfs[-]demo'
ps -eo args | grep -E 'sshfs[-]demo|[g]unicorn' || true
dpkg-query --show
"""
"""Shows what a run could leave: in Docker, of units, mounts, files, processes and packages."""

INTERRUPT = """\
setsid env --default-signal=INT ./scripts/demo >/root/said 2>&1 &
until grep -q -F "$ $2" /root/said; do
    kill -0 $! || { cat /root/said; exit 1; }
    sleep 0.02
done
# to all of the terminal's foreground, as Ctrl-C does
kill -s "$1" -- -$!
wait $! || echo "ended with $?"
cat /root/said
"""

NOT_BOOTED_BY_SYSTEMD = "unshare --mount --propagation slave sh -c 'mount -t tmpfs tmpfs /run && exec \"$@\"' sh"
"""Hides what systemd and Docker's service have below /run."""


OTHER_PLUGIN = json.dumps(
    {"entrypoint": ["/nothing"], "interface": {"types": ["docker.volumedriver/1.0"], "socket": "other.sock"}}
)


def nothing_is_left(machine: Machine, before: str) -> None:
    """Await what there was before: a unit may still be on its way down."""

    def compare() -> bool:
        assert machine.sh(LEFT).stdout == before
        return True

    machine.until(compare)


@pytest.mark.parametrize("host_kind", ["", NOT_BOOTED_BY_SYSTEMD], ids=["booted by systemd", "not booted by systemd"])
def test_the_demo_shows_a_volume_and_leaves_the_machine_as_it_was(host: Host, host_kind: str) -> None:
    machine = host.machine
    checkout = host.checkout()
    host.create("mine", host.directory("mine"))
    before = machine.sh(LEFT).stdout
    if host_kind:  # such a host has no other service, which would remove the mountpoints of volumes unknown to it
        machine.run("systemctl", "stop", f"{PACKAGE}.socket", PACKAGE)
    said = machine.sh(f"cd {checkout} && {host_kind} {COMMAND}").stdout
    machine.run("systemctl", "start", f"{PACKAGE}.socket")
    assert said.count("hello from the first container\n") == 3  # by another container, on the server, and after rm
    assert "does not exist on 127.0.0.1 for daemon: make it first" in said
    assert "Done in " in said
    assert ("dockerd " in said) == bool(host_kind)
    nothing_is_left(machine, before)


def test_a_demo_beside_a_managed_plugin_of_its_name_says_what_hides_the_package(host: Host) -> None:
    machine, checkout, before = host.machine, host.checkout(), host.machine.sh(LEFT).stdout
    machine.write("/root/other/config.json", OTHER_PLUGIN)
    machine.sh("mkdir /root/other/rootfs && docker plugin create sshfs /root/other")
    try:
        refused = machine.sh(f"cd {checkout} && {COMMAND}", check=False)
        assert refused.returncode == 1
        sentence = "demo: Docker has a managed plugin sshfs, which hides the package: docker plugin rm -f sshfs\n"
        assert sentence in refused.stderr
    finally:
        machine.sh("docker plugin rm -f sshfs; rm -r /root/other")
    nothing_is_left(machine, before)


@pytest.mark.parametrize(
    ("signal", "step"),
    [("INT", "systemctl start"), ("TERM", "docker volume create"), ("HUP", "docker run"), ("KILL", "docker exec")],
)
def test_a_demo_that_is_interrupted_leaves_nothing(host: Host, signal: str, step: str) -> None:
    machine = host.machine
    checkout = host.checkout()
    before = machine.sh(LEFT).stdout
    said = machine.sh(f"cd {checkout}\n{INTERRUPT}", signal, step).stdout
    assert "ended with " in said
    assert "Done in " not in said
    if signal == "KILL":
        machine.sh(f"cd {checkout} && {COMMAND} --clean")
    nothing_is_left(machine, before)


def test_a_demo_that_is_killed_while_it_stops_the_engine_can_be_cleaned_up(host: Host) -> None:
    machine = host.machine
    checkout = host.checkout()
    before = machine.sh(LEFT).stdout
    machine.sh("systemctl stop docker.service docker.socket")
    # it is the last step, which may end before the signal comes
    machine.write("/run/systemd/system/docker.socket.d/slow.conf", "[Socket]\nExecStopPre=/bin/sleep 3\n")
    machine.run("systemctl", "daemon-reload")
    try:
        said = machine.sh(f"cd {checkout}\n{INTERRUPT}", "KILL", "systemctl stop docker.socket").stdout
        machine.sh(f"cd {checkout} && {COMMAND} --clean")
    finally:
        machine.sh("rm -r /run/systemd/system/docker.socket.d; systemctl daemon-reload; systemctl start docker.service")
    assert "ended with " in said
    nothing_is_left(machine, before)


def test_what_the_demo_has_kept_can_be_played_with_and_removed(host: Host) -> None:
    machine = host.machine
    checkout = host.checkout()
    before = machine.sh(LEFT).stdout
    said = machine.sh(f"cd {checkout} && {COMMAND} --keep").stdout
    (play,) = (line for line in said.splitlines() if "docker run --rm -it" in line)
    read = machine.sh(f"{play.replace(' -it', '')} -c 'cat /photos/hello.txt'").stdout
    assert read == "hello from the first container\n"
    machine.sh(f"cd {checkout} && {COMMAND} --clean")
    nothing_is_left(machine, before)
