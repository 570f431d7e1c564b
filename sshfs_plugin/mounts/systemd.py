# SPDX-License-Identifier: MIT
"""Mounted volumes as units of systemd: ``docker-volume-sshfs@NAME.service`` for each, started and stopped by PID 1.

They outlive a stop or upgrade of the service, and are outside its sandbox. A start is asked for over the system bus,
since every Mount waits for it; all else by systemctl.
"""

import contextlib
import logging
import re
import select
import subprocess  # noqa: TID251 (for its types alone)
import time
from collections.abc import Sequence, Set
from dataclasses import dataclass

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.host import command, system_bus
from sshfs_plugin.mounts import kernel
from sshfs_plugin.mounts.connections import SharedConnection
from sshfs_plugin.mounts.failures import mount_failed, mount_timed_out
from sshfs_plugin.mounts.supervisor import POLL_SECONDS, Supervisor
from sshfs_plugin.mounts.unit_files import is_answered
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.volume import Volume, VolumeName

log = logging.getLogger(__name__)

SOCKET, SERVICE = "docker-volume-sshfs.socket", "docker-volume-sshfs.service"
_RELEASE = "docker-volume-sshfs-release.service"
_OF_VOLUME, _SUFFIX = "docker-volume-sshfs@", ".service"
_KILLED = "activating (auto-restart"
_ACTIVE, _ENDING, _INACTIVE = "active", "deactivating", "inactive"
_STATE = ("Id", "ActiveState", "SubState", "LoadState")

_JOB_MODE = "ignore-dependencies"
"""The units are ordered before docker.service: a plain stop would wait for Docker's stop job, which waits for us."""

START_SECONDS = 55.0
"""Shorter than TimeoutStartSec= of the unit, so that a slow start ends with our error."""

CLEAN_UP_SECONDS, ASK_SECONDS = 20.0, 5.0
END_SECONDS = 8.0
"""How long an sshfs that nobody uses may take to end by itself."""
SETTLE_SECONDS = 12.0
"""How long the service's start may wait for systemd, and for earlier releases to end; systemd gives it 20 seconds."""
_LAST_LINES = 200
"""How much of what a server has printed, perhaps without end, is looked at."""

LAST_WORDS_SECONDS, JOURNAL_SECONDS = 1.0, 6.0
LOOK_SECONDS = 5.0
"""How often to ask systemd for the state of a unit whose steps tell nothing."""


