# SPDX-License-Identifier: MIT
"""Finds the running service, wherever its socket is."""

from collections.abc import Sequence

from sshfs_plugin.deadline import Deadline
from sshfs_plugin.discovery import docker
from sshfs_plugin.discovery.client import Service
from sshfs_plugin.settings import Settings


def reach(settings: Settings, listens: Sequence[str], *, seconds: float) -> Service:
    """Return the service where its socket listens, with the certificates that Docker uses if it takes any.

    Args:
        settings: This host's, with the usual path of the socket.
        listens: The addresses of the socket unit; empty if systemd can't tell.
        seconds: How long to wait for the service, for all calls together.
    """
    deadline = Deadline.after(seconds)
    if not listens:
        return Service(address=f"unix://{settings.socket}", deadline=deadline)
    found = docker.find(settings.root)
    if found and found.leads_to(listens):
        return Service(address=found.address, tls=found.tls, deadline=deadline)
    return Service(address=listens[0], deadline=deadline)
