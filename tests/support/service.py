# SPDX-License-Identifier: MIT
"""The service under a real gunicorn, in a directory of its own."""

import os
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sshfs_plugin.settings import Settings
from support.clients import DockerClient
from support.waiting import await_that

TREE = Path(__file__).parents[2]

TOLD = """
from pathlib import Path
from sshfs_plugin.host import journal
journal.JOURNAL = Path("/dev/null/journal")
from sshfs_plugin.gunicorn_conf import *
"""
"""gunicorn's configuration, with the log where a test can read it and not in the journal of this host."""

HASTY = f"""
from sshfs_plugin.http import arrivals, worker
arrivals.ARRIVAL_SECONDS = worker.CLIENT_SECONDS = 0.5
{TOLD}
"""
"""The same, with shorter limits."""


BLOCKS_TOLD = """
import gc, os, sys, threading
from sshfs_plugin import gunicorn_conf
from sshfs_plugin.settings import Settings

def post_worker_init(worker):
    gunicorn_conf.post_worker_init(worker)
    threading.Thread(target=tell, args=(Settings.from_environment().runtime,), daemon=True).start()

def tell(directory):
    for fifo in ("ask", "blocks"):
        if not (directory / fifo).exists():
            os.mkfifo(directory / fifo)
    while True:
        (directory / "ask").read_text()
        gc.collect()
        (directory / "blocks").write_text(str(sys.getallocatedblocks()))
"""
"""What follows one of these, for :meth:`Service.blocks`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a process takes of its host.

    Attributes:
        memory: Bytes that are its own, and its share of others.
        descriptors: Open ones.
        threads: All of them.
    """

    memory: int
    descriptors: int
    threads: int


def size_of(process: int) -> Size:
    """Return the size of a process."""
    proc = Path(f"/proc/{process}")
    (memory,) = re.findall(r"^Pss: +(\d+) kB$", (proc / "smaps_rollup").read_text(), re.MULTILINE)
    return Size(
        memory=int(memory) << 10,
        descriptors=len(list((proc / "fd").iterdir())),
        threads=len(list((proc / "task").iterdir())),
    )


class Service:
    """gunicorn as a process, with a socket of its own."""

    def __init__(self, settings: Settings, port: int = 0) -> None:
        self.settings, self.port = settings, port
        self.docker = DockerClient(settings.socket)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return (self.settings.runtime / "log").read_text(errors="backslashreplace")

    @property
    def worker(self) -> int:
        """The process that answers."""
        assert self.process
        (child,) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(child)

    def blocks(self) -> int:
        """Return how many blocks of memory Python has given out, of which each small object has one at least."""
        asks, tells = self.settings.runtime / "ask", self.settings.runtime / "blocks"
        await_that(tells.is_fifo, lambda: f"it can be asked\n{self.log}")
        asks.write_text("")
        return int(tells.read_text())

    def start(self, configuration: str) -> None:
        """Start it; it listens when this returns."""
        self.process = self._begun(configuration)
        await_that(self._listens, lambda: f"it listens\n{self.log}")

    def ends_at_once(self, configuration: str) -> int:
        """Start what refuses to serve, and return its exit status."""
        process = self._begun(configuration)
        try:
            return process.wait(60)
        finally:
            process.kill()

    def _begun(self, configuration: str) -> subprocess.Popen[bytes]:
        self.settings.runtime.mkdir()
        with (self.settings.runtime / "log").open("ab") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", configuration],
                env={**os.environ, **self.settings.environment(), "PYTHONPATH": str(TREE), "NOTIFY_SOCKET": ""},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def _listens(self) -> bool:
        assert self.process
        assert self.process.poll() is None, "gunicorn has ended"
        with socket.socket(socket.AF_INET if self.port else socket.AF_UNIX) as probe:
            return probe.connect_ex(("127.0.0.1", self.port) if self.port else str(self.settings.socket)) == 0

    def stop(self) -> None:
        """Let it come to its end."""
        if self.process:
            self.process.terminate()
            assert self.process.wait(60) == 0


def settings_below(directory: Path) -> Settings:
    """Return the settings of a service that lives in a directory."""
    return Settings(
        state=directory / "state",
        mounts=directory / "mounts",
        runtime=directory / "run",
        configuration=directory / "etc",
        credentials=directory / "credentials",
        libexec=directory / "libexec",
        home=directory / "root",
        root=directory,
        supervisor="process",
        threads=8,
    )


@contextmanager
def started(
    directory: Path, configuration: str = "python:sshfs_plugin.gunicorn_conf", *, tls: Path | None = None, port: int = 0
) -> Iterator[Service]:
    """Let a service run, which may have as many files as this process may ask for."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    service = Service(replace(settings_below(directory), tls=tls), port)
    try:
        service.start(configuration)
        yield service
    finally:
        service.stop()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
