# SPDX-License-Identifier: MIT
"""A session on a shared connection: whether one is asked for, and what is done when none begins."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.waiting import LIMIT_SECONDS, await_that

from sshfs_plugin.relay import packets, shared
from sshfs_plugin.relay.session import Session

GREETING = b"\0\0\0\5\1\0\0\0\3"
COMMAND = ["/usr/bin/ssh", "-x", "-2", "-s", "--", "nas", "sftp"]
SESSION_OPENED = 0x80000006


@pytest.fixture
def connection(tmp_path: Path) -> Path:
    directory = tmp_path / "connection"
    directory.mkdir()
    return directory


@dataclass
class Asked:
    """What the ssh of a shared connection was asked for.

    Attributes:
        control: The socket on which it was asked.
        words: The fields of the request after its number.
        streams: The descriptors that it is to read from, to write to and to complain to.
    """

    control: socket.socket
    words: bytes
    streams: list[int]

    def say(self, *numbers: int, words: bytes = b"") -> None:
        """Answer."""
        answer = b"".join(number.to_bytes(4, "big") for number in numbers) + words
        self.control.sendall(len(answer).to_bytes(4, "big") + answer)

    def end(self) -> None:
        """End the session."""
        for stream in self.streams:
            os.close(stream)
        self.streams.clear()


@pytest.fixture
def asked(connection: Path) -> Iterator[Callable[[], Asked]]:
    """Listen in place of the ssh of a shared connection, and give what it is asked for, as OpenSSH reads it."""
    with socket.socket(socket.AF_UNIX) as listening, ExitStack() as taken:
        listening.bind(str(connection / "socket"))
        listening.listen()
        listening.settimeout(LIMIT_SECONDS)

        def take() -> Asked:
            control = taken.enter_context(listening.accept()[0])
            control.settimeout(LIMIT_SECONDS)
            packets, streams = [], []
            for _ in range(2):
                packets.append(control.recv(int.from_bytes(control.recv(4), "big")))
            for _ in range(3):
                _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
                streams += descriptors
            assert packets[0] == bytes.fromhex("00000001 00000004")
            assert packets[1][:8] == bytes.fromhex("10000002 00000000")
            request = Asked(control, packets[1][8:], streams)
            taken.callback(request.end)
            return request

        yield take


def begin(directory: Path, command: list[str] = COMMAND) -> Session:
    begun = shared.begin_session(command, str(directory))
    assert begun is not None
    begun.send(GREETING)
    return begun


def test_session_is_asked_of_the_connection(connection: Path, asked: Callable[[], Asked]) -> None:
    begun, request = begin(connection), asked()
    # reserved, no terminal, X11 or agent, a subsystem, no escape character, no kind of terminal, which
    assert (
        request.words
        == bytes.fromhex("00000000 00000000 00000000 00000000 00000001 ffffffff 00000000 00000004") + b"sftp"
    )
    assert os.read(request.streams[0], 100) == GREETING
    os.write(request.streams[1], b"the server's answer")
    assert shared.has_begun(begun, str(connection))
    assert os.read(begun.descriptor, 100) == b"the server's answer"
    assert not begun.has_ended()
    os.write(request.streams[2], b"its last words")
    begun.end()
    assert begun.said == b"its last words"
    assert request.control.recv(1) == b"", "else it would pass packets on for ever"


def version(*extensions: bytes) -> bytes:
    names = b"".join(packets.string(name) + packets.string(b"1") for name in extensions)
    return (5 + len(names)).to_bytes(4, "big") + b"\2\0\0\0\3" + names


@pytest.mark.parametrize(
    ("extensions", "question"),
    [
        ((b"posix-rename@openssh.com", b"users-groups-by-id@openssh.com"), "\0\0\0\x0b\7\xff\xff\xff\xff\0\0\0\2/a"),
        ((b"posix-rename@openssh.com", b"statvfs@openssh.com"), ""),
    ],
    ids=["openssh", "another"],
)
def test_further_session_asks_a_server_of_openssh_for_its_directory_at_once(
    connection: Path, asked: Callable[[], Asked], extensions: tuple[bytes, ...], question: str
) -> None:
    assert shared.question_ahead(str(connection), b"/a") == b"", "nothing is known of the server"
    begun, request = begin(connection), asked()
    os.write(request.streams[1], version(*extensions))
    assert shared.has_begun(begun, str(connection))
    assert shared.question_ahead(str(connection), b"/a") == question.encode("latin-1")
    assert shared.question_ahead(str(connection), b"") == b"", "nothing is asked where nothing may be kept"
    begun.end()


def test_server_that_has_another_program_for_sftp_is_asked_to_run_it(
    connection: Path, asked: Callable[[], Asked]
) -> None:
    begun, request = begin(connection, ["/usr/bin/ssh", "-x", "-2", "--", "nas", "/opt/sftp-server"]), asked()
    assert request.words == bytes.fromhex("00000000 00000000 00000000 00000000 00000000 ffffffff 00000000 00000010") + (
        b"/opt/sftp-server"
    )
    begun.end()


def test_session_ends_with_the_status_that_the_server_tells(connection: Path, asked: Callable[[], Asked]) -> None:
    begun, request = begin(connection), asked()
    request.say(SESSION_OPENED, 0, 7)
    request.say(0x80000004, 7, 3)
    request.end()
    await_that(begun.has_ended, lambda: "it goes on")
    assert begun.end() == 3


def test_session_that_is_refused_has_not_begun_and_the_connection_is_well(
    connection: Path, asked: Callable[[], Asked]
) -> None:
    begun, request = begin(connection), asked()
    request.say(0x80000003, 0, words=b"\0\0\0\x1bSession open refused by peer")
    request.end()
    assert not shared.has_begun(begun, str(connection))
    assert begun.end() == 255
    assert begun.said == b"Session open refused by peer\n"
    assert not (connection / "hung").exists()


@pytest.mark.parametrize("rubbish", ["ffffffff", "00000004 80000004", "00000008 80000004 00000000"])
def test_what_cannot_be_understood_ends_the_session(connection: Path, asked: Callable[[], Asked], rubbish: str) -> None:
    begun, request = begin(connection), asked()
    request.control.sendall(bytes.fromhex(rubbish))
    await_that(begun.has_ended, lambda: "it goes on")
    assert begun.end() == 255


def test_connection_that_begins_no_session_counts_as_hung(
    connection: Path, asked: Callable[[], Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    del asked
    monkeypatch.setattr(shared, "SESSION_SECONDS", 0.05)
    begun = begin(connection)
    assert not shared.has_begun(begun, str(connection))
    begun.end()
    assert (connection / "hung").stat().st_mode & 0o777 == 0o600


def test_connection_that_takes_no_request_counts_as_hung(
    connection: Path, asked: Callable[[], Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    del asked
    monkeypatch.setattr(shared, "SESSION_SECONDS", 0.05)
    with ExitStack() as waiting:
        for _ in range(1000):
            each = waiting.enter_context(socket.socket(socket.AF_UNIX))
            each.setblocking(False)
            try:
                each.connect(str(connection / "socket"))
            except BlockingIOError:
                break
        assert shared.begin_session(COMMAND, str(connection)) is None
    assert (connection / "hung").exists()


@pytest.mark.parametrize("name", ["", "gone", "connection"])
def test_no_session_is_asked_for_where_there_is_no_connection(tmp_path: Path, connection: Path, name: str) -> None:
    """It was never to be shared, or has ended, or takes no further session and is about to end."""
    directory = str(tmp_path / name) if name else ""
    assert shared.begin_session(COMMAND, directory) is None


def test_connection_that_is_being_made_is_waited_for(connection: Path) -> None:
    (connection / "making").touch()
    begun: list[Session | None] = []
    waiting = threading.Thread(target=lambda: begun.append(shared.begin_session(COMMAND, str(connection))))
    waiting.start()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{connection}/new")
        listening.listen()
        (connection / "new").rename(connection / "socket")
        waiting.join(LIMIT_SECONDS)
    (found,) = begun
    assert found
    found.end()


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_connection_that_could_not_be_made_is_told(connection: Path, when: str) -> None:
    """A login by the volume itself would be one more that is refused."""

    def fail() -> None:
        (connection / "failed").write_text("bob@nas: Permission denied (publickey).\n")
        (connection / "making").unlink()

    (connection / "making").touch()
    if when == "before":
        fail()
    else:
        threading.Timer(0.05, fail).start()
    with pytest.raises(shared.NotMade, match=r"^bob@nas: Permission denied \(publickey\)\.$"):
        shared.begin_session(COMMAND, str(connection))


def test_connection_that_takes_too_long_to_make_is_told(connection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (connection / "making").touch()
    monkeypatch.setattr(shared, "MAKING_SECONDS", 0.05)
    with pytest.raises(shared.NotMade, match="^the connection that is shared could not be made in time$"):
        shared.begin_session(COMMAND, str(connection))
