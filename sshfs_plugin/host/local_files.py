# SPDX-License-Identifier: MIT
"""Reads the files that options name, which may be on a file system that never answers (NFS, autofs, FUSE).

They are read by child processes (``readers.py``). A child that hangs can be left behind; a thread that hangs would keep
this process from ending.
"""

import errno
import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.host.readers import Readers

ANSWER_SECONDS = 5.0

LARGEST = 1 << 20
"""Bytes of a file that are read at most."""

MOVE_IT = "move it elsewhere"
"""What to do about a path that is unseen."""

_readers = Readers()


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


def expanded(path: str, home: Path) -> Path:
    """Return the path that an option means: ``~/`` stands for the home directory of root."""
    return home / path.removeprefix("~/") if path.startswith("~/") else Path(path)


def unseen(path: Path) -> str:
    """Return why the service can't see a path, as the end of a sentence about it; empty if nothing hides it.

    The unit of the service has ``PrivateTmp=``.
    """
    hidden = (top for top in ("/tmp", "/var/tmp") if path.is_relative_to(top))  # noqa: S108 (to warn of it)
    return "".join(f"is below {top}, where the service can't see it" for top in hidden)


def absence(path: Path, hint: str) -> tuple[str, str]:
    """Return why nothing is at a path, as the end of a sentence about it, and what to do about that.

    Args:
        path: The path.
        hint: What to do unless the service can't see what is there.
    """
    if why := unseen(path):
        return f"does not exist, or {why}", MOVE_IT
    return "does not exist", hint


class NotPrivate(Exception):
    """A file can't be used as one that is for root alone.

    Attributes:
        complaint: What is wrong with it, as the end of a sentence about it.
        cure: The command that mends it; empty if there is none.
    """

    def __init__(self, complaint: str, cure: str = "") -> None:
        super().__init__(complaint)
        self.complaint, self.cure = complaint, cure


def why_absent(path: Path) -> str:
    """Return why nothing can be seen at a path, in the words of the C library; empty if something is there.

    Raises:
        FileStuck: Its file system does not answer.
    """
    try:
        look(path)
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
        return stat.S_ISREG(look(path).mode)
    except OSError:
        return False


def read(path: Path) -> File:
    """Read a file, up to 1 MiB. Pipes and devices are refused: to read them may take for ever.

    Raises:
        OSError: It can't be read or is no regular file.
        FileStuck: Its file system does not answer.
    """
    file = look(path, LARGEST)
    if not stat.S_ISREG(file.mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    return file


def read_private(path: Path) -> bytes:
    """Return the content of a file that only root may have written, and only root can read.

    Raises:
        FileNotFoundError: It does not exist.
        NotPrivate: It can't be read, or others than root can read or change it.
    """
    try:
        file = read(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NotPrivate(f"can't be read ({error.strerror})") from None
    except errors.FileStuck:
        raise NotPrivate("can't be read, its file system does not answer") from None
    if file.owner not in (0, os.getuid()):
        raise NotPrivate("belongs to a user other than root", f"chown root {shlex.quote(str(path))}")
    if file.mode & 0o077:
        raise NotPrivate("is open to users other than root", f"chmod 600 {shlex.quote(str(path))}")
    return file.content


def look(path: Path, wanted: int = 0) -> File:
    """Return what is at a path, with so many bytes of its content if it is a regular file.

    Raises:
        OSError: Nothing can be seen there.
        FileStuck: Its file system does not answer.
    """
    try:
        error, mode, owner, content = _readers.ask(path, wanted, ANSWER_SECONDS)
    except TimeoutError:
        raise errors.FileStuck(str(path), ANSWER_SECONDS) from None
    if error:
        raise OSError(error, os.strerror(error), str(path))
    return File(mode=mode, owner=owner, content=content)
