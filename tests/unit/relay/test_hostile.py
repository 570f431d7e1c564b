# SPDX-License-Identifier: MIT
# ruff: noqa: PLR0913 (a relay has two ends, and a test needs things at both)
"""Servers that send what no server should."""

import random
import select
import struct
from collections.abc import Callable

import pytest
from support.long import normally
from support.relayed import (
    INIT,
    VERSION,
    Clock,
    Content,
    Disk,
    Relayed,
    Server,
    Servers,
    Start,
    attributes,
    closing,
    data,
    exchange,
    handle,
    id_of,
    kind_of,
    looking,
    opening,
    reading,
    serve,
    writing,
)
from support.waiting import await_that

from sshfs_plugin.relay import packets, relay
from sshfs_plugin.relay.packets import LONGEST_REPLY, build, string

NAME, TO_WRITE = bytes(4), 2
ROUNDS = normally(3, 400)
MOST_BYTES_KEPT = 1 << 20
RUBBISH = {
    **{f"length {length}": struct.pack(">IBI", length, packets.STATUS, 9) for length in range(5)},
    "endless length": struct.pack(">IBI", 0xFFFFFFFF, packets.DATA, 9),
    "length above the limit": struct.pack(">IBI", LONGEST_REPLY + 1, packets.DATA, 9),
    "unknown id": packets.status(77, packets.OK),
    "id of ours": packets.status(packets.FIRST_OWN_ID, packets.OK),
    "no such type": build(250, 9),
    "a request": opening(9, b"a"),
    "handle for a read": handle(9, b"h"),
    "attributes for a read": attributes(9, 1, 1),
    "data for a look": data(10, b"x"),
    "data for an open": data(11, b"x"),
    "more data than was asked for": data(9, bytes(4)),
    "less data than it says": build(packets.DATA, 9, struct.pack(">I", 3), b"ab"),
    "more data than it says": build(packets.DATA, 9, struct.pack(">I", 1), b"ab"),
    "data without a length": build(packets.DATA, 9, b"ab"),
    "status without a code": build(packets.STATUS, 9),
    "attributes without flags": build(packets.ATTRS, 10),
    "attributes without times": build(packets.ATTRS, 10, struct.pack(">IQ", 13, 5)),
    "handle without a length": build(packets.HANDLE, 11, b"ab"),
    "handle that is not all there": build(packets.HANDLE, 11, struct.pack(">I", 7), b"ab"),
    "handle that is too long": handle(11, bytes(257)),
    "handle of nothing": handle(11, b""),
    "two versions": VERSION,
    "words": b"Welcome! Your password expires in 3 days.\r\n" * 100,
}


@pytest.fixture
def disk() -> Disk:
    return Disk({b"a": Content([b"abc"])})


@pytest.fixture
def server(relayed: Relayed, servers: Servers, disk: Disk) -> Server:
    """Give a server at which a file is open, and that has not answered a read, a look and an open."""
    server = relayed.connected(servers)
    assert exchange(relayed, server, disk, opening(1, b"a"))[0] == handle(1, NAME)
    relayed.sshfs.send(reading(9, NAME, 0, 3), looking(10, b"a"), opening(11, b"a"))
    for _ in range(3):
        server.take()
    return server


def assert_all_is_answered_by_the_next(relayed: Relayed, servers: Servers, disk: Disk, *, late: bool = False) -> None:
    """See the read answered well, and the others, too, if this is the first attempt after a loss."""
    disk.connected()
    replies = {id_of(reply): reply for reply in serve(relayed, servers.back(), disk, 3)}
    failed = [packets.status(identity, packets.UNAVAILABLE) for identity in (10, 11)]
    answered = [attributes(10, 3, 1), handle(11, packets.text(replies[11], 9)[0] if not late else b"")]
    assert replies[9] == data(9, b"abc")
    assert [replies[10], replies[11]] == (failed if late else answered)
    assert relayed.sshfs.take_now() is None


@pytest.mark.parametrize("rubbish", RUBBISH.values(), ids=RUBBISH)
def test_server_when_it_sends_rubbish_counts_as_lost_and_every_request_is_answered(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, rubbish: bytes
) -> None:
    server.send(rubbish)
    assert_all_is_answered_by_the_next(relayed, servers, disk)


@pytest.mark.parametrize("length", [1, 4, 8, 12, 15])
def test_server_when_it_stops_within_a_packet_counts_as_lost_after_a_while(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock, length: int
) -> None:
    server.send(data(9, b"abc")[:length])
    clock.await_looks()
    clock.forward(relay.UNANSWERED_SECONDS + 1)
    assert_all_is_answered_by_the_next(relayed, servers, disk)


@pytest.mark.parametrize("name", [name for name in RUBBISH if name != "id of ours"])
def test_next_server_when_it_sends_rubbish_counts_as_lost(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, name: str
) -> None:
    server.die()
    servers.back().send(RUBBISH[name])
    assert_all_is_answered_by_the_next(relayed, servers, disk, late=True)


