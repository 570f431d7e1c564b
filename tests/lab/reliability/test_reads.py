# SPDX-License-Identifier: MIT
"""What becomes of a read whose server freezes and is then cut off."""

from typing import NamedTuple

import pytest

from lab.documents import script
from lab.host import KEY, Host
from lab.ssh_server import SshServer

from .containers import MEBIBYTES, Record, checksum, large_file, seconds_up

PAGE = "docs/reliability.md"


class Reading(NamedTuple):
    """What became of a program that read a file: its exit status, the sum of what it had, and how long it waited."""

    status: int
    checksum: str
    seconds: float


def read_while_the_server_freezes(host: Host, server: SshServer, volume: str, program: str) -> Reading:
    """Let a container copy or sum up a file, freeze the server amid that, and cut it off."""
    machine, out = host.machine, f"/root/out-{volume}"
    machine.sh(f"rm -rf {out}; mkdir {out}")
    scripts = {
        "cp": "until test -e /out/go; do sleep 0.05; done; exec cp /data/large /out/copy",
        "dd": "until test -e /out/go; do sleep 0.05; done; exec dd if=/data/large of=/out/copy bs=64k",
        # the file is open before the server freezes
        "md5sum": "exec </data/large; echo >/out/copy; until test -e /out/frozen; do sleep 0.05; done; "
        "/bin/busybox md5sum >/out/sum",
    }
    host.start("reader", volume, scripts[program], "-v", f"{out}:/out")
    reader = machine.run("docker", "inspect", "-f", "{{.State.Pid}}", "reader").stdout.strip()
    # it would be done before the server is frozen
    machine.sh(f"touch {out}/go; until test -s {out}/copy; do :; done; kill -STOP {reader}")
    server.freeze()
    size = int(machine.run("stat", "-c", "%s", f"{out}/copy").stdout)
    assert size < MEBIBYTES << 20, "it was faster than we were"
    machine.sh(f"touch {out}/frozen; kill -CONT {reader}")
    if program == "md5sum":
        machine.until("docker top reader | grep -q md5sum")
    server.cut()
    cut = seconds_up(host)
    status = int(machine.run("docker", "wait", "reader", timeout=120).stdout)
    waited = seconds_up(host) - cut
    machine.run("docker", "rm", "-f", "reader")
    copied = machine.read(f"{out}/sum")[:32] if program == "md5sum" else checksum(host, f"{out}/copy")
    machine.run("rm", "-r", out)
    return Reading(status, copied, waited)


@pytest.mark.parametrize("program", ["cp", "md5sum"])
def test_a_file_is_read_whole_although_its_server_freezes_and_is_cut_off(
    host: Host, server: SshServer, program: str, record_property: Record
) -> None:
    directory = host.directory("whole")
    expected = large_file(host, directory)
    host.create("whole", directory)
    read = read_while_the_server_freezes(host, server, "whole", program)
    assert (read.status, read.checksum) == (0, expected)
    record_property("waited for", read.seconds)


@pytest.mark.parametrize("program", ["cp", "md5sum"])
def test_without_the_relay_a_part_passes_for_the_whole(host: Host, server: SshServer, program: str) -> None:
    """Which shows that the way of these tests brings the fault about."""
    directory = host.directory("part")
    expected = large_file(host, directory)
    host.create("part", directory, relay="no")
    read = read_while_the_server_freezes(host, server, "part", program)
    assert read.status == 0
    assert read.checksum != expected


def test_the_commands_of_the_page_make_a_volume_whose_reads_fail_rather(host: Host, server: SshServer) -> None:
    machine, directory = host.machine, "/srv/files"
    machine.run("install", "-d", "-o", "alice", directory)
    large_file(host, directory)
    machine.sh("install -m 600 $1 /etc/docker-volume-sshfs/id_ed25519", KEY)
    create, remove = script(PAGE).removeprefix("set -eux\n").strip().splitlines()
    try:
        machine.sh(create)
        # cp of busybox lets the kernel copy, and may see no error here either
        for program in ("dd", "md5sum"):
            assert read_while_the_server_freezes(host, server, "careful", program).status != 0
        machine.sh(remove)
    finally:
        machine.run("rm", "-r", directory)
