# SPDX-License-Identifier: MIT
# ruff: noqa: PLR0913 (a relay has two ends, and a test needs things at both)
"""Files that the server cannot open again at once, that were written to, or that sshfs itself has changed."""

import pytest
from support.relayed import (
    CREATE,
    Clock,
    Content,
    Disk,
    Relayed,
    Server,
    Servers,
    Start,
    attributes,
    closing,
    code_of,
    data,
    exchange,
    id_of,
    kind_of,
    let,
    looking,
    opening,
    reading,
    renaming,
    serve,
    setting,
    setting_size,
    syncing,
    writing,
)
from support.waiting import await_that

from sshfs_plugin.relay import outage, packets, relay
from sshfs_plugin.relay.packets import OK, UNAVAILABLE, build, string

OLD = bytes(range(1, 101))
READ_WRITE, WRITE_ONLY = 3, 2
ANOTHER = "'a' is another file than it was before the connection was lost"
NOT_OPENED = "a file that was open when the connection was lost can't be opened again"
WRITTEN = "'a' was written to, and the server may have lost that"


@pytest.fixture
def disk() -> Disk:
    return Disk({b"a": Content([OLD]), b"b": Content([OLD[::-1]])})


@pytest.fixture
def relayed(start: Start) -> Relayed:
    return start(read_seconds=100)


def open_file(relayed: Relayed, server: Server, disk: Disk, path: bytes = b"a", flags: int = 1) -> bytes:
    """Open it as sshfs does, which looks at it as well; return its handle."""
    opened, _ = exchange(relayed, server, disk, opening(1, path, flags), looking(2, path))
    return packets.text(opened, 9)[0]


def read(relayed: Relayed, server: Server, disk: Disk, name: bytes) -> None:
    assert kind_of(exchange(relayed, server, disk, reading(3, name, 0, 50))[0]) == packets.DATA


def open_and_read_both(relayed: Relayed, server: Server, disk: Disk) -> tuple[bytes, bytes]:
    """Return the handles of both files of the disk, after a read of each."""
    handles = open_file(relayed, server, disk), open_file(relayed, server, disk, b"b")
    for name in handles:
        read(relayed, server, disk, name)
    return handles


def next_server(server: Server, servers: Servers, disk: Disk) -> Server:
    """Cut the connection; return the one that the relay logs in to next."""
    server.die()
    server = servers.back()
    disk.connected()
    return server


def back(relayed: Relayed, server: Server, servers: Servers, disk: Disk) -> Server:
    """Cut the connection; return the next server, which has opened what it can."""
    server = next_server(server, servers, disk)
    exchange(relayed, server, disk, looking(4, b"."))
    return server


def send_until_tried(relayed: Relayed, server: Server, disk: Disk, *requests: bytes) -> None:
    """Send them and let the server answer until it was asked to open a file once more, in vain or not."""
    tried = len(disk.opens)
    relayed.sshfs.send(*requests)
    let(server, disk, lambda: len(disk.opens) > tried)
    exchange(relayed, server, disk, looking(90, b"."))  # what comes after the answer to that


# Not yet


def test_read_when_the_file_cannot_be_opened_yet_gets_its_bytes_later_and_others_go_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock
) -> None:
    first, second = open_and_read_both(relayed, server, disk)
    disk.absent.add(b"a")
    relayed.sshfs.send(reading(10, first, 50, 50))
    server.take()
    server = back(relayed, server, servers, disk)
    assert not relayed.outage.exists()
    for identity in range(11, 14):
        tried = len(disk.opens)
        assert exchange(relayed, server, disk, reading(identity, second, 0, 9)) == [data(identity, OLD[:-10:-1])]
        assert kind_of(exchange(relayed, server, disk, looking(identity, b"b"))[0]) == packets.ATTRS
        clock.forward(relay.RETRY_SECONDS)
        let(server, disk, lambda before=tried: len(disk.opens) > before)  # type: ignore[misc]
    assert set(disk.opens[-3:]) == {b"a"}
    disk.absent.clear()
    clock.forward(relay.RETRY_SECONDS)
    assert serve(relayed, server, disk, 1) == [data(10, OLD[50:])]
    assert code_of(exchange(relayed, server, disk, closing(15, first))[0]) == OK
    assert list(disk.handles.values()) == [disk.files[b"b"]]


