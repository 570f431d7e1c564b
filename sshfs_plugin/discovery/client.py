# SPDX-License-Identifier: MIT
"""A client of the running service, for the administrator's command and the watchdog."""

import http.client
import json
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline, time_limit
from sshfs_plugin.discovery import docker
from sshfs_plugin.discovery.docker import TLS
from sshfs_plugin.host import journal
from sshfs_plugin.settings import Settings

_AS_DOCKER = {"Accept": "application/vnd.docker.plugins.v1.2+json"}
"""The service takes a client with this header for Docker, and so for one that waits long; others get a few seconds."""

OWN = "Docker-Volume-Sshfs-Own"
"""A header by which the service knows the calls of this client, which are not counted: nobody would see among them
what Docker and Podman do, since the watchdog alone makes four a minute."""

_WHERE_CERTIFICATES_ARE = f"the .json file that Docker reads names the certificates, see {errors.WAYS_IN}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The running service; if it does not run, its open socket starts it.

    Attributes:
        address: Where it listens: ``unix:///...``, ``tcp://...`` or ``https://...``.
        tls: What this client does for TLS, which it speaks with ``https://...``; None to do as any client does.
        deadline: When to stop waiting for the service, for all calls together.
    """

    address: str
    tls: TLS | None = None
    deadline: Deadline

    @classmethod
    def of(cls, settings: Settings, listens: Sequence[str], *, seconds: float) -> "Service":
        """Return the service where its socket listens, with the certificates that Docker uses if it takes any.

        Args:
            settings: This host's, with the usual path of the socket.
            listens: The addresses of the socket unit; empty if systemd can't tell.
            seconds: How long to wait for the service, for all calls together.
        """
        deadline = Deadline.after(seconds)
        if not listens:
            return cls(address=f"unix://{settings.socket}", deadline=deadline)
        found = docker.find(settings.root)
        if found and found.leads_to(listens):
            return cls(address=found.address, tls=found.tls, deadline=deadline)
        return cls(address=listens[0], deadline=deadline)

    def volumes(self) -> list[dict[str, Any]]:
        """Return the volumes as List has them: Name, Mountpoint, Status and, if it is known, CreatedAt.

        Raises:
            ServiceError: The service can't be reached or does not answer; the error says what to do.
        """
        volumes: list[dict[str, Any]] = self._ask("VolumeDriver.List", {})["Volumes"]
        return volumes

    def counters(self) -> dict[str, Any]:
        """Return what the service has counted since it was started, as ``docs/openapi.json`` describes it.

        Raises:
            ServiceError: The service can't be reached or does not answer; the error says what to do.
        """
        counters: dict[str, Any] = self._ask("Service.Counters", {})["Counters"]
        return counters

    def create(self, name: str, opts: Mapping[str, str]) -> None:
        """Make a volume, as ``docker volume create`` does.

        Raises:
            ServiceRefusal: The service did not make it; the error says why.
            ServiceError: The service can't be reached or does not answer.
        """
        self._ask("VolumeDriver.Create", {"Name": name, "Opts": dict(opts)})

    def _ask(self, call: str, body: Mapping[str, Any]) -> dict[str, Any]:
        connection = self._connection()
        try:
            connection.request("POST", f"/{call}", json.dumps(body), {**_AS_DOCKER, OWN: "yes"})
            reply = connection.getresponse()
            answer = json.loads(reply.read())
        except (FileNotFoundError, ConnectionRefusedError):
            raise errors.ServiceError(
                f"the plugin's socket {self.address.removeprefix('unix://')} is closed", _how_to_open_it()
            ) from None
        except TimeoutError:
            raise errors.ServiceError("the plugin's service does not answer", _what_tells_why()) from None
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", "") or error.reason or error
            raise errors.ServiceError(
                f"cannot speak TLS with the plugin's service at {self.address} ({why})", _WHERE_CERTIFICATES_ARE
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            hint = _what_tells_why()
            if self.address.startswith("https:"):  # a certificate that is not taken may end in a reset connection, too
                hint = f"{hint}; where that says nothing, {_WHERE_CERTIFICATES_ARE}"
            raise errors.ServiceError(
                f"the plugin's service broke off ({error or type(error).__name__})", hint
            ) from error
        finally:
            connection.close()
        if not isinstance(answer, dict) or answer.get("Err") or reply.status != http.HTTPStatus.OK:
            said = answer.get("Err") if isinstance(answer, dict) else ""
            raise errors.ServiceRefusal(said or f"status {reply.status}")
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        seconds = time_limit(self.deadline.left())
        where = self.address.partition("://")[2].rstrip("/")
        if self.address.startswith("unix:"):
            return _UnixConnection(Path(where), seconds)
        if not self.address.startswith("https:"):
            return http.client.HTTPConnection(where, timeout=seconds)
        try:
            context = _tls_context(self.tls)
        except OSError as error:
            raise errors.ServiceError(
                f"cannot use the certificates for {self.address} ({error.strerror or error})", _WHERE_CERTIFICATES_ARE
            ) from error
        return http.client.HTTPSConnection(where, timeout=seconds, context=context)


def _how_to_open_it() -> str:
    if journal.JOURNAL.exists():
        return "systemctl enable --now docker-volume-sshfs.socket opens it"
    return f"start the service; {_what_tells_why()} it ended"


def _what_tells_why() -> str:
    """Return what to read, as the begin of a hint."""
    return f"{journal.own_log()} tells why"


def _tls_context(tls: TLS | None) -> ssl.SSLContext:
    """Return what makes a client accept the certificates that Docker accepts. Raises OSError."""
    context = ssl.create_default_context()
    # since Python 3.13 it refuses an authority without keyUsage, as openssl makes it by default, and Docker does not
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if tls is None:
        return context
    if tls.authority:
        context.load_verify_locations(tls.authority)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.certificate or tls.key:
        # without a password OpenSSL would ask for that of an encrypted key at a terminal
        context.load_cert_chain(tls.certificate or "", tls.key or "", password="")
    return context


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, address: Path, seconds: float) -> None:
        super().__init__("docker-volume-sshfs", timeout=seconds)
        self._address = address

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._address))
