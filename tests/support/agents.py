# SPDX-License-Identifier: MIT
"""An ssh-agent of a test's own."""

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
        socket = Path(directory) / "socket"
        process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
        try:
            await_that(socket.exists, lambda: "the agent listens")
            for key in keys:
                tell(socket, key)
            yield socket
        finally:
            process.kill()
            process.wait()


def tell(socket: Path, *words: str | Path) -> None:
    """Give words to ssh-add, and a passphrase if it asks for one."""
    askpass = socket.with_name("askpass")
    askpass.write_text("#!/bin/sh\necho secret\n")
    askpass.chmod(0o700)
    environment = {"SSH_AUTH_SOCK": str(socket), "SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"}
    command.run(["ssh-add", "-q", *words], seconds=60, environment=environment).check_returncode()