def test_read_when_it_comes_while_the_file_cannot_be_opened_waits(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock
) -> None:
    name = open_file(relayed, server, disk)
    disk.absent.add(b"a")
    server = back(relayed, server, servers, disk)
    clock.stop()
    send_until_tried(relayed, server, disk, reading(10, name, 0, 9), reading(11, name, 9, 9))  # once for both
    relayed.sshfs.send(build(packets.FSTAT, 12, string(name)))  # the kernel may ask before it reads
    clock.forward(relay.RETRY_SECONDS - 2)
    clock.await_looks()
    assert server.take_now() is None
    disk.absent.clear()
    clock.forward(2)
    *reads, look = serve(relayed, server, disk, 3)
    assert reads == [data(10, OLD[:9]), data(11, OLD[9:18])]
    assert look == attributes(12, len(OLD), 1)


def test_file_whose_opening_hangs_keeps_nobody_from_the_others(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock
) -> None:
    """As when it is on another disk of the server, which hangs."""
    first, second = open_and_read_both(relayed, server, disk)
    server = next_server(server, servers, disk)
    request = server.take()
    while kind_of(request) != packets.FSTAT:
        if kind_of(request) != packets.OPEN or packets.text(request, 9)[0] == b"b":
            server.send(disk.answer(request))
        request = server.take()
    server.send(disk.answer(request))
    clock.await_looks()
    clock.forward(relay.REOPEN_SECONDS + 0.1)
    server.rest()
    await_that(lambda: "is too slow to open 'a' again" in relayed.outage.read_text(), lambda: "it is told")
    server = servers.back()
    disk.connected()
    disk.opens.clear()
    assert exchange(relayed, server, disk, reading(10, second, 0, 9)) == [data(10, OLD[:-10:-1])]
    assert disk.opens == [b"b"]
    assert exchange(relayed, server, disk, reading(11, first, 0, 9)) == [data(11, OLD[:9])], "once a read asks for it"


def test_file_whose_opening_hangs_when_it_is_tried_again_keeps_nobody_from_the_others(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = open_and_read_both(relayed, server, disk)
    disk.absent |= {b"a", b"b"}
    server = back(relayed, server, servers, disk)
    send_until_tried(relayed, server, disk, reading(10, first, 0, 9), reading(11, second, 0, 9))
    answer, hanging = disk.answer, []

    def answer_all_but_one(packet: bytes) -> bytes:
        if kind_of(packet) == packets.OPEN and packets.text(packet, 9)[0] == b"a":
            hanging.append(packet)
            return b""
        return answer(packet)

    monkeypatch.setattr(disk, "answer", answer_all_but_one)
    tried = disk.opens.count(b"b")
    clock.forward(relay.RETRY_SECONDS)
    let(server, disk, lambda: len(hanging) == 1 and disk.opens.count(b"b") > tried)
    exchange(relayed, server, disk, looking(12, b"."))
    disk.absent.clear()
    clock.forward(relay.RETRY_SECONDS)
    assert serve(relayed, server, disk, 1) == [data(11, OLD[:-10:-1])]
    assert len(hanging) == 1
    server.send(answer(hanging[0]))
    assert serve(relayed, server, disk, 1) == [data(10, OLD[:9])]


def test_read_of_another_file_while_one_is_waited_for_is_tried_at_once(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock
) -> None:
    first, second = open_and_read_both(relayed, server, disk)
    disk.absent |= {b"a", b"b"}
    server = back(relayed, server, servers, disk)
    clock.stop()
    send_until_tried(relayed, server, disk, reading(10, first, 0, 9))
    disk.absent.discard(b"b")
    assert exchange(relayed, server, disk, reading(11, second, 0, 9)) == [data(11, OLD[:-10:-1])]


@pytest.mark.parametrize("when", ["in flight", "away", "not there"])
def test_look_at_an_open_file_is_part_of_a_read_and_waits_as_that_does(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock, when: str
) -> None:
    """Without an answer to it the kernel reads nothing, and the program gets an error."""
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    look = build(packets.FSTAT, 10, string(name))
    if when == "in flight":
        relayed.sshfs.send(look)
        server.take()
        server = next_server(server, servers, disk)
    elif when == "away":
        server.die()
        server = servers.next()
        clock.forward(outage.HOLD_SECONDS)
        relayed.sshfs.send(look, looking(12, b"b"))
        assert relayed.sshfs.take() == packets.status(12, UNAVAILABLE), "other requests do not wait"
        server.greet()
        disk.connected()
    else:
        disk.absent.add(b"a")
        server = back(relayed, server, servers, disk)
        send_until_tried(relayed, server, disk, look)
        disk.absent.clear()
        clock.forward(relay.RETRY_SECONDS)
    assert serve(relayed, server, disk, 1) == [attributes(10, len(OLD), 1)]
    assert exchange(relayed, server, disk, reading(11, name, 0, 9)) == [data(11, OLD[:9])]


def test_look_at_an_open_file_that_has_waited_for_too_long_fails_and_sshfs_goes_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock
) -> None:
    name = open_file(relayed, server, disk)
    disk.absent.add(b"a")
    server = back(relayed, server, servers, disk)
    send_until_tried(relayed, server, disk, build(packets.FSTAT, 10, string(name)))
    clock.forward(55)  # twice, since 110 seconds without an answer are the end of a connection
    exchange(relayed, server, disk, looking(91, b"b"))
    clock.forward(55)
    assert serve(relayed, server, disk, 1) == [packets.status(10, UNAVAILABLE)]
    assert kind_of(exchange(relayed, server, disk, looking(11, b"b"))[0]) == packets.ATTRS


