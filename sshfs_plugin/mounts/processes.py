# SPDX-License-Identifier: MIT
"""Mounted volumes as detached processes, for a host or container whose PID 1 is not systemd.

For each of them a keeper, ``volume keep``, does what its unit would do, in a session of its own, so that it outlives
this process, and locks a file until it ends.
"""

import contextlib
import fcntl
import logging
import os
import select
import signal
import subprocess  # noqa: TID251 (it leaves a child behind on purpose)
import threading
import time
from collections.abc import Set
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.mounts.connections import SharedConnection
from sshfs_plugin.mounts.failures import mount_failed, mount_timed_out
from sshfs_plugin.mounts.supervisor import Supervisor
from sshfs_plugin.mounts.unit_files import is_answered
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.volume import Volume, VolumeName

log = logging.getLogger(__name__)

CLEAN_UP_SECONDS = 10.0
LONGEST_LOG = 1024 * 1024
"""Bytes of a volume's log that are left alone. A server may print without end, and the log is in memory."""
KEPT_BYTES = 64 * 1024
"""Bytes of a longer one that are kept."""

_POLL_SECONDS = 0.05


class ProcessSupervisor(Supervisor):
    """Keeps the processes of volumes without systemd."""

    hint = "findmnt -t fuse.sshfs shows whether it still is"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._emptying = threading.Lock()

    def log(self, name: VolumeName) -> str:
        """Return the file in which sshfs and ssh have what they said."""
        return str(self.settings.logs / name)

    def start(self, volume: Volume, login: Login, deadline: Deadline) -> None:
        """Start a volume's keeper and wait until its mount answers; a running one is left as it is.

        Raises:
            MountFailed: With ssh's last words; nothing is left behind.
            MountTimedOut: It did not answer in time.
            ProgramNotStarted: No process is left for it; nothing is left behind.
            StateError: What the keeper reads, or its log, could not be written.
        """
        name = volume.name
        if self.is_kept(name) and not self._ends(name, deadline):
            self.require_answer(name, deadline)
            return
        said, limit = self._log(name), deadline.left()
        with self._files_written(volume, login) as (steps, connection):
            try:
                if connection:  # first: if this process is killed now, the volume is not to wait for what nobody makes
                    self._begin(connection, said)
                keeper = self._keep("volume", name, said)
            except BaseException:
                self.discard_files(name)
                raise
            try:
                if _comes_up(keeper, steps, deadline):
                    return
                keeper.wait(CLEAN_UP_SECONDS)
            except errors.ProgramStuck:
                self._give_up(name, keeper)
                raise mount_timed_out(name, limit) from None
            except subprocess.TimeoutExpired:  # it has failed, and said why
                self._give_up(name, keeper)
            except BaseException:
                self._give_up(name, keeper)
                raise
        self.discard_files(name)
        raise mount_failed(name, _end_of(said).decode(errors="replace"))

    def is_kept(self, name: VolumeName) -> bool:
        """Return whether a keeper holds the volume's lock file."""
        try:
            with (self.settings.locks / name).open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def settle(self) -> None:
        """Settle what an earlier process has left, and remove the connections that it was about to have made."""
        Supervisor.settle(self)
        for connection in self.connections.all():
            if connection.is_being_made and not connection.was_begun:
                connection.remove()

    def shorten_logs(self) -> None:
        """Cut each log that is too long to its last lines; what a keeper writes just then may be lost."""
        for said in self.settings.logs.glob("*"):
            # What fails is tried again in the next round. The lock keeps the words of one mount out of the next one's.
            with contextlib.suppress(OSError), self._emptying:
                if said.stat().st_size > LONGEST_LOG:
                    end = _end_of(said)
                    os.truncate(said, 0)
                    with said.open("ab") as kept:  # keepers append, and go on behind it
                        kept.write(end.partition(b"\n")[2] or end)

    def restart_service(self) -> bool:
        """Leave the service as it is: it has no mounts of its own."""
        return True

    def _ended(self, names: Set[VolumeName]) -> set[VolumeName]:
        """Return the volumes that no keeper keeps."""
        return {name for name in names if not self.is_kept(name)}

    def _ends(self, name: VolumeName, deadline: Deadline) -> bool:
        """Tell whether the keeper ends: of a volume that was unmounted just now, before a crash of the service."""
        limit = Deadline.after(deadline.left(CLEAN_UP_SECONDS))
        while self.is_kept(name):
            if self.device(name) or not limit.left():
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _run_release(self, deadline: Deadline) -> str:
        """Run the release program."""
        return self._run("release", seconds=deadline.left()).stderr.strip()

    def _end_release(self) -> None:
        """Do nothing: a release that took too long has been killed already."""

    def _await_end(self, name: VolumeName, deadline: Deadline) -> None:
        """Wait until the volume's keeper has cleaned up.

        Raises:
            UnmountFailed: It does not end.
        """
        while self.is_kept(name):
            if not deadline.left():
                raise self._unmount_failed(name, "sshfs does not end")
            time.sleep(_POLL_SECONDS)

    _end = _await_end

    def _log(self, name: VolumeName) -> Path:
        """Return the file for what is said while a volume is mounted, which is empty; the keeper's lock has a place.

        Raises:
            StateError: It could not be written.
        """
        said = self.settings.logs / name
        try:
            for directory in (self.settings.logs, self.settings.locks):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._emptying:
                said.write_bytes(b"")
        except OSError as error:
            raise errors.StateUnwritable("write", said, error) from error
        return said

    def _begin(self, connection: SharedConnection, said: Path) -> None:
        """Have a connection made; it is removed if nothing can make it, since others would wait for it."""
        try:
            self._keep("connection", connection.directory, said)
        except BaseException:
            connection.remove()
            raise

    def _keep(self, program: str, what: str | Path, said: Path) -> subprocess.Popen[bytes]:
        """Start the step ``keep`` of one of our programs, which outlives this process, and adds its words to a file.

        Raises:
            ProgramNotStarted: It could not be started.
            StateError: The file could not be written to.
        """
        try:
            opened = said.open("ab")
        except OSError as error:
            raise errors.StateUnwritable("write", said, error) from error
        with opened as output:
            try:
                return subprocess.Popen(  # noqa: S603 (our own program)
                    [self.settings.libexec / program, "keep", what],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **self.settings.environment()},
                    start_new_session=True,
                )
            except OSError as problem:
                raise errors.ProgramNotStarted(program, problem) from problem

    def _give_up(self, name: VolumeName, keeper: subprocess.Popen[bytes]) -> None:
        """Kill the keeper of a start that took too long, with sshfs, its relay and ssh, and clean up."""
        _kill_session(keeper.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):  # a process that hangs in the kernel ends with its mount
            keeper.wait(CLEAN_UP_SECONDS)
        try:
            self._run("volume", "clean", name, seconds=CLEAN_UP_SECONDS)
        except errors.ProgramError as error:
            log.error("what a failed start has mounted may stay: %s", error)
        self.discard_files(name)


def _end_of(said: Path) -> bytes:
    """Return the end of a log."""
    with said.open("rb") as opened:
        opened.seek(max(0, opened.seek(0, os.SEEK_END) - KEPT_BYTES))
        return opened.read(KEPT_BYTES)


def _kill_session(leader: int) -> None:
    """Kill the processes of a session; they are several groups, since a relay gives one to each ssh."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            if os.getsid(int(process.name)) == leader:
                os.kill(int(process.name), signal.SIGKILL)


def _comes_up(keeper: subprocess.Popen[bytes], steps: int, deadline: Deadline) -> bool:
    """Wait until a volume's mount answers or its keeper ends; return whether it answers. Raises ProgramStuck."""
    seconds, end, either = deadline.left(), os.pidfd_open(keeper.pid), select.poll()
    try:
        for descriptor in (steps, end):
            either.register(descriptor, select.POLLIN)
        found = {descriptor for descriptor, _ in either.poll(seconds * 1000)}
    finally:
        os.close(end)
    if not found:
        raise errors.ProgramStuck("volume keep", seconds)
    return steps in found and is_answered(steps)
