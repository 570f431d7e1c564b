# SPDX-License-Identifier: MIT
"""Mounted volumes as units of systemd: ``docker-volume-sshfs@NAME.service`` for each, started and stopped by PID 1.

They are out of reach of the service's end, upgrade and sandbox. Jobs are made with ``--job-mode=ignore-dependencies``:
the units are ordered before docker.service, and a plain stop would wait for Docker's own stop job, which waits for us.
"""

import contextlib
import logging
import re
import subprocess  # noqa: TID251 (for its types alone)
import time
from collections.abc import Sequence

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.host import command
from sshfs_plugin.mounts import kernel
from sshfs_plugin.mounts.supervisor import Supervisor, mount_failed, mount_timed_out
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.volume import Volume, VolumeName

log = logging.getLogger(__name__)

SOCKET, SERVICE = "docker-volume-sshfs.socket", "docker-volume-sshfs.service"
_RELEASE = "docker-volume-sshfs-release.service"

START_SECONDS = 55.0
"""Shorter than TimeoutStartSec= of the unit, so that a slow start ends in our words."""

CLEAN_UP_SECONDS, ASK_SECONDS = 20.0, 5.0
END_SECONDS = 8.0
"""How long an sshfs that nobody uses may take to end by itself."""
SETTLE_SECONDS = 8.0
"""How long the service's start may wait for earlier releases to end; systemd gives it 20 seconds."""
LAST_WORDS_SECONDS, JOURNAL_SECONDS = 1.0, 6.0


class SystemdSupervisor(Supervisor):
    """Keeps volumes' processes through systemd."""

    tells_more = "journalctl -u 'docker-volume-sshfs*' tells more"

    def unit(self, name: VolumeName) -> str:
        """Return the volume's unit."""
        return _unit(name)

    def start(self, volume: Volume, login: Login, deadline: Deadline) -> None:
        """Start a volume's unit, which has started when its mount answers; a running one is left as it is.

        That holds if the start fails, too, whatever the reason: containers may be using what the unit keeps, even if it
        is mounted nowhere on this host any more.

        Raises:
            MountFailed: With ssh's last words; the unit is stopped and its failure forgotten.
            MountTimedOut: It did not answer in time.
            StateError: What the unit reads could not be written.
        """
        name, unit = volume.name, _unit(volume.name)
        files = self.files(name)
        files.write(volume, login, self.settings)
        started, limit = time.time(), deadline.left(START_SECONDS)
        try:
            job = _systemctl("start", unit, seconds=limit)
        except errors.ProgramStuck:
            self._give_up_start(name)
            raise mount_timed_out(name, limit) from None
        if job.returncode:
            said = _last_words(unit, started) or job.stderr
            self._give_up_start(name)
            raise mount_failed(name, said)
        if not files.answered.exists():  # the unit was active before
            self.require_answer(name, deadline)

    def settle(self) -> None:
        """Let no release go on that an earlier process has asked for, either."""
        Supervisor.settle(self)
        with contextlib.suppress(OSError, errors.ProgramStuck):
            command.run(["systemctl", "stop", _RELEASE], seconds=SETTLE_SECONDS)

    def run_release(self, deadline: Deadline) -> str:
        """Start the release unit and wait until it has ended."""
        return _systemctl("start", _RELEASE, seconds=deadline.left()).stderr.strip()

    def end_release(self) -> None:
        """Stop the release unit."""
        self._give_up(_RELEASE)

    def await_end(self, name: VolumeName, deadline: Deadline) -> None:
        """Wait until the last step of the volume's unit has removed the mountpoint, and stop it if that takes long.

        A hundred systemctl that wait for their jobs would each be told of the jobs of all others.

        Raises:
            UnmountFailed: It does not stop.
        """
        if not kernel.await_absence(self.mountpoint(name), deadline.left(END_SECONDS)):
            self._stop(name, deadline)

    def end(self, name: VolumeName, deadline: Deadline) -> None:
        """Stop the volume's unit; that an sshfs was cut off is no failure then.

        Raises:
            UnmountFailed: It does not stop.
        """
        self._stop(name, deadline)
        _forget_failure(_unit(name), seconds=ASK_SECONDS)

    def _stop(self, name: VolumeName, deadline: Deadline) -> None:
        try:
            job = _systemctl("stop", _unit(name), seconds=deadline.left())
        except errors.ProgramStuck:
            raise self.unmount_failed(name, "it took too long") from None
        if job.returncode:
            raise self.unmount_failed(name, job.stderr.strip())

    def _give_up_start(self, name: VolumeName) -> None:
        """Leave nothing of a start that failed, unless the unit was active before."""
        if not _is_active(_unit(name)):
            self._give_up(_unit(name))
            self.forget(name)

    def _give_up(self, unit: str) -> None:
        """Leave nothing of a job that failed: no process, no mount, and no failure that a later start would inherit."""
        try:
            _systemctl("stop", unit, seconds=CLEAN_UP_SECONDS)
            _forget_failure(unit, seconds=CLEAN_UP_SECONDS)
        except errors.ProgramStuck:
            log.error("%s does not stop", unit)


def states(units: Sequence[str], *, seconds: float) -> dict[str, str]:
    """Return the state of each unit in systemd's words, ``active (running)``; none where systemd can't be asked."""
    try:
        shown = command.run(["systemctl", "show", "--property=Id,ActiveState,SubState", *units], seconds=seconds)
    except (OSError, errors.ProgramStuck):
        return {}
    blocks = (dict(line.split("=", 1) for line in block.splitlines()) for block in shown.stdout.split("\n\n"))
    return {block["Id"]: f"{block['ActiveState']} ({block['SubState']})" for block in blocks if "Id" in block}


def listening(unit: str, *, seconds: float) -> tuple[str, ...]:
    """Return where a socket unit listens, as Docker's specs write it; nothing where systemd can't be asked."""
    try:
        shown = command.run(["systemctl", "show", "--property=Listen", unit], seconds=seconds)
    except (OSError, errors.ProgramStuck):
        return ()
    places = re.findall(r"^Listen=(.+) \(Stream\)$", shown.stdout, re.MULTILINE)
    return tuple(f"unix://{place}" if place.startswith("/") else f"tcp://{place}" for place in places)


def _unit(name: VolumeName) -> str:
    return f"docker-volume-sshfs@{name}.service"


def _is_active(unit: str) -> bool:
    try:
        return command.run(["systemctl", "show", "-P", "ActiveState", unit], seconds=ASK_SECONDS).stdout == "active\n"
    except errors.ProgramStuck:  # containers may be using it
        return True


def _forget_failure(unit: str, *, seconds: float) -> None:
    command.run(["systemctl", "reset-failed", unit], seconds=seconds)


def _systemctl(verb: str, unit: str, *, seconds: float) -> subprocess.CompletedProcess[str]:
    return command.run(["systemctl", verb, "--job-mode=ignore-dependencies", unit], seconds=seconds)


def _last_words(unit: str, since: float) -> str:
    """Return what the unit's processes have written to the journal, which may take a moment to get there.

    Matched by the unit's name: one line of forty carries no invocation ID.
    """
    read = ["journalctl", "--quiet", "--output=cat", f"--since=@{since:.6f}", f"_SYSTEMD_UNIT={unit}"]
    limit = Deadline.after(LAST_WORDS_SECONDS)
    said = ""
    with contextlib.suppress(errors.ProgramStuck):
        while not said and limit.left():
            command.run(["journalctl", "--sync"], seconds=JOURNAL_SECONDS)
            said = command.run(read, seconds=JOURNAL_SECONDS).stdout
    return said
