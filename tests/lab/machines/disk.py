# SPDX-License-Identifier: MIT
"""The disk of a machine: an overlay above a pristine root, removed with all that a machine leaves on this host."""

import os
import re
from pathlib import Path

from .cache import delete, locked
from .cgroups import end_cgroups
from .commands import on_host

_MEMORY = 4 << 30
"""Bytes of free memory with which disks are kept in it: all of them together take less."""

ENGINES = ("/var/lib/docker", "/var/lib/containers")
"""What lies beside the overlay: above one, Docker and Podman would copy an image whole for each container."""


def _is_mounted(path: Path) -> bool:
    lines = Path("/proc/self/mountinfo").read_text("utf-8").splitlines()
    return any(line.split(" ")[4] == os.fspath(path) for line in lines)


def make_disk(pristine: Path, run: Path) -> Path:
    """Give a machine a disk: an overlay or, where the cache can't carry one, a copy."""
    disk, written = run / "root", run / "written"
    for directory in (disk, written):
        directory.mkdir()
    keep_in_memory(written)
    for name in ("upper", "work", *(Path(path).name for path in ENGINES)):
        (written / name).mkdir()
        # the mode of "upper" becomes that of "/" in the machine
        (written / name).chmod(0o755)
    options = f"lowerdir={pristine},upperdir={written / 'upper'},workdir={written / 'work'}"
    if not on_host("mount", "-t", "overlay", "-o", options, "sshfs-lab", disk, check=False):
        on_host("cp", "-a", "--reflink=auto", f"{pristine}/.", disk)
    return disk


def keep_in_memory(directory: Path) -> None:
    """Mount memory on a directory, if there is enough of it, and if the kernel's tmpfs knows immutable files.

    Nothing of a machine outlives its tests, and much of what they do is to write files and remove them again. An ext4
    without a journal is slow at just that: it looks for inodes that were not removed lately, one by one.
    """
    (available,) = re.findall(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text("utf-8"), re.MULTILINE)
    if int(available) << 10 < _MEMORY:
        return
    on_host("mount", "-t", "tmpfs", "-o", "mode=0755", "sshfs-lab", directory)
    if on_host("chattr", "+i", directory, check=False):
        on_host("chattr", "-i", directory)
    else:
        on_host("umount", directory)


def discard(run: Path) -> None:
    """Remove a machine's processes, cgroups and disk."""
    end_cgroups(run)
    for place in (run / "root", run / "written"):
        if _is_mounted(place) and not on_host("umount", place, check=False):
            on_host("umount", "--lazy", place)
        assert not _is_mounted(place), f"{place} can't be unmounted"
    delete(run)


def sweep(runs: Path) -> None:
    """Remove what test runs left that were killed; a live one holds its lock."""
    for run in runs.iterdir():
        with locked(run / "lock", wait=False) as free:
            if free:
                discard(run)
