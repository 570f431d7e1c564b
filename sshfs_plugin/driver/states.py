# SPDX-License-Identifier: MIT
"""What is known of the volumes at any moment, from memory and the kernel's table of mounts alone."""

from sshfs_plugin.driver.registry import Entry, Registry
from sshfs_plugin.driver.values import WAY_OUT, Condition, State
from sshfs_plugin.mounts.supervisor import Supervisor
from sshfs_plugin.volume import Unresolved, Unusable, VolumeName


class States:
    """Tells the states of volumes, and waits for nothing.

    Args:
        registry: The volumes.
        supervisor: Knows their mounts.
    """

    def __init__(self, registry: Registry, supervisor: Supervisor) -> None:
        self._registry, self._supervisor = registry, supervisor

    def get(self, name: str) -> State:
        """Return what is known of a volume.

        Raises:
            VolumeNotFound: There is none of that name.
        """
        entry = self._registry.get(name)
        return self._state(entry, self._supervisor.device(entry.name))

    def all(self) -> list[State]:
        """Return what is known of all volumes, by name."""
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
