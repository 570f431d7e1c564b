# SPDX-License-Identifier: MIT
"""What is measured side by side: volumes, sshfs mounts by hand, and volumes of rclone."""

import contextlib
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

from integration.plugin import Client, Plugin, Refused, await_that
from integration.sshd import Server

from sshfs_plugin.settings import Settings

RCLONE_PAUSE = 0.02
"""Seconds between two Mounts or Unmounts of rclone: 1.60.1 never answers again when one comes too soon."""


class Side(Protocol):
    """Makes directories of the server appear on this host."""

    def create(self, name: str, directory: Path, port: int) -> None:
        """Make a volume of a directory, where the server is reached at a port."""

    def mount(self, name: str) -> Path:
        """Mount it and return where."""

    def unmount(self, name: str) -> None:
        """Unmount it."""

    def remove(self, name: str) -> None:
        """Forget it."""


class Installed(Client):
    """The service of the package."""

    def __init__(self) -> None:
        self.settings = Settings()
        super().__init__(self.settings.socket)

    def stop(self) -> None:
        """Stop it; its socket stays open."""
        subprocess.run(["systemctl", "stop", "docker-volume-sshfs.service"], check=True, capture_output=True)
        # else systemd would soon refuse to start it again
        subprocess.run(["systemctl", "reset-failed", "docker-volume-sshfs.service"], check=False, capture_output=True)

    def listen(self) -> None:
        """Do nothing, since systemd listens."""

    def processes(self) -> list[int]:
        """Return gunicorn's master and its worker."""
        show = ["systemctl", "show", "-P", "MainPID", "docker-volume-sshfs.service"]
        master = int(subprocess.run(show, check=True, capture_output=True, text=True).stdout)
        return [master, *map(int, Path(f"/proc/{master}/task/{master}/children").read_text().split())]

    def end_connections(self) -> None:
        """End the connections that volumes share."""
        subprocess.run(["systemctl", "stop", "docker-volume-sshfs-connection@*"], check=True, capture_output=True)


Service = Installed | Plugin


@contextmanager
def service(scratch: Path) -> Iterator[Service]:
    """Give the service of the package or, where that is not installed, one of this directory, without systemd."""
    if Settings().socket.exists():
        yield Installed()
    else:
        with Plugin(scratch / "plugin", imported=False) as plugin:
            yield plugin


class Volumes:
    """Volumes of the service."""

    def __init__(self, service: Service, server: Server) -> None:
        self._service, self._server = service, server

    def create(self, name: str, directory: Path, port: int, **options: str) -> None:
        """Make a volume, with more options if so asked."""
        given = self._server.options(directory, **options)
        self._service.create(f"benchmark-{name}", {**given, "port": str(port)})

    def mount(self, name: str) -> Path:
        """Mount it and return where."""
        return self._service.mount(f"benchmark-{name}")

    def unmount(self, name: str) -> None:
        """Unmount it."""
        self._service.unmount(f"benchmark-{name}")

    def remove(self, name: str) -> None:
        """Forget it."""
        self._service.call("Remove", Name=f"benchmark-{name}")

    def clear(self) -> None:
        """Remove what an interrupted run has left."""
        for volume in self._service.call("List")["Volumes"]:
            if volume["Name"].startswith("benchmark-"):
                with contextlib.suppress(Refused):  # it is not mounted
                    self._service.unmount(volume["Name"])
                self._service.call("Remove", Name=volume["Name"])