class SystemdSupervisor(Supervisor):
    """Keeps volumes' processes through systemd."""

    hint = "journalctl -u 'docker-volume-sshfs*' tells more"

    def unit(self, name: VolumeName) -> str:
        """Return the volume's unit."""
        return volume_unit(name)

    def log(self, _name: VolumeName) -> str:
        """Return the command that shows what sshfs and ssh have said."""
        return "journalctl -t sshfs"

    def start(self, volume: Volume, login: Login, deadline: Deadline) -> None:
        """Start a volume's unit, which has started when its mount answers; an active one is left as it is.

        It is left so even if this fails: containers may be using its mount, even one that was detached on this host.

        Raises:
            MountFailed: sshfs ended; the error quotes what it and ssh printed last. The unit is stopped and reset.
            MountTimedOut: It did not answer in time.
            StateError: What the unit reads could not be written.
        """
        name, unit = volume.name, volume_unit(volume.name)
        if self._settled_state(name, deadline) == _ACTIVE:
            self.require_answer(name, deadline)
            return
        with self._files_written(volume, login) as (steps, connection):
            started, limit = time.time(), Deadline.after(deadline.left(START_SECONDS))
            seconds = limit.left()
            try:
                # by itself, since the volume waits for it: asked for two units, PID 1 loads both before it starts one
                refusal = (_begin_connection(connection, limit) if connection else "") or _begin(unit, limit)
                if not refusal and _comes_up(unit, steps, limit):
                    return
            except errors.ProgramStuck:
                self._give_up_start(name)
                raise mount_timed_out(name, seconds) from None
            except BaseException:
                self._give_up_start(name)
                raise
        said = _last_words(unit, started) or refusal
        self._give_up_start(name)
        raise mount_failed(name, said, f"journalctl VOLUME={name} tells more")

    def is_kept(self, name: VolumeName) -> bool:
        """Return whether the volume's unit is active; systemd is asked only if there is what it would read."""
        return self._state(name) == _ACTIVE

    def end_unless_kept(self, name: VolumeName, deadline: Deadline) -> bool:
        """End the volume's unit unless it is active: for a second after sshfs was killed, systemd waits to start it."""
        state = self._state(name)
        if state not in (_ACTIVE, _INACTIVE):
            self._end(name, deadline)
        return state != _ACTIVE

    def _state(self, name: VolumeName) -> str:
        """Return the state of a volume's unit; systemd is asked only if there is what the unit would read."""
        return _state(volume_unit(name)) if self.is_provided(name) else _INACTIVE

    def _settled_state(self, name: VolumeName, deadline: Deadline) -> str:
        """Return it once the unit is not about to end: then it removes the files, be they those of a later mount."""
        while (state := self._state(name)) == _ENDING and deadline.left():
            time.sleep(POLL_SECONDS)
        return state

    def settle(self) -> None:
        """Settle what an earlier process has left: stop its release, and remove connections that it had not begun."""
        limit = Deadline.after(SETTLE_SECONDS)
        Supervisor.settle(self)
        waited_for = {connection_unit(each): each for each in self.connections.all() if not each.stands}
        for unit in _ended_units(list(waited_for)):
            waited_for[unit].remove()
        with contextlib.suppress(errors.ProgramError):
            command.run(["systemctl", "stop", _RELEASE], seconds=limit.left())

    def shorten_logs(self) -> None:
        """Leave the words of servers to the journal, which has limits of its own."""

    def restart_service(self) -> bool:
        """Have systemd start the service anew, once the calls under way have ended, unless it is being stopped.

        Returns:
            Whether systemd will.

        Raises:
            ProgramError: systemctl could not be started, or did not end.
        """
        job = _systemctl("try-restart", "--no-block", SERVICE, seconds=ASK_SECONDS)
        if job.returncode:
            log.error("%s is not started anew: %s", SERVICE, job.stderr.strip())
        return not job.returncode

    def _ended(self, names: Set[VolumeName]) -> set[VolumeName]:
        """Return the volumes whose unit is inactive, or has failed."""
        ended = _ended_units([volume_unit(name) for name in names])
        return {name for name in names if volume_unit(name) in ended}

    def _run_release(self, deadline: Deadline) -> str:
        """Start the release unit and wait until it has ended."""
        return _systemctl("start", _RELEASE, seconds=deadline.left()).stderr.strip()

    def _end_release(self) -> None:
        """Stop the release unit."""
        self._give_up(_RELEASE)

    def _await_end(self, name: VolumeName, deadline: Deadline) -> None:
        """Wait until the last step of the volume's unit has removed the mountpoint; stop the unit if that takes long.

        The mountpoint is watched because each of a hundred systemctl that wait would be told of the jobs of all others.

        Raises:
            UnmountFailed: It does not stop.
        """
        # half of the time is left to ask systemd for the stop
        if not kernel.await_absence(self.mountpoint(name), min(END_SECONDS, deadline.left() / 2)):
            self._stop(name, deadline)

    def _end(self, name: VolumeName, deadline: Deadline) -> None:
        """Stop the volume's unit, and reset it: that its sshfs was cut off is no failure.

        Raises:
            UnmountFailed: It does not stop.
        """
        self._stop(name, deadline)
        _reset_failed(volume_unit(name), seconds=ASK_SECONDS)

    def _stop(self, name: VolumeName, deadline: Deadline) -> None:
        try:
            job = _systemctl("stop", volume_unit(name), seconds=deadline.left())
        except errors.ProgramStuck:
            raise self._unmount_failed(name, "it took too long") from None
        if job.returncode:
            raise self._unmount_failed(name, job.stderr.strip())

    def _give_up_start(self, name: VolumeName) -> None:
        """Clean up after a start that failed, unless the unit is active, as it was before."""
        try:
            is_active = _is_active(volume_unit(name))
        except errors.ProgramNotStarted as error:  # nor could it be stopped; the caller says why the start failed
            log.error("what is left of a failed start stays: %s", error)
            return
        if not is_active:
            self._give_up(volume_unit(name))
            self.discard_files(name)

    def _give_up(self, unit: str) -> None:
        """Stop and reset a unit whose job failed: no process, mount or failure is left for a later start."""
        try:
            _systemctl("stop", unit, seconds=CLEAN_UP_SECONDS)
            _reset_failed(unit, seconds=CLEAN_UP_SECONDS)
        except errors.ProgramError as error:
            log.error("%s does not stop: %s", unit, error)


def volume_unit(name: str) -> str:
    """Return the unit of a volume."""
    return f"{_OF_VOLUME}{name}{_SUFFIX}"


def volume_of(unit: str) -> str:
    """Return the name of the volume whose unit it is; empty for any other unit."""
    return unit.removeprefix(_OF_VOLUME).removesuffix(_SUFFIX) if unit.startswith(_OF_VOLUME) else ""


def connection_unit(connection: SharedConnection) -> str:
    """Return the unit of a shared connection."""
    return f"docker-volume-sshfs-connection@{connection.name}{_SUFFIX}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketUnit:
    """What systemd tells of a socket unit.

    Attributes:
        state: Its state, as :func:`states` has it; empty where systemd can't be asked or does not know the unit.
        is_enabled: Whether it will be open after the next boot.
        listens: Its addresses, as Docker's specs write them.
    """

    state: str
    is_enabled: bool
    listens: tuple[str, ...]


def socket_unit(unit: str, *, seconds: float) -> SocketUnit:
    """Ask for all that there is to know of a socket unit."""
    shown = _shown([*_STATE, "UnitFileState", "Listen"], [unit], seconds)
    return SocketUnit(
        state=_states(shown).get(unit, ""),
        is_enabled="UnitFileState=enabled" in shown.splitlines(),
        listens=_addresses(shown),
    )