def test_look_at_an_open_file_that_is_another_by_now_fails_and_sshfs_goes_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    relayed.sshfs.send(build(packets.FSTAT, 10, string(name)))
    server.take()
    disk.files[b"a"] = Content([OLD[:-1]])
    server = next_server(server, servers, disk)
    assert serve(relayed, server, disk, 1) == [packets.status(10, UNAVAILABLE)]
    assert kind_of(exchange(relayed, server, disk, looking(11, b"b"))[0]) == packets.ATTRS


def test_read_that_waits_for_a_file_is_told_to_the_journal_once(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, capfd: pytest.CaptureFixture[str], clock: Clock
) -> None:
    """All else is well, so that nobody would know for what a container waits."""
    first, second = open_and_read_both(relayed, server, disk)
    disk.absent |= {b"a", b"b"}
    server = back(relayed, server, servers, disk)
    for identity in range(10, 13):
        send_until_tried(relayed, server, disk, reading(identity, first, 0, 9))
        clock.forward(relay.RETRY_SECONDS)
    said = capfd.readouterr().err.splitlines()
    assert said[-1] == "the server can't open 'a' again: what reads it waits, and it is tried every 5 seconds"
    assert len([line for line in said if "can't open" in line]) == 1


def test_read_that_waits_for_a_file_is_told_once_more_after_it_was_open_again(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, capfd: pytest.CaptureFixture[str], clock: Clock
) -> None:
    """Nor does it matter that the server could not read it before."""
    name = open_file(relayed, server, disk)
    relayed.sshfs.send(reading(3, name, 0, 9))
    server.take()
    server.send(packets.status(3, packets.FAILURE))
    relayed.sshfs.take()
    for identity in (10, 12):
        disk.absent.add(b"a")
        server = back(relayed, server, servers, disk)
        send_until_tried(relayed, server, disk, reading(identity, name, 0, 9))
        disk.absent.clear()
        clock.forward(relay.RETRY_SECONDS)
        assert serve(relayed, server, disk, 1) == [data(identity, OLD[:9])]
    assert capfd.readouterr().err.count("the server can't open 'a' again") == 2


