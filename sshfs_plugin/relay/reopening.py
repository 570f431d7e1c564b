# SPDX-License-Identifier: MIT
"""What the server is asked once it is back, before sshfs may go on.

Each function yields requests without length and id, and is sent type and packet of each reply.
"""

from sshfs_plugin.relay import packets
from sshfs_plugin.relay.files import File

TYPE_CHECKING = False  # for mypy; the module "typing" is too large for the relay
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import TypeAlias

    Conversation: TypeAlias = Generator[bytes, tuple[int, bytes], None]


def reopen(file: File) -> "Conversation":
    """Open a file again, and give it the new handle if it is still the same file."""
    file.handle = b""
    path = file.path or b""
    kind, reply = yield _request(packets.OPEN, packets.string(path), packets.TO_READ.to_bytes(4, "big"), bytes(4))
    if kind != packets.HANDLE:
        return
    handle, _ = packets.text(reply, 9)
    kind, reply = yield _request(packets.FSTAT, packets.string(handle))
    look = packets.size_and_time(reply) if kind == packets.ATTRS else None
    same = file.is_same(look)
    if not same and file.may_have_grown(look):
        start, length = file.end - len(file.tail), len(file.tail)
        where = start.to_bytes(8, "big") + length.to_bytes(4, "big")
        kind, reply = yield _request(packets.READ, packets.string(handle), where)
        same = kind == packets.DATA and packets.text(reply, 9)[0] == file.tail
    if same:
        file.handle, file.look = handle, look
    else:
        yield _request(packets.CLOSE, packets.string(handle))


def _request(kind: int, *parts: bytes) -> bytes:
    return bytes((kind,)) + b"".join(parts)
