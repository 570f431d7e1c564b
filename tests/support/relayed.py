# SPDX-License-Identifier: MIT
"""A relay with the test at both of its ends: as sshfs, and as the server behind an ssh that the relay has started."""

import contextlib
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeAlias

from sshfs_plugin.relay import packets
from sshfs_plugin.relay.outage import OutageFiles
from sshfs_plugin.relay.packets import build, string
from sshfs_plugin.relay.relay import CannotGoOn, Relay
from sshfs_plugin.relay.ssh import Ssh
from support.waiting import LIMIT_SECONDS, await_that

FAKE_SSH = r"""
import _socket, os, sys
test = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
try:
    test.connect(b"\0" + sys.argv[1].encode())
except OSError:  # the test is over
    sys.exit(255)
test.sendmsg([b"x"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, (0).to_bytes(4, sys.byteorder))])
os.close(0)
os.close(1)
last = b""
while more := test.recv(65536):
    last += more
os.write(2, last[1:])
os._exit(last[0] if last else 255)
"""
"""It hands its socket to the test, and then does as the test says: ends with a status and last words."""

VERSION = struct.pack(">IBI", 5, packets.VERSION, 3)
OPENSSH_VERSION = packets.build(packets.VERSION, 3, packets.string(packets.OF_OPENSSH), packets.string(b"1"))
INIT = struct.pack(">IBI", 5, packets.INIT, 3)
POSIX_RENAME, FSYNC, STATVFS = b"posix-rename@openssh.com", b"fsync@openssh.com", b"statvfs@openssh.com"
CREATE = 8
TRUNCATE = 16
OF_HANDLES = (packets.READ, packets.WRITE, packets.FSTAT, packets.FSETSTAT, packets.CLOSE)
KEPT_SECONDS = 30.0
"""For how long attributes are kept: longer than a busy host lets a test wait, shorter than a server may be silent."""
NOTHING = bytes(4)
"""No attributes."""


def kind_of(packet: bytes) -> int:
    """Return the type of a packet."""
    return packet[4]


def id_of(packet: bytes) -> int:
    """Return the id of a request or reply."""
    return int.from_bytes(packet[5:9], "big")


def code_of(packet: bytes) -> int:
    """Return what a STATUS says."""
    assert kind_of(packet) == packets.STATUS, packet
    return int.from_bytes(packet[9:13], "big")


def opening(identity: int, path: bytes, flags: int = packets.TO_READ) -> bytes:
    """Return an OPEN."""
    return build(packets.OPEN, identity, string(path), flags.to_bytes(4, "big"), NOTHING)


def reading(identity: int, handle: bytes, offset: int, length: int) -> bytes:
    """Return a READ."""
    return build(packets.READ, identity, string(handle), struct.pack(">QI", offset, length))


def writing(identity: int, handle: bytes, offset: int, content: bytes) -> bytes:
    """Return a WRITE."""
    return build(packets.WRITE, identity, string(handle), struct.pack(">Q", offset), string(content))


def closing(identity: int, handle: bytes) -> bytes:
    """Return a CLOSE."""
    return build(packets.CLOSE, identity, string(handle))


def looking(identity: int, path: bytes, kind: int = packets.LSTAT) -> bytes:
    """Return an LSTAT, or another request that has a path alone."""
    return build(kind, identity, string(path))


def setting(identity: int, path: bytes, modified: int) -> bytes:
    """Return a SETSTAT of the time of modification."""
    return build(packets.SETSTAT, identity, string(path), struct.pack(">III", packets.HAS_TIMES, modified, modified))


def setting_size(identity: int, name: bytes, size: int) -> bytes:
    """Return an FSETSTAT of the size."""
    return build(packets.FSETSTAT, identity, string(name), struct.pack(">IQ", packets.HAS_SIZE, size))


def syncing(identity: int, name: bytes) -> bytes:
    """Return an fsync."""
    return build(packets.EXTENDED, identity, string(FSYNC), string(name))


def renaming(identity: int, old: bytes, new: bytes, *, posix: bool = False) -> bytes:
    """Return a RENAME of either kind."""
    if posix:
        return build(packets.EXTENDED, identity, string(POSIX_RENAME), string(old), string(new))
    return build(packets.RENAME, identity, string(old), string(new))


