# SPDX-License-Identifier: MIT
"""The check of SFTP, against real servers on loopback."""

from pathlib import Path

import paramiko
import pytest
from support.sftp_server import Files
from support.ssh_client import Client
from support.ssh_server import FLOOD_BYTES, Account, Server, serving
from support.waiting import await_that

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.preflight import sftp


def test_sftp_when_the_server_has_none_says_how_to_turn_it_on(client: Client, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", sftp=False)) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.SFTPUnavailable)
    assert str(error) == (
        f"bob@127.0.0.1 port {server.port} lets the login in but has no SFTP for it (Channel closed.): "
        "the server needs the line 'Subsystem sftp internal-sftp' in its sshd_config"
    )


@pytest.mark.parametrize(
    ("greeting", "words"),
    [(b"Welcome to nas!\n", "Welcome to nas!"), (b"\0\0\0\x06\xffhello", "hello"), (b"\0\x0f\xff\xff" * 9, "")],
    ids=["text", "a packet of another kind", "a packet of a megabyte"],
)
def test_sftp_when_the_logins_start_up_files_print_says_so(
    client: Client, files: Path, greeting: bytes, words: str
) -> None:
    with serving(Account(directory=files, password="hunter2", greeting=greeting)) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.SFTPUnavailable)
    assert f"bob@127.0.0.1 port {server.port} lets the login in but prints '{words}" in str(error)
    assert "where SFTP should begin: nothing in the login's start-up files may print" in str(error)


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (b"This account is currently not available.\n", "prints 'This account is currently not available.' where SFTP"),
        (b"", "its SFTP ended at once (sh: 1: sftp-server: not found; exit status 127)"),
    ],
)
def test_sftp_when_its_program_has_ended_before_it_is_spoken_to_says_the_same(
    client: Client, files: Path, monkeypatch: pytest.MonkeyPatch, greeting: bytes, said: str
) -> None:
    send = sftp.Client._send_packet

    def send_late(self: sftp.Client, *words: object) -> None:
        send(self, *words)  # which ends it
        await_that(lambda: self.sock.closed, lambda: "the program has not ended")
        send(self, *words)

    monkeypatch.setattr(sftp.Client, "_send_packet", send_late)
    account = Account(
        directory=files, password="hunter2", greeting=greeting, last_words=b"sh: 1: sftp-server: not found\n"
    )
    with serving(account) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.SFTPUnavailable)
    assert said in str(error)


def test_sftp_when_its_program_ends_at_once_gives_its_last_words(client: Client, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", last_words=b"sh: 1: sftp-server: not found\n")) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.SFTPUnavailable)
    assert "but its SFTP ended at once (sh: 1: sftp-server: not found; exit status 127): the program" in str(error)


def test_sftp_when_the_password_has_expired_although_a_key_is_used_says_so(client: Client, files: Path) -> None:
    words = b"WARNING: Your password has expired.\nPassword change required but no TTY available.\n"
    with serving(Account(directory=files, password="hunter2", last_words=words)) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.SFTPUnavailable)
    assert str(error) == (
        f"bob@127.0.0.1 port {server.port} lets the login in but wants a new password first (WARNING: Your password "
        "has expired.; Password change required but no TTY available.; exit status 127): log in there by hand once, "
        f"with ssh -p {server.port} bob@127.0.0.1, and choose one"
    )


@pytest.mark.usefixtures("long_grace")
def test_sftp_when_the_server_is_slow_is_not_taken_for_one_without(client: Client, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", stalls_at="subsystem sftp")) as server:
        error = client.refusal_of_silence(server, password="hunter2")
    assert isinstance(error, errors.SFTPUnavailable)
    assert str(error) == (
        f"bob@127.0.0.1 port {server.port} lets the login in but did not start SFTP in time: it may be busy, or what "
        "runs at a login there waits for something, such as a name service or a home directory on the network; try "
        "again"
    )


def test_sftp_when_the_server_hangs_up_says_so(client: Client, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", hangs_up_at="subsystem sftp")) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.SFTPUnavailable)
    assert f"port {server.port} lets the login in but closed the connection when it asked for SFTP (" in str(error)
    assert "()" not in str(error)


@pytest.mark.parametrize("step", ["_set_transport", "_event_pending"])
def test_sftp_when_the_connection_ends_in_the_moment_of_asking_for_it_says_so(
    client: Client, files: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A deadline may end it just before a channel of paramiko gets to know it, or begins to wait for an answer."""
    original = getattr(paramiko.Channel, step)

    def after_the_end(channel: paramiko.Channel, *transports: paramiko.Transport) -> None:
        transport = channel.transport or transports[0]
        if channel in transport._channels.values() and not transport.server_mode:
            transport.close()
        original(channel, *transports)

    with serving(Account(directory=files, password="hunter2")) as server:
        monkeypatch.setattr(paramiko.Channel, step, after_the_end)
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.SFTPUnavailable)
    assert "lets the login in but closed the connection when it asked for SFTP (" in str(error)


@pytest.mark.parametrize("when", ["before", "after"])
def test_sftp_server_that_sends_far_more_than_was_asked_for_is_cut_off(client: Client, files: Path, when: str) -> None:
    with serving(Account(directory=files, password="hunter2", floods=when)) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.SFTPUnavailable)
    assert str(error) == (
        f"bob@127.0.0.1 port {server.port} lets the login in but sends more than the 2097152 bytes that it may send at "
        "once: what runs there is no SFTP server"
    )
    assert server.flooded < FLOOD_BYTES / 4


class Endless(dict[str, str]):
    """Extended attributes of a file of which there are none, and that claim to be many."""

    def __len__(self) -> int:
        return 2**32 - 1


@pytest.mark.parametrize("create_directory", ["yes", "no"])
def test_sftp_server_that_announces_billions_of_attributes_is_not_believed(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch, create_directory: str
) -> None:
    def stat(*_: object) -> paramiko.SFTPAttributes:
        found = paramiko.SFTPAttributes()
        found.attr = Endless()
        return found

    monkeypatch.setattr(Files, "stat", stat)
    volume = client.volume(server, password="hunter2", create_directory=create_directory)
    with pytest.raises(errors.DirectoryUnusable, match=r"can't be listed \(a message that ends too early\)"):
        client.preflight.run(volume, Deadline.after(20), creating=True)
