# SPDX-License-Identifier: MIT
"""The program itself: how it ends, and how small it is."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.processes import has_ended
from support.relayed import (
    CREATE,
    INIT,
    VERSION,
    Content,
    Disk,
    End,
    Server,
    Servers,
    closing,
    data,
    handle,
    looking,
    opening,
    reading,
    writing,
)
from support.waiting import LIMIT_SECONDS, await_that

from sshfs_plugin.relay import guard, packets

ROOT = Path(__file__).parents[3]
PYTHON = "/usr/bin/python3"
TOO_LARGE = ("typing", "collections", "socket", "enum", "re", "pathlib", "contextlib", "subprocess", "logging")
TO_WRITE = 2
SSHFS = """
import signal, socket, subprocess, sys
open("/proc/self/comm", "w").write("sshfs")
ours, theirs = socket.socketpair()
relay = subprocess.Popen([sys.executable, "-S", "-c", *sys.argv[1:]], stdin=theirs)
socket.send_fds(socket.socket(fileno=0), [str(relay.pid).encode()], [ours.fileno()])
ours.close()
theirs.close()
signal.pause()
"""
"""It starts the relay at a socket pair of its own, and gives the test the other end."""
PROGRAM = """
import os, sys
sys.path.append(sys.argv[1])
from sshfs_plugin.relay import outage
from sshfs_plugin.relay.main import main
outage.EVERY_SECONDS = outage.UNREACHED_SECONDS = 0.0
spawn, fake = os.posix_spawn, sys.argv[2:7]
def spawning(path, arguments, *rest, **named):
    if path == "/bin/sh":
        return spawn(path, arguments, *rest, **named)
    assert (path, arguments[:2]) == ("/usr/bin/ssh", ["/usr/bin/ssh", "nas"]), arguments
    return spawn(fake[0], fake, *rest, **named)
