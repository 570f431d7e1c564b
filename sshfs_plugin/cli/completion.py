# SPDX-License-Identifier: MIT
"""What shells suggest for an argument; a user who may not read the records gets no suggestions and no error."""

from collections.abc import Iterator

from sshfs_plugin.options.remotes import Remotes
from sshfs_plugin.options.table import REFUSED, TABLE
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.known_hosts import KnownHosts
from sshfs_plugin.state.records import VolumeRecords


def volumes() -> list[str]:
    """Return the names of the volumes on record."""
    return VolumeRecords.of(Settings.from_environment()).names()


def remotes() -> list[str]:
    """Return the names of the remotes."""
    return Remotes.of(Settings.from_environment()).names()


def servers() -> list[str]:
    """Return the servers whose host keys the plugin has accepted."""
    return KnownHosts.of(Settings.from_environment()).names()


def option_names() -> list[str]:
    """Return the names of all options, refused ones included, since these can be asked about, too."""
    return [*(option.name for option in TABLE), *REFUSED]


def options_to_type() -> list[str]:
    """Return what may follow ``-o``: switches, choices with each of their values, and ``name=`` for other options."""
    return [text for option in TABLE for text in _typed(option.name, option.value)]


def _typed(name: str, value: str) -> Iterator[str]:
    if not value:
        yield name
    elif "|" in value:
        yield from (f"{name}={choice}" for choice in value.split("|"))
    else:
        yield f"{name}="
