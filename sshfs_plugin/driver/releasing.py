# SPDX-License-Identifier: MIT
"""Unmounting volumes that nobody holds, and leaving alone what is in use."""

import logging
import time
from contextlib import suppress

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.driver.counters import Counters
from sshfs_plugin.driver.registry import Entry, Registry
from sshfs_plugin.events import Event
from sshfs_plugin.mounts.supervisor import Supervisor
from sshfs_plugin.volume import VolumeName

log = logging.getLogger(__name__)

UNMOUNT_SECONDS = 30.0
"""How long an unmount may take if no client waits for it."""

LEAVE_SECONDS = 300.0
"""How long to leave a mount alone that has no holder but is in use, before its release is tried again."""


class Releaser:
    """Unmounts volumes, each under its lock, which the caller holds.

    Args:
        registry: Has the holders of each.
        supervisor: Unmounts them.
        counters: Are told of it.
    """

    def __init__(self, registry: Registry, supervisor: Supervisor, counters: Counters) -> None:
        self._registry, self._supervisor, self._counters = registry, supervisor, counters

    def require(self, name: VolumeName, deadline: Deadline) -> None:
        """Release a volume, whatever its holders. Raises VolumeInUse or UnmountFailed."""
        if self._supervisor.device(name) is not None:
            released = self._supervisor.release(name, deadline)
        else:  # somebody may have unmounted it by hand for all but those who use it
            released = self._supervisor.end_unless_kept(name, deadline)
        if not released:
            raise errors.VolumeInUse(name)

    def release(self, entry: Entry, deadline: Deadline) -> None:
        """Release a volume that has no live holder, and drop its inherited holders if it was not in use."""
        if self._supervisor.device(entry.name) is not None:
            try:
                released = self._supervisor.release(entry.name, deadline)
            except errors.MountError as error:
                log.error("left mounted: %s", error, extra=Event.UNMOUNT_FAILED.fields)
                self._counters.failed("Unmount", error)
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
        elif not self._is_kept(entry.name):  # its sshfs has ended by itself, and the session with it
            self._supervisor.connections.leave(entry.name)
        self._registry.drop_holders(entry)

    def release_forgotten(self, entry: Entry, deadline: Deadline) -> None:
        """Release a volume that has holders, unless something uses it; then they were not given back for want of us."""
        if self._supervisor.device(entry.name) is None:
            devices = {holder.device for holder in entry.holders.by_id.values()}
            # else it is lost to containers that run, or its process goes on for them
            if all(map(self._supervisor.is_mounted_nowhere, devices)) and not self._is_kept(entry.name):
                log.warning("it is mounted nowhere, so what held it was given back while there was no service")
                self._supervisor.connections.leave(entry.name)
                self._registry.drop_holders(entry)
            return
        with suppress(errors.MountError):
            if self._supervisor.release(entry.name, deadline):
                log.warning("nothing uses it, so what held it was given back while there was no service")
                self._note_unmounted()
                self._registry.drop_holders(entry)

    def _is_kept(self, name: VolumeName) -> bool:
        """Tell whether a process of a volume that is not mounted may go on."""
        try:
            return self._supervisor.is_kept(name)
        except errors.ProgramError:
            return True

    def _note_unmounted(self) -> None:
        """Log and count that a volume was unmounted."""
        self._counters.unmounted()
        log.info("unmounted", extra=Event.UNMOUNTED.fields)


def _note_left_mounted(entry: Entry) -> None:
    """Log once that a volume stays mounted, however often its release is tried."""
    if not entry.left_until:
        log.warning(
            "left mounted: a container or a process on this host still uses it", extra=Event.LEFT_MOUNTED.fields
        )
