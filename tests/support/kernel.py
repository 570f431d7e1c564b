# SPDX-License-Identifier: MIT
"""A kernel that mounts nothing, with its /proc."""

import ctypes
import errno
import os
from pathlib import Path

from sshfs_plugin.mounts import kernel
from sshfs_plugin.mounts.mountinfo import SSHFS


class FakeKernel:
    """A /proc tree to read and a libc whose umount2 changes it."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.busy: set[Path] = set()
        self.forbidden = False
        self.unmounted: list[tuple[Path, int]] = []
        self.process("self", namespace=1)

    def process(self, process: str | int, *, namespace: int, root: str = "/", mountinfo: str | None = "") -> Path:
        """Let a process exist, in a mount namespace; without mountinfo it is one that has just ended."""
        directory = self.proc / str(process)
        (directory / "ns").mkdir(parents=True)
        (directory / "ns/mnt").symlink_to(f"mnt:[{namespace}]")
        (directory / "root").symlink_to(root)
        if mountinfo is not None:
            (directory / "mountinfo").write_text(mountinfo)
        return directory

    @property
    def mountinfo(self) -> Path:
        """The table of our own mounts."""
        return self.proc / "self/mountinfo"

    def mount(self, mountpoint: Path, *, device: str = "0:99", kind: str = SSHFS) -> None:
        """Mount something, on top of what is there."""
        line = f"36 35 {device} / {mountpoint} rw,nosuid shared:7 - {kind} me@nas:/photos rw\n"
        self.mountinfo.write_text(self.mountinfo.read_text() + line)

    def umount2(self, target: bytes, flags: int) -> int:
        """Do what the system call of that name does."""
        mountpoint = Path(os.fsdecode(target))
        self.unmounted.append((mountpoint, flags))
        lines = self.mountinfo.read_text().splitlines(keepends=True)
        on_it = [line for line in lines if line.split(" ")[4] == str(mountpoint)]
        if problem := self._problem(mountpoint, flags, mounted=bool(on_it)):
            ctypes.set_errno(problem)
            return -1
        lines.remove(on_it[-1])
        self.mountinfo.write_text("".join(lines))
        return 0

    def _problem(self, mountpoint: Path, flags: int, *, mounted: bool) -> int:
        if self.forbidden:
            return errno.EPERM
        if not mountpoint.exists():
            return errno.ENOENT
        if not mounted:
            return errno.EINVAL
        return errno.EBUSY if mountpoint in self.busy and not flags & kernel.MNT_DETACH else 0
