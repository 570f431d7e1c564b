# SPDX-License-Identifier: MIT
"""An ssh-agent of a test's own."""

import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sshfs_plugin.host import command
from support.waiting import await_that


@contextmanager
def agent(*keys: Path) -> Iterator[Path]:
    """Run an ssh-agent that holds keys, and give its socket."""
    # pytest's directories have names too long for a socket
    with tempfile.TemporaryDirectory(prefix="agent-") as directory:
        place = Path(directory) / "socket"
        process = subprocess.Popen(["ssh-agent", "-D", "-a", place], stdout=subprocess.DEVNULL)
        try:
            await_that(lambda: _listens(place), lambda: "the agent listens")
            for key in keys:
                tell(place, key)
            yield place
        finally:
            process.kill()
            process.wait()


def _listens(place: Path) -> bool:
    """Tell whether somebody takes connections there; the socket is there before."""
    with socket.socket(socket.AF_UNIX) as attempt:
        return attempt.connect_ex(str(place)) == 0


def tell(place: Path, *words: str | Path) -> None:
    """Give words to ssh-add, and a passphrase if it asks for one."""
    askpass = place.with_name("askpass")
    askpass.write_text("#!/bin/sh\necho secret\n")
    askpass.chmod(0o700)
    environment = {"SSH_AUTH_SOCK": str(place), "SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"}
    command.run(["ssh-add", "-q", *words], seconds=60, environment=environment).check_returncode()
