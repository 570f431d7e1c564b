# SPDX-License-Identifier: MIT
"""Prometheus' own tool, which judges metrics and tries alerts.

It is taken out of Debian's package, once: installed, that would be a server on this host, and a large one on a machine.
"""

from pathlib import Path

from .machines.cache import cached
from .machines.commands import on_host


def promtool() -> Path:
    """Return the program."""
    return cached("promtool", _make) / "usr/bin/promtool"


def _make(directory: Path, log: Path) -> None:
    script = 'cd "$1" && apt-get download prometheus && dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb'
    fetched = on_host("sh", "-c", f"{script} usr/bin/prometheus >{log} 2>&1", "sh", directory, check=False)
    assert fetched, log.read_text()
