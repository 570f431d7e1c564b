# SPDX-License-Identifier: MIT
"""Connections whose requests are on their way, over real sockets."""

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from sshfs_plugin.http import arrivals
from sshfs_plugin.http.arrivals import Arrivals, has_first_byte, has_request

WHOLE = b"POST /VolumeDriver.List HTTP/1.1\r\ncontent-length: 3\r\nHost: \r\n\r\n{}\n"
CHUNKED = b"POST /VolumeDriver.List HTTP/1.1\r\nHost: \r\ntransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Connection:
    """A connection, and the client's end of it."""

    sock: socket.socket
    client: socket.socket
    closed: bool = False

    def close(self) -> None:
        """Close our end."""
        self.closed = True
        self.sock.close()


@pytest.fixture
def connections() -> Iterator[list[Connection]]:
    """Give some connections."""
    with ExitStack() as opened:
        pairs = [socket.socketpair() for _ in range(4)]
        for pair in pairs:
            for end in pair:
                opened.enter_context(end)
        yield [Connection(*pair) for pair in pairs]


@pytest.fixture
def expected(connections: list[Connection]) -> Arrivals[Connection]:
    """Give what expects a request from each of them."""
    expected: Arrivals[Connection] = Arrivals(has_request)
    for connection in connections:
        expected.expect(connection)
    return expected


def has_news(expected: Arrivals[Connection]) -> bool:
    """Tell whether somebody who polls for it would be woken."""
    poller = select.poll()
    poller.register(expected, select.POLLIN)
    return bool(poller.poll(0))


def test_request_that_has_arrived_is_told_once_and_nothing_is_taken_from_it(
    connections: list[Connection], expected: Arrivals[Connection]
) -> None:
    assert (has_news(expected), expected.arrived()) == (False, [])
    connections[2].client.sendall(WHOLE)
    assert has_news(expected)
    assert expected.arrived() == [connections[2]]
    assert (has_news(expected), expected.arrived()) == (False, [])
    assert connections[2].sock.recv(1000) == WHOLE


def test_half_a_request_is_news_once_and_the_other_half_is_news_again(
    connections: list[Connection], expected: Arrivals[Connection]
) -> None:
    for end in range(10, len(WHOLE), 10):
        connections[0].client.sendall(WHOLE[end - 10 : end])
        assert has_news(expected)
        assert expected.arrived() == []
        assert not has_news(expected), "or who polls would never rest"
    connections[0].client.sendall(WHOLE[len(WHOLE) // 10 * 10 :])
    assert expected.arrived() == [connections[0]]


def test_client_that_goes_has_nothing_more_to_say(
    connections: list[Connection], expected: Arrivals[Connection]
) -> None:
    connections[1].client.close()
    assert expected.arrived() == [connections[1]]


def test_who_takes_too_long_is_given_up_and_who_has_just_arrived_is_not(
    connections: list[Connection], expected: Arrivals[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected.give_up_overdue()
    assert not any(connection.closed for connection in connections)
    expected.take_all()
    monkeypatch.setattr(arrivals, "ARRIVAL_SECONDS", 0.0)
    for connection in connections[:3]:
        expected.expect(connection)
    monkeypatch.undo()
    expected.expect(connections[3])
    connections[1].client.sendall(WHOLE)
    expected.give_up_overdue()
    assert [connection.closed for connection in connections] == [True, False, True, False]
    assert expected.arrived() == [connections[1]]
    assert expected.take_all() == [connections[3]]


def test_oldest_is_given_up_when_there_are_too_many(
    connections: list[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "MOST", 3)
    expected: Arrivals[Connection] = Arrivals(has_request)
    for connection in connections:
        assert not any(other.closed for other in connections)
        expected.expect(connection)
    assert [connection.closed for connection in connections] == [True, False, False, False]
    assert [expected.give_up_oldest() for _ in connections] == [True, True, True, False]


def test_all_that_are_left_are_taken_at_the_end(connections: list[Connection], expected: Arrivals[Connection]) -> None:
    assert expected.take_all() == connections
    assert expected.take_all() == []
    connections[0].client.sendall(WHOLE)
    assert not has_news(expected)


@pytest.mark.parametrize(
    ("sent", "is_whole"),
    [
        (b"", False),
        (WHOLE, True),
        (WHOLE[:-1], False),
        (WHOLE + b"more", True),
        (b"POST / HTTP/1.1\r\n\r\n", True),
        (b"POST / HTTP/1.1\r\n\r", False),
        (b"POST / HTTP/1.1\r\nX-Content-Length: 9\r\n\r\n", True),
        (b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n12345678", False),
        (b"POST / HTTP/1.1\r\nContent-Length:\t9 \r\n\r\n123456789", True),
        (b"POST / HTTP/1.1\r\nContent-Length: 9x\r\n\r\n", True),
        (b"POST / HTTP/1.1\r\nContent-Length: %s\r\n\r\n" % (5000 * b"1"), True),
        (b"POST / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", False),
        (b"POST / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n" + arrivals._SEEN * b"x", True),
        (arrivals._SEEN * b"x", True),
        (CHUNKED, False),
        (CHUNKED + b"3\r\n{}\n\r\n0\r\n\r\n", True),
        (CHUNKED + b"3;x=y\r\n{}\n\r\n0\r\nX: y\r\n\r\nmore", True),
        (CHUNKED + b"3\r\n{}\n\r\n0\r\nX: y\r\n", False),
        (CHUNKED + b"3\r\n{}\n\r\n0\r\n", False),
        (CHUNKED + b"3\r\n{}\n\r\n", False),
        (CHUNKED + b"3\r\n{}", False),
        (CHUNKED + b"3", False),
        (CHUNKED + b"x\r\n", True),
        (CHUNKED + b"-1\r\n", True),
        (CHUNKED + b"2\r\n{}{}", True),
        (CHUNKED + 5000 * b"1", True),
        (CHUNKED.replace(b"chunked", b"nonsense"), True),
    ],
)
def test_request_is_whole_when_no_more_of_it_is_to_come(
    connections: list[Connection], sent: bytes, is_whole: bool
) -> None:
    connections[0].client.sendall(sent)
    assert has_request(connections[0].sock) == is_whole


def test_request_over_tls_has_begun_with_its_first_byte(connections: list[Connection]) -> None:
    assert not has_first_byte(connections[0].sock)
    connections[0].client.sendall(b"\x16")
    assert has_first_byte(connections[0].sock)
