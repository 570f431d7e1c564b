# SPDX-License-Identifier: MIT
"""Volumes that share a connection, where there is no systemd; and the end of an idle one."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.delay import delayed
from support.waiting import LIMIT_SECONDS

from integration.plugin import Plugin, Refused, await_that
from integration.sshd import Server, start_server
from sshfs_plugin import options
from sshfs_plugin.host.command import run
from sshfs_plugin.mounts.connections import SESSIONS, SharedConnection, SharedConnections
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh import sshfs
from sshfs_plugin.ssh.credentials import Keyring
from sshfs_plugin.volume import VolumeName


def masters(plugin: Plugin) -> list[int]:
    """Return the processes of the shared connections."""
    found = run(["pgrep", "-f", f"^ssh -F {plugin.settings.connections}/"], seconds=LIMIT_SECONDS).stdout
    return [int(pid) for pid in found.split()]


def mounted(plugin: Plugin, server: Server, names: list[str], **more: str) -> dict[str, Path]:
    """Create and mount volumes, each with a file that has its name."""
    mountpoints = {}
    for name in names:
        directory = server.make(name)
        (directory / "file").write_text(name)
        plugin.create(name, server.options(directory, **more))
    for name in names:
        mountpoints[name] = plugin.mount(name)
        assert (mountpoints[name] / "file").read_text() == name
    return mountpoints


@pytest.fixture
def server() -> Iterator[Server]:
    """Give a server of this test's own, whose connections it counts and ends."""
    with start_server() as server:
        yield server


def test_volumes_share_a_connection_and_each_connects_by_itself_when_it_is_lost(plugin: Plugin, server: Server) -> None:
    mountpoints = mounted(plugin, server, ["aa", "bb", "cc"])
    (master,) = masters(plugin)
    await_that(lambda: len(server.connections()) == 1, "the volumes share a connection")
    with (mountpoints["aa"] / "file").open() as file:
        run(["kill", "-KILL", str(master)], seconds=LIMIT_SECONDS)
        await_that(lambda: len(server.connections()) == 3, "each volume has a connection")
        assert file.read() == "aa"
    for name, mountpoint in mountpoints.items():
        plugin.unmount(name)
        assert not mountpoint.exists()
    plugin.mount("aa")
    assert len(masters(plugin)) == 1


def test_connection_that_takes_no_further_volume_as_soon_as_it_is_made_stays(plugin: Plugin, server: Server) -> None:
    """As when the package is removed just then; the program that keeps it must not take it for ended."""
    mountpoint = mounted(plugin, server, ["aa"])["aa"]
    (master,) = masters(plugin)
    (connection,) = SharedConnections(plugin.settings).all()
    run([plugin.settings.libexec / "connection", "stop", connection.directory], seconds=LIMIT_SECONDS)
    waiting = ["pgrep", "-f", f"^tail --pid={master} "]
    await_that(
        lambda: run(waiting, seconds=LIMIT_SECONDS).stdout or not connection.directory.exists(),
        "its end is waited for",
    )
    assert connection.directory.exists()
    assert (mountpoint / "file").read_text() == "aa"


def test_mount_over_a_shared_connection_waits_until_the_server_has_answered(plugin: Plugin, server: Server) -> None:
    """For a channel, for SFTP in it, and for SFTP's version, with which the directory is asked for."""
    round_trip = 0.2
    with delayed(server.port, round_trip) as port:
        for name in ("aa", "bb"):
            plugin.create(name, server.options(server.make(name)) | {"port": str(port)})
            started = time.monotonic()
            plugin.mount(name)
            seconds = time.monotonic() - started
        assert seconds > 3 * round_trip
        for name in ("aa", "bb"):
            plugin.unmount(name)


def test_a_volume_that_is_removed_leaves_no_connection_unless_another_uses_it(plugin: Plugin, server: Server) -> None:
    mounted(plugin, server, ["aa", "bb"])
    plugin.unmount("aa")
    plugin.call("Remove", Name="aa")
    await_that(lambda: len(server.connections()) == 1, "the connection of the check is kept for some seconds")
    plugin.unmount("bb")
    assert len(server.connections()) == 1, "it may be mounted again in a moment"
    plugin.call("Remove", Name="bb")
    await_that(lambda: not server.connections(), "the server has nobody left")