def test_read_when_the_server_cannot_look_at_the_file_yet_waits_and_leaves_nothing_open(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    relayed.sshfs.send(reading(10, name, 0, 9))
    server.take()
    server = next_server(server, servers, disk)
    seen: list[int] = []
    while packets.CLOSE not in seen:
        packet = server.take()
        seen.append(kind_of(packet))
        hangs = kind_of(packet) == packets.FSTAT
        reply = disk.answer(packet)
        server.send(packets.status(id_of(packet), 4) if hangs else reply)
    assert disk.handles == {}
    clock.await_looks()
    clock.forward(relay.RETRY_SECONDS)
    assert serve(relayed, server, disk, 1) == [data(10, OLD[:9])]


@pytest.mark.parametrize("forever", [True, False])
def test_read_when_the_file_cannot_be_opened_for_as_long_as_it_may_wait_ends_all(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock, *, forever: bool
) -> None:
    name = open_file(relayed, server, disk)
    disk.absent.add(b"a")
    server = back(relayed, server, servers, disk)
    relayed.sshfs.send(reading(10, name, 0, 9))
    tried = len(disk.opens)
    for step in range(1, 5):
        let(server, disk, lambda least=tried + step: len(disk.opens) >= least)  # type: ignore[misc]
        clock.forward(24)
    if not forever:
        disk.absent.clear()
        assert serve(relayed, server, disk, 1) == [data(10, OLD[:9])]
        return
    clock.await_looks()
    clock.forward(5)
    let(server, disk, lambda: relayed.has_ended)
    assert relayed.cannot_go_on() == "a read of 'a' has waited for 100 seconds"


def test_read_when_others_have_waited_before_it_has_its_whole_time(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock
) -> None:
    first, second = open_file(relayed, server, disk), open_file(relayed, server, disk, b"b")
    disk.absent |= {b"a", b"b"}
    server = back(relayed, server, servers, disk)
    relayed.sshfs.send(reading(10, first, 0, 9))
    let(server, disk, lambda: disk.opens.count(b"a") == 3)
    clock.forward(50)
    let(server, disk, lambda: disk.opens.count(b"a") == 4)
    relayed.sshfs.send(reading(11, second, 0, 9))
    clock.await_looks()
    disk.absent.discard(b"a")
    clock.forward(relay.RETRY_SECONDS)
    assert serve(relayed, server, disk, 1) == [data(10, OLD[:9])]
    clock.forward(50)
    clock.await_looks()
    disk.absent.clear()
    clock.forward(relay.RETRY_SECONDS)
    assert serve(relayed, server, disk, 1) == [data(11, OLD[:-10:-1])]


def test_reads_of_several_files_when_these_come_back_one_by_one_are_answered_one_by_one(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock
) -> None:
    paths = [b"p%d" % k for k in range(5)]
    disk.files.update({path: Content([path * 9]) for path in paths})
    names = [open_file(relayed, server, disk, path) for path in paths]
    disk.absent.update(paths)
    server = back(relayed, server, servers, disk)
    relayed.sshfs.send(*(reading(10 + k, name, 0, 9) for k, name in enumerate(names)))
    clock.await_looks()
    for k in (3, 0, 4, 1):
        disk.absent.discard(paths[k])
        clock.forward(relay.RETRY_SECONDS)
        assert serve(relayed, server, disk, 1) == [data(10 + k, (paths[k] * 9)[:9])]
    disk.absent.clear()
    server = next_server(server, servers, disk)  # the last waits for the next connection
    assert serve(relayed, server, disk, 1) == [data(12, (paths[2] * 9)[:9])]
    assert len(disk.handles) == 5


def test_file_when_another_is_looked_at_in_the_moment_of_its_turn_is_tried_right_after(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock
) -> None:
    first, second = open_file(relayed, server, disk), open_file(relayed, server, disk, b"b")
    read(relayed, server, disk, second)
    disk.absent.add(b"a")
    server = back(relayed, server, servers, disk)
    send_until_tried(relayed, server, disk, reading(10, first, 0, 9))
    disk.files[b"b"].modified = 7
    relayed.sshfs.send(looking(12, b"b"))
    server.send(disk.answer(server.take()))
    request = server.take()
    assert kind_of(request) == packets.FSTAT
    clock.forward(relay.RETRY_SECONDS)
    clock.await_looks()
    disk.absent.clear()
    server.send(disk.answer(request))
    relayed.sshfs.take()
    assert serve(relayed, server, disk, 1) == [data(10, OLD[:9])]


def test_read_when_the_file_comes_back_as_another_cannot_go_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    disk.absent.add(b"a")
    server = back(relayed, server, servers, disk)
    relayed.sshfs.send(reading(10, name, 0, 9))
    clock.await_looks()
    disk.absent.clear()
    disk.files[b"a"] = Content([OLD[::-1]], modified=9)
    clock.forward(relay.RETRY_SECONDS)
    let(server, disk, lambda: relayed.has_ended)
    assert relayed.cannot_go_on() == ANOTHER


def test_read_when_the_file_is_removed_while_it_waits_cannot_go_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock
) -> None:
    name = open_file(relayed, server, disk)
    disk.absent.add(b"a")
    server = back(relayed, server, servers, disk)
    send_until_tried(relayed, server, disk, reading(10, name, 0, 9))
    exchange(relayed, server, disk, looking(11, b"a", packets.REMOVE))
    clock.forward(relay.RETRY_SECONDS)
    let(server, disk, lambda: relayed.has_ended)
    assert relayed.cannot_go_on() == NOT_OPENED


