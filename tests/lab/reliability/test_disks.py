# SPDX-License-Identifier: MIT
"""What becomes of the disk and the directory on the server."""

from lab.host import PACKAGE, STAY, Host
from lab.machines.commands import Result

from .containers import in_container


def said(result: Result) -> str:
    """Return how the message of a command ends that has failed."""
    assert result.returncode != 0, result
    return result.stderr.splitlines()[0].rpartition(": ")[2]


def is_well(host: Host, volume: str) -> bool:
    """Tell whether the plugin has nothing to say against a volume."""
    return bool(host.machine.run(PACKAGE, "status", volume, check=False))


def test_a_full_disk_of_the_server_is_an_error_of_the_write(host: Host) -> None:
    machine, directory = host.machine, host.directory("full")
    machine.run("mount", "-t", "tmpfs", "-o", "size=1m,uid=1000", "none", directory)
    try:
        host.create("full", directory)
        host.start("user", "full", STAY)
        for act in ("dd if=/dev/zero of=/data/big bs=64k count=64", "dd if=/dev/zero of=/data/big bs=64k conv=fsync"):
            assert said(in_container(host, "user", act, check=False)) == "Input/output error"
        assert is_well(host, "full")
        in_container(host, "user", "rm /data/big; echo more >/data/small; sync; cat /data/small")
        assert machine.read(f"{directory}/small") == "more\n"
        host.machine.run("docker", "rm", "-f", "user")
        machine.until(lambda: not host.is_mounted("full"))
    finally:
        machine.run("umount", "--lazy", directory)


def test_a_disk_that_has_become_read_only_refuses_changes_only(host: Host) -> None:
    machine, directory = host.machine, host.directory("ro")
    machine.run("mount", "-t", "tmpfs", "-o", "size=1m,uid=1000", "none", directory)
    try:
        host.create("ro", directory)
        host.start("user", "ro", STAY)
        in_container(host, "user", "echo old >/data/file; mkdir /data/dir")
        machine.run("mount", "-o", "remount,ro", directory)
        for act in ("touch /data/new", "echo new >>/data/file", "rm /data/file", "mv /data/dir /data/to"):
            assert said(in_container(host, "user", act, check=False)) == "Operation not permitted", act
        # what sshfs makes of any failure of mkdir for which the server has no name
        assert said(in_container(host, "user", "mkdir /data/other", check=False)) == "File exists"
        assert in_container(host, "user", "cat /data/file").stdout == "old\n"
        assert is_well(host, "ro")
        machine.run("mount", "-o", "remount,rw", directory)
        in_container(host, "user", "echo new >>/data/file")
        assert machine.read(f"{directory}/file") == "old\nnew\n"
        host.machine.run("docker", "rm", "-f", "user")
        machine.until(lambda: not host.is_mounted("ro"))
    finally:
        machine.run("umount", "--lazy", directory)


def test_a_directory_that_is_removed_is_missed_and_one_in_its_place_is_taken(host: Host) -> None:
    machine, directory = host.machine, host.directory("removed")
    host.create("removed", directory)
    host.start("user", "removed", STAY)
    in_container(host, "user", "echo old >/data/file")
    machine.run("rm", "-r", directory)
    for act in ("touch /data/new", "cat /data/file", "mkdir /data/dir"):
        assert said(in_container(host, "user", act, check=False)) == "No such file or directory", act
    # the directory itself may be remembered for 21 seconds
    machine.until(lambda: not in_container(host, "user", "ls /data/", check=False))
    assert said(in_container(host, "user", "ls /data/", check=False)) == "No such file or directory"
    assert is_well(host, "removed")
    host.directory("removed")
    machine.until(lambda: in_container(host, "user", "echo new >/data/file", check=False))
    assert machine.read(f"{directory}/file") == "new\n"
    assert is_well(host, "removed")
