# SPDX-License-Identifier: MIT
"""The plugin as a running program, called as Docker calls it."""

import contextlib
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from integration import services
from sshfs_plugin.mounts import kernel, mountinfo
from sshfs_plugin.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DOCKER = {"Accept": "application/vnd.docker.plugins.v1.2+json"}
PODMAN = {"Host": "plugin", "Content-Type": "application/vnd.docker.plugins.v1.1+json"}


class Refused(Exception):
    """The plugin answered with an error; the text is what a user reads."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("plugin", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.close()
            raise


class Client:
    """Docker's side of the socket of a plugin."""

    def __init__(self, listens: Path) -> None:
        self._listens = listens

    def connect(self, seconds: float = 120) -> http.client.HTTPConnection:
        """Return a connection, on which nothing may take longer than so many seconds."""
        connection = _Connection(self._listens, seconds)
        connection.connect()
        return connection

    def call(self, verb: str, seconds: float = 120, headers: Mapping[str, str] = DOCKER, **body: Any) -> dict[str, Any]:
        """Call a verb and return its answer.

        Raises:
            Refused: With the text that a user reads.
        """
        connection = self.connect(seconds)
        path = verb if "." in verb else f"VolumeDriver.{verb}"
        with contextlib.closing(connection):
            connection.request("POST", f"/{path}", json.dumps(body) + "\n" if body else None, dict(headers))
            reply = connection.getresponse()
            answer: dict[str, Any] = json.loads(reply.read())
        assert (reply.status == 200) == (not answer["Err"]), "the status and Err must agree"
        if answer["Err"]:
            raise Refused(answer["Err"])
        return answer

    def create(self, name: str, options: Mapping[str, str]) -> None:
        """Create a volume."""
        self.call("Create", Name=name, Opts=dict(options))

    def mount(self, name: str, mount_id: str = "one") -> Path:
        """Mount a volume and return where."""
        return Path(self.call("Mount", Name=name, ID=mount_id)["Mountpoint"])

    def unmount(self, name: str, mount_id: str = "one") -> None:
        """Give a mount back."""
        self.call("Unmount", Name=name, ID=mount_id)

    def status(self, name: str) -> dict[str, Any]:
        """Return what docker volume inspect shows as Status."""
        status: dict[str, Any] = self.call("Get", Name=name)["Volume"]["Status"]
        return status


