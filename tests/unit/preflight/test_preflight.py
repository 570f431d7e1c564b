# SPDX-License-Identifier: MIT
"""The preflight as a whole: it writes nothing, and what passes here passes with ssh."""

from pathlib import Path

import pytest
from support.impostors import proposal
from support.ssh_client import ANY_KIND, Client, connect, has_ipv6, public, shown
from support.ssh_keys import host_key
from support.ssh_server import KEY, PASSWORD, Account, Server, serving
from support.waiting import LIMIT_SECONDS

from sshfs_plugin.deadline import Deadline
from sshfs_plugin.host import command
from sshfs_plugin.ssh.known_hosts import line


def test_preflight_writes_nothing_on_the_server(client: Client, files: Path, server: Server) -> None:
    before = sorted((path, path.lstat().st_mtime_ns) for path in [files, *files.rglob("*")])
    client.run(server, password="hunter2")
    client.refusal(server, "/volume1/photo/2024", password="hunter2")
    assert sorted((path, path.lstat().st_mtime_ns) for path in [files, *files.rglob("*")]) == before
    assert {request.split()[0] for request in server.seen} <= {
        "none",
        PASSWORD,
        "subsystem",
        "stat",
        "list",
        "canonicalize",
    }


def test_preflight_tells_that_it_is_logged_in_before_it_asks_for_files(client: Client, server: Server) -> None:
    asked: list[list[str]] = []
    prepared = client.preflight.prepare(client.volume(server, password="hunter2"))
    prepared.run(Deadline.after(5), logged_in=lambda: asked.append(list(server.seen)))
    assert asked == [["none", PASSWORD]]


# What passes here passes with ssh


def test_preflight_proposes_no_algorithm_that_ssh_would_not(client: Client) -> None:
    answer = command.run(["ssh", "-G", "-F", "/dev/null", "nas"], seconds=LIMIT_SECONDS).stdout
    ssh = {keyword: values.split(",") for keyword, _, values in (line.partition(" ") for line in answer.splitlines())}
    proposed = proposal(lambda port: client.refusal(port, password="hunter2"))
    exchanges = [name for name in proposed[0] if not name.startswith(("ext-info-", "kex-strict-"))]
    assert set(exchanges) <= set(ssh["kexalgorithms"])
    assert set(proposed[1]) <= set(ssh["hostkeyalgorithms"])
    assert set(proposed[2]) | set(proposed[3]) <= set(ssh["ciphers"])
    assert set(proposed[4]) | set(proposed[5]) <= set(ssh["macs"])
    assert all(proposed[:8])


@pytest.mark.parametrize(
    ("pin", "opts"),
    [
        ("", {}),
        ("", {"host_key_check": "no"}),
        ("rsa", {}),
        ("ecdsa", {}),
    ],
    ids=["new", "unchecked", "pinned rsa", "pinned ecdsa"],
)
def test_preflight_when_it_has_passed_ssh_gets_in_as_well(
    client: Client, files: Path, keys: dict[str, Path], pin: str, opts: dict[str, str]
) -> None:
    key = keys["ecdsa-PEM" if pin else "ed25519"]  # with RSA keys ssh wants more of a server than paramiko's has
    pinned = {"host_key": shown(pin).fingerprint} if pin else {}
    account = Account(directory=files, keys=[public(key)], ways=[(KEY,)])
    with serving(account, [host_key(kind) for kind in ANY_KIND]) as server:
        volume = client.volume(server, IdentityFile=str(key), **opts, **pinned)
        client.preflight.run(volume, Deadline.after(5))
        ssh = connect(client, volume)
    assert ssh.returncode == 0, ssh.stderr


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this host")
def test_preflight_when_it_has_reached_an_address_in_an_odd_form_ssh_finds_its_host_key(
    client: Client, files: Path, keys: dict[str, Path]
) -> None:
    key = keys["ed25519"]
    with serving(Account(directory=files, keys=[public(key)], ways=[(KEY,)]), address="::1") as server:
        volume = client.volume(server, host="[0:0:0::0:1]", IdentityFile=str(key))
        client.preflight.run(volume, Deadline.after(5))
        assert client.known == line("::1", server.port, shown())
        ssh = connect(client, volume)
    assert (ssh.returncode, ssh.stderr) == (0, "")
