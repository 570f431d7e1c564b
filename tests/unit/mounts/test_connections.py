# SPDX-License-Identifier: MIT
"""Which volumes share a connection, and what is written for one that is to be made."""

import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.service import settings_below

from sshfs_plugin import errors, options
from sshfs_plugin.mounts.connections import SESSIONS, Connection, Connections
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.ssh.known_hosts import HostKey, KnownHosts
from sshfs_plugin.volume import Volume, VolumeName

KEY = Path("/root/.ssh/id_rsa")
LOGIN = Login(identity_files=(KEY,), contents={KEY: b"as it is"})
PINNED = "SHA256:" + "m" * 42 + "A"


@pytest.fixture
def settings() -> Iterator[Settings]:
    """Give a host in a directory whose name is short enough for sockets in it."""
    with tempfile.TemporaryDirectory(prefix="sshfs-") as directory:
        yield settings_below(Path(directory))


@pytest.fixture
def connections(settings: Settings) -> Connections:
    return Connections(settings)


def volume(name: str, **opts: str) -> Volume:
    return options.parse(VolumeName(name), {"sshcmd": f"bob@nas:/{name}", **opts}, datetime.now(UTC))


@contextmanager
def made(connection: Connection) -> Iterator[None]:
    """Let a connection take sessions meanwhile."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(connection.socket))
        listening.listen()
        yield


def test_first_volume_has_the_connection_made_and_a_second_waits_for_it(connections: Connections) -> None:
    connection, is_new = connections.join(volume("photos"), LOGIN)
    assert is_new
    assert connections.join(volume("music"), LOGIN) == (connection, False)
    assert connection.shared_by == {"photos", "music"}


def test_login_needs_no_check_while_a_connection_stands_that_takes_the_volume(connections: Connections) -> None:
    assert not connections.stands(volume("photos"), LOGIN)
    connection, _ = connections.join(volume("photos"), LOGIN)
    assert not connections.stands(volume("music"), LOGIN)
    with made(connection):
        assert connections.stands(volume("music"), LOGIN)
        assert not connections.stands(volume("music", own_connection="yes"), LOGIN)
    assert not connections.stands(volume("music"), LOGIN)


@pytest.mark.parametrize(
    ("opts", "login"),
    [
        ({"port": "2222"}, LOGIN),
        ({"sshcmd": "ann@nas:/music"}, LOGIN),
        ({"sshcmd": "bob@other:/music"}, LOGIN),
        ({"Ciphers": "aes128-ctr"}, LOGIN),
        ({"ConnectTimeout": "3"}, LOGIN),
        ({"host_key": PINNED}, LOGIN),
        ({"host_key_check": "no"}, LOGIN),
        ({"known_hosts": "/root/other"}, LOGIN),
        ({}, replace(LOGIN, contents={KEY: b"another"})),
        ({}, replace(LOGIN, identity_files=())),
        ({}, replace(LOGIN, password="hunter2")),
    ],
)
def test_volumes_that_log_in_otherwise_share_nothing(
    connections: Connections, settings: Settings, opts: Mapping[str, str], login: Login
) -> None:
    pin(settings, "music")
    one, _ = connections.join(volume("photos"), LOGIN)
    other, is_new = connections.join(volume("music", **opts), login)
    assert is_new
    assert other != one


@pytest.mark.parametrize("opts", [{"ro": ""}, {"uid": "1000"}, {"relay": "yes"}, {"check": "never"}])
def test_volumes_that_differ_in_their_files_share(connections: Connections, opts: Mapping[str, str]) -> None:
    one, _ = connections.join(volume("photos", check="never"), LOGIN)
    assert connections.join(volume("music", **{"check": "never", **opts}), LOGIN) == (one, False)


@pytest.mark.parametrize("opts", [{"relay": "no"}, {"reconnect": "no"}, {"max_conns": "2"}, {"own_connection": "yes"}])
def test_these_have_a_connection_of_their_own(opts: Mapping[str, str]) -> None:
    assert not volume("photos", **opts).shares_connection


def test_a_host_key_that_was_forgotten_or_added_since_counts(connections: Connections, settings: Settings) -> None:
    one, _ = connections.join(volume("photos"), LOGIN)
    KnownHosts.of(settings).add("nas", 22, HostKey(kind="ssh-ed25519", blob=b"\0\0\0\x0bssh-ed25519"))
    other, is_new = connections.join(volume("music"), LOGIN)
    assert is_new
    assert other != one


def test_eleventh_volume_gets_another_connection_until_a_place_is_free(connections: Connections) -> None:
    joined = [connections.join(volume(f"v{number}"), LOGIN)[0] for number in range(SESSIONS + 1)]
    assert len(set(joined)) == 2
    assert joined[-1].shared_by == {f"v{SESSIONS}"}
    assert connections.join(volume("v0"), LOGIN) == (joined[0], False)
    connections.leave(VolumeName("v0"))
    assert connections.join(volume("late"), LOGIN) == (joined[0], False)


def test_connection_that_hangs_takes_no_further_volume_until_it_has_ended(connections: Connections) -> None:
    hanging, _ = connections.join(volume("photos"), LOGIN)
    with made(hanging):
        (hanging.directory / "hung").touch()
        other, is_new = connections.join(volume("music"), LOGIN)
        assert is_new
        assert other != hanging
        assert not connections.stands(volume("music"), LOGIN)


@pytest.mark.parametrize("was_killed", [True, False])
def test_connection_that_has_ended_and_left_its_files_is_made_anew(
    connections: Connections, monkeypatch: pytest.MonkeyPatch, was_killed: bool
) -> None:
    connection, _ = connections.join(volume("photos"), LOGIN)
    if was_killed:
        with made(connection):
            pass
    else:
        monkeypatch.setattr("sshfs_plugin.mounts.connections.MAKING_SECONDS", -1.0)
    assert connections.join(volume("music"), LOGIN) == (connection, True)
    assert connection.shared_by == {"music"}


def test_service_that_was_restarted_finds_the_connections_again(connections: Connections, settings: Settings) -> None:
    connection, _ = connections.join(volume("photos"), LOGIN)
    with made(connection):
        assert Connections(settings).stands(volume("music"), LOGIN)


def test_files_of_a_connection_are_for_root_alone_and_go_with_it(connections: Connections) -> None:
    connection, _ = connections.join(volume("photos"), Login(password=" hünter,2 "))
    assert connection.directory.stat().st_mode & 0o777 == 0o700
    assert connection.password.read_text() == " hünter,2 \n"
    assert {path.stat().st_mode & 0o077 for path in connection.directory.rglob("*")} == {0}
    environment = connection.environment.read_text()
    assert environment.splitlines()[0] == 'LOGIN="bob@nas"'
    assert f'SSHFS_PLUGIN_PASSWORD_FILE="{connection.password}"' in environment
    assert "hünter" not in environment + connection.ssh_config.read_text()
    connection.remove()
    assert not connection.directory.exists()


def test_name_of_a_connection_can_be_seen_by_all_and_tells_no_password(settings: Settings, tmp_path: Path) -> None:
    login = Login(password="hunter2")
    here, _ = Connections(settings).join(volume("photos"), login)
    elsewhere, _ = Connections(replace(settings, runtime=tmp_path / "elsewhere")).join(volume("photos"), login)
    assert here.name != elsewhere.name


def test_pinned_host_key_is_shared_by_the_volumes_that_pin_it(connections: Connections, settings: Settings) -> None:
    for name in ("photos", "music"):
        pin(settings, name)
    connection, _ = connections.join(volume("photos", host_key=PINNED), LOGIN)
    assert connections.join(volume("music", host_key=PINNED), LOGIN) == (connection, False)
    assert connection.known_hosts.read_text() == "nas ssh-ed25519 AAAA\n"
    assert f'UserKnownHostsFile "{connection.known_hosts}"' in connection.ssh_config.read_text()


def test_directory_that_cannot_be_written_is_named(connections: Connections, settings: Settings) -> None:
    settings.connections.parent.mkdir(parents=True, exist_ok=True)
    settings.connections.touch()
    with pytest.raises(errors.StateUnwritable, match=f"cannot write to {settings.connections}"):
        connections.join(volume("photos"), LOGIN)


def pin(settings: Settings, name: str) -> None:
    settings.pinned.mkdir(parents=True, exist_ok=True)
    (settings.pinned / name).write_text("nas ssh-ed25519 AAAA\n")
