# SPDX-License-Identifier: MIT
"""For how long this host has been up, and since when its processes run."""

import os
import time
from pathlib import Path

_PROC = Path("/proc")
_START = 19
"""The position of the start, in clock ticks since the kernel's, among the fields after the name: proc(5), stat."""


def seconds() -> float:
    """Return the age of process 1, which in a container is younger than the kernel; infinity if it is hidden."""
    started = start_of(1)
    return float("inf") if started is None else time.clock_gettime(time.CLOCK_BOOTTIME) - started


def start_of(process: int) -> float | None:
    """Return when a process was started, in seconds since the kernel was; None if it is hidden or has ended."""
    try:
        fields = (_PROC / f"{process}/stat").read_text().rpartition(")")[2].split()
        return int(fields[_START]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
