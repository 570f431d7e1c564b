# SPDX-License-Identifier: MIT
"""Whole packets from a descriptor, and packets to one, without waiting."""

import errno
import os

from sshfs_plugin.relay import packets
from sshfs_plugin.relay.packets import HEADER, LEAST_LENGTH, Malformed, TooLong

TYPE_CHECKING = False  # for mypy; the module "typing" is too large for the relay
if TYPE_CHECKING:
    from collections.abc import Callable

ROOM = 64 * 1024
MOST_PIECES = 64

NOTHING = b""
"""In place of a packet that is not to be passed on."""

_LATER = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)
"""The errors after which the same can be done later."""


class Closed(Exception):
    """The other end has closed the connection."""


class Inbox:
    """What was read from a descriptor and not yet passed on.

    Attributes:
        buffer: It begins at ``start``, and ends at ``end``.
        view: The same, to take parts of without copying.
    """

    def __init__(self, longest: int, longest_names: int = 0) -> None:
        """Take packets of so many bytes at most, after the length itself; the second is for names if it is more."""
        self._longest, self._longest_names = longest, max(longest, longest_names)
        self._make(longest + 4 + ROOM)
        self.start = self.end = 0

    def _make(self, size: int) -> None:
        self.buffer = bytearray(size)
        self.view = memoryview(self.buffer)

    @property
    def is_long(self) -> bool:
        """Whether more of a packet is there than any but one of names has."""
        return self.end - self.start > self._longest + 4

    def clear(self) -> None:
        """Drop what is there."""
        self.start = self.end = 0

    def fill(self, descriptor: int) -> bool:
        """Read once; return False at the end of the stream."""
        left, size = self.end - self.start, self._longest + 4 + ROOM
        if left >= HEADER.size:  # names may be longer; their length was looked at before
            size = max(size, 4 + HEADER.unpack_from(self.buffer, self.start)[0] + ROOM)
        if size != len(self.buffer):
            before = self.view[self.start : self.end]
            self._make(size)
            self.buffer[:left] = before
            self.start, self.end = 0, left
        elif not left:
            self.start = self.end = 0
        elif len(self.buffer) - self.end < ROOM:
            self.buffer[:left] = self.buffer[self.start : self.end]
            self.start, self.end = 0, left
        try:
            count = os.readv(descriptor, [self.view[self.end :]])
        except OSError as error:
            return error.errno in _LATER
        self.end += count
        return count > 0

    def pass_on(
        self, pieces: "list[memoryview | bytes]", judge: "Callable[[int, int, memoryview], bytes | None]"
    ) -> None:
        """Take all packets that are there, and add what is to be passed on.

        Args:
            pieces: Where to add it; packets that follow one another there are one piece.
            judge: It is given type, request id and packet of each, and returns None to have the packet itself passed
                on, other bytes for these in its place, NOTHING for none. Up to one for which it raises an error all is
                added.

        Raises:
            Malformed: A packet is longer or shorter than any.
            TooLong: It has more names than there is room for, as a server may send of a large directory.
        """
        passed = start = self.start
        try:
            while self.end - start >= HEADER.size:
                length, kind, identity = HEADER.unpack_from(self.buffer, start)
                is_name = kind == packets.NAME
                if is_name and self._longest_names < length < packets.LONGEST_LISTING:
                    raise TooLong(f"{length} bytes of names at once, of which there is room for {self._longest_names}")
                if not LEAST_LENGTH <= length <= (self._longest_names if is_name else self._longest):
                    raise Malformed(f"a packet of {length} bytes")
                end = start + 4 + length
                if end > self.end:  # it is not whole
                    break
                instead = judge(kind, identity, self.view[start:end])
                if instead is not None:
                    if start > passed:
                        pieces.append(self.view[passed:start])
                    if instead:
                        pieces.append(instead)
                    passed = end
                start = end
        finally:
            if start > passed:
                pieces.append(self.view[passed:start])
            self.start = start


class Outbox:
    """What is still to be written to a descriptor.

    Attributes:
        pieces: What is to be written, in order; a view's buffer must stay as it is until it was written.
    """

    def __init__(self) -> None:
        self.pieces: list[memoryview | bytes] = []

    def flush(self, descriptor: int) -> None:
        """Write as much as the descriptor takes at once. Raises Closed."""
        pieces = self.pieces
        while pieces:
            try:
                count = os.writev(descriptor, pieces[:MOST_PIECES])
            except OSError as error:
                if error.errno in _LATER:
                    return
                raise Closed from error
            written = 0
            while written < len(pieces) and count >= len(pieces[written]):
                count -= len(pieces[written])
                written += 1
            del pieces[:written]
            if count:
                pieces[0] = memoryview(pieces[0])[count:]
