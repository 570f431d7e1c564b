# SPDX-License-Identifier: MIT
"""The callers of the driver, and what it tells them of a volume."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from sshfs_plugin.holders import Client
from sshfs_plugin.volume import Record

WAY_OUT = "docker-volume-sshfs release --force {name} unmounts it if its containers can't be stopped"
"""What is said of a volume that is unresponsive."""


class Condition(enum.StrEnum):
    """The condition of a volume; the values are for programs."""

    UNMOUNTED = "unmounted"
    MOUNTED = "mounted"
    UNRESPONSIVE = "unresponsive"
    """It is mounted, and the server does not answer."""
    REMOUNTED = "remounted"
    """It is mounted anew; containers that had the mount before must be restarted."""
    LOST = "lost"
    """It is not mounted although containers hold it; they must be restarted."""
    UNUSABLE = "unusable"
    """Its record, or the file of its remote, can't be read or understood."""

    @property
    def is_well(self) -> bool:
        """Whether nobody needs to do anything about it."""
        return self in (Condition.UNMOUNTED, Condition.MOUNTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The sender of a request.

    Attributes:
        client: Docker or Podman.
        process: The identity of the process at the other end of the socket, empty if unknown (``host.uptime``).
        has_gone: Tells whether the client has closed its connection, so that it will not read the reply.
    """

    client: Client
    process: str
    has_gone: Callable[[], bool]


class State(NamedTuple):
    """What is known of a volume without waiting for a server or for systemd.

    Attributes:
        record: The volume, or what is wrong with its record or its remote.
        mountpoint: Where it is mounted, None while it is not.
        condition: Its condition.
        since: Since when it has been in that condition, as far as this process has seen.
        holders: How many mount IDs hold it.
        unit: The systemd unit that it has while mounted, empty where there is no systemd.
        last_error: The first of these that there is: why it has no connection to its server, that its mount does not
            answer, the last failure of a verb on it or of its unmount. Empty after a success, and when its mount
            answers.
        last_error_at: When that was.
    """

    record: Record
    mountpoint: Path | None
    condition: Condition
    since: datetime
    holders: int
    unit: str
    last_error: str
    last_error_at: datetime | None
