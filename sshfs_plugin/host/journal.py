# SPDX-License-Identifier: MIT
"""What this service tells systemd: log lines with fields to filter by, the STATUS= line, that it is ready and alive.

``journalctl -u docker-volume-sshfs VOLUME=photos`` finds all that was done to one volume; VERB and MOUNT_ID likewise.
"""

import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import Any

from sshfs_plugin import context, errors
from sshfs_plugin.events import Event
from systemd import daemon  # noqa: TID251 (this is the place)
from systemd import journal as systemd_journal  # noqa: TID251
from systemd.journal import JournalHandler  # noqa: TID251 (this is the place)

IDENTIFIER = "docker-volume-sshfs"
JOURNAL = Path("/run/systemd/journal/socket")
PRINTED = "what the service prints (a managed plugin's is in Docker's log)"
"""What there is of the service's log where there is no journal."""


class _Subject(logging.Filter):
    """Gives each record the journal fields that are in force, and begins its text with the verb and the volume."""

    def filter(self, record: logging.LogRecord) -> bool:
        # a client may have sent a name of any length
        fields = {name: errors.printable(text[: errors.LONGEST_QUOTE]) for name, text in context.subject().items()}
        for name, text in fields.items():
            setattr(record, name, text)
        words = " ".join(fields[name] for name in ("VERB", "VOLUME") if name in fields)
        record.subject = f"{words}: " if words else ""
        return True


class _Printable(logging.Formatter):
    """Replaces unprintable characters: text of a client or server might break a line, forge one or suppress one."""

    def format(self, record: logging.LogRecord) -> str:
        # in the record itself, since the journal's handler sends all its fields
        record.msg, record.args = errors.printable(record.getMessage()), None
        return super().format(record)

    def formatException(self, ei: Any) -> str:
        return "\n".join(errors.printable(line) for line in super().formatException(ei).split("\n"))


def set_up() -> None:
    """Log to the journal where there is one, else to stdout and stderr."""
    handlers = [JournalHandler(SYSLOG_IDENTIFIER=IDENTIFIER)] if JOURNAL.exists() else _streams()
    for handler in handlers:
        handler.addFilter(_Subject())
        handler.setFormatter(_Printable("%(subject)s%(message)s"))
    root = logging.getLogger()
    root.handlers[:] = handlers
    root.setLevel(logging.DEBUG if os.environ.get("SSHFS_PLUGIN_DEBUG") else logging.INFO)


def _streams() -> list[logging.Handler]:
    """Log to stderr from warnings up only: Docker logs each line of a managed plugin's stderr as an error."""
    news, trouble = logging.StreamHandler(sys.stdout), logging.StreamHandler(sys.stderr)
    news.addFilter(lambda record: record.levelno < logging.WARNING)
    trouble.setLevel(logging.WARNING)
    return [news, trouble]


def own_log() -> str:
    """Return where the service logs to, as the begin of a hint."""
    return "journalctl -u docker-volume-sshfs" if JOURNAL.exists() else PRINTED


def note(text: str, event: Event, volume: str) -> None:
    """Tell the journal, where there is one, what an administrator has done to a volume by a command."""
    if JOURNAL.exists():
        systemd_journal.send(text, MESSAGE_ID=event.value, VOLUME=volume, SYSLOG_IDENTIFIER=IDENTIFIER)


def status(text: str) -> None:
    """Have systemd show a line in ``systemctl status``; without systemd, do nothing."""
    with contextlib.suppress(OSError):
        daemon.notify(f"STATUS={text}")


def ready() -> None:
    """Tell systemd that requests are answered from now on."""
    daemon.notify("READY=1")


def alive() -> None:
    """Tell systemd that they still are."""
    daemon.notify("WATCHDOG=1")
