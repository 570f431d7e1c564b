# SPDX-License-Identifier: MIT
"""SFTP's packets, as far as the relay looks at them (draft-ietf-secsh-filexfer-02, version 3 of the protocol)."""

from struct import Struct, error, unpack_from

INIT, VERSION = 1, 2
OPEN, CLOSE, READ, WRITE = 3, 4, 5, 6
LSTAT, FSTAT, SETSTAT, FSETSTAT = 7, 8, 9, 10
OPENDIR, READDIR = 11, 12
REMOVE, MKDIR, RMDIR = 13, 14, 15
REALPATH, STAT, RENAME, READLINK, SYMLINK = 16, 17, 18, 19, 20
STATUS, HANDLE, DATA, NAME, ATTRS = 101, 102, 103, 104, 105
EXTENDED, EXTENDED_REPLY = 200, 201

OK, END_OF_FILE, FAILURE = 0, 1, 4
EXISTS = 11
"""A later version of the protocol has it, and some servers send it in ours as well."""
UNAVAILABLE = 100
"""A status that no server sends: sshfs returns EIO for those that it does not know (FAILURE would be EPERM)."""

TO_READ = 1
"""The only flag of an OPEN that changes nothing."""

TO_MAKE, MADE_ANEW = 8, 8 + 32
"""The flags of an OPEN that makes a file that is not there, and of one that fails if it is."""

OF_OPENSSH = b"users-groups-by-id@openssh.com"
"""An extension that hardly any server but OpenSSH's announces. That takes a request before it has told its version, and
carries out one request after the other.
"""

HEADER = Struct(">IBI")
"""Length of what follows, type, request id; INIT and VERSION have the version in its place."""

IDS = 2**32
"""How many ids there are; sshfs counts its requests, and begins anew after the last."""

FIRST_OWN_ID = IDS - 1
"""The id of the request that is sent before those of sshfs are seen."""

LEAST_LENGTH = 5
LONGEST_REQUEST = 256 * 1024
LONGEST_REPLY = 128 * 1024
"""sshfs ends the connection at a longer one (MAX_REPLY_LEN in its source)."""

LONGEST_NAMES = 16 * 1024 * 1024
"""Bytes of names that a server may send at once, some hundred thousand of them, and that are kept to be cut up: few
servers send more than 128 KiB, and their directories would else be too large for sshfs.
"""

LONGEST_LISTING = 512 * 1024 * 1024
"""Bytes that a server may send of one open directory, some four million names: sshfs keeps them until the last."""

LONGEST_HANDLE = 256
"""The protocol's own limit."""

HAS_SIZE, HAS_OWNER, HAS_MODE, HAS_TIMES, HAS_MORE = 1, 2, 4, 8, 0x80000000
NO_TIME = -1
"""In place of a time that the server does not tell."""

TYPE_OF_FILE, REGULAR = 0o170000, 0o100000


class Malformed(Exception):
    """A packet that is not what the protocol says; what sent it can't be understood any further."""


class TooLong(Exception):
    """A packet that the protocol allows and that there is no room for."""


def number(packet: bytes | memoryview, position: int, form: str = ">I") -> int:
    """Return the number at a position of a packet. Raises Malformed."""
    try:
        return int(unpack_from(form, packet, position)[0])
    except error:
        raise Malformed("a packet that ends too early") from None


def text(packet: bytes | memoryview, position: int) -> tuple[bytes, int]:
    """Return the string at a position of a packet, and the position after it. Raises Malformed."""
    start = position + 4
    end = start + number(packet, position)
    if end > len(packet):
        raise Malformed("a packet that ends too early")
    return bytes(packet[start:end]), end


def handle(reply: bytes | memoryview) -> bytes:
    """Return the handle in a HANDLE reply. Raises Malformed."""
    value, _ = text(reply, 9)
    if not 0 < len(value) <= LONGEST_HANDLE:
        raise Malformed(f"a handle of {len(value)} bytes")
    return value


def string(value: bytes) -> bytes:
    """Return a string as packets hold it."""
    return len(value).to_bytes(4, "big") + value


def build(kind: int, identity: int, *parts: bytes) -> bytes:
    """Return a packet."""
    body = b"".join(parts)
    return HEADER.pack(5 + len(body), kind, identity) + body


def status(identity: int, code: int) -> bytes:
    """Return a STATUS reply without a message."""
    return build(STATUS, identity, code.to_bytes(4, "big"), bytes(8))


def with_string(packet: bytes | memoryview, position: int, value: bytes) -> bytes:
    """Return a packet with another string in place of the one at a position, such as a handle. Raises Malformed."""
    _, end = text(packet, position)
    _, kind, identity = HEADER.unpack_from(packet)
    return build(kind, identity, packet[9:position], string(value), packet[end:])


def size_and_time(attributes: bytes | memoryview) -> tuple[int, int] | None:
    """Return size and time of last modification of a regular file from an ATTRS reply; None if it has no size.

    As sshfs does, it takes what has no mode for such a file. The time may be NO_TIME.

    Raises:
        Malformed: It ends too early.
    """
    flags, size, mode, modified = number(attributes, 9), -1, REGULAR, NO_TIME
    position = 13
    if flags & HAS_SIZE:
        size, position = number(attributes, position, ">Q"), position + 8
    if flags & HAS_OWNER:
        position += 8
    if flags & HAS_MODE:
        mode, position = number(attributes, position), position + 4
    if flags & HAS_TIMES:
        modified = number(attributes, position + 4)
    if size < 0 or mode & TYPE_OF_FILE != REGULAR:
        return None
    return size, modified


def cut_names(reply: bytes | memoryview) -> list[bytes]:
    """Return what is in a NAME reply that is too long for sshfs, as the contents of several. Raises Malformed."""
    parts, room = [], LONGEST_REPLY - 9
    count, start, position = 0, 13, 13
    for _ in range(number(reply, 9)):
        end = _end_of_name(reply, position)
        if end - start > room:
            parts.append(count.to_bytes(4, "big") + bytes(reply[start:position]))
            count, start = 0, position
        if end - start > room:
            raise Malformed(f"a name of {end - start} bytes")
        count, position = count + 1, end
    parts.append(count.to_bytes(4, "big") + bytes(reply[start:position]))
    return parts


def _end_of_name(reply: bytes | memoryview, position: int) -> int:
    """Return the position after a file's name, the line that shows it, and its attributes. Raises Malformed."""
    for _ in range(2):
        position += 4 + number(reply, position)
    flags = number(reply, position)
    position += 4
    for flag, length in ((HAS_SIZE, 8), (HAS_OWNER, 8), (HAS_MODE, 4), (HAS_TIMES, 8)):
        if flags & flag:
            position += length
    if flags & HAS_MORE:
        count, position = number(reply, position), position + 4
        for _ in range(2 * count):
            position += 4 + number(reply, position)
    if position > len(reply):
        raise Malformed("a packet that ends too early")
    return position
