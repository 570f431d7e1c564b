# SPDX-License-Identifier: MIT
"""Telling systemd that calls are answered: a service that hangs is started again (WatchdogSec=)."""

import os
import threading
from contextlib import suppress

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.discovery.client import Service
from sshfs_plugin.host import journal

MICROSECONDS = 1_000_000


def start(addresses: tuple[str, ...], *, has_tls: bool) -> threading.Event:
    """Ask this service for its volumes from now on, and tell systemd after each answer, if systemd wants to know.

    Args:
        addresses: Where it listens.
        has_tls: Whether a certificate is asked for there, which this process does not have. Then nothing is asked.

    Returns:
        An event; set it to end the watchdog.
    """
    end = threading.Event()
    limit = int(os.environ.get("WATCHDOG_USEC", "0")) / MICROSECONDS
    if limit:
        asked = "" if has_tls else next(iter(addresses), "")
        threading.Thread(target=_watch, args=(asked, limit, end), name="watchdog", daemon=True).start()
    return end


def _watch(address: str, limit: float, end: threading.Event) -> None:
    while not end.wait(limit / 4):
        # an error has been logged where it happened, and a service that does not answer is what systemd is to see
        with suppress(errors.ServiceError):
            if address:
                Service(address=address, deadline=Deadline.after(limit / 2)).volumes()
            journal.alive()