def test_all_of_a_connections_sessions_are_used_before_another_is_made(plugin: Plugin, server: Server) -> None:
    mounted(plugin, server, [f"v{number}" for number in range(SESSIONS + 1)])
    await_that(lambda: len(server.connections()) == 2, "the last volume has another connection")


def test_connection_that_hangs_costs_one_volume_a_pause_and_the_others_nothing(plugin: Plugin, server: Server) -> None:
    first = mounted(plugin, server, ["aa"])["aa"]
    (hanging,) = masters(plugin)
    with stopped(hanging):
        mounted(plugin, server, ["bb", "cc"])
        await_that(lambda: len(server.connections()) == 3, "one has its own connection, and one a new one to share")
    assert (first / "file").read_text() == "aa"


def test_a_connection_that_stands_lets_no_other_key_and_no_missing_directory_pass(
    plugin: Plugin, server: Server
) -> None:
    mounted(plugin, server, ["aa"])
    other = plugin.settings.runtime / "other"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], seconds=LIMIT_SECONDS)
    plugin.create("bb", {**server.options(server.data, check="mount"), "IdentityFile": str(other)})
    with pytest.raises(Refused, match="refused to let"):
        plugin.mount("bb")
    plugin.create("cc", server.options(server.data / "nothing", check="mount"))
    with pytest.raises(Refused, match="nothing does not exist on 127.0.0.1"):
        plugin.mount("cc")


@pytest.mark.parametrize("relay", ["prompt", "late"])
def test_a_login_that_is_refused_is_tried_twice_for_a_mount_and_no_more(
    plugin: Plugin, server: Server, relay: str
) -> None:
    """For the connection that two volumes wait for, and to find the cause; servers ban who is refused often.

    On a host with much to do the volume's own program may begin to wait when the connection was refused already.
    """
    if relay == "late":
        program = plugin.settings.libexec / "relay"
        program.write_text(program.read_text().replace("exec", "sleep 1; exec", 1))
    for name in ("aa", "bb"):
        plugin.create(name, server.options(server.data))
    (server.directory / "authorized_keys").write_text("")
    for name in ("aa", "bb"):
        with pytest.raises(Refused, match="is the public key in the authorized_keys of daemon there"):
            plugin.mount(name)
    await_that(lambda: not server.connections(), "the server has told of each")
    assert (server.directory / "log").read_text().count("authenticating user daemon") == 4


def test_a_login_that_is_refused_once_the_connection_is_lost_counts_once_for_all_volumes(
    plugin: Plugin, server: Server
) -> None:
    """Servers ban who is refused often. When the server lets one of them in again, each logs in by itself."""
    names = [f"volume{number}" for number in range(SESSIONS)]
    mountpoints = mounted(plugin, server, names)
    keys = server.directory / "authorized_keys"
    held = keys.read_text()
    keys.write_text("")
    server.cut_connections()
    await_that(
        lambda: all("Permission denied" in plugin.status(name).get("lastError", "") for name in names),
        "each volume tells the cause",
    )
    await_that(lambda: not server.connections(), "the server has told of each")
    assert (server.directory / "log").read_text().count("authenticating user daemon") == 1
    keys.write_text(held)
    for name in names:
        plugin.mount(name, "another")
        assert (mountpoints[name] / "file").read_text() == name


def test_each_volume_that_waits_for_a_connection_is_told_why_it_was_not_made(plugin: Plugin, server: Server) -> None:
    """Where no check can find the cause."""
    (server.directory / "authorized_keys").write_text("")
    with delayed(server.port, 0.2) as port, ThreadPoolExecutor() as at_once:
        for name in ("aa", "bb", "cc"):
            plugin.create(name, server.options(server.data, check="never") | {"port": str(port)})
        mounting = [at_once.submit(plugin.mount, name) for name in ("aa", "bb", "cc")]
        for mount in mounting:
            with pytest.raises(Refused, match=r"its last words: daemon@127.0.0.1: Permission denied \(publickey\).$"):
                mount.result()


