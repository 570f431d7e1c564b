# SPDX-License-Identifier: MIT
"""What sshfs is told at once, since the server has just shown it."""

import pytest
from support.relayed import (
    CREATE,
    KEPT_SECONDS,
    NOTHING,
    OPENSSH_VERSION,
    TRUNCATE,
    Clock,
    Relayed,
    Server,
    Servers,
    Start,
    attributes,
    closing,
    data,
    handle,
    id_of,
    kind_of,
    looking,
    opening,
    reading,
    renaming,
    setting,
    setting_size,
    writing,
)
from support.waiting import await_that

from sshfs_plugin.relay import packets, relay
from sshfs_plugin.relay.packets import build, string
from sshfs_plugin.relay.relay import MOST_AHEAD

TO_WRITE, ONLY_NEW = 2, 32
NEW = TO_WRITE | CREATE | ONLY_NEW
DIRECTORY = attributes(0, 4096, 1_700_000_000, 0o040755)
EMPTY = attributes(0, 0, 1_700_000_001)
H = b"\0\0\0\1"
HARD_LINK = b"hardlink@openssh.com"


def ask(relayed: Relayed, server: Server, request: bytes, reply: bytes) -> bytes:
    """Let sshfs ask and the server answer; return what sshfs is told."""
    relayed.sshfs.send(request)
    assert server.take() == request
    server.send(with_id(reply, id_of(request)))
    return relayed.sshfs.take()


def with_id(reply: bytes, identity: int) -> bytes:
    """Return the same reply to another request."""
    return reply[:5] + identity.to_bytes(4, "big") + reply[9:]


def told(relayed: Relayed, request: bytes) -> bytes:
    """Let sshfs ask; return what it is told."""
    relayed.sshfs.send(request)
    return relayed.sshfs.take()


def assert_asked(relayed: Relayed, server: Server, request: bytes) -> None:
    """Let sshfs ask, and see that it is told what the server says."""
    now = attributes(0, 4711, 1_700_000_009)
    assert ask(relayed, server, request, now) == with_id(now, id_of(request))


# The directory of the volume, about which sshfs asks when it starts, and for which the kernel asks then


def test_directory_that_was_looked_at_just_now_is_not_asked_for_again(relayed: Relayed, server: Server) -> None:
    ask(relayed, server, looking(0, b"/photos"), DIRECTORY)
    assert told(relayed, looking(1, b"/photos")) == with_id(DIRECTORY, 1)
    assert_asked(relayed, server, looking(2, b"/photos"))


AHEAD = packets.FIRST_OWN_ID


def answered_ahead(relayed: Relayed, server: Server, reply: bytes) -> None:
    """Let the server answer what it was asked ahead, and see that the relay has that."""
    server.send(with_id(reply, AHEAD))
    ask(relayed, server, looking(9, b"/photos/link", packets.READLINK), packets.status(9, 4))


def test_directory_that_was_looked_at_after_the_login_is_not_asked_for_again(relayed: Relayed, server: Server) -> None:
    """With idmap=user, sshfs first looks who owns the directory of the login."""
    ask(relayed, server, looking(0, b".", packets.STAT), DIRECTORY)
    ask(relayed, server, looking(1, b"/photos"), DIRECTORY)
    assert told(relayed, looking(2, b"/photos")) == with_id(DIRECTORY, 2)


def test_directory_that_was_asked_for_ahead_answers_sshfs_and_then_the_kernel(start: Start, servers: Servers) -> None:
    relayed = start(asked_ahead=b"/photos")
    server = relayed.connected(servers)
    answered_ahead(relayed, server, DIRECTORY)
    for number in range(2):
        assert told(relayed, looking(number, b"/photos")) == with_id(DIRECTORY, number)
    assert_asked(relayed, server, looking(2, b"/photos"))


def test_directory_that_was_asked_for_ahead_and_is_missing_is_asked_for_by_sshfs_itself(
    start: Start, servers: Servers
) -> None:
    relayed = start(asked_ahead=b"/photos")
    server = relayed.connected(servers)
    missing = packets.status(AHEAD, 2)
    answered_ahead(relayed, server, missing)
    assert ask(relayed, server, looking(0, b"/photos"), missing) == with_id(missing, 0)


