# SPDX-License-Identifier: MIT
"""Reads the files that options name, which may be on a file system that never answers (NFS, autofs, FUSE).

They are read by child processes. A child that hangs can be left behind; a thread that hangs would keep this process
from ending.
"""

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.host import command

ANSWER_SECONDS = 5.0

LARGEST = 1 << 20
"""Bytes of a file that are read at most."""

_NUMBERS = {os.strerror(number): number for number in errno.errorcode}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A small file.

    Attributes:
        mode: Its type and permissions, as ``st_mode`` has them.
        owner: The number of the user to whom it belongs.
        content: What is in it.
    """

    mode: int
    owner: int
    content: bytes


def _stat(path: Path) -> tuple[int, int]:
    """Return mode and owner of what is at a path. Raises OSError or FileStuck."""
    mode, owner = _ask(path, ["stat", "--dereference", "--format=%f %u", "--", path]).split()
    return int(mode, 16), int(owner)


def why_absent(path: Path) -> str:
    """Return why nothing can be seen at a path, in the words of the C library; empty if something is there.

    Raises:
        FileStuck: Its file system does not answer.
    """
    try:
        _stat(path)
    except OSError as error:
        return f"{error.strerror}"
    return ""


def exists(path: Path) -> bool:
    """Tell whether something can be seen at a path; in a directory that may not be searched, nothing can.

    Raises:
        FileStuck: Its file system does not answer.
    """
    return not why_absent(path)


def is_file(path: Path) -> bool:
    """Tell whether a regular file is at a path.

    Raises:
        FileStuck: Its file system does not answer.
    """
    try:
        return stat.S_ISREG(_stat(path)[0])
    except OSError:
        return False


def read(path: Path) -> File:
    """Read a file, up to 1 MiB. Pipes and devices are refused: to read them may take for ever.

    Raises:
        OSError: It can't be read or is no regular file.
        FileStuck: Its file system does not answer.
    """
    mode, owner = _stat(path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    return File(mode=mode, owner=owner, content=_ask(path, ["head", f"--bytes={LARGEST}", "--", path]))


def _ask(path: Path, argv: Sequence[str | Path]) -> bytes:
    try:
        job = command.run_for_bytes(argv, seconds=ANSWER_SECONDS)
    except errors.ProgramStuck:
        raise errors.FileStuck(str(path), ANSWER_SECONDS) from None
    if job.returncode:
        reason = job.stderr.decode(errors="replace").rstrip().rpartition(": ")[2]
        raise OSError(_NUMBERS.get(reason, errno.EIO), reason or "it was not read to its end", str(path))
    return job.stdout
