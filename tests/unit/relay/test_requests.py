# SPDX-License-Identifier: MIT
# ruff: noqa: PLR0913 (a relay has two ends, and a test needs things at both)
"""What sshfs is told of requests other than reads when the connection is lost."""

import contextlib
import select
import struct
from typing import Any

import pytest
from support.relayed import (
    FSYNC,
    INIT,
    NOTHING,
    STATVFS,
    Clock,
    Content,
    Disk,
    Relayed,
    Server,
    Servers,
    Start,
    closing,
    data,
    exchange,
    handle,
    id_of,
    kind_of,
    looking,
    opening,
    reading,
    renaming,
    serve,
    writing,
)
from support.waiting import await_that

from sshfs_plugin.relay import outage, packets, relay
from sshfs_plugin.relay.packets import OK, UNAVAILABLE, build, string

FILE, WRITTEN, DIRECTORY = b"file", b"written", b"directory"
CHANGING = {
    "WRITE": writing(9, FILE, 0, b"new"),
    "SETSTAT": looking(9, b"a", packets.SETSTAT) + NOTHING,
    "FSETSTAT": build(packets.FSETSTAT, 9, string(FILE), NOTHING),
    "REMOVE": looking(9, b"a", packets.REMOVE),
    "MKDIR": build(packets.MKDIR, 9, string(b"a"), NOTHING),
    "RMDIR": looking(9, b"a", packets.RMDIR),
    "RENAME": renaming(9, b"a", b"b"),
    "SYMLINK": build(packets.SYMLINK, 9, string(b"a"), string(b"b")),
    "posix-rename": renaming(9, b"a", b"b", posix=True),
    "hardlink": build(packets.EXTENDED, 9, string(b"hardlink@openssh.com"), string(b"a"), string(b"b")),
    "fsync": build(packets.EXTENDED, 9, string(FSYNC), string(FILE)),
    "unknown": build(packets.EXTENDED, 9, string(b"lsetstat@openssh.com"), string(b"a"), NOTHING),
    "type": build(77, 9, string(b"a")),
    "OPEN w": opening(9, b"a", 2),
    "OPEN rw": opening(9, b"a", 3),
    "OPEN r+creat": opening(9, b"a", 1 | 8),
    "OPEN r+trunc": opening(9, b"a", 1 | 16),
    "OPEN append": opening(9, b"a", 2 | 4 | 8),
    "READDIR": build(packets.READDIR, 9, string(DIRECTORY)),
    "FSTAT": build(packets.FSTAT, 9, string(WRITTEN)),
}
"""Requests that change something, or that go on with a handle."""
ASKING = {
    "LSTAT": looking(9, b"a"),
    "STAT": looking(9, b"a", packets.STAT),
    "READLINK": looking(9, b"a", packets.READLINK),
    "REALPATH": looking(9, b"a", packets.REALPATH),
    "OPENDIR": looking(9, b"a", packets.OPENDIR),
    "OPEN": opening(9, b"a"),
    "statvfs": build(packets.EXTENDED, 9, string(STATVFS), string(b"a")),
}
"""Requests that only ask."""


def sized(packet: bytes) -> bytes:
    """Give a packet the length that it has."""
    return struct.pack(">I", len(packet) - 4) + packet[4:]


CHANGING = {name: sized(packet) for name, packet in CHANGING.items()}


@pytest.fixture
def server(relayed: Relayed, servers: Servers) -> Server:
    """Give a server at which a file is open for reading and writing, one for writing alone, and a directory."""
    server = relayed.connected(servers)
    relayed.sshfs.send(opening(1, b"a", 3), looking(2, b"d", packets.OPENDIR), opening(4, b"w", 2))
    server.take(), server.take(), server.take()
    server.send(handle(1, FILE), handle(2, DIRECTORY), handle(4, WRITTEN))
    relayed.sshfs.take(), relayed.sshfs.take(), relayed.sshfs.take()
    return server


def next_request(server: Server) -> bytes:
    """Return what the server is asked next by sshfs; say that there is no file to what the relay asks."""
    while True:
        request = server.take()
        if id_of(request) < 2**31:
            return request
        server.send(packets.status(id_of(request), 2))