def test_directory_that_was_asked_for_ahead_is_asked_for_by_sshfs_that_was_faster(
    start: Start, servers: Servers
) -> None:
    relayed = start(asked_ahead=b"/photos")
    server = relayed.connected(servers)
    ask(relayed, server, looking(0, b"/photos"), DIRECTORY)
    answered_ahead(relayed, server, DIRECTORY)
    assert told(relayed, looking(1, b"/photos")) == with_id(DIRECTORY, 1)
    assert_asked(relayed, server, looking(2, b"/photos"))


def test_rubbish_that_answers_what_was_asked_ahead_ends_the_connection(start: Start, servers: Servers) -> None:
    relayed = start(asked_ahead=b"/photos")
    relayed.connected(servers).send(packets.build(packets.ATTRS, AHEAD))
    servers.next()


@pytest.mark.parametrize(
    "other",
    [
        looking(1, b"/photos/film"),
        looking(1, b"/photos", packets.STAT),
        looking(1, b"/photos", packets.OPENDIR),
        opening(1, b"/photos/film"),
        opening(1, b"/photos/2024/film", NEW),
        setting(1, b"/photos/film", 5),
    ],
    ids=["a path in it", "a link's target", "its content", "a file in it", "a file made below", "a time in it"],
)
def test_directory_is_not_asked_for_again_after_what_does_not_change_it(
    relayed: Relayed, server: Server, other: bytes
) -> None:
    ask(relayed, server, looking(0, b"/photos"), DIRECTORY)
    ask(relayed, server, other, packets.status(1, 3))
    assert told(relayed, looking(2, b"/photos")) == with_id(DIRECTORY, 2)


CHANGES = {
    "a file made in it": opening(1, b"/photos/film", TO_WRITE | CREATE | TRUNCATE),
    "a file removed": looking(1, b"/photos/film", packets.REMOVE),
    "a directory made": build(packets.MKDIR, 1, string(b"/photos/2024"), NOTHING),
    "a directory removed": looking(1, b"/photos/2024", packets.RMDIR),
    "a file renamed": renaming(1, b"/photos/a", b"/photos/b"),
    "a file renamed over another": renaming(1, b"/photos/a", b"/photos/b", posix=True),
    "a link made": build(packets.SYMLINK, 1, string(b"a"), string(b"/photos/b")),
    "a hard link made": build(packets.EXTENDED, 1, string(HARD_LINK), string(b"/a"), string(b"/photos/b")),
    "its mode": setting(1, b"/photos", 5),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("code", [packets.OK, 4], ids=["done", "failed"])
def test_directory_is_asked_for_again_after_a_change(
    relayed: Relayed, server: Server, change: bytes, code: int
) -> None:
    """Even after one that has failed: a server may have done it in part."""
    ask(relayed, server, looking(0, b"/photos"), DIRECTORY)
    ask(relayed, server, change, packets.status(1, code))
    assert_asked(relayed, server, looking(2, b"/photos"))


def test_directory_is_asked_for_again_a_while_later(relayed: Relayed, server: Server, clock: Clock) -> None:
    ask(relayed, server, looking(0, b"/photos"), DIRECTORY)
    clock.forward(KEPT_SECONDS)
    assert_asked(relayed, server, looking(1, b"/photos"))


def test_directory_is_asked_for_again_where_sshfs_has_other_connections(start: Start, servers: Servers) -> None:
    """What it asks there, such as a change, is not seen here."""
    relayed = start(sees_all=False)
    server = relayed.connected(servers)
    ask(relayed, server, looking(0, b"/photos"), DIRECTORY)
    assert_asked(relayed, server, looking(1, b"/photos"))
    assert kind_of(ask(relayed, server, opening(2, b"/photos/a", NEW), handle(2, H))) == packets.HANDLE
    assert_asked(relayed, server, build(packets.FSTAT, 3, string(H)))


# A file that is made. Sshfs asks about its path meanwhile, and is then asked for the open file.


def make(relayed: Relayed, server: Server, path: bytes, flags: int = NEW, shown: bytes = EMPTY) -> bytes:
    """Make a file as sshfs does; return what the relay asks by itself then."""
    relayed.sshfs.send(opening(10, path, flags), looking(11, path))
    assert server.take() == opening(10, path, flags)
    assert server.take() == looking(11, path)
    server.send(handle(10, H), with_id(shown, 11))
    assert relayed.sshfs.take() == handle(10, H)
    assert relayed.sshfs.take() == with_id(shown, 11)
    return server.take()


def showing(identity: int) -> bytes:
    """Return an FSTAT of the file that was made."""
    return build(packets.FSTAT, identity, string(H))


def test_file_that_was_made_is_not_looked_at_twice(relayed: Relayed, server: Server) -> None:
    make(relayed, server, b"/photos/a")
    assert told(relayed, showing(12)) == with_id(EMPTY, 12)
    assert_asked(relayed, server, showing(13))


@pytest.mark.parametrize("flags", [TO_WRITE | CREATE | TRUNCATE, TO_WRITE | CREATE])
def test_file_that_may_have_been_there_is_looked_at(relayed: Relayed, server: Server, flags: int) -> None:
    """What was at its path may be what was there before the server has cut it off."""
    make(relayed, server, b"/photos/a", flags, shown=attributes(0, 300, 1_600_000_000))
    assert_asked(relayed, server, showing(12))


@pytest.mark.parametrize(
    "change",
    [
        writing(12, H, 0, b"content"),
        setting_size(12, H, 7),
        setting(12, b"/photos/a", 5),
        opening(12, b"/photos/a", 18),
    ],
    ids=["written to", "size", "time by its path", "opened again to be cut off"],
)
def test_file_that_was_made_and_changed_is_looked_at(relayed: Relayed, server: Server, change: bytes) -> None:
    make(relayed, server, b"/photos/a")
    ask(relayed, server, change, packets.status(0, packets.OK))
    assert_asked(relayed, server, showing(13))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (looking(12, b"/photos/a", packets.REMOVE), writing(13, H, 0, b"content")),
        (build(packets.EXTENDED, 12, string(HARD_LINK), string(b"/photos/a"), string(b"/b")), setting(13, b"/b", 5)),
    ],
    ids=["removed, and written to", "linked, and changed by the link"],
)
def test_file_that_was_changed_without_its_path_is_looked_at(
    relayed: Relayed, server: Server, first: bytes, second: bytes
) -> None:
    make(relayed, server, b"/photos/a")
    ask(relayed, server, first, packets.status(0, packets.OK))
    ask(relayed, server, second, packets.status(0, packets.OK))
    assert_asked(relayed, server, showing(14))


