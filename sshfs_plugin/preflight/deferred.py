# SPDX-License-Identifier: MIT
"""The preflight as the service has it, which starts without paramiko."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from sshfs_plugin import errors
from sshfs_plugin.preflight.checks import Observer, unobserved
from sshfs_plugin.ssh.credentials import Keyring, Login
from sshfs_plugin.ssh.known_hosts import KnownHosts
from sshfs_plugin.volume import Volume, VolumeName

if TYPE_CHECKING:
    from sshfs_plugin.preflight.preflight import Preflight, Prepared


_MODULE = Path(__file__).with_name("preflight.py")


class DeferredPreflight:
    """A preflight that is imported when the first volume is to be checked.

    With paramiko that takes 0.1 s and 8 MB, and the service is started by a call that waits for it.

    Args:
        keyring: The keys and passwords of this host.
        known_hosts: The known hosts of this host.
        observer: Is told of each check.
    """

    def __init__(self, *, keyring: Keyring, known_hosts: KnownHosts, observer: Observer = unobserved) -> None:
        self._keyring, self._known_hosts, self._observer = keyring, known_hosts, observer
        self._importing, self._installed = threading.Lock(), _installed()
        self._imported: Preflight | None = None

    def prepare(self, volume: Volume) -> "Prepared":
        """Make the checks that need no server, as ``Preflight.prepare`` does.

        Raises:
            BeingUpgraded: What would be imported is of another version than this process.
        """
        with self._importing:
            if not self._imported:
                if _installed() != self._installed:
                    raise errors.BeingUpgraded
                from sshfs_plugin.preflight.kept import KeptConnections
                from sshfs_plugin.preflight.preflight import Preflight

                self._imported = Preflight(
                    keyring=self._keyring,
                    known_hosts=self._known_hosts,
                    observer=self._observer,
                    kept=KeptConnections(),
                )
        return self._imported.prepare(volume)

    def login(self, volume: Volume) -> Login:
        """Read a volume's keys or password, for a mount without a preflight.

        Raises:
            CredentialsError: It can't be used.
        """
        return self._keyring.login_of(volume)

    def unpin(self, name: VolumeName) -> None:
        """Remove a volume's pinned host key."""
        self._known_hosts.unpin(name)


def _installed() -> tuple[int, int] | None:
    """Return what tells a file from the one that takes its place in an upgrade; None if there is none."""
    try:
        found = _MODULE.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
