# SPDX-License-Identifier: MIT
"""Processes of this host, as the kernel tells of them."""

from pathlib import Path


def has_ended(process: int) -> bool:
    """Tell whether a process has ended, be it that nobody has reaped it yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