def test_link_that_another_has_put_in_a_new_files_place_is_not_taken_for_it(relayed: Relayed, server: Server) -> None:
    make(relayed, server, b"/photos/a", shown=attributes(0, 7, 1_700_000_000, 0o120777))
    assert_asked(relayed, server, showing(12))


def test_file_that_was_made_before_a_loss_is_looked_at(relayed: Relayed, server: Server, servers: Servers) -> None:
    make(relayed, server, b"/photos/a", NEW | packets.TO_READ)
    server.die()
    later = servers.back()
    answers = {
        packets.LSTAT: DIRECTORY,
        packets.OPEN: handle(0, H),
        packets.FSTAT: EMPTY,
    }
    while kind_of(request := later.take()) != packets.FSTAT:  # the last one of those with which the file is reopened
        later.send(with_id(answers[kind_of(request)], id_of(request)))
    later.send(with_id(EMPTY, id_of(request)))
    await_that(lambda: not relayed.outage.exists(), lambda: "the outage is over")
    assert_asked(relayed, later, showing(12))


def test_file_that_was_made_a_while_ago_is_looked_at(relayed: Relayed, server: Server, clock: Clock) -> None:
    make(relayed, server, b"/photos/a")
    clock.forward(KEPT_SECONDS)
    assert_asked(relayed, server, showing(12))


def test_file_whose_path_shows_an_older_one_is_looked_at(relayed: Relayed, server: Server) -> None:
    """Sshfs has asked about that path before it has asked for the file."""
    relayed.sshfs.send(looking(9, b"/photos/a"), looking(8, b"/other"))
    assert server.take() == looking(9, b"/photos/a")
    assert server.take() == looking(8, b"/other")
    relayed.sshfs.send(opening(10, b"/photos/a", NEW))
    assert server.take() == opening(10, b"/photos/a", NEW)
    server.send(attributes(9, 300, 1_600_000_000), with_id(DIRECTORY, 8), handle(10, H))
    assert [id_of(relayed.sshfs.take()) for _ in range(3)] == [9, 8, 10]
    assert id_of(server.take()) > 2**31
    assert_asked(relayed, server, showing(12))


