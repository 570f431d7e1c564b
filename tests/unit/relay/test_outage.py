# SPDX-License-Identifier: MIT
# ruff: noqa: PLR0913 (a relay has two ends, and a test needs things at both)
"""When a lost server is tried again, what is told of it, and how long a read waits."""

import os
import re

import pytest
from support.relayed import (
    Clock,
    Content,
    Disk,
    Relayed,
    Server,
    Servers,
    Start,
    code_of,
    data,
    exchange,
    kind_of,
    looking,
    opening,
    reading,
    serve,
)
from support.waiting import await_that

from sshfs_plugin.relay import outage, packets, relay, ssh

DENIED = b"bob@nas: Permission denied (publickey,password)."
DENIED_WITH_A_BLANK = b"john doe@nas: Permission denied (publickey,gssapi-with-mic).\r\n"
KEY_CHANGED = b"@@@ WARNING @@@\r\nHost key verification failed.\r\n"
TOO_MANY = (
    b"Received disconnect from 10.0.0.7 port 22:2: Too many authentication failures\r\n"
    b"Disconnected from 10.0.0.7 port 22\r\n"
)
EXPIRED = b"You are required to change your password immediately (administrator enforced).\r\nConnection closed.\r\n"
DENIED_ON_THE_WAY = b"bob@jump: Permission denied (publickey).\r\nConnection closed by UNKNOWN port 65535\r\n"
TRIED = "it is tried again every 5 seconds"
KNOCKED = "it is tried again every 4 seconds"
IN_A_MINUTE = "the login is tried again 1 minute later"
IN_TEN_MINUTES = "the login is tried again 10 minutes later"
GIVEN_UP = "no further login is tried until a container that uses the volume is started"


