# SPDX-License-Identifier: MIT
"""Who may work now: one at a time on a volume, a few at a time on a server, nobody beyond its caller's deadline."""

import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.volume import VolumeName

CONNECTS_PER_HOST = 8
"""sshd starts to drop connections at ten that have not logged in; eight at once never failed (docs/facts.md)."""

WAITING_PER_HOST = 100
"""Who waits for a place keeps a thread from others: the volumes of one server that is away must not take them all."""


class Turns:
    """Locks of volumes and places at servers, made when they are first asked for."""

    def __init__(self) -> None:
        self._making = threading.Lock()
        self._volumes: dict[VolumeName, threading.Lock] = {}
        self._hosts: dict[str, threading.BoundedSemaphore] = {}
        self._waiting: Counter[str] = Counter()

    @contextmanager
    def on_volume(self, name: VolumeName, deadline: Deadline) -> Iterator[None]:
        """Be the only one who works on a volume.

        Raises:
            VolumeBusy: Somebody else did until the deadline.
        """
        with self._making:
            lock = self._volumes.setdefault(name, threading.Lock())
        with _acquired(lock.acquire, lock.release, deadline, errors.VolumeBusy(name)):
            yield

    @contextmanager
    def at_host(self, host: str, deadline: Deadline) -> Iterator[None]:
        """Be one of the few who connect to a server.

        Raises:
            ServerBusy: There was no place until the deadline, or too many wait for one already.
        """
        with self._making:
            places = self._hosts.setdefault(host, threading.BoundedSemaphore(CONNECTS_PER_HOST))
        with _acquired(functools.partial(self._place, host, places), places.release, deadline, errors.ServerBusy(host)):
            yield

    def _place(self, host: str, places: threading.BoundedSemaphore, timeout: float) -> bool:
        if places.acquire(blocking=False):
            return True
        with self._making:
            if self._waiting[host] >= WAITING_PER_HOST:
                return False
            self._waiting[host] += 1
        try:
            return places.acquire(timeout=timeout)
        finally:
            with self._making:
                self._waiting[host] -= 1


@contextmanager
def _acquired(
    acquire: Callable[..., bool], release: Callable[[], None], deadline: Deadline, busy: errors.VolumeError
) -> Iterator[None]:
    if not acquire(timeout=deadline.left()):
        raise busy
    try:
        yield
    finally:
        release()