def test_file_that_can_only_be_written_to_is_not_looked_at_by_the_relay(relayed: Relayed, server: Server) -> None:
    """What its path shows decides only whether those who read it may go on after a loss."""
    make(relayed, server, b"/photos/a")
    written = attributes(12, 7, 1_700_000_005)
    assert ask(relayed, server, looking(12, b"/photos/a"), written) == written
    assert_asked(relayed, server, looking(13, b"/photos/other"))


# The directory in which it was made, for which the kernel asks before it makes the next


@pytest.mark.parametrize("flags", [NEW, TO_WRITE | CREATE | TRUNCATE])
@pytest.mark.parametrize(
    ("path", "directory"), [(b"/photos/a", b"/photos"), (b"photos/a", b"photos"), (b"a", b"."), (b"/a", b"/")]
)
def test_directory_in_which_a_file_was_made_is_looked_at_before_sshfs_asks(
    relayed: Relayed, server: Server, path: bytes, directory: bytes, flags: int
) -> None:
    asked = make(relayed, server, path, flags)
    assert asked[4:5] + asked[9:] == bytes((packets.LSTAT,)) + string(directory)
    server.send(with_id(DIRECTORY, id_of(asked)))
    ask(relayed, server, closing(12, H), packets.status(12, packets.OK))
    assert told(relayed, looking(13, directory)) == with_id(DIRECTORY, 13)
    assert_asked(relayed, server, looking(14, directory))


@pytest.mark.parametrize(
    "reply",
    [packets.status(0, 3), build(packets.ATTRS, 0, (0x80000000).to_bytes(4, "big"), bytes(100_000))],
    ids=["an error", "more than is kept"],
)
def test_directory_of_which_nothing_is_known_is_asked_for(relayed: Relayed, server: Server, reply: bytes) -> None:
    asked = make(relayed, server, b"/photos/a")
    server.send(with_id(reply, id_of(asked)))
    assert_asked(relayed, server, looking(12, b"/photos"))


def test_directory_that_the_server_has_not_answered_for_is_asked_for(relayed: Relayed, server: Server) -> None:
    asked = make(relayed, server, b"/photos/a")
    assert_asked(relayed, server, looking(12, b"/photos"))
    server.send(with_id(DIRECTORY, id_of(asked)))
    ask(relayed, server, closing(13, H), packets.status(13, packets.OK))
    assert_asked(relayed, server, looking(14, b"/photos"))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_directory_that_changes_while_it_is_looked_at_is_asked_for(
    relayed: Relayed, server: Server, change: bytes
) -> None:
    asked = make(relayed, server, b"/photos/a")
    relayed.sshfs.send(change)
    assert server.take() == change
    server.send(with_id(DIRECTORY, id_of(asked)), packets.status(1, packets.OK))
    assert id_of(relayed.sshfs.take()) == 1
    assert_asked(relayed, server, looking(13, b"/photos"))


def test_directory_that_a_change_under_way_may_change_is_asked_for_when_that_is_done(
    relayed: Relayed, server: Server
) -> None:
    """A server may answer in another order than it was asked."""
    change = looking(1, b"/photos/old", packets.REMOVE)
    relayed.sshfs.send(change)
    assert server.take() == change
    asked = make(relayed, server, b"/photos/a")
    server.send(with_id(DIRECTORY, id_of(asked)), packets.status(1, packets.OK))
    assert id_of(relayed.sshfs.take()) == 1
    assert_asked(relayed, server, looking(13, b"/photos"))


def test_directory_is_asked_for_after_a_lost_connection(relayed: Relayed, server: Server, servers: Servers) -> None:
    asked = make(relayed, server, b"/photos/a")
    server.send(with_id(DIRECTORY, id_of(asked)))
    ask(relayed, server, closing(12, H), packets.status(12, packets.OK))
    server.die()
    await_that(relayed.outage.exists, lambda: "the connection is lost")
    relayed.sshfs.send(looking(13, b"/photos"))
    later = servers.back()
    probe = later.take()
    later.send(with_id(DIRECTORY, id_of(probe)))
    changed = attributes(13, 4097, 1_700_000_002, 0o040755)
    while (request := later.take()) != looking(13, b"/photos"):
        later.send(with_id(DIRECTORY, id_of(request)))
    later.send(changed)
    assert relayed.sshfs.take() == changed


