# SPDX-License-Identifier: MIT
"""The sockets that systemd hands over: where they are, and whether the plugin can be served there."""

import functools
import ipaddress
import os
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sshfs_plugin import errors
from sshfs_plugin.discovery import docker
from sshfs_plugin.settings import Settings
from systemd import daemon  # noqa: TID251 (it tells which file descriptors are sockets from systemd)


@functools.cache
def addresses() -> tuple[str, ...]:
    """Return the addresses of the sockets that systemd has passed to this process, as Docker's specs write them.

    The first call must come before gunicorn takes the sockets. Its worker is a fork, and so has the cached result.
    """
    found = []
    for descriptor in daemon.listen_fds(unset_environment=False):
        with socket.socket(fileno=os.dup(descriptor)) as listening:
            found.append(written(listening.getsockname()))
    return tuple(found)


def written(name: Any) -> str:
    """Write the name of a socket, or an address that gunicorn was told to bind to, as Docker's specs do."""
    if isinstance(name, str | bytes):
        return f"unix://{os.fsdecode(name)}"
    host, port, *_ = name
    return f"tcp://[{host}]:{port}" if ":" in str(host) else f"tcp://{host}:{port}"


def require_suitable(where: Iterable[str], settings: Settings) -> None:
    """Raise an error if the plugin can't be served at one of these addresses.

    Raises:
        ExposedSocket: It can be reached from other hosts, and the settings have no ``tls``: a caller can act as root.
        PlainPort: Docker was told to use TLS there, and the settings have no ``tls``: the port and what tells Docker
            are in files that outlive that setting where it is in ``/etc/default`` and the package is purged.
        UnixSocketWithTLS: It is a unix socket, and the settings have ``tls``: gunicorn asks for certificates at all
            sockets, while Podman and the watchdog show none at this one, and systemd would end the service each minute.
    """
    for address in where:
        is_unix = address.startswith("unix://")
        if settings.tls:
            if is_unix:
                raise errors.UnixSocketWithTLS(address)
        elif not is_unix:
            host = address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
            if not _is_this_host(host):
                raise errors.ExposedSocket(address)
            if file := docker.told_of_tls(address, settings.root):
                raise errors.PlainPort(address, file)


def require_certificates(authority: Path, certificate: Path, key: Path) -> None:
    """Raise an error if clients could not be let in with these files.

    Raises:
        CertificatesUnusable: One is missing or unreadable, or holds no certificate or no key, or not that of the other.
    """
    for file in (authority, certificate, key):
        try:
            file.read_bytes()
        except OSError as error:
            raise errors.CertificatesUnusable(f"{file} cannot be read ({error.strerror})") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(authority)
    except OSError as error:
        raise errors.CertificatesUnusable(f"{authority} holds no certificate") from error
    try:
        context.load_cert_chain(certificate, key, password="")  # without one OpenSSL would ask for it at a terminal
    except OSError as error:
        said = f" ({error.reason})" if isinstance(error, ssl.SSLError) and error.reason else ""
        raise errors.CertificatesUnusable(
            f"{certificate} and {key} are not a certificate and its key without a passphrase{said}"
        ) from error


def _is_this_host(host: str) -> bool:
    """Tell whether only this host can connect to an address."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a name, or something that is no internet address at all
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
