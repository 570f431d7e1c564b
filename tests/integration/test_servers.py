# SPDX-License-Identifier: MIT
"""Servers that are not OpenSSH, or not as it comes, with real programs at both ends."""

import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.impostors import LOOPBACK, closed_port
from support.ssh_keys import public_key, write_key

from integration.plugin import Plugin, Refused, await_that
from integration.sshd import Server, start_server
from sshfs_plugin.mounts import kernel


def speaks(port: int) -> bool:
    """Tell whether an SSH server says hello at a port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=5) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


@contextmanager
def running(argv: Sequence[str | Path], port: int) -> Iterator[None]:
    """Run a server as long as it is needed."""
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as process:
        try:
            await_that(lambda: speaks(port), f"{argv[0]} is up")
            yield
        finally:
            process.terminate()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rclone:
    """A server made with Go's x/crypto/ssh, which lets one login in.

    Attributes:
        port: Where it listens.
        key: A private key that may log in.
        data: What the login sees as its ``/``.
    """

    port: int
    key: Path
    data: Path

    def options(self, **more: str) -> dict[str, str]:
        """Return the options of a volume that is the whole of this server."""
        return {"sshcmd": f"bob@{LOOPBACK}:/", "port": str(self.port), **more}


PASSWORD = "hunter 2"


@pytest.fixture
def rclone(tmp_path: Path) -> Iterator[Rclone]:
    server = Rclone(port=closed_port(), key=write_key(tmp_path / "key", "ed25519"), data=tmp_path / "data")
    server.data.mkdir()
    address = ("--addr", f"{LOOPBACK}:{server.port}", "--key", write_key(tmp_path / "host_key", "ed25519", 2))
    way_in = ("--authorized-keys", public_key(server.key), "--user", "bob", "--pass", PASSWORD)
    with running(("rclone", "serve", "sftp", server.data, "--config", "", *address, *way_in), server.port):
        yield server


def test_a_server_that_grants_one_service_request_takes_a_key_or_a_password(plugin: Plugin, rclone: Rclone) -> None:
    plugin.create("by-key", rclone.options(IdentityFile=str(rclone.key)))
    plugin.create("by-password", rclone.options(password=PASSWORD))
    with pytest.raises(Refused, match="are the password and the login name bob right"):
        plugin.create("by-nothing", rclone.options(password="wrong"))
    plugin.create("by-either", rclone.options(IdentityFile=str(rclone.key), password=PASSWORD))


def test_a_server_made_with_go_is_asked_for_further_directories_as_for_the_first(
    plugin: Plugin, rclone: Rclone
) -> None:
    for name in ("photos", "films"):
        (rclone.data / name).mkdir()
        (rclone.data / name / "file").touch()
    for name in ("photos", "films", "photos/file", "missing"):
        options = rclone.options(password=PASSWORD, sshcmd=f"bob@{LOOPBACK}:/{name}")
        if (rclone.data / name).is_dir():
            plugin.create(name, options)
        else:
            with pytest.raises(Refused, match=r"/file on \S+ is not a directory|/missing does not exist on"):
                plugin.create("other", options)


def test_a_server_that_answers_statvfs_with_an_error_has_answered(plugin: Plugin, rclone: Rclone) -> None:
    plugin.create("photos", rclone.options(password=PASSWORD))
    mountpoint = plugin.mount("photos")
    (mountpoint / "file").write_text("a photo")
    plugin.mount("photos", "two")
    assert (rclone.data / "file").read_text() == "a photo"
    with pytest.raises(OSError, match="Operation not supported"):
        os.statvfs(mountpoint)


def test_a_server_that_sends_less_than_it_is_asked_for_cuts_no_file(plugin: Plugin, rclone: Rclone) -> None:
    (rclone.data / "file").write_bytes(content := os.urandom(300_000))
    plugin.create("photos", rclone.options(password=PASSWORD, max_read="131072"))
    assert (plugin.mount("photos") / "file").read_bytes() == content


def test_a_server_that_knows_no_statvfs_answers_only_while_it_is_there(plugin: Plugin, server: Server) -> None:
    with start_server("ForceCommand internal-sftp -P statvfs", model=server) as lacking:
        plugin.create("photos", lacking.options(lacking.data))
        mountpoint = plugin.mount("photos")
        with lacking.frozen_connections():
            os.statvfs(mountpoint)  # sshfs answers by itself
            with pytest.raises(Refused, match="is mounted but its server does not answer"):
                plugin.mount("photos", "two")
        plugin.mount("photos", "two")


def test_an_answer_that_the_kernel_remembers_is_none(plugin: Plugin, server: Server) -> None:
    plugin.create("photos", server.options(server.data, negative_timeout="60"))
    mountpoint = plugin.mount("photos")
    assert kernel.answers(mountpoint, 5)
    with server.frozen_connections():
        assert not kernel.answers(mountpoint, 0.5)
        assert not kernel.answers(mountpoint, 60), "at once, since the first question hangs still"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("MaxSessions 0", r"opens no session for it \(Connect failed\): its sshd_config may say 'MaxSessions 0'"),
        (
            "ForceCommand true",
            r"prints 'This account is currently not available\.' where SFTP .* its shell must",
        ),
    ],
)
def test_each_way_to_have_no_sftp_has_a_sentence_of_its_own(
    plugin: Plugin, server: Server, line: str, said: str
) -> None:
    with start_server(line, model=server) as lacking, pytest.raises(Refused, match=said):
        plugin.create("photos", lacking.options(lacking.data))


def test_a_server_that_lets_one_connection_in_at_a_time_says_so_to_the_next(plugin: Plugin, server: Server) -> None:
    with (
        start_server("PerSourceMaxStartups 1", model=server) as small,
        socket.create_connection((LOOPBACK, small.port)),
        pytest.raises(Refused, match=rf"port {small.port} closed the connection at once.*only so many connections"),
    ):
        await_that(lambda: not speaks(small.port), "the first connection counts")
        plugin.create("photos", small.options(small.data))


@pytest.mark.parametrize("check", ["create", "never"])
def test_a_server_without_posix_rename_lets_a_file_take_the_place_of_another(
    plugin: Plugin, server: Server, check: str
) -> None:
    with start_server("ForceCommand internal-sftp -P posix-rename", model=server) as lacking:
        plugin.create("photos", lacking.options(lacking.data, check=check))
        mountpoint = plugin.mount("photos")
        for name in ("new", "old"):
            (mountpoint / name).write_text(name)
        (mountpoint / "new").replace(mountpoint / "old")
        assert [(file.name, file.read_text()) for file in lacking.data.iterdir()] == [("old", "new")]
        plugin.unmount("photos")
        plugin.create("raw", lacking.options(lacking.data, check=check, workaround="none"))
        mountpoint = plugin.mount("raw")
        (mountpoint / "new").touch()
        with pytest.raises(PermissionError):
            (mountpoint / "new").replace(mountpoint / "old")


def test_a_server_with_posix_rename_is_asked_to_do_it_in_one_step(plugin: Plugin, server: Server) -> None:
    directory = server.make("posix-rename")
    plugin.create("photos", server.options(directory))
    mountpoint = plugin.mount("photos")
    for name in ("new", "old"):
        (mountpoint / name).mkdir()
    (mountpoint / "old/file").touch()
    with pytest.raises(PermissionError):  # in several steps it would be done by half
        (mountpoint / "new").rename(mountpoint / "old")
    assert sorted(path.name for path in directory.iterdir()) == ["new", "old"]
