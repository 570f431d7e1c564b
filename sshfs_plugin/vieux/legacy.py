# SPDX-License-Identifier: MIT
"""What vieux/sshfs and its forks have left on a host: their volumes, and what Docker knows of the plugins themselves.

Their files are read and never written.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sshfs_plugin import errors
from sshfs_plugin.discovery import docker
from sshfs_plugin.settings import PREFIX

_STATE_FILE = "sshfs-state.json"
_STATE_INSIDE, _KEYS_INSIDE = "/mnt/state", "/root/.ssh"
_SOCKET = "sshfs.sock"
_USUAL_STATE = Path("var/lib/docker/plugins") / _STATE_FILE

_SSHCMDS = ("Sshcmd", "SSHCmd")
"""The field of sshcmd in vieux/sshfs, and in the fork of ucphhpc. Options without a field are in ``Options``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """An installed managed plugin, vieux/sshfs or a fork of it.

    Attributes:
        name: Its name as Docker lists it, with its tag.
        state: Its state file on this host.
        keys: The directory on this host that the plugin sees as ``/root/.ssh``; None if there is none.
    """

    name: str
    state: Path
    keys: Path | None


def installed(root: Path = Path("/")) -> list[Installed]:
    """Return vieux/sshfs and its forks, whatever they are called; their socket and state directory tell."""
    return list(_installed(root))


def _installed(root: Path) -> Iterator[Installed]:
    for _, plugin in docker.managed(root):
        with suppress(KeyError, TypeError, AttributeError):
            config = plugin["Config"]
            is_ours = any(variable["Name"].startswith(PREFIX) for variable in config["Env"] or [])
            if is_ours or config["Interface"]["Socket"] != _SOCKET:
                continue
            sources = {mount["Destination"]: mount["Source"] for mount in plugin["Settings"]["Mounts"]}
            if state := sources.get(_STATE_INSIDE):
                keys = sources.get(_KEYS_INSIDE)
                yield Installed(name=plugin["Name"], state=Path(state, _STATE_FILE), keys=Path(keys) if keys else None)


def state_file(root: Path = Path("/")) -> Path:
    """Return the state file of the installed plugin; if there is none, the usual path of that file."""
    return next((plugin.state for plugin in _installed(root)), root / _USUAL_STATE)


def volumes(file: Path) -> dict[str, dict[str, str]]:
    """Read a state file.

    Returns:
        The options of each volume by its name, as they were typed after ``-o``.

    Raises:
        LegacyStateUnusable: It does not exist, can't be read, or is something else.
    """
    try:
        state = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise errors.LegacyStateUnusable(
            f"there is no state file {file}", "say --state FILE if the plugin's state.source was another directory"
        ) from None
    except OSError as error:
        raise errors.LegacyStateUnusable(
            f"cannot read the state file {file}, {error.strerror}", "is it a file that root can read?"
        ) from None
    except (ValueError, RecursionError):
        raise errors.LegacyStateUnusable(
            f"the state file {file} is not JSON", "it may be torn: mend a copy of it and say --state COPY"
        ) from None
    try:
        return {name: _options(volume) for name, volume in state.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise errors.LegacyStateUnusable(
            f"{file} is no state file of vieux/sshfs or of a fork of it",
            "say --state FILE with the one that the plugin wrote",
        ) from None


def _options(volume: Mapping[str, Any]) -> dict[str, str]:
    (sshcmd,) = (volume[name] for name in _SSHCMDS if name in volume)
    fields = {
        "sshcmd": sshcmd,
        "port": volume.get("Port", ""),
        "IdentityFile": volume.get("IdentityFile", ""),
        "password": volume.get("Password", ""),
    }
    listed = [option.partition("=") for option in volume.get("Options") or []]
    given = {name: text for name, text in fields.items() if text} | {name: text for name, _, text in listed}
    if not all(isinstance(text, str) for text in given.values()):
        raise TypeError("every option was text")
    return given
