# SPDX-License-Identifier: MIT
"""What this process knows of each volume, kept in step with the records on disk.

To read it never waits for slow work: its two locks are held for moments only, so that Get, List and Activate answer at
once.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sshfs_plugin import context, errors
from sshfs_plugin.driver.values import Condition
from sshfs_plugin.events import Event
from sshfs_plugin.holders import Holders
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.state.records import HolderRecords, VolumeRecords
from sshfs_plugin.volume import Record, Unresolved, Volume, VolumeName, known, usable

log = logging.getLogger(__name__)

DOUBT_SECONDS = 300.0
"""For how long holders that an earlier Docker, or an earlier process of ours, may have left are trusted even if nothing
uses the volume. Docker starts a container far sooner after its Mount.
"""


@dataclass(slots=True)
class Entry:
    """What is remembered of one volume.

    Attributes:
        record: The volume, or what is wrong with its record or its remote.
        holders: Its holders.
        recorded: The holders that are on disk.
        login: The login with which its preflight has passed last.
        passed_until: Until when, on the monotonic clock, the preflight need not be made again.
        left_until: Until when, on the monotonic clock, no release is tried, since the mount was in use.
        trusted_until: Until when, on the monotonic clock, its inherited holders count like others.
        is_starting: Whether it is being mounted; its sshfs mounts before the server has answered.
        answering: Whether its mount answered when last asked; None if it was not asked.
        last_error: The last failure of a verb on it, empty after a success and when its mount answers; or that of its
            unmount, until it is unmounted, or found in use.
        last_error_at: When that was.
    """

    record: Record
    holders: Holders = field(default_factory=Holders)
    recorded: Holders = field(default_factory=Holders)
    login: Login | None = None
    passed_until: float = 0.0
    left_until: float = 0.0
    trusted_until: float = 0.0
    is_starting: bool = False
    answering: bool | None = None
    last_error: str = ""
    last_error_at: datetime | None = None
    _seen: tuple[Condition, datetime] | None = None
    _unmount_has_failed: bool = False

    @property
    def name(self) -> VolumeName:
        """The name of the volume."""
        return self.record.name

    @property
    def is_held(self) -> bool:
        """Whether it must not be released yet, used or not."""
        return self.holders.live or bool(self.holders.count and time.monotonic() < self.trusted_until)

    @property
    def known(self) -> Volume | Unresolved:
        """What is on record of it.

        Raises:
            RecordUnusable: Its record can't be read or understood.
        """
        return known(self.record)

    @property
    def volume(self) -> Volume:
        """The volume itself.

        Raises:
            RecordUnusable: Its record can't be read or understood.
            RemoteUnusable: The file of its remote can't be used.
        """
        return usable(self.record)

    def passed(self, login: Login, seconds: float) -> None:
        """Note that the preflight has passed with a login, which counts for so many seconds."""
        self.login, self.passed_until = login.without_contents, time.monotonic() + seconds

    @property
    def passed_login(self) -> Login | None:
        """The login with which the preflight has passed; None once that must be made again."""
        return self.login if time.monotonic() <= self.passed_until else None

    def failed(self, error: errors.PluginError) -> None:
        """Note the failure of a verb."""
        self.last_error, self.last_error_at = str(error), datetime.now(UTC)
        self._unmount_has_failed = False

    def recovered(self) -> None:
        """Forget the last failure, unless it is that of a record or a remote that is still unusable.

        The failure of an unmount is kept as well, as long as nobody holds the volume: that its mount answers is no
        success then.
        """
        if isinstance(self.record, Volume) and (self.holders.live or not self._unmount_has_failed):
            self.last_error, self.last_error_at = "", None

    def unmount_failed(self, error: errors.PluginError) -> None:
        """Note that it could not be unmounted, which hides no failure of a record or a remote."""
        if isinstance(self.record, Volume):
            self.failed(error)
            self._unmount_has_failed = True

    def unmount_settled(self) -> None:
        """Forget the failure of an unmount: it is not mounted any more, or was found in use."""
        if self._unmount_has_failed:
            self._unmount_has_failed = False
            self.recovered()

    def since(self, condition: Condition) -> datetime:
        """Return since when the volume has been in its present condition, as far as this process has seen."""
        if self._seen is None or self._seen[0] is not condition:
            self._seen = condition, datetime.now(UTC)
        return self._seen[1]


class Registry:
    """The volumes of this host by name.

    Args:
        volumes: The records of volumes.
        holder_records: The records of their holders.
        lives: Tells whether the process of an identity lives.
    """

    def __init__(self, volumes: VolumeRecords, holder_records: HolderRecords, lives: Callable[[str], bool]) -> None:
        self._volumes = volumes
        self._holder_records = holder_records
        self._lives = lives
        self._entries: dict[VolumeName, Entry] = {}
        self._docker_process = ""
        self._remotes: dict[str, tuple[int, int]] = {}
        self._changing = threading.Lock()
        self._counting = threading.Lock()

    def load(self) -> None:
        """Read the records.

        Raises:
            StateError: They can't be read.
        """
        records = self._holder_records.load_all()
        self._docker_process = self._holder_records.docker_process()
        self._remotes = self._volumes.remotes.stamps()
        for name, record in self._volumes.load_all().items():
            holders = records.get(name, Holders())
            self._entries[name] = entry = Entry(record=record, holders=holders, recorded=holders)
            if not self._docker_process:  # an earlier process of ours may have had reason to trust them
                entry.trusted_until = time.monotonic() + DOUBT_SECONDS
            if not isinstance(record, Volume):
                _unusable(entry, record.error)

    def __len__(self) -> int:
        return len(self._entries)

    def look_again(self, entry: Entry) -> None:
        """Read a record once more that is unusable or names a remote: an administrator may have edited the files."""
        before = entry.record
        if isinstance(before, Volume) and not (before.remote_name or before.jump):
            return
        record = self._volumes.read(entry.name)
        if record == before:
            return
        entry.record, entry.passed_until = record, 0.0
        if not isinstance(record, Volume):
            _unusable(entry, record.error)
        elif isinstance(before, Volume):
            log.info("the file of its remote or of a jump host was edited")
        else:
            entry.recovered()
            log.info("the record can be used again", extra=Event.USABLE_AGAIN.fields)

    def were_remotes_edited(self) -> bool:
        """Tell whether any file of a remote has been edited since this was asked last, or since the start."""
        before, self._remotes = self._remotes, self._volumes.remotes.stamps()
        return self._remotes != before

    def find(self, name: str) -> Entry | None:
        """Return the entry of a volume, or None."""
        return self._entries.get(VolumeName(name))

    def is_taken(self, name: str) -> bool:
        """Tell whether there is a volume of a name, be it one that another process has made and recorded."""
        return bool(self.find(name)) or name in self._volumes.names()

    def get(self, name: str) -> Entry:
        """Return the entry of a volume.

        Raises:
            VolumeNotFound: There is none of that name.
        """
        if entry := self.find(name):
            return entry
        raise errors.VolumeNotFound(name)

    def all(self) -> list[Entry]:
        """Return all entries, by name."""
        with self._changing:
            return [entry for _, entry in sorted(self._entries.items())]

    def add(self, entry: Entry) -> None:
        """Add a volume, on disk first.

        Raises:
            StateError: It could not be recorded, and is not added.
        """
        self._volumes.save(entry.volume)
        with self._changing:
            self._entries[entry.name] = entry

    def remove(self, entry: Entry) -> None:
        """Forget a volume and its holders, on disk first.

        Raises:
            StateError: Its record could not be removed, and it stays.
        """
        self.drop_holders(entry)
        self._volumes.remove(entry.name)
        with self._changing:
            del self._entries[entry.name]

    def apply(self, entry: Entry, rule: Callable[[Holders], Holders], *, record: bool = True) -> None:
        """Apply a counting rule to a volume's holders, and record them unless ``record`` is false.

        Holders that can't be recorded fail no verb: after a crash a release still leaves a mount that is in use.
        """
        with self._counting:
            entry.holders = rule(entry.holders)
            recorded = entry.holders.recorded()
            if not record or recorded == entry.recorded:
                return
            try:
                self._holder_records.save(entry.name, recorded)
            except errors.StateError as error:
                log.error("the holders are not on record: %s", error)
            else:
                entry.recorded = recorded

    def drop_holders(self, entry: Entry) -> None:
        """Let nobody hold a volume any more, on disk as well."""
        self.apply(entry, lambda _: Holders())

    def told(self) -> dict[VolumeName, Condition]:
        """Return the conditions of volumes that this process, or an earlier one, has recorded as logged."""
        conditions = list(Condition)
        told = self._holder_records.told().items()
        return {VolumeName(name): Condition(word) for name, word in told if word in conditions}

    def record_told(self, conditions: Mapping[VolumeName, Condition]) -> None:
        """Record the conditions of volumes that were logged, so that no later process logs them again."""
        try:
            self._holder_records.save_told({name: condition.value for name, condition in conditions.items()})
        except errors.StateError as error:
            log.error("what was logged of volumes is not on record: %s", error)

    def met_docker(self, process: str) -> None:
        """Mark Docker's holders as inherited and record the caller as Docker, unless the one on record still lives.

        Whoever calls while it does, such as an administrator with curl, is no new Docker. A caller that is unknown, as
        all are over TCP, may be the old Docker, which activates each name of the plugin, and may just have mounted
        something for a container that is about to begin.

        Args:
            process: The identity of the process that calls, empty if unknown.
        """
        if self._lives(self._docker_process):
            return
        for entry in self.all():
            entry.trusted_until = 0.0 if process else time.monotonic() + DOUBT_SECONDS
            self.apply(entry, Holders.inherited_from_docker)
        self._docker_process = process
        try:
            self._holder_records.save_docker_process(process)
        except errors.StateError as error:
            log.error("which process Docker is, is not on record: %s", error)


def _unusable(entry: Entry, error: errors.PluginError) -> None:
    """Note and log what is wrong with a volume's record or remote."""
    entry.failed(error)
    with context.about(VOLUME=entry.name):
        log.error("%s", error, extra=Event.UNUSABLE.fields)
