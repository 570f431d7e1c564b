# SPDX-License-Identifier: MIT
"""The addresses of this host's network interfaces.

The service's sandbox has no AF_NETLINK, which the C library and ip(8) ask; older ways do.
"""

import fcntl
import ipaddress
import socket
import struct
from pathlib import Path
from typing import Any

_SIOCGIFADDR = 0x8915  # netdevice(7)
_LONGEST_NAME = 15
_LINK_LOCAL_AND_LOOPBACK = "20", "10"
_IPV6_ADDRESSES = Path("/proc/self/net/if_inet6")  # the service does not see /proc/net


def exists(name: str) -> bool:
    """Tell whether this host has a network interface of a name."""
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def addresses(name: str) -> dict[int, Any]:
    """Return the address of an interface from which ssh would connect (BindInterface of ssh_config(5)), by family."""
    found: dict[int, Any] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            answer = fcntl.ioctl(asked, _SIOCGIFADDR, struct.pack("256s", name.encode()[:_LONGEST_NAME]))
        except OSError:  # it has none
            pass
        else:
            found[socket.AF_INET] = socket.inet_ntoa(answer[20:24]), 0
    if ipv6 := _ipv6(name):
        found[socket.AF_INET6] = ipv6
    return found


def _ipv6(name: str) -> tuple[str, int, int, int] | None:
    """Return an interface's address, one that others can reach if it has such."""
    try:
        lines = [line.split() for line in _IPV6_ADDRESSES.read_text().splitlines()]
    except OSError:  # the kernel has no IPv6
        return None
    own = [(address, int(index, 16), scope) for address, index, _, scope, _, whose in lines if whose == name]
    for address, index, _ in sorted(own, key=lambda each: each[2] in _LINK_LOCAL_AND_LOOPBACK):
        return str(ipaddress.IPv6Address(bytes.fromhex(address))), 0, 0, index
    return None
