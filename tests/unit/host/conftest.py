# SPDX-License-Identifier: MIT
"""The processes that a test has started for reading files."""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.waiting import LIMIT_SECONDS

from sshfs_plugin.host import command, local_files
from sshfs_plugin.host.readers import Readers


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Give the processes, which end with the test; none is there at its beginning."""
    start = command.start
    processes: list[subprocess.Popen[bytes]] = []

    def noted(argv: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        processes.append(start(argv))
        return processes[-1]

    with monkeypatch.context() as patched:
        patched.setattr(command, "start", noted)
        patched.setattr(local_files, "_readers", Readers())
        yield processes
    for process in processes:
        command.end(process)
        process.wait(LIMIT_SECONDS)
