# SPDX-License-Identifier: MIT
"""What becomes of volumes whose records are broken, and of the file system that holds them."""

from collections.abc import Iterator

import pytest

from .host import KEY, PACKAGE, Host
from .machines.machine import IMAGE

STATE = f"/var/lib/{PACKAGE}"


def record(volume: str) -> str:
    return f"{STATE}/volumes/{volume}.json"


def break_record(host: Host, volume: str, content: str) -> str:
    """Let the next call start a service that finds this in place of a volume's record; return what it then says."""
    host.machine.run("systemctl", "stop", PACKAGE)
    host.machine.write(record(volume), content, mode=0o600)
    return f"volume '{volume}' is unusable, its record {record(volume)} "


def test_a_volume_with_a_broken_record_keeps_its_name_until_it_is_mended_or_removed(host: Host) -> None:
    machine, directory = host.machine, host.directory("broken")
    host.create("broken", directory)
    good = machine.read(record("broken"))
    sentence = break_record(host, "broken", good[:40])
    assert machine.run("docker", "volume", "ls", "--format", "{{.Driver}} {{.Name}}").stdout == "sshfs broken\n"
    assert host.status("broken")["state"] == "unusable"
    assert host.status("broken")["lastError"].startswith(f"{sentence}can't be understood (")
    refused = host.run("broken", "touch /data/file", check=False)
    assert sentence in refused.stderr
    assert "docker volume rm broken gives the volume up" in refused.stderr
    assert machine.run("docker", "volume", "ls", "-q", "-f", "driver=local").stdout == "", "where files would be lost"
    for words in (("status",), ("status", "broken"), ("check", "broken")):
        said = machine.run(PACKAGE, *words, check=False)
        assert said.returncode == 1, said
        assert sentence in said.stdout + said.stderr
    assert machine.read(record("broken")) == good[:40]
    machine.write(record("broken"), good, mode=0o600)
    host.run("broken", "touch /data/file")
    assert host.status("broken")["state"] == "unmounted"
    assert "lastError" not in host.status("broken")


def test_a_record_of_a_later_version_is_kept_until_the_volume_is_removed(host: Host) -> None:
    machine = host.machine
    host.create("later", host.directory("later"))
    sentence = break_record(host, "later", '{"version": 2}')
    assert f"{sentence}can't be understood (its version is 2" in host.status("later")["lastError"]
    machine.run("docker", "volume", "rm", "later")
    assert not machine.run("test", "-e", record("later"), check=False)
    host.create("later", host.directory("later"))
    host.run("later", "true")


def test_a_record_that_breaks_while_its_volume_is_used_takes_nothing_from_the_container(host: Host) -> None:
    directory = host.directory("used")
    host.create("used", directory)
    with host.writing("used", directory):
        sentence = break_record(host, "used", "")
        host.await_progress(directory)
        assert (host.status("used")["state"], host.status("used")["holders"]) == ("unusable", 1)
        assert sentence in host.run("used", "true", check=False).stderr
    host.machine.until(lambda: not host.is_mounted("used"))


def test_podman_keeps_a_volume_with_a_broken_record_too(host: Host) -> None:
    machine, directory = host.machine, host.directory("pod")
    options = ("-o", f"sshcmd=alice@localhost:{directory}", "-o", f"IdentityFile={KEY}")
    machine.run("podman", "volume", "create", "--driver", "sshfs", *options, "pod")
    sentence = break_record(host, "pod", "{}")
    # a starved host may take longer for that than the five seconds that Podman waits
    machine.run("systemctl", "start", PACKAGE)
    assert machine.run("podman", "volume", "ls", "-q").stdout == "pod\n"
    run = ("podman", "run", "--rm", "--network=none", "-v", "pod:/data", IMAGE, "true")
    assert f"{sentence}lacks 'version'" in machine.run(*run, check=False).stderr
    machine.run("podman", "volume", "rm", "pod")
    assert not machine.run("test", "-e", record("pod"), check=False)


@pytest.fixture
def file_system(host: Host) -> Iterator[None]:
    """Keep the plugin's state on a file system of its own meanwhile."""
    host.machine.sh(f"systemctl stop {PACKAGE}; mount -t tmpfs -o mode=0700,size=1m state {STATE}")
    yield
    host.clear()
    host.machine.sh(f"systemctl stop {PACKAGE}; umount {STATE}")


@pytest.mark.usefixtures("file_system")
def test_a_file_system_that_was_read_only_for_a_while_is_written_to_again_as_the_error_says(host: Host) -> None:
    machine, directory = host.machine, host.directory("waiting")
    host.create("there", directory)
    machine.sh(f"systemctl stop {PACKAGE}; mount -o remount,ro {STATE}")
    refused = host.create("waiting", directory, check=False)
    cure = "once its file system can be written to, try again half a minute later"
    assert f"Read-only file system: {cure}" in refused.stderr
    machine.sh(f"mount -o remount,rw {STATE}")
    machine.until(lambda: host.create("waiting", directory, check=False).returncode == 0, pause=1)
    host.run("waiting", "touch /data/file")
    assert host.run("there", "ls /data").returncode == 0


@pytest.mark.usefixtures("file_system")
def test_a_full_file_system_is_an_error_that_overwrites_no_record_and_stops_nobody(host: Host) -> None:
    machine, directory = host.machine, host.directory("there")
    host.create("there", directory)
    host.create("idle", host.directory("idle"))
    with host.writing("there", directory):
        kept = {name: machine.read(record(name)) for name in ("there", "idle")}
        machine.sh(f"head -c 1G /dev/zero >{STATE}/ballast 2>/dev/null || true")
        before = machine.run("ls", "-A", f"{STATE}/volumes").stdout
        refused = host.create("late", directory, check=False)
        assert "No space left on device: make room on its file system" in refused.stderr
        assert machine.run("docker", "volume", "ls", "-q").stdout == "idle\nthere\n"
        assert machine.run("ls", "-A", f"{STATE}/volumes").stdout == before, "nothing is left of it"
        assert {name: machine.read(record(name)) for name in kept} == kept
        machine.run("systemctl", "restart", PACKAGE)
        assert (host.status("there")["state"], host.status("there")["holders"]) == ("mounted", 1)
        host.run("idle", "touch /data/file")
        machine.run("docker", "volume", "rm", "idle")
        assert not machine.run("test", "-e", record("idle"), check=False)
        host.await_progress(directory)
        machine.run("rm", f"{STATE}/ballast")
        host.create("late", directory)
        host.run("late", "head -n 1 /data/log")