def handle(identity: int, name: bytes) -> bytes:
    """Return a HANDLE."""
    return build(packets.HANDLE, identity, string(name))


def data(identity: int, content: bytes) -> bytes:
    """Return a DATA."""
    return build(packets.DATA, identity, string(content))


def attributes(identity: int, size: int, modified: int, mode: int = 0o100644) -> bytes:
    """Return an ATTRS as OpenSSH's server sends it."""
    return build(packets.ATTRS, identity, struct.pack(">IQIIIII", 15, size, 0, 0, mode, modified, modified))


class End:
    """The test's end of a stream of packets."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self._buffer = bytearray()
        stream.settimeout(LIMIT_SECONDS)

    def send(self, *pieces: bytes) -> None:
        """Send packets, or parts of some."""
        self.stream.sendall(b"".join(pieces))

    def send_if_it_can(self, *pieces: bytes) -> None:
        """Send packets, unless the relay has ended this stream."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send(*pieces)

    def take(self) -> bytes:
        """Await a packet."""
        while not self._whole():
            more = self.stream.recv(1 << 18)
            assert more, f"the stream has ended; there is {bytes(self._buffer[:40])!r}"
            self._buffer += more
        length = self._whole()
        packet = bytes(self._buffer[:length])
        del self._buffer[:length]
        return packet

    def take_now(self) -> bytes | None:
        """Return a packet that is there already."""
        while not self._whole():
            if not select.select([self.stream], [], [], 0)[0]:
                return None
            try:
                more = self.stream.recv(1 << 18)
            except ConnectionResetError:
                return None
            if not more:
                return None
            self._buffer += more
        return self.take()

    def rest(self) -> bytes:
        """Await the end of the stream; return what came before."""
        while True:
            try:
                more = self.stream.recv(1 << 18)
            except ConnectionResetError:
                more = b""
            if not more:
                return bytes(self._buffer)
            self._buffer += more

    def _whole(self) -> int:
        if len(self._buffer) < 4:
            return 0
        length = 4 + int.from_bytes(self._buffer[:4], "big")
        return length if length <= len(self._buffer) else 0


class Server(End):
    """The server at the end of one connection."""

    def __init__(self, stream: socket.socket, ssh: socket.socket) -> None:
        super().__init__(stream)
        self._ssh = ssh

    def greet(self, version: bytes = VERSION) -> None:
        """Take the INIT, send the VERSION."""
        assert self.take() == INIT
        self.send(version)

    @property
    def is_cut(self) -> bool:
        """Whether the relay has given the connection up."""
        try:
            return bool(select.select([self.stream], [], [], 0)[0]) and not self.stream.recv(1, socket.MSG_PEEK)
        except ConnectionResetError:
            return True

    def die(self, words: bytes = b"", status: int = 255) -> None:
        """Let ssh say something and end."""
        with contextlib.suppress(OSError):
            self._ssh.sendall(bytes([status]) + words)
        self.close()

    def close(self) -> None:
        """Cut the connection, once ssh has ended."""
        with contextlib.suppress(OSError):
            self._ssh.shutdown(socket.SHUT_WR)
            self._ssh.recv(1)
        self._ssh.close()
        self.stream.close()


class Servers:
    """What stands in for ssh, and the servers behind.

    Attributes:
        command: How the relay starts it.
    """

    def __init__(self, directory: Path, *, name: str) -> None:
        script = directory / "fake-ssh"
        script.write_text(FAKE_SSH)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(LIMIT_SECONDS)
        self._listener.bind(f"\0{name}")
        self._listener.listen(64)
        self.command = ["/usr/bin/python3", "-I", "-S", str(script), name]
        self._all: list[Server] = []

    def next(self) -> Server:
        """Await the next ssh that is started, and not ended at once."""
        while True:
            ssh, _ = self._listener.accept()
            ssh.settimeout(LIMIT_SECONDS)
            # recv_fds drops its flags, and the next ssh would keep the descriptor open
            _, handed, _, _ = ssh.recvmsg(1, socket.CMSG_LEN(4), socket.MSG_CMSG_CLOEXEC)
            if handed:
                break
            ssh.close()
        server = Server(socket.socket(fileno=int.from_bytes(handed[0][2], sys.byteorder)), ssh)
        self._all.append(server)
        return server

    def back(self, version: bytes = VERSION) -> Server:
        """Await the next ssh, and greet."""
        server = self.next()
        server.greet(version)
        return server

    @property
    def is_called(self) -> bool:
        """Whether an ssh was started that nobody has awaited."""
        return bool(select.select([self._listener], [], [], 0)[0])

    def close(self) -> None:
        """End all."""
        for server in self._all:
            server.close()
        self._listener.close()


