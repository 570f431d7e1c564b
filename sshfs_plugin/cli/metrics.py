# SPDX-License-Identifier: MIT
"""``metrics``: what the service knows of itself and its volumes, for Prometheus."""

import importlib.metadata
import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sshfs_plugin import errors
from sshfs_plugin.cli import terminal
from sshfs_plugin.cli.status import SERVICE_SECONDS, SYSTEMD_SECONDS, ListedVolume
from sshfs_plugin.discovery.client import Service
from sshfs_plugin.mounts import systemd
from sshfs_plugin.settings import Settings

_NAME = "docker-volume-sshfs"


def metrics(settings: Settings, file: Path | None) -> None:
    """Print the metrics, or write them to a file; if the service can't be asked, they say that and no more.

    Raises:
        PackageMissing: The library that writes them is not installed.
        OutputUnwritable: The file can't be written.
    """
    listens = systemd.listening(systemd.SOCKET, seconds=SYSTEMD_SECONDS)
    service = Service.of(settings, listens, seconds=SERVICE_SECONDS)
    try:
        text = _text([ListedVolume(said) for said in service.volumes()], service.counters())
    except errors.ServiceError as error:
        terminal.say(str(error), error=True)
        text = _text([], None)
    if file:
        _write(file, text)
    else:
        terminal.say_text(text)


def _text(volumes: Sequence[ListedVolume], counters: Mapping[str, Any] | None) -> str:
    try:
        from sshfs_plugin.cli import prometheus
    except ImportError as error:
        raise errors.PackageMissing("the metrics", "python3-prometheus-client") from error
    return prometheus.text(_version(), volumes, counters)


def _version() -> str:
    try:
        return importlib.metadata.version(_NAME)
    except importlib.metadata.PackageNotFoundError:  # in a checkout
        return "unknown"


def _write(file: Path, text: str) -> None:
    """Write a file that everybody may read, so that its reader sees the old text or the new.

    The other name that it has at first does not end in ``.prom``, or node_exporter would read it.
    """
    try:
        _require_replaceable(file)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=file.parent, prefix=".metrics-", delete=False
        ) as new:
            try:
                new.write(text)
                new.flush()
                os.fchmod(new.fileno(), 0o644)
                Path(new.name).replace(file)
            except BaseException:
                Path(new.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise errors.OutputUnwritable(file, error.strerror) from error


def _require_replaceable(file: Path) -> None:
    """Raise OutputUnwritable for a device, a link or a socket: a file in its place could break other programs."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(file.lstat().st_mode):
            raise errors.OutputUnwritable(
                file, "it is no regular file, and would be replaced by one", "name a file, or leave --output out"
            )
