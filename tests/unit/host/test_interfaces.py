# SPDX-License-Identifier: MIT
"""The addresses of network interfaces."""

import socket

import pytest
from support.ssh_client import has_ipv6

from sshfs_plugin.host import interfaces


def test_loopback_interface_is_known_by_its_addresses() -> None:
    assert interfaces.exists("lo")
    assert interfaces.addresses("lo")[socket.AF_INET] == ("127.0.0.1", 0)


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this host")
def test_address_of_each_family_can_be_connected_from() -> None:
    own = interfaces.addresses("lo")[socket.AF_INET6]
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server, socket.socket(socket.AF_INET6) as client:
        client.bind(own)
        client.connect(server.getsockname()[:2])
        assert client.getsockname()[0] == "::1"


@pytest.mark.parametrize("name", ["nope", "n" * 15, "n" * 16, "lo0", "ü"])
def test_interface_that_is_not_there_has_no_address(name: str) -> None:
    assert not interfaces.exists(name)
    assert interfaces.addresses(name) == {}
