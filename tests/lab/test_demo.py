# SPDX-License-Identifier: MIT
"""The newcomer's first command, on a machine that has Docker and volumes of its own already, and often the package."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle

import pytest

from .documents import block
from .host import PACKAGE, Host
from .machines.machine import Machine

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
until eval "$2"; do
    kill -0 $! || break
    sleep 0.02
done
# to all of the terminal's foreground, as Ctrl-C does
if kill -s "$1" -- -$!; then
    wait $! || echo "ended with $?"
else # on a host that had no time to look
    wait $! || { cat /root/said; exit 1; }
    echo "was done by then"
fi
cat /root/said
"""

NOT_BOOTED_BY_SYSTEMD = "unshare --mount --propagation slave sh -c 'mount -t tmpfs tmpfs /run && exec \"$@\"' sh"
"""Hides what systemd and Docker's service have below /run."""

SHOWN = "\n  $ "
"""What comes before each step that is shown."""

WANTED = """\
mkdir -p /srv/wanted/new /srv/wanted/there
cd /srv/wanted
package() { # name, version, directory
    mkdir -p tree/DEBIAN
    printf '%s\\n' "Package: $1" "Version: $2" 'Architecture: all' 'Maintainer: lab <lab@example.org>' \\
        'Description: nothing' >tree/DEBIAN/control
    dpkg-deb --build --root-owner-group tree "$3"
}
package lab-upgraded 1 there
package lab-upgraded 2 new
package lab-new 2 new
dpkg -i there/lab-upgraded_1_all.deb
(cd new && apt-ftparchive packages . >Packages)
echo 'deb [trusted=yes] file:/srv/wanted/new ./' >/etc/apt/sources.list.d/wanted.list
echo 'Dir::Etc::SourceList "/dev/null";' >/etc/apt/apt.conf.d/wanted
apt-get update
sed -i 's/^ python3-all,$/&\\n lab-upgraded (>= 2), lab-new,/' "$1/debian/control"
"""
"""Lets a build in a checkout want a package that is not installed and another in a newer version."""

WANTED_NO_MORE = """\
apt-get purge --yes lab-new lab-upgraded
rm -r /srv/wanted /etc/apt/sources.list.d/wanted.list /etc/apt/apt.conf.d/wanted /var/lib/apt/lists/_srv_wanted*
"""

OTHER_PLUGIN = json.dumps(
    {"entrypoint": ["/nothing"], "interface": {"types": ["docker.volumedriver/1.0"], "socket": "other.sock"}}
)


def nothing_is_left(machine: Machine, before: str) -> None:
    """Await what there was before: a unit may still be on its way down."""

    def compare() -> bool:
        assert machine.sh(LEFT).stdout == before
        return True

    machine.until(compare)


def interrupt(machine: Machine, checkout: str, signal: str, condition: str) -> str:
    """Run the demo, send a signal when a condition is true, clean up if it could not, and return what it said."""
    said = machine.sh(f"cd {checkout}\n{INTERRUPT}", signal, condition).stdout
    machine.sh(f"cd {checkout}; [ ! -d /var/lib/sshfs-demo ] || {COMMAND} --clean")
    return said


def interrupt_at(machine: Machine, checkout: str, signal: str, step: str) -> str:
    """Interrupt the demo when it shows a step that begins so."""
    return interrupt(machine, checkout, signal, f'grep -q -F "$ {step}" /root/said')


def interrupt_each(machine: Machine, checkout: str, steps: Iterator[int]) -> Iterator[str]:
    """Interrupt the demo at some of its steps, which are counted from 1; each time give what was done."""
    for number, signal in zip(steps, cycle(("INT", "TERM", "HUP", "KILL")), strict=False):
        said = interrupt(machine, checkout, signal, f"[ $(grep -c '^  [$] ' /root/said) -ge {number} ]")
        yield f"SIG{signal} at step {number} of\n{said}"


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
    machine.write("/root/plugin-called-sshfs/config.json", OTHER_PLUGIN)
    machine.sh("mkdir /root/plugin-called-sshfs/rootfs && docker plugin create sshfs /root/plugin-called-sshfs")
    try:
        refused = machine.sh(f"cd {checkout} && {COMMAND}", check=False)
        assert refused.returncode == 1
        sentence = "demo: Docker has a managed plugin sshfs, which hides the package: docker plugin rm -f sshfs\n"
        assert sentence in refused.stderr
    finally:
        machine.sh("docker plugin rm -f sshfs; rm -r /root/plugin-called-sshfs")
    nothing_is_left(machine, before)


