# SPDX-License-Identifier: MIT
"""What the relay asks the server by itself.

Each function yields requests without length and id, and is sent type and packet of each reply.
"""

from sshfs_plugin.relay import packets
from sshfs_plugin.relay.files import File, OpenFiles

TYPE_CHECKING = False  # for mypy; the module "typing" is too large for the relay
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from typing import TypeAlias

    Conversation: TypeAlias = Generator[bytes, tuple[int, bytes], None]


def stamp(file: File) -> "Conversation":
    """Ask for the stamp of an open file, since its path may show another, for as long as it is wanted."""
    while file.stamps_wanted and not file.closed:
        wanted, changes = file.stamps_wanted, file.changes
        kind, reply = yield _request(packets.FSTAT, packets.string(file.server_handle))
        if kind == packets.ATTRS:
            file.note_stamp(packets.size_and_time(reply), changes)
        file.stamps_wanted -= wanted


def reopen(file: File, files: OpenFiles) -> "Conversation":
    """Open a file again, and note whether it is another. If the server can't open it, it may be able to later.

    Raises:
        Malformed: The server says what it can't mean.
    """
    file.reopens = True
    try:
        yield from _reopen(file, files)
    finally:  # also when the connection is lost meanwhile
        file.reopens = False


def _reopen(file: File, files: OpenFiles) -> "Conversation":
    differs = False
    for path in filter(None, (file.path, file.other_path)):
        kind, reply = yield _request(packets.OPEN, packets.string(path), packets.TO_READ.to_bytes(4, "big"), bytes(4))
        if kind != packets.HANDLE:
            continue
        handle = packets.handle(reply)
        files.note_given(handle, path)
        changes = file.changes
        kind, reply = yield _request(packets.FSTAT, packets.string(handle))
        if kind == packets.ATTRS:
            found = packets.size_and_time(reply)
            same = file.is_same(found)
            if not same and file.may_be_same(found):
                same = yield from _has(handle, file.known_parts)
            if same and not file.closed:
                file.server_handle, file.hangs, file.wait_told = handle, False, False
                file.note_stamp(found, changes)
                files.note_found(file, path)
                return
            differs = differs or not same
            file.may_differ = not packets.number(reply, 9) & packets.HAS_TIMES
        files.note_closed(handle)
        yield _request(packets.CLOSE, packets.string(handle))
    file.differs = differs


def _has(handle: bytes, parts: "Iterable[tuple[int, bytes]]") -> "Generator[bytes, tuple[int, bytes], bool]":
    """Ask whether an open file has these bytes at these positions."""
    for position, content in parts:
        where = position.to_bytes(8, "big") + len(content).to_bytes(4, "big")
        kind, reply = yield _request(packets.READ, packets.string(handle), where)
        if kind != packets.DATA or packets.text(reply, 9)[0] != content:
            return False
    return True


def _request(kind: int, *parts: bytes) -> bytes:
    return bytes((kind,)) + b"".join(parts)