def restored(relayed: Relayed, server: Server) -> None:
    """Say that there is no file to all that the relay asks, until the outage is over."""

    def is_over() -> bool:
        if not relayed.outage.exists():
            return True
        if request := server.take_now():
            assert id_of(request) > 2**31
            server.send(packets.status(id_of(request), 2))
        return False

    await_that(is_over, lambda: "the outage is over")


@pytest.mark.parametrize("request_", CHANGING.values(), ids=CHANGING)
def test_request_that_changes_something_when_the_connection_is_lost_fails_and_is_not_repeated(
    relayed: Relayed, server: Server, servers: Servers, request_: bytes
) -> None:
    relayed.sshfs.send(request_)
    assert server.take() == request_
    server.die()
    assert relayed.sshfs.take() == packets.status(9, UNAVAILABLE)
    server = servers.back()
    relayed.sshfs.send(looking(10, b"after"))
    assert next_request(server) == looking(10, b"after")


@pytest.mark.parametrize("request_", [*CHANGING.values(), *ASKING.values()], ids=[*CHANGING, *ASKING])
def test_request_when_it_comes_during_an_outage_fails_and_is_not_sent_later(
    relayed: Relayed, server: Server, servers: Servers, request_: bytes
) -> None:
    server.die()
    servers.next().die()  # with the first attempt, the time to hold requests ends
    absent = servers.next()
    relayed.sshfs.send(request_)
    assert relayed.sshfs.take() == packets.status(9, UNAVAILABLE)
    absent.greet()
    restored(relayed, absent)
    relayed.sshfs.send(looking(10, b"after"))
    assert next_request(absent) == looking(10, b"after")


@pytest.mark.parametrize("name", [FILE, DIRECTORY, b"unknown"])
def test_close_when_the_connection_is_lost_is_answered_well(
    relayed: Relayed, server: Server, servers: Servers, name: bytes
) -> None:
    relayed.sshfs.send(closing(9, name))
    server.die()
    assert relayed.sshfs.take() == packets.status(9, OK)
    server = servers.back()
    relayed.sshfs.send(closing(10, FILE), closing(11, DIRECTORY), looking(12, b"after"))
    assert next_request(server) == looking(12, b"after")
    assert [relayed.sshfs.take(), relayed.sshfs.take()] == [packets.status(10, OK), packets.status(11, OK)]


@pytest.mark.parametrize("request_", ASKING.values(), ids=ASKING)
def test_request_that_only_asks_when_the_server_is_back_soon_is_repeated(
    relayed: Relayed, server: Server, servers: Servers, request_: bytes
) -> None:
    relayed.sshfs.send(request_)
    assert server.take() == request_
    server.die()
    server = servers.back()
    assert next_request(server) == request_
    server.send(packets.status(9, 2))
    assert relayed.sshfs.take() == packets.status(9, 2)


@pytest.mark.parametrize("request_", ASKING.values(), ids=ASKING)
def test_request_that_only_asks_when_it_was_repeated_and_hangs_again_fails_and_is_not_asked_any_more(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock, request_: bytes
) -> None:
    """A directory that hangs is not to end each connection, with what others write over it."""
    relayed.sshfs.send(request_)
    server.take()
    clock.await_looks()
    clock.forward(relay.UNANSWERED_SECONDS + 1)
    server = servers.back()
    assert next_request(server) == request_
    clock.await_looks()
    clock.forward(relay.UNANSWERED_SECONDS + 1)
    assert relayed.sshfs.take() == packets.status(9, UNAVAILABLE)
    server = servers.back()
    restored(relayed, server)
    relayed.sshfs.send(looking(10, b"after"))
    assert next_request(server) == looking(10, b"after")


