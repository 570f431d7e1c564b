# SPDX-License-Identifier: MIT
"""The rules of the volume driver: what each verb may do, in which order, and what it leaves behind when it fails.

It does no I/O of its own but is handed a store, a ladder and a supervisor. Slow work on a volume happens under that
volume's own lock, bounded by the caller's deadline. What Get and List say comes from memory and the kernel's table of
mounts: Docker forgets a volume for ever when a Get fails (protocol notes, section 8), so neither waits for a lock that
a Mount can hold, for a server or for systemd.

State changes after the act that it records, except giving up a holder, which comes before the unmount.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from sshfs_plugin import context, errors, options
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.holders import Client, Holders
from sshfs_plugin.volume import Check, MountID, Volume, VolumeName, volume_name

log = logging.getLogger(__name__)

CONNECTS_PER_HOST = 8
"""sshd starts to drop connections at ten that have not logged in; eight at once never failed (sshfs facts, 7)."""

CHECK_HOLDS_SECONDS = 30.0
"""For how long a climbed ladder need not be climbed again for the same volume."""


UNMOUNT_SECONDS = 30.0
"""How long an unmount may take that no caller waits for."""


LEAVE_SECONDS = 300.0
"""How long to leave a mount alone that nobody holds but somebody uses, before asking again."""


class Volumes(Protocol):
    """Where volumes are recorded."""

    def load_all(self) -> dict[VolumeName, Volume]:
        """Return every volume on record."""

    def save(self, volume: Volume) -> None:
        """Have the volume on disk when this returns."""

    def remove(self, name: VolumeName) -> None:
        """Forget a volume."""


class HolderRecords(Protocol):
    """Where holders are recorded."""

    def load_all(self) -> dict[VolumeName, Holders]:
        """Return the holders of every volume that has any."""

    def save(self, name: VolumeName, holders: Holders) -> None:
        """Record a volume's confirmed holders."""


class Preflight(Protocol):
    """What asks a server whether it can serve a volume."""

    def climb(self, volume: Volume, deadline: Deadline) -> None:
        """Pass if it can; raise a PreflightError or CredentialsError if not."""

    def forget(self, name: VolumeName) -> None:
        """Drop what is remembered for a volume alone."""


