# SPDX-License-Identifier: MIT
"""Which algorithms are agreed on with a server, as the volume's options say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.ssh_client import HOST, Client, needs, only, shown
from support.ssh_keys import host_key
from support.ssh_server import Account, Server, serving

from sshfs_plugin import errors
from sshfs_plugin.ssh.known_hosts import line

SHA1 = "diffie-hellman-group14-sha1"


@pytest.mark.parametrize(
    "tune",
    [
        pytest.param(only("kex", SHA1), id="key exchange", marks=needs(SHA1)),
        pytest.param(only("key_types", "ssh-rsa"), id="host key", marks=needs("ssh-rsa")),
        pytest.param(only("ciphers", "aes128-cbc"), id="cipher"),
        pytest.param(only("digests", "hmac-md5"), id="digest"),
    ],
)
def test_server_when_it_has_only_algorithms_that_ssh_has_given_up_is_refused(
    client: Client, files: Path, tune: Callable[[Any], None]
) -> None:
    with serving(Account(directory=files, password="hunter2"), [host_key("rsa")], tune) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.NegotiationFailed)
    assert f"the SSH server at 127.0.0.1 port {server.port} shares no algorithm with the check (" in str(error)
    assert str(error).endswith(": if ssh itself can log in there, say -o check=never for the volume")


@pytest.mark.parametrize(
    ("tune", "option"),
    [
        pytest.param(only("kex", SHA1), {"KexAlgorithms": f"+{SHA1}"}, id="key exchange", marks=needs(SHA1)),
        pytest.param(
            only("key_types", "ssh-rsa"), {"HostKeyAlgorithms": "+ssh-rsa"}, id="host key", marks=needs("ssh-rsa")
        ),
        pytest.param(only("ciphers", "aes128-cbc"), {"Ciphers": "aes128-cbc,aes256-cbc"}, id="cipher"),
        pytest.param(only("digests", "hmac-md5"), {"MACs": "^hmac-md5"}, id="digest"),
    ],
)
def test_server_when_it_has_only_old_algorithms_and_the_volume_lets_them_in_passes(
    client: Client, files: Path, tune: Callable[[Any], None], option: Any
) -> None:
    with serving(Account(directory=files, password="hunter2"), [host_key("rsa")], tune) as server:
        client.run(server, password="hunter2", **option)
    assert client.known == line(HOST, server.port, shown("rsa"))


def test_server_when_the_volume_wants_what_the_check_does_not_know_is_checked_all_the_same(
    client: Client, server: Server
) -> None:
    client.run(server, password="hunter2", Ciphers="chacha20-poly1305@openssh.com")


def test_server_when_the_volume_leaves_no_kind_of_host_key_says_which_option_to_leave_out(
    client: Client, server: Server
) -> None:
    only_certificates: Any = {"HostKeyAlgorithms": "-*", "host_key": shown().fingerprint}
    client.run(server, password="hunter2", **only_certificates)
    no_ed25519: Any = {"HostKeyAlgorithms": "rsa-sha2-512", "host_key": shown().fingerprint}
    error = client.refusal(server, password="hunter2", **no_ed25519)
    assert isinstance(error, errors.NegotiationFailed)
    assert str(error) == (
        f"HostKeyAlgorithms leaves no kind of host key that 127.0.0.1 port {server.port} could show: "
        "leave that option out"
    )
