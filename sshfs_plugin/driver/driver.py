# SPDX-License-Identifier: MIT
"""The rules of the volume driver: what each verb may do, in which order, and what it leaves behind when it fails.

The driver does no I/O of its own but is handed its records, a preflight and a supervisor. Slow work on a volume happens
under that volume's own lock, until the caller's deadline at most. Get and List answer from memory and the kernel's
table of mounts. Docker forgets a volume for ever when a Get fails (docs/facts.md), so they do not
wait for a server, for systemd or for a lock that a Mount can hold.

State is changed after the act that it records, except that a holder is dropped before the unmount.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sshfs_plugin import context, errors, options
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.driver.counters import Counters
from sshfs_plugin.driver.locks import Locks, SharedFailures, admission, reachability
from sshfs_plugin.driver.registry import Entry, Registry
from sshfs_plugin.driver.values import WAY_OUT, Caller, Condition, State
from sshfs_plugin.events import Event
from sshfs_plugin.holders import Client, Holders
from sshfs_plugin.host import uptime
from sshfs_plugin.mounts.supervisor import Supervisor
from sshfs_plugin.preflight.deferred import DeferredPreflight
from sshfs_plugin.preflight.port import asking_for_port
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.state.records import HolderRecords, VolumeRecords
from sshfs_plugin.volume import CheckAt, MountID, Unresolved, Unusable, Volume, VolumeName, volume_name

if TYPE_CHECKING:
    from sshfs_plugin.preflight.preflight import Prepared

log = logging.getLogger(__name__)

CHECK_HOLDS_SECONDS = 30.0
"""For how long a volume's preflight need not be made again once it has passed."""

WORTH_CHECKING_SECONDS = 2.0
"""How much time a preflight after a failed mount needs: with less it would report its lack of time, and no cause."""

AGAIN_SECONDS = 1.0
"""How long to wait before a server that has turned a mount away is asked once more."""

ANSWER_SECONDS = 2.0
"""How long a mount may take to answer before it is mounted anew: one that is well does at once, and what is done about
one that is not needs the rest of the caller's time.
"""

UNMOUNT_SECONDS = 30.0
"""How long an unmount may take if no client waits for it."""

LEAVE_SECONDS = 300.0
"""How long to leave a mount alone that has no holder but is in use, before its release is tried again."""

DOUBT_SECONDS = 300.0
"""For how long after this process has begun a volume may be held since before that without being used: far longer than
Docker takes to start a container whose volume is mounted.
"""

EARLY_SECONDS = 300.0
"""For how long after its start this host may be up before its servers are."""

_NOT_UP_YET = errors.HostUnresolved, errors.HostUnreachable, errors.TurnedAway, errors.ServerSilent
"""What is found of a server that is starting: the last two when its sshd does already, and can't serve yet."""

_NEWS: Mapping[Condition, tuple[Event, str]] = {
    Condition.UNRESPONSIVE: (Event.UNRESPONSIVE, "the mount does not answer"),
    Condition.REMOUNTED: (Event.REMOUNTED, "mounted anew: containers that had it before have lost it"),
    Condition.LOST: (Event.LOST, "not mounted any more, although containers hold it"),
}
"""What is said when a volume comes into a condition for which no call is to blame."""

TRY_EVERY_SECONDS = 5.0
SPARE_SECONDS = 10.0
"""How much of a caller's time is left to the last attempt."""