class Relayed:
    """A relay that runs.

    Attributes:
        sshfs: sshfs's end.
        outage: The file that tells of an outage.
        failure: What has ended it, if not sshfs.
    """

    def __init__(  # noqa: PLR0913 (what differs from test to test)
        self,
        servers: Servers,
        outage: Path,
        read_seconds: float = float("inf"),
        *,
        sees_all: bool = True,
        asked_ahead: bytes = b"",
        login_file: str = "",
    ) -> None:
        ours, theirs = socket.socketpair()
        self.sshfs, self.outage = End(ours), outage
        self._theirs, self._status = theirs, -1
        self.failure: BaseException | None = None
        self._relay = Relay(
            Ssh(servers.command, quiet=False),
            servers.command,
            sshfs=theirs.fileno(),
            read_seconds=read_seconds,
            files=OutageFiles(str(outage), login_file),
        )
        if sees_all:
            self._relay.keep_attributes(KEPT_SECONDS)
        if asked_ahead:
            self._relay.note_asked_ahead(asked_ahead)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def connected(self, servers: Servers, version: bytes = VERSION) -> Server:
        """Let both sides greet each other; return the server of the first connection."""
        self.sshfs.send(INIT)
        server = servers.back(version)
        assert self.sshfs.take() == version
        return server

    def kept(self) -> int:
        """Return how many bytes of packets it keeps, at least."""
        relay = self._relay
        # copies, which are made at once: the relay goes on meanwhile
        boxes = [*relay._to_sshfs.pieces, *relay._to_ssh.pieces]
        requests = [request.packet for request in list(relay._pending.values())]
        names = [b"".join((f.handle, f.server_handle, *f.names)) for f in list(relay._files.by_handle.values())]
        return sum(map(len, [*boxes, *requests, *names])) + 100 * len(relay._own)

    def _run(self) -> None:
        relay = self._relay
        try:
            self._status = relay.run()
        except BaseException as error:  # noqa: BLE001 (the test looks at it)
            self.failure = error
            if relay._ssh:
                relay._ssh.end()
        self._theirs.close()

    @property
    def has_ended(self) -> bool:
        """Whether it has."""
        return not self._thread.is_alive()

    def ends(self) -> int:
        """Await its end; return its status, or raise what has ended it."""
        self._thread.join(LIMIT_SECONDS)
        assert self.has_ended, "it still runs"
        if self.failure:
            raise self.failure
        return self._status

    def cannot_go_on(self) -> str:
        """Await its giving up; return why."""
        self._thread.join(LIMIT_SECONDS)
        assert isinstance(self.failure, CannotGoOn), self.failure or "it still runs, or has ended well"
        return str(self.failure)

    def close(self) -> None:
        """End sshfs, and await the relay's end."""
        self.sshfs.stream.close()
        self._thread.join(LIMIT_SECONDS)
        assert self.has_ended, "it still runs, without sshfs"


class Clock:
    """The monotonic clock, and ways to put it forward and to stop it."""

    def __init__(self) -> None:
        self._ahead, self._stopped = 0.0, 0.0
        self._looks = 0

    def __call__(self) -> float:
        """Return the time."""
        self._looks += 1
        return (self._stopped or time.monotonic()) + self._ahead

    def stop(self) -> None:
        """Let it go on with forward() alone, so that no host is too busy for a test of two times that are close."""
        self._stopped = time.monotonic()

    def forward(self, seconds: float) -> None:
        """Let time pass at once."""
        self._ahead += seconds

    def await_looks(self, looks: int = 20) -> None:
        """Wait until it was looked at so often: by then the relay has done whatever it does without us."""
        last = self._looks + looks
        await_that(lambda: self._looks >= last, lambda: "the relay looks at the clock")


