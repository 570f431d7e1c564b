# SPDX-License-Identifier: MIT
"""Who may work now: one at a time on a volume, a few at a time on a server, nobody beyond its caller's deadline."""

import copy
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.volume import Volume, VolumeName

CONNECTS_PER_SERVER = 8
"""sshd starts to drop connections at ten that have not logged in; eight at once never failed (docs/facts.md)."""

WAITING = 10_000
"""A Docker that starts mounts all volumes at once and tries none again: whoever has time left may wait."""

_DECIDE_THE_WAY = ("AddressFamily", "BindAddress", "BindInterface", "ConnectTimeout")


class Slots:
    """A few may work at once, some more may wait for them, and others are sent away at once."""

    def __init__(self, places: int, *, waiting: int) -> None:
        self._slots = threading.BoundedSemaphore(places)
        self._may_wait = threading.BoundedSemaphore(waiting)

    @contextmanager
    def taken(self, deadline: Deadline, busy: errors.VolumeError) -> Iterator[None]:
        """Take a place while the deadline lasts.

        Raises:
            VolumeError: The one that is given; there was no place until the deadline, or too many wait for one already.
        """
        if not (self._slots.acquire(blocking=False) or self._waited(deadline)):
            raise busy
        try:
            yield
        finally:
            self._slots.release()

    def _waited(self, deadline: Deadline) -> bool:
        if not self._may_wait.acquire(blocking=False):
            return False
        try:
            return self._slots.acquire(timeout=deadline.left())
        finally:
            self._may_wait.release()


class SharedFailures:
    """SharedFailures at the same thing, of which one that fails speaks for those who waited for it to end.

    A queue at a server that is away then ends with the second attempt, and not after one for each of its members.
    """

    def __init__(self) -> None:
        self._succeeded: dict[Hashable, float] = {}
        self._failed: dict[Hashable, tuple[float, errors.PluginError]] = {}

    @contextmanager
    def at(self, what: Hashable, asked: float, is_shared: Callable[[errors.PluginError], bool]) -> Iterator[None]:
        """Make an attempt, unless one has failed that began after this one was asked for, and none has succeeded since.

        Args:
            what: What is attempted: whatever decides the outcome.
            asked: When, on the monotonic clock.
            is_shared: Tells of a failure whether it would come to others as well.

        Raises:
            PluginError: That other failure.
        """
        began, failure = self._failed.get(what, (0.0, None))
        if failure and began > max(asked, self._succeeded.get(what, 0.0)):
            raise copy.copy(failure)  # an exception belongs to the thread that raises it
        began = time.monotonic()
        try:
            yield
        except errors.PluginError as error:
            if is_shared(error):
                self._failed[what] = began, copy.copy(error)  # its raiser may yet say which volume it was
            raise
        self._succeeded[what] = time.monotonic()


def way(volume: Volume) -> Hashable:
    """Return what decides whether a volume's server can be reached, and how soon that is given up."""
    said = dict(volume.ssh_options)
    return volume.remote.server, *(said.get(keyword) for keyword in _DECIDE_THE_WAY)


class Locks:
    """The places at volumes and at servers, made when they are first asked for."""

    def __init__(self) -> None:
        self._making = threading.Lock()
        self._volumes: dict[VolumeName, Slots] = {}
        self._servers: dict[str, Slots] = {}

    @contextmanager
    def on_volume(self, name: VolumeName, deadline: Deadline) -> Iterator[None]:
        """Be the only one who works on a volume.

        Raises:
            VolumeBusy: Somebody else did until the deadline, or too many wait for it already.
        """
        with self._making:
            places = self._volumes.setdefault(name, Slots(1, waiting=WAITING))
        with places.taken(deadline, errors.VolumeBusy(name)):
            yield

    @contextmanager
    def at_server(self, server: str, deadline: Deadline) -> Iterator[None]:
        """Be one of the few who connect to a server, which is a host with a port: each has an sshd of its own.

        Raises:
            ServerBusy: There was no place until the deadline, or too many wait for one already.
        """
        with self._making:
            places = self._servers.setdefault(server, Slots(CONNECTS_PER_SERVER, waiting=WAITING))
        with places.taken(deadline, errors.ServerBusy(server)):
            yield
