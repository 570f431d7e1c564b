# SPDX-License-Identifier: MIT
"""Directories of which the server sends more names at once than sshfs takes, as that of Erlang/OTP does."""

import itertools
import struct
from collections.abc import Iterator

import pytest
from support.relayed import (
    Clock,
    Content,
    Disk,
    Relayed,
    Server,
    Servers,
    closing,
    data,
    exchange,
    handle,
    id_of,
    kind_of,
    looking,
    opening,
    reading,
)
from support.waiting import await_that

from sshfs_plugin.relay import packets, relay
from sshfs_plugin.relay.packets import LONGEST_REPLY, build, string

FILE, DIRECTORY = b"f", b"d"
END = struct.pack(">I", packets.END_OF_FILE)
FLAGS_OF_ATTRIBUTES = [0, 1, 15, 0x80000000 | 15]


@pytest.fixture
def server(relayed: Relayed, servers: Servers) -> Server:
    """Give a server at which a file and a directory are open."""
    server = relayed.connected(servers)
    relayed.sshfs.send(opening(1, b"a"), looking(2, b"photos", packets.OPENDIR))
    for name in (FILE, DIRECTORY):
        server.send(handle(id_of(server.take()), name))
        relayed.sshfs.take()
    return server


def listing(identity: int, name: bytes = DIRECTORY) -> bytes:
    """Return a READDIR."""
    return build(packets.READDIR, identity, string(name))


def entry(name: bytes, flags: int) -> bytes:
    """Return what a NAME has of one file, with attributes of which the server tells some."""
    attributes = struct.pack(">I", flags)
    if flags & packets.HAS_SIZE:
        attributes += struct.pack(">Q", 5)
    if flags & packets.HAS_OWNER:
        attributes += struct.pack(">II", 0, 0)
    if flags & packets.HAS_MODE:
        attributes += struct.pack(">I", 0o100644)
    if flags & packets.HAS_TIMES:
        attributes += struct.pack(">II", 1, 1)
    if flags & packets.HAS_MORE:
        attributes += struct.pack(">I", 2) + 2 * (string(b"x@example.org") + string(b"value"))
    return string(name) + string(b"-rw-r--r-- 1 bob bob " + name) + attributes


def names(identity: int, entries: list[bytes]) -> bytes:
    """Return a NAME."""
    return build(packets.NAME, identity, struct.pack(">I", len(entries)), *entries)


def many(count: int, flags: int = 15, first: int = 0) -> list[bytes]:
    return [entry(b"photo-%d.jpg" % number, flags) for number in range(first, first + count)]


def read_names(reply: bytes) -> Iterator[bytes]:
    """Read a NAME as sshfs does; yield the entries."""
    assert len(reply) - 4 <= LONGEST_REPLY, "sshfs would end the connection"
    position = 13
    for _ in range(packets.number(reply, 9)):
        start = position
        for _ in range(2):
            _, position = packets.text(reply, position)
        flags = packets.number(reply, position)
        position += 4 + 8 * (flags & 1) + 4 * (flags & 2) + (flags & 4) + (flags & 8)
        if flags & 0x80000000:
            count, position = packets.number(reply, position), position + 4
            for _ in range(2 * count):
                _, position = packets.text(reply, position)
        yield reply[start:position]
    assert position == len(reply)


def listed(relayed: Relayed, server: Server, replies: list[bytes], at_once: int = 2) -> list[bytes]:
    """List the directory as sshfs does, with some requests under way; return the entries.

    Args:
        relayed: The relay.
        server: Its server.
        replies: The names that the server sends, each in answer to one request; then it says that this is all.
        at_once: How many requests are under way.
    """
    found: list[bytes] = []
    last = 100 + at_once
    relayed.sshfs.send(*map(listing, range(100, last)))
    for identity in range(100, 10000):
        assert server.take() == listing(identity)
        content = replies.pop(0)[9:] if replies else None
        server.send(build(packets.NAME, identity, content) if content else build(packets.STATUS, identity, END))
        reply = relayed.sshfs.take()
        assert id_of(reply) == identity
        if kind_of(reply) == packets.STATUS:
            assert reply[9:13] == END
            break
        found += read_names(reply)
        relayed.sshfs.send(listing(last))
        last += 1
    for _ in range(at_once - 1):
        server.send(build(packets.STATUS, id_of(server.take()), END))
        assert kind_of(relayed.sshfs.take()) == packets.STATUS
    return found


@pytest.mark.parametrize("flags", FLAGS_OF_ATTRIBUTES)
@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_names_when_they_come_all_at_once_are_all_listed(
    relayed: Relayed, server: Server, at_once: int, flags: int
) -> None:
    entries = many(5000, flags)
    assert listed(relayed, server, [names(0, entries)], at_once) == entries
    relayed.sshfs.send(reading(9, FILE, 0, 3))
    assert server.take() == reading(9, FILE, 0, 3)
    server.send(data(9, b"abc"))
    assert relayed.sshfs.take() == data(9, b"abc")


def test_names_when_they_come_in_several_long_replies_are_all_listed(relayed: Relayed, server: Server) -> None:
    entries = many(9000)
    replies = [names(0, entries[start:end]) for start, end in [(0, 3000), (3000, 3010), (3010, 7000), (7000, 9000)]]
    assert sorted(listed(relayed, server, replies)) == sorted(entries)


def test_names_of_just_as_many_bytes_as_sshfs_takes_are_passed_on_as_they_are(relayed: Relayed, server: Server) -> None:
    whole = names(5, [entry(b"a", 15)])
    whole = names(5, [entry(b"a", 15), string(bytes(LONGEST_REPLY - len(whole) + 4 - 12)) + string(b"") + bytes(4)])
    assert len(whole) - 4 == LONGEST_REPLY
    relayed.sshfs.send(listing(5))
    server.take()
    server.send(whole)
    assert relayed.sshfs.take() == whole


