# SPDX-License-Identifier: MIT
"""Connections whose request is still on its way: they wait here, where they keep no thread from anybody.

A request is looked at and left in its socket; what it says is for the server to find out.
"""

import re
import select
import socket
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from sshfs_plugin.http import sockets

ARRIVAL_SECONDS = 10.0
"""How long a request may take to arrive; both clients write it at once."""

MOST = 4096
"""How many may be on their way; beyond that the oldest is given up."""

_SEEN = 64 * 1024
"""Bytes; a longer request is on its way until so much of it is there."""
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*(?:\r|$)", re.IGNORECASE)


class Connection(Protocol):
    """What a server has accepted.

    Attributes:
        sock: The client's socket.
    """

    sock: socket.socket

    def close(self) -> None:
        """Close it."""


_Connection = TypeVar("_Connection", bound=Connection)


class Arrivals(Generic[_Connection]):
    """The connections from which a request is expected; it can be registered with a poller that waits for news."""

    def __init__(self, has_arrived: Callable[[socket.socket], bool]) -> None:
        self._has_arrived = has_arrived
        self._news = select.epoll()
        self._expected: dict[int, tuple[_Connection, float]] = {}

    def fileno(self) -> int:
        """Return a descriptor that can be read from when there is news."""
        return self._news.fileno()

    def expect(self, connection: _Connection) -> None:
        """Wait for a request, and give the oldest ones up if too many do."""
        self._expected[connection.sock.fileno()] = connection, time.monotonic() + ARRIVAL_SECONDS
        # edge-triggered: half a request is news once
        self._news.register(connection.sock, select.EPOLLIN | select.EPOLLET)
        if len(self._expected) > MOST:
            self.give_up_oldest()

    def arrived(self) -> list[_Connection]:
        """Return the connections whose request has arrived since this was last asked; they are expected no more."""
        with_news = [self._expected[descriptor][0] for descriptor, _ in self._news.poll(0)]
        return [self._forget(connection) for connection in with_news if self._has_arrived(connection.sock)]

    def give_up_overdue(self) -> None:
        """Close the connections whose time is over."""
        now = time.monotonic()
        for connection, until in list(self._expected.values()):
            if until > now:
                return
            self._given_up(connection)

    def give_up_oldest(self) -> bool:
        """Close the connection that has taken longest, and tell whether there was one."""
        return any(self._given_up(connection) for connection, _ in list(self._expected.values()))

    def take_all(self) -> list[_Connection]:
        """Return all connections, arrived or not; none is expected any more."""
        return [self._forget(connection) for connection, _ in list(self._expected.values())]

    def _given_up(self, connection: _Connection) -> bool:
        if self._has_arrived(connection.sock):  # just now, which will be news
            return False
        self._forget(connection).close()
        return True

    def _forget(self, connection: _Connection) -> _Connection:
        del self._expected[connection.sock.fileno()]
        self._news.unregister(connection.sock)
        return connection


def has_request(connection: socket.socket) -> bool:
    """Tell whether a request is there from its first byte to its last, or all that will ever be there of it."""
    try:
        seen = connection.recv(_SEEN, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    head, end, body = seen.partition(b"\r\n\r\n")
    if not seen or len(seen) == _SEEN:
        return True
    length = _LENGTH.search(head)
    return bool(end) and (not length or len(body) >= int(length[1]))


def has_first_byte(connection: socket.socket) -> bool:
    """Tell whether the client has begun to speak, which is all that can be seen of a request over TLS."""
    return sockets.has_something(connection, 0)
