# SPDX-License-Identifier: MIT
"""Volumes whose server is reached through jump hosts, each a real sshd."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.remotes import describe
from support.ssh_keys import make_key, public_key

from integration.plugin import Plugin, Refused, await_that, put_secret
from integration.sshd import Server, start_server
from sshfs_plugin.options.remotes import Remotes


@pytest.fixture
def inner(server: Server) -> Iterator[Server]:
    """Give the server that is to be reached."""
    with start_server(model=server) as inner:
        yield inner


@pytest.fixture
def bastion(server: Server) -> Iterator[Server]:
    """Give a jump host."""
    with start_server(model=server) as bastion:
        yield bastion


def describe_server(plugin: Plugin, name: str, server: Server, *more: str, key: str = "") -> Path:
    """Write the file of a remote."""
    login = key or f"IdentityFile = {server.key}"
    lines = ("host = 127.0.0.1", f"port = {server.port}", f"user = {server.user}", login, *more)
    return describe(Remotes.of(plugin.settings), "".join(f"{line}\n" for line in lines), name=name)


def logins(server: Server) -> int:
    """Return how often a server has let somebody in."""
    return (server.directory / "log").read_text(errors="replace").count("Accepted ")


@pytest.mark.parametrize("own", [{}, {"own_connection": "yes"}])
@pytest.mark.parametrize("check", ["create", "never"])
def test_server_is_reached_through_a_jump_host_and_again_when_that_is_lost(
    plugin: Plugin, inner: Server, bastion: Server, own: dict[str, str], check: str
) -> None:
    describe_server(plugin, "bastion", bastion)
    directory = inner.make("photos")
    plugin.create("photos", inner.options(directory, ProxyJump="bastion", check=check, **own))
    mountpoint = plugin.mount("photos")
    (mountpoint / "file").write_text("a file")
    assert logins(bastion) >= 1
    known = plugin.settings.known_hosts.read_text()
    assert f"[127.0.0.1]:{bastion.port} " in known
    assert f"[127.0.0.1]:{inner.port} " in known
    with (mountpoint / "file").open() as file:
        bastion.cut_connections()
        assert file.read() == "a file"
    plugin.unmount("photos")
    assert (directory / "file").exists()


def test_jump_hosts_can_lie_behind_each_other_and_each_has_its_own_login(
    plugin: Plugin, server: Server, inner: Server, bastion: Server, tmp_path: Path
) -> None:
    key = make_key(tmp_path / "key", "-t", "ed25519", passphrase="correct horse")
    server.allow(public_key(key))
    put_secret(plugin.settings.credentials, b"correct horse", "pass")
    put_secret(plugin.settings.credentials, bastion.key.read_bytes(), "bastion")
    describe_server(plugin, "outer", server, "passphrase_secret = pass", key=f"IdentityFile = {key}")
    describe_server(plugin, "bastion", bastion, "ProxyJump = outer", key="secret = bastion")
    describe_server(plugin, "inner", inner, "ProxyJump = bastion")
    directory = inner.make("deep")
    plugin.create("deep", {"remote": "inner", "directory": str(directory)})
    (plugin.mount("deep") / "file").touch()
    assert (directory / "file").exists()
    files = plugin.settings.unit_files / "deep"
    assert (files / "key-1").exists()
    assert (files / "key-2").exists()
    assert not (files / "key").exists()
    plugin.unmount("deep")
    plugin.call("Remove", Name="deep")
    await_that(lambda: not list(plugin.settings.runtime.glob("*/*/key*")), "no copy of a key is left")


def test_volumes_behind_a_jump_host_share_a_connection(plugin: Plugin, inner: Server, bastion: Server) -> None:
    describe_server(plugin, "bastion", bastion)
    for name in ("aa", "bb"):
        plugin.create(name, inner.options(inner.make(name), ProxyJump="bastion"))
        plugin.mount(name)
    await_that(lambda: len(inner.connections()) == 1, "the volumes share a connection")
    await_that(lambda: len(bastion.connections()) == 1, "and the one to the jump host")
    for name in ("aa", "bb"):
        plugin.unmount(name)


def test_pinned_host_key_of_a_jump_host_is_all_that_is_taken(plugin: Plugin, inner: Server, bastion: Server) -> None:
    printed = subprocess.run(
        ["ssh-keygen", "-lf", bastion.directory / "host_key.pub"], check=True, capture_output=True, text=True
    )
    right = printed.stdout.split()[1]
    options = inner.options(inner.make("photos"), ProxyJump="bastion")
    describe_server(plugin, "bastion", bastion, f"host_key = SHA256:{'A' * 43}")
    with pytest.raises(
        Refused, match=r"the jump host bastion \(\w+@127.0.0.1\): the host key of 127.0.0.1 port \d+ is "
    ):
        plugin.create("photos", options)
    describe_server(plugin, "bastion", bastion, f"host_key = {right}")
    plugin.create("photos", options)
    (plugin.mount("photos") / "file").touch()
    plugin.unmount("photos")


def test_each_failure_says_at_which_host_it_was(
    plugin: Plugin, server: Server, inner: Server, bastion: Server, tmp_path: Path
) -> None:
    options = inner.options(inner.make("photos"), ProxyJump="bastion")

    def refusal(**more: str) -> str:
        with pytest.raises(Refused) as refused:
            plugin.create("photos", {**options, **more})
        return str(refused.value)

    at = f"the jump host bastion ({bastion.user}@127.0.0.1): "
    assert "remote 'bastion' can't be used" in refusal()
    stranger = make_key(tmp_path / "stranger", "-t", "ed25519")
    describe_server(plugin, "bastion", bastion, key=f"IdentityFile = {stranger}")
    assert refusal().startswith(f"{at}127.0.0.1 refused to let {bastion.user} in with the key {stranger}")
    describe_server(plugin, "bastion", bastion, key="secret = missing")
    assert refusal().startswith(f"{at}cannot use the secret 'missing'")
    describe_server(plugin, "bastion", bastion)
    assert refusal(IdentityFile=str(stranger)).startswith(f"127.0.0.1 refused to let {inner.user} in with the key")
    with inner.away():
        said = refusal()
    assert said.startswith(f"the jump host bastion cannot connect to 127.0.0.1 port {inner.port}, "), said
    with bastion.away():
        assert refusal().startswith(f"{at}cannot connect to 127.0.0.1 port {bastion.port}, connection refused")
    with start_server("AllowTcpForwarding no", model=server) as closed:
        describe_server(plugin, "bastion", closed)
        said = f"the jump host bastion does not let the login connect to 127.0.0.1 port {inner.port}: its sshd_config "
        assert refusal().startswith(said)


def test_name_of_the_server_is_resolved_at_the_jump_host(plugin: Plugin, bastion: Server) -> None:
    describe_server(plugin, "bastion", bastion)
    with pytest.raises(Refused) as refused:
        plugin.create("photos", {"sshcmd": "bob@nowhere.invalid:/", "ProxyJump": "bastion"})
    assert str(refused.value).startswith("the jump host bastion cannot connect to nowhere.invalid port 22, ")