def test_file_when_sshfs_closes_it_while_it_is_opened_again_is_not_left_open(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock
) -> None:
    name = open_file(relayed, server, disk)
    disk.absent.add(b"a")
    server = back(relayed, server, servers, disk)
    disk.absent.clear()
    relayed.sshfs.send(reading(10, name, 0, 9))
    request = server.take()
    assert kind_of(request) == packets.OPEN
    relayed.sshfs.send(closing(11, name))
    assert {relayed.sshfs.take(), relayed.sshfs.take()} == {packets.status(11, OK), packets.status(10, UNAVAILABLE)}
    server.send(disk.answer(request))
    assert len(disk.handles) == 1
    let(server, disk, lambda: not disk.handles)


def test_server_when_it_does_not_answer_while_a_read_waits_for_a_file_counts_as_lost(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock
) -> None:
    name = open_file(relayed, server, disk)
    disk.absent.add(b"a")
    server = back(relayed, server, servers, disk)
    relayed.sshfs.send(reading(10, name, 0, 9))
    assert kind_of(server.take()) == packets.OPEN  # its disk hangs
    clock.await_looks()
    clock.forward(relay.UNANSWERED_SECONDS + 1)
    server.rest()
    disk.absent.clear()
    server = servers.back()
    disk.connected()
    assert serve(relayed, server, disk, 1) == [data(10, OLD[:9])]


# Written by this handle


@pytest.mark.parametrize("was_read", [True, False])
def test_read_when_all_that_was_written_is_on_the_disk_goes_on_and_writes_do_not(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, *, was_read: bool
) -> None:
    name = open_file(relayed, server, disk, flags=READ_WRITE)
    exchange(relayed, server, disk, writing(3, name, 0, b"new"), syncing(4, name))
    if was_read:
        read(relayed, server, disk, name)
    exchange(relayed, server, disk, looking(5, b"."))
    relayed.sshfs.send(reading(10, name, 0, 9))
    server.take()
    server = next_server(server, servers, disk)
    assert serve(relayed, server, disk, 1) == [data(10, b"new" + OLD[3:9])]
    failing = [writing(11, name, 0, b"x"), setting_size(12, name, 0), syncing(13, name)]
    replies = exchange(relayed, server, disk, *failing)
    assert replies == [packets.status(identity, UNAVAILABLE) for identity in (11, 12, 13)]
    assert disk.files[b"a"].now == b"new" + OLD[3:]