os.posix_spawn, sys.argv[1:] = spawning, sys.argv[7:]
main()
"""
"""It is the program but for the ssh, and makes attempts at once."""


@dataclass
class Mount:
    """An sshfs that is none, and its relay."""

    process: subprocess.Popen[str]
    sshfs: End
    server: Server
    relay: int

    def survives_a_loss(self, servers: Servers) -> None:
        """Lose the connection amid a read, and see it answered by the next."""
        disk = Disk({b"a": Content([b"abc"])})
        self.sshfs.send(opening(1, b"a"))
        self.server.send(disk.answer(self.server.take()))
        name = packets.text(self.sshfs.take(), 9)[0]
        self.sshfs.send(reading(2, name, 0, 3))
        self.server.take()
        self.server.send(b"rubbish that is no packet")
        self.server.rest()
        server = servers.back()
        disk.connected()
        for _ in range(3):
            server.send(disk.answer(server.take()))
        assert self.sshfs.take() == data(2, b"abc")

    def said(self) -> str:
        """Await the end of both; return what they have said."""
        _, said = self.process.communicate(timeout=LIMIT_SECONDS)
        return said


@contextlib.contextmanager
def mounted(
    servers: Servers,
    environment: dict[str, str],
    *,
    errors: int = subprocess.PIPE,
    prepare: Callable[[], object] | None = None,
) -> Iterator[Mount]:
    """Start both.

    Args:
        servers: Where they connect to.
        environment: Theirs.
        errors: The descriptor to which they speak.
        prepare: What is done in the process that becomes sshfs.
    """
    ours, theirs = socket.socketpair()
    ours.settimeout(LIMIT_SECONDS)
    with ours, theirs:
        process = subprocess.Popen(
            [PYTHON, "-c", SSHFS, PROGRAM, str(ROOT), *servers.command, "nas"],
            stdin=theirs.fileno(),
            stderr=errors,
            text=True,
            env=environment,
            preexec_fn=prepare,  # noqa: PLW1509 (it only closes or ignores something)
        )
        try:
            relay, descriptors, _, _ = socket.recv_fds(ours, 20, 1)
            with socket.socket(fileno=descriptors[0]) as stream:
                sshfs = End(stream)
                sshfs.send(INIT)
                server = servers.back()
                assert sshfs.take() == VERSION
                yield Mount(process, sshfs, server, int(relay))
        finally:
            process.kill()
            servers.close()
            process.communicate()


def test_program_when_it_cannot_go_on_ends_sshfs(servers: Servers) -> None:
    with mounted(servers, {}) as mount:
        disk = Disk({b"a": Content([b"abc"])})
        mount.sshfs.send(opening(1, b"a", 3))
        mount.server.send(disk.answer(mount.server.take()))
        name = mount.sshfs.take()[13:]
        mount.sshfs.send(writing(2, name, 0, b"x"), reading(3, name, 0, 3))
        mount.server.take(), mount.server.take()
        mount.server.die()
        said = mount.said()
        assert mount.process.returncode == -9
        assert mount.sshfs.rest() == b""  # no answer to the read was sent
        assert said.endswith(
            "'a' was written to, and the server may have lost that: sshfs was ended, since any answer would have "
            "looked like the end of the file\n"
        )


def test_program_when_a_read_waits_for_longer_than_is_set_ends_sshfs(servers: Servers, tmp_path: Path) -> None:
    outage = tmp_path / "outage"
    environment = {"SSHFS_PLUGIN_READ_TIMEOUT": "0.05", "SSHFS_PLUGIN_OUTAGE": str(outage)}
    with mounted(servers, environment) as mount:
        mount.sshfs.send(opening(1, b"a"))
        mount.server.take()
        mount.server.send(handle(1, b"h"))
        mount.sshfs.take()
        mount.sshfs.send(reading(3, b"h", 0, 3))
        mount.server.take()
        mount.server.die()
        assert "a read of 'a' has waited for 0 seconds: sshfs was ended" in mount.said()
        assert mount.process.returncode == -9
        assert not outage.exists()  # no relay is left that would remove it


def test_program_when_sshfs_breaks_the_protocol_ends_it_with_the_cause(servers: Servers) -> None:
    with mounted(servers, {}) as mount:
        mount.sshfs.send(b"\0\0\0\0 rubbish")
        mount.server.rest()
        mount.server.die()
        assert mount.said().endswith("Malformed: a packet of 0 bytes\n")
        assert mount.process.returncode == -9


def test_program_when_sshfs_ends_ends_too(servers: Servers) -> None:
    with mounted(servers, {}) as mount:
        mount.sshfs.send(looking(1, b"a"))
        mount.server.take()
        mount.process.kill()
        mount.sshfs.stream.close()
        assert mount.server.rest() == b""
        mount.server.die(status=0)
        assert mount.said() == ""


KILLED = "the relay was killed while a file was open: sshfs was ended, or a read would look like the end of the file\n"


def await_told(relay: int, what: bytes) -> None:
    """Wait until the relay has told its guard so."""
    (told,) = (each for each in Path(f"/proc/{relay}/fd").iterdir() if "memfd:reads" in str(each.readlink()))
    await_that(lambda: told.read_bytes() == what, lambda: f"{what!r} is told; {told.read_bytes()!r} is")


def ignore_the_ends_of_children() -> None:
    """Let the kernel reap all children, as a program does that is not interested in how they end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def guards_of(relay: int) -> list[int]:
    """Return the shells that a relay has started; one has its name a moment after the relay goes on."""
    children = Path(f"/proc/{relay}/task/{relay}/children").read_text().split()
    return [int(child) for child in children if Path(f"/proc/{child}/comm").read_text() == "sh\n"]


@pytest.mark.parametrize("case", ["nothing asked", "answered", "asked", "not taken yet", "waits", "connected again"])
def test_program_when_it_is_killed_and_a_file_may_be_read_from_ends_sshfs(
    servers: Servers, tmp_path: Path, case: str
) -> None:
    with mounted(servers, {"SSHFS_PLUGIN_LOGIN": str(tmp_path / "login")}) as mount:
        disk = Disk({b"a": Content([b"abc"])})
        mount.sshfs.send(opening(1, b"a"))
        mount.server.send(disk.answer(mount.server.take()))
        name = mount.sshfs.take()[13:]
        if case == "connected again":  # other descriptors are free then
            mount.server.die()
            mount.server = servers.back()
            disk.connected()
            for _ in range(2):
                mount.server.send(disk.answer(mount.server.take()))
        if case == "not taken yet":
            os.kill(mount.relay, signal.SIGSTOP)
            mount.sshfs.send(reading(2, name, 0, 3))
        elif case != "nothing asked":
            mount.sshfs.send(reading(2, name, 0, 3))
            request = mount.server.take()
        if case == "answered":
            mount.server.send(disk.answer(request))
            mount.sshfs.take()
        elif case == "waits":
            mount.server.die()
            mount.server = servers.next()
        os.kill(mount.relay, signal.SIGKILL)
        mount.server.close()
        assert mount.said().endswith(KILLED)
        assert mount.process.returncode == -9
        assert mount.sshfs.rest() == b""


