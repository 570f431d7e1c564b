# SPDX-License-Identifier: MIT
"""The base class of the supervisors, which keep the sshfs of each mounted volume: by systemd, or without it."""

import subprocess  # noqa: TID251 (for its types alone)
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Set
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.host import command
from sshfs_plugin.mounts import kernel, mountinfo
from sshfs_plugin.mounts.connections import SharedConnection, SharedConnections
from sshfs_plugin.mounts.failures import unmounted_by_hand
from sshfs_plugin.mounts.release import withdraw
from sshfs_plugin.mounts.unit_files import UnitFiles
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.volume import Volume, VolumeName

USABLE_SECONDS = 15.0
"""How long a mount that is there may take to answer: its relay tries to connect every five seconds, and a login takes
several more on a busy host.
"""

POLL_SECONDS = 0.1

RUNS = 5
"""How often a release is run for one request: a run may have begun before the request, or another thread may end it."""


class Supervisor(ABC):
    """Keeps the process of each mounted volume, so that it outlives the service.

    Attributes:
        settings: This host's.
        hint: The hint of an error: which command tells an administrator more.
        connections: The connections that volumes share.
    """

    hint: ClassVar[str]

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.connections = SharedConnections(settings)
        self._releasing = threading.Lock()

    def mountpoint(self, name: VolumeName) -> Path:
        """Return the mountpoint of a volume, whether it is mounted or not."""
        return self.settings.mounts / name

    def files(self, name: VolumeName) -> UnitFiles:
        """Return the files that a volume's unit reads."""
        return UnitFiles.of(self.settings, name)

    def discard_files(self, name: VolumeName) -> None:
        """Remove the files that a volume's unit reads, of which one may hold a password; it shares nothing any more."""
        self.files(name).remove()
        self.connections.leave(name)

    def unit(self, _name: VolumeName) -> str:
        """Return the volume's unit; empty where there is no systemd."""
        return ""

    @abstractmethod
    def log(self, name: VolumeName) -> str:
        """Return where a volume's sshfs and ssh log to, as the begin of a hint."""

    def mounted(self) -> dict[str, str]:
        """Return the names of the volumes that the kernel shows as mounted, with the device of each mount."""
        return mountinfo.sshfs_below(self.settings.mounts)

    def device(self, name: VolumeName) -> str | None:
        """Return the device of a volume's mount; None if it is not mounted."""
        mount = mountinfo.mounted_at(self.mountpoint(name))
        return mount.device if mount and mount.kind == mountinfo.SSHFS else None

    def is_mounted_nowhere(self, device: str) -> bool:
        """Tell whether what was mounted with a device is mounted nowhere any more; False if that can't be told."""
        return kernel.is_mounted_nowhere(device)

    def left_over(self) -> set[str]:
        """Return the names of mountpoints at which nothing is mounted: a crash of the host leaves them."""
        try:
            there = {path.name for path in self.settings.mounts.iterdir()}
        except OSError:
            return set()
        directory = self.settings.mounts.resolve()
        return there - {mount.mountpoint.name for mount in mountinfo.mounts() if mount.mountpoint.parent == directory}

    def settle(self) -> None:
        """Withdraw the release requests of an earlier process, and remove what is left of what has ended meanwhile.

        That process knew nothing of the holders to come.
        """
        for request in self.settings.releases.glob("*"):
            request.unlink(missing_ok=True)
        self.connections.remove_ended()
        written = {VolumeName(directory.name) for directory in self.settings.unit_files.glob("*")}
        for name in self._ended(written - self.mounted().keys()):
            self.discard_files(name)

    @abstractmethod
    def shorten_logs(self) -> None:
        """Bound what is kept of the words of servers; nothing where the journal does that."""

    @abstractmethod
    def restart_service(self) -> bool:
        """Have the service started anew, once the calls under way have ended; tell whether it will be, or never can."""

    @abstractmethod
    def _ended(self, names: Set[VolumeName]) -> set[VolumeName]:
        """Return those of some volumes that have no process, nor get one."""

    def answers(self, name: VolumeName, seconds: float) -> bool:
        """Tell whether a volume is mounted and its server answers within so many seconds."""
        return kernel.answers(self.mountpoint(name), seconds)

    def outage(self, name: VolumeName) -> tuple[str, datetime] | None:
        """Return why a volume has no connection to its server, and since when this is so; None if it has one."""
        file = self.files(name).outage
        try:
            return file.read_text("utf-8"), datetime.fromtimestamp(file.stat().st_mtime, UTC)
        except OSError:
            return None

    def reconnects(self, name: VolumeName) -> int:
        """Return how often a volume has been connected again since it was mounted."""
        try:
            return self.files(name).reconnects.stat().st_size
        except OSError:
            return 0

    def require_answer(self, name: VolumeName, deadline: Deadline) -> None:
        """Raise an error unless a volume is mounted and its server answers.

        The caller has just found that the server lets us in: a relay that has given up tries again.

        Raises:
            MountFailed: It is not mounted on this host any more; its process goes on for containers that use it.
            MountTimedOut: The server does not answer; the mount is left as it is, since containers may be using it.
        """
        if self.outage(name):
            with suppress(OSError):  # /run is full; the error says why it does not answer
                self.files(name).retry.touch(0o600)
        limit = Deadline.after(deadline.left(USABLE_SECONDS))
        while not self.answers(name, limit.left()):
            if not limit.left() or not self.device(name):
                break
            time.sleep(POLL_SECONDS)
        else:
            return
        if not self.device(name):
            raise unmounted_by_hand(name)
        outage = self.outage(name)
        raise errors.MountTimedOut(
            f"volume '{name}' is mounted but its server does not answer",
            (f"{outage[0]}; " if outage else "") + "try again when the server is back, or unmount it with "
            f"docker-volume-sshfs release --force {name}",
        )

    @contextmanager
    def _files_written(self, volume: Volume, login: Login) -> Iterator[tuple[int, SharedConnection | None]]:
        """Write what a volume's unit reads; nothing of it stays if that fails.

        Yields:
            A descriptor from which to read what the unit's steps tell, and the connection that is to be made for the
            volume, if one is.

        Raises:
            StateError: A file could not be written, or what the steps tell not be read.
        """
        connection, is_new = self.connections.join(volume, login)
        files = self.files(volume.name)
        with ExitStack() as listening:
            try:
                files.write(volume, login, self.settings, connection.variables if connection else {})
                steps = listening.enter_context(files.listening())
            except BaseException:
                self.discard_files(volume.name)
                if connection and is_new:  # nobody will make it
                    connection.remove()
                raise
            yield steps, connection if is_new else None

    @abstractmethod
    def start(self, volume: Volume, login: Login, deadline: Deadline) -> None:
        """Mount a volume; on return its server answers. A process that keeps it already is left as it is.

        Raises:
            MountFailed: sshfs ended; the error quotes what it and ssh printed last. Nothing is left behind.
            MountTimedOut: It did not answer in time.
            StateError: What its unit reads could not be written.
        """

    def release(self, name: VolumeName, deadline: Deadline) -> bool:
        """Unmount a volume unless a container or a process uses it; return whether it, and its process, are gone.

        Raises:
            UnmountFailed: The release, or the volume's process, did not end in time, or could not be asked for.
        """
        with self._refusals_told(name):
            if not self._ask_for_release(name, deadline):
                return False
            self._await_end(name, deadline)
        self.discard_files(name)
        return True

    def release_by_force(self, name: VolumeName, deadline: Deadline) -> None:
        """Unmount a volume that may be in use or hang, and end its process, even if it is mounted nowhere any more.

        Raises:
            UnmountFailed: It could not be unmounted, or its process did not come to an end.
        """
        with self._refusals_told(name):
            self._detach(name)
            self._end(name, deadline)

    def release_by_hand(self, name: VolumeName, deadline: Deadline) -> bool:
        """Unmount a volume unless it is used, beside the service; return whether it is not mounted any more.

        The service may mount it again meanwhile: so no unit is stopped, and nothing that a unit reads is removed.

        Raises:
            UnmountFailed: The release failed or did not come to an end.
        """
        try:
            with self._refusals_told(name):
                job = self._run("release", name, seconds=deadline.left())
        except errors.ProgramStuck:
            raise self._unmount_failed(name, "it took too long") from None
        if job.returncode:
            raise self._unmount_failed(name, job.stderr.strip())
        return not self.device(name)

    @abstractmethod
    def is_kept(self, name: VolumeName) -> bool:
        """Return whether there is still a process of the volume, be it mounted here or not."""

    def end_unless_kept(self, name: VolumeName, _deadline: Deadline) -> bool:
        """See that a volume which is not mounted stays so; return False if its process goes on for those who use it.

        Raises:
            UnmountFailed: What would mount it again does not end.
        """
        return not self.is_kept(name)

    def provide(self, volume: Volume, login: Login) -> None:
        """Write what the unit of a mounted volume reads. Raises StateError."""
        self.files(volume.name).write(volume, login, self.settings)

    def is_provided(self, name: VolumeName) -> bool:
        """Return whether what the volume's unit reads is there: version 1.1 mounted without it."""
        return self.files(name).environment.exists()

    def _run(self, program: str, *words: str, seconds: float) -> subprocess.CompletedProcess[str]:
        """Run one of our own programs with our settings. Raises ProgramStuck."""
        environment = self.settings.environment()
        return command.run([self.settings.libexec / program, *words], seconds=seconds, environment=environment)

    @abstractmethod
    def _await_end(self, name: VolumeName, deadline: Deadline) -> None:
        """Wait until the process of an unmounted volume has ended by itself. Raises UnmountFailed."""

    @abstractmethod
    def _end(self, name: VolumeName, deadline: Deadline) -> None:
        """End the process of a volume that is not mounted any more, even if it is in use. Raises UnmountFailed."""

    def _detach(self, name: VolumeName) -> None:
        """Detach a volume's mount, even if it is in use; calls that wait for its server fail at once.

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
            UnmountFailed: As ``release`` does.
        """
        with self._refusals_told(name):
            self._ask_for_release(name, deadline)

    def _ask_for_release(self, name: VolumeName, deadline: Deadline) -> bool:
        """Have a volume unmounted unless it is used; return whether it is not mounted any more.

        One run of the release serves all requests that it finds. If it began too early to find this one, it runs again.
        A caller whose time is over withdraws its request, and the run goes on for the others.

        Raises:
            UnmountFailed: The release failed or did not come to an end. Nothing goes on that could unmount what the
                next Mount finds mounted.
        """
        request = self.settings.releases / name
        try:
            request.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            request.touch()
        except OSError as error:
            raise self._unmount_failed(name, f"{request.parent}: {error.strerror}") from error
        said = "it took too long"
        try:
            for _ in range(RUNS):
                with suppress(errors.ProgramStuck):
                    said = self._run_release_for(request, deadline)
                if not request.exists():
                    return not self.device(name)
                if not deadline.left():
                    break
        finally:
            is_withdrawn = withdraw(request)
        # where there was too little time, the run may go on for others, and leaves alone what was withdrawn
        if deadline.left() or not is_withdrawn:
            self._end_release()
        raise self._unmount_failed(name, said)

    def _unmount_failed(self, name: VolumeName, why: str) -> errors.UnmountFailed:
        """Return the error for a volume that could not be unmounted; a program may have printed nothing of why."""
        why = why or "it does not say why"
        return errors.UnmountFailed(f"volume '{name}' could not be unmounted ({why})", self.hint)

    @contextmanager
    def _refusals_told(self, name: VolumeName) -> Iterator[None]:
        """Raise UnmountFailed where a program can't be started."""
        try:
            yield
        except errors.ProgramNotStarted as error:
            raise self._unmount_failed(name, error.sentence) from error

    def _run_release_for(self, request: Path, deadline: Deadline) -> str:
        """Run the release, one run at a time, unless that of another thread has served the request."""
        limit = deadline.left()
        if not self._releasing.acquire(timeout=limit):
            raise errors.ProgramStuck("release", limit)
        try:
            return self._run_release(deadline) if request.exists() else ""
        finally:
            self._releasing.release()

    @abstractmethod
    def _run_release(self, deadline: Deadline) -> str:
        """Run the release to its end, and return what it printed on stderr.

        Raises:
            ProgramStuck: It took too long.
        """

    @abstractmethod
    def _end_release(self) -> None:
        """End a release that takes too long; other threads that wait for it run it again."""