def test_file_when_it_was_asked_for_once_more_after_a_change_is_known_again(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    """The look at it that is repeated with the open comes after the change as well."""
    relayed.sshfs.send(opening(1, b"a"), looking(2, b"a"), setting(5, b"b", 7))
    for _ in range(3):
        server.take()
    server = next_server(server, servers, disk)
    assert relayed.sshfs.take() == packets.status(5, UNAVAILABLE)
    server.send(disk.answer(server.take()))  # what the relay asks for itself
    server.send(*reversed([disk.answer(server.take()) for _ in range(2)]))
    assert id_of(relayed.sshfs.take()) == 2
    name = packets.text(relayed.sshfs.take(), 9)[0]
    read(relayed, server, disk, name)
    server = back(relayed, server, servers, disk)
    assert exchange(relayed, server, disk, reading(10, name, 50, 50)) == [data(10, OLD[50:])]


@pytest.mark.parametrize("case", ["no fsync", "not answered", "failed", "before the last", "during it", "truncated"])
def test_read_when_what_was_written_may_be_lost_cannot_go_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock, case: str
) -> None:
    name = open_file(relayed, server, disk, flags=READ_WRITE)
    exchange(relayed, server, disk, writing(3, name, 0, b"new"))
    if case in ("not answered", "failed"):
        relayed.sshfs.send(syncing(4, name))
        server.take()
    if case == "failed":
        server.send(packets.status(4, 4))
        relayed.sshfs.take()
    if case == "during it":
        relayed.sshfs.send(syncing(4, name), writing(5, name, 3, b"x"))
        serve(relayed, server, disk, 2)
    if case in ("before the last", "truncated"):
        exchange(relayed, server, disk, syncing(4, name))
        exchange(relayed, server, disk, writing(5, name, 0, b"x") if case[0] == "b" else setting_size(5, name, 7))
    server = back(relayed, server, servers, disk) if case != "not answered" else server
    if case == "not answered":
        server.die()
        assert relayed.sshfs.take() == packets.status(4, UNAVAILABLE)
        clock.forward(outage.HOLD_SECONDS)
    relayed.sshfs.send(reading(10, name, 0, 9))
    assert relayed.cannot_go_on() == WRITTEN


@pytest.mark.parametrize("was_read", [True, False])
@pytest.mark.parametrize("mishap", ["size", "time"])
def test_read_when_a_file_that_was_written_looks_different_cannot_go_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, mishap: str, *, was_read: bool
) -> None:
    name = open_file(relayed, server, disk, flags=READ_WRITE)
    exchange(relayed, server, disk, writing(3, name, 0, b"new"), syncing(4, name))
    if was_read:
        read(relayed, server, disk, name)
    exchange(relayed, server, disk, looking(5, b"."))
    now = disk.files[b"a"]
    disk.files[b"a"] = Content([now.now[: 99 if mishap == "size" else 100]], now.modified + (mishap == "time"))
    server = back(relayed, server, servers, disk)
    relayed.sshfs.send(reading(10, name, 0, 9))
    assert relayed.cannot_go_on() == ANOTHER


# Changed by sshfs


def change(relayed: Relayed, server: Server, disk: Disk, how: str) -> None:
    """Change it in a way that leaves the last bytes that were read."""
    if how == "SETSTAT":
        exchange(relayed, server, disk, setting(6, b"a", 77))
        return
    other = open_file(relayed, server, disk, flags=WRITE_ONLY)
    request = writing(6, other, 90, b"new") if how == "WRITE" else setting_size(6, other, 60)
    exchange(relayed, server, disk, request, closing(7, other))


