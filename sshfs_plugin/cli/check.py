# SPDX-License-Identifier: MIT
"""``check``: the ladder, climbed before anybody touches Docker, with a line for each rung."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.cli import terminal
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.mounts.supervisors import supervisor
from sshfs_plugin.mounts.units import Units
from sshfs_plugin.preflight import Ladder, Note, Rung
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.credentials import UNSEEN, Keyring, is_below_tmp
from sshfs_plugin.ssh.known_hosts import KnownHosts
from sshfs_plugin.volume import Volume

CLIMB_SECONDS = 100.0
"""As long as Docker would wait."""

_FILES = ("IdentityFile", "CertificateFile", "password_file", "known_hosts", "uidfile", "gidfile")


@dataclass(frozen=True, slots=True)
class _Break:
    rung: Rung
    seconds: float
    error: errors.PluginError


class Ticks:
    """Prints a line for each rung that holds, once, and remembers those that broke."""

    def __init__(self) -> None:
        self._held: set[Rung] = set()
        self._breaks: list[_Break] = []

    @contextmanager
    def __call__(self, rung: Rung) -> Iterator[Note]:
        """Watch one rung."""
        found: list[str] = []
        started = time.monotonic()
        try:
            yield found.append
        except errors.PluginError as error:
            self._breaks.append(_Break(rung, time.monotonic() - started, error))
            raise
        if rung not in self._held:
            self._held.add(rung)
            terminal.step(rung.value, time.monotonic() - started, ", ".join(found), holds=True)

    def mark(self, error: errors.PluginError) -> None:
        """Print the line of the rung that an error stems from."""
        for broken in self._breaks:
            if broken.error is error:
                terminal.step(broken.rung.value, broken.seconds, "", holds=False)


def check(settings: Settings, volume: Volume, *, writes: bool) -> None:
    """Climb the ladder for a volume; its host key is shown and not remembered.

    Args:
        settings: This host's.
        volume: On record or not.
        writes: Whether to make and remove a file on the server.

    Raises:
        InvalidOption: An option names a file that the service does not see.
        CredentialsError, PreflightError: The first rung that broke.
    """
    ticks = Ticks()
    ladder = Ladder(
        keyring=Keyring.of(settings),
        known_hosts=KnownHosts.of(settings),
        witness=ticks,
        remembers=False,
        writes=writes,
    )
    _require_seen_by_the_service(settings, volume)
    terminal.say(f"{volume.remote.source} port {volume.remote.port}")
    try:
        ladder.climb(volume, Deadline.after(CLIMB_SECONDS))
    except errors.PluginError as error:
        ticks.mark(error)
        raise


def _require_seen_by_the_service(settings: Settings, volume: Volume) -> None:
    """Let pass only what docker volume create would find: the unit gives the service a /tmp of its own."""
    if not isinstance(supervisor(settings), Units):
        return
    for name in _FILES:
        file = volume.options.get(name, "")
        if is_below_tmp(Path(file)):
            raise errors.InvalidOption(name, f"names {file}, and {UNSEEN}")