def test_directory_that_shows_rubbish_ends_the_connection(relayed: Relayed, server: Server) -> None:
    asked = make(relayed, server, b"/photos/a")
    server.send(build(packets.ATTRS, id_of(asked), packets.HAS_SIZE.to_bytes(4, "big")))
    await_that(relayed.outage.exists, lambda: "the connection is given up")
    assert "which is no SFTP" in relayed.outage.read_text()


def test_server_that_does_not_answer_what_is_asked_ahead_is_not_asked_without_end(
    relayed: Relayed, server: Server
) -> None:
    requests = []
    for number in range(100):
        relayed.sshfs.send(opening(number, b"/%d/a" % number, NEW))
        while kind_of(request := server.take()) != packets.OPEN:
            requests.append(request)
        server.send(handle(number, b"%d" % number))
        relayed.sshfs.take()
    assert len(requests) == MOST_AHEAD


def test_directory_asked_about_ahead_without_an_answer_keeps_no_reader_from_its_file(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "RETRY_SECONDS", 30.0)
    ask(relayed, server, opening(1, b"/film"), handle(1, b"f"))
    server.die()
    await_that(relayed.outage.exists, lambda: "the connection is lost")
    later = servers.back()
    cannot_be_opened(later, b"/film")
    await_that(lambda: not relayed.outage.exists(), lambda: "the outage is over")
    relayed.sshfs.send(reading(2, b"f", 0, 10))
    cannot_be_opened(later, b"/film")
    make(relayed, later, b"/photos/a")
    clock.forward(30.0)
    cannot_be_opened(later, b"/film")


def cannot_be_opened(server: Server, path: bytes) -> None:
    """Await that the relay opens a file again, and say that it can't be done for now."""
    request = server.take()
    assert request[4:5] + request[9:] == opening(0, path)[4:5] + opening(0, path)[9:]
    server.send(packets.status(id_of(request), packets.UNAVAILABLE))


# What was changed: sshfs or the kernel asks for it when the server has done that


@pytest.fixture
def openssh(relayed: Relayed, servers: Servers) -> Server:
    """Give an OpenSSH server, which carries out one request after the other."""
    return relayed.connected(servers, OPENSSH_VERSION)


NOW = attributes(0, 7, 1_700_000_005)
LATER = attributes(0, 9, 1_700_000_009)


def change(relayed: Relayed, server: Server, request: bytes, shown: dict[bytes, bytes], code: int = packets.OK) -> None:
    """Let sshfs change something and the server do it; what it is asked behind that, for these paths, it answers."""
    relayed.sshfs.send(request)
    assert server.take() == request
    replies = [packets.status(id_of(request), code)]
    left = dict(shown)
    while left:
        asked = server.take()
        assert kind_of(asked) == packets.LSTAT
        replies.append(with_id(left.pop(packets.text(asked, 9)[0]), id_of(asked)))
    server.send(*replies)
    assert relayed.sshfs.take() == packets.status(id_of(request), code)
    ask(relayed, server, looking(99, b"/link", packets.READLINK), packets.status(99, 4))  # the relay has all by now


SHOWN_THEN = {
    "its time": (setting(1, b"/photos/a", 5), {b"/photos/a": NOW}),
    "a directory made": (CHANGES["a directory made"], {b"/photos/2024": DIRECTORY, b"/photos": DIRECTORY}),
    "a directory removed": (CHANGES["a directory removed"], {b"/photos": DIRECTORY}),
    "a file removed": (CHANGES["a file removed"], {b"/photos": DIRECTORY}),
    "a file renamed": (CHANGES["a file renamed"], {b"/photos": DIRECTORY}),
    "a file moved": (renaming(1, b"a", b"/photos/b", posix=True), {b".": DIRECTORY, b"/photos": DIRECTORY}),
    "a link made": (CHANGES["a link made"], {b"/photos/b": NOW, b"/photos": DIRECTORY}),
    "a hard link made": (CHANGES["a hard link made"], {b"/photos/b": NOW, b"/photos": DIRECTORY}),
}