class Driver:
    """The nine verbs of a Docker volume plugin, without HTTP.

    Attributes:
        counters: What is counted meanwhile.
    """

    def __init__(  # noqa: PLR0913 (the parts of the service meet here)
        self,
        *,
        volumes: VolumeRecords,
        holder_records: HolderRecords,
        preflight: DeferredPreflight,
        supervisor: Supervisor,
        counters: Counters | None = None,
        up_seconds: Callable[[], float] = uptime.seconds,
        lives: Callable[[str], bool] = uptime.lives,
    ) -> None:
        self.counters = counters or Counters()
        self._registry = Registry(volumes, holder_records, lives)
        self._remotes = volumes.remotes
        self._preflight = preflight
        self._supervisor = supervisor
        self._up_seconds = up_seconds
        self._locks = Locks()
        self._shared_failures = SharedFailures()
        self._cleared: set[str] = set()
        self._told: dict[VolumeName, Condition] = {}
        self._held_before: dict[VolumeName, Holders] = {}
        self._doubtful_from = time.monotonic() + DOUBT_SECONDS

    def load(self) -> None:
        """Take over from the last process: read the records, and ask the kernel for live mounts.

        Raises:
            StateError: The records can't be read.
        """
        self._supervisor.settle()
        self._registry.load()
        self._held_before = {entry.name: entry.holders for entry in self._registry.all() if entry.holders.are_docker_s}
        for name in set(self._supervisor.mounted()) - {entry.name for entry in self._registry.all()}:
            log.warning("%s is mounted but there is no record of such a volume: it is left alone", name)

    def activate(self, caller: Caller) -> None:
        """Note a client's first call: if it is a new Docker process, the holders of the old one become inherited."""
        if caller.client is Client.DOCKER:
            self._registry.met_docker(caller.process)

    def create(self, name: str, opts: Mapping[str, str], deadline: Deadline) -> None:
        """Make a volume; with ``check=create``, the default, a preflight comes first.

        Raises:
            RequestError: The name or an option is wrong.
            VolumeExists: There is one with other options.
            RecordUnusable: There is one whose options can't be read.
            RemoteUnusable: The file of its remote can't be used.
            VolumeInUse: A volume of that name, whose record is lost, is mounted and in use.
            VolumeBusy, ServerBusy: Too many calls were before it, or they took too long.
            BeingUpgraded: No check can be made just now.
            UnmountFailed: The mount of a volume of that name, whose record is lost, could not be unmounted.
            PreflightError, CredentialsError: A check has failed.
            StateError: It could not be recorded.
        """
        asked = time.monotonic()
        named, given = volume_name(name), options.given(opts)
        with self._locks.on_volume(named, deadline):
            if existing := self._registry.find(named):
                self._registry.look_again(existing)
                if differing := options.differences(existing.known.given, given):
                    raise errors.VolumeExists(named, differing)
                return
            volume = options.restore(named, given, datetime.now(UTC), self._remotes)
            self._require_release(named, deadline)
            entry = Entry(record=volume)
            if volume.check is CheckAt.CREATE:
                prepared = self._preflight.prepare(volume)
                with self._logging_in(volume, prepared.login, asked, deadline) as logged_in:
                    prepared.run(deadline, creating=True, logged_in=logged_in)
                entry.passed(prepared.login, CHECK_HOLDS_SECONDS)
            self._registry.add(entry)
        log.info("created: %s", volume.remote.source, extra=Event.CREATED.fields)

    def mount(self, name: str, mount_id: str, caller: Caller, deadline: Deadline) -> Path | None:
        """Mount a volume unless it is mounted, and count the mount ID as a holder.

        A client that has closed its connection meanwhile would never unmount, so its ID is not counted. This is decided
        under the volume's lock: to undo the count later might drop the hold of the next caller with the same ID.

        Returns:
            The mountpoint; the volume is mounted there and its server answers. None if the client has gone and holds
            nothing.

        Raises:
            VolumeNotFound: There is none of that name.
            InvalidRequest: The ID is empty.
            RecordUnusable: The volume's record can't be read or understood.
            VolumeBusy, ServerBusy: Too many calls were before it, or they took too long.
            InvalidOption, RemoteUnusable, CredentialsError, PreflightError, StateError, MountError: It can't be
                mounted; nothing is left behind.
        """
        holder, asked = _mount_id(mount_id), time.monotonic()
        with self._working_on(name, deadline) as entry:
            device = self._ensure_mounted_early(entry, asked, deadline)
            if caller.has_gone():
                log.warning("the client has gone and holds nothing")
                if not entry.holders.live:
                    self._release(entry, Deadline.after(UNMOUNT_SECONDS))
                return None
            self._registry.apply(entry, lambda holders: holders.mounted(holder, caller.client, device), record=False)
            log.info("mounted", extra=Event.MOUNTED.fields)
        return self._supervisor.mountpoint(entry.name)

    def confirm(self, name: str, mount_id: str) -> None:
        """Record a holder, now that the reply to its Mount has been sent."""
        if entry := self._registry.find(name):
            self._registry.apply(entry, lambda holders: holders.confirmed(MountID(mount_id)))

    def unanswered(self, name: str, mount_id: str) -> None:
        """Undo the count of a Mount whose reply could not be sent; :meth:`look_after` releases the volume later."""
        if entry := self._registry.find(name):
            self._registry.apply(entry, lambda holders: holders.unanswered(MountID(mount_id)))
        log.warning("the client has gone before it had its reply, and holds nothing")

    def unmount(self, name: str, mount_id: str, deadline: Deadline) -> None:
        """Drop a hold of a mount ID, and release the volume when it has no live holder any more.

        An unknown ID is a success, and so is a release that fails: the hold is dropped, and after an error Docker would
        only keep the ID for a later, second Mount (docs/facts.md). So the hold is dropped before anything is waited
        for.

        Raises:
            VolumeNotFound: There is no volume of that name.
            InvalidRequest: The ID is empty.
        """
        holder = _mount_id(mount_id)
        self._registry.apply(self._registry.get(name), lambda holders: holders.unmounted(holder))
        try:
            with self._working_on(name, deadline) as entry:
                if not entry.holders.live:
                    self._release(entry, deadline)
                else:
                    log.info("given back, %d hold it still", entry.holders.count)
        except errors.VolumeBusy as busy:
            log.warning("left mounted for now: %s", busy)

    def remove(self, name: str, deadline: Deadline) -> None:
        """Forget a volume; what is on the server stays as it is.

        Docker has made sure that no container refers to it, so holders that are left are stale; only real use counts.

        Raises:
            VolumeNotFound: There is none of that name.
            VolumeInUse: A container or a process still uses it.
            VolumeBusy: Another call on it did not end in time.
            UnmountFailed, StateError: It could not be unmounted or forgotten.
        """
        with self._working_on(name, deadline) as entry:
            try:
                self._require_release(entry.name, deadline)
            except errors.VolumeInUse:
                _require_answer(entry)
                raise
            self._preflight.unpin(entry.name)
            self._supervisor.discard_files(entry.name)
            self._registry.remove(entry)
            self._supervisor.connections.end_idle()
        log.info("removed; the files on the server stay as they are", extra=Event.REMOVED.fields)

    def get(self, name: str) -> State:
        """Return what is known of a volume, at once.

        Raises:
            VolumeNotFound: There is none of that name.
        """
        entry = self._registry.get(name)
        return self._state(entry, self._supervisor.device(entry.name))

    def list_volumes(self) -> list[State]:
        """Return what is known of all volumes, by name, at once."""
        mounted = self._supervisor.mounted()
        return [self._state(entry, mounted.get(entry.name)) for entry in self._registry.all()]

    def counts(self) -> tuple[int, int]:
        """Return how many volumes there are, and how many of them are mounted."""
        mounted = sum(self._registry.find(name) is not None for name in self._supervisor.mounted())
        return len(self._registry), mounted

    def reconnects(self) -> dict[VolumeName, int]:
        """Return how often each mounted volume has been connected again since it was mounted."""
        names = (VolumeName(name) for name in self._supervisor.mounted() if self._registry.find(name))
        return {name: self._supervisor.reconnects(name) for name in names}

    def look_after(self, seconds: float) -> None:
        """Ask every mount whether it answers, release those without a holder, and read unusable records again.

        It is slow, so it runs in a thread of its own.

        Args:
            seconds: How long one mount may take to answer.
        """
        mounted = self._supervisor.mounted()
        for entry in self._registry.all():
            with context.about(VOLUME=entry.name):
                try:
                    self._look_after(entry, seconds, is_mounted=entry.name in mounted)
                except Exception:  # go on with the other volumes
                    log.exception("looking after the volume failed")
        self._tell(self.list_volumes())  # which also notes since when each volume is in its condition
        self._clear_left_over()
        self._supervisor.connections.remove_given_up()

    def _tell(self, states: Sequence[State]) -> None:
        """Log the conditions that have changed since the last time."""
        before, self._told = self._told, {state.record.name: state.condition for state in states}
        for name, condition in self._told.items():
            was = before.get(name)
            if condition is was:
                continue
            with context.about(VOLUME=name):
                if condition in _NEWS:
                    event, words = _NEWS[condition]
                    log.warning("%s", words, extra=event.fields)
                elif was is Condition.UNRESPONSIVE and condition is Condition.MOUNTED:
                    log.warning("the mount answers again", extra=Event.ANSWERS_AGAIN.fields)

    def _look_after(self, entry: Entry, seconds: float, *, is_mounted: bool) -> None:
        if not isinstance(entry.record, Volume):
            self._registry.look_again(entry)
        if is_mounted:
            self._look_at(entry, seconds)
            self._provide(entry)
            self._release_if_unheld(entry)
            self._release_if_forgotten(entry)
        else:
            entry.answering = None
            entry.unmount_settled()
            if entry.holders.count:
                self._release_if_unheld(entry)

    def _provide(self, entry: Entry) -> None:
        """Let the unit of a volume that version 1.1 has mounted find what it reads, should it be started again."""
        if self._supervisor.is_provided(entry.name):
            return
        with (
            suppress(errors.PluginError),  # as long as it can't be read there is nothing to provide
            self._locks.on_volume(entry.name, Deadline.after(0)),
        ):
            if self._supervisor.device(entry.name) is not None:
                self._supervisor.provide(entry.volume, self._preflight.login(entry.volume))

    def _look_at(self, entry: Entry, seconds: float) -> None:
        name = entry.name
        reconnects, device = self._supervisor.reconnects(name), self._supervisor.device(name)
        answering = self._supervisor.answers(name, seconds)
        if not answering and (
            # the relay tells of the end of an outage at once, and what was unmounted meanwhile needs no answer
            self._supervisor.outage(name)
            or self._supervisor.reconnects(name) != reconnects
            or self._supervisor.device(name) != device
        ):
            entry.answering = None
            return
        entry.answering = answering
        if answering:
            entry.recovered()

    def _release_if_unheld(self, entry: Entry) -> None:
        if entry.holders.live or time.monotonic() < entry.left_until:
            return
        with suppress(errors.VolumeBusy), self._locks.on_volume(entry.name, Deadline.after(0)):
            # by now the name may be that of a new volume, which has an entry and a mount of its own
            if self._registry.find(entry.name) is entry and not entry.holders.live:
                self._release(entry, Deadline.after(UNMOUNT_SECONDS))

    def _release_if_forgotten(self, entry: Entry) -> None:
        """Release a volume, once, if its holders are those of before this process and nothing uses it.

        An Unmount that comes when no service can take it is lost: Docker does not try again with what is in it
        (docs/facts.md), and removes the container.
        """
        before = self._held_before.get(entry.name)
        if before is None or not entry.answering or time.monotonic() < self._doubtful_from:
            return
        with suppress(errors.VolumeBusy), self._locks.on_volume(entry.name, Deadline.after(0)):
            del self._held_before[entry.name]
            if self._registry.find(entry.name) is not entry or entry.holders != before or not entry.holders.live:
                return
            with suppress(errors.MountError):
                if self._supervisor.release(entry.name, Deadline.after(UNMOUNT_SECONDS)):
                    log.warning("nothing uses it, so what held it was given back while there was no service")
                    self._note_unmounted()
                    self._registry.drop_holders(entry)

    def _clear_left_over(self) -> None:
        """Remove the mountpoints of volumes that no longer exist. What can't be removed is tried and logged once."""
        left = self._supervisor.left_over()
        self._cleared &= left
        for name in left - self._cleared:
            with (
                suppress(errors.InvalidVolumeName, errors.VolumeBusy),
                self._locks.on_volume(volume_name(name), Deadline.after(0)),
            ):
                if not self._registry.is_taken(name):
                    self._clear(volume_name(name))

    def _clear(self, name: VolumeName) -> None:
        try:
            self._supervisor.clear(name, Deadline.after(UNMOUNT_SECONDS))
        except errors.MountError as error:
            log.warning("the mountpoint of %s, which is no volume any more, stays for now: %s", name, error)
        else:
            self._cleared.add(name)

    def _ensure_mounted_early(self, entry: Entry, attempted_at: float, deadline: Deadline) -> str:
        """Mount a volume as :meth:`_ensure_mounted` does; just after this host's start, wait for its server.

        Docker starts the containers that are to be started with it once, and not again if a Mount fails.

        Args:
            entry: The volume.
            attempted_at: When the call came; from then on a failure of others counts for it, and its duration is taken.
                For each further attempt it is when that one begins.
            deadline: When the caller gives up.
        """
        while True:
            try:
                return self._ensure_mounted(entry, attempted_at, deadline)
            except _NOT_UP_YET as error:
                if deadline.left() < SPARE_SECONDS + TRY_EVERY_SECONDS or not self._is_early(entry.volume):
                    raise
                log.warning(
                    "tried again in %.0f seconds, since this host has just started: %s", TRY_EVERY_SECONDS, error
                )
                entry.failed(error)
            time.sleep(TRY_EVERY_SECONDS)
            attempted_at = time.monotonic()

    def _is_early(self, volume: Volume) -> bool:
        """Tell whether this host has just started, with a volume that it had before."""
        up = self._up_seconds()
        age = (datetime.now(UTC) - volume.created_at).total_seconds()
        # negative where the clock is not set yet
        return up < EARLY_SECONDS and not 0 <= age <= up

    def _ensure_mounted(self, entry: Entry, attempted_at: float, deadline: Deadline) -> str:
        """Mount a volume unless it is mounted and its server answers; return the device of the mount."""
        name = entry.name
        if isinstance(entry.record, Unusable):
            raise entry.record.error
        device = self._supervisor.device(name)
        was_mounted = bool(device)
        if device and self._supervisor.answers(name, deadline.left(ANSWER_SECONDS)):
            return device
        volume, prepared = entry.volume, None
        login = self._recent_login(entry, is_mounted=was_mounted)
        if not login:
            # before a slot at the server is taken, since files on this host may take long to read
            prepared = self._prepared(volume)
            login = prepared.login if prepared else self._preflight.login(volume)
        entry.is_starting = not was_mounted
        try:
            # one that is mounted joins no connection any more: its relay makes one of its own
            if prepared and self._check(entry, prepared, attempted_at, deadline, unless_joinable=not was_mounted):
                self._start(entry, login, deadline)
            else:
                self._start_or_find_cause(entry, login, attempted_at, deadline)
        finally:
            entry.is_starting = False
        device = self._supervisor.device(name)
        if not device:
            raise errors.MountFailed(
                f"volume '{name}' was mounted, and its sshfs ended at once", "journalctl -t sshfs tells why; try again"
            )
        entry.answering, entry.left_until = True, 0.0
        if not was_mounted:  # else it was waited for a server that does not answer, which is no duration of a mount
            self.counters.mounted(time.monotonic() - attempted_at)
        return device

    def _recent_login(self, entry: Entry, *, is_mounted: bool) -> Login | None:
        """Return the login with which a recent preflight has passed; None if one is to be made."""
        login = entry.passed_login
        if is_mounted and self._supervisor.outage(entry.name):
            return None  # the relay will log in once more, and the last check was perhaps before the loss
        if login and any(each.agent for each in (login, *login.jumps)):
            # it may hang by now, and ssh would wait for it without limit
            return self._preflight.login(entry.volume)
        return login

    def _start_or_find_cause(self, entry: Entry, login: Login, attempted_at: float, deadline: Deadline) -> None:
        """Mount a volume without a preflight; if that fails, make the one that was left out, and mount once more.

        It finds the cause, or removes it: a host key that was forgotten is accepted anew.
        """
        try:
            self._start(entry, login, deadline)
        except errors.MountError:
            if deadline.left() < WORTH_CHECKING_SECONDS or not (prepared := self._prepared(entry.volume)):
                raise
            self._check(entry, prepared, attempted_at, deadline, unless_joinable=False)
            self._start(entry, prepared.login, deadline)

    def _prepared(self, volume: Volume) -> "Prepared | None":
        """Begin a preflight; return None if the volume wants none, or none can be made in the middle of an upgrade.

        Docker starts the containers that are to be started with it once, and it may be upgraded just then, too.
        """
        if volume.check is CheckAt.NEVER:
            return None
        try:
            return self._preflight.prepare(volume)
        except errors.BeingUpgraded as why:
            log.warning("mounted without a check: %s", why)
            return None

    def _check(
        self, entry: Entry, prepared: "Prepared", attempted_at: float, deadline: Deadline, *, unless_joinable: bool
    ) -> bool:
        """Make the rest of a preflight, unless a connection to join will do; return whether it was made."""
        volume, login = entry.volume, prepared.login
        if unless_joinable and self._can_join(volume, login):
            return False
        with self._logging_in(volume, login, attempted_at, deadline) as logged_in:
            if unless_joinable and self._can_join(volume, login):  # another volume has had it made meanwhile
                return False
            prepared.run(deadline, logged_in=logged_in)
        entry.passed(login, CHECK_HOLDS_SECONDS)
        return True

    def _start(self, entry: Entry, login: Login, deadline: Deadline) -> None:
        """Mount a volume; if that fails, the preflight that has passed before counts no longer."""
        try:
            self._start_patiently(entry.volume, login, deadline)
        except errors.MountError:
            entry.passed_until = 0.0
            raise

    def _start_patiently(self, volume: Volume, login: Login, deadline: Deadline) -> None:
        """Mount a volume; a server that is too busy to let it log in is asked once more."""
        try:
            self._start_once(volume, login, deadline)
        except errors.MountTurnedAway as error:
            if deadline.left() < AGAIN_SECONDS + WORTH_CHECKING_SECONDS:
                raise
            log.warning("tried once more: %s", error)
            time.sleep(AGAIN_SECONDS)
            self._start_once(volume, login, deadline)

    def _start_once(self, volume: Volume, login: Login, deadline: Deadline) -> None:
        """Mount a volume, with a slot of its server, or of those that join its connections."""
        slots = self._locks.joining if self._can_join(volume, login) else self._locks.at_server
        with slots(volume.remote.server, deadline):
            self._supervisor.start(volume, login, deadline)

    def _can_join(self, volume: Volume, login: Login) -> bool:
        return self._supervisor.connections.can_be_joined(volume, login)

    @contextmanager
    def _logging_in(
        self, volume: Volume, login: Login, attempted_at: float, deadline: Deadline
    ) -> Iterator[Callable[[], None]]:
        """Hold the slot of a login and one of its server, or raise the shared failure of a call that was before.

        Yields:
            The function that gives both back. Call it when the server has let the login in: later checks may wait for
            its disk.
        """
        server, key = volume.remote.server, admission(volume, login)

        def is_out_of_reach(error: errors.PluginError) -> bool:
            # only if the deadline has not cut the attempt short: then the others would fail like this one
            return (
                isinstance(error, errors.HostUnresolved | errors.HostUnreachable)
                and deadline.left() >= volume.connect_seconds
            )

        with ExitStack() as slots:
            slots.enter_context(self._locks.logging_in(key, deadline))
            slots.enter_context(self._locks.at_server(server, deadline))
            with (
                asking_for_port(volume),  # outside, since it is about this volume alone
                self._shared_failures.attempt(reachability(volume), attempted_at, is_out_of_reach),
                self._shared_failures.attempt(key, attempted_at, _is_refusal),
            ):
                yield slots.close

    def _require_release(self, name: VolumeName, deadline: Deadline) -> None:
        """Release a volume, whatever its holders. Raises VolumeInUse or UnmountFailed."""
        if self._supervisor.device(name) is not None:
            released = self._supervisor.release(name, deadline)
        else:  # somebody may have unmounted it by hand for all but those who use it
            released = self._supervisor.end_unless_kept(name, deadline)
        if not released:
            raise errors.VolumeInUse(name)

    def _release(self, entry: Entry, deadline: Deadline) -> None:
        """Release a volume that has no live holder, and drop its inherited holders if it was not in use."""
        if self._supervisor.device(entry.name) is not None:
            try:
                released = self._supervisor.release(entry.name, deadline)
            except errors.MountError as error:
                log.error("left mounted: %s", error, extra=Event.UNMOUNT_FAILED.fields)
                self.counters.failed("Unmount", error)
                entry.unmount_failed(error)
                released = False
            else:
                if released:
                    self._note_unmounted()
                else:
                    _note_left_mounted(entry)
                entry.unmount_settled()
            if not released:
                # our own look at a mount can't be killed while its server does not answer, and uses it
                entry.left_until = time.monotonic() + (0.0 if entry.answering is False else LEAVE_SECONDS)
                return
        self._registry.drop_holders(entry)

    def _note_unmounted(self) -> None:
        """Log and count that a volume was unmounted."""
        self.counters.unmounted()
        log.info("unmounted", extra=Event.UNMOUNTED.fields)

    def _state(self, entry: Entry, device: str | None) -> State:
        if entry.is_starting:
            device = None
        outage = self._supervisor.outage(entry.name) if device is not None else None
        condition = _condition(entry, device, is_lost=outage is not None)
        since = entry.since(condition)
        error, error_at = outage or (entry.last_error, entry.last_error_at)
        if condition is Condition.UNRESPONSIVE and not outage:
            error, error_at = f"its mount does not answer: {WAY_OUT.format(name=entry.name)}", since
        return State(
            record=entry.record,
            mountpoint=self._supervisor.mountpoint(entry.name) if device is not None else None,
            condition=condition,
            since=since,
            holders=entry.holders.count,
            unit=self._supervisor.unit(entry.name),
            last_error=error,
            last_error_at=error_at,
        )

    @contextmanager
    def _working_on(self, name: str, deadline: Deadline) -> Iterator[Entry]:
        """Hold an existing volume's lock, and note the error with which the work on it ends, or its success."""
        with self._locks.on_volume(self._registry.get(name).name, deadline):
            entry = self._registry.get(name)
            self._registry.look_again(entry)
            try:
                yield entry
            except errors.VolumeError:  # it can't be done now, which is no fault of the volume
                raise
            except errors.PluginError as error:
                entry.failed(error)
                raise
            entry.recovered()


