# SPDX-License-Identifier: MIT
"""The connections of preflights that have passed, kept for a moment.

A further preflight with the same login goes on there, at the check of the directory.

What changes on the server meanwhile can't be seen through an open connection: that a password is another one now, or
that a key may no longer log in. So no connection is used later than ``KEPT_SECONDS`` after its login, however often it
is used.
"""

import threading
import time
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from sshfs_plugin.preflight.sftp import Client
from sshfs_plugin.preflight.transport import Transport
from sshfs_plugin.ssh.known_hosts import HostKey

KEPT_SECONDS = 10.0

PER_LOGIN = 4
"""Some servers let a login have few connections, and those of mounted volumes count there as well."""

ALTOGETHER = 16
"""Each has a thread of paramiko's."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeptConnection:
    """A connection that is logged in, with SFTP; one preflight at a time can use it.

    Attributes:
        transport: The connection itself.
        sftp: SFTP over it.
        host_key: The server's key that was verified.
        until: Until when it may be used, on the monotonic clock.
    """

    transport: Transport
    sftp: Client
    host_key: HostKey
    until: float

    @property
    def is_open(self) -> bool:
        """Whether it may be used; that its server still answers is another matter."""
        channel = self.sftp.get_channel()
        ended = channel.closed or channel.eof_received or not self.transport.is_active()
        return not ended and time.monotonic() < self.until

    def close(self) -> None:
        """Close it, without a word to the server, which may have fallen silent."""
        self.transport.close()


class KeptConnections:
    """Connections that no preflight uses just now, each with what identifies its login.

    They are closed in time by a thread, which is there only while some are kept.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[KeptConnection, Hashable] = {}
        self._timer: threading.Timer | None = None
        self._timer_ends = 0.0

    def take(self, login: Hashable) -> KeptConnection | None:
        """Return a kept connection of a login, which is the caller's from now on; None if there is none."""
        while True:
            with self._lock:
                same = self._of(login)
                if not same:
                    return None
                del self._kept[same[-1]]
            if same[-1].is_open:
                return same[-1]
            same[-1].close()

    def keep(self, login: Hashable, connection: KeptConnection) -> None:
        """Keep a connection that nobody uses any more; of too many, the one with the oldest login is closed."""
        surplus = []
        with self._lock:
            self._kept[connection] = login
            if len(same := self._of(login)) > PER_LOGIN:
                surplus.append(_oldest(same))
            elif len(self._kept) > ALTOGETHER:
                surplus.append(_oldest(self._kept))
            self._remove(surplus)
            self._wake_in_time()
        _close(surplus)

    def drop(self, login: Hashable) -> None:
        """Close the kept connections of a login."""
        with self._lock:
            dropped = self._of(login)
            self._remove(dropped)
        _close(dropped)

    def _of(self, login: Hashable) -> list[KeptConnection]:
        return [connection for connection, its_login in self._kept.items() if its_login == login]

    def _remove(self, connections: Iterable[KeptConnection]) -> None:
        for connection in connections:
            del self._kept[connection]

    def _wake_in_time(self) -> None:
        """See to it that the thread is awake when the first connection is to be closed."""
        if not self._kept:
            return
        first = _oldest(self._kept).until
        if self._timer and self._timer_ends <= first:
            return
        if self._timer:
            self._timer.cancel()
        self._timer_ends = first
        self._timer = threading.Timer(max(0.0, first - time.monotonic()), self._close_old)
        self._timer.name, self._timer.daemon = "kept connections", True
        self._timer.start()

    def _close_old(self) -> None:
        with self._lock:
            if threading.current_thread() is not self._timer:  # replaced just now
                return
            self._timer = None
            old = [connection for connection in self._kept if not connection.is_open]
            self._remove(old)
            self._wake_in_time()
        _close(old)


def _oldest(connections: Iterable[KeptConnection]) -> KeptConnection:
    return min(connections, key=lambda connection: connection.until)


def _close(connections: Iterable[KeptConnection]) -> None:
    for connection in connections:
        connection.close()
