# SPDX-License-Identifier: MIT
"""For how long this host has been up."""

import os
import time
from pathlib import Path

_PROC = Path("/proc")
_START = 19
"""The position of the start, in clock ticks since the kernel's, among the fields after the name: proc(5), stat."""


def seconds() -> float:
    """Return the age of process 1, which in a container is younger than the kernel; infinity if it is hidden."""
    try:
        fields = (_PROC / "1/stat").read_text().rpartition(")")[2].split()
        started = int(fields[_START]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return float("inf")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started
