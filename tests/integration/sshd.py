# SPDX-License-Identifier: MIT
"""The throwaway SSH server of ``scripts/throwaway-sshd``, for tests."""

import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ANYWHERE = "/var/tmp"  # noqa: S108 (its directories are made by mkdtemp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running sshd.

    Attributes:
        directory: Its files.
        user: The only login.
        port: On 127.0.0.1.
    """

    directory: Path
    user: str
    port: int

    @property
    def data(self) -> Path:
        """The directory that the login may write."""
        return self.directory / "data"

    @property
    def key(self) -> Path:
        """A private key that may log in."""
        return self.directory / "id_ed25519"

    def make(self, name: str) -> Path:
        """Make a directory that the login may write, below the data."""
        path = self.data / name
        path.mkdir()
        shutil.chown(path, self.user)
        return path

    def options(self, directory: Path, **more: str) -> dict[str, str]:
        """Return the options of a volume that is a directory on this server."""
        return {
            "sshcmd": f"{self.user}@127.0.0.1:{directory}",
            "port": str(self.port),
            "IdentityFile": str(self.key),
            **more,
        }

    def allow(self, public_key: Path) -> None:
        """Let another key log in."""
        with (self.directory / "authorized_keys").open("a") as file:
            file.write(public_key.read_text())

    def connections(self) -> list[int]:
        """Return the processes that serve a connection of this server."""
        return _children(int((self.directory / "pid").read_text()))

    def cut_connections(self) -> None:
        """End all connections, as a broken network would in the end; whatever came over them is done then, or never."""
        processes = self.connections()
        for process in processes:  # that of the login goes on without its parent
            processes += _children(process)
        end(processes)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Be switched off meanwhile: all connections end, and new ones are refused."""
        listener = int((self.directory / "pid").read_text())
        program = Path(f"/proc/{listener}/exe").readlink()
        owner = Path(f"/proc/{listener}").stat()
        libraries = {str(path.parent) for path in (self.directory / "pkg").glob("**/lib*.so*")}
        os.kill(listener, signal.SIGSTOP)
        self.cut_connections()
        ended = os.pidfd_open(listener)
        os.kill(listener, signal.SIGKILL)
        # until then the port is taken
        select.select([ended], [], [])
        os.close(ended)
        try:
            yield
        finally:
            subprocess.run(
                [program, "-f", self.directory / "sshd_config", "-E", self.directory / "log"],
                check=True,
                env={"LD_LIBRARY_PATH": ":".join(libraries)},
                user=owner.st_uid,
                group=owner.st_gid,
                extra_groups=[],
                timeout=300,
            )
            self._await_answer()

    def _await_answer(self) -> None:
        """Wait until it listens, which it does some time after it has put itself into the background."""
        limit = time.monotonic() + 300
        while time.monotonic() < limit:
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)
        raise AssertionError(f"not up again within 300 s: {(self.directory / 'log').read_text()}")

    @contextmanager
    def frozen_connections(self) -> Iterator[list[int]]:
        """Let no connection of now be answered meanwhile; new ones are. Give their processes, which may be ended."""
        processes = self.connections()
        for process in processes:  # each of them has children that do the work
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)
            processes += _children(process)
        try:
            yield processes
        finally:
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)


def end(processes: Iterable[int]) -> None:
    """Kill processes, of which some may have ended just now; return when they do nothing any more."""
    killed = []
    for process in processes:
        with suppress(ProcessLookupError):
            killed.append(os.pidfd_open(process))
            signal.pidfd_send_signal(killed[-1], signal.SIGKILL)
    for descriptor in killed:
        select.select([descriptor], [], [], 300)
        os.close(descriptor)


def _children(process: int) -> list[int]:
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for child in children.split()]


@contextmanager
def start_server(*lines: str, model: Server | None = None, below: str = ANYWHERE) -> Iterator[Server]:
    """Start a server, in a directory that its login may enter, as it may not enter pytest's.

    Args:
        lines: Of sshd_config, to come before the others.
        model: A server whose program can be used, to save a download.
        below: Where its directory is made.
    """
    directory = Path(tempfile.mkdtemp(prefix="sshfs-test-", dir=below))
    (directory / "first").mkdir()
    (directory / "first/lines").write_text("".join(f"{line}\n" for line in lines))
    if model and (model.directory / "pkg").exists():
        (directory / "pkg").symlink_to(model.directory / "pkg")
    script = ROOT / "scripts/throwaway-sshd"
    subprocess.run([script, "start", directory], check=True, timeout=300)
    try:
        yield Server(
            directory=directory,
            user=(directory / "user").read_text().strip(),
            port=int((directory / "port").read_text()),
        )
    finally:
        subprocess.run([script, "stop", directory], check=True, timeout=300)
        shutil.rmtree(directory)
