# SPDX-License-Identifier: MIT
"""The sockets that systemd hands over: where they are, and whether the plugin may be served there."""

import ipaddress
import os
import socket
from collections.abc import Iterable

from sshfs_plugin import errors
from sshfs_plugin.settings import Settings
from systemd import daemon  # noqa: TID251 (it tells which file descriptors are sockets from systemd)


def addresses() -> list[str]:
    """Return where this process was told to listen, as Docker's specs write it."""
    found = []
    for descriptor in daemon.listen_fds(unset_environment=False):
        with socket.socket(fileno=os.dup(descriptor)) as listening:
            found.append(_address(listening))
    return found


def _address(listening: socket.socket) -> str:
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return f"unix://{name}"
    host, port = name[:2]
    return f"tcp://[{host}]:{port}" if listening.family == socket.AF_INET6 else f"tcp://{host}:{port}"


def require_protected(where: Iterable[str], settings: Settings) -> None:
    """Let the plugin be served in the open only to this host: whoever can call it can act as root with root's keys.

    Raises:
        ExposedSocket: A socket can be reached from other hosts, and clients need no certificate.
    """
    if settings.tls:
        return
    for address in where:
        host = address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
        if address.startswith("tcp://") and not ipaddress.ip_address(host).is_loopback:
            raise errors.ExposedSocket(address)
