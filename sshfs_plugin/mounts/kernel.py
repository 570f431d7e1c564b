# SPDX-License-Identifier: MIT
"""System calls on mounts, and whether a mount answers; a server that hangs can't make anything here hang."""

import ctypes
import errno
import os
import time
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.host import command
from sshfs_plugin.mounts import mountinfo

_libc = ctypes.CDLL(None, use_errno=True)

MNT_FORCE, MNT_DETACH, UMOUNT_NOFOLLOW = 1, 2, 8

_LOOK_UP = ("sh", "-c", 'exec stat --printf= "$0/$NAME"')
"""Looks a name up in a directory. The name is in the environment, so that the arguments are always the same: then
``command.run`` starts no second program while one hangs.
"""

_SERVER_ERRORS = frozenset(
    os.strerror(number) for number in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EBADMSG, errno.EOPNOTSUPP)
)
"""The messages of the errors that sshfs returns where the server has sent an error (docs/facts.md)."""

FUSE_CONNECTIONS = Path("/sys/fs/fuse/connections")


def is_mounted_nowhere(device: str) -> bool:
    """Tell whether a FUSE file system is mounted in no mount namespace any more, be its program alive or dead.

    As long as it is, fusectl has a directory of its minor number (docs/facts.md). Where fusectl is not mounted, as in
    most containers, or the device is unknown, nobody can tell: then this is False.

    Args:
        device: ``major:minor``; empty if it is not known.
    """
    control = mountinfo.mounted_at(FUSE_CONNECTIONS)
    minor = device.partition(":")[2]
    return bool(minor and control and control.kind == "fusectl" and not (FUSE_CONNECTIONS / minor).exists())


def answers(mountpoint: Path, seconds: float) -> bool:
    """Tell whether an sshfs is mounted at a path and its server answers, be it with an error.

    A random name is looked up there, which neither the kernel nor sshfs can have cached. A statvfs would not do: where
    the server does not support it, sshfs answers by itself (docs/facts.md).
    """
    mount = mountinfo.mounted_at(mountpoint)
    if mount is None or mount.kind != mountinfo.SSHFS:
        return False
    # not the module "secrets": it loads what hashes, and each Unmount waits for the start of a release
    name = {"NAME": f".docker-volume-sshfs-{os.urandom(8).hex()}"}
    try:
        job = command.run([*_LOOK_UP, mountpoint], seconds=seconds, environment=name)
    except errors.ProgramStuck:
        return False
    if mountinfo.mounted_at(mountpoint) != mount:  # the name was looked up in the directory below the mount
        return False
    return job.returncode == 0 or job.stderr.rpartition(": ")[2].strip() in _SERVER_ERRORS


def _umount2(mountpoint: Path, flags: int) -> None:
    if _libc.umount2(os.fsencode(mountpoint), flags | UMOUNT_NOFOLLOW):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(mountpoint))


def unmount(mountpoint: Path) -> bool:
    """Unmount what is at a path unless something on this host still uses it.

    The system call is made directly: umount(8) looks at the path first and so hangs with a stalled server.

    Returns:
        Whether nothing is mounted there any more; False means that it is in use.
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
    """Detach all mounts at a path; calls that wait for the server fail with ECONNABORTED at once (docs/facts.md)."""
    while mountinfo.mounted_at(mountpoint):
        _umount2(mountpoint, MNT_FORCE | MNT_DETACH)


def make_mutable(directory: Path) -> None:
    """Make a mountpoint removable again; it is immutable so that nothing is written to it when its mount is lost."""
    command.run(["chattr", "-i", directory], seconds=5)


def await_absence(path: Path, seconds: float) -> bool:
    """Wait until a path does not exist; return whether that is so in time."""
    limit = time.monotonic() + seconds
    while path.exists():
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True
