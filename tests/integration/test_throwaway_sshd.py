# SPDX-License-Identifier: MIT
"""The throwaway server itself: what its script ends is its own."""

import signal
import subprocess
from pathlib import Path

from integration.sshd import ROOT


def test_stop_leaves_a_process_alone_that_has_got_the_servers_number(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        (tmp_path / "pid").write_text(f"{process.pid}\n")
        subprocess.run([ROOT / "scripts/throwaway-sshd", "stop", tmp_path], check=True, timeout=20)
        process.kill()
    assert process.returncode == -signal.SIGKILL
