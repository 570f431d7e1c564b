# SPDX-License-Identifier: MIT
"""Secrets by name and the keys of an agent: what the check lets pass sshfs takes, now and when it connects again."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.agents import agent, tell
from support.remotes import describe
from support.ssh_keys import make_key, public_key, write_key

from integration.plugin import Plugin, Refused, await_that, put_secret
from integration.sshd import Server, start_server
from sshfs_plugin.options.remotes import Remotes


@pytest.fixture
def nas(server: Server) -> Iterator[Server]:
    """Give a server of this test's own, whose connections it ends."""
    with start_server(model=server) as nas:
        yield nas


def options(server: Server, directory: Path, **login: str) -> dict[str, str]:
    """Return the options of a volume that logs in by these alone."""
    given = server.options(directory, **login)
    del given["IdentityFile"]
    return given | login


def use(plugin: Plugin, server: Server, directory: Path) -> None:
    """Mount the volume "photos", write to it, and read on after its connection was lost and the service has ended."""
    mountpoint = plugin.mount("photos")
    (mountpoint / "file").write_text("a file")
    with (mountpoint / "file").open() as file:
        plugin.stop(signal.SIGKILL)
        server.cut_connections()
        assert file.read() == "a file"
    assert (directory / "file").exists()
    plugin.start()


@pytest.mark.parametrize("place", ["credentials", "secrets.d"])
@pytest.mark.parametrize("own", ["", "own_connection"])
def test_secret_that_is_a_key_mounts_and_connects_again(plugin: Plugin, nas: Server, place: str, own: str) -> None:
    where = plugin.settings.credentials if place == "credentials" else plugin.settings.secrets
    put_secret(where, nas.key.read_bytes())
    directory = nas.make("photos")
    plugin.create("photos", options(nas, directory, secret="nas", **({own: "yes"} if own else {})))
    use(plugin, nas, directory)
    copy = plugin.settings.unit_files / "photos/key"
    assert copy.exists() == (place == "credentials")
    plugin.unmount("photos")
    plugin.call("Remove", Name="photos")
    await_that(lambda: not copied_keys(plugin), "no copy of the key is left")


def copied_keys(plugin: Plugin) -> list[Path]:
    """Return the copies of keys that are left."""
    return list(plugin.settings.runtime.glob("*/*/key"))


def test_copy_of_a_shared_connections_key_goes_once_that_is_made(plugin: Plugin, nas: Server) -> None:
    put_secret(plugin.settings.credentials, nas.key.read_bytes())
    for name in ("aa", "bb"):
        plugin.create(name, options(nas, nas.make(name), secret="nas"))
        plugin.mount(name)
    await_that(lambda: len(nas.connections()) == 1, "the volumes share a connection")
    assert {file.parent.name for file in copied_keys(plugin)} == {"aa", "bb"}
    for name in ("aa", "bb"):
        plugin.unmount(name)
    assert copied_keys(plugin) == [], plugin.log.read_text()


@pytest.mark.parametrize("keeper", ["cleans up", "was killed"])
def test_copies_go_with_a_mount_that_ends_while_the_service_is_away(
    plugin: Plugin, nas: Server, server: Server, keeper: str
) -> None:
    put_secret(plugin.settings.credentials, nas.key.read_bytes())
    put_secret(plugin.settings.credentials, server.key.read_bytes(), "bastion")
    lines = "host = 127.0.0.1", f"port = {server.port}", f"user = {server.user}", "secret = bastion"
    describe(Remotes.of(plugin.settings), "\n".join(lines), name="bastion")
    directory = nas.make("photos")
    plugin.create("photos", options(nas, directory, secret="nas", ProxyJump="bastion", own_connection="yes"))
    mountpoint = plugin.mount("photos")
    files = plugin.settings.unit_files / "photos"
    assert {"key", "key-1"} <= {file.name for file in files.iterdir()}
    plugin.stop(signal.SIGKILL)
    if keeper == "was killed":
        os.kill(parent(plugin.sshfs_process("photos")), signal.SIGKILL)
    subprocess.run(["umount", "--lazy", mountpoint], check=True, timeout=60)
    if keeper == "was killed":
        await_that(lambda: not is_kept(plugin), "sshfs has ended")
        plugin.start()
    await_that(lambda: not files.exists(), "the copies are gone")
    if keeper == "cleans up":
        plugin.start()
    assert (plugin.mount("photos", "two")).is_mount()
    plugin.unmount("photos")
    plugin.unmount("photos", "two")