class Plugin(Client):
    """gunicorn with a socket as from systemd, with all state below one directory and no systemd to keep mounts."""

    def __init__(self, directory: Path, *, imported: bool = True) -> None:
        """Choose the directory, and whether each start is spared the imports."""
        super().__init__(directory / "sshfs.sock")
        self._imported = imported
        directory.mkdir()
        self.directory = directory
        self.settings = Settings(
            state=directory / "state",
            mounts=directory / "mounts",
            runtime=directory / "run",
            configuration=directory / "etc",
            credentials=directory / "credentials",
            libexec=directory / "libexec",
            home=directory / "home",
            supervisor="process",
        )
        self.log = directory / "log"
        self._service: services.Service | None = None

    def __enter__(self) -> "Plugin":
        for path in (self.settings.libexec, self.settings.home, self.settings.configuration, self.settings.runtime):
            path.mkdir()
        for program in ("volume", "connection", "askpass"):
            (self.settings.libexec / program).symlink_to(ROOT / "libexec" / program)
        for program, options in (("release", ""), ("relay", "-S ")):
            path = self.settings.libexec / program
            path.write_text(
                f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} {options}{ROOT}/libexec/{program} "$@"\n'
            )
            path.chmod(0o755)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        # an orderly stop takes gunicorn a second
        self.stop(signal.SIGKILL)
        for name in mountinfo.sshfs_below(self.settings.mounts):
            mountpoint = self.settings.mounts / name
            with contextlib.suppress(OSError):
                kernel.detach_all(mountpoint)
            assert kernel.await_absence(mountpoint, 300), f"{mountpoint} is not cleaned up"
        self.end_connections()

    def connections(self) -> list[Path]:
        """Return the directories of the connections that volumes share, or have shared."""
        return [path for path in self.settings.connections.glob("*") if path.is_dir()]

    def ask_connections_to_end(self) -> None:
        """Let the connections end that volumes share, which stay for a while when none uses them any more."""
        for connection in self.settings.connections.glob("*/socket"):
            words = ["ssh", "-F", "/dev/null", "-S", str(connection), "-O", "exit", "none"]
            subprocess.run(words, check=False, capture_output=True, timeout=60)

    def end_connections(self) -> None:
        """End them, and remove what is left of them."""
        self.ask_connections_to_end()
        for directory in self.connections():
            # what a unit does at its end; else the connection would seem to be in the making for a while
            shutil.rmtree(directory, ignore_errors=True)

    def start(self) -> None:
        """Start it; it answers when this returns."""
        self.listen()
        self.call("Plugin.Activate")

    def listen(self) -> None:
        """Open its socket and start it; it does not answer yet when this returns."""
        environment = {**self.settings.environment(), "PYTHONPATH": str(ROOT)}
        self._service = services.start(self._listens, self.log, environment, imported=self._imported)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, the hard way if so asked, and every process of it but those of the volumes."""
        assert self._service
        if how is signal.SIGKILL:
            self._service.send_to_all(how)
        else:
            self._service.send(how)
        self._service.await_end(300)
        self._listens.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill gunicorn with its worker, but for the programs of the volumes."""
        self.stop(signal.SIGKILL)

    def kill_master(self) -> None:
        """Kill gunicorn's master alone; return when its worker has ended, which it does when it sees that."""
        processes = self.processes()
        descriptors = [os.pidfd_open(process) for process in processes]
        try:
            os.kill(processes[0], signal.SIGKILL)
            for descriptor in descriptors:
                ended, _, _ = select.select([descriptor], [], [], 300)
                assert ended, f"of {processes} one goes on without the master"
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        self._listens.unlink(missing_ok=True)

    def kill_worker(self) -> None:
        """Kill gunicorn's worker alone; its master starts another."""
        _, *workers = self.processes()
        for worker in workers:
            os.kill(worker, signal.SIGKILL)

    def processes(self) -> list[int]:
        """Return gunicorn's master and its workers."""
        assert self._service
        master = self._service.process
        children = Path(f"/proc/{master}/task/{master}/children").read_text()
        return [master, *map(int, children.split())]

    def restart(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop and start."""
        self.stop(how)
        self.start()

    def program_of(self, name: str, program: str) -> int:
        """Return the process of a program, such as ``relay`` or ``/usr/bin/ssh``, of a mounted volume."""
        config = f"-F{self.settings.unit_files / name}/ssh_config"
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_text().split("\0")
                if config in words and any(word.endswith(program) for word in words[:3]):
                    return int(process.name)
        raise AssertionError(f"{name} has no {program}")

    def connection_of(self, name: str) -> int:
        """Return the process of the connection that a mounted volume shares."""
        for volume in self.settings.connections.glob(f"*/volumes/{name}"):
            words = ["ssh", "-F", str(volume.parents[1] / "ssh_config")]
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if (process / "cmdline").read_text().split("\0")[:3] == words:
                        return int(process.name)
        raise AssertionError(f"{name} shares no connection")

    def sshfs_process(self, name: str) -> int:
        """Return the process that serves a mounted volume."""
        mountpoint = str(self.settings.mounts / name)
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_text().split("\0")
                if words[0] == "sshfs" and mountpoint in words:
                    return int(process.name)
        raise AssertionError(f"no sshfs serves {mountpoint}")


def put_secret(directory: Path, content: bytes, name: str = "nas") -> Path:
    """Write a secret, as root or systemd does."""
    directory.mkdir(mode=0o700, exist_ok=True)
    file = directory / name
    file.unlink(missing_ok=True)
    file.touch(0o600)
    file.write_bytes(content)
    return file


def await_that(condition: Callable[[], object], what: str, seconds: float = 300) -> None:
    """Wait until a condition holds."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"not within {seconds} s: {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def stopping() -> Iterator[threading.Event]:
    """Give what tells threads to stop, so that none goes on after a failure."""
    stop = threading.Event()
    try:
        yield stop
    finally:
        stop.set()