def states(units: Sequence[str], *, seconds: float) -> dict[str, str]:
    """Return the state of each unit as systemd names it, ``active (running)``; empty where systemd can't be asked.

    The state of a unit that must not be started ends with ``, masked``; a unit that systemd does not know has none.
    Patterns stand for all units that systemd has loaded.
    """
    return _states(_shown(_STATE, units, seconds))


def listening(unit: str, *, seconds: float) -> tuple[str, ...]:
    """Return the addresses of a socket unit, as Docker's specs write them; empty where systemd can't be asked."""
    return _addresses(_shown(["Listen"], [unit], seconds))


def _shown(properties: Sequence[str], units: Sequence[str], seconds: float) -> str:
    """Return properties of units, a blank line between each two units; empty where systemd can't be asked."""
    try:
        return command.run(["systemctl", "show", f"--property={','.join(properties)}", *units], seconds=seconds).stdout
    except errors.ProgramError:
        return ""


def _states(shown: str) -> dict[str, str]:
    blocks = (dict(line.split("=", 1) for line in block.splitlines()) for block in shown.split("\n\n"))
    return {
        block["Id"]: f"{block['ActiveState']} ({block['SubState']}){', masked' * (block['LoadState'] == 'masked')}"
        for block in blocks
        if block.get("LoadState", "not-found") != "not-found"
    }


def _addresses(shown: str) -> tuple[str, ...]:
    addresses = re.findall(r"^Listen=(.+) \(Stream\)$", shown, re.MULTILINE)
    return tuple(f"unix://{address}" if address.startswith("/") else f"tcp://{address}" for address in addresses)


def _begin(unit: str, limit: Deadline) -> str:
    """Have systemd start a unit, without waiting for it; return what it says if it does not. Raises ProgramStuck."""
    return system_bus.start_unit(unit, mode=_JOB_MODE, seconds=limit.left())


def _begin_connection(connection: SharedConnection, limit: Deadline) -> str:
    """Have systemd make a connection, as :func:`_begin` does; it is removed if not, since others would wait for it."""
    refusal = "it was not asked"
    try:
        refusal = _begin(connection_unit(connection), limit)
    finally:
        if refusal:
            connection.remove()
    return refusal


def _comes_up(unit: str, steps: int, limit: Deadline) -> bool:
    """Wait until a volume's mount answers or its unit has ended; return whether it answers.

    The unit's steps tell. A systemctl that waits is told of each change of every unit, which takes longer than all the
    rest where there are many. It is asked now and then, should a step have been killed, or sshfs: that may go on so.

    Raises:
        ProgramStuck: It takes too long.
    """
    seconds, told = limit.left(), select.poll()
    told.register(steps, select.POLLIN)
    while limit.left():
        if told.poll(limit.left(LOOK_SECONDS) * 1000):
            return is_answered(steps)
        state = states([unit], seconds=limit.left(ASK_SECONDS)).get(unit, "")
        if state.startswith(("active ", "inactive", "failed", _KILLED)):
            return state.startswith("active ")
    raise errors.ProgramStuck(unit, seconds)


def _ended_units(units: Sequence[str]) -> set[str]:
    """Return those of some units that are inactive, or have failed; none where systemd can't be asked."""
    found = states(units, seconds=ASK_SECONDS) if units else {}
    return {unit for unit, state in found.items() if state.startswith(("inactive", "failed"))}


def _is_active(unit: str) -> bool:
    return _state(unit) == _ACTIVE


def _state(unit: str) -> str:
    """Return the state of a unit; active where systemd does not tell, since containers may be using it."""
    try:
        job = command.run(["systemctl", "show", "-P", "ActiveState", unit], seconds=ASK_SECONDS)
    except errors.ProgramStuck:
        return _ACTIVE
    return (not job.returncode and job.stdout.strip()) or _ACTIVE


def _reset_failed(unit: str, *, seconds: float) -> None:
    command.run(["systemctl", "reset-failed", unit], seconds=seconds)


def _systemctl(verb: str, *words: str, seconds: float) -> subprocess.CompletedProcess[str]:
    return command.run(["systemctl", verb, f"--job-mode={_JOB_MODE}", *words], seconds=seconds)


def _last_words(unit: str, since: float) -> str:
    """Return what the processes of a unit have written to the journal, where it may arrive late.

    The lines are matched by the unit's name: one of forty has no invocation ID.
    """
    # the clock may have been set back since
    begin = f"--since=@{min(since, time.time()):.6f}"
    read = ["journalctl", "--quiet", "--output=cat", f"--lines={_LAST_LINES}", begin, f"_SYSTEMD_UNIT={unit}"]
    limit = Deadline.after(LAST_WORDS_SECONDS)
    said = ""
    with contextlib.suppress(errors.ProgramError):
        while not said and limit.left():
            command.run(["journalctl", "--sync"], seconds=JOURNAL_SECONDS)
            said = command.run(read, seconds=JOURNAL_SECONDS).stdout
    return said