@pytest.fixture(autouse=True)
def every(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let attempts be as far apart as they are."""
    monkeypatch.setattr(outage, "EVERY_SECONDS", 5.0)
    monkeypatch.setattr(outage, "UNREACHED_SECONDS", 4.0)


@pytest.fixture
def disk() -> Disk:
    return Disk({b"a": Content([b"abc"])})


@pytest.fixture
def relayed(start: Start) -> Relayed:
    return start(read_seconds=30)


@pytest.fixture
def server(relayed: Relayed, servers: Servers, clock: Clock) -> Server:
    """Give a server that has been there for a while."""
    server = relayed.connected(servers)
    clock.forward(1000)
    return server


def told(relayed: Relayed, words: str) -> None:
    """Await that the file says so."""

    def says() -> str:
        try:
            return relayed.outage.read_text()
        except FileNotFoundError:
            return ""

    await_that(lambda: says() == words, lambda: f"{words!r} is told; {says()!r} is")


def lost(why: str, then: str = TRIED) -> str:
    return f"the connection to the server is lost ({why}); {then}"


def open_file(relayed: Relayed, server: Server, disk: Disk) -> bytes:
    return packets.text(exchange(relayed, server, disk, opening(1, b"a"))[0], 9)[0]


def test_outage_is_told_while_it_lasts(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, capfd: pytest.CaptureFixture[str], clock: Clock
) -> None:
    name = open_file(relayed, server, disk)
    assert not relayed.outage.exists()
    server.die()
    attempt = servers.next()
    told(relayed, lost("it was closed"))
    clock.forward(10)
    attempt.die(b"ssh: connect to host nas port 22: Connection refused\r\n")
    attempt = servers.next()
    told(relayed, lost("ssh: connect to host nas port 22: Connection refused", KNOCKED))
    attempt.greet()
    disk.connected()
    exchange(relayed, attempt, disk, reading(2, name, 0, 3))
    assert not relayed.outage.exists()
    said = capfd.readouterr().err.splitlines()
    first = "the connection is lost (it was closed): it is made again, and reads of open files wait for it"
    assert said[0] == first
    assert re.fullmatch(r"connected again after \d+\.\d seconds; 1 open files can be read on", said[1])
    assert len(said) == 2


def test_outage_when_an_earlier_relay_has_left_the_file_is_not_told(
    servers: Servers, start: Start, clock: Clock
) -> None:
    first = start()
    first.connected(servers).die()
    await_that(first.outage.exists, lambda: "it is told")
    clock.forward(outage.HOLD_SECONDS)
    first.close()
    assert not first.outage.exists()  # the volume is not mounted any more
    stale = first.outage.parent.with_name("volume-1") / first.outage.name
    stale.parent.mkdir()
    stale.write_text("long ago")
    second = start()
    assert second.outage == stale
    second.connected(servers)
    assert not stale.exists()


def test_outage_when_the_file_cannot_be_written_is_told_to_the_journal(
    relayed: Relayed, server: Server, servers: Servers, capfd: pytest.CaptureFixture[str]
) -> None:
    relayed.outage.mkdir()
    server.die()
    servers.next()
    assert (
        f"cannot write {relayed.outage}, Is a directory: docker-volume-sshfs status does not tell why the connection "
        "is lost"
    ) in capfd.readouterr().err.splitlines()


def test_outage_when_it_could_not_be_told_once_is_told_later_and_forgotten(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    new = relayed.outage.with_name(f"{relayed.outage.name}.{os.getpid()}")
    new.mkdir()  # as if the file system was full
    server.die()
    for _ in range(2):
        servers.next().die(b"one")
        clock.forward(5)
    assert not relayed.outage.exists()
    attempt = servers.next()
    new.rmdir()
    attempt.die(b"two")
    told(relayed, lost("two"))
    assert capfd.readouterr().err.count("Is a directory") == 1
    clock.forward(5)
    servers.back()
    await_that(lambda: not relayed.outage.exists(), lambda: "it is forgotten")


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        (b"Connection closed by 10.0.0.7 port 22\r\n", 5),
        (b"ssh: connect to host nas port 22: No route to host\r\n", 4),
        (b"ssh: Could not resolve hostname nas: Name or service not known\r\n", 4),
        (b"ssh: connect to host jump port 22: Connection refused\r\nConnection closed by UNKNOWN port 65535\r\n", 4),
    ],
)
def test_attempts_are_as_far_apart_as_is_said(
    relayed: Relayed, servers: Servers, clock: Clock, monkeypatch: pytest.MonkeyPatch, words: bytes, seconds: int
) -> None:
    monkeypatch.setattr(outage, "EVERY_SECONDS", 5.0)
    monkeypatch.setattr(outage, "UNREACHED_SECONDS", 4.0)
    clock.stop()
    relayed.connected(servers).die(words)  # it has just been made
    await_that(relayed.outage.exists, lambda: "the loss is noticed")
    clock.forward(5)
    servers.next().die(words)
    told(relayed, lost(outage.last_line(words), f"it is tried again every {seconds} seconds"))
    for _ in range(3):
        clock.forward(seconds - 1)
        clock.await_looks()
        assert not servers.is_called
        clock.forward(1)
        servers.next().die(words)


def test_attempt_when_the_connection_has_lasted_is_made_at_once(
    relayed: Relayed, server: Server, servers: Servers
) -> None:
    server.die()
    servers.next()


def test_attempt_when_the_server_says_nothing_is_given_up(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock
) -> None:
    clock.stop()
    server.die()
    attempt = servers.next()
    clock.forward(relay.ATTEMPT_SECONDS - 1)
    clock.await_looks()
    assert not servers.is_called
    clock.forward(2)
    told(relayed, lost("the server does not answer in time", "it is tried again 10 seconds later"))
    clock.forward(10)
    servers.next()
    attempt.close()


def test_attempt_that_can_not_be_ended_is_the_last_until_it_has_ended(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ssh that reads its key from a file system that does not answer survives SIGKILL, and so would the next."""
    monkeypatch.setattr(ssh, "END_SECONDS", 0.5)
    clock.stop()
    server.die()
    attempt = servers.next()
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    clock.forward(relay.ATTEMPT_SECONDS + 1)
    told(relayed, lost("the server does not answer in time", "it is tried again 10 seconds later"))
    for _ in range(3):
        clock.forward(10)
        clock.await_looks()
        told(relayed, lost("ssh waits for a file system of this host that does not answer"))
    assert not servers.is_called
    relayed.sshfs.send(looking(1, b"/"))
    assert code_of(relayed.sshfs.take()) == packets.UNAVAILABLE
    attempt.close()

    def is_tried() -> bool:
        clock.forward(5)
        return servers.is_called

    await_that(is_tried, lambda: "it is tried again once that has ended")
    servers.next()


def test_server_when_it_lets_us_in_but_hangs_is_tried_more_and_more_seldom(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock
) -> None:
    """Each attempt leaves a login and a hanging process with it."""
    exchange(relayed, server, Disk(), looking(1, b"."))
    clock.stop()
    server.die()
    for pause in (10, 20, 40, 80, 160, 320, 600, 600):
        hanging = servers.back()
        assert kind_of(hanging.take()) == packets.LSTAT
        clock.await_looks()
        clock.forward(relay.ATTEMPT_SECONDS + 1)
        hanging.rest()
        told(relayed, lost("the server does not answer in time", f"it is tried again {pause} seconds later"))
        clock.forward(pause - 2)
        clock.await_looks()
        assert not servers.is_called
        clock.forward(2)
    servers.next().die()  # it is being started anew
    told(relayed, lost("it was closed"))


@pytest.mark.parametrize("words", [DENIED, DENIED_WITH_A_BLANK, KEY_CHANGED, TOO_MANY, DENIED_ON_THE_WAY, EXPIRED])
def test_login_when_it_is_refused_is_tried_a_minute_and_ten_minutes_later_and_no_more(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock, words: bytes
) -> None:
    """Until a Mount has shown that it is let in."""
    last = words.strip().splitlines()[-1 if words == KEY_CHANGED else 0].decode()
    relayed.outage.with_name("retry").touch()  # of an earlier outage
    clock.stop()
    server.die()
    servers.next().die(words)
    told(relayed, lost(last, IN_A_MINUTE))
    for seconds, then in ((60, IN_TEN_MINUTES), (600, GIVEN_UP)):
        clock.forward(seconds - 5)
        clock.await_looks()
        assert not servers.is_called
        clock.forward(5)
        servers.next().die(words)
        told(relayed, lost(last, then))
    clock.forward(100_000)
    clock.await_looks(60)
    assert not servers.is_called
    relayed.outage.with_name("retry").touch()
    servers.next().die(words)
    await_that(lambda: not relayed.outage.with_name("retry").exists(), lambda: "it is tried once for each")
    clock.forward(100_000)
    clock.await_looks(60)
    assert not servers.is_called
    relayed.outage.with_name("retry").touch()
    servers.back()
    await_that(lambda: not relayed.outage.exists(), lambda: "it is connected")


@pytest.mark.parametrize(
    "words",
    [
        b'Load key "/etc/key": Permission denied\r\nkex_exchange_identification: read: Connection reset by peer\r\n',
        b"Could not create directory '/root/.ssh' (Permission denied).\r\nConnection reset by 10.0.0.7 port 22\r\n",
        b"mkdir: cannot create directory: Permission denied\r\nclient_loop: send disconnect: Broken pipe\r\n",
        b"Welcome. Too many authentication failures end in a ban.\r\nConnection closed by 192.0.2.1 port 22\r\n",
        b"Our rule: Permission denied (to bots)\r\nConnection closed by 192.0.2.1 port 22\r\n",
        b"Our rule at ann@nas: Permission denied (to bots).\r\nConnection closed by 192.0.2.1 port 22\r\n",
    ],
)
def test_login_when_something_else_was_not_permitted_is_tried_on(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock, words: bytes
) -> None:
    last = words.strip().splitlines()[-1].decode()
    server.die()
    for _ in range(4):
        servers.next().die(words)
        told(relayed, lost(last))
        clock.forward(5)
    servers.next()


def test_login_when_it_is_refused_and_then_turned_away_is_tried_no_sooner(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock
) -> None:
    """The server may have banned this host."""
    away = b"kex_exchange_identification: Connection closed by remote host"
    server.die()
    servers.next().die(DENIED)
    told(relayed, lost(DENIED.decode(), IN_A_MINUTE))
    clock.forward(60)
    servers.next().die(away)
    told(relayed, lost(away.decode(), IN_A_MINUTE))
    clock.forward(60)
    servers.next().die(DENIED)
    told(relayed, lost(DENIED.decode(), IN_TEN_MINUTES))


def test_login_when_it_is_refused_and_then_the_network_fails_is_tried_once_the_server_can_be_reached(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock
) -> None:
    """The server may have started, and let nobody in yet, and then once more."""
    server.die()
    for then in (IN_A_MINUTE, IN_TEN_MINUTES, GIVEN_UP):
        servers.next().die(DENIED)
        told(relayed, lost(DENIED.decode(), then))
        if then == GIVEN_UP:
            relayed.outage.with_name("retry").touch()
        else:
            clock.forward(60 if then == IN_A_MINUTE else 600)
        for _ in range(3):
            servers.next().die(b"ssh: no route")
            told(relayed, lost("ssh: no route", KNOCKED))
            clock.forward(4)
    servers.next()


def test_login_when_the_words_of_a_server_are_long_or_control_the_terminal_is_told_in_one_plain_line(
    relayed: Relayed, server: Server, servers: Servers
) -> None:
    server.die()
    servers.next().die(b"x" * 5000 + b"\nfirst\n\x1b[2J\xff" + b"y" * 400 + b"\r\n\r\n")
    told(relayed, lost("y" * 300))


def test_ssh_when_it_cannot_be_started_is_tried_again(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock
) -> None:
    command = servers.command[0]
    servers.command[0] = "/nonexistent"
    server.die()
    told(relayed, lost("ssh can't be started: No such file or directory"))
    servers.command[0] = command
    clock.forward(5)
    servers.next()


@pytest.mark.parametrize("during", [True, False])
def test_read_when_it_has_waited_for_as_long_as_it_may_ends_all(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock, *, during: bool
) -> None:
    name = open_file(relayed, server, disk)
    request = reading(9, name, 0, 3)
    if not during:
        relayed.sshfs.send(request)
        server.take()
    server.die()
    servers.next().die()
    await_that(lambda: "it was closed" in relayed.outage.read_text(), lambda: "the loss is told")
    clock.forward(1000)  # of the outage, or with the read
    if during:
        clock.await_looks()
        relayed.sshfs.send(request)
        clock.await_looks()
        assert not relayed.has_ended
        clock.forward(30)
    assert relayed.cannot_go_on() == "a read of 'a' has waited for 30 seconds"


def test_read_when_its_connection_is_lost_again_has_waited_since_the_first_loss(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock
) -> None:
    name = open_file(relayed, server, disk)
    relayed.sshfs.send(reading(9, name, 0, 3))
    server.take()
    server.die()
    for _ in range(2):
        clock.await_looks()
        clock.forward(14)
        server = servers.back()
        disk.connected()
        while kind_of(request := server.take()) != packets.READ:
            server.send(disk.answer(request))
        server.die()
    clock.await_looks()
    clock.forward(3)
    assert relayed.cannot_go_on() == "a read of 'a' has waited for 30 seconds"


def test_read_when_the_server_is_back_within_the_limit_gets_its_bytes(
    relayed: Relayed, server: Server, servers: Servers, disk: Disk, clock: Clock
) -> None:
    name = open_file(relayed, server, disk)
    relayed.sshfs.send(reading(9, name, 0, 3))
    assert kind_of(server.take()) == packets.READ
    server.die()
    attempt = servers.next()
    clock.forward(29)
    clock.await_looks()
    attempt.greet()
    disk.connected()
    assert serve(relayed, attempt, disk, 1) == [data(9, b"abc")]
    clock.forward(29)
    attempt.die()
    attempt = servers.back()  # the time of an earlier wait does not count
    disk.connected()
    assert exchange(relayed, attempt, disk, reading(10, name, 0, 3)) == [data(10, b"abc")]


def test_outages_that_are_over_are_counted_by_the_bytes_of_a_file(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock
) -> None:
    reconnects = relayed.outage.with_name("reconnects")
    server.die()
    servers.next().die()
    told(relayed, lost("it was closed"))
    assert not reconnects.exists()
    clock.forward(5)
    again = servers.back()
    await_that(reconnects.exists, lambda: "it is counted")
    clock.forward(5)
    again.die()
    servers.back()
    await_that(lambda: reconnects.stat().st_size == 2, lambda: f"it is counted, {reconnects.stat().st_size}")


def test_outage_when_it_cannot_be_counted_is_told_to_the_journal(
    relayed: Relayed, server: Server, servers: Servers, capfd: pytest.CaptureFixture[str]
) -> None:
    reconnects = relayed.outage.with_name("reconnects")
    reconnects.mkdir()
    server.die()
    servers.back()
    await_that(lambda: not relayed.outage.exists(), lambda: "it is over")
    said = capfd.readouterr().err.splitlines()
    assert f"this reconnection is not counted in {reconnects}, Is a directory" in said


def test_sshfs_when_it_ends_during_an_outage_ends_the_relay(
    relayed: Relayed, server: Server, servers: Servers, clock: Clock
) -> None:
    server.die()
    servers.next()
    clock.forward(outage.HOLD_SECONDS)
    relayed.sshfs.stream.close()
    assert relayed.ends() < 0  # ssh was killed
    assert not relayed.outage.exists()


def test_control_characters_of_a_server_are_not_told(capfd: pytest.CaptureFixture[str]) -> None:
    outage.say("welcome\x1b[2J to\r\n\x07nas\x9b1m\n")
    assert capfd.readouterr().err == "welcome [2J to\n nas 1m\n"
