# SPDX-License-Identifier: MIT
"""The check of writing, made only on request: a file is made in the directory and removed again."""

import posixpath
import secrets

from sshfs_plugin import errors
from sshfs_plugin.preflight.ssh import FAILURES, paramiko, reason
from sshfs_plugin.volume import Remote


def try_writing(sftp: paramiko.SFTPClient, remote: Remote) -> str:
    """Make a file of a random name, write to it and remove it; return its name.

    Raises:
        DirectoryNotWritable: One of these is refused. A file that was made is removed if the server allows it.
    """
    name = f".docker-volume-sshfs-{secrets.token_hex(8)}"
    path = posixpath.join(remote.directory, name)
    where = f"{remote.directory or 'the login directory'} on {remote.host}"
    try:
        file = sftp.open(path, "wbx")
    except PermissionError:
        raise errors.DirectoryNotWritable(
            f"{remote.user} may not write to {where}",
            f"give {remote.user} the right to write there, log in as its owner, or make a read-only volume with -o ro",
        ) from None
    except FAILURES as error:
        raise _unwritable(where, error) from error
    try:
        with file:
            file.write(b"docker-volume-sshfs check --write\n")
    except FAILURES as error:
        raise _unwritable(where, error) from error
    finally:  # after Ctrl-C, too
        refusal = _remove(sftp, path)
    if refusal:
        raise errors.DirectoryNotWritable(
            f"{remote.user} may make files in {where} but not remove them ({reason(refusal)})",
            f"remove {name} there by hand",
        ) from refusal
    return name


def _remove(sftp: paramiko.SFTPClient, path: str) -> Exception | None:
    try:
        sftp.remove(path)
    except FAILURES as error:
        refusal: Exception = error
        return refusal
    return None


def _unwritable(where: str, error: Exception) -> errors.DirectoryNotWritable:
    return errors.DirectoryNotWritable(
        f"cannot write to {where} ({reason(error)})",
        "is the file system there full, over its quota or read-only?",
    )