@dataclass
class Content:
    """A file of the server, whatever its path.

    Attributes:
        versions: What was in it; the last is what is in it now.
        modified: Its time of last modification.
    """

    versions: list[bytes]
    modified: int = 1

    @property
    def now(self) -> bytes:
        """What is in it."""
        return self.versions[-1]

    def become(self, content: bytes, modified: int | None = None) -> None:
        """Change it."""
        self.versions.append(content)
        self.modified = self.modified + 1 if modified is None else modified


@dataclass
class Disk:
    """A server's files, and the handles of one connection, whose names begin anew with each, as OpenSSH's do.

    Attributes:
        files: The files by path.
        handles: The open ones by handle.
        absent: The paths that cannot be opened now.
        opens: The paths that were to be opened.
        at_once: How many bytes it sends at most for one read.
    """

    files: dict[bytes, Content] = field(default_factory=dict)
    handles: dict[bytes, Content | None] = field(default_factory=dict)
    absent: set[bytes] = field(default_factory=set)
    opens: list[bytes] = field(default_factory=list)
    at_once: int = packets.LONGEST_REPLY

    def connected(self) -> None:
        """Begin a connection."""
        self.handles = {}

    def answer(self, packet: bytes) -> bytes:
        """Do what a request says, and return the reply."""
        kind, identity = kind_of(packet), id_of(packet)
        first, end = packets.text(packet, 9)
        if kind in OF_HANDLES and first not in self.handles:
            return packets.status(identity, 4)
        if kind == packets.EXTENDED and first == FSYNC:
            known = packets.text(packet, end)[0] in self.handles
            return packets.status(identity, packets.OK if known else 4)
        if kind == packets.EXTENDED and first == POSIX_RENAME:
            kind = packets.RENAME
            first, end = packets.text(packet, end)
        return self._ANSWERS[kind](self, packet, identity, first, end)

    def _open(self, packet: bytes, identity: int, path: bytes, end: int) -> bytes:
        flags = packets.number(packet, end)
        self.opens.append(path)
        if path in self.absent:
            return packets.status(identity, 2)
        if path not in self.files:
            if not flags & CREATE:
                return packets.status(identity, 2)
            self.files[path] = Content([b""])
        if flags & TRUNCATE:
            self.files[path].become(b"")
        return self._handle(identity, self.files[path])

    def _handle(self, identity: int, content: Content | None) -> bytes:
        number = 0
        while (name := number.to_bytes(4, "big")) in self.handles:
            number += 1
        self.handles[name] = content
        return handle(identity, name)

    def _opendir(self, packet: bytes, identity: int, path: bytes, end: int) -> bytes:
        return self._handle(identity, None)

    def _close(self, packet: bytes, identity: int, name: bytes, end: int) -> bytes:
        del self.handles[name]
        return packets.status(identity, packets.OK)

    def _read(self, packet: bytes, identity: int, name: bytes, end: int) -> bytes:
        content = self.handles[name]
        if content is None:
            return packets.status(identity, 4)
        offset, length = packets.number(packet, end, ">Q"), packets.number(packet, end + 8)
        part = content.now[offset : offset + min(length, self.at_once)]
        return data(identity, part) if part else packets.status(identity, packets.END_OF_FILE)

    def _write(self, packet: bytes, identity: int, name: bytes, end: int) -> bytes:
        content = self.handles[name]
        if content is None:
            return packets.status(identity, 4)
        offset = packets.number(packet, end, ">Q")
        new, _ = packets.text(packet, end + 8)
        old = content.now.ljust(offset, b"\0")
        content.become(old[:offset] + new + old[offset + len(new) :])
        return packets.status(identity, packets.OK)

    def _set(self, packet: bytes, identity: int, path: bytes, end: int) -> bytes:
        if path not in self.files:
            return packets.status(identity, 2)
        self._change(self.files[path], packet, end)
        return packets.status(identity, packets.OK)

    def _set_open(self, packet: bytes, identity: int, name: bytes, end: int) -> bytes:
        content = self.handles[name]
        if content is None:
            return packets.status(identity, 4)
        self._change(content, packet, end)
        return packets.status(identity, packets.OK)

    def _change(self, content: Content, packet: bytes, position: int) -> None:
        """Set what a test sets: the size, or the time."""
        flags = packets.number(packet, position)
        if flags == packets.HAS_SIZE:
            size = packets.number(packet, position + 4, ">Q")
            content.become(content.now[:size].ljust(size, b"\0"))
        elif flags == packets.HAS_TIMES:
            content.modified = packets.number(packet, position + 8)

    def _look(self, packet: bytes, identity: int, path: bytes, end: int) -> bytes:
        if path in (b"", b"."):
            return attributes(identity, 4096, 1, 0o40755)
        if path not in self.files:
            return packets.status(identity, 2)
        return attributes(identity, len(self.files[path].now), self.files[path].modified)

    def _fstat(self, packet: bytes, identity: int, name: bytes, end: int) -> bytes:
        content = self.handles[name]
        return attributes(identity, len(content.now), content.modified) if content else packets.status(identity, 4)

    def _rename(self, packet: bytes, identity: int, old: bytes, end: int) -> bytes:
        new, _ = packets.text(packet, end)
        moved = [path for path in self.files if path == old or path.startswith(old + b"/")]
        if not moved:
            return packets.status(identity, 2)
        for path in moved:
            self.files[new + path[len(old) :]] = self.files.pop(path)
        return packets.status(identity, packets.OK)

    def _remove(self, packet: bytes, identity: int, path: bytes, end: int) -> bytes:
        return packets.status(identity, packets.OK if self.files.pop(path, None) else 2)

    _ANSWERS: ClassVar[dict[int, Callable[["Disk", bytes, int, bytes, int], bytes]]] = {
        packets.OPEN: _open,
        packets.OPENDIR: _opendir,
        packets.CLOSE: _close,
        packets.READ: _read,
        packets.WRITE: _write,
        packets.LSTAT: _look,
        packets.STAT: _look,
        packets.FSTAT: _fstat,
        packets.RENAME: _rename,
        packets.REMOVE: _remove,
        packets.SETSTAT: _set,
        packets.FSETSTAT: _set_open,
    }