def test_next_server_when_it_answers_before_it_is_asked_is_not_believed(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    server.die()
    servers.back().send(data(9, b"xyz"))
    assert_all_is_answered_by_the_next(relayed, servers, disk, late=True)


@pytest.mark.parametrize("name", [bytes(257), b"", bytes(100_000)], ids=len)
def test_next_server_when_it_gives_a_handle_that_is_none_counts_as_lost(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, name: bytes
) -> None:
    server.die()
    server = servers.back()
    while kind_of(request := server.take()) != packets.OPEN:
        server.send(disk.answer(request))
    server.send(handle(id_of(request), name))
    assert_all_is_answered_by_the_next(relayed, servers, disk, late=True)


@pytest.mark.parametrize(
    ("rubbish", "why"),
    [
        (RUBBISH["words"], "a packet of 1466264675 bytes"),
        (RUBBISH["length 0"], "a packet of 0 bytes"),
        (RUBBISH["unknown id"], "a reply that nothing has asked for"),
        (VERSION[:4], ""),
    ],
)
def test_first_server_when_it_sends_rubbish_ends_the_relay(
    relayed: Relayed, servers: Servers, capfd: pytest.CaptureFixture[str], rubbish: bytes, why: str
) -> None:
    relayed.sshfs.send(INIT)
    server = servers.next()
    server.send(rubbish)
    if why:
        server.rest()
    server.die(status=0)
    assert relayed.ends() == 1
    assert capfd.readouterr().err == (f"the server sends {why}, which is no SFTP\n" if why else "")


# Random replies


def mutated(rng: random.Random, reply: bytes) -> bytes:
    """Change a reply, or what is around it."""
    body = bytearray(reply[4:])
    for _ in range(rng.choice([1, 1, 1, 4, 30])):
        body[rng.randrange(len(body))] = rng.choice([0, 1, 127, 255, rng.randrange(256)])
    cut = bytes(body[: rng.randint(0, len(body))])
    possible: list[Callable[[], bytes]] = [
        lambda: struct.pack(">I", len(body)) + body,
        lambda: struct.pack(">I", len(cut)) + cut,
        lambda: reply[:-1],
        lambda: reply + reply,
        lambda: reply + rng.randbytes(rng.randint(1, 40)),
        lambda: rng.randbytes(rng.randint(1, 40)) + reply,
        lambda: reply[:5] + rng.randbytes(4) + reply[9:],
        lambda: reply[:4] + bytes([rng.choice([2, 101, 102, 103, 104, 105, 201, 255])]) + reply[5:],
        lambda: build(packets.NAME, id_of(reply), bytes(LONGEST_REPLY - 5)),
        lambda: VERSION,
        lambda: b"",
    ]
    return rng.choice(possible)()


class Sshfs:
    """An sshfs that asks at random."""

    def __init__(self, rng: random.Random, relayed: Relayed) -> None:
        self._rng, self._relayed = rng, relayed
        self.asked: dict[int, bytes] = {}
        self._handles: list[bytes] = []
        self._next = 0

    def ask(self) -> None:
        """Send a request."""
        rng, identity = self._rng, self._next
        self._next += 1
        path = rng.choice([b"a", b"b", b"c/d"])
        possible = [
            opening(identity, path),
            looking(identity, path),
            looking(identity, path, packets.STAT),
            looking(identity, path, packets.OPENDIR),
            looking(identity, path, packets.REMOVE) if rng.random() < 0.1 else opening(identity, path, 1 | 8),
        ]
        if self._handles:
            name = rng.choice(self._handles)
            possible += [reading(identity, name, rng.randrange(200), rng.randrange(1, 300))] * 4
            possible += [build(packets.FSTAT, identity, string(name))]
            if rng.random() < 0.2:
                self._handles.remove(name)
                possible = [closing(identity, name)]
        request = rng.choice(possible)
        self.asked[identity] = request
        self._relayed.sshfs.send_if_it_can(request)

    def take(self) -> None:
        """Look at the replies that are there: each is to something that was asked, once, and of the right type."""
        while (reply := self._relayed.sshfs.take_now()) is not None:
            assert len(reply) <= 4 + LONGEST_REPLY
            request = self.asked.pop(id_of(reply))
            right = {
                packets.OPEN: packets.HANDLE,
                packets.OPENDIR: packets.HANDLE,
                packets.READ: packets.DATA,
                packets.LSTAT: packets.ATTRS,
                packets.STAT: packets.ATTRS,
                packets.FSTAT: packets.ATTRS,
            }
            assert kind_of(reply) in (packets.STATUS, right.get(kind_of(request)))
            if kind_of(reply) == packets.HANDLE:
                name = packets.text(reply, 9)[0]
                assert name not in self._handles
                self._handles.append(name)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_relay_when_a_server_sends_anything_ends_nothing_but_sshfs_and_keeps_little(
    start: Start, servers: Servers, clock: Clock, seed: int
) -> None:
    rng = random.Random(seed)  # noqa: S311 (nothing here is secret)
    disk = Disk({path: Content([rng.randbytes(500)]) for path in (b"a", b"b", b"c/d")})
    relayed = start()
    sshfs, server = Sshfs(rng, relayed), relayed.connected(servers)
    requests, idle = 150, 0
    while (requests or sshfs.asked) and not relayed.has_ended:
        if requests and len(sshfs.asked) < 20:
            sshfs.ask()
            requests -= 1
        sshfs.take()
        assert relayed.kept() < MOST_BYTES_KEPT
        if servers.is_called:
            server.close()
            server = servers.next()
            disk.connected()
            server.send_if_it_can(VERSION)
        elif request := server.take_now():
            idle = 0
            if request != INIT:
                reply = disk.answer(request)
                server.send_if_it_can(mutated(rng, reply) if requests and rng.random() < 0.05 else reply)
        elif not select.select([relayed.sshfs.stream, server.stream], [], [], 0.005)[0] or server.is_cut:
            idle += 1
            if idle > 8:
                clock.forward(relay.UNANSWERED_SECONDS + 1)
                idle = 0
    assert relayed.failure is None or isinstance(relayed.failure, relay.CannotGoOn)


def open_at(relayed: Relayed, server: Server, path: bytes, name: bytes, flags: int = packets.TO_READ) -> bytes:
    """Let the server give a handle for a path; return the handle that sshfs gets."""
    relayed.sshfs.send(opening(20, path, flags))
    assert kind_of(server.take()) == packets.OPEN
    server.send(handle(20, name))
    return packets.text(relayed.sshfs.take(), 9)[0]


def test_server_when_it_gives_one_handle_for_two_files_counts_as_lost(
    relayed: Relayed, servers: Servers, capfd: pytest.CaptureFixture[str]
) -> None:
    """It would write each into the other, as that of Erlang/OTP does once three files are open."""
    server = relayed.connected(servers)
    mine = open_at(relayed, server, b"a", b"1", TO_WRITE)
    relayed.sshfs.send(opening(2, b"b", TO_WRITE), writing(3, mine, 0, b"abc"))
    server.take(), server.take()
    server.send(handle(2, b"1"), packets.status(3, packets.OK))
    assert [relayed.sshfs.take() for _ in range(2)] == [
        packets.status(identity, packets.UNAVAILABLE) for identity in (2, 3)
    ]
    servers.back()
    assert "the server sends one handle for two open files, 'a' and 'b', which is no SFTP" in capfd.readouterr().err


def test_next_server_when_it_gives_one_handle_for_two_files_counts_as_lost(relayed: Relayed, servers: Servers) -> None:
    server = relayed.connected(servers)
    for path in (b"a", b"b"):
        open_at(relayed, server, path, path)
    server.die()
    server = servers.back()
    for _ in range(2):
        request = server.take()
        assert kind_of(request) == packets.OPEN
        server.send(handle(id_of(request), b"1"))
    server.rest()
    said = relayed.outage.read_text
    await_that(lambda: "sends one handle for two open files, 'a' and 'b', which is no SFTP" in said(), said)
    servers.back()


def test_server_when_it_gives_one_handle_to_all_who_open_a_file_is_taken_at_its_word(
    relayed: Relayed, servers: Servers
) -> None:
    """It may keep nothing of an open file, and give its path as the handle."""
    server = relayed.connected(servers)
    first, second = (open_at(relayed, server, b"a", b"/a") for _ in range(2))
    assert first != second
    for each in (first, second):
        relayed.sshfs.send(closing(21, each))
        assert server.take() == closing(21, b"/a")
        server.send(packets.status(21, packets.OK))
        relayed.sshfs.take()
    assert open_at(relayed, server, b"b", b"/a"), "it was closed as often as it was opened"


def test_directory_of_which_the_server_sends_more_at_once_than_there_is_room_for_is_named_so(
    relayed: Relayed, server: Server, servers: Servers, capfd: pytest.CaptureFixture[str]
) -> None:
    server.send(struct.pack(">IBI", packets.LONGEST_NAMES + 1, packets.NAME, 9))
    servers.back()
    assert (
        "the server sends 16777217 bytes of names at once, of which there is room for 16777216: a directory there is "
        "too large for it"
    ) in capfd.readouterr().err


def test_directory_without_end_is_given_up(
    relayed: Relayed,
    server: Server,
    servers: Servers,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(packets, "LONGEST_LISTING", 1000)
    names = [
        packets.text(exchange(relayed, server, disk, looking(k, b"d", packets.OPENDIR))[0], 9)[0] for k in range(2)
    ]
    asked = [build(packets.READDIR, 10 + k, string(name)) for k, name in enumerate(names)]
    for request in [*asked, *asked]:
        relayed.sshfs.send(request)
        server.take()
        server.send(build(packets.NAME, id_of(request), bytes(400)))
        assert kind_of(relayed.sshfs.take()) == packets.NAME
    relayed.sshfs.send(asked[0])
    server.take()
    server.send(build(packets.NAME, id_of(asked[0]), bytes(400)))
    assert relayed.sshfs.take() == packets.status(id_of(asked[0]), packets.UNAVAILABLE)
    servers.back()
    assert "the server sends names of one directory without end" in capfd.readouterr().err
