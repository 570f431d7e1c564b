# SPDX-License-Identifier: MIT
"""What the driver is handed and what it tells: the shapes of its parts, so that it knows none of the outside worlds."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from sshfs_plugin.deadline import Deadline
from sshfs_plugin.holders import Client
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.volume import Unusable, Volume, VolumeName


class Condition(enum.StrEnum):
    """How a volume is, in the words that programs read."""

    UNMOUNTED = "unmounted"
    MOUNTED = "mounted"
    UNRESPONSIVE = "unresponsive"
    """It is mounted, and the server does not answer."""
    REMOUNTED = "remounted"
    """It is mounted anew; containers that had the mount before must be restarted."""
    LOST = "lost"
    """It is not mounted although containers hold it; they must be restarted."""
    UNUSABLE = "unusable"
    """Its record can't be read or understood."""

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to do about it."""
        return self in (Condition.UNMOUNTED, Condition.MOUNTED)


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

    def left_over(self) -> set[str]:
        """Return the names of mountpoints at which nothing is mounted, whether or not there are such volumes."""

    def clear(self, name: VolumeName, deadline: Deadline) -> None:
        """Remove a mountpoint that is left over, if it is empty. Raises MountError if that comes to no end."""

    def settle(self) -> None:
        """End what an earlier process has left under way, before anything is built on what is mounted."""

    def start(self, volume: Volume, login: Login, deadline: Deadline) -> None:
        """Mount a volume; on return it answers. Raises MountError or StateError and then leaves nothing behind."""

    def forget(self, name: VolumeName) -> None:
        """Drop what is kept of a volume that is not mounted, a password among it."""

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
        condition: How it is.
        since: Since when it has been so, as far as this process has seen.
        holders: How many mount IDs hold it.
        unit: The systemd unit that it has while mounted, empty where there is no systemd.
        last_error: The last failure of a verb on it, empty after a success and when its mount answers.
        last_error_at: When that was.
    """

    record: Volume | Unusable
    mountpoint: Path | None
    condition: Condition
    since: datetime
    holders: int
    unit: str
    last_error: str
    last_error_at: datetime | None
