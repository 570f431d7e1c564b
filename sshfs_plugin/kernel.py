# SPDX-License-Identifier: MIT
"""What the kernel says and does about mounts; nothing here can be hung by a server.

Mounts are told apart by their device (``major:minor``), never by counting lines: a sandboxed service sees each of
them twice. ``os.path.ismount`` and ``stat`` are not used, since both can succeed on a dead mount (sshfs facts,
section 4).
"""

import contextlib
import ctypes
import errno
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sshfs_plugin import command

_libc = ctypes.CDLL(None, use_errno=True)

MNT_FORCE, MNT_DETACH, UMOUNT_NOFOLLOW = 1, 2, 8
FUSE_SUPER_MAGIC = "65735546"
SSHFS = "fuse.sshfs"

READ_AHEAD_KIB = 1024
"""Six times the throughput of the kernel's 128 at 20 ms of round-trip time, and twice on loopback (sshfs facts, 9)."""

_PROC = Path("/proc")
_BDI = Path("/sys/class/bdi")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A line of mountinfo.

    Attributes:
        mountpoint: Where it is.
        device: ``major:minor``.
        kind: The type of file system.
        number: The kernel's ID of this mount.
        parent: The ID of the mount that it is mounted on.
        root: Which directory of the file system is seen there.
        peers: The peer groups whose mounts and unmounts reach it, as ``shared:N`` and ``master:N`` name them.
    """

    mountpoint: Path
    device: str
    kind: str
    number: str
    parent: str
    root: Path
    peers: frozenset[str]


def _unescape(text: str) -> str:
    """Undo the octal escapes of mountinfo."""
    return (
        text.encode("utf-8", "surrogateescape")
        .decode("unicode_escape")
        .encode("latin-1")
        .decode("utf-8", "surrogateescape")
        if "\\" in text
        else text
    )


def _parse(mountinfo: str) -> Iterator[Mount]:
    # not splitlines(): the kernel escapes newlines in names, but not all that Python takes for one
    for line in mountinfo.split("\n")[:-1]:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        yield Mount(
            mountpoint=Path(_unescape(fields[4])),
            device=fields[2],
            kind=after.split(" ")[0],
            number=fields[0],
            parent=fields[1],
            root=Path(_unescape(fields[3])),
            peers=frozenset(
                field.partition(":")[2] for field in fields[6:] if field.startswith(("shared:", "master:"))
            ),
        )


def mounts(process: str = "self") -> tuple[Mount, ...]:
    """Return what is mounted in the mount namespace of a process, in the order of mounting."""
    text = (_PROC / process / "mountinfo").read_bytes().decode("utf-8", "surrogateescape")
    return tuple(_parse(text))


def mounted_at(mountpoint: Path) -> Mount | None:
    """Return the uppermost mount at a path, or None."""
    listed = mountpoint.parent.resolve() / mountpoint.name
    return next((mount for mount in reversed(mounts()) if mount.mountpoint == listed), None)


def sshfs_below(directory: Path) -> frozenset[str]:
    """Return the names of the direct children of a directory at which sshfs is mounted."""
    listed = directory.resolve()
    return frozenset(
        mount.mountpoint.name for mount in mounts() if mount.kind == SSHFS and mount.mountpoint.parent == listed
    )


def answers(mountpoint: Path, seconds: float) -> bool:
    """Tell whether a FUSE file system is mounted at a path and answers a statvfs, which is never cached."""
    return command.succeeds_within(["stat", "-f", "-c", "%t", mountpoint], seconds=seconds) == (FUSE_SUPER_MAGIC + "\n")


def used_elsewhere(mount: Mount) -> bool:
    """Tell whether a mount namespace other than ours would keep a mount of ours if we unmounted it.

    A copy of our tree, such as a sandboxed service has, lets go when we do: our unmount reaches it through the mount
    that it is mounted on. A container does not: Docker binds the volume into a tree of its own. (That the bind itself
    has a ``master:`` says nothing, it is about mounts *below* it.) Reading other processes' mountinfo takes
    CAP_SYS_PTRACE.
    """
    ours = {one.number: one for one in mounts()}
    place = _place(mount, ours)
    seen = {None, _namespace("self")}
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal() or (namespace := _namespace(entry.name)) in seen:
            continue
        try:
            theirs = {one.number: one for one in mounts(entry.name)}
        except OSError:
            continue  # it has ended; others may be in the same namespace
        seen.add(namespace)
        if any(one.device == mount.device and not _follows(_place(one, theirs), place) for one in theirs.values()):
            return True
    return False


def _place(mount: Mount, table: Mapping[str, Mount]) -> tuple[frozenset[str], str, Path]:
    """Return where a mount is mounted in terms that mean the same in every namespace.

    That is the peer groups of the mount below it, that one's file system, and the directory of that file system.
    """
    below = table.get(mount.parent)
    if below is None:
        return frozenset(), "", mount.mountpoint
    return below.peers, below.device, below.root / mount.mountpoint.relative_to(below.mountpoint)


def _follows(place: tuple[frozenset[str], str, Path], ours: tuple[frozenset[str], str, Path]) -> bool:
    return bool(place[0] & ours[0]) and place[1:] == ours[1:]


def _namespace(process: str) -> str | None:
    try:
        return str((_PROC / process / "ns/mnt").readlink())
    except OSError:
        return None


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


def detach_lazily(mountpoint: Path) -> None:
    """Take the mount out of this host's tree at once; it ends when its last user does."""
    _umount2(mountpoint, MNT_DETACH)


def detach_all(mountpoint: Path) -> None:
    """Detach whatever is stacked at a path; blocked callers get ECONNABORTED at once (sshfs facts, fact 9)."""
    while mounted_at(mountpoint):
        _umount2(mountpoint, MNT_FORCE | MNT_DETACH)


def set_read_ahead(device: str) -> None:
    """Let the kernel read ahead enough for a server that is some milliseconds away; where /sys is read-only, don't."""
    with contextlib.suppress(OSError):
        (_BDI / device / "read_ahead_kb").write_text(str(READ_AHEAD_KIB))


def set_immutable(directory: Path, *, immutable: bool) -> None:
    """Let nobody, not even root, put files into the directory under a mount, where the file system can do that.

    A lost mount then gives an error instead of taking files for the local disk (sshfs facts, fact 1).
    """
    command.run(["chattr", "+i" if immutable else "-i", directory], seconds=5)


def is_alive(process: int) -> bool:
    """Tell whether a process exists."""
    return (_PROC / str(process)).exists()


def await_end(process: int, seconds: float) -> bool:
    """Wait for a process that is not our child to end; tell whether it did."""
    return await_absence(_PROC / str(process), seconds)


def await_absence(path: Path, seconds: float) -> bool:
    """Wait until a path does not exist; tell whether that came to be."""
    limit = time.monotonic() + seconds
    while path.exists():
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True