def _condition(entry: Entry, device: str | None, *, is_lost: bool) -> Condition:
    """Return the condition of a volume.

    Args:
        entry: What is known of it.
        device: That of its mount; None if it is not mounted.
        is_lost: Whether it has no connection to its server.
    """
    if isinstance(entry.record, Unusable) or (device is None and isinstance(entry.record, Unresolved)):
        return Condition.UNUSABLE
    if device is None:
        return Condition.LOST if entry.holders.count else Condition.UNMOUNTED
    if is_lost or entry.answering is False:
        return Condition.UNRESPONSIVE
    return Condition.REMOUNTED if entry.holders.have_other_than(device) else Condition.MOUNTED


def _note_left_mounted(entry: Entry) -> None:
    """Log once that a volume stays mounted, however often its release is tried."""
    if not entry.left_until:
        log.warning(
            "left mounted: a container or a process on this host still uses it", extra=Event.LEFT_MOUNTED.fields
        )


def _require_answer(entry: Entry) -> None:
    """Raise UnmountFailed if a volume's server does not answer: what waits for it may be all that uses the mount."""
    if entry.answering is False and isinstance(entry.record, Volume):
        raise errors.UnmountFailed(
            f"volume '{entry.name}' could not be unmounted while its server, {entry.record.remote.server}, "
            "does not answer",
            f"try again when it is back, or unmount it with docker-volume-sshfs release --force {entry.name}",
        ) from None


def _is_refusal(error: errors.PluginError) -> bool:
    """Tell whether a failure ends all calls that wait for the same login: servers ban who is refused often."""
    return isinstance(error, errors.LoginRefused)


def _mount_id(text: str) -> MountID:
    if not text:
        raise errors.InvalidRequest("the request has no mount ID", "it needs one to be given back later")
    return MountID(text)