@pytest.mark.parametrize(
    ("signal", "step"),
    [("INT", "systemctl start"), ("TERM", "docker volume create"), ("HUP", "docker run"), ("KILL", "docker exec")],
)
def test_a_demo_that_is_interrupted_leaves_nothing(host: Host, signal: str, step: str) -> None:
    machine = host.machine
    checkout = host.checkout()
    before = machine.sh(LEFT).stdout
    said = interrupt_at(machine, checkout, signal, step)
    assert "ended with " in said
    assert "Done in " not in said
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
        said = interrupt_at(machine, checkout, "KILL", "systemctl stop docker.socket")
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


def test_what_the_demo_has_kept_is_removed_even_if_docker_was(host: Host) -> None:
    machine = host.machine
    checkout = host.checkout()
    before = machine.sh(LEFT).stdout
    machine.sh(f"cd {checkout} && {COMMAND} --keep")
    machine.sh("systemctl stop docker.service docker.socket; mv /usr/bin/docker /usr/sbin/dockerd /root")
    try:
        said = machine.sh(f"cd {checkout} && {COMMAND} --clean").stdout
    finally:
        machine.sh("mv /root/docker /usr/bin; mv /root/dockerd /usr/sbin; systemctl start docker.service")
    assert "Docker is not here any more. Should it come back, this removes what it still has:\n" in said
    (later,) = (line for line in said.splitlines() if "docker volume rm" in line)
    machine.sh(later)
    nothing_is_left(machine, before)


@contextmanager
def without_the_package(host: Host) -> Iterator[None]:
    """Take it away, and check at the end that nobody has brought it back; Docker asks for a plugin until a restart."""
    host.apt(f"purge {PACKAGE}")
    host.machine.run("systemctl", "restart", "docker")
    yield
    assert not host.is_installed()


def test_the_demo_on_a_machine_without_the_package_builds_it_and_takes_it_away_again(host: Host) -> None:
    machine, checkout = host.machine, host.checkout()
    with without_the_package(host):
        before = machine.sh(LEFT).stdout
        machine.sh(WANTED, checkout)
        try:
            said = machine.sh(f"cd {checkout} && {COMMAND}").stdout
            assert machine.run("dpkg-query", "-W", "-f", "${Version} ", "lab-new", "lab-upgraded").stdout == "2 2 "
        finally:
            machine.sh(WANTED_NO_MORE)
        # and not the one that was there already
        assert re.search(r"What removes them:\n  sudo apt-get purge lab-new *\n", said)
        assert said.count("hello from the first container\n") == 3
        for step in ("apt-get --yes --no-remove", "cd /var/lib/sshfs-demo/build/source && ", "apt-get purge --yes"):
            assert f"{SHOWN}{step}" in said
        assert "Until Docker is restarted it asks the plugin, which is gone" in said
        machine.run("systemctl", "restart", "docker")
        nothing_is_left(machine, before)


@pytest.mark.long
def test_a_demo_that_is_interrupted_at_any_of_its_steps_leaves_nothing(host: Host) -> None:
    machine, checkout = host.machine, host.checkout()
    before = machine.sh(LEFT).stdout
    count = machine.sh(f"cd {checkout} && {COMMAND}").stdout.count(SHOWN)
    assert count > 12
    for done in interrupt_each(machine, checkout, iter(range(1, count + 1))):
        print(done)  # noqa: T201 (pytest shows it if what follows fails)
        nothing_is_left(machine, before)


@pytest.mark.long
def test_a_demo_that_is_interrupted_while_it_builds_or_removes_the_package_leaves_nothing(host: Host) -> None:
    machine, checkout = host.machine, host.checkout()
    with without_the_package(host):
        before = machine.sh(LEFT).stdout
        steps = machine.sh(f"cd {checkout} && {COMMAND}").stdout.split(SHOWN)[1:]
        of_the_package = [number for number, step in enumerate(steps, 1) if "apt-get" in step or "dpkg-" in step]
        assert len(of_the_package) == 4
        for done in interrupt_each(machine, checkout, iter(of_the_package)):
            print(done)  # noqa: T201 (as above)
            machine.run("systemctl", "restart", "docker")
            nothing_is_left(machine, before)


BUSY = "for each in 1 2; do systemd-run --quiet --unit=busy-$each sh -c 'while :; do :; done'; done"


@pytest.mark.long
def test_the_demo_succeeds_each_of_twenty_times_on_a_busy_machine(host: Host) -> None:
    machine, checkout = host.machine, host.checkout()
    before = machine.sh(LEFT).stdout
    machine.sh(BUSY)
    try:
        for _ in range(20):
            assert "Done in " in machine.sh(f"cd {checkout} && {COMMAND}").stdout
            nothing_is_left(machine, before)
    finally:
        machine.sh("systemctl stop 'busy-*'")
