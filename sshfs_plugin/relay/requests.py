# SPDX-License-Identifier: MIT
"""The requests of sshfs that have no reply yet, and what is to be known of each."""

from sshfs_plugin.relay import packets
from sshfs_plugin.relay.files import File

TYPE_CHECKING = False  # for mypy; the module "typing" is too large for the relay
if TYPE_CHECKING:
    from collections.abc import Sequence

RENAME, LINK = b"posix-rename@openssh.com", b"hardlink@openssh.com"
SYNC, STATVFS = b"fsync@openssh.com", b"statvfs@openssh.com"
"""The extended requests of sshfs that matter here; the handle of SYNC follows its name."""

_ASK_ATTRIBUTES = (packets.LSTAT, packets.STAT)
_ASKS = (*_ASK_ATTRIBUTES, packets.READLINK, packets.REALPATH, packets.OPENDIR)
"""The types of requests that change nothing on the server and name no open file, so that they may be repeated."""

OF_HANDLES = frozenset((packets.CLOSE, packets.READ, packets.WRITE, packets.FSTAT, packets.FSETSTAT, packets.READDIR))
"""The types of requests that begin with a handle."""

_OF_NAMES = (packets.MKDIR, packets.REMOVE, packets.RMDIR)
"""The types of requests that name what they make or remove, and nothing else."""

CHANGES = (packets.WRITE, packets.FSETSTAT)
"""The types of requests that change the file of their handle."""


class Request:
    """A request without a reply.

    Attributes:
        kind: Its type; that of a RENAME for either way to rename.
        packet: The whole packet, kept while the request may have to wait or be sent once more; else empty.
        data: What the server has sent for a READ of which it has to be asked for the rest.
        file: The file that it opens, reads, syncs or asks the attributes of.
        changes: How many changes sshfs had asked for when it was sent, with this.
        writes: How many changes were made through the handle of the file that it syncs.
        asked_for: The files that sshfs had asked for, and did not have yet, when it asked for attributes at their path.
        waits: Whether it was not sent, since its file is not open on the server.
        asked_then: The paths whose attributes are asked for when it is done: by sshfs that of what it changes or makes,
            by the kernel those of directories in which it makes or removes a name, before anything else is done there.
        since: When it first began to wait, on the monotonic clock; 0 if it never has.
        path: The path that it asks about, changes or renames.
        new: The path that it renames to.
        extension: The name of an extended request; empty for any other, and for one that renames or links.
    """

    __slots__ = (
        "asked_for",
        "asked_then",
        "changes",
        "data",
        "extension",
        "file",
        "kind",
        "new",
        "packet",
        "path",
        "since",
        "waits",
        "writes",
    )

    def __init__(
        self, kind: int, packet: bytes = b"", file: File | None = None, path: bytes = b"", new: bytes = b""
    ) -> None:
        self.kind, self.packet, self.file, self.path, self.new = kind, packet, file, path, new
        self.extension = self.data = b""
        self.asked_then: tuple[bytes, ...] = ()
        self.changes = self.writes = 0
        self.waits, self.since = False, 0.0
        self.asked_for: Sequence[File] = ()

    @property
    def asks_attributes(self) -> bool:
        """Whether it asks for the attributes of what is at a path, with the size and time of a file."""
        return self.kind in _ASK_ATTRIBUTES

    @property
    def is_of_read(self) -> bool:
        """Whether a program that reads an open file waits for it: the kernel may ask for its attributes first."""
        return self.kind in (packets.READ, packets.FSTAT)

    @property
    def may_be_repeated(self) -> bool:
        """Whether the next server may be asked the same: not for a file whose attributes sshfs has been told."""
        return self.packet != b"" and not (self.kind == packets.OPEN and self.file and self.file.stamp)

    @property
    def question(self) -> bytes:
        """The whole of it but for its length and id, if it may be repeated."""
        return self.packet[4:5] + self.packet[9:]

    def is_answered_by(self, kind: int) -> bool:
        """Tell whether a reply of that type can be one to it; a STATUS always can."""
        return kind == _REPLIES.get(self.kind)


