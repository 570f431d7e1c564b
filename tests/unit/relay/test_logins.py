# SPDX-License-Identifier: MIT
"""Several volumes that lose the connection that they have shared, and log in again."""

import fcntl
import os
from pathlib import Path

import pytest
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
    id_of,
    kind_of,
    looking,
)
from support.waiting import await_that

from sshfs_plugin.relay import logins, outage, packets

LONG_DENIED = b"bob\xc2\xa0@" + b"n" * 400 + b": Permission denied (publickey)."
DENIED = b"bob@nas: Permission denied (publickey,password)."
NEVER = "no further login is tried until a container that uses the volume is started"
VOLUMES = 4


@pytest.fixture(autouse=True)
def every(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let attempts be as far apart as they are."""
    monkeypatch.setattr(outage, "EVERY_SECONDS", 5.0)
    monkeypatch.setattr(outage, "UNREACHED_SECONDS", 4.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "login"


@pytest.fixture
def volumes(start: Start, file: Path) -> list[Relayed]:
    return [start(login_file=str(file)) for _ in range(VOLUMES)]


@pytest.fixture
def connected(volumes: list[Relayed], servers: Servers, clock: Clock) -> list[Server]:
    """Give a server for each, which has been there for a while."""
    return connect(volumes, servers, clock)


def connect(volumes: list[Relayed], servers: Servers, clock: Clock) -> list[Server]:
    for relayed in volumes:
        relayed.sshfs.send(INIT)
    connected = [servers.back() for _ in volumes]
    for relayed in volumes:
        assert relayed.sshfs.take() == VERSION
    clock.forward(1000)
    return connected


def lose(connected: list[Server]) -> None:
    for server in connected:
        server.die()


def says(relayed: Relayed) -> str:
    try:
        return relayed.outage.read_text()
    except FileNotFoundError:
        return ""


def all_say(volumes: list[Relayed], words: str) -> None:
    await_that(lambda: all(words in says(relayed) for relayed in volumes), lambda: str([*map(says, volumes)]))


def all_are_back(volumes: list[Relayed]) -> None:
    await_that(lambda: not any(map(says, volumes)), lambda: str([*map(says, volumes)]))


def test_login_when_it_is_refused_counts_for_all_and_is_made_once(
    volumes: list[Relayed], connected: list[Server], servers: Servers, clock: Clock
) -> None:
    lose(connected)
    for then in ("1 minute later", "10 minutes later", NEVER):
        servers.next().die(DENIED)
        all_say(volumes, f"({DENIED.decode()}); ")
        all_say(volumes, then)
        clock.await_looks()
        assert not servers.is_called
        clock.forward(60 if then == "1 minute later" else 600)
    clock.await_looks()
    assert not servers.is_called
    volumes[1].outage.with_name("retry").touch()
    servers.back()
    all_are_back(volumes[1:2])


def test_login_when_it_is_refused_in_words_that_are_cut_counts_for_all(
    volumes: list[Relayed], connected: list[Server], servers: Servers, clock: Clock
) -> None:
    lose(connected)
    servers.next().die(LONG_DENIED)
    all_say(volumes, "the login is tried again 1 minute later")
    clock.await_looks()
    assert not servers.is_called


def test_login_when_the_server_lets_one_in_is_made_by_all_others_at_once(
    volumes: list[Relayed], connected: list[Server], servers: Servers, clock: Clock
) -> None:
    lose(connected)
    first = servers.next()
    clock.await_looks(40)
    assert not servers.is_called, "the others wait"
    first.greet()
    others = [servers.next() for _ in range(VOLUMES - 1)]
    for server in others:
        server.greet()
    all_are_back(volumes)


def test_login_when_the_first_was_let_in_is_made_by_all_others_although_its_files_hang(
    start: Start, servers: Servers, file: Path, clock: Clock
) -> None:
    volumes = [start(login_file=str(file)) for _ in range(VOLUMES)]
    connected = connect(volumes, servers, clock)
    for relayed in volumes:
        relayed.sshfs.send(looking(1, b"."))
    for server in connected:
        server.send(Disk().answer(server.take()))
    for relayed in volumes:
        relayed.sshfs.take()
    lose(connected)
    first = servers.back()
    assert id_of(first.take()), "the question for its directory, which has no answer"
    for _ in range(VOLUMES - 1):
        server = servers.back()
        server.send(Disk().answer(server.take()))
    await_that(lambda: [bool(says(relayed)) for relayed in volumes].count(True) == 1, lambda: "all others are back")


def test_login_that_has_waited_for_another_has_longer_until_programs_see_an_error(
    volumes: list[Relayed], connected: list[Server], servers: Servers, clock: Clock
) -> None:
    lose(connected)
    first = servers.next()
    for relayed in volumes:
        relayed.sshfs.send(looking(1, b"photo"))
    clock.forward(outage.HOLD_SECONDS / 2)
    clock.await_looks()
    first.greet()
    *others, slow = [servers.next() for _ in range(VOLUMES - 1)]
    clock.stop()
    clock.forward(outage.LET_IN_SECONDS - 1)
    clock.await_looks()
    disk = Disk({b"photo": Content([b"..."])})
    for server in (first, *others):
        if server is not first:
            server.greet()
        server.send(disk.answer(server.take()))
    clock.forward(1)
    replies = [kind_of(relayed.sshfs.take()) for relayed in volumes]
    assert sorted(replies) == [packets.STATUS, *[packets.ATTRS] * (VOLUMES - 1)]
    slow.greet()
    all_are_back(volumes)


def test_login_when_that_of_another_takes_long_is_made_without_it(
    volumes: list[Relayed], connected: list[Server], servers: Servers, clock: Clock
) -> None:
    lose(connected)
    slow = servers.next()
    clock.await_looks(40)
    clock.forward(logins.WAIT_SECONDS + 0.1)
    for _ in range(VOLUMES - 1):
        servers.back()
    await_that(lambda: [bool(says(relayed)) for relayed in volumes].count(True) == 1, lambda: "all others are back")
    slow.greet()
    all_are_back(volumes)


def test_login_when_the_first_has_hung_for_long_is_made_by_one_again_the_next_time(
    volumes: list[Relayed], connected: list[Server], servers: Servers, clock: Clock
) -> None:
    lose(connected)
    slow = servers.next()
    clock.await_looks(40)
    clock.forward(logins.WAIT_SECONDS + 0.1)
    for server in [servers.next() for _ in range(VOLUMES - 1)]:
        server.die(b"kex_exchange_identification: Connection closed by remote host\r\n")
    slow.die(b"kex_exchange_identification: Connection closed by remote host\r\n")
    all_say(volumes, "every 5 seconds")
    clock.forward(logins.COUNTS_SECONDS)
    servers.next().die(DENIED)
    all_say(volumes, "1 minute later")
    clock.await_looks()
    assert not servers.is_called


def test_login_when_the_server_cannot_be_reached_keeps_nobody_from_the_next(
    volumes: list[Relayed], connected: list[Server], servers: Servers
) -> None:
    lose(connected)
    for _ in volumes:
        servers.next().die(b"ssh: connect to host nas port 22: Connection refused\r\n")
    all_say(volumes, "Connection refused")


def test_login_when_a_relay_is_killed_amid_it_is_made_by_the_next(
    volumes: list[Relayed], connected: list[Server], servers: Servers, file: Path, clock: Clock
) -> None:
    """The kernel takes the lock from it."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    lose(connected)
    clock.await_looks(40)
    assert not servers.is_called
    os.close(descriptor)
    servers.back()
    for _ in volumes[1:]:
        servers.back()
    all_are_back(volumes)


@pytest.mark.parametrize("content", [b"rubbish", b"1e400 x", b" ", b"nan x", b"\xff\xff"])
def test_login_when_the_file_has_rubbish_is_made_by_each_volume(
    volumes: list[Relayed], connected: list[Server], servers: Servers, file: Path, content: bytes
) -> None:
    file.write_bytes(content)
    lose(connected)
    for _ in volumes:
        servers.back()
    all_are_back(volumes)


def test_login_when_there_is_no_place_for_the_file_is_made_by_each_volume(
    start: Start, servers: Servers, tmp_path: Path, clock: Clock
) -> None:
    volumes = [start(login_file=str(tmp_path / "missing" / "login")) for _ in range(2)]
    lose(connect(volumes, servers, clock))
    for server in [servers.next(), servers.next()]:
        server.die(DENIED)
    all_say(volumes, "1 minute later")


def test_login_of_a_volume_that_shares_none_waits_for_no_other(
    start: Start, connected: list[Server], servers: Servers, clock: Clock
) -> None:
    lose([*connected, *connect([start()], servers, clock)])
    assert len([servers.next(), servers.next()]) == 2
    clock.await_looks(40)
    assert not servers.is_called
