# SPDX-License-Identifier: MIT
"""Docker and Podman at the other end of the socket, byte by byte as they were recorded."""

import json
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.waiting import LIMIT_SECONDS

SSHCMD = "me@nas:/photos"
"""Of a volume that needs no more to be said."""

ID, OTHER_ID = "4f61b677" * 8, "9c0e5d12" * 8
PODMAN_ID = "2f73349cfc4630255319c6c8dfc1b46a8996ace9d14d8e07563b165915918ec2"
"""What containers of Docker and of Podman hold volumes by."""


@dataclass(frozen=True)
class Reply:
    """What came back over the socket.

    Attributes:
        status: The status code.
        headers: The headers, names in lower case.
        text: The body.
    """

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)

    @property
    def error(self) -> str:
        """What the user reads; empty for a success."""
        error = self.body["Err"]
        assert isinstance(error, str)
        return error


def parse_reply(raw: bytes) -> Reply | None:
    """Read what a server sent until it closed the connection; None if that was nothing."""
    if not raw:
        return None
    head, _, body = raw.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Reply(status=int(status_line.split(" ")[1]), headers=headers, text=body.decode())


def read_all(connection: socket.socket) -> bytes:
    """Read until the other end is closed, be it before it has read all that it was sent."""
    said = b""
    with suppress(ConnectionResetError):
        while more := connection.recv(65536):
            said += more
    return said


@dataclass(frozen=True)
class WireClient:
    """What both clients have in common: one request on one connection, byte by byte as they were recorded.

    Attributes:
        address: The plugin's socket.
    """

    address: Path

    def request(self, call: str, body: Mapping[str, Any] | None) -> bytes:
        """Return the bytes of a request."""
        raise NotImplementedError

    def connect(self) -> socket.socket:
        """Open a connection."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(LIMIT_SECONDS)
        connection.connect(str(self.address))
        return connection

    def send_bytes(self, raw: bytes) -> Reply | None:
        """Send bytes and read the reply; None if the connection is closed without one."""
        with self.connect() as connection:
            connection.sendall(raw)
            return parse_reply(read_all(connection))

    def send(self, call: str, body: Mapping[str, Any] | None) -> Reply:
        """Make a call that is answered."""
        reply = self.send_bytes(self.request(call, body))
        assert reply is not None, f"{call} was not answered"
        return reply

    def activate(self) -> Reply:
        """Make first contact."""
        return self.send("Plugin.Activate", None)

    def create(self, name: str, opts: Mapping[str, str] | None) -> Reply:
        """Create a volume, as ``docker volume create`` does."""
        return self.send("VolumeDriver.Create", {"Name": name, "Opts": opts})

    def mount(self, name: str, mount_id: str = ID) -> Reply:
        """Mount a volume."""
        return self.send("VolumeDriver.Mount", {"Name": name, "ID": mount_id})

    def unmount(self, name: str, mount_id: str = ID) -> Reply:
        """Give a volume back."""
        return self.send("VolumeDriver.Unmount", {"Name": name, "ID": mount_id})

    def get(self, name: str) -> Reply:
        """Ask for a volume."""
        return self.send("VolumeDriver.Get", {"Name": name})

    def list_names(self) -> list[str]:
        """Ask for all volumes."""
        return [listed["Name"] for listed in self.send("VolumeDriver.List", {}).body["Volumes"]]

    def remove(self, name: str) -> Reply:
        """Remove a volume."""
        return self.send("VolumeDriver.Remove", {"Name": name})


class DockerClient(WireClient):
    """Debian's dockerd 20.10.24."""

    def request(self, call: str, body: Mapping[str, Any] | None) -> bytes:
        """Return a request with an empty Host, no content type and a newline after the body."""
        content = b"" if body is None else json.dumps(body, separators=(",", ":")).encode() + b"\n"
        return (
            f"POST /{call} HTTP/1.1\r\n"
            "Host: \r\n"
            "User-Agent: Go-http-client/1.1\r\n"
            f"Content-Length: {len(content)}\r\n"
            "Accept: application/vnd.docker.plugins.v1.2+json\r\n"
            "\r\n"
        ).encode() + content

    def retry(self, call: str) -> Reply | None:
        """Send what Docker sends after a lost connection: the request without its body (moby#39331)."""
        return self.send_bytes(self.request(call, None))


class PodmanClient(WireClient):
    """Podman 4.3.1, which leaves out what it has nothing to say about and counts its mounts itself."""

    def request(self, call: str, body: Mapping[str, Any] | None) -> bytes:
        """Return a request without Accept and without a newline after the body."""
        said = {key: value for key, value in (body or {}).items() if value}
        content = json.dumps(said, separators=(",", ":")).encode() if said else b""
        return (
            f"POST /{call} HTTP/1.1\r\n"
            "Host: plugin\r\n"
            "User-Agent: Go-http-client/1.1\r\n"
            f"Content-Length: {len(content)}\r\n"
            "Content-Type: application/vnd.docker.plugins.v1.1+json\r\n"
            "\r\n"
        ).encode() + content

    def mount(self, name: str, mount_id: str = PODMAN_ID) -> Reply:
        """Mount a volume under the one ID that Podman uses."""
        return super().mount(name, mount_id)

    def unmount(self, name: str, mount_id: str = PODMAN_ID) -> Reply:
        """Give a volume back."""
        return super().unmount(name, mount_id)
