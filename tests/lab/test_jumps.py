# SPDX-License-Identifier: MIT
"""A volume behind a jump host, with a password at each, from the sandboxed units, and what the page about it says."""

from collections.abc import Iterator
from typing import Any

import pytest

from .documents import block
from .host import KEY, PACKAGE, STAY, Host
from .ssh_server import SshServer, another_ssh_server

FILES = f"/etc/{PACKAGE}/remotes.d"
OF_ALICE, OF_BOB = "correct horse battery", "s3cret of bob"


@pytest.fixture
def bastion(host: Host) -> Iterator[SshServer]:
    """Give a second server, at which bob logs in with a password of his own."""
    machine = host.machine
    machine.sh("useradd --create-home bob; printf 'bob:%s\\n' \"$1\" | chpasswd", OF_BOB)
    with another_ssh_server(machine) as server:
        yield server
    host.clear()
    machine.sh(f"userdel --remove bob; rm -f {FILES}/*.conf")


def describe(host: Host, name: str, *lines: str) -> None:
    """Write the file of a remote."""
    host.machine.write(f"{FILES}/{name}.conf", "\n".join(("[remote]", *lines, "")), mode=0o600)


@pytest.mark.parametrize("own", [{}, {"own_connection": "yes"}], ids=["shared", "own"])
def test_password_of_each_host_is_given_to_that_host(host: Host, bastion: SshServer, own: dict[str, str]) -> None:
    machine = host.machine
    describe(host, "bastion", "host = localhost", f"port = {bastion.port}", "user = bob", f"password = {OF_BOB}")
    directory = host.directory("behind")
    login = ("host = nas", "user = alice", f"password = {OF_ALICE}", f"directory = {directory}")
    describe(host, "inner", *login, "ProxyJump = bastion")
    since = host.from_here()
    options: dict[str, Any] = {"sshcmd": None, "IdentityFile": None, "remote": "inner", **own}
    host.create("behind", directory, **options)
    host.start("user", "behind", STAY)
    bastion.cut()
    machine.run("docker", "exec", "user", "sh", "-c", "until echo again >/data/again; do sleep 0.1; done")
    assert machine.read(f"{directory}/again") == "again\n"
    said = machine.journal(since, "-u", f"{PACKAGE}*") + str(host.inspect("behind"))
    assert [secret for secret in (OF_ALICE, OF_BOB) if secret in said] == []
    checked = machine.run(PACKAGE, "check", "behind").stdout
    assert f"bastion (bob@localhost port {bastion.port}) with the password" in checked
    assert "by the jump host bastion" in checked


def test_jump_host_of_the_page_is_one(host: Host, bastion: SshServer) -> None:
    file = block("docs/remotes.md", "[remote]")
    changed = file.replace("bastion.example.org", "localhost").replace("/etc/docker-volume-sshfs/bastion", KEY)
    host.machine.write(f"{FILES}/bastion.conf", f"{changed}port = {bastion.port}\n", mode=0o600)
    host.machine.sh(
        f"install -d -o bob -m 700 /home/bob/.ssh; install -o bob -m 600 {KEY}.pub /home/bob/.ssh/authorized_keys"
    )
    host.create("page", host.directory("page"), ProxyJump="bastion")
    host.run("page", "echo hello >/data/file")
