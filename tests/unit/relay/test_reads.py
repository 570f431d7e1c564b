# SPDX-License-Identifier: MIT
# ruff: noqa: PLR0913 (a relay has two ends, and a test needs things at both)
"""Reads of files whose connection is lost while they are open."""

import errno
import os

import pytest
from support.relayed import (
    TRUNCATE,
    Clock,
    Content,
    Disk,
    Relayed,
    Server,
    Servers,
    closing,
    code_of,
    data,
    exchange,
    handle,
    id_of,
    kind_of,
    let,
    looking,
    opening,
    reading,
    renaming,
    serve,
    setting,
    writing,
)

from sshfs_plugin.relay import guard, packets
from sshfs_plugin.relay.packets import OK, UNAVAILABLE, build, string

OLD = bytes(range(1, 101))
READ_WRITE, APPEND = 3, 2 | 4 | 8
MAYBE_ANOTHER = (
    "'photos/a' may be another file than it was before the connection was lost: the server tells no times, by which "
    "that could be seen"
)
ANOTHER = "'photos/a' is another file than it was before the connection was lost"
NOT_OPENED = "a file that was open when the connection was lost can't be opened again"
WRITTEN = "'photos/a' was written to, and the server may have lost that"


@pytest.fixture
def disk() -> Disk:
    return Disk({b"photos/a": Content([OLD])})


def open_file(relayed: Relayed, server: Server, disk: Disk, *, flags: int = 1, path: bytes = b"photos/a") -> bytes:
    """Open it as sshfs does, which looks at it as well; return its handle."""
    opened, _ = exchange(relayed, server, disk, opening(1, path, flags), looking(2, path))
    assert kind_of(opened) == packets.HANDLE
    return packets.text(opened, 9)[0]


def back(servers: Servers, disk: Disk) -> Server:
    """Await the next connection."""
    server = servers.back()
    disk.connected()
    return server


def read(relayed: Relayed, server: Server, disk: Disk, name: bytes, offset: int = 0, length: int = 50) -> None:
    assert exchange(relayed, server, disk, reading(9, name, offset, length)) == [data(9, OLD[offset : offset + length])]


def lose_a_read(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, request: bytes, *, mishap: bytes = b""
) -> Server:
    """Send a read, cut the connection before there is a reply, and return the next server."""
    relayed.sshfs.send(request)
    assert kind_of(server.take()) == packets.READ
    server.die(mishap)
    return back(servers, disk)


def read_a_part(relayed: Relayed, server: Server, name: bytes, length: int = 100) -> None:
    """Let the server send 30 bytes of what is asked for; the relay has then asked for the rest."""
    relayed.sshfs.send(reading(9, name, 0, length))
    server.take()
    server.send(data(9, OLD[:30]))
    assert server.take() == reading(9, name, 30, length - 30)


