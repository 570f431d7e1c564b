# SPDX-License-Identifier: MIT
"""Who may work now: one at a time on a volume, a few at a time on a server, nobody beyond its caller's deadline."""

import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.volume import VolumeName

CONNECTS_PER_HOST = 8
"""sshd starts to drop connections at ten that have not logged in; eight at once never failed (docs/facts.md)."""

WAITING = 10_000
"""A Docker that starts mounts all volumes at once and tries none again: whoever has time left may wait."""


class Places:
    """A few may work at once, some more may wait for them, and others are sent away at once."""

    def __init__(self, places: int, *, waiting: int) -> None:
        self._places = threading.BoundedSemaphore(places)
        self._may_wait = threading.BoundedSemaphore(waiting)

    @contextmanager
    def taken(self, deadline: Deadline, busy: errors.VolumeError) -> Iterator[None]:
        """Take a place while the deadline lasts.

        Raises:
            VolumeError: The one that is given; there was no place until the deadline, or too many wait for one already.
        """
        if not (self._places.acquire(blocking=False) or self._waited(deadline)):
            raise busy
        try:
            yield
        finally:
            self._places.release()

    def _waited(self, deadline: Deadline) -> bool:
        if not self._may_wait.acquire(blocking=False):
            return False
        try:
            return self._places.acquire(timeout=deadline.left())
        finally:
            self._may_wait.release()


class Attempts:
    """Attempts at the same thing, of which one that fails speaks for those who waited for it to end.

    A queue at a server that is away then ends with the second attempt, and not after one for each of its members.
    """

    def __init__(self) -> None:
        self._failed: dict[Hashable, tuple[float, str, str]] = {}

    @contextmanager
    def at(self, what: Hashable, asked: float, kind: type[errors.PluginError] = errors.PluginError) -> Iterator[None]:
        """Make an attempt, unless one has failed that began after this one was asked for.

        Args:
            what: What is attempted.
            asked: When, on the monotonic clock.
            kind: The failures that would come to others as well.

        Raises:
            MountFailed: In the words of that other failure.
        """
        began, sentence, hint = self._failed.get(what, (0.0, "", ""))
        if began > asked:
            raise errors.MountFailed(sentence, hint)
        began = time.monotonic()
        try:
            yield
        except kind as error:
            self._failed[what] = began, error.sentence, error.hint
            raise
        self._failed.pop(what, None)


class Turns:
    """The places at volumes and at servers, made when they are first asked for."""

    def __init__(self) -> None:
        self._making = threading.Lock()
        self._volumes: dict[VolumeName, Places] = {}
        self._hosts: dict[str, Places] = {}

    @contextmanager
    def on_volume(self, name: VolumeName, deadline: Deadline) -> Iterator[None]:
        """Be the only one who works on a volume.

        Raises:
            VolumeBusy: Somebody else did until the deadline, or too many wait for it already.
        """
        with self._making:
            places = self._volumes.setdefault(name, Places(1, waiting=WAITING))
        with places.taken(deadline, errors.VolumeBusy(name)):
            yield

    @contextmanager
    def at_host(self, host: str, deadline: Deadline) -> Iterator[None]:
        """Be one of the few who connect to a server.

        Raises:
            ServerBusy: There was no place until the deadline, or too many wait for one already.
        """
        with self._making:
            places = self._hosts.setdefault(host, Places(CONNECTS_PER_HOST, waiting=WAITING))
        with places.taken(deadline, errors.ServerBusy(host)):
            yield
