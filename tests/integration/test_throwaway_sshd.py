# SPDX-License-Identifier: MIT
"""The throwaway server itself: what its script ends is its own."""

import signal
import subprocess
from pathlib import Path

from integration.sshd import ROOT, start_server


def test_stop_leaves_a_process_alone_that_has_got_the_servers_number(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        (tmp_path / "pid").write_text(f"{process.pid}\n")
        subprocess.run([ROOT / "scripts/throwaway-sshd", "stop", tmp_path], check=True, timeout=20)
        process.kill()
    assert process.returncode == -signal.SIGKILL


def test_the_lines_that_are_given_count() -> None:
    with start_server("MaxStartups 10:30:100") as server:
        listener = (server.directory / "pid").read_text().strip()
        # the title of sshd has the last number
        assert "of 10-100 startups" in Path(f"/proc/{listener}/cmdline").read_text()