@pytest.mark.parametrize("request_", ASKING.values(), ids=ASKING)
def test_request_that_only_asks_when_the_server_is_not_back_soon_fails(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock, request_: bytes
) -> None:
    relayed.sshfs.send(request_)
    server.take()
    server.die()
    server = servers.next()
    assert relayed.sshfs.take_now() is None
    clock.forward(outage.HOLD_SECONDS)
    assert relayed.sshfs.take() == packets.status(9, UNAVAILABLE)
    server.greet()
    restored(relayed, server)
    relayed.sshfs.send(looking(10, b"after"))
    assert next_request(server) == looking(10, b"after")


def test_request_when_it_comes_just_after_a_loss_waits_for_the_server(
    relayed: Relayed, server: Server, servers: Servers
) -> None:
    server.die()
    server = servers.next()  # so that the loss was noticed
    relayed.sshfs.send(writing(9, FILE, 0, b"x"), looking(10, b"after"), renaming(11, b"a", b"b"))
    server.greet()
    assert next_request(server) == looking(10, b"after")
    assert server.take() == renaming(11, b"a", b"b")
    assert relayed.sshfs.take() == packets.status(9, UNAVAILABLE)


def test_directory_that_was_asked_for_when_the_connection_was_lost_can_be_read(
    relayed: Relayed, server: Server, servers: Servers
) -> None:
    relayed.sshfs.send(looking(9, b"e", packets.OPENDIR))
    server.take()
    server.die()
    server = servers.back()
    assert next_request(server) == looking(9, b"e", packets.OPENDIR)
    server.send(handle(9, DIRECTORY))
    name = packets.text(relayed.sshfs.take(), 9)[0]
    assert name != DIRECTORY  # sshfs has not closed the other yet
    relayed.sshfs.send(build(packets.READDIR, 10, string(name)), build(packets.READDIR, 11, string(DIRECTORY)))
    assert server.take() == build(packets.READDIR, 10, string(DIRECTORY))
    assert relayed.sshfs.take() == packets.status(11, UNAVAILABLE)


def test_server_when_its_disk_hangs_keeps_requests_from_waiting(
    relayed: Relayed, server: Server, servers: Servers
) -> None:
    relayed.sshfs.send(looking(3, b"a"))
    server.take()
    server.die()
    servers.next().die()
    server = servers.back()
    assert kind_of(server.take()) == packets.LSTAT  # it is not answered
    relayed.sshfs.take()
    relayed.sshfs.send(looking(9, b"a"))
    assert relayed.sshfs.take() == packets.status(9, UNAVAILABLE)


# Silence