def test_names_that_come_slowly_are_waited_for(relayed: Relayed, server: Server, clock: Clock) -> None:
    whole = names(5, many(5000))
    relayed.sshfs.send(listing(5))
    server.take()
    steps = [0, LONGEST_REPLY + 100_000, LONGEST_REPLY + 200_000, LONGEST_REPLY + 300_000]
    for start, end in itertools.pairwise(steps):
        server.send(whole[start:end])
        clock.await_looks()
        clock.forward(relay.UNANSWERED_SECONDS - 1)
        clock.await_looks()
    server.send(whole[steps[-1] :])
    assert kind_of(relayed.sshfs.take()) == packets.NAME
    assert not server.is_cut


def test_directory_that_is_closed_before_all_names_are_given_keeps_none(relayed: Relayed, server: Server) -> None:
    relayed.sshfs.send(listing(5))
    server.take()
    server.send(names(5, many(20_000)))
    assert kind_of(relayed.sshfs.take()) == packets.NAME
    assert relayed.kept() > LONGEST_REPLY
    relayed.sshfs.send(closing(6, DIRECTORY))
    server.take()
    server.send(packets.status(6, packets.OK))
    relayed.sshfs.take()
    await_that(lambda: relayed.kept() < LONGEST_REPLY, lambda: "the names are kept no more")


def test_connection_that_is_lost_before_all_names_are_given_fails_the_listing(
    relayed: Relayed, server: Server, servers: Servers
) -> None:
    disk = Disk({b"a": Content([b"abc"])})
    relayed.sshfs.send(listing(5))
    server.take()
    server.send(names(5, many(20_000)))
    assert kind_of(relayed.sshfs.take()) == packets.NAME
    server.die()
    failed, looked = exchange(relayed, servers.back(), disk, listing(6), looking(7, b"a"))
    assert failed == packets.status(6, packets.UNAVAILABLE)
    assert kind_of(looked) == packets.ATTRS
    assert relayed.kept() < LONGEST_REPLY


@pytest.mark.parametrize("is_told", [True, False])
def test_listing_when_the_end_comes_before_the_names_fails_and_nothing_else_does(
    relayed: Relayed, server: Server, is_told: bool
) -> None:
    """Some of the names would be missing, as if there were no such files."""
    entries = many(5000)
    relayed.sshfs.send(listing(5), listing(6), listing(7))
    for _ in range(3):
        server.take()
    if is_told:
        server.send(build(packets.STATUS, 6, END), names(5, entries), build(packets.STATUS, 7, END))
    else:
        server.send(names(5, entries), build(packets.STATUS, 7, END), build(packets.STATUS, 6, END))
    replies = {id_of(reply): reply for reply in (relayed.sshfs.take() for _ in range(3))}
    failed = packets.status(5 if is_told else 7, packets.UNAVAILABLE)
    assert replies[id_of(failed)] == failed
    relayed.sshfs.send(reading(9, FILE, 0, 3))
    assert server.take() == reading(9, FILE, 0, 3)


def test_listing_of_more_than_is_kept_fails_and_nothing_else_does(
    relayed: Relayed, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of these is as long as one may be; together they are more than the relay keeps for sshfs."""
    monkeypatch.setattr(packets, "LONGEST_NAMES", 600_000)
    entries = many(6000)
    relayed.sshfs.send(*map(listing, range(5, 9)))
    for _ in range(4):
        server.take()
    server.send(names(5, entries), names(6, entries))
    assert kind_of(relayed.sshfs.take()) == packets.NAME
    assert relayed.sshfs.take() == packets.status(6, packets.UNAVAILABLE)
    server.send(build(packets.STATUS, 7, END))
    assert relayed.sshfs.take() == packets.status(7, packets.UNAVAILABLE)
    assert relayed.kept() < LONGEST_REPLY
    relayed.sshfs.send(reading(9, FILE, 0, 3))
    assert server.take() == reading(9, FILE, 0, 3)


@pytest.mark.parametrize(
    "content",
    [
        struct.pack(">I", 7000) + b"".join(many(6000)),
        struct.pack(">I", 2) + 2 * entry(bytes(LONGEST_REPLY), 15),
        struct.pack(">I", 1) + struct.pack(">I", 0xFFFFFFFF) + bytes(LONGEST_REPLY),
        struct.pack(">I", 1) + string(b"a") + string(b"a") + struct.pack(">II", 0x80000000, 0xFFFFFFFF)
        + bytes(LONGEST_REPLY),
    ],
    ids=["fewer than it says", "one that is too long", "text without end", "attributes without end"],
)  # fmt: skip
def test_server_when_its_long_names_are_none_counts_as_lost(
    relayed: Relayed, server: Server, servers: Servers, content: bytes
) -> None:
    relayed.sshfs.send(listing(5))
    server.take()
    server.send_if_it_can(build(packets.NAME, 5, content))
    assert relayed.sshfs.take() == packets.status(5, packets.UNAVAILABLE)
    servers.back()


@pytest.mark.parametrize("kind", [packets.READLINK, packets.REALPATH])
def test_server_when_it_sends_long_names_for_one_path_counts_as_lost(
    relayed: Relayed, server: Server, servers: Servers, kind: int
) -> None:
    relayed.sshfs.send(looking(5, b"link", kind))
    assert server.take() == looking(5, b"link", kind)
    server.send_if_it_can(names(5, many(5000)))
    servers.back()
    assert relayed.sshfs.take_now() is None