def let_it_tell(disk: Disk, flags: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a server tell some attributes of files alone; all of them are optional."""
    answer = disk.answer

    def answer_in_part(packet: bytes) -> bytes:
        reply = answer(packet)
        if kind_of(reply) != packets.ATTRS:
            return reply
        parts = {packets.HAS_SIZE: reply[13:21], packets.HAS_MODE: reply[29:33], packets.HAS_TIMES: reply[33:]}
        told = [part for flag, part in parts.items() if flags & flag]
        return build(packets.ATTRS, id_of(reply), flags.to_bytes(4, "big"), *told)

    monkeypatch.setattr(disk, "answer", answer_in_part)


def replies_of(relayed: Relayed, count: int) -> list[bytes]:
    return [relayed.sshfs.take() for _ in range(count)]


def test_read_when_the_connection_is_lost_gets_its_bytes_from_the_next(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    server = lose_a_read(relayed, server, servers, disk, reading(10, name, 50, 80))
    assert serve(relayed, server, disk, 1) == [data(10, OLD[50:])]
    read(relayed, server, disk, name, 10)
    assert code_of(exchange(relayed, server, disk, closing(11, name))[0]) == OK
    assert disk.handles == {}


@pytest.mark.parametrize("lacks", ["memfd_create", "pipe", "posix_spawn"])
def test_read_when_the_host_has_nothing_left_to_guard_it_with_gets_its_bytes(
    relayed: Relayed, server: Server, disk: Disk, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    class Lacking:
        def __getattr__(self, name: str) -> object:
            if name == lacks:
                raise OSError(errno.EMFILE, "Too many open files")
            return getattr(os, name)

    monkeypatch.setattr(guard, "os", Lacking())
    name = open_file(relayed, server, disk)
    for offset in range(3):
        read(relayed, server, disk, name, offset)


def test_reads_when_some_are_answered_before_the_loss_are_answered_once_each(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    name = open_file(relayed, server, disk)
    relayed.sshfs.send(*(reading(10 + k, name, k * 10, 10) for k in range(10)))
    taken = [server.take() for _ in range(10)]
    answers = [disk.answer(packet) for packet in taken]
    server.send(answers[3], answers[8], answers[5][:11])
    got = [relayed.sshfs.take(), relayed.sshfs.take()]
    server.die()
    got += serve(relayed, back(servers, disk), disk, 8)
    assert sorted(got) == sorted(data(10 + k, OLD[k * 10 : k * 10 + 10]) for k in range(10))
    assert relayed.sshfs.take_now() is None


def test_read_when_the_server_shows_no_modes_of_files_gets_its_bytes_from_the_next(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All attributes are optional; sshfs takes what has no mode for a file."""
    let_it_tell(disk, packets.HAS_SIZE | packets.HAS_TIMES, monkeypatch)
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    server = lose_a_read(relayed, server, servers, disk, reading(10, name, 50, 80))
    assert serve(relayed, server, disk, 1) == [data(10, OLD[50:])]


def test_read_when_a_loss_follows_the_other_gets_its_bytes(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    server = lose_a_read(relayed, server, servers, disk, reading(10, name, 50, 50))
    for answered in range(3):
        for _ in range(answered):
            server.send(disk.answer(server.take()))
        server.die()
        server = back(servers, disk)
    assert serve(relayed, server, disk, 1) == [data(10, OLD[50:])]


@pytest.mark.parametrize("at_once", [1, 30, 99])
def test_read_when_the_server_sends_less_than_there_is_gets_all_bytes(
    relayed: Relayed, server: Server, disk: Disk, at_once: int
) -> None:
    name = open_file(relayed, server, disk)
    disk.at_once = at_once
    read(relayed, server, disk, name, 0, 100)
    read(relayed, server, disk, name, 10, 200)


@pytest.mark.parametrize("at_once", [1, 30, 99])
def test_read_when_nobody_knows_how_long_the_file_is_gets_all_bytes(
    relayed: Relayed, server: Server, disk: Disk, at_once: int
) -> None:
    disk.at_once = at_once
    (opened,) = exchange(relayed, server, disk, opening(1, b"photos/a"))
    name = packets.text(opened, 9)[0]
    read(relayed, server, disk, name, 0, 100)
    read(relayed, server, disk, name, 10, 200)


def test_read_when_the_file_has_grown_by_another_handle_gets_all_bytes(
    relayed: Relayed, server: Server, disk: Disk
) -> None:
    name = open_file(relayed, server, disk)
    other = open_file(relayed, server, disk, flags=APPEND)
    exchange(relayed, server, disk, writing(5, other, 100, OLD))
    disk.at_once = 120
    assert exchange(relayed, server, disk, reading(9, name, 0, 200)) == [data(9, OLD + OLD)]


def test_read_when_others_have_made_the_file_longer_gets_all(relayed: Relayed, server: Server, disk: Disk) -> None:
    """The kernel may know of it from a listing, and asks for them."""
    name = open_file(relayed, server, disk)
    disk.files[b"photos/a"].become(OLD * 4)
    disk.at_once = 20
    assert exchange(relayed, server, disk, reading(9, name, 90, 200)) == [data(9, (OLD * 4)[90:290])]


def test_read_when_the_file_ends_is_not_sent_twice(relayed: Relayed, server: Server, disk: Disk) -> None:
    name = open_file(relayed, server, disk)
    relayed.sshfs.send(reading(9, name, 40, 200))
    server.send(disk.answer(server.take()))
    assert relayed.sshfs.take() == data(9, OLD[40:])
    assert server.take_now() is None


def test_reads_when_the_server_sends_less_for_each_get_their_own_bytes(
    relayed: Relayed, server: Server, disk: Disk
) -> None:
    name = open_file(relayed, server, disk)
    disk.at_once = 7
    replies = exchange(relayed, server, disk, *(reading(10 + k, name, k * 20, 20) for k in range(5)))
    assert sorted(replies) == [data(10 + k, OLD[k * 20 : k * 20 + 20]) for k in range(5)]


def test_read_when_the_connection_is_lost_before_its_rest_has_come_gets_its_bytes_once(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    name = open_file(relayed, server, disk)
    disk.at_once = 30
    read_a_part(relayed, server, name)
    server.die()
    assert serve(relayed, back(servers, disk), disk, 1) == [data(9, OLD)]


def test_read_when_the_server_sends_less_since_the_file_was_cut_gets_what_is_there(
    relayed: Relayed, server: Server, disk: Disk
) -> None:
    name = open_file(relayed, server, disk)
    disk.files[b"photos/a"].become(OLD[:30])
    read(relayed, server, disk, name, 0, 30)
    assert exchange(relayed, server, disk, reading(9, name, 0, 100)) == [data(9, OLD[:30])]


def test_read_when_its_rest_is_refused_fails(
    relayed: Relayed, server: Server, disk: Disk, capfd: pytest.CaptureFixture[str]
) -> None:
    name = open_file(relayed, server, disk)
    read_a_part(relayed, server, name)
    server.send(packets.status(9, 4))
    assert relayed.sshfs.take() == packets.status(9, 4)
    assert "the server can't read 'photos/a' (status 4)" in capfd.readouterr().err


def test_read_when_nothing_comes_of_its_rest_gets_what_has_come(relayed: Relayed, server: Server, disk: Disk) -> None:
    name = open_file(relayed, server, disk)
    read_a_part(relayed, server, name)
    server.send(data(9, b""))
    assert relayed.sshfs.take() == data(9, OLD[:30])
    assert server.take_now() is None


def test_read_when_more_comes_than_its_rest_is_no_sftp(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    name = open_file(relayed, server, disk)
    read_a_part(relayed, server, name, 50)
    server.send(data(9, OLD[30:51]))
    assert serve(relayed, back(servers, disk), disk, 1) == [data(9, OLD[:50])]


def test_read_of_a_closed_file_is_not_sent_twice(relayed: Relayed, server: Server, disk: Disk) -> None:
    name = open_file(relayed, server, disk)
    relayed.sshfs.send(reading(9, name, 0, 100), closing(10, name))
    first, _ = server.take(), server.take()
    disk.at_once = 30
    server.send(disk.answer(first))
    assert relayed.sshfs.take() == data(9, OLD[:30])
    assert server.take_now() is None


@pytest.mark.parametrize("new", [OLD[:-1], OLD[::-1], OLD[1:] + b"more", b""], ids=len)
@pytest.mark.parametrize("waits", [True, False])
def test_read_when_the_file_has_changed_cannot_go_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, new: bytes, *, waits: bool
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    if waits:
        relayed.sshfs.send(reading(10, name, 50, 50))
        server.take()
    disk.files[b"photos/a"].become(new)
    server.die()
    server = back(servers, disk)
    if waits:
        let(server, disk, lambda: relayed.has_ended)
        assert relayed.cannot_go_on() == ANOTHER
    else:
        assert exchange(relayed, server, disk, looking(10, b"photos/a"))
        assert disk.handles == {}  # it was looked at, and closed
        relayed.sshfs.send(reading(11, name, 50, 50))
        assert relayed.cannot_go_on() == ANOTHER


@pytest.mark.parametrize("flags", [0, packets.HAS_SIZE, packets.HAS_SIZE | packets.HAS_MODE])
def test_read_when_the_server_tells_no_times_and_a_part_was_read_cannot_go_on_and_says_why(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, monkeypatch: pytest.MonkeyPatch, flags: int
) -> None:
    """A copy of another version is as long, and often begins and ends alike: the reader would get a mixture."""
    let_it_tell(disk, flags, monkeypatch)
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    server = lose_a_read(relayed, server, servers, disk, reading(10, name, 50, 50))
    let(server, disk, lambda: relayed.has_ended)
    assert relayed.cannot_go_on() == MAYBE_ANOTHER


@pytest.mark.parametrize("new", [OLD, OLD[::-1], OLD[:-1], OLD + b"more"], ids=["unchanged", "as long", "less", "more"])
def test_read_when_the_server_tells_no_times_and_nothing_was_read_goes_on_if_the_file_is_as_long(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, monkeypatch: pytest.MonkeyPatch, new: bytes
) -> None:
    """The reader gets the whole of what is there by now; of a longer file it would get a part."""
    let_it_tell(disk, packets.HAS_SIZE | packets.HAS_MODE, monkeypatch)
    name = open_file(relayed, server, disk)
    disk.files[b"photos/a"].become(new)
    server.die()
    server = back(servers, disk)
    relayed.sshfs.send(reading(10, name, 0, 50))
    if len(new) == len(OLD):
        assert serve(relayed, server, disk, 1) == [data(10, new[:50])]
    else:
        let(server, disk, lambda: relayed.has_ended)
        assert relayed.cannot_go_on() == MAYBE_ANOTHER


@pytest.mark.parametrize("mishap", ["vanished", "replaced", "size", "time"])
def test_file_when_it_is_another_and_is_not_read_on_can_be_closed(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, mishap: str
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    if mishap == "vanished":
        del disk.files[b"photos/a"]
    else:
        other = Content([OLD[: 100 - (mishap == "size")]], modified=1 + (mishap != "size"))
        disk.files[b"photos/a"] = other
    server.die()
    server = back(servers, disk)
    fstat = build(packets.FSTAT, 11, string(name))
    replies = exchange(relayed, server, disk, looking(10, b"photos/a"), fstat, closing(12, name), looking(13, b"."))
    assert {packets.number(r, 5): code_of(r) for r in replies if kind_of(r) == packets.STATUS and r[8] > 10} == {
        11: UNAVAILABLE,
        12: OK,
    }
    assert disk.handles == {}


def test_read_when_the_file_has_only_grown_goes_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    disk.files[b"photos/a"].become(OLD + b"more")
    server = lose_a_read(relayed, server, servers, disk, reading(10, name, 50, 80))
    assert serve(relayed, server, disk, 1) == [data(10, OLD[50:] + b"more")]


@pytest.mark.parametrize("new", [OLD[::-1], OLD[:-1], OLD + b"more", b"x" * 1000, b""], ids=len)
def test_read_when_nothing_was_read_by_this_handle_and_the_file_was_replaced_cannot_go_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, new: bytes
) -> None:
    """Its reader may have a part of it all the same, from the kernel, and the kernel has its size."""
    name = open_file(relayed, server, disk)
    disk.files[b"photos/a"] = Content([new], modified=7)
    server = lose_a_read(relayed, server, servers, disk, reading(10, name, 50, 50))
    let(server, disk, lambda: relayed.has_ended)
    assert relayed.cannot_go_on() == ANOTHER


@pytest.mark.parametrize("is_there", [True, False])
def test_read_when_the_file_has_grown_goes_on_if_what_another_handle_has_read_is_there(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, *, is_there: bool
) -> None:
    name, other = open_file(relayed, server, disk), open_file(relayed, server, disk)
    read(relayed, server, disk, other)
    exchange(relayed, server, disk, closing(10, other))
    disk.files[b"photos/a"].become((OLD if is_there else OLD[::-1]) + b"more")
    server = lose_a_read(relayed, server, servers, disk, reading(11, name, 50, 50))
    if is_there:
        assert serve(relayed, server, disk, 1) == [data(11, OLD[50:])]
    else:
        let(server, disk, lambda: relayed.has_ended)
        assert relayed.cannot_go_on() == ANOTHER


@pytest.mark.parametrize("was_read", [True, False])
def test_read_when_another_handle_has_read_what_the_file_was_replaced_by_cannot_go_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, *, was_read: bool
) -> None:
    """What that has read is there, but it is of the new file."""
    name = open_file(relayed, server, disk)
    if was_read:
        read(relayed, server, disk, name)
    new = OLD[::-1] + b"more"
    disk.files[b"photos/a"] = Content([new], modified=7)
    other = open_file(relayed, server, disk)
    assert exchange(relayed, server, disk, reading(9, other, 0, 200)) == [data(9, new)]
    server = lose_a_read(relayed, server, servers, disk, reading(10, name, 50, 50))
    let(server, disk, lambda: relayed.has_ended)
    assert relayed.cannot_go_on() == ANOTHER


@pytest.mark.parametrize("by", ["the same handle", "another handle"])
def test_read_when_a_longer_file_ends_alike_and_begins_otherwise_cannot_go_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, by: str
) -> None:
    """As disk images do, which consist of zeros for the most part."""
    zeros = bytes(200)
    disk.files[b"photos/a"].become(b"old" + zeros)
    name = open_file(relayed, server, disk)
    other = open_file(relayed, server, disk) if by == "another handle" else name
    for offset, length in ((0, 10), (10, 90)):
        exchange(relayed, server, disk, reading(9, other, offset, length))
    disk.files[b"photos/a"] = Content([b"new" + zeros + b"more"], modified=7)
    server = lose_a_read(relayed, server, servers, disk, reading(10, name, 100, 50))
    let(server, disk, lambda: relayed.has_ended)
    assert relayed.cannot_go_on() == ANOTHER


def test_read_when_sshfs_has_changed_what_was_read_first_goes_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name, 0, 10)
    read(relayed, server, disk, name, 10, 90)
    writer = open_file(relayed, server, disk, flags=2)
    exchange(relayed, server, disk, writing(5, writer, 0, b"new"), closing(6, writer))
    disk.files[b"photos/a"].become(disk.files[b"photos/a"].now + b"more")
    server = lose_a_read(relayed, server, servers, disk, reading(10, name, 50, 50))
    assert serve(relayed, server, disk, 1) == [data(10, OLD[50:])]


def test_read_when_the_file_was_empty_goes_on_with_what_has_come(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    disk.files[b"photos/a"].become(b"")
    name = open_file(relayed, server, disk)
    disk.files[b"photos/a"].become(b"new")
    server = lose_a_read(relayed, server, servers, disk, reading(10, name, 0, 50))
    assert serve(relayed, server, disk, 1) == [data(10, b"new")]


def test_read_when_nothing_was_read_and_sshfs_has_changed_the_file_goes_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    name = open_file(relayed, server, disk)
    exchange(relayed, server, disk, setting(10, b"photos/a", 77))
    server = lose_a_read(relayed, server, servers, disk, reading(11, name, 0, 50))
    assert serve(relayed, server, disk, 1) == [data(11, OLD[:50])]


def test_read_when_nothing_was_read_and_its_path_has_shown_another_cannot_go_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    name = open_file(relayed, server, disk)
    disk.files[b"photos/a"] = Content([OLD[::-1]], modified=7)
    exchange(relayed, server, disk, looking(10, b"photos/a"))
    exchange(relayed, server, disk, looking(11, b"."))  # whatever else is asked has its answer before
    server = lose_a_read(relayed, server, servers, disk, reading(12, name, 0, 50))
    let(server, disk, lambda: relayed.has_ended)
    assert relayed.cannot_go_on() == ANOTHER


def test_read_when_its_path_has_shown_another_before_it_was_opened_goes_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    relayed.sshfs.send(looking(1, b"photos/a"), opening(2, b"photos/a"), looking(3, b"photos/a"))
    shown = disk.answer(server.take())
    disk.files[b"photos/a"] = Content([OLD], modified=7)
    opened, shown_then = disk.answer(server.take()), disk.answer(server.take())
    server.send(shown, opened, shown_then)
    name = next(packets.text(reply, 9)[0] for reply in replies_of(relayed, 3) if kind_of(reply) == packets.HANDLE)
    server = lose_a_read(relayed, server, servers, disk, reading(11, name, 0, 50))
    assert serve(relayed, server, disk, 1) == [data(11, OLD[:50])]


def test_file_when_its_path_was_shown_before_the_loss_is_not_asked_for_twice(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    """Sshfs has the size of the one, and would be given as much of the other."""
    relayed.sshfs.send(opening(1, b"photos/a"), looking(2, b"photos/a"))
    server.take()
    server.send(disk.answer(server.take()))
    assert kind_of(relayed.sshfs.take()) == packets.ATTRS
    server.die()
    assert relayed.sshfs.take() == packets.status(1, UNAVAILABLE)


def test_read_when_the_file_was_replaced_and_the_new_one_looked_at_cannot_go_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    disk.files[b"photos/a"] = Content([b"x" * 100], modified=7)
    exchange(relayed, server, disk, looking(10, b"photos/a"))
    read(relayed, server, disk, name, 50)  # of the old one, as long as the connection lasts
    server.die()
    server = back(servers, disk)
    exchange(relayed, server, disk, looking(11, b"."))
    relayed.sshfs.send(reading(12, name, 0, 50))
    assert relayed.cannot_go_on() == ANOTHER


def test_read_when_the_file_was_changed_in_place_and_looked_at_before_the_loss_goes_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    disk.files[b"photos/a"].become(OLD[::-1])
    exchange(relayed, server, disk, looking(10, b"photos/a"))
    exchange(relayed, server, disk, build(packets.FSTAT, 11, string(name)))
    server.die()
    assert exchange(relayed, back(servers, disk), disk, reading(12, name, 0, 50)) == [data(12, OLD[:49:-1])]


def test_read_when_the_file_was_removed_and_another_looks_alike_cannot_go_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    exchange(relayed, server, disk, looking(10, b"photos/a", packets.REMOVE))
    disk.files[b"photos/a"] = Content([b"x" * 100])
    server.die()
    server = back(servers, disk)
    exchange(relayed, server, disk, looking(11, b"."))
    relayed.sshfs.send(reading(12, name, 0, 50))
    assert relayed.cannot_go_on() == NOT_OPENED


@pytest.mark.parametrize("posix", [False, True])
@pytest.mark.parametrize(
    ("old", "new", "path"),
    [(b"photos/a", b"photos/b", b"photos/b"), (b"photos", b"old", b"old/a"), (b"photos/a", b"b", b"b")],
)
def test_read_when_the_file_or_a_directory_above_was_renamed_goes_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, old: bytes, new: bytes, path: bytes, *, posix: bool
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    assert code_of(exchange(relayed, server, disk, renaming(10, old, new, posix=posix))[0]) == OK
    disk.files[b"photos/a"] = Content([b"x" * 100])
    server = lose_a_read(relayed, server, servers, disk, reading(11, name, 50, 50))
    assert serve(relayed, server, disk, 1) == [data(11, OLD[50:])]
    assert path in disk.files


def test_file_when_a_rename_fails_or_another_is_renamed_keeps_its_path(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    disk.files[b"photos/ab"] = Content([b"other"])
    exchange(relayed, server, disk, renaming(10, b"missing", b"b"), renaming(11, b"photos/ab", b"b"))
    relayed.sshfs.send(renaming(12, b"photos/a", b"c"))
    server.take()
    server.send(packets.status(12, 4))
    relayed.sshfs.take()
    server.die()
    read(relayed, back(servers, disk), disk, name, 50)


@pytest.mark.parametrize("posix", [False, True])
def test_read_when_another_file_was_renamed_over_it_cannot_go_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, *, posix: bool
) -> None:
    disk.files[b"b"] = Content([b"x" * 100])
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    exchange(relayed, server, disk, renaming(10, b"b", b"photos/a", posix=posix))
    read(relayed, server, disk, name, 50)
    server.die()
    server = back(servers, disk)
    exchange(relayed, server, disk, looking(11, b"."))
    relayed.sshfs.send(reading(12, name, 0, 50))
    assert relayed.cannot_go_on() == NOT_OPENED


@pytest.mark.parametrize("flags", [READ_WRITE, READ_WRITE | TRUNCATE])
def test_read_when_the_file_was_written_by_this_handle_cannot_go_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, flags: int
) -> None:
    name = open_file(relayed, server, disk, flags=flags)
    exchange(relayed, server, disk, writing(10, name, 0, b"new"))
    relayed.sshfs.send(reading(11, name, 0, 3))
    server.take()
    server.die()
    assert relayed.cannot_go_on() == WRITTEN


def test_read_when_a_file_open_for_both_was_not_written_goes_on_and_writes_do_not(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    name = open_file(relayed, server, disk, flags=READ_WRITE)
    read(relayed, server, disk, name)
    server = lose_a_read(relayed, server, servers, disk, reading(10, name, 50, 50))
    assert serve(relayed, server, disk, 1) == [data(10, OLD[50:])]
    relayed.sshfs.send(writing(11, name, 0, b"new"), build(packets.FSETSTAT, 12, string(name), bytes(4)))
    assert [relayed.sshfs.take(), relayed.sshfs.take()] == [packets.status(k, UNAVAILABLE) for k in (11, 12)]
    assert disk.files[b"photos/a"].versions == [OLD]


def test_read_ahead_of_a_closed_file_when_the_connection_is_lost_ends_nothing(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    """Sshfs does not wait for what it reads ahead when it closes a file: nobody reads that."""
    name = open_file(relayed, server, disk)
    relayed.sshfs.send(reading(10, name, 0, 50), closing(11, name))
    assert [kind_of(server.take()), kind_of(server.take())] == [packets.READ, packets.CLOSE]
    server.die()
    replies = {relayed.sshfs.take(), relayed.sshfs.take()}
    assert replies == {packets.status(11, OK), packets.status(10, UNAVAILABLE)}
    assert exchange(relayed, back(servers, disk), disk, looking(12, b"."))


def test_read_ahead_of_a_file_that_is_closed_during_the_outage_is_given_up(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock
) -> None:
    name = open_file(relayed, server, disk)
    second = packets.text(exchange(relayed, server, disk, opening(3, b"photos/a"))[0], 9)[0]
    server = lose_a_read(relayed, server, servers, disk, reading(10, name, 0, 50))
    server.die()
    server = servers.next()  # whoever it is, the time to hold requests is over
    relayed.sshfs.send(closing(11, name))
    assert {relayed.sshfs.take(), relayed.sshfs.take()} == {packets.status(11, OK), packets.status(10, UNAVAILABLE)}
    server.die()
    server = back(servers, disk)
    assert exchange(relayed, server, disk, reading(12, second, 0, 50)) == [data(12, OLD[:50])]
    assert len(disk.handles) == 1


# Names of handles


def test_handle_when_the_next_server_uses_the_same_name_for_another_file_reaches_its_own(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    disk.files[b"b"] = Content([b"other" * 20])
    first = open_file(relayed, server, disk, path=b"b")
    name = open_file(relayed, server, disk)
    exchange(relayed, server, disk, closing(3, first))
    server.die()
    server = back(servers, disk)
    opened = exchange(relayed, server, disk, opening(4, b"b"))[0]
    other = packets.text(opened, 9)[0]
    assert other != name
    assert exchange(relayed, server, disk, reading(5, other, 0, 5)) == [data(5, b"other")]
    read(relayed, server, disk, name)
    assert code_of(exchange(relayed, server, disk, closing(6, other))[0]) == OK
    assert list(disk.handles.values()) == [disk.files[b"photos/a"]]
    read(relayed, server, disk, name, 50)


def test_handle_of_a_lost_connection_when_the_name_is_used_again_for_writing_reaches_nothing(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    name = open_file(relayed, server, disk, flags=APPEND)
    exchange(relayed, server, disk, writing(3, name, 0, b"x"))
    server.die()
    server = back(servers, disk)
    assert code_of(exchange(relayed, server, disk, writing(4, name, 0, b"y"))[0]) == UNAVAILABLE
    assert code_of(exchange(relayed, server, disk, closing(5, name))[0]) == OK
    again = open_file(relayed, server, disk, flags=APPEND)
    assert again == name  # sshfs has closed the other
    assert code_of(exchange(relayed, server, disk, writing(6, again, 0, b"z"))[0]) == OK
    assert disk.files[b"photos/a"].now == b"z" + OLD[1:]


def test_handle_that_sshfs_has_not_closed_since_the_loss_is_not_given_to_another_file(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    disk.files[b"b"] = Content([b"other"])
    name = open_file(relayed, server, disk, flags=APPEND)
    server.die()
    server = back(servers, disk)
    other = open_file(relayed, server, disk, flags=APPEND, path=b"b")
    relayed.sshfs.send(writing(4, name, 0, b"y"))
    replies = serve(relayed, server, disk, 1)
    assert (code_of(replies[0]), disk.files[b"b"].now) == (UNAVAILABLE, b"other")
    exchange(relayed, server, disk, closing(5, name))
    assert code_of(exchange(relayed, server, disk, writing(6, other, 0, b"z"))[0]) == OK
    assert disk.files[b"b"].now == b"zther"


def test_handle_when_the_server_gives_one_twice_gets_another_name_for_sshfs(
    relayed: Relayed, server: Server, servers: Servers
) -> None:
    relayed.sshfs.send(opening(1, b"a"), opening(2, b"a"), opening(3, b"c"))
    for _ in range(3):
        server.take()
    server.send(handle(1, b"h"), handle(2, b"h"), handle(3, b"relay-1"))
    names = [packets.text(relayed.sshfs.take(), 9)[0] for _ in range(3)]
    assert len(set(names)) == 3
    for identity, (name, real) in enumerate(zip(names, [b"h", b"h", b"relay-1"], strict=True), 4):
        relayed.sshfs.send(reading(identity, name, 0, 9))
        assert server.take() == reading(identity, real, 0, 9)
