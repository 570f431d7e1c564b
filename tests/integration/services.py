# SPDX-License-Identifier: MIT
"""Services that take next to no time to start: forks of a process that has imported what they consist of.

As a program, it starts a service for each line of its input, an order as JSON, and prints the service's process.
"""

import contextlib
import functools
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_COMMAND = ("/usr/bin/gunicorn", "-c", "python:sshfs_plugin.gunicorn_conf")
_IMPORTED = (
    "gunicorn.app.wsgiapp",
    "sshfs_plugin.app",
    "sshfs_plugin.http.watchdog",
    "sshfs_plugin.http.worker",
    "sshfs_plugin.preflight.kept",
    "sshfs_plugin.preflight.preflight",
)
"""What a service imports, but for the configuration, which depends on its environment."""
_FIRST_DESCRIPTOR = 3
"""Of the sockets that systemd hands over."""


class Service:
    """A running service, and the leader of its process group."""

    def __init__(self, process: int) -> None:
        self.process = process
        self._descriptor = os.pidfd_open(process)
        weakref.finalize(self, os.close, self._descriptor)

    def send(self, which: signal.Signals) -> None:
        """Send a signal to gunicorn's master, if it has not ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, which)

    def send_to_all(self, which: signal.Signals) -> None:
        """Send a signal to all of it that has not ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process, which)

    def await_end(self, seconds: float) -> None:
        """Wait until gunicorn's master has ended."""
        ended, _, _ = select.select([self._descriptor], [], [], seconds)
        assert ended, f"gunicorn has not ended within {seconds} s"


def start(listens: Path, log: Path, environment: Mapping[str, str], *, imported: bool) -> Service:
    """Start a service, with a socket as systemd would hand it over; it listens when this returns.

    Args:
        listens: Where its socket will be.
        log: Where its output goes.
        environment: What systemd would set.
        imported: It need not import anything; else it is started as systemd does it.
    """
    order = {"listens": str(listens), "log": str(log), "environment": dict(environment), "imported": imported}
    starter = _starter()
    assert starter.stdin
    assert starter.stdout
    starter.stdin.write(f"{json.dumps(order)}\n")
    starter.stdin.flush()
    return Service(int(starter.stdout.readline()))


@functools.cache
def _starter() -> subprocess.Popen[str]:
    """Start the process that all services are forks of; it ends with us, when its input does."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.Popen(
        [sys.executable, __file__],
        env={**inherited, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def main() -> None:
    """Start services until there are no more orders."""
    sys.path[:1] = []  # the directory of this program
    for module in _IMPORTED:
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them
    for line in sys.stdin:
        order = json.loads(line)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(order["listens"])
        listening.listen(socket.SOMAXCONN)
        process = os.fork()
        if not process:
            _become_service(listening, order)
        listening.close()
        sys.stdout.write(f"{process}\n")
        sys.stdout.flush()


def _become_service(listening: socket.socket, order: Mapping[str, Any]) -> None:
    """Go on as gunicorn does when systemd has started it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    descriptors = ((nothing, 0), (log, 1), (log, 2), (os.dup(listening.detach()), _FIRST_DESCRIPTOR))
    for descriptor, place in descriptors:
        os.dup2(descriptor, place)
    os.closerange(_FIRST_DESCRIPTOR + 1, os.sysconf("SC_OPEN_MAX"))
    os.environ.update(order["environment"], LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
    if not order["imported"]:
        os.execv(_COMMAND[0], _COMMAND)  # noqa: S606 (there is no shell)
    sys.argv = [*_COMMAND]
    from gunicorn.app.wsgiapp import run

    run()


if __name__ == "__main__":
    main()