def parent(process: int) -> int:
    """Return who has started a process."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def is_kept(plugin: Plugin) -> bool:
    """Tell whether an sshfs serves the volume "photos"."""
    try:
        plugin.sshfs_process("photos")
    except AssertionError:
        return False
    return True


def test_key_with_a_passphrase_mounts_and_connects_again(plugin: Plugin, nas: Server, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key", "-t", "ed25519", passphrase="correct horse")
    nas.allow(public_key(key))
    directory = nas.make("photos")
    given = options(nas, directory, IdentityFile=str(key), passphrase_secret="pass")
    with pytest.raises(Refused, match=r"cannot use the secret 'pass', neither \S+ nor \S+ has a file of that name"):
        plugin.create("photos", given)
    put_secret(plugin.settings.secrets, b"wrong\n", "pass")
    with pytest.raises(Refused, match=rf"cannot use the identity file {key}, the secret 'pass' is not its passphrase"):
        plugin.create("photos", given)
    put_secret(plugin.settings.secrets, b"correct horse\n", "pass")
    plugin.create("photos", given)
    use(plugin, nas, directory)
    plugin.unmount("photos")


def test_secret_that_is_a_key_with_a_passphrase_in_another_mounts_unchecked(
    plugin: Plugin, nas: Server, tmp_path: Path
) -> None:
    key = make_key(tmp_path / "key", "-t", "rsa", "-b", "2048", "-m", "PEM", passphrase="correct horse")
    nas.allow(public_key(key))
    put_secret(plugin.settings.credentials, key.read_bytes())
    put_secret(plugin.settings.credentials, b"correct horse", "pass")
    directory = nas.make("photos")
    plugin.create("photos", options(nas, directory, secret="nas", passphrase_secret="pass", check="never"))
    use(plugin, nas, directory)
    plugin.unmount("photos")


@pytest.mark.parametrize("form", ["ed25519", "ecdsa", "rsa"])
def test_keys_of_an_agent_mount_and_connect_again(plugin: Plugin, nas: Server, tmp_path: Path, form: str) -> None:
    key = write_key(tmp_path / "key", form)
    nas.allow(public_key(key))
    directory = nas.make("photos")
    with agent(write_key(tmp_path / "other", "ed25519", 2), key) as place:
        plugin.create("photos", options(nas, directory, IdentityAgent=str(place)))
        use(plugin, nas, directory)
        tell(place, "-D")
        plugin.unmount("photos")
        plugin.end_connections()
        with pytest.raises(Refused, match=rf"cannot use the ssh-agent at {place}, it holds no key"):
            plugin.mount("photos")


def test_agent_that_hangs_keeps_no_other_volume_waiting(plugin: Plugin, nas: Server, tmp_path: Path) -> None:
    key = write_key(tmp_path / "key", "ed25519")
    nas.allow(public_key(key))
    with agent(key) as place:
        plugin.create("photos", options(nas, nas.make("photos"), IdentityAgent=str(place)))
        plugin.create("music", nas.options(nas.make("music")))
        hung = subprocess.run(["pgrep", "-f", f"ssh-agent -D -a {place}"], capture_output=True, text=True, check=True)
        os.kill(int(hung.stdout), signal.SIGSTOP)
        try:
            with pytest.raises(
                Refused, match=r"it did not answer within 5 seconds: does it wait for a person, or hang"
            ):
                plugin.call("Mount", seconds=20, Name="photos", ID="one")
            plugin.call("Mount", seconds=20, Name="music", ID="one")
        finally:
            os.kill(int(hung.stdout), signal.SIGCONT)
        plugin.mount("photos")
        for name in ("photos", "music"):
            plugin.unmount(name)
