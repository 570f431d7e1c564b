# SPDX-License-Identifier: MIT
"""What is done about the volumes when nobody calls: mounts are looked at, and what is held by nobody is unmounted."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

from sshfs_plugin import context, errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.driver.locks import Locks
from sshfs_plugin.driver.registry import DOUBT_SECONDS, Entry, Registry
from sshfs_plugin.driver.releasing import UNMOUNT_SECONDS, Releaser
from sshfs_plugin.driver.states import States
from sshfs_plugin.driver.values import Condition, State
from sshfs_plugin.events import Event
from sshfs_plugin.holders import Holders
from sshfs_plugin.mounts.supervisor import Supervisor
from sshfs_plugin.preflight.deferred import DeferredPreflight
from sshfs_plugin.volume import Volume, VolumeName, volume_name

log = logging.getLogger(__name__)

_NEWS: Mapping[Condition, tuple[Event, str]] = {
    Condition.UNRESPONSIVE: (Event.UNRESPONSIVE, "the mount does not answer"),
    Condition.REMOUNTED: (Event.REMOUNTED, "mounted anew: containers that had it before have lost it"),
    Condition.LOST: (Event.LOST, "not mounted any more, although containers hold it"),
}
"""What is said when a volume comes into a condition for which no call is to blame."""


class Upkeep:
    """Looks after the volumes, in rounds.

    Args:
        registry: The volumes.
        supervisor: Knows their mounts.
        preflight: Reads their logins.
        locks: Those of volumes.
        states: Tells their states.
        releaser: Unmounts them.
    """

    def __init__(  # noqa: PLR0913 (each of the driver's parts has to do with it)
        self,
        *,
        registry: Registry,
        supervisor: Supervisor,
        preflight: DeferredPreflight,
        locks: Locks,
        states: States,
        releaser: Releaser,
    ) -> None:
        self._registry, self._supervisor, self._preflight = registry, supervisor, preflight
        self._locks, self._states, self._releaser = locks, states, releaser
        self._cleared: set[str] = set()
        self._outdated: set[VolumeName] = set()
        self._told: dict[VolumeName, Condition] = {}
        self._held_before: dict[VolumeName, Holders] = {}
        self._doubtful_from = time.monotonic() + DOUBT_SECONDS

    def begin(self) -> None:
        """Note who holds the volumes before this process does anything, and what was logged of them."""
        self._told = self._registry.told()
        self._held_before = {entry.name: entry.holders for entry in self._registry.all() if entry.holders.are_docker_s}

    def look_after(self, seconds: float) -> None:
        """Ask every mount whether it answers, release those without a holder, and read unusable records again.

        Volumes of remotes are read again as well if the file of any remote was edited, and logs that have become too
        long are shortened.

        It is slow, so it runs in a thread of its own.

        Args:
            seconds: How long one mount may take to answer.
        """
        self._supervisor.shorten_logs()  # first, as a round may be long
        edited, mounted = self._registry.were_remotes_edited(), self._supervisor.mounted()
        entries = self._registry.all()
        names = {entry.name for entry in entries}
        self._outdated = names if edited else self._outdated & names  # what is busy now is read again in a later round
        for entry in entries:
            with context.about(VOLUME=entry.name):
                try:
                    if entry.name in self._outdated or not isinstance(entry.record, Volume):
                        self._read_again(entry)
                    self._look_after(entry, seconds, is_mounted=entry.name in mounted)
                except Exception:  # go on with the other volumes
                    log.exception("looking after the volume failed")
        self._tell(self._states.all())  # which also notes since when each volume is in its condition
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
        if _news(before) != _news(self._told):
            self._registry.record_told(_news(self._told))

    def _look_after(self, entry: Entry, seconds: float, *, is_mounted: bool) -> None:
        if is_mounted:
            self._look_at(entry, seconds)
            self._provide(entry)
            self._release_if_unheld(entry)
            if entry.answering:
                self._release_if_forgotten(entry)
        else:
            entry.answering = None
            entry.unmount_settled()
            if entry.holders.count:
                self._release_if_unheld(entry)
                self._release_if_forgotten(entry)

    def _read_again(self, entry: Entry) -> None:
        with self._unless_busy(entry) as is_idle:
            if is_idle:
                self._registry.look_again(entry)
                self._outdated.discard(entry.name)

    def _provide(self, entry: Entry) -> None:
        """Let the unit of a volume that version 1.1 has mounted find what it reads, should it be started again."""
        if self._supervisor.is_provided(entry.name):
            return
        # as long as it can't be read there is nothing to provide
        with suppress(errors.PluginError), self._unless_busy(entry) as is_idle:
            if is_idle and self._supervisor.device(entry.name) is not None:
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
        if entry.is_held or time.monotonic() < entry.left_until:
            return
        with self._unless_busy(entry) as is_idle:
            if is_idle and not entry.is_held:
                self._releaser.release(entry, Deadline.after(UNMOUNT_SECONDS))

    def _release_if_forgotten(self, entry: Entry) -> None:
        """Release a volume, once, if its holders are those of before this process and nothing uses it.

        An Unmount that comes when no service can take it is lost: Docker does not try again with what is in it
        (docs/facts.md), and removes the container.
        """
        before = self._held_before.get(entry.name)
        if before is None or time.monotonic() < self._doubtful_from:
            return
        with self._unless_busy(entry) as is_idle:
            if not is_idle:
                return
            del self._held_before[entry.name]
            if entry.holders == before and entry.holders.live:
                self._releaser.release_forgotten(entry, Deadline.after(UNMOUNT_SECONDS))

    @contextmanager
    def _unless_busy(self, entry: Entry) -> Iterator[bool]:
        """Hold a volume's lock, if nobody else does.

        Yields:
            Whether that is so, and it is a volume still. By now its name may be that of a new one, which has an entry
            and a mount of its own.
        """
        with ExitStack() as lock:
            try:
                lock.enter_context(self._locks.on_volume(entry.name, Deadline.after(0)))
            except errors.VolumeBusy:
                yield False
            else:
                yield self._registry.find(entry.name) is entry

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


def _news(conditions: Mapping[VolumeName, Condition]) -> dict[VolumeName, Condition]:
    """Return those conditions that are logged."""
    return {name: condition for name, condition in conditions.items() if condition in _NEWS}
