# SPDX-License-Identifier: MIT
"""What both ways of keeping a volume's process share: where volumes are mounted and what the kernel says of it."""

import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.mounts import kernel, mountinfo
from sshfs_plugin.mounts.unit_files import UnitFiles
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.volume import Volume, VolumeName

_CHATTER = ("read: Connection reset by peer", "Warning: Permanently added")
"""Lines that say less than the others: sshfs's own after any failure of ssh, and a note that is none."""

_SYSTEMD = ("Failed to attach ", "Job for ", 'See "systemctl status ')
"""Lines in which systemd says no more than that a unit failed, or speaks of cgroups of its own."""

USABLE_SECONDS = 5.0

RUNS = 5
"""How often a release is run for one volume: twice if it came too late for it, more if others have ended it."""


@dataclass(frozen=True, slots=True)
class Supervisor(ABC):
    """What keeps the process of each mounted volume, out of reach of this one's end.

    Attributes:
        settings: Where volumes are mounted, and where what their units read is.
        tells_more: What an administrator types to learn more of a failure.
    """

    settings: Settings
    tells_more: ClassVar[str]
    _releasing: threading.Lock = field(default_factory=threading.Lock, init=False)

    def mountpoint(self, name: VolumeName) -> Path:
        """Return where a volume is mounted when it is."""
        return self.settings.mounts / name

    def files(self, name: VolumeName) -> UnitFiles:
        """Return what a volume's unit reads."""
        return UnitFiles.of(self.settings, name)

    def forget(self, name: VolumeName) -> None:
        """Drop what a volume's unit reads, a password among it."""
        self.files(name).remove()

    def unit(self, _name: VolumeName) -> str:
        """Return nothing: no unit keeps the process."""
        return ""

    def mounted(self) -> dict[str, str]:
        """Return the names of the volumes that the kernel shows as mounted, with the device of each mount."""
        return mountinfo.sshfs_below(self.settings.mounts)

    def left_over(self) -> set[str]:
        """Return the names of mountpoints at which nothing is mounted: of a host that was cut off amid a mount."""
        try:
            there = {path.name for path in self.settings.mounts.iterdir()}
        except OSError:
            return set()
        directory = self.settings.mounts.resolve()
        return there - {mount.mountpoint.name for mount in mountinfo.mounts() if mount.mountpoint.parent == directory}

    def settle(self) -> None:
        """Take back what an earlier process wanted to have released: it knows nothing of new holders."""
        for request in self.settings.releases.glob("*"):
            request.unlink(missing_ok=True)

    def answers(self, name: VolumeName, seconds: float) -> bool:
        """Tell whether a live mount answers."""
        return kernel.answers(self.mountpoint(name), seconds)

    def require_answer(self, name: VolumeName, deadline: Deadline) -> None:
        """Let a Mount be answered only by a mount that answers itself.

        Raises:
            MountFailed: There is no mount; somebody has unmounted it, and its process goes on for those who use it.
            MountTimedOut: It does not answer; the mount is left as it is, since containers may be using it.
        """
        if self.answers(name, deadline.left(USABLE_SECONDS)):
            return
        if name not in self.mounted():
            raise errors.MountFailed(
                f"volume '{name}' was unmounted by hand while containers go on using it",
                f"stop them (docker ps --filter volume={name}) and try again",
            )
        raise errors.MountTimedOut(
            f"volume '{name}' is mounted but its server does not answer",
            "sshfs goes on trying to reconnect; try again when the server is back, or unmount it with "
            f"docker-volume-sshfs release --force {name}",
        )

    @abstractmethod
    def start(self, volume: Volume, login: Login, deadline: Deadline) -> None:
        """Mount a volume; on return it answers. What keeps it is left as it is if it is there already.

        Raises:
            MountFailed: With ssh's last words; nothing is left behind.
            MountTimedOut: It did not answer in time.
            StateError: What its unit reads could not be written.
        """

    def release(self, name: VolumeName, deadline: Deadline) -> bool:
        """Unmount a volume unless a container or a process uses it; tell whether it is gone, and its process with it.

        Raises:
            UnmountFailed: The release did not come to an end, or the volume's process did not.
        """
        if not self.ask_for_release(name, deadline):
            return False
        self.await_end(name, deadline)
        self.forget(name)
        return True

    def release_by_force(self, name: VolumeName, deadline: Deadline) -> None:
        """Unmount a volume that may be in use or hang, and end its process, even if it is mounted nowhere any more.

        Raises:
            UnmountFailed: It could not be unmounted, or its process did not come to an end.
        """
        self.detach(name)
        self.end(name, deadline)
        self.forget(name)

    @abstractmethod
    def await_end(self, name: VolumeName, deadline: Deadline) -> None:
        """Wait until the process of a volume that nobody uses any more has ended. Raises UnmountFailed."""

    @abstractmethod
    def end(self, name: VolumeName, deadline: Deadline) -> None:
        """End the process of a volume that is not mounted any more, whoever uses it. Raises UnmountFailed."""

    def detach(self, name: VolumeName) -> None:
        """Take a volume's mount away from whoever uses it; calls that wait for its server fail at once.

        Raises:
            UnmountFailed: The kernel does not let us.
        """
        try:
            kernel.detach_all(self.mountpoint(name))
        except OSError as error:
            raise errors.UnmountFailed(
                f"volume '{name}' could not be unmounted ({error.strerror})", "is this root of the host itself?"
            ) from None

    def clear(self, name: VolumeName, deadline: Deadline) -> None:
        """Remove a mountpoint that is left over and empty.

        Raises:
            UnmountFailed: As of a release.
        """
        self.ask_for_release(name, deadline)

    def ask_for_release(self, name: VolumeName, deadline: Deadline) -> bool:
        """Have a volume unmounted unless it is used; tell whether it is gone.

        One run of the release may answer for many, or find that it came too late for this one: then it runs again.

        Raises:
            UnmountFailed: The release failed or did not come to an end. Nothing goes on that could unmount what the
                next Mount finds mounted.
        """
        request = self.settings.releases / name
        request.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        request.touch()
        said = "it took too long"
        try:
            for _ in range(RUNS):
                with suppress(errors.ProgramStuck):
                    said = self._run_release(request, deadline)
                if not request.exists():
                    return name not in self.mounted()
                if not deadline.left():
                    break
        finally:
            request.unlink(missing_ok=True)
        self.end_release()
        raise self.unmount_failed(name, said)

    def unmount_failed(self, name: VolumeName, why: str) -> errors.UnmountFailed:
        """Make an error of a volume that could not be unmounted."""
        return errors.UnmountFailed(f"volume '{name}' could not be unmounted ({why})", self.tells_more)

    def _run_release(self, request: Path, deadline: Deadline) -> str:
        """Run the release, one run at a time, unless that of somebody else has answered the request."""
        limit = deadline.left()
        if not self._releasing.acquire(timeout=limit):
            raise errors.ProgramStuck("release", limit)
        try:
            return self.run_release(deadline) if request.exists() else ""
        finally:
            self._releasing.release()

    @abstractmethod
    def run_release(self, deadline: Deadline) -> str:
        """Run the release to its end, and return what it said.

        Raises:
            ProgramStuck: It took too long.
        """

    @abstractmethod
    def end_release(self) -> None:
        """End a release that goes on; those who wait for it run it again."""


def mount_failed(name: VolumeName, said: str) -> errors.MountFailed:
    """Make an error of what sshfs and ssh said before they ended."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith(_SYSTEMD)]
    if not lines:
        return errors.MountFailed(f"sshfs could not mount volume '{name}' and did not say why")
    telling = [line for line in lines if not line.startswith(_CHATTER)] or lines
    words = errors.last_words(dict.fromkeys(telling))
    return errors.MountFailed(f"sshfs could not mount volume '{name}', its last words: {words}")


def mount_timed_out(name: VolumeName, seconds: float) -> errors.MountTimedOut:
    """Make an error of a mount that did not come up in time."""
    return errors.MountTimedOut(
        f"volume '{name}' was not usable after {seconds:.0f} seconds and was given up",
        "is the server slow or overloaded? try again",
    )
