# SPDX-License-Identifier: MIT
"""Lets the command see the credentials that systemd hands to the service, which are there only while that runs."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sshfs_plugin import errors
from sshfs_plugin.cli.status import SERVICE_SECONDS, SYSTEMD_SECONDS
from sshfs_plugin.discovery.client import Service
from sshfs_plugin.mounts import systemd
from sshfs_plugin.mounts.supervisors import supervisor
from sshfs_plugin.mounts.systemd import SystemdSupervisor
from sshfs_plugin.settings import Settings
from sshfs_plugin.volume import Credentials


def are_hidden(settings: Settings, used: Iterable[Credentials]) -> bool:
    """Start the service if secrets are used, as a mount would; tell whether its credentials can't be seen all the same.

    Args:
        settings: This host's.
        used: What is logged in with.
    """
    names_secret = any(each.secret or each.passphrase_secret for each in used)
    return names_secret and not settings.credentials.exists() and not _runs(settings)


@contextmanager
def explained(*, hidden: bool) -> Iterator[None]:
    """Let an error about a missing secret say that it may be one of those that can't be seen, if there are such."""
    try:
        yield
    except errors.SecretMissing as error:
        if hidden:
            error.hint = (
                "if it is a credential of the service, which does not run, systemctl start docker-volume-sshfs; "
                f"else {error.hint}"
            )
        raise


def _runs(settings: Settings) -> bool:
    """Start the service by a question at its socket, and tell whether it runs."""
    if not isinstance(supervisor(settings), SystemdSupervisor):
        return True
    listens = systemd.listening(systemd.SOCKET, seconds=SYSTEMD_SECONDS)
    try:
        Service.of(settings, listens, seconds=SERVICE_SECONDS).volumes()
    except errors.ServiceRefusal:
        return True
    except errors.ServiceError:
        return False
    return True
