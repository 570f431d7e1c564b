# SPDX-License-Identifier: MIT
"""What the kernel does about mounts when told to; nothing here can be hung by a server."""

import ctypes
import errno
import os
import secrets
import time
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.host import command
from sshfs_plugin.mounts import mountinfo

_libc = ctypes.CDLL(None, use_errno=True)

MNT_FORCE, MNT_DETACH, UMOUNT_NOFOLLOW = 1, 2, 8

_ASK = ("sh", "-c", 'exec stat --printf= "$0/$NAME"')
"""Asks for a name in a directory. The name is no argument, since a question that hangs is not to be asked again."""

_SERVERS_WORDS = frozenset(
    os.strerror(number) for number in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EBADMSG, errno.EOPNOTSUPP)
)
"""What sshfs makes of an error that the server has sent (docs/facts.md)."""


def answers(mountpoint: Path, seconds: float) -> bool:
    """Tell whether an sshfs is mounted at a path whose server answers, be it with an error.

    It is asked for a name that is new, since neither the kernel nor sshfs remembers anything of such a one. A statvfs
    would not do: where the server does not know it, sshfs answers by itself (docs/facts.md).
    """
    mount = mountinfo.mounted_at(mountpoint)
    if mount is None or mount.kind != mountinfo.SSHFS:
        return False
    name = {"NAME": f".docker-volume-sshfs-{secrets.token_hex(8)}"}
    try:
        job = command.run([*_ASK, mountpoint], seconds=seconds, environment=name)
    except errors.ProgramStuck:
        return False
    if mountinfo.mounted_at(mountpoint) != mount:  # it was asked of the directory below
        return False
    return job.returncode == 0 or job.stderr.rpartition(": ")[2].strip() in _SERVERS_WORDS


def _umount2(mountpoint: Path, flags: int) -> None:
    if _libc.umount2(os.fsencode(mountpoint), flags | UMOUNT_NOFOLLOW):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(mountpoint))


def unmount(mountpoint: Path) -> bool:
    """Unmount what is at a path unless something on this host still uses it.

    The system call is made directly: umount(8) looks at the path first and so hangs with a stalled server.

    Returns:
        Whether it is gone; False means busy.
    """
    try:
        _umount2(mountpoint, 0)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise
    return True


def detach_all(mountpoint: Path) -> None:
    """Detach whatever is stacked at a path; blocked callers get ECONNABORTED at once (docs/facts.md)."""
    while mountinfo.mounted_at(mountpoint):
        _umount2(mountpoint, MNT_FORCE | MNT_DETACH)


def make_mutable(directory: Path) -> None:
    """Let a mountpoint be removed: it was made immutable, so that nothing is written to it when its mount is lost."""
    command.run(["chattr", "-i", directory], seconds=5)


def await_absence(path: Path, seconds: float) -> bool:
    """Wait until a path does not exist; tell whether that came to be."""
    limit = time.monotonic() + seconds
    while path.exists():
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True