@pytest.mark.parametrize(("request_", "shown"), SHOWN_THEN.values(), ids=SHOWN_THEN)
def test_change_is_asked_about_behind_it_so_that_nobody_need_wait_twice(
    relayed: Relayed, openssh: Server, request_: bytes, shown: dict[bytes, bytes]
) -> None:
    change(relayed, openssh, request_, shown)
    for path, reply in shown.items():
        assert told(relayed, looking(2, path)) == with_id(reply, 2)
        assert_asked(relayed, openssh, looking(3, path))


def test_change_is_asked_about_by_sshfs_alone_where_requests_may_overtake_each_other(
    relayed: Relayed, server: Server
) -> None:
    ask(relayed, server, setting(1, b"/photos/a", 5), packets.status(1, packets.OK))
    assert_asked(relayed, server, looking(2, b"/photos/a"))


def test_change_is_asked_about_by_sshfs_alone_where_it_has_other_connections(start: Start, servers: Servers) -> None:
    relayed = start(sees_all=False)
    server = relayed.connected(servers, OPENSSH_VERSION)
    ask(relayed, server, setting(1, b"/photos/a", 5), packets.status(1, packets.OK))
    assert_asked(relayed, server, looking(2, b"/photos/a"))


def test_change_is_asked_about_by_sshfs_that_was_faster_than_the_answer(relayed: Relayed, openssh: Server) -> None:
    request = setting(1, b"/photos/a", 5)
    relayed.sshfs.send(request)
    assert openssh.take() == request
    behind = openssh.take()
    openssh.send(packets.status(1, packets.OK))
    relayed.sshfs.take()
    assert_asked(relayed, openssh, looking(2, b"/photos/a"))
    openssh.send(with_id(NOW, id_of(behind)))
    assert_asked(relayed, openssh, looking(3, b"/photos/a"))


@pytest.mark.parametrize(
    "later",
    [
        writing(2, H, 7, b"more"),
        setting_size(2, H, 3),
        opening(2, b"/photos/a", TO_WRITE | TRUNCATE),
        looking(2, b"/photos/a", packets.REMOVE),
        renaming(2, b"/photos/b", b"/photos/a", posix=True),
    ],
    ids=["written to", "size", "opened to be cut off", "removed", "replaced"],
)
def test_what_was_changed_once_more_is_asked_for(relayed: Relayed, openssh: Server, later: bytes) -> None:
    make(relayed, openssh, b"/photos/a")
    change(relayed, openssh, setting(1, b"/photos/a", 5), {b"/photos/a": NOW})
    relayed.sshfs.send(later, looking(3, b"/photos/a"))
    while openssh.take() != looking(3, b"/photos/a"):
        pass


def test_two_changes_are_told_as_they_were_after_the_second(relayed: Relayed, openssh: Server) -> None:
    first, second = setting(1, b"/photos/a", 5), setting(2, b"/photos/a", 9)
    relayed.sshfs.send(first, second)
    asked = [openssh.take() for _ in range(4)]
    assert [asked[0], asked[2]] == [first, second]
    replies = [packets.status(1, 0), with_id(NOW, id_of(asked[1])), packets.status(2, 0)]
    openssh.send(*replies, with_id(LATER, id_of(asked[3])))
    assert [id_of(relayed.sshfs.take()) for _ in range(2)] == [1, 2]
    ask(relayed, openssh, looking(99, b"/link", packets.READLINK), packets.status(99, 4))
    assert told(relayed, looking(3, b"/photos/a")) == with_id(LATER, 3)


def test_what_a_change_that_failed_has_left_is_told(relayed: Relayed, openssh: Server) -> None:
    change(relayed, openssh, setting(1, b"/photos/a", 5), {b"/photos/a": LATER}, code=3)
    assert told(relayed, looking(2, b"/photos/a")) == with_id(LATER, 2)


def test_next_server_that_may_answer_in_any_order_is_asked_by_sshfs_alone(
    relayed: Relayed, openssh: Server, servers: Servers
) -> None:
    openssh.die()
    await_that(relayed.outage.exists, lambda: "the connection is lost")
    later = servers.back()
    await_that(lambda: not relayed.outage.exists(), lambda: "the outage is over")
    ask(relayed, later, setting(1, b"/photos/a", 5), packets.status(1, packets.OK))
    assert_asked(relayed, later, looking(2, b"/photos/a"))


