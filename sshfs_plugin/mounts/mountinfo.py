# SPDX-License-Identifier: MIT
"""The kernel's tables of mounts: what is mounted where, here and in other mount namespaces.

Mounts are told apart by their device (``major:minor``), never by counting lines: a sandboxed service sees each of
them twice. ``os.path.ismount`` and ``stat`` are not used, since both can succeed on a dead mount (docs/facts.md).
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SSHFS = "fuse.sshfs"

_PROC = Path("/proc")
_ESCAPED = re.compile(r"[ \t\n\\#]")
"""What the kernel escapes in the names of directories."""


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


def _lines(process: str, kind: str, having: str = "") -> Iterator[tuple[list[str], str]]:
    """Yield the fields of each line up to the separator, and the type of file system.

    Args:
        process: As :func:`mounts` takes it.
        kind: As well.
        having: What a line must contain somewhere.
    """
    mountinfo = (_PROC / process / "mountinfo").read_bytes().decode("utf-8", "surrogateescape")
    # not splitlines(): it also splits at characters that the kernel does not escape in names
    for line in mountinfo.split("\n")[:-1]:
        if having not in line:
            continue
        before, _, after = line.partition(" - ")
        if not kind or after.startswith(f"{kind} "):
            yield before.split(" "), after.partition(" ")[0]


def mounts(process: str = "self", *, kind: str = "", having: str = "") -> tuple[Mount, ...]:
    """Return what is mounted in the mount namespace of a process, in the order of mounting.

    Args:
        process: Its directory below /proc: its number, ``self``, or ``N/task/M`` for a thread.
        kind: The only type of file system that is wanted; empty for all.
        having: What the line of a mount must contain somewhere; of thousands, few need to be taken apart then.

    Raises:
        OSError: The process has ended, or may not be looked at.
    """
    return tuple(
        Mount(
            mountpoint=Path(_unescape(fields[4])),
            device=fields[2],
            kind=found,
            number=fields[0],
            parent=fields[1],
            root=Path(_unescape(fields[3])),
            peers=frozenset(
                field.partition(":")[2] for field in fields[6:] if field.startswith(("shared:", "master:"))
            ),
        )
        for fields, found in _lines(process, kind, having)
    )


def mounted_at(mountpoint: Path) -> Mount | None:
    """Return the uppermost mount at a path, or None."""
    listed = mountpoint.parent.resolve() / mountpoint.name
    having = "" if _ESCAPED.search(listed.name) else f"/{listed.name} "
    return next((mount for mount in reversed(mounts(having=having)) if mount.mountpoint == listed), None)


def sshfs_below(directory: Path) -> dict[str, str]:
    """Return the names of the direct children of a directory at which sshfs is mounted, with the device of each."""
    # without a Mount of each: every call needs this, and of 1,000 volumes it would take 9 ms in place of 1
    found = ((*_unescape(fields[4]).rpartition("/"), fields[2]) for fields, _ in _lines("self", SSHFS))
    listed = str(directory.resolve())
    return {name: device for parent, _, name, device in found if parent == listed}


def used_elsewhere(ours: Collection[Mount]) -> frozenset[Mount]:
    """Return those of our mounts that would stay mounted elsewhere, in a container or at a bind, if we unmounted them.

    A sandboxed service has a copy of our mount tree. Our unmount propagates to it, through the peer groups of the mount
    that the volume is mounted on. It does not propagate to a container: there Docker binds the volume into a tree of
    its own. (A ``master:`` of the bind itself says nothing: it is about mounts *below* it.) To read other processes'
    mountinfo takes CAP_SYS_PTRACE.
    """
    if not ours:
        return frozenset()
    table: Mapping[str, Mount] = {one.number: one for one in mounts()}
    locations = {mount.device: _location(mount, table) for mount in ours}
    copies, going = set(), {mount.number for mount in ours}
    for table in _tables():
        for one in table.values():
            if location := locations.get(one.device):
                copies.add((one.number, one.device))
                if _follows(_location(one, table), location):
                    going.add(one.number)
    kept = {device for number, device in copies if number not in going}
    return frozenset(mount for mount in ours if mount.device in kept)


def _tables() -> Iterator[Mapping[str, Mount]]:
    """Yield tables of mounts, by the kernel's ID of each mount: one for each mount namespace and root in it.

    A process sees only the mounts below its root, so the table of a chrooted process does not show its whole namespace.
    """
    seen = set()
    for thread in ("self", *_threads()):
        view = _view(thread)
        if view is None or view in seen:
            continue
        try:
            table = {one.number: one for one in mounts(thread)}
        except OSError:
            continue  # it has ended; others may have the same view
        if table:  # a detached root reads as "/", too, but shows no mounts: it must not stand for the real one
            seen.add(view)
        yield table


def _location(mount: Mount, table: Mapping[str, Mount]) -> tuple[frozenset[str], str, Path]:
    """Return where a mount is mounted, in terms that mean the same in every namespace.

    These are the peer groups and the device of the mount that it is mounted on, and the directory in that file system.
    """
    below = table.get(mount.parent)
    if below is None:
        return frozenset(), "", mount.mountpoint
    return below.peers, below.device, below.root / mount.mountpoint.relative_to(below.mountpoint)


def _follows(location: tuple[frozenset[str], str, Path], ours: tuple[frozenset[str], str, Path]) -> bool:
    """Tell whether an unmount at our location propagates to another one."""
    return bool(location[0] & ours[0]) and location[1:] == ours[1:]


def _threads() -> Iterator[str]:
    """Yield the directory below /proc of each thread: docker cp mounts in a namespace of a single thread of dockerd."""
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            yield entry.name
            with suppress(OSError):  # it has ended
                yield from (f"{entry.name}/task/{task.name}" for task in (entry / "task").iterdir())


def _view(thread: str) -> tuple[Path, Path] | None:
    """Return a thread's mount namespace and root, as /proc names them; the links are not followed: a root may hang."""
    directory = _PROC / thread
    try:
        return (directory / "ns/mnt").readlink(), (directory / "root").readlink()
    except OSError:
        return None
