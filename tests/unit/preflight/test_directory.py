# SPDX-License-Identifier: MIT
"""The check of the directory, and how it is made, against real servers on loopback."""

import dataclasses
import itertools
import time
from pathlib import Path
from typing import Any

import paramiko
import pytest
from support.ssh_client import Client
from support.ssh_server import Account, Server, serving

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.preflight import sftp


@pytest.mark.parametrize(
    ("typed", "asked"),
    [("/photos", "/photos"), ("", "/photos"), ("2024", "/photos/2024"), ("/", "/"), ("/link", "/link")],
)
def test_directory_when_it_is_there_is_looked_into_where_the_login_sees_it(
    client: Client, files: Path, typed: str, asked: str
) -> None:
    (files / "photos/2024").mkdir()
    (files / "link").symlink_to("photos")
    with serving(Account(directory=files, home="/photos", password="hunter2")) as server:
        client.run(server, typed, password="hunter2")
    assert server.seen[3:] == [f"stat {asked}", f"list {asked}"]


def test_directory_when_empty_is_fine(client: Client, files: Path, server: Server) -> None:
    (files / "photos/a.jpg").unlink()
    client.run(server, password="hunter2")


def test_directory_when_it_holds_very_many_files_is_not_read_to_the_end(
    client: Client, files: Path, server: Server
) -> None:
    for number in range(500):
        (files / f"photos/{number}").touch()
    client.run(server, password="hunter2")


