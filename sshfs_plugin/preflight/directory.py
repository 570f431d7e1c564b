# SPDX-License-Identifier: MIT
"""The check that the remote directory is readable; it is made first if ``create_directory`` asks for that."""

import re
import stat
from pathlib import PurePosixPath

from sshfs_plugin import errors
from sshfs_plugin.options.table import can_begin
from sshfs_plugin.preflight.sftp import Client
from sshfs_plugin.preflight.ssh import FAILURES, paramiko, reason
from sshfs_plugin.volume import Remote

_MAKE = "make it first, or say -o create_directory for a new volume"
_BY_HAND = "try sftp to that server by hand"
_MADE_ONCE = (
    "a new volume makes it (create_directory); of a volume that you have already, the directory or its disk is gone"
)


def make_directory(sftp: paramiko.SFTPClient, remote: Remote) -> None:
    """Make a remote directory, and the directories above it that are missing.

    Raises:
        DirectoryUnusable: The server refuses to make one of them.
    """
    missing = []
    path = PurePosixPath(remote.directory)
    while str(path) not in ("", ".", "/") and _is_missing(sftp, str(path)):
        missing.append(path)
        path = path.parent
    for path in reversed(missing):
        try:
            sftp.mkdir(str(path))
        except FAILURES as error:
            if not _is_there(sftp, str(path)):  # else somebody else has made it meanwhile
                raise _unmakable(path, remote, error, is_cut=sftp.get_channel().closed) from error


def _unmakable(path: PurePosixPath, remote: Remote, error: Exception, *, is_cut: bool) -> errors.DirectoryUnusable:
    subject = f"cannot make the directory {path} on {remote.host} for {remote.user}"
    if isinstance(error, PermissionError):
        return errors.DirectoryUnusable(
            f"{subject}, permission denied", "give it the right to write in the directory above, or make it by hand"
        )
    in_the_way = "something that is no directory may be in the way, such as a file or a link that leads nowhere"
    return errors.DirectoryUnusable(f"{subject} ({reason(error)})", _BY_HAND if is_cut else in_the_way)


def _is_missing(sftp: paramiko.SFTPClient, path: str) -> bool:
    """Tell whether the server says so; of any other refusal the look at the directory tells."""
    try:
        sftp.stat(path)
    except FileNotFoundError:
        return True
    except FAILURES:
        pass
    return False


def _is_there(sftp: paramiko.SFTPClient, path: str) -> bool:
    try:
        sftp.stat(path)
    except FAILURES:
        return False
    return True


def look_at_directory(sftp: Client, remote: Remote, *, was_made: bool = False) -> str:
    """Check that the remote directory can be listed, and return its mode and owner in words.

    Args:
        sftp: The open connection.
        remote: The directory.
        was_made: Whether ``create_directory`` has made it, now or when the volume was created.

    Raises:
        DirectoryMissing: It is missing.
        DirectoryUnusable: It is not a directory, or can't be listed.
    """
    path, subject = remote.directory or ".", f"the directory {remote.directory or '(login directory)'}"
    where = f"on {remote.host}"
    try:
        found = sftp.look_into(path)
        mode = found.st_mode or 0
        if not stat.S_ISDIR(mode):
            raise errors.DirectoryUnusable(
                f"{remote.directory} {where} is not a directory", "a volume is a whole directory"
            )
        owners = f", owner {found.st_uid}, group {found.st_gid}" if found.st_uid is not None else ""  # rclone: none
        return f"{stat.filemode(mode)}{owners}"
    except FileNotFoundError:
        raise errors.DirectoryMissing(
            f"{subject} does not exist {where} for {remote.user}",
            _MADE_ONCE if was_made else _missing_hint(sftp, remote),
        ) from None
    except PermissionError:
        raise errors.DirectoryUnusable(
            f"{subject} {where} is not readable for {remote.user}",
            "give it the right to read and enter the directory and those above it, or log in as its owner",
        ) from None
    except FAILURES as error:
        raise errors.DirectoryUnusable(
            f"{subject} {where} can't be listed ({reason(error)})",
            _BY_HAND,
        ) from error


def _missing_hint(sftp: paramiko.SFTPClient, remote: Remote) -> str:
    """Return a hint on where the directory may be: a login that is locked into a directory sees shorter paths."""
    parts = PurePosixPath(remote.directory).parts
    if remote.directory.startswith("/"):
        for start in range(2, len(parts)):
            shorter = "/" + "/".join(parts[start:])
            if _is_directory(sftp, shorter):
                return f"{shorter} exists, and if this login is locked into a directory of the server, that may be it"
    if remote.directory != remote.directory.strip():
        return "it begins or ends with a blank, leave that out of sshcmd"
    if (option := re.search(r",\s*(\w+(=.*)?)$", remote.directory)) and can_begin(option[1]):
        return f"a comma is part of the directory; if an option was meant, say -o {option[1]} by itself"
    if remote.directory.startswith("/"):
        return f"{_MAKE}; if it was there before, its disk may be missing"
    return f"{_MAKE}; relative paths start from {_login_directory(sftp)}"


def _is_directory(sftp: paramiko.SFTPClient, path: str) -> bool:
    try:
        return stat.S_ISDIR(sftp.stat(path).st_mode or 0)
    except FAILURES:
        return False


def _login_directory(sftp: paramiko.SFTPClient) -> str:
    try:
        return str(sftp.normalize("."))
    except FAILURES:
        return "the login directory"
