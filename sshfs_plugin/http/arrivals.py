# SPDX-License-Identifier: MIT
"""Connections whose request has not arrived yet: they wait here and occupy no thread.

A request is only peeked at and stays in its socket, where gunicorn reads it.
"""

import re
import select
import socket
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from sshfs_plugin.http import sockets

ARRIVAL_SECONDS = 10.0
"""How long a request may take to arrive; Docker and Podman send it at once."""

MOST = 4096
"""How many connections may wait; beyond that the oldest is closed."""

_SEEN = 64 * 1024
"""Bytes that are peeked at; a longer request has arrived when so many are there."""
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*(?:\r|$)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*(?:\r|$)", re.IGNORECASE)
_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")
_LONGEST_CHUNK_LINE = 1024


class Connection(Protocol):
    """A connection that the server has accepted.

    Attributes:
        sock: The client's socket.
    """

    sock: socket.socket

    def close(self) -> None:
        """Close it."""


_Connection = TypeVar("_Connection", bound=Connection)


class Arrivals(Generic[_Connection]):
    """The connections whose request has not arrived; registered with a poller, it is readable when one may have."""

    def __init__(self, has_arrived: Callable[[socket.socket], bool]) -> None:
        self._has_arrived = has_arrived
        self._poller = select.epoll()
        self._expected: dict[int, tuple[_Connection, float]] = {}

    def fileno(self) -> int:
        """Return a file descriptor that is readable when a request may have arrived."""
        return self._poller.fileno()

    def expect(self, connection: _Connection) -> None:
        """Wait for a connection's request, and close the oldest connection if too many are waited for."""
        self._expected[connection.sock.fileno()] = connection, time.monotonic() + ARRIVAL_SECONDS
        # edge-triggered, so that half a request wakes the poller once
        self._poller.register(connection.sock, select.EPOLLIN | select.EPOLLET)
        if len(self._expected) > MOST:
            self.give_up_oldest()

    def arrived(self) -> list[_Connection]:
        """Return the connections whose request has arrived since the last call; they are waited for no longer."""
        readable = [self._expected[descriptor][0] for descriptor, _ in self._poller.poll(0)]
        return [self._stop_expecting(connection) for connection in readable if self._has_arrived(connection.sock)]

    def give_up_overdue(self) -> None:
        """Close the connections whose request has taken longer than ARRIVAL_SECONDS."""
        now = time.monotonic()
        for connection, until in list(self._expected.values()):
            if until > now:
                return
            self._give_up(connection)

    def give_up_oldest(self) -> bool:
        """Close the oldest connection whose request has not arrived; return whether there was one."""
        # any() stops at the first that is given up, and the others stay
        return any(self._give_up(connection) for connection, _ in list(self._expected.values()))

    def take_all(self) -> list[_Connection]:
        """Return all connections, whether their request has arrived or not; none is waited for any longer."""
        return [self._stop_expecting(connection) for connection, _ in list(self._expected.values())]

    def _give_up(self, connection: _Connection) -> bool:
        if self._has_arrived(connection.sock):  # just now, as the next poll will tell
            return False
        self._stop_expecting(connection).close()
        return True

    def _stop_expecting(self, connection: _Connection) -> _Connection:
        del self._expected[connection.sock.fileno()]
        self._poller.unregister(connection.sock)
        return connection


def has_request(connection: socket.socket) -> bool:
    """Tell whether a request has arrived as a whole, or as far as it ever will."""
    try:
        seen = connection.recv(_SEEN, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    head, end, body = seen.partition(b"\r\n\r\n")
    if not seen or len(seen) == _SEEN:
        return True
    if not end:
        return False
    if _CHUNKED.search(head):
        return _has_all_chunks(body)
    length = _LENGTH.search(head)
    return not length or len(body) >= int(length[1])


def _has_all_chunks(body: bytes) -> bool:
    """Tell whether the last chunk has arrived, or something that is no chunk, which will be refused."""
    while True:
        line, end, rest = body.partition(b"\r\n")
        if not end:
            return len(line) > _LONGEST_CHUNK_LINE
        size = line.partition(b";")[0].strip()
        if not _SIZE.fullmatch(size):
            return True
        length = int(size, 16)
        if length == 0:
            return rest.startswith(b"\r\n") or b"\r\n\r\n" in rest
        after = rest[length : length + 2]
        if len(after) < len(b"\r\n"):
            return False
        if after != b"\r\n":
            return True
        body = rest[length + 2 :]


def has_first_byte(connection: socket.socket) -> bool:
    """Tell whether the client has sent anything: of a request over TLS, no more can be seen."""
    return sockets.is_readable(connection)