def test_directory_when_the_server_sends_all_of_its_names_at_once_is_fine(
    client: Client, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of Erlang/OTP does; the connection is used on after that, and a file is made to see that it can be."""
    for number in range(1500):
        (files / f"photos/{number:0200}").touch()
    monkeypatch.setattr(paramiko.SFTPHandle, "_get_next_files", lambda handle: handle._SFTPHandle__files)
    with serving(Account(directory=files, password="hunter2", changes=("open", "write", "remove"))) as server:
        checking = dataclasses.replace(client.preflight, writes=True)
        checking.run(client.volume(server, password="hunter2"), Deadline.after(5))


def test_directory_when_names_in_it_are_not_utf8_is_fine(client: Client, files: Path, server: Server) -> None:
    (files / "photos/a.jpg").rename(files / "photos" / b"gr\xfc\xdfe".decode(errors="surrogateescape"))
    client.run(server, password="hunter2")


@pytest.mark.parametrize(
    ("extensions", "last"),
    [((), [["readdir"], ["wait"], ["close"]]), (("users-groups-by-id@openssh.com",), [["close"]])],
    ids=["others", "openssh"],
)
def test_directory_is_looked_into_in_few_round_trips_and_left_closed(
    client: Client, files: Path, monkeypatch: pytest.MonkeyPatch, extensions: tuple[str, ...], last: list[list[str]]
) -> None:
    packets: list[str] = []
    send, read = sftp.Client._send_packet, sftp.Client._read_packet

    def sent(self: sftp.Client, kind: int, packet: Any) -> None:
        packets.append(paramiko.sftp.CMD_NAMES[kind])
        send(self, kind, packet)

    def received(self: sftp.Client) -> Any:
        packets.append("wait")
        return read(self)

    monkeypatch.setattr(sftp.Client, "_send_packet", sent)
    monkeypatch.setattr(sftp.Client, "_read_packet", received)
    with serving(Account(directory=files, password="hunter2", extensions=extensions)) as server:
        server.tune = lambda transport: setattr(transport, "local_version", "SSH-2.0-OpenSSH_9.2")
        client.run(server, password="hunter2")
    waits = [list(same) for is_wait, same in itertools.groupby(packets, lambda packet: packet == "wait")]
    assert waits == [["init"], ["wait"], ["stat", "opendir"], ["wait", "wait"], *last]


def test_directory_that_nobody_may_enter_is_named(client: Client, files: Path) -> None:
    """It can be listed, and a mount would be made, but each file in it is refused."""
    answers = {"stat /photos/.": paramiko.SFTP_PERMISSION_DENIED}
    with serving(Account(directory=files, password="hunter2", answers=answers)) as server:
        error = client.refusal(server, password="hunter2")
    assert str(error) == (
        "the directory /photos on 127.0.0.1 is not readable for bob: "
        "give it the right to read and enter the directory and those above it, or log in as its owner"
    )


def test_directory_on_a_server_that_knows_no_dot_is_fine(client: Client, files: Path) -> None:
    answers = {"stat /photos/.": paramiko.SFTP_NO_SUCH_FILE}
    with serving(Account(directory=files, password="hunter2", answers=answers)) as server:
        client.run(server, password="hunter2")


@pytest.mark.parametrize("path", ["/photos", "/music", "/photos/a.jpg"])
def test_directory_when_the_server_answers_in_another_order_is_found_all_the_same(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    said = "" if path == "/photos" else str(client.refusal(server, path, password="hunter2"))
    read = sftp.Client._read_packet
    later: list[Any] = []

    def received(self: sftp.Client) -> Any:
        if later:
            return later.pop()
        packet = read(self)
        if packet[0] == paramiko.sftp.CMD_VERSION or self.request_number > 3:
            return packet
        later.append(packet)
        return read(self)

    monkeypatch.setattr(sftp.Client, "_read_packet", received)
    if said:
        assert str(client.refusal(server, path, password="hunter2")) == said
    else:
        client.run(server, path, password="hunter2")


def test_directory_when_missing_says_what_to_do(client: Client, files: Path) -> None:
    with serving(Account(directory=files, home="/photos", password="hunter2")) as server:
        error = client.refusal(server, "/music", password="hunter2")
        assert isinstance(error, errors.DirectoryUnusable)
        assert str(error) == (
            "the directory /music does not exist on 127.0.0.1 for bob: make it first, or say "
            "-o create_directory for a new volume; if it was there before, its disk may be missing"
        )
        assert "the directory music does not exist on 127.0.0.1" in str(
            client.refusal(server, "music", password="hunter2")
        )


@pytest.mark.parametrize(
    ("typed", "seen"),
    [("/volume1/photos", "/photos"), ("/srv/data/bob/photos/2024", "/photos/2024"), ("/home/photos", "/photos")],
)
def test_directory_when_the_account_is_locked_in_names_the_shorter_path(
    client: Client, files: Path, server: Server, typed: str, seen: str
) -> None:
    (files / "photos/2024").mkdir()
    error = client.refusal(server, typed, password="hunter2")
    assert str(error) == (
        f"the directory {typed} does not exist on 127.0.0.1 for bob: "
        f"{seen} exists, and if this login is locked into a directory of the server, that may be it"
    )


@pytest.mark.parametrize("typed", ["/volume1/photos/a.jpg", "volume1/old/photos", "/music"])
def test_directory_when_no_directory_has_the_shorter_path_is_just_missing(
    client: Client, server: Server, typed: str
) -> None:
    assert "make it first" in str(client.refusal(server, typed, password="hunter2"))


@pytest.mark.parametrize("typed", ["/photos/a.jpg", "/link"])
def test_directory_when_it_is_a_file_says_so(client: Client, files: Path, server: Server, typed: str) -> None:
    (files / "link").symlink_to("photos/a.jpg")
    error = client.refusal(server, typed, password="hunter2")
    assert isinstance(error, errors.DirectoryUnusable)
    assert str(error) == f"{typed} on 127.0.0.1 is not a directory: a volume is a whole directory"


@pytest.mark.parametrize("asked", ["stat /photos", "list /photos"])
def test_directory_when_not_readable_says_so(client: Client, files: Path, asked: str) -> None:
    answers = {asked: paramiko.SFTP_PERMISSION_DENIED}
    with serving(Account(directory=files, password="hunter2", answers=answers)) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.DirectoryUnusable)
    assert str(error) == (
        "the directory /photos on 127.0.0.1 is not readable for bob: "
        "give it the right to read and enter the directory and those above it, or log in as its owner"
    )


def test_directory_when_the_login_directory_itself_is_not_readable_calls_it_that(client: Client, files: Path) -> None:
    answers = {"stat /": paramiko.SFTP_PERMISSION_DENIED}
    with serving(Account(directory=files, password="hunter2", answers=answers)) as server:
        error = client.refusal(server, "", password="hunter2")
    assert "the directory (login directory) on 127.0.0.1 is not readable for bob" in str(error)


def test_directory_when_the_server_fails_says_how_to_try_by_hand(client: Client, files: Path) -> None:
    answers = {"list /photos": paramiko.SFTP_FAILURE}
    with serving(Account(directory=files, password="hunter2", answers=answers)) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.DirectoryUnusable)
    assert str(error) == (
        "the directory /photos on 127.0.0.1 can't be listed (Failure): try sftp to that server by hand"
    )


@pytest.mark.parametrize("asked", ["stat /photos", "list /photos"])
def test_directory_when_the_server_hangs_up_says_so(client: Client, files: Path, asked: str) -> None:
    with serving(Account(directory=files, password="hunter2", hangs_up_at=asked)) as server:
        error = client.refusal(server, password="hunter2")
    assert str(error).startswith("the directory /photos on 127.0.0.1 can't be listed (")
    assert "()" not in str(error)


@pytest.mark.usefixtures("long_grace")
def test_directory_when_the_server_does_not_answer_gives_up_at_the_deadline(client: Client, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", stalls_at="stat /photos")) as server:
        error = client.refusal_of_silence(server, password="hunter2")
    assert "the directory /photos on 127.0.0.1 can't be listed (no answer in time)" in str(error)


def test_directory_when_each_of_many_answers_is_slow_gives_up_at_the_deadline(client: Client, files: Path) -> None:
    started = time.monotonic()
    with serving(Account(directory=files, password="hunter2", pause=0.5)) as server:
        client.refusal(server, "/a/b/c/d/e/f/g/h/i/j", seconds=1, password="hunter2")
    assert time.monotonic() - started < 4, "not eleven times as long as an answer takes"


@pytest.fixture
def latin_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let servers say what they refuse in French, and not in UTF-8."""
    said = [b"R\xe9pertoire introuvable"] * len(paramiko.sftp.SFTP_DESC)
    monkeypatch.setattr(paramiko.sftp_server, "SFTP_DESC", said)


@pytest.mark.usefixtures("latin_1")
def test_directory_when_missing_on_a_server_of_another_charset_is_missing(client: Client, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2")) as server:
        error = client.refusal(server, "/missing", password="hunter2")
    assert str(error) == (
        "the directory /missing does not exist on 127.0.0.1 for bob: make it first, or say "
        "-o create_directory for a new volume; if it was there before, its disk may be missing"
    )


@pytest.mark.usefixtures("latin_1")
def test_directory_when_the_server_fails_in_another_charset_is_said_as_far_as_it_can_be_read(
    client: Client, files: Path
) -> None:
    answers = {"list /photos": paramiko.SFTP_FAILURE}
    with serving(Account(directory=files, password="hunter2", answers=answers)) as server:
        error = client.refusal(server, password="hunter2")
    assert str(error) == (
        "the directory /photos on 127.0.0.1 can't be listed (R\ufffdpertoire introuvable): "
        "try sftp to that server by hand"
    )


@pytest.mark.parametrize("fails", ["stat /photo", "canonicalize ."])
def test_directory_when_missing_and_the_server_hangs_up_meanwhile_is_still_missing(
    client: Client, files: Path, fails: str
) -> None:
    with serving(Account(directory=files, password="hunter2", hangs_up_at=fails)) as server:
        error = client.refusal(server, "/volume1/photo", password="hunter2")
    assert str(error) == (
        "the directory /volume1/photo does not exist on 127.0.0.1 for bob: make it first, or say "
        "-o create_directory for a new volume; if it was there before, its disk may be missing"
    )


# A directory that is made


def make(client: Client, server: Server, path: str) -> None:
    volume = client.volume(server, path, password="hunter2", create_directory="")
    client.preflight.run(volume, Deadline.after(5), creating=True)


def test_directory_when_it_is_to_be_made_is_made_with_those_above_it(client: Client, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", changes=("mkdir",))) as server:
        make(client, server, "/photos/2024/a, b/größe")
        make(client, server, "relative/to/home")
        make(client, server, "/photos")
        make(client, server, "")
    assert (files / "photos/2024/a, b/größe").is_dir()
    assert (files / "relative/to/home").is_dir()
    assert (files / "photos/a.jpg").exists()


@pytest.mark.usefixtures("latin_1")
def test_directory_that_is_missing_on_a_server_of_another_charset_is_made(client: Client, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", changes=("mkdir",))) as server:
        make(client, server, "/photos/2024/may")
    assert (files / "photos/2024/may").is_dir()


def test_directory_when_it_begins_with_what_may_be_the_port_is_not_made(client: Client, files: Path) -> None:
    """Else a mistake in the port would make a volume of a new and empty directory."""
    with serving(Account(directory=files, password="hunter2", changes=("mkdir",))) as server:
        with pytest.raises(errors.DirectoryMissing, match="is meant to be the port, say .* is called so is ./[0-9]+/x"):
            make(client, server, f"{server.port}/x")
        assert not (files / str(server.port)).exists()
        make(client, server, f"./{server.port}/x")
        make(client, server, f"{server.port}/x")
        make(client, server, f"{server.port % 65535 + 1}/x")
    assert (files / str(server.port % 65535 + 1) / "x").is_dir()


def test_directory_when_it_may_not_be_made_says_which_one(client: Client, server: Server) -> None:
    with pytest.raises(errors.DirectoryUnusable) as refused:
        make(client, server, "/photos/2024/may")
    assert str(refused.value) == (
        "cannot make the directory /photos/2024 on 127.0.0.1 for bob, permission denied: "
        "give it the right to write in the directory above, or make it by hand"
    )


def test_directory_that_somebody_else_makes_meanwhile_is_fine(client: Client, files: Path) -> None:
    answers = {"stat /photos/2024": iter((paramiko.SFTP_NO_SUCH_FILE,))}
    (files / "photos/2024").mkdir()
    with serving(Account(directory=files, password="hunter2", changes=("mkdir",), answers=answers)) as server:
        make(client, server, "/photos/2024")


def test_directory_when_it_is_neither_made_nor_seen_then_says_why_it_was_not_made(client: Client, files: Path) -> None:
    answers = {"stat /photos/2024": iter((paramiko.SFTP_NO_SUCH_FILE, paramiko.SFTP_FAILURE))}
    with (
        serving(Account(directory=files, password="hunter2", answers=answers)) as server,
        pytest.raises(errors.DirectoryUnusable) as refused,
    ):
        make(client, server, "/photos/2024")
    assert str(refused.value) == (
        "cannot make the directory /photos/2024 on 127.0.0.1 for bob, permission denied: "
        "give it the right to write in the directory above, or make it by hand"
    )


def test_directory_when_the_server_hangs_up_instead_of_making_it_says_so(client: Client, files: Path) -> None:
    account = Account(directory=files, password="hunter2", changes=("mkdir",), hangs_up_at="mkdir /photos/2024")
    with serving(account) as server, pytest.raises(errors.DirectoryUnusable) as refused:
        make(client, server, "/photos/2024")
    assert str(refused.value).startswith("cannot make the directory /photos/2024 on 127.0.0.1 for bob (")
    assert str(refused.value).endswith("): try sftp to that server by hand")


def test_directory_when_it_is_missing_later_is_not_made(client: Client, files: Path) -> None:
    """A disk that is not there must not be hidden by an empty directory in its place."""
    with serving(Account(directory=files, password="hunter2", changes=("mkdir",))) as server:
        make(client, server, "/photos/2024")
        (files / "photos/2024").rmdir()
        error = client.refusal(server, "/photos/2024", password="hunter2", create_directory="")
    assert str(error) == (
        "the directory /photos/2024 does not exist on 127.0.0.1 for bob: a new volume makes it "
        "(create_directory); of a volume that you have already, the directory or its disk is gone"
    )
    assert not (files / "photos/2024").exists()


@pytest.mark.parametrize("typed", ["/photos ", " photos"])
def test_directory_when_missing_and_a_blank_was_taken_for_a_part_of_it_says_so(
    client: Client, server: Server, typed: str
) -> None:
    error = client.refusal(server, typed, password="hunter2")
    assert str(error).endswith(" for bob: it begins or ends with a blank, leave that out of sshcmd")


def test_directory_when_missing_and_an_option_was_taken_for_a_part_of_it_says_so(
    client: Client, server: Server
) -> None:
    error = client.refusal(server, "/photos,uid=1000", password="hunter2")
    assert str(error) == (
        "the directory /photos,uid=1000 does not exist on 127.0.0.1 for bob: "
        "a comma is part of the directory; if an option was meant, say -o uid=1000 by itself"
    )


@pytest.mark.parametrize(("path", "there"), [("/link/below", "link"), ("/photos/a.jpg/below", "a file")])
def test_directory_when_something_else_is_in_the_way_says_so(
    client: Client, files: Path, path: str, there: str
) -> None:
    (files / "link").symlink_to("nowhere")
    with (
        serving(Account(directory=files, password="hunter2", changes=("mkdir",))) as server,
        pytest.raises(errors.DirectoryUnusable, match="something that is no directory may be in the way") as refused,
    ):
        make(client, server, path)
    assert "Errno" not in str(refused.value), there
