# SPDX-License-Identifier: MIT
"""How a connection that volumes share is made, with a stand-in for ssh."""

import os
import subprocess
from pathlib import Path

from support.programs import Programs
from support.waiting import LIMIT_SECONDS

CONNECTION = Path(__file__).parents[3] / "libexec/connection"


def test_server_that_prints_without_end_fills_neither_memory_nor_the_journal(
    programs: Programs, tmp_path: Path
) -> None:
    directory, kept = tmp_path / "connection", tmp_path / "kept"
    directory.mkdir()
    (directory / "environment").write_text("LOGIN=bob@nas\n")
    programs.add("ssh", "yes welcome >&2; echo denied >&2; exit 255")
    programs.add("sleep", f"du -sb {directory} >{kept}; cat {directory}/failed >>{kept}")
    made = subprocess.run(
        [CONNECTION, "keep", directory],
        env={**os.environ, "PATH": f"{programs.directory}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    size, _, failed = kept.read_text().partition("\n")
    assert int(size.split()[0]) < 20_000
    assert made.stderr.endswith(failed), "who waits for the connection is told the same"
    assert 1000 < len(failed) <= 4096
    assert set(failed.splitlines()[1:-1]) == {"welcome"}
    assert not directory.exists()
