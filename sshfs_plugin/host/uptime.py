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


def identity(process: int) -> str:
    """Return the number and the start of a process, which no other process of this host ever has.

    Returns:
        Both, as ``812 10.55``; empty if the process is hidden or has ended.
    """
    started = start_of(process)
    return "" if started is None else f"{process} {started}"


def lives(identity_of_it: str) -> bool:
    """Tell whether the process lives that has had this identity."""
    number = identity_of_it.partition(" ")[0]
    return number.isdecimal() and identity(int(number)) == identity_of_it


def start_of(process: int) -> float | None:
    """Return when a process was started, in seconds since the kernel was; None if it is hidden or has ended."""
    try:
        fields = (_PROC / f"{process}/stat").read_text().rpartition(")")[2].split()
        return int(fields[_START]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
