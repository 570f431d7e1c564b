# SPDX-License-Identifier: MIT
"""Records that last as long as the test."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sshfs_plugin.errors import StateError
from sshfs_plugin.holders import Holders
from sshfs_plugin.options.remotes import PACKAGED, Remotes
from sshfs_plugin.volume import Record, Volume, VolumeName


@dataclass
class MemoryVolumes:
    """Volume records that last as long as the test."""

    remotes: Remotes = PACKAGED
    records: dict[VolumeName, Record] = field(default_factory=dict)
    problem: StateError | None = None

    def load_all(self) -> dict[VolumeName, Record]:
        """Return every volume on record."""
        return dict(self.records)

    def names(self) -> list[str]:
        """Return the names on record."""
        return sorted(self.records)

    def read(self, name: VolumeName) -> Record:
        """Return a volume that is on record."""
        return self.records[name]

    def save(self, volume: Volume) -> None:
        """Record a volume, or fail as a full disk does."""
        if self.problem:
            raise self.problem
        self.records[volume.name] = volume

    def remove(self, name: VolumeName) -> None:
        """Forget a volume, or fail as a read-only disk does."""
        if self.problem:
            raise self.problem
        del self.records[name]


@dataclass
class MemoryHolders:
    """Holder records that last as long as the test."""

    records: dict[VolumeName, Holders] = field(default_factory=dict)
    problem: StateError | None = None
    docker: str = ""
    conditions: dict[str, str] = field(default_factory=dict)

    def docker_process(self) -> str:
        """Return the process of the last Docker."""
        return self.docker

    def save_docker_process(self, process: str) -> None:
        """Record it, or fail as a full disk does."""
        if self.problem:
            raise self.problem
        self.docker = process

    def told(self) -> dict[str, str]:
        """Return which conditions of volumes were logged."""
        return self.conditions

    def save_told(self, conditions: Mapping[str, str]) -> None:
        """Record them, or fail as a full disk does."""
        if self.problem:
            raise self.problem
        self.conditions = dict(conditions)

    def load_all(self) -> dict[VolumeName, Holders]:
        """Return the holders of every volume that has any."""
        return dict(self.records)

    def save(self, name: VolumeName, holders: Holders) -> None:
        """Record what a crash must not lose, or fail as a full disk does."""
        if self.problem:
            raise self.problem
        if recorded := holders.recorded().by_id:
            self.records[name] = Holders(recorded)
        else:
            self.records.pop(name, None)

    def counts(self, name: str) -> dict[str, int]:
        """Return how often each ID holds a volume, on record."""
        held = self.records.get(VolumeName(name), Holders())
        return {str(mount_id): holder.count for mount_id, holder in held.by_id.items()}

    def inherited(self, name: str) -> set[str]:
        """Return the IDs that are on record as left over from an earlier dockerd."""
        held = self.records.get(VolumeName(name), Holders())
        return {str(mount_id) for mount_id, holder in held.by_id.items() if holder.inherited}