class Bare:
    """sshfs mounts as a user would make them by hand."""

    def __init__(self, server: Server, directory: Path) -> None:
        self._server, self.directory = server, directory
        self._commands: dict[str, tuple[str | Path, ...]] = {}

    def create(self, name: str, directory: Path, port: int) -> None:
        """Note what is to be mounted."""
        options = f"IdentityFile={self._server.key},StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null,reconnect"
        source = f"{self._server.user}@127.0.0.1:{directory}"
        self._commands[name] = ("sshfs", source, self.directory / name, "-p", str(port), "-o", options)
        (self.directory / name).mkdir(parents=True)

    def mount(self, name: str) -> Path:
        """Mount it and return where."""
        subprocess.run(self._commands[name], check=True, stderr=subprocess.DEVNULL)
        return self.directory / name

    def unmount(self, name: str) -> None:
        """Unmount it."""
        subprocess.run(["umount", self.directory / name], check=True)

    def remove(self, name: str) -> None:
        """Forget it."""
        del self._commands[name]
        (self.directory / name).rmdir()

    def clear(self) -> None:
        """Unmount what an interrupted run has left."""
        for name in self._commands:
            subprocess.run(["umount", "--lazy", self.directory / name], check=False, capture_output=True)


class Rclone:
    """Volumes of ``rclone serve docker``, called as Docker calls it."""

    def __init__(self, server: Server, socket: Path) -> None:
        self._server, self._client = server, Client(socket)

    def create(self, name: str, directory: Path, port: int) -> None:
        """Make a volume."""
        options = {
            "type": "sftp",
            "path": str(directory),
            "sftp-host": "127.0.0.1",
            "sftp-port": str(port),
            "sftp-user": self._server.user,
            "sftp-key-file": str(self._server.key),
            # else it looks for a shell, which this server does not have
            "sftp-shell-type": "none",
        }
        self._call("Create", Name=name, Opts=options)

    def mount(self, name: str) -> Path:
        """Mount it and return where."""
        return Path(self._call("Mount", Name=name, ID="one")["Mountpoint"])

    def unmount(self, name: str) -> None:
        """Unmount it."""
        time.sleep(RCLONE_PAUSE)
        self._call("Unmount", Name=name, ID="one")
        time.sleep(RCLONE_PAUSE)

    def remove(self, name: str) -> None:
        """Forget it."""
        self._call("Remove", Name=name)

    def _call(self, verb: str, **body: Any) -> dict[str, Any]:
        with contextlib.closing(self._client.connect()) as connection:
            connection.request("POST", f"/VolumeDriver.{verb}", json.dumps(body))
            reply = connection.getresponse()
            answer: dict[str, Any] = json.loads(reply.read())
        # unlike ours it leaves Err out where there is none
        if reply.status != HTTPStatus.OK:
            raise Refused(answer["Err"])
        return answer


@contextmanager
def rclone(server: Server, scratch: Path) -> Iterator[Rclone | None]:
    """Give volumes of rclone, if it is installed."""
    if not shutil.which("rclone"):
        yield None
        return
    socket = scratch / "rclone.sock"
    words = ["rclone", "serve", "docker", "--config", "", "--socket-addr", str(socket)]
    words += ["--base-dir", str(scratch / "rclone"), "--cache-dir", str(scratch / "rclone-cache"), "--forget-state"]
    with (scratch / "rclone.log").open("wb") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        try:
            await_that(socket.exists, "rclone listens")
            yield Rclone(server, socket)
        finally:
            process.kill()
            process.wait()
            for mountpoint in (scratch / "rclone").glob("*"):
                subprocess.run(["umount", "--lazy", mountpoint], check=False, capture_output=True)


def memory(processes: Iterable[int]) -> float:
    """Return the bytes of memory that are the processes' own, with their share of what they share with others (PSS).

    A process that ends meanwhile counts as none: a connection of the volumes before may be ending.
    """
    sizes = []
    for process in processes:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            sizes.append(Path(f"/proc/{process}/smaps_rollup").read_text())
    return sum(int(size.partition("\nPss:")[2].split()[0]) for size in sizes) * 1024


def processes_with(*texts: str | Path) -> list[int]:
    """Return the processes in whose command line one of the texts is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().decode(errors="replace")
            if any(str(text) in words for text in texts):
                found.append(int(process.name))
    return found


numbers = itertools.count()
"""For names that were never used before."""
