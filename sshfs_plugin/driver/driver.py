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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sshfs_plugin import errors, options
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.driver.counters import Counters
from sshfs_plugin.driver.locks import Locks
from sshfs_plugin.driver.mounting import Mounter
from sshfs_plugin.driver.registry import Entry, Registry
from sshfs_plugin.driver.releasing import UNMOUNT_SECONDS, Releaser
from sshfs_plugin.driver.states import States
from sshfs_plugin.driver.upkeep import Upkeep
from sshfs_plugin.driver.values import Caller, State
from sshfs_plugin.events import Event
from sshfs_plugin.holders import Client
from sshfs_plugin.host import uptime
from sshfs_plugin.mounts.supervisor import Supervisor
from sshfs_plugin.preflight.deferred import DeferredPreflight
from sshfs_plugin.state.records import HolderRecords, VolumeRecords
from sshfs_plugin.volume import MountID, Volume, volume_name

log = logging.getLogger(__name__)


class Driver:
    """The nine verbs of a Docker volume plugin, without HTTP.

    Attributes:
        counters: What is counted meanwhile.
        states: The states of the volumes, for those who ask for more than Docker does.
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
        self._registry = registry = Registry(volumes, holder_records, lives)
        self._remotes = volumes.remotes
        self._preflight = preflight
        self._supervisor = supervisor
        self._locks = locks = Locks()
        self.states = states = States(registry, supervisor)
        self._releaser = releaser = Releaser(registry, supervisor, self.counters)
        self._mounter = Mounter(
            preflight=preflight, supervisor=supervisor, locks=locks, counters=self.counters, up_seconds=up_seconds
        )
        self._upkeep = Upkeep(
            registry=registry,
            supervisor=supervisor,
            preflight=preflight,
            locks=locks,
            states=states,
            releaser=releaser,
        )

    def load(self) -> None:
        """Take over from the last process: read the records, and ask the kernel for live mounts.

        Raises:
            StateError: The records can't be read.
        """
        self._supervisor.settle()
        self._registry.load()
        self._upkeep.begin()
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
            volume = options.volume_of(named, given, datetime.now(UTC), self._remotes)
            self._releaser.require(named, deadline)
            entry = Entry(record=volume)
            self._mounter.check_new(entry, asked, deadline)
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
            device = self._mounter.mount(entry, asked, deadline)
            if caller.has_gone():
                log.warning("the client has gone and holds nothing")
                if not entry.is_held:
                    self._releaser.release(entry, Deadline.after(UNMOUNT_SECONDS))
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
                if not entry.is_held:
                    self._releaser.release(entry, deadline)
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
                self._releaser.require(entry.name, deadline)
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
        return self.states.get(name)

    def list_volumes(self) -> list[State]:
        """Return what is known of all volumes, by name, at once."""
        return self.states.all()

    def look_after(self, seconds: float) -> None:
        """Look after all volumes, which is slow, so it is for a thread of its own.

        Args:
            seconds: How long one mount may take to answer.
        """
        self._upkeep.look_after(seconds)

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


def _require_answer(entry: Entry) -> None:
    """Raise UnmountFailed if a volume's server does not answer: what waits for it may be all that uses the mount."""
    if entry.answering is False and isinstance(entry.record, Volume):
        raise errors.UnmountFailed(
            f"volume '{entry.name}' could not be unmounted while its server, {entry.record.remote.server}, "
            "does not answer",
            f"try again when it is back, or unmount it with docker-volume-sshfs release --force {entry.name}",
        ) from None


def _mount_id(text: str) -> MountID:
    if not text:
        raise errors.InvalidRequest("the request has no mount ID", "it needs one to be given back later")
    return MountID(text)
