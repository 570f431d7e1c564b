# SPDX-License-Identifier: MIT
"""Power off and boot with volumes in use."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from support.long import normally

from .documents import block
from .host import MOUNTS, PACKAGE, Host

Record = Callable[[str, object], None]


WRITES = (
    "test ! -e /copy || exec sleep 1000; exec 3>/data/held; "
    "put() { dd if=/dev/urandom of=/part bs=1M count=$1 2>/dev/null; cat /part >>/copy; cat /part >&3; }; "
    "trap 'put 2; exit 0' TERM; put 8; touch /ready; while true; do sleep 0.1; done"
)
"""What a container runs that keeps a file open, never syncs what it writes there, and writes once more at its end.

What it has written is in /copy as well, which outlives it.
"""


Entry = Mapping[str, Any]


def last_said(journal: Iterable[Entry], about: Callable[[Entry], bool]) -> int:
    """Return when the last of some entries was made, in microseconds."""
    return max(int(entry["__MONOTONIC_TIMESTAMP"]) for entry in journal if about(entry))


def of_unit(unit: str) -> Callable[[Entry], bool]:
    """Return what tells whether systemd has said something of a unit."""
    return lambda entry: entry.get("UNIT") == unit


def of_end(container: str) -> Callable[[Entry], bool]:
    """Return what tells whether Docker has said that a container has ended."""
    return lambda entry: f"container={container}" in str(entry["MESSAGE"]) and "/tasks/delete" in str(entry["MESSAGE"])


def test_power_off_with_open_files_is_orderly_and_all_comes_back(host: Host) -> None:
    machine = host.machine
    names = [f"boot-{number}" for number in range(3)]
    # the server is this same host, so Docker must not mount before sshd is up
    machine.write("/etc/systemd/system/docker.service.d/ssh.conf", "[Unit]\nAfter=ssh.service\n")
    machine.run("systemctl", "daemon-reload")
    for name in names:
        host.create(name, host.directory(name))
        host.start(name, name, WRITES, "--restart=always")
    for name in names:
        machine.until(f"docker exec {name} test -e /ready")
    containers = machine.run("docker", "inspect", "-f", "{{.Id}}", *names).stdout.split()
    began = machine.run("date", "+--since=@%s").stdout.strip()
    machine.reboot()
    journal = [json.loads(line) for line in machine.journal("--boot=-1", "--output=json", began).splitlines()]
    for name in names:
        machine.until(f"docker exec {name} touch /data/back")
        assert host.status(name)["holders"] == 1
        sums = [
            machine.run("docker", "exec", name, "/bin/busybox", "md5sum", "/copy").stdout.split()[0],
            machine.run("md5sum", f"/srv/alice/{name}/held").stdout.split()[0],
        ]
        assert sums[0] == sums[1], "what was written was on the server"
        assert machine.run("stat", "-c", "%s", f"/srv/alice/{name}/held").stdout == f"{10 << 20}\n"
    # as systemd puts it when a unit does not stop by itself, and when some of it stays
    messages = [str(entry.get("MESSAGE")) for entry in journal]
    forced = [line for line in messages if "timed out" in line or "left-over process" in line]
    assert [line for line in forced if PACKAGE in line or "docker.service" in line] == []
    unmounted = [last_said(journal, of_unit(f"{PACKAGE}@{name}.service")) for name in names]
    for container, then in zip(containers, unmounted, strict=True):
        assert last_said(journal, of_end(container)) < then, "its files went before the container"
    assert max(unmounted) < last_said(journal, of_unit("network-online.target")), "the network went before a mount"
    machine.run("rm", "/etc/systemd/system/docker.service.d/ssh.conf")


def test_a_mountpoint_that_a_power_cut_has_left_goes_with_its_volume(host: Host) -> None:
    machine, left = host.machine, f"{MOUNTS}/cut-off"
    host.create("cut-off", host.directory("cut-off"))
    host.start("user", "cut-off", "sleep 1000")
    machine.run("sync")
    machine.cut_power()
    machine.boot()
    assert machine.run("test", "-d", left), "nobody was there to remove it"
    machine.run("docker", "rm", "user")
    machine.run("docker", "volume", "rm", "cut-off")
    machine.until(f"test ! -e {left}")


def test_mountpoints_of_no_volume_are_removed_if_nothing_is_in_them(host: Host) -> None:
    """What a cut-off host or an older version has left, of volumes that are no more."""
    machine = host.machine
    machine.sh(
        f"cd {MOUNTS} && mkdir empty full mounted && touch full/precious && chattr +i empty && "
        "mount -t tmpfs none mounted"
    )
    try:
        machine.run("systemctl", "restart", PACKAGE)
        machine.until(f"test ! -e {MOUNTS}/empty")
        machine.until("journalctl -t sshfs -n 20 -o cat | grep 'full stays, Directory not empty: look what is in it'")
        assert machine.run("ls", f"{MOUNTS}/full").stdout == "precious\n"
        assert machine.run("findmnt", f"{MOUNTS}/mounted")
    finally:
        machine.sh(f"cd {MOUNTS} && umount mounted && rm -r full mounted")


def test_a_server_that_comes_up_later_than_this_host_is_waited_for(host: Host, record_property: Record) -> None:
    """Docker starts a container once at its start, and not again if that fails."""
    machine, names = host.machine, [f"early-{number}" for number in range(normally(4, 20))]
    drop_in = "/etc/systemd/system/ssh.service.d/later.conf"
    machine.write(drop_in, "[Service]\nExecStartPre=/bin/sleep 20\n")
    for name in names:
        host.create(name, host.directory(name))
        host.start(name, name, "touch /data/up; sleep 1000", "--restart=always")
    machine.sh(f"rm {' '.join(f'/srv/alice/{name}/up' for name in names)}; systemctl disable ssh.socket")
    machine.reboot()
    began, open_from = (
        int(host.property("docker", f"{state}TimestampMonotonic")) for state in ("InactiveExit", "ActiveEnter")
    )
    record_property("Docker's API is open after", (open_from - began) / 1e6)
    for name in names:
        machine.until(f"test -e /srv/alice/{name}/up")
        assert host.status(name)["state"] == "mounted"
        assert "tried again in 5 seconds, since this host has just started" in host.log(name)
    machine.run("rm", drop_in)


@pytest.mark.long
def test_a_server_that_comes_up_too_late_finds_its_containers_started_by_systemd(host: Host) -> None:
    machine = host.machine
    ssh, unit = "/etc/systemd/system/ssh.service.d/later.conf", "/etc/systemd/system/start-site.service"
    host.create("web", host.directory("web"))
    host.start("site", "web", "touch /data/up; sleep 1000", "--restart=always")
    machine.write(ssh, "[Service]\nExecStartPre=/bin/sleep 130\nTimeoutStartSec=300\n")
    machine.write(unit, block("docs/everyday.md", "[Unit]\nDescription=Start the container"))
    machine.sh("rm /srv/alice/web/up; systemctl disable ssh.socket; systemctl enable start-site")
    machine.reboot()
    assert "cannot connect to localhost port 22" in machine.journal("-b", "-u", "docker"), "Docker could not start it"
    machine.until("test -e /srv/alice/web/up")
    machine.run("rm", ssh, unit)
