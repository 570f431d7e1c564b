# SPDX-License-Identifier: MIT
"""Locks of volumes, slots of servers, and failures that waiting calls share; none is waited for beyond the deadline."""

import copy
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TypeVar
from weakref import WeakValueDictionary

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.volume import Volume, VolumeName

_K = TypeVar("_K", bound=Hashable)

CONNECTS_PER_SERVER = 8
"""sshd starts to drop connections at ten that have not logged in; eight at once never failed (docs/facts.md)."""

LOGIN_SECONDS = 10.0
"""How long to wait for others that log in alike. A server takes a few seconds to refuse a login."""

JOINING_SECONDS = 5.0
"""How long to wait for others that join a connection: a hundred take about as long."""

WAITING = 10_000
"""How many calls may wait: all that come, since a Docker that starts mounts all volumes at once, and never again."""

LONGEST_WAIT_SECONDS = 240.0
"""For how long a failure is kept to be shared: longer than any call waits and works. Docker, the most patient caller,
waits 120 s.
"""

_DECIDE_REACHABILITY = ("AddressFamily", "BindAddress", "BindInterface", "ConnectTimeout")


class Slots:
    """Slots, each of which one thread at a time can hold.

    Args:
        count: The number of slots.
        waiting: How many threads may wait for one; any further thread gets an error at once.
    """

    def __init__(self, count: int, *, waiting: int) -> None:
        self._slots = threading.BoundedSemaphore(count)
        self._may_wait = threading.BoundedSemaphore(waiting)

    @contextmanager
    def taken(self, deadline: Deadline, busy: errors.VolumeError) -> Iterator[None]:
        """Hold a slot.

        Args:
            deadline: How long to wait for it.
            busy: The error to raise if there is none.

        Raises:
            VolumeError: That error: no slot was free until the deadline, or too many threads wait already.
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
    """The failures of attempts at the same thing: each is shared by the calls that waited for it to end.

    So the queue for a server that is away ends after the second attempt, and not after one for each call: the first
    attempt began before the others were asked for, the second did not.
    """

    def __init__(self) -> None:
        self._succeeded: dict[Hashable, float] = {}
        self._failed: dict[Hashable, tuple[float, errors.PluginError]] = {}

    @contextmanager
    def attempt(self, what: Hashable, asked: float, is_shared: Callable[[errors.PluginError], bool]) -> Iterator[None]:
        """Make an attempt, or raise the shared failure of one that began after this call, with no success since.

        Args:
            what: The key of what is attempted; attempts with the same key have the same outcome.
            asked: When the call came, on the monotonic clock.
            is_shared: Tells whether an error would come to other attempts as well.

        Raises:
            PluginError: The shared failure.
        """
        began, failure = self._failed.get(what, (0.0, None))
        if failure and began > max(asked, self._succeeded.get(what, 0.0)):
            raise copy.copy(failure)  # an exception belongs to the thread that raises it
        began = time.monotonic()
        try:
            yield
        except errors.PluginError as error:
            if is_shared(error):
                self._failed[what] = began, copy.copy(error)  # a copy, since the volume is added to the raised one
                self._forget_old()
            raise
        self._succeeded[what] = time.monotonic()
        self._forget_old()

    def _forget_old(self) -> None:
        """Forget what ended before any call came that can still be waiting."""
        old = time.monotonic() - LONGEST_WAIT_SECONDS
        for what, ended in list(self._succeeded.items()):
            if ended < old:
                self._succeeded.pop(what, None)
        for what, (began, _) in list(self._failed.items()):
            if began < old:
                self._failed.pop(what, None)


def reachability(volume: Volume) -> Hashable:
    """Return the key of all that decides whether a volume's server can be reached, its ConnectTimeout included."""
    through = tuple(reachability(jump) for jump in volume.jumps)
    return volume.remote.server, through, *(volume.keywords.get(keyword) for keyword in _DECIDE_REACHABILITY)


def admission(volume: Volume, login: Login) -> Hashable:
    """Return the key of all that decides whether a volume is let in: the accounts, the options of ssh, the secrets."""
    ways = tuple((each.remote.account, each.ssh_options) for each in (*volume.jumps, volume))
    return ways, login.digest


class Locks:
    """The lock of each volume, the slot of each login and the slots of each server, made on first use."""

    def __init__(self) -> None:
        self._making = threading.Lock()
        # kept by those who hold or await them alone: names of volumes come and go
        self._volumes: WeakValueDictionary[VolumeName, Slots] = WeakValueDictionary()
        self._logins: WeakValueDictionary[Hashable, Slots] = WeakValueDictionary()
        self._servers: WeakValueDictionary[str, Slots] = WeakValueDictionary()
        self._joining: WeakValueDictionary[str, Slots] = WeakValueDictionary()

    @contextmanager
    def on_volume(self, name: VolumeName, deadline: Deadline) -> Iterator[None]:
        """Hold the lock of a volume.

        Raises:
            VolumeBusy: Another call held it until the deadline, or too many wait already.
        """
        with self._of(self._volumes, name, 1).taken(deadline, errors.VolumeBusy(name)):
            yield

    @contextmanager
    def logging_in(self, login: Hashable, deadline: Deadline) -> Iterator[None]:
        """Hold the slot of a login: one that is refused is not to be tried by many at once.

        It is not waited for longer than refusals take: those before may wait for a server that does not answer.
        """
        with _taken_for_a_while(self._of(self._logins, login, 1), LOGIN_SECONDS, deadline):
            yield

    @contextmanager
    def joining(self, server: str, deadline: Deadline) -> Iterator[None]:
        """Hold one of a few slots for Mounts that join a connection: many at once make each other slow.

        It is not waited for long: those before may wait for a disk of the server.
        """
        with _taken_for_a_while(self._of(self._joining, server, CONNECTS_PER_SERVER), JOINING_SECONDS, deadline):
            yield

    @contextmanager
    def at_server(self, server: str, deadline: Deadline) -> Iterator[None]:
        """Hold a slot of a server, which is a host with a port: each port has an sshd of its own.

        Raises:
            ServerBusy: No slot was free until the deadline, or too many calls wait already.
        """
        with self._of(self._servers, server, CONNECTS_PER_SERVER).taken(deadline, errors.ServerBusy(server)):
            yield

    def _of(self, slots: WeakValueDictionary[_K, Slots], key: _K, number: int) -> Slots:
        """Return the slots of a key, which are made if nobody holds or awaits one."""
        with self._making:
            return slots.setdefault(key, Slots(number, waiting=WAITING))


@contextmanager
def _taken_for_a_while(slots: Slots, seconds: float, deadline: Deadline) -> Iterator[None]:
    """Hold a slot; after some seconds, or half of the time that is left, go on without one."""
    limit = Deadline.after(min(seconds, deadline.left() / 2))
    with ExitStack() as slot:
        with suppress(errors.ServerBusy):
            slot.enter_context(slots.taken(limit, errors.ServerBusy("")))
        yield
