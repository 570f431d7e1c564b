# SPDX-License-Identifier: MIT
"""``check``: makes the preflight for a volume, with or without a record, and prints a line for each check."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.cli import secrets, terminal
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.host import local_files
from sshfs_plugin.mounts.supervisors import supervisor
from sshfs_plugin.mounts.systemd import SystemdSupervisor
from sshfs_plugin.options.table import FILES
from sshfs_plugin.preflight.checks import Check, Note
from sshfs_plugin.preflight.preflight import Preflight
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.credentials import Keyring
from sshfs_plugin.ssh.known_hosts import KnownHosts
from sshfs_plugin.volume import Volume

CHECK_SECONDS = 100.0
"""As long as a Create of Docker's may take."""


@dataclass(frozen=True, slots=True)
class _Failure:
    check: Check
    seconds: float
    error: errors.PluginError


class CheckPrinter:
    """Prints a line for each check that has passed, once, and remembers those that have failed."""

    def __init__(self) -> None:
        self._passed: set[Check] = set()
        self._failures: list[_Failure] = []

    @contextmanager
    def __call__(self, check: Check) -> Iterator[Note]:
        """Observe one check."""
        found: list[str] = []
        started = time.monotonic()
        try:
            yield found.append
        except errors.PluginError as error:
            self._failures.append(_Failure(check, time.monotonic() - started, error))
            raise
        if check not in self._passed:
            self._passed.add(check)
            terminal.step(check.value, time.monotonic() - started, ", ".join(found), holds=True)

    def mark(self, error: errors.PluginError) -> None:
        """Print the line of the check that raised an error."""
        for failure in self._failures:
            if failure.error is error:
                terminal.step(failure.check.value, failure.seconds, "", holds=False)


def check(settings: Settings, volume: Volume, *, writes: bool) -> None:
    """Make the preflight for a volume; its host key is shown and not remembered.

    Args:
        settings: This host's.
        volume: The volume, which may be on record or not.
        writes: Whether to make and remove a file on the server.

    Raises:
        InvalidOption: An option names a file that the service does not see.
        CredentialsError, PreflightError: The first check that has failed.
    """
    printer = CheckPrinter()
    preflight = Preflight(
        keyring=Keyring.of(settings),
        known_hosts=KnownHosts.of(settings),
        observer=printer,
        remembers=False,
        writes=writes,
    )
    require_seen_by_the_service(settings, volume)
    terminal.say(f"{volume.remote.source} port {volume.remote.port}")
    are_hidden = secrets.are_hidden(settings, (each.credentials for each in (volume, *volume.jumps)))
    try:
        with secrets.explained(hidden=are_hidden):
            preflight.run(volume, Deadline.after(CHECK_SECONDS))
    except errors.PluginError as error:
        printer.mark(error)
        raise


def require_seen_by_the_service(settings: Settings, volume: Volume) -> None:
    """See whether the service finds the files that a volume's options name; it has a /tmp of its own.

    Raises:
        InvalidOption: One is below /tmp.
    """
    if not isinstance(supervisor(settings), SystemdSupervisor):
        return
    for each, name in ((each, name) for each in (volume, *volume.jumps) for name in FILES):
        file = each.options.get(name, "")
        if why := local_files.unseen(Path(file)):
            raise errors.InvalidOption(name, f"names {file}, which {why}: {local_files.MOVE_IT}")