def test_connection_that_was_refused_keeps_no_secret_and_holds_nobody_up(plugin: Plugin, server: Server) -> None:
    """Its directory stays for those who come late, but not for the password and the key, nor against a stop."""
    (server.directory / "authorized_keys").write_text("")
    volume = options.parse(VolumeName("aa"), server.options(server.data, check="never"), datetime.now(UTC))
    connections = SharedConnections(plugin.settings)
    connection, _ = connections.join(volume, Keyring.of(plugin.settings).login(volume.credentials))
    assert connection
    program = plugin.settings.libexec / "connection"
    with subprocess.Popen([program, "keep", connection.directory]) as keeping:
        await_that((connection.directory / "failed").exists, "it was refused")
        directory, kept = connection.directory, {"environment", "failed", "ssh_config", "volumes"}
        await_that(lambda: {file.name for file in directory.iterdir()} == kept, "no secret is left")
        another, is_new = connections.join(volume, Keyring.of(plugin.settings).login(volume.credentials))
        assert another != connection
        assert is_new
        stop: list[str | Path] = ["env", f"MAINPID={keeping.pid}", program, "stop", directory]
        assert run(stop, seconds=LIMIT_SECONDS).returncode == 0
        assert keeping.poll() is None, "it was not waited for"
    assert not connection.directory.exists()


def test_connection_that_is_still_being_made_holds_up_no_stop(plugin: Plugin, server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        given = {**server.options(server.data, check="never"), "port": str(silent.getsockname()[1])}
        volume = options.parse(VolumeName("aa"), given, datetime.now(UTC))
        login = Keyring.of(plugin.settings).login(volume.credentials)
        connection, _ = SharedConnections(plugin.settings).join(volume, login)
        assert connection
        program = plugin.settings.libexec / "connection"
        with subprocess.Popen([program, "keep", connection.directory], start_new_session=True) as keeping:
            await_that((connection.directory / "said").exists, "it is being made")
            stop: list[str | Path] = ["env", f"MAINPID={keeping.pid}", program, "stop", connection.directory]
            assert run(stop, seconds=LIMIT_SECONDS).returncode == 0
            assert keeping.poll() is None, "it was not waited for"
            os.killpg(keeping.pid, signal.SIGTERM)


def test_connection_that_hangs_holds_up_no_stop(plugin: Plugin, server: Server) -> None:
    mounted(plugin, server, ["aa"])
    (master,) = masters(plugin)
    (connection,) = SharedConnections(plugin.settings).all()
    with stopped(master):
        stop: list[str | Path] = ["env", f"MAINPID={master}", plugin.settings.libexec / "connection", "stop"]
        assert run([*stop, connection.directory], seconds=LIMIT_SECONDS).returncode == 0


def test_a_key_that_was_replaced_by_another_is_noticed_at_once(plugin: Plugin, server: Server) -> None:
    key = plugin.settings.runtime / "key"
    shutil.copy(server.key, key)
    options = {**server.options(server.data, check="mount"), "IdentityFile": str(key)}
    for name in ("aa", "bb"):
        plugin.create(name, options)
    plugin.mount("aa")
    key.unlink()
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], seconds=LIMIT_SECONDS)
    with pytest.raises(Refused, match="refused to let"):
        plugin.mount("bb")


def test_connection_ends_once_it_is_idle(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sshfs, "IDLE_SECONDS", 1)
    settings = Settings(runtime=server.directory, state=server.directory)
    volume = options.parse(
        VolumeName("aa"), server.options(server.data, check="never", host_key_check="no"), datetime.now(UTC)
    )
    connection, _ = SharedConnections(settings).join(volume, Keyring.of(settings).login(volume.credentials))
    assert connection
    make(connection, volume.remote.login)
    await_end(connection)
    await_that(lambda: not server.connections(), "the server knows")


def await_end(connection: SharedConnection) -> None:
    """Wait until a connection has ended."""
    await_that(lambda: not connection.stands, "it has ended")


def make(connection: SharedConnection, login: str) -> None:
    """Make a connection as its unit does."""
    words = ["ssh", "-F", str(connection.ssh_config), "-S", str(connection.socket), "-N", "-f", login]
    subprocess.run(words, check=True, timeout=60)


@contextmanager
def stopped(process: int) -> Iterator[None]:
    """Let a process do nothing meanwhile."""
    run(["kill", f"-{signal.SIGSTOP.value}", str(process)], seconds=LIMIT_SECONDS)
    try:
        yield
    finally:
        run(["kill", f"-{signal.SIGCONT.value}", str(process)], seconds=LIMIT_SECONDS)