def test_server_when_nothing_was_asked_for_long_is_not_silent(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waiting_long(*arguments: Any) -> Any:
        if arguments[3] is None:  # it waits for sshfs alone
            clock.forward(relay.UNANSWERED_SECONDS * 100)
        return select.select(*arguments)

    monkeypatch.setattr(relay, "select", waiting_long)
    for identity in range(9, 12):
        relayed.sshfs.send(looking(identity, b"a"))
        assert server.take() == looking(identity, b"a")
        clock.await_looks()
        server.send(packets.status(identity, 2))
        assert relayed.sshfs.take() == packets.status(identity, 2)
    assert not servers.is_called


def test_server_when_it_does_not_answer_the_first_connection_ends_the_relay(
    start: Start, servers: Servers, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    """Then sshfs ends as well, and whoever mounts learns it."""
    relayed = start()
    relayed.sshfs.send(INIT)
    server = servers.next()
    assert server.take() == INIT
    clock.await_looks()
    clock.forward(relay.ATTEMPT_SECONDS - 5)
    clock.await_looks()
    assert not relayed.has_ended
    clock.forward(5)
    assert server.rest() == b""
    server.close()
    assert relayed.ends() > 0
    assert capfd.readouterr().err == "the server does not answer in time\n"


def test_server_when_it_answers_nothing_counts_as_lost(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock
) -> None:
    relayed.sshfs.send(renaming(9, b"a", b"b"))
    server.take()
    clock.forward(relay.UNANSWERED_SECONDS + 0.1)
    assert relayed.sshfs.take() == packets.status(9, UNAVAILABLE)
    assert server.rest() == b""
    servers.back()
    await_that(relayed.outage.exists, lambda: "an outage is told")


def test_server_when_it_is_asked_on_but_answers_nothing_counts_as_lost(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "CLOCK_SECONDS", 60.0)  # only requests make it look at the clock
    relayed.sshfs.send(looking(9, b"a"))
    server.take()
    for identity in range(10, 20):
        clock.forward(relay.UNANSWERED_SECONDS / 8)
        relayed.sshfs.send(looking(identity, b"a"))
        await_that(lambda: server.take_now() or servers.is_called, lambda: "the relay passes it on, or gives up")
    assert servers.is_called


def test_server_when_it_is_to_sync_has_more_time(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock
) -> None:
    relayed.sshfs.send(CHANGING["fsync"], looking(10, b"a"))
    server.take(), server.take()
    clock.forward(relay.UNANSWERED_SECONDS + 1)
    relayed.sshfs.send(looking(11, b"a"))
    assert server.take() == looking(11, b"a")
    clock.await_looks()
    assert not servers.is_called
    clock.forward(relay.UNSYNCED_SECONDS - relay.UNANSWERED_SECONDS)
    assert relayed.sshfs.take() == packets.status(9, UNAVAILABLE)


def test_server_when_a_file_is_called_like_the_request_to_sync_has_no_more_time(
    relayed: Relayed, server: Server, clock: Clock
) -> None:
    relayed.sshfs.send(looking(9, FSYNC), renaming(10, b"a", FSYNC))
    server.take(), server.take()
    clock.forward(relay.UNANSWERED_SECONDS + 1)
    assert server.rest() == b""
    assert relayed.sshfs.take() == packets.status(10, UNAVAILABLE)


def test_server_when_it_answers_anything_is_not_silent(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock
) -> None:
    relayed.sshfs.send(writing(9, FILE, 0, b"x"))
    server.take()
    for identity in range(10, 15):
        relayed.sshfs.send(looking(identity, b"a"))
        server.take()
        clock.forward(relay.UNANSWERED_SECONDS - 10)
        server.send(packets.status(identity, 2))
        assert relayed.sshfs.take() == packets.status(identity, 2)
    assert not servers.is_called


def test_sshfs_when_it_takes_no_replies_is_not_the_servers_silence(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock
) -> None:
    disk = Disk({b"big": Content([bytes(100_000)])})
    requests = [reading(10 + k, FILE, 0, 100_000) for k in range(20)]
    relayed.sshfs.send(*requests)
    disk.handles[FILE] = disk.files[b"big"]
    replies = [disk.answer(server.take()) for _ in requests]
    server.stream.setblocking(False)
    rest, sent = b"".join(replies), 1
    while sent:
        sent = 0
        with contextlib.suppress(BlockingIOError):
            sent = server.stream.send(rest)
        rest = rest[sent:]
        clock.await_looks(5)
    assert rest  # nobody takes it
    clock.forward(relay.UNANSWERED_SECONDS * 2)
    clock.await_looks()
    assert not servers.is_called
    assert [relayed.sshfs.take() for _ in range(3)] == replies[:3]


def test_files_when_they_take_too_long_to_be_opened_again_are_left_to_the_next_connection(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock
) -> None:
    disk = Disk({b"a": Content([b"abc"])})
    disk.handles[FILE] = disk.files[b"a"]
    server.die()
    server = servers.back()
    while kind_of(request := server.take()) != packets.OPEN:
        server.send(disk.answer(request))
    clock.await_looks()
    clock.forward(relay.REOPEN_SECONDS + 0.1)
    assert server.rest() == b""
    relayed.sshfs.send(reading(9, FILE, 0, 3))
    disk.connected()
    assert serve(relayed, servers.back(), disk, 1) == [data(9, b"abc")]


def test_request_when_the_outage_is_over_reaches_the_server(relayed: Relayed, server: Server, servers: Servers) -> None:
    disk = Disk({b"a": Content([b"abc"])})
    server.die()
    opened = exchange(relayed, servers.back(), disk, opening(9, b"a"))
    assert kind_of(opened[0]) == packets.HANDLE
    await_that(lambda: not relayed.outage.exists(), lambda: "the outage is over")
