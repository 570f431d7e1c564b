# SPDX-License-Identifier: MIT
"""Containers whose read waits for a lost server, and what ends them."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.host import PACKAGE, STAY, Host
from lab.ssh_server import SshServer

from .containers import Record, await_state, in_container, large_file, seconds_up

WAITS = (
    "exec 3</data/large; dd bs=64k count=1 <&3 >/first 2>/dev/null; touch /opened; "
    "until test -e /go; do sleep 0.05; done; exec cat <&3 >/dev/null"
)
"""What a container runs that goes on to read an open file when /go is there. TERM is nothing to its first process."""


@contextmanager
def fault(host: Host, server: SshServer, kind: str) -> Iterator[None]:
    """Let the server be gone meanwhile, with its connections, or let its SFTP hang while its ssh lives on."""
    if kind == "gone":
        with server.away():
            yield
        return
    host.machine.run("pkill", "-STOP", "-u", "alice", "-x", "sftp-server")
    try:
        yield
    finally:
        host.machine.run("pkill", "-CONT", "-u", "alice", "-x", "sftp-server", check=False)


def start_reader(host: Host, container: str, volume: str) -> None:
    """Start a container that has the large file of a volume open."""
    host.start(container, volume, WAITS)
    host.machine.until(lambda: in_container(host, container, "test -e /opened"))


def let_wait(host: Host, container: str) -> None:
    """Let a container go on to read, and wait until the kernel does not let it go on."""
    in_container(host, container, "touch /go")
    process = host.machine.run("docker", "inspect", "-f", "{{.State.Pid}}", container).stdout.strip()
    host.machine.until(f"grep -q cat /proc/{process}/comm && grep -q '^State:.D' /proc/{process}/status")


@pytest.mark.parametrize("kind", ["gone", "hung"])
def test_a_container_whose_read_waits_is_stopped_and_removed_like_any_other(
    host: Host, server: SshServer, kind: str, record_property: Record
) -> None:
    machine, directory = host.machine, host.directory("waited-for")
    large_file(host, directory)
    host.create("waited-for", directory, read_timeout="600")
    for container in ("stopped", "removed"):
        start_reader(host, container, "waited-for")
    host.start("idle", "waited-for", STAY)
    with fault(host, server, kind):
        for container in ("stopped", "removed"):
            let_wait(host, container)
        refused = machine.run("docker", "volume", "rm", "waited-for", check=False)
        assert "remove waited-for: volume is in use - [" in refused.stderr
        refused = machine.run(PACKAGE, "release", "waited-for", check=False)
        assert refused.returncode == 1
        assert "docker-volume-sshfs release --force waited-for takes it away from them" in refused.stderr
        stopped = machine.run("docker", "stop", "-t", "1", "stopped")
        record_property("stopped after", stopped.seconds)
        assert machine.run("docker", "wait", "stopped").stdout == "137\n", "it was killed"
        record_property("removed after", machine.run("docker", "rm", "-f", "removed").seconds)
        assert host.status("waited-for")["holders"] == 1
    await_state(host, "waited-for", "mounted")
    in_container(host, "idle", "touch /data/on")
    machine.run("docker", "rm", "-f", "stopped", "idle")
    machine.until(lambda: not host.is_mounted("waited-for"))
    machine.run("docker", "volume", "rm", "waited-for")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["gone", "hung"])
def test_the_last_container_whose_read_waits_can_be_removed_and_then_its_volume(
    host: Host, server: SshServer, kind: str, record_property: Record
) -> None:
    machine, directory = host.machine, host.directory("last")
    large_file(host, directory)
    host.create("last", directory, read_timeout="600")
    start_reader(host, "reader", "last")
    with fault(host, server, kind):
        let_wait(host, "reader")
        began = seconds_up(host)
        machine.run("docker", "rm", "-f", "reader", timeout=120)
        record_property("container removed after", seconds_up(host) - began)

        def is_removed() -> bool:
            removed = machine.run("docker", "volume", "rm", "last", check=False)
            in_use = "volume 'last' is still in use by a running container or a process on this host: stop it"
            assert removed or in_use in removed.stderr, removed
            return bool(removed)

        machine.until(is_removed)
        record_property("volume removed after", seconds_up(host) - began)
        assert not host.is_mounted("last")
        assert machine.run("docker", "volume", "ls", "-q").stdout == ""


@pytest.mark.long
@pytest.mark.parametrize("kind", ["gone", "hung"])
def test_a_release_by_force_lets_a_read_that_waits_fail_at_once(
    host: Host, server: SshServer, kind: str, record_property: Record
) -> None:
    machine, directory = host.machine, host.directory("forced")
    large_file(host, directory)
    host.create("forced", directory, read_timeout="600")
    start_reader(host, "reader", "forced")
    with fault(host, server, kind):
        let_wait(host, "reader")
        began = seconds_up(host)
        release = ("systemd-run", "--quiet", "--collect", "--unit=forced", PACKAGE, "release", "--force", "forced")
        machine.run(*release)
        assert machine.run("docker", "wait", "reader").stdout == "1\n"
        record_property("read failed after", seconds_up(host) - began)
        machine.until("! systemctl is-active --quiet forced")
        record_property("released after", seconds_up(host) - began)
        record_property("the reader's error", machine.run("docker", "logs", "reader").stderr)
        assert not host.is_mounted("forced")
        machine.run("docker", "rm", "reader")
        machine.run("docker", "volume", "rm", "forced")