def open_film(relayed: Relayed, server: Server, shown: bytes) -> None:
    """Open a file as sshfs does, which asks what its path shows."""
    relayed.sshfs.send(opening(10, b"/film"), looking(11, b"/film"))
    assert [server.take() for _ in range(2)] == [opening(10, b"/film"), looking(11, b"/film")]
    server.send(handle(10, H), with_id(shown, 11))
    assert [id_of(relayed.sshfs.take()) for _ in range(2)] == [10, 11]


def test_file_that_is_opened_after_a_change_that_failed_is_asked_for(
    relayed: Relayed, openssh: Server, servers: Servers
) -> None:
    """The relay has to see what sshfs is told of it, else its reader could not go on after a loss."""
    change(relayed, openssh, setting(1, b"/film", 5), {b"/film": NOW}, code=3)
    open_film(relayed, openssh, NOW)
    first = reading(2, H, 0, 3)
    assert ask(relayed, openssh, first, data(2, b"con")) == data(2, b"con")
    assert_goes_on(relayed, openssh, servers, reading(3, H, 3, 4), data(3, b"tent"))


def assert_goes_on(relayed: Relayed, server: Server, servers: Servers, request: bytes, reply: bytes) -> None:
    """Cut the connection, and see that a file, which looks as it did, is opened again and this READ answered."""
    server.die()
    await_that(relayed.outage.exists, lambda: "the connection is lost")
    relayed.sshfs.send(request)
    later = servers.back()
    answers = {packets.LSTAT: DIRECTORY, packets.OPEN: handle(0, b"anew"), packets.FSTAT: NOW}
    while kind_of(asked := later.take()) != packets.READ:
        later.send(with_id(answers[kind_of(asked)], id_of(asked)))
    later.send(reply)
    assert relayed.sshfs.take() == reply


def test_directory_that_sshfs_has_asked_for_before_a_change_is_asked_for_again(
    relayed: Relayed, openssh: Server
) -> None:
    relayed.sshfs.send(looking(1, b"/photos"))
    assert openssh.take() == looking(1, b"/photos")
    relayed.sshfs.send(looking(2, b"/photos/a", packets.REMOVE))
    assert id_of(openssh.take()) == 2
    behind = openssh.take()
    openssh.send(with_id(DIRECTORY, 1), packets.status(2, packets.OK), with_id(LATER, id_of(behind)))
    assert [id_of(relayed.sshfs.take()) for _ in range(2)] == [1, 2]
    ask(relayed, openssh, looking(99, b"/link", packets.READLINK), packets.status(99, 4))
    assert told(relayed, looking(3, b"/photos")) == with_id(LATER, 3)


def test_reader_whose_file_was_given_another_time_meanwhile_goes_on_after_a_loss(
    relayed: Relayed, openssh: Server, servers: Servers
) -> None:
    """The relay has seen that time by what it has asked, which sshfs need not ask."""
    open_film(relayed, openssh, attributes(0, 7, 1_600_000_000))
    relayed.sshfs.send(setting(1, b"/film", 5))
    assert id_of(openssh.take()) == 1
    openssh.send(packets.status(1, packets.OK), with_id(NOW, id_of(openssh.take())))
    assert id_of(relayed.sshfs.take()) == 1
    look = openssh.take()
    assert kind_of(look) == packets.FSTAT
    openssh.send(with_id(NOW, id_of(look)))
    ask(relayed, openssh, looking(99, b"/link", packets.READLINK), packets.status(99, 4))
    assert_goes_on(relayed, openssh, servers, reading(2, H, 0, 7), data(2, b"content"))


def test_directories_when_many_files_are_made_are_kept_in_number(relayed: Relayed, server: Server) -> None:
    for number in range(100):
        relayed.sshfs.send(opening(10, b"/%d/a" % number, NEW))
        server.take()
        server.send(handle(10, b"%d" % number))
        relayed.sshfs.take()
        server.send(with_id(DIRECTORY, id_of(server.take())))
    ask(relayed, server, reading(11, b"0", 0, 1), packets.status(11, 1))
    assert_asked(relayed, server, looking(12, b"/0"))
    assert told(relayed, looking(13, b"/99")) == with_id(DIRECTORY, 13)