def exchange(relayed: Relayed, server: Server, disk: Disk, *requests: bytes) -> list[bytes]:
    """Let sshfs send requests, the server answer what comes until sshfs has all replies; return these."""
    relayed.sshfs.send(*requests)
    return serve(relayed, server, disk, len(requests))


def serve(relayed: Relayed, server: Server, disk: Disk, replies: int) -> list[bytes]:
    """Let the server answer what comes until sshfs has so many replies; return these."""
    got: list[bytes] = []
    limit = time.monotonic() + LIMIT_SECONDS
    while len(got) < replies:
        assert time.monotonic() < limit, f"only {got} of {replies}"
        ready = select.select([relayed.sshfs.stream, server.stream], [], [], LIMIT_SECONDS)[0]
        if server.stream in ready:
            server.stream.settimeout(LIMIT_SECONDS)
            while (packet := server.take_now()) is not None:
                server.send(disk.answer(packet))
        while len(got) < replies and (packet := relayed.sshfs.take_now()) is not None:
            got.append(packet)
        if len(got) < replies and relayed.has_ended and relayed.sshfs.take_now() is None:
            relayed.ends()
            raise AssertionError(f"it has ended with {got}")
    return got


def let(server: Server, disk: Disk, until: Callable[[], bool]) -> None:
    """Let the server answer until something is so."""

    def is_so() -> bool:
        if packet := server.take_now():
            server.send_if_it_can(disk.answer(packet))
        return until()

    await_that(is_so, lambda: "it is so")


Start: TypeAlias = Callable[..., Relayed]
"""Starts a relay; it may be given ``read_seconds`` and ``sees_all``."""
