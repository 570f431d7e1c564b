# SPDX-License-Identifier: MIT
"""A program that reads files for the service, one after the other, until nobody has asked for a while.

It is run by its path and imports little, so that it is there after a hundredth of a second. In the middle of an upgrade
a service of the old version may start that of the new one: what they say to each other stays as it is.
"""

import errno
import os
import select
import stat
import struct
import sys

REQUEST = struct.Struct("!II")
"""How many bytes of the content are wanted, and how long the path is that follows."""

ANSWER = struct.Struct("!IIII")
"""The number of the error or 0, mode, owner, and how long the content is that follows."""

IDLE_SECONDS = 10


def main() -> None:
    """Answer requests, on stdin and stdout, until there are no more."""
    limit = None  # for the request that it was started for
    while select.select([0], [], [], limit)[0]:
        limit = IDLE_SECONDS
        request = os.read(0, REQUEST.size)
        if not request:
            return
        wanted, length = REQUEST.unpack(request + _read(0, REQUEST.size - len(request)))
        answer = _answer(_read(0, length), wanted)
        while answer:
            answer = answer[os.write(1, answer) :]


def _answer(path: bytes, wanted: int) -> bytes:
    try:
        about, content = os.stat(path), b""  # noqa: PTH116 (pathlib takes longer to import)
        if wanted and stat.S_ISREG(about.st_mode):
            # another file may be there by now: to open a pipe would take until somebody writes to it
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            try:
                content = _read(descriptor, wanted)
            finally:
                os.close(descriptor)
    except OSError as error:
        return ANSWER.pack(error.errno, 0, 0, 0)
    except ValueError:  # no path has a zero byte
        return ANSWER.pack(errno.EINVAL, 0, 0, 0)
    return ANSWER.pack(0, about.st_mode, about.st_uid, len(content)) + content


def _read(descriptor: int, length: int) -> bytes:
    """Read so many bytes, or up to the end."""
    parts = []
    while length > 0 and (part := os.read(descriptor, length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


if __name__ == "__main__":
    main()
    sys.exit()