class Supervisor(Protocol):
    """What keeps the process of each mounted volume, out of reach of this one's end."""

    def mountpoint(self, name: VolumeName) -> Path:
        """Return where a volume is mounted when it is."""

    def mounted(self) -> frozenset[str]:
        """Return the names of the volumes that the kernel shows as mounted; never waits."""

    def answers(self, name: VolumeName, seconds: float) -> bool:
        """Tell whether a live mount answers."""

    def start(self, name: VolumeName, deadline: Deadline) -> None:
        """Mount a volume; on return it answers. Raises MountError and then leaves nothing behind."""

    def release(self, name: VolumeName, deadline: Deadline) -> bool:
        """Unmount a volume unless a container or process uses it; tell whether it is gone now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sent a request.

    Attributes:
        client: Docker or Podman.
        process: The process at the other end of the socket; 0 if unknown.
        has_gone: Tells whether nobody is there any more to read the reply.
    """

    client: Client
    process: int
    has_gone: Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What can be said about a volume at once.

    Attributes:
        volume: The volume.
        mountpoint: Where it is mounted, None while it is not.
        holders: How many mount IDs hold it.
        answering: Whether the mount answered when last asked; None while it is not mounted or was not asked.
        last_error: The last failure of a verb on it, empty after a success.
    """

    volume: Volume
    mountpoint: Path | None
    holders: int
    answering: bool | None
    last_error: str


@dataclass(slots=True)
class _Entry:
    """What is remembered of one volume; mounts change under its lock, holders only go up under it."""

    volume: Volume
    holders: Holders = field(default_factory=Holders)
    recorded: Holders = field(default_factory=Holders)
    passed_until: float = 0.0
    left_until: float = 0.0
    answering: bool | None = None
    last_error: str = ""


class Driver:
    """The nine verbs of a Docker volume plugin, without HTTP."""

    def __init__(
        self,
        *,
        volumes: Volumes,
        holder_records: HolderRecords,
        preflight: Preflight,
        supervisor: Supervisor,
    ) -> None:
        self._volumes = volumes
        self._holder_records = holder_records
        self._preflight = preflight
        self._supervisor = supervisor
        self._entries: dict[VolumeName, _Entry] = {}
        self._docker_process = 0
        self._registry = threading.Lock()
        self._counting = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._turns: dict[str, threading.BoundedSemaphore] = {}

    def load(self) -> None:
        """Take up where the last process stopped: records are read, live mounts are found by asking the kernel.

        Raises:
            StateError: The records can't be read.
        """
        records = self._holder_records.load_all()
        for name, volume in self._volumes.load_all().items():
            holders = records.get(name, Holders())
            self._entries[name] = _Entry(volume=volume, holders=holders, recorded=holders)
        for stray in self._supervisor.mounted() - set(self._entries):
            log.warning("%s is mounted but there is no record of such a volume: it is left alone", stray)

    def activate(self, caller: Caller) -> None:
        """Note a client's first contact: a new Docker process has lost count of what the old one held."""
        if caller.client is not Client.DOCKER or caller.process == self._docker_process:
            return
        self._docker_process = caller.process
        for _, entry in self._snapshot():
            self._count(entry, Holders.inherited_from_docker)

    def create(self, name: str, opts: Mapping[str, str], deadline: Deadline) -> None:
        """Make a volume, once its server was found able to serve it.

        Raises:
            RequestError: The name or an option is wrong.
            VolumeExists: There is one with other options.
            VolumeInUse: A volume of that name, whose record is lost, is mounted and used.
            PreflightError, CredentialsError: The ladder broke.
            StateError: It could not be recorded.
        """
        volume = options.parse(volume_name(name), opts, datetime.now(UTC))
        with self._locked(volume.name, deadline):
            if existing := self._entries.get(volume.name):
                if differing := options.differences(existing.volume, volume):
                    raise errors.VolumeExists(volume.name, differing)
                return
            self._unmount_unused(volume.name, deadline)
            entry = _Entry(volume=volume)
            if volume.check is Check.CREATE:
                with self._turn_at(volume.remote.host, deadline):
                    self._climb(entry, deadline)
            self._volumes.save(volume)
            with self._registry:
                self._entries[volume.name] = entry
        log.info("created: %s", volume.remote.source)

    def mount(self, name: str, mount_id: str, caller: Caller, deadline: Deadline) -> Path:
        """Mount a volume, or find it mounted, and hold it for an ID.

        A client that has gone meanwhile would never give its hold back, so it gets none. That is decided under the
        volume's lock: undone later, it could take the mount from the next caller with the same ID.

        Returns:
            The mountpoint, at which a live mount answers.

        Raises:
            VolumeNotFound: There is none of that name.
            InvalidRequest: The ID is empty.
            PreflightError, CredentialsError, MountError: It can't be mounted; nothing is left behind.
        """
        holder = _mount_id(mount_id)
        with self._working_on(name, deadline) as entry:
            self._ensure_mounted(entry, deadline)
            if not caller.has_gone():
                self._count(entry, lambda holders: holders.mounted(holder, caller.client), record=False)
                log.info("mounted")
            else:
                log.warning("the client has gone and holds nothing")
                if not entry.holders.live:
                    self._let_go(entry, Deadline.after(UNMOUNT_SECONDS))
        return self._supervisor.mountpoint(entry.volume.name)

    def confirm(self, name: str, mount_id: str) -> None:
        """Record a holder, now that the client has its reply."""
        if entry := self._entries.get(VolumeName(name)):
            self._count(entry, lambda holders: holders.confirmed(MountID(mount_id)))

    def unmount(self, name: str, mount_id: str, deadline: Deadline) -> None:
        """Give up an ID's hold, and unmount when nobody holds the volume any more.

        An ID that nobody knows is a success, and so is an unmount that could not be done: the count is down, and
        Docker would only keep the ID for a later, second Mount (protocol notes, D13). So the hold is given up before
        anything is waited for.

        Raises:
            VolumeNotFound: There is no volume of that name.
            InvalidRequest: The ID is empty.
        """
        holder = _mount_id(mount_id)
        if known := self._entries.get(VolumeName(name)):
            self._count(known, lambda holders: holders.unmounted(holder))
        try:
            with self._working_on(name, deadline) as entry:
                if not entry.holders.live:
                    self._let_go(entry, deadline)
        except errors.VolumeBusy as busy:
            log.warning("left mounted for now: %s", busy)

    def remove(self, name: str, deadline: Deadline) -> None:
        """Forget a volume; what is on the server stays as it is.

        Docker has made sure that no container refers to it, so IDs that are left over are stale; only real use counts.

        Raises:
            VolumeNotFound: There is none of that name.
            VolumeInUse: A container or a process still uses it.
            UnmountFailed, StateError: It could not be unmounted or forgotten.
        """
        with self._working_on(name, deadline) as entry:
            volume = entry.volume.name
            self._unmount_unused(volume, deadline)
            self._count(entry, lambda _: Holders())
            self._preflight.forget(volume)
            self._volumes.remove(volume)
            with self._registry:
                del self._entries[volume]
        log.info("removed; the files on the server stay as they are")

    def get(self, name: str) -> State:
        """Return what is known of a volume, at once.

        Raises:
            VolumeNotFound: There is none of that name.
        """
        entry = self._entries.get(VolumeName(name))
        if entry is None:
            raise errors.VolumeNotFound(name)
        return self._state(entry, self._supervisor.mounted())

    def list_volumes(self) -> list[State]:
        """Return what is known of all volumes, by name, at once."""
        mounted = self._supervisor.mounted()
        return [self._state(entry, mounted) for _, entry in sorted(self._snapshot())]

    def look_after(self, seconds: float) -> None:
        """Ask every mount whether it answers, and let go of those that nobody uses; for a thread of its own.

        Args:
            seconds: How long one mount may take to answer.
        """
        mounted = self._supervisor.mounted()
        for name, entry in self._snapshot():
            with context.about(VOLUME=name):
                if name in mounted:
                    self._look_at(entry, seconds)
                else:
                    entry.answering = None

    def _look_at(self, entry: _Entry, seconds: float) -> None:
        answering = self._supervisor.answers(entry.volume.name, seconds)
        if entry.answering not in (None, answering):
            log.warning("the mount %s", "answers again" if answering else "does not answer")
        entry.answering = answering
        if entry.holders.live or time.monotonic() < entry.left_until:
            return
        lock = self._lock(entry.volume.name)
        if lock.acquire(blocking=False):
            try:
                # by now the name may belong to a new volume, whose mount this entry knows nothing of
                if self._entries.get(entry.volume.name) is entry and not entry.holders.live:
                    self._let_go(entry, Deadline.after(UNMOUNT_SECONDS))
            finally:
                lock.release()

    def _ensure_mounted(self, entry: _Entry, deadline: Deadline) -> None:
        name = entry.volume.name
        if name in self._supervisor.mounted() and self._supervisor.answers(name, deadline.left(2)):
            return
        with self._turn_at(entry.volume.remote.host, deadline):
            if entry.volume.check is not Check.NEVER and time.monotonic() > entry.passed_until:
                self._climb(entry, deadline)
            self._supervisor.start(name, deadline)
        entry.answering = True

    def _climb(self, entry: _Entry, deadline: Deadline) -> None:
        self._preflight.climb(entry.volume, deadline)
        entry.passed_until = time.monotonic() + CHECK_HOLDS_SECONDS

    def _unmount_unused(self, name: VolumeName, deadline: Deadline) -> None:
        if name in self._supervisor.mounted() and not self._supervisor.release(name, deadline):
            raise errors.VolumeInUse(name)

    def _let_go(self, entry: _Entry, deadline: Deadline) -> None:
        """Unmount a volume that has no live holder, and drop the inherited ones, if it is true that nobody uses it."""
        name = entry.volume.name
        if name in self._supervisor.mounted() and not self._released(name, deadline):
            entry.left_until = time.monotonic() + LEAVE_SECONDS
            return
        self._count(entry, lambda _: Holders())

    def _released(self, name: VolumeName, deadline: Deadline) -> bool:
        try:
            released = self._supervisor.release(name, deadline)
        except errors.MountError as error:
            log.error("left mounted: %s", error)
            return False
        if released:
            log.info("unmounted")
        else:
            log.warning("left mounted: a container or a process on this host still uses it")
        return released

    def _count(self, entry: _Entry, rule: Callable[[Holders], Holders], *, record: bool = True) -> None:
        """Apply a counting rule, under a lock that no slow work holds: Activate must be answered at once.

        A count that can't be recorded fails no verb: the release check protects whoever is forgotten by a crash.
        """
        with self._counting:
            entry.holders = rule(entry.holders)
            recorded = entry.holders.recorded()
            if not record or recorded == entry.recorded:
                return
            try:
                self._holder_records.save(entry.volume.name, recorded)
            except errors.StateError as error:
                log.error("the holders are not on record: %s", error)
            else:
                entry.recorded = recorded

    def _state(self, entry: _Entry, mounted: frozenset[str]) -> State:
        name = entry.volume.name
        return State(
            volume=entry.volume,
            mountpoint=self._supervisor.mountpoint(name) if name in mounted else None,
            holders=entry.holders.count,
            answering=entry.answering if name in mounted else None,
            last_error=entry.last_error,
        )

    def _snapshot(self) -> list[tuple[VolumeName, _Entry]]:
        with self._registry:
            return list(self._entries.items())

    @contextmanager
    def _working_on(self, name: str, deadline: Deadline) -> Iterator[_Entry]:
        """Hold an existing volume's lock, and remember how the work on it ended."""
        if VolumeName(name) not in self._entries:
            raise errors.VolumeNotFound(name)
        with self._locked(name, deadline):
            entry = self._entries.get(VolumeName(name))
            if entry is None:
                raise errors.VolumeNotFound(name)
            try:
                yield entry
            except errors.PluginError as error:
                entry.last_error = str(error)
                raise
            entry.last_error = ""

    def _lock(self, name: str) -> threading.Lock:
        with self._registry:
            return self._locks.setdefault(name, threading.Lock())

    @contextmanager
    def _locked(self, name: str, deadline: Deadline) -> Iterator[None]:
        lock = self._lock(name)
        with _acquired(lock.acquire, lock.release, deadline, errors.VolumeBusy(name)):
            yield

    @contextmanager
    def _turn_at(self, host: str, deadline: Deadline) -> Iterator[None]:
        """Wait until few enough volumes are connecting to a server."""
        with self._registry:
            turns = self._turns.setdefault(host, threading.BoundedSemaphore(CONNECTS_PER_HOST))
        with _acquired(turns.acquire, turns.release, deadline, errors.ServerBusy(host)):
            yield


def _mount_id(text: str) -> MountID:
    if not text:
        raise errors.InvalidRequest("the request has no mount ID", "it needs one to be given back later")
    return MountID(text)


@contextmanager
def _acquired(
    acquire: Callable[..., bool], release: Callable[[], None], deadline: Deadline, busy: errors.VolumeError
) -> Iterator[None]:
    if not acquire(timeout=deadline.left()):
        raise busy
    try:
        yield
    finally:
        release()