@pytest.mark.parametrize("how", ["WRITE", "SETSTAT", "FSETSTAT"])
def test_read_when_sshfs_has_changed_the_file_itself_goes_on_if_what_was_read_is_there(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, how: str
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    change(relayed, server, disk, how)
    server = back(relayed, server, servers, disk)
    assert exchange(relayed, server, disk, reading(10, name, 40, 9)) == [data(10, OLD[40:49])]


@pytest.mark.parametrize("how", ["WRITE", "SETSTAT", "FSETSTAT"])
def test_read_when_sshfs_has_changed_the_file_and_what_was_read_is_not_there_cannot_go_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, how: str
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    change(relayed, server, disk, how)
    disk.files[b"a"].become(bytes(100))
    server = back(relayed, server, servers, disk)
    relayed.sshfs.send(reading(10, name, 40, 9))
    assert relayed.cannot_go_on() == ANOTHER


def test_read_when_sshfs_has_changed_the_file_before_a_look_is_answered_goes_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    writer = open_file(relayed, server, disk, flags=WRITE_ONLY)
    relayed.sshfs.send(opening(3, b"a"), looking(4, b"a"), writing(5, writer, 90, b"new"))
    for _ in range(3):
        server.send(disk.answer(server.take()))
    name = packets.text(relayed.sshfs.take(), 9)[0]
    relayed.sshfs.take(), relayed.sshfs.take()
    read(relayed, server, disk, name)
    server = back(relayed, server, servers, disk)
    assert exchange(relayed, server, disk, reading(10, name, 40, 9)) == [data(10, OLD[40:49])]


def test_read_when_sshfs_has_changed_the_file_by_a_handle_from_before_its_renaming_goes_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    writer = open_file(relayed, server, disk, flags=WRITE_ONLY)
    exchange(relayed, server, disk, renaming(3, b"a", b"c"))
    name = open_file(relayed, server, disk, b"c")
    read(relayed, server, disk, name)
    exchange(relayed, server, disk, writing(6, writer, 90, b"new"))
    server = back(relayed, server, servers, disk)
    assert exchange(relayed, server, disk, reading(10, name, 40, 9)) == [data(10, OLD[40:49])]


def test_file_when_its_path_shows_another_stamp_is_looked_at_itself(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    relayed.sshfs.send(looking(4, b"a"))
    server.take()
    server.send(attributes(4, 100, 1))
    relayed.sshfs.take()
    relayed.sshfs.send(looking(5, b"b"), looking(6, b"a"))  # as before, and of another: nothing is asked
    assert [id_of(server.take()), id_of(server.take())] == [5, 6]
    server.send(attributes(6, 100, 2))
    request = server.take()
    assert (kind_of(request), packets.text(request, 9)[0]) == (packets.FSTAT, name)


@pytest.mark.parametrize("is_open_first", [True, False])
def test_file_when_sshfs_has_changed_anything_before_it_looks_at_the_path_is_looked_at_itself(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, *, is_open_first: bool
) -> None:
    relayed.sshfs.send(opening(3, b"a"), setting(4, b"b", 9), looking(5, b"a"))
    replies = [disk.answer(server.take()) for _ in range(3)]
    for reply in replies if is_open_first else reversed(replies):
        server.send(reply)
        relayed.sshfs.take()
    request = server.take()
    assert (kind_of(request), packets.text(request, 9)[0]) == (packets.FSTAT, bytes(4))


@pytest.mark.parametrize("last", [7, 2**31 + 7, 2**32 - 1])
def test_file_when_it_is_looked_at_the_id_is_none_that_sshfs_uses_soon(
    relayed: Relayed, server: Server, disk: Disk, last: int
) -> None:
    """Sshfs counts its requests, and begins anew after the highest number."""
    read(relayed, server, disk, open_file(relayed, server, disk))
    disk.files[b"a"].become(OLD)
    relayed.sshfs.send(looking(last, b"a"))
    server.send(disk.answer(server.take()))
    assert id_of(relayed.sshfs.take()) == last
    request = server.take()
    assert kind_of(request) == packets.FSTAT
    assert 2**30 < (id_of(request) - last) % 2**32 < 3 * 2**30


def test_file_when_its_path_shows_another_stamp_again_and_again_is_looked_at_once_at_a_time(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    for identity in range(10, 20):
        disk.files[b"a"].become(OLD, modified=identity)
        relayed.sshfs.send(looking(identity, b"a"))
        if identity == 11:
            request = server.take()
            assert kind_of(request) == packets.FSTAT  # it is not answered for now
            first = disk.answer(request)
        server.send(disk.answer(server.take()))
        relayed.sshfs.take()
    server.send(first)
    request = server.take()
    assert kind_of(request) == packets.FSTAT
    server.send(disk.answer(request))
    exchange(relayed, server, disk, looking(20, b"."))
    assert server.take_now() is None
    server = back(relayed, server, servers, disk)
    assert exchange(relayed, server, disk, reading(21, name, 0, 9)) == [data(21, OLD[:9])]


def test_files_when_the_server_shows_none_are_not_looked_at_without_limit(
    relayed: Relayed, server: Server, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "MOST_OWN", 3)
    answer, looks = disk.answer, 0

    def answer_all_but_looks(packet: bytes) -> bytes:
        nonlocal looks
        looks += kind_of(packet) == packets.FSTAT
        return b"" if kind_of(packet) == packets.FSTAT else answer(packet)

    monkeypatch.setattr(disk, "answer", answer_all_but_looks)
    for identity in range(10, 70, 10):
        name = open_file(relayed, server, disk)
        disk.files[b"a"].modified += 1
        exchange(relayed, server, disk, looking(identity, b"a"))
        exchange(relayed, server, disk, closing(identity + 1, name))
    assert looks == 3


# A rename


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("posix", [True, False])
@pytest.mark.parametrize("recreated", [True, False])
def test_read_when_a_rename_was_under_way_finds_the_file_at_either_path(
    relayed: Relayed,
    server: Server,
    servers: Servers,
    disk: Disk,
    *,
    made: bool,
    posix: bool,
    recreated: bool,
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    relayed.sshfs.send(renaming(9, b"a", b"c", posix=posix), reading(10, name, 50, 9))
    request = server.take()
    server.take()
    if made:
        disk.answer(request)
    if recreated:
        disk.files[b"a" if made else b"c"] = Content([b"another"])
    server.die()
    assert relayed.sshfs.take() == packets.status(9, UNAVAILABLE)
    server = servers.back()
    disk.connected()
    assert serve(relayed, server, disk, 1) == [data(10, OLD[50:59])]
    assert (b"c" in disk.files) == (made or recreated)
    assert len(disk.handles) == 1


@pytest.mark.parametrize("then", ["changed", "renamed", "renamed before it is open again"])
def test_read_when_a_rename_was_made_and_not_answered_follows_the_file_from_then_on(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock, then: str
) -> None:
    name = open_file(relayed, server, disk)
    read(relayed, server, disk, name)
    relayed.sshfs.send(renaming(9, b"a", b"c"))
    disk.answer(server.take())
    if then == "renamed before it is open again":
        disk.absent |= {b"a", b"c"}
    server = next_server(server, servers, disk)
    assert relayed.sshfs.take() == packets.status(9, UNAVAILABLE)
    exchange(relayed, server, disk, looking(10, b"."))
    if then == "changed":
        other = open_file(relayed, server, disk, b"c", WRITE_ONLY)
        exchange(relayed, server, disk, writing(12, other, 90, b"new"))
    else:
        exchange(relayed, server, disk, renaming(12, b"c", b"d"))
    server = next_server(server, servers, disk)
    clock.forward(relay.RETRY_SECONDS)
    relayed.sshfs.send(reading(13, name, 50, 9))
    let(server, disk, lambda: relayed.has_ended or disk.opens[-1] in (b"c", b"d"))
    assert serve(relayed, server, disk, 1) == [data(13, OLD[50:59])]


@pytest.mark.parametrize("how", ["renamed", "replaced", "removed"])
def test_file_that_is_opened_after_a_change_of_its_path_was_asked_for_keeps_it(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, how: str
) -> None:
    requests = {"renamed": renaming(3, b"a", b"c"), "replaced": renaming(3, b"b", b"a", posix=True)}
    relayed.sshfs.send(requests.get(how, looking(3, b"a", packets.REMOVE)), opening(4, b"a", 1 | CREATE))
    replies = [disk.answer(server.take()), disk.answer(server.take())]
    server.send(*replies)
    assert code_of(relayed.sshfs.take()) == OK
    name = packets.text(relayed.sshfs.take(), 9)[0]
    disk.files[b"a"].become(OLD)
    read(relayed, server, disk, name)
    exchange(relayed, server, disk, build(packets.FSTAT, 5, string(name)))
    server = back(relayed, server, servers, disk)
    assert exchange(relayed, server, disk, reading(10, name, 0, 9)) == [data(10, OLD[:9])]


# Errors of a server that is there


@pytest.mark.parametrize("code", [3, 4, 99])
def test_read_when_the_server_cannot_read_is_told_so_and_the_journal_too(
    relayed: Relayed, server: Server, disk: Disk, capfd: pytest.CaptureFixture[str], code: int
) -> None:
    name = open_file(relayed, server, disk)
    relayed.sshfs.send(reading(10, name, 0, 9))
    server.take()
    reply = build(packets.STATUS, 10, code.to_bytes(4, "big"), string(b"its words"), string(b"en"))
    server.send(reply)
    assert relayed.sshfs.take() == reply
    words = f"the server can't read 'a' (status {code}), which its reader takes for the end of the file\n"
    assert capfd.readouterr().err == words
    assert exchange(relayed, server, disk, reading(11, name, 100, 9)) == [packets.status(11, packets.END_OF_FILE)]
    relayed.sshfs.send(reading(12, name, 0, 9))
    server.take()
    server.send(packets.status(12, code))
    assert relayed.sshfs.take() == packets.status(12, code)
    assert capfd.readouterr().err == ""  # once for each file that is opened
