# SPDX-License-Identifier: MIT
"""A volume plugin that behaves as vieux/sshfs does, for a machine that can't fetch the real one.

It runs as the program of a managed plugin: what it keeps and where, what it answers and how it calls sshfs are
vieux's. Not so what it does on Remove: that erases no file.
"""

import hashlib
import json
import os
import signal
import socketserver
import subprocess
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

STATE = Path("/mnt/state/sshfs-state.json")
VOLUMES = Path("/mnt/volumes")
SOCKET = "/run/docker/plugins/sshfs.sock"

Body = dict[str, Any]

volumes: dict[str, Body] = json.loads(STATE.read_text()) if STATE.exists() else {}
users: dict[str, int] = {}


def create(asked: Body) -> Body:
    """Record a volume; nothing is tried."""
    given = dict(asked["Opts"])
    volumes[asked["Name"]] = {
        "Password": given.pop("password", ""),
        "Sshcmd": given["sshcmd"],
        "Port": given.pop("port", ""),
        "Options": [f"{name}={value}" if value else name for name, value in given.items() if name != "sshcmd"] or None,
        "Mountpoint": str(VOLUMES / hashlib.md5(given["sshcmd"].encode(), usedforsecurity=False).hexdigest()),
    }
    STATE.write_text(json.dumps(volumes, separators=(",", ":")))
    return {}


def remove(asked: Body) -> Body:
    """Forget a volume."""
    del volumes[asked["Name"]]
    STATE.write_text(json.dumps(volumes, separators=(",", ":")))
    return {}


def mount(asked: Body) -> Body:
    """Start sshfs for the first user."""
    name = asked["Name"]
    volume = volumes[name]
    if not users.get(name):
        Path(volume["Mountpoint"]).mkdir(parents=True, exist_ok=True)
        words = ["sshfs", "-oStrictHostKeyChecking=no", volume["Sshcmd"], volume["Mountpoint"]]
        words += ["-p", volume["Port"]] if volume["Port"] else []
        words += ["-o", "workaround=rename", "-o", "password_stdin"] if volume["Password"] else []
        words += [word for option in volume["Options"] or [] for word in ("-o", option)]
        subprocess.run(words, input=volume["Password"].encode(), check=True)
    users[name] = users.get(name, 0) + 1
    return {"Mountpoint": volume["Mountpoint"]}


def unmount(asked: Body) -> Body:
    """Unmount for the last user."""
    name = asked["Name"]
    users[name] -= 1
    if not users[name]:
        subprocess.run(["umount", volumes[name]["Mountpoint"]], check=True)
    return {}


def shown(name: str) -> Body:
    """Return what is said of a volume."""
    return {"Name": name, "Mountpoint": volumes[name]["Mountpoint"], "Status": None}


CALLS: dict[str, Callable[[Body], Body]] = {
    "/Plugin.Activate": lambda _: {"Implements": ["VolumeDriver"]},
    "/VolumeDriver.Capabilities": lambda _: {"Capabilities": {"Scope": "local"}},
    "/VolumeDriver.Create": create,
    "/VolumeDriver.Remove": remove,
    "/VolumeDriver.Mount": mount,
    "/VolumeDriver.Unmount": unmount,
    "/VolumeDriver.Get": lambda asked: {"Volume": shown(asked["Name"])},
    "/VolumeDriver.List": lambda _: {"Volumes": [shown(name) for name in volumes]},
    "/VolumeDriver.Path": lambda asked: {"Mountpoint": volumes[asked["Name"]]["Mountpoint"]},
}


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    def do_POST(self) -> None:
        """Answer, or say that there is no such volume."""
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        try:
            status, answer = 200, CALLS[self.path](json.loads(body or b"{}"))
        except (KeyError, subprocess.CalledProcessError) as error:
            status, answer = 500, {"Err": f"{error}"}
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.docker.plugins.v1.1+json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode() + b"\n")

    def address_string(self) -> str:
        """Return nothing: whoever calls over a unix socket has no address."""
        return ""


if __name__ == "__main__":
    # the first process of a container ends by no signal that it does not handle, and Docker waits ten seconds for it
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    socketserver.ThreadingUnixStreamServer(SOCKET, Handler).serve_forever()