def test_program_when_it_is_killed_and_no_file_may_be_read_from_leaves_sshfs_to_start_another(servers: Servers) -> None:
    with mounted(servers, {}) as mount:
        disk = Disk({b"a": Content([b"abc"])})
        mount.sshfs.send(opening(1, b"a"), opening(2, b"missing"), opening(3, b"log", TO_WRITE | CREATE))
        for _ in range(3):
            mount.server.send(disk.answer(mount.server.take()))
        name = mount.sshfs.take()[13:]
        mount.sshfs.take(), mount.sshfs.take()
        mount.sshfs.send(reading(4, name, 0, 3), closing(5, name))
        for _ in range(2):
            mount.server.send(disk.answer(mount.server.take()))
            mount.sshfs.take()
        await_told(mount.relay, guard.NO)
        os.kill(mount.relay, signal.SIGKILL)
        assert mount.sshfs.rest() == b""
        assert mount.process.poll() is None


@pytest.mark.parametrize("prepare", [None, ignore_the_ends_of_children])
def test_program_when_its_guard_was_killed_starts_another_for_the_next_file(
    servers: Servers, prepare: Callable[[], object] | None
) -> None:
    def open_it(identity: int) -> None:
        mount.sshfs.send(opening(identity, b"a"))
        mount.server.send(disk.answer(mount.server.take()))
        mount.sshfs.take()

    with mounted(servers, {}, prepare=prepare) as mount:
        disk = Disk({b"a": Content([b"abc"])})
        open_it(1)
        await_that(lambda: guards_of(mount.relay), lambda: "it has a guard")
        (its_guard,) = guards_of(mount.relay)
        os.kill(its_guard, signal.SIGKILL)
        await_that(lambda: has_ended(its_guard), lambda: "it has ended")
        open_it(2)
        os.kill(mount.relay, signal.SIGKILL)
        mount.server.close()
        assert mount.said().endswith(KILLED)
        assert mount.process.returncode == -9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_program_when_it_gets_a_signal_goes_on_until_sshfs_ends(servers: Servers, number: signal.Signals) -> None:
    with mounted(servers, {}) as mount:
        os.kill(mount.relay, number)
        mount.survives_a_loss(servers)
        os.kill(mount.relay, number)
        mount.sshfs.send(closing(9, b"none"))
        assert mount.sshfs.take() == packets.status(9, packets.OK)


@pytest.mark.parametrize("case", ["nobody reads", "full", "full and waits"])
def test_program_when_nobody_takes_its_words_goes_on(servers: Servers, case: str) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    if case == "nobody reads":
        os.close(reader)
    else:
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(1 << 12))
        os.set_blocking(writer, case == "full and waits")
    with mounted(servers, {}, errors=writer) as mount:
        mount.survives_a_loss(servers)
    os.close(writer)
    if case != "nobody reads":
        os.close(reader)


def test_program_when_it_has_no_standard_error_goes_on(servers: Servers) -> None:
    with mounted(servers, {}, prepare=lambda: os.close(2)) as mount:
        mount.survives_a_loss(servers)


def test_program_when_its_starter_ignores_the_ends_of_children_goes_on(servers: Servers) -> None:
    with mounted(servers, {}, prepare=ignore_the_ends_of_children) as mount:
        mount.survives_a_loss(servers)


def relay(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program with the real ssh."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(INIT + closing(1, b""))
        return subprocess.run(
            [str(ROOT / "libexec/relay"), *arguments],
            stdin=theirs.fileno(),
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_SECONDS,
            env={"PYTHONPATH": str(ROOT)},
        )


def test_program_when_the_first_connection_fails_ends_as_ssh_does() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        port = taken.getsockname()[1]
        run = relay("-F", "none", "-p", str(port), "127.0.0.1", "-s", "sftp")
    words = f"ssh: connect to host 127.0.0.1 port {port}: Connection refused"
    assert (run.returncode, run.stderr.strip(), run.stdout) == (255, words, "")


def test_program_when_it_is_loaded_loads_nothing_large() -> None:
    code = (
        "import sys; sys.path.append(sys.argv[1])\n"
        "import sshfs_plugin.relay.main, sshfs_plugin.relay.outage, sshfs_plugin.relay.relay\n"
        "print(*sys.modules)"
    )
    run = subprocess.run([PYTHON, "-S", "-c", code, str(ROOT)], capture_output=True, text=True, check=True)
    loaded = run.stdout.split()
    assert "sshfs_plugin.relay.relay" in loaded
    assert [name for name in TOO_LARGE if name in loaded] == []
    others = [name for name in loaded if name.startswith("sshfs_plugin.") and "relay" not in name]
    assert others == []
