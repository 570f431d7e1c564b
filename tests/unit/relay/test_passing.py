# SPDX-License-Identifier: MIT
"""Packets that pass while the connection is there."""

import random
import select
import struct
from collections.abc import Callable

import pytest
from support.relayed import (
    FSYNC,
    STATVFS,
    Servers,
    Start,
    attributes,
    closing,
    code_of,
    data,
    handle,
    id_of,
    kind_of,
    looking,
    opening,
    reading,
    renaming,
    writing,
)

from sshfs_plugin.relay import packets
from sshfs_plugin.relay.packets import LONGEST_REPLY, LONGEST_REQUEST, build, string

H = b"\0\0\0\7"


def repeatable(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 (nothing here is secret)


def some_request(rng: random.Random, identity: int) -> bytes:
    """Choose a request, of a file that is open as H, or of any path."""
    path = rng.randbytes(rng.randint(0, 300))
    size = rng.choice([0, 1, 60, 4096, 65536, 200_000])
    possible: list[Callable[[], bytes]] = [
        lambda: opening(identity, path, rng.choice([1, 2, 3, 26])),
        lambda: reading(identity, H, rng.getrandbits(63), rng.randint(0, 100_000)),
        lambda: writing(identity, H, rng.getrandbits(63), rng.randbytes(size)),
        lambda: looking(identity, path, rng.choice([packets.LSTAT, packets.STAT, packets.OPENDIR, packets.REMOVE])),
        lambda: looking(identity, path, rng.choice([packets.READLINK, packets.REALPATH, packets.RMDIR])),
        lambda: renaming(identity, path, rng.randbytes(20), posix=rng.random() < 0.5),
        lambda: build(packets.FSTAT, identity, string(H)),
        lambda: build(packets.FSETSTAT, identity, string(H), bytes(4)),
        lambda: build(packets.EXTENDED, identity, string(FSYNC), string(H)),
        lambda: build(packets.EXTENDED, identity, string(STATVFS), string(path)),
        lambda: build(packets.EXTENDED, identity, string(b"limits@openssh.com")),
        lambda: build(packets.SYMLINK, identity, string(path), string(path)),
        lambda: build(packets.MKDIR, identity, string(path), bytes(4)),
    ]
    return rng.choice(possible)()


def some_reply(rng: random.Random, request: bytes) -> bytes:
    """Choose a reply that may follow a request."""
    identity, kind = id_of(request), kind_of(request)
    failed = build(packets.STATUS, identity, rng.randbytes(4), string(rng.randbytes(rng.randint(0, 50))), bytes(4))
    if kind in (packets.OPEN, packets.OPENDIR):
        return rng.choice([failed, handle(identity, rng.randbytes(rng.randint(1, 8)) + identity.to_bytes(4, "big"))])
    if kind == packets.READ:
        length = int.from_bytes(request[-4:], "big")
        return rng.choice([failed, data(identity, b""), data(identity, rng.randbytes(length))])  # of less, it asks on
    if kind in (packets.LSTAT, packets.STAT, packets.FSTAT):
        return rng.choice([failed, attributes(identity, rng.getrandbits(40), rng.getrandbits(31))])
    if kind in (packets.READLINK, packets.REALPATH):
        return rng.choice([failed, build(packets.NAME, identity, struct.pack(">I", 1), string(rng.randbytes(9)))])
    if kind == packets.EXTENDED and FSYNC not in request and b"rename" not in request:
        return rng.choice([failed, build(packets.EXTENDED_REPLY, identity, rng.randbytes(88))])
    return failed


def pieces(rng: random.Random, stream: bytes) -> list[bytes]:
    """Cut a stream anywhere."""
    cut, start = [], 0
    while start < len(stream):
        end = start + rng.choice([1, 2, 3, 5, 9, 13, 100, 1000, 70_000, 300_000])
        cut.append(stream[start:end])
        start = end
    return cut


@pytest.mark.parametrize("seed", range(5))
def test_packets_when_streams_are_cut_anywhere_arrive_as_they_were(start: Start, servers: Servers, seed: int) -> None:
    rng = repeatable(seed)
    relayed = start()
    server = relayed.connected(servers)
    relayed.sshfs.send(opening(0, b"file", 3))
    server.take()
    server.send(handle(0, H))
    assert relayed.sshfs.take() == handle(0, H)
    requests = [some_request(rng, identity) for identity in range(1, 80)]
    replies = [some_reply(rng, request) for request in requests]
    rng.shuffle(replies)
    both = ((relayed.sshfs, server, requests), (server, relayed.sshfs, replies))
    for sender, receiver, sent in both:
        got: list[bytes] = []
        for piece in pieces(rng, b"".join(sent)):
            rest = piece
            sender.stream.setblocking(False)
            while rest:
                if select.select([], [sender.stream], [], 0.001)[1]:
                    rest = rest[sender.stream.send(rest) :]
                sender.stream.settimeout(60)
                while (packet := receiver.take_now()) is not None:
                    got.append(packet)
                sender.stream.setblocking(False)
        sender.stream.settimeout(60)
        while len(got) < len(sent):
            got.append(receiver.take())
        assert got == sent


@pytest.mark.parametrize("length", [LONGEST_REQUEST, LONGEST_REQUEST - 1])
def test_request_when_it_is_as_long_as_one_may_be_passes(start: Start, servers: Servers, length: int) -> None:
    relayed = start()
    server = relayed.connected(servers)
    request = build(packets.SYMLINK, 1, bytes(length - 5))
    relayed.sshfs.send(request, looking(2, b"after"))
    assert server.take() == request
    assert server.take() == looking(2, b"after")


@pytest.mark.parametrize("length", [LONGEST_REPLY, LONGEST_REPLY - 1])
def test_reply_when_it_is_as_long_as_one_may_be_passes(start: Start, servers: Servers, length: int) -> None:
    relayed = start()
    server = relayed.connected(servers)
    relayed.sshfs.send(looking(1, b"link", packets.READLINK))
    server.take()
    reply = build(packets.NAME, 1, bytes(length - 5))
    server.send(reply)
    assert relayed.sshfs.take() == reply


@pytest.mark.parametrize(("code", "seen"), [(11, 4), (4, 4), (2, 2), (0, 0)])
@pytest.mark.parametrize("posix", [True, False])
def test_rename_when_the_server_refuses_it_in_words_of_a_later_version_is_a_failure(
    start: Start, servers: Servers, code: int, seen: int, *, posix: bool
) -> None:
    """Sshfs does so after a plain failure, and not after a code that the third version of SFTP does not have."""
    relayed = start()
    server = relayed.connected(servers)
    relayed.sshfs.send(renaming(1, b"new", b"old", posix=posix))
    server.take()
    server.send(packets.status(1, code))
    assert code_of(relayed.sshfs.take()) == seen


def test_sync_of_a_file_that_is_open_for_reading_passes(start: Start, servers: Servers) -> None:
    relayed = start()
    server = relayed.connected(servers)
    relayed.sshfs.send(opening(1, b"file"))
    server.take()
    server.send(handle(1, H))
    relayed.sshfs.take()
    sync = build(packets.EXTENDED, 2, string(FSYNC), string(H))
    change = build(packets.FSETSTAT, 3, string(H), bytes(4))
    relayed.sshfs.send(sync, change)
    assert [server.take(), server.take()] == [sync, change]


def test_sshfs_when_it_ends_lets_ssh_send_what_was_asked_and_end(start: Start, servers: Servers) -> None:
    relayed = start()
    server = relayed.connected(servers)
    relayed.sshfs.send(closing(1, H), looking(2, b"file"))
    assert kind_of(relayed.sshfs.take()) == packets.STATUS  # no file was opened by that name
    relayed.sshfs.stream.close()
    assert server.take() == looking(2, b"file")
    assert server.rest() == b""
    server.die(status=0)
    assert relayed.ends() == 0
