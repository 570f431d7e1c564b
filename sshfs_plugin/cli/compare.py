# SPDX-License-Identifier: MIT
"""``status --compare``: tells whether another host made its volumes with the same options as this one."""

import json
from collections.abc import Iterator, Mapping
from typing import TextIO

from sshfs_plugin import errors
from sshfs_plugin.cli import terminal
from sshfs_plugin.cli.exits import Exit
from sshfs_plugin.cli.status import SYSTEMD_SECONDS, listed, shown_options
from sshfs_plugin.mounts import systemd
from sshfs_plugin.settings import Settings
from sshfs_plugin.volume import VolumeName


def compare(settings: Settings, other: TextIO) -> Exit:
    """Print a line for each volume that is missing or has other options on one side; return FINE if there is none.

    Args:
        settings: This host's.
        other: What ``status --json`` has printed on the other host.

    Raises:
        InvalidRequest: It is something else.
        ServiceError: The service can't be asked; the error says what to do.
    """
    there = _read(other)
    listens = systemd.listening(systemd.SOCKET, seconds=SYSTEMD_SECONDS)
    here = {volume.name: shown_options(settings, VolumeName(volume.name)) for volume in listed(settings, listens)}
    lines = list(_differences(here, there))
    for line in lines:
        terminal.say(line)
    return Exit.BROKEN if lines else Exit.FINE


def _read(other: TextIO) -> dict[str, dict[str, str]]:
    """Return the options of each volume on the other host. Raises InvalidRequest."""
    try:
        return {str(volume["name"]): dict(volume["options"]) for volume in json.load(other)["volumes"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise errors.InvalidRequest(
            f"{other.name} is not what docker-volume-sshfs status --json prints",
            "write it anew on the other host, with the same version of the package",
        ) from None


def _differences(here: Mapping[str, Mapping[str, str]], there: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for name in sorted({*here, *there}):
        if name not in there:
            yield f"{name}: only here"
        elif name not in here:
            yield f"{name}: only there"
        elif not here[name] or not there[name]:
            # what can't be read may differ
            places = " and ".join(place for place, side in (("here", here), ("there", there)) if not side[name])
            yield f"{name}: its options can't be read {places}"
        elif parts := [
            f"{option} is {_shown(here[name], option)} here and {_shown(there[name], option)} there"
            for option in sorted({*here[name], *there[name]})
            if here[name].get(option) != there[name].get(option)
        ]:
            yield f"{name}: {', '.join(parts)}"


def _shown(options: Mapping[str, str], option: str) -> str:
    return options.get(option, "not given")
