# SPDX-License-Identifier: MIT
"""What the driver is handed and what it tells: the shapes of its parts, so that it knows none of the outside worlds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from sshfs_plugin.deadline import Deadline
from sshfs_plugin.holders import Client, Holders
from sshfs_plugin.volume import Unusable, Volume, VolumeName

SILENT = "mounted, but the server does not answer"
"""How a volume is described that is lost for now."""

ANEW = "mounted anew, and lost to containers that had it before"
"""How a volume is described that is well, but not for all: they must be restarted."""

LOST = "not mounted, although containers hold it"
"""How a volume is described that they have lost for good: they must be restarted."""

UNUSABLE = "unusable"
"""How a volume is described whose record can't be read or understood."""


class Volumes(Protocol):
    """Where volumes are recorded."""

    def load_all(self) -> dict[VolumeName, Volume | Unusable]:
        """Return every volume on record."""

    def read(self, name: VolumeName) -> Volume | Unusable:
        """Return a volume that is on record."""

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

    def climb(self, volume: Volume, deadline: Deadline, *, creating: bool = False) -> None:
        """Pass if it can.

        Raises InvalidOption, CredentialsError, PreflightError or StateError if not.
        """

    def forget(self, name: VolumeName) -> None:
        """Drop what is remembered for a volume alone."""


class Supervisor(Protocol):
    """What keeps the process of each mounted volume, out of reach of this one's end."""

    def mountpoint(self, name: VolumeName) -> Path:
        """Return where a volume is mounted when it is."""

    def mounted(self) -> Mapping[str, str]:
        """Return the names of the volumes that the kernel shows as mounted, with each mount's device; never waits."""

    def unit(self, name: VolumeName) -> str:
        """Return the systemd unit that keeps a volume's process, empty where none does."""

    def answers(self, name: VolumeName, seconds: float) -> bool:
        """Tell whether a live mount answers."""

    def settle(self) -> None:
        """End what an earlier process has left under way, before anything is built on what is mounted."""

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
        record: The volume, or what is wrong with its record.
        mountpoint: Where it is mounted, None while it is not.
        anew: Whether some hold an earlier mount of it, whose sshfs was killed.
        holders: How many mount IDs hold it.
        unit: The systemd unit that it has while mounted, empty where there is no systemd.
        answering: Whether the mount answered when last asked; None while it is not mounted or was not asked.
        last_error: The last failure of a verb on it, empty after a success and when its mount answers.
        last_error_at: When that was.
    """

    record: Volume | Unusable
    mountpoint: Path | None
    anew: bool
    holders: int
    unit: str
    answering: bool | None
    last_error: str
    last_error_at: datetime | None

    @property
    def condition(self) -> str:
        """Whether the volume is mounted and answers, in a few words."""
        if isinstance(self.record, Unusable):
            return UNUSABLE
        if self.mountpoint is None:
            return LOST if self.holders else "not mounted"
        if self.answering is False:
            return SILENT
        return ANEW if self.anew else "mounted"