class Pending(dict[int, Request]):
    """The requests without a reply, by id.

    Attributes:
        waiting: How many of them wait, since their file is not open on the server.
        waiting_since: When the first of these began to, on the monotonic clock.
    """

    def __init__(self) -> None:
        self.waiting, self.waiting_since = 0, 0.0

    def wait(self, request: Request, now: float) -> None:
        """Let a request of a read wait, be it once more: its time counts from its first wait."""
        request.waits, request.since, request.data = True, request.since or now, b""
        self.waiting_since = min(self.waiting_since, request.since) if self.waiting else request.since
        self.waiting += 1

    def wait_no_more(self, request: Request) -> None:
        """Let it wait no longer."""
        request.waits = False
        self.waiting -= 1
        if self.waiting:
            self.waiting_since = min(other.since for other in self.values() if other.waits)


_REPLIES = {
    packets.OPEN: packets.HANDLE,
    packets.OPENDIR: packets.HANDLE,
    packets.READ: packets.DATA,
    packets.READDIR: packets.NAME,
    packets.REALPATH: packets.NAME,
    packets.READLINK: packets.NAME,
    packets.LSTAT: packets.ATTRS,
    packets.STAT: packets.ATTRS,
    packets.FSTAT: packets.ATTRS,
    packets.EXTENDED: packets.EXTENDED_REPLY,
}

_OTHERS = [Request(kind) for kind in range(256)]


def other(kind: int) -> Request:
    """Return a request of which only the type matters."""
    return _OTHERS[kind]


def of_path(kind: int, packet: memoryview) -> Request:
    """Return a request that begins with a path, or with the name of an extended request. Raises Malformed."""
    if kind in _ASKS:
        file = File() if kind == packets.OPENDIR else None
        return Request(kind, bytes(packet), file, packets.text(packet, 9)[0])
    if kind == packets.OPEN:
        return _open(packet)
    if kind == packets.SETSTAT or kind in _OF_NAMES:
        return _of_name(kind, packet)
    if kind == packets.SYMLINK:
        return _link(kind, packet, 9)
    if kind == packets.RENAME:
        return _rename(packet, 9)
    if kind == packets.EXTENDED:
        return _extended(packet)
    return other(kind)


def _open(packet: memoryview) -> Request:
    path, end = packets.text(packet, 9)
    flags = packets.number(packet, end)
    changes_nothing = flags == packets.TO_READ
    file = File(path, readable=bool(flags & packets.TO_READ), is_new=flags & packets.MADE_ANEW == packets.MADE_ANEW)
    request = Request(packets.OPEN, bytes(packet) if changes_nothing else b"", file, path)
    if flags & packets.TO_MAKE:
        request.asked_then = (parent(path),)
    return request


def _of_name(kind: int, packet: memoryview) -> Request:
    request = Request(kind, path=packets.text(packet, 9)[0])
    if kind == packets.SETSTAT:
        request.asked_then = (request.path,)
    elif kind == packets.MKDIR:
        request.asked_then = (request.path, parent(request.path))
    else:
        request.asked_then = (parent(request.path),)
    return request


def _extended(packet: memoryview) -> Request:
    name, end = packets.text(packet, 9)
    if name == RENAME:
        return _rename(packet, end)
    if name == LINK:
        return _link(packets.EXTENDED, packet, end)
    request = Request(packets.EXTENDED, bytes(packet) if name == STATVFS else b"")
    request.extension = name
    return request


def _rename(packet: memoryview, position: int) -> Request:
    old, end = packets.text(packet, position)
    request = Request(packets.RENAME, path=old, new=packets.text(packet, end)[0])
    request.asked_then = tuple(dict.fromkeys((parent(old), parent(request.new))))
    return request


def _link(kind: int, packet: memoryview, position: int) -> Request:
    """Return a request for a link, whose path comes last: so OpenSSH has it for a symbolic one as well."""
    _, end = packets.text(packet, position)
    link = packets.text(packet, end)[0]
    request = Request(kind)
    request.asked_then = (link, parent(link))
    return request


def parent(path: bytes) -> bytes:
    """Return the directory of a path as sshfs writes it: that of the login is a dot."""
    directory, slash, _ = path.rpartition(b"/")
    return directory or slash or b"."
