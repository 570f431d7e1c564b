# SPDX-License-Identifier: MIT
"""THE table of options: what each is called, what it means, which values it can have and where it goes.

Options are checked by it, and the documentation of options is made from it. A value that no row's check has accepted
never reaches a command line or a configuration file.
"""

from sshfs_plugin import errors
from sshfs_plugin.host import journal
from sshfs_plugin.options.table import access, connection, files, login, remote
from sshfs_plugin.options.table.row import Destination, Option, Shape, Topic, Value
from sshfs_plugin.options.table.unsupported import ALWAYS_SO, HARMLESS, IGNORED, REFUSED
from sshfs_plugin.options.values import known_hosts_file, path, path_for_sshfs, secret_path, socket

__all__ = [
    "CREDENTIALS",
    "FILES",
    "IGNORED",
    "NAMES",
    "REFUSED",
    "TABLE",
    "TOPICS",
    "TRUST",
    "Destination",
    "Option",
    "Shape",
    "Topic",
    "Value",
]

TOPICS: tuple[Topic, ...] = (
    remote.TOPIC,
    login.LOGIN,
    login.HOST_KEYS,
    access.TOPIC,
    files.BEHAVIOUR,
    files.CACHING,
    connection.TOPIC,
)

TABLE: tuple[Option, ...] = tuple(option for topic in TOPICS for option in topic.rows)

CREDENTIALS = frozenset(option.name for option in login.LOGIN.rows)
"""Options that say what to log in with."""

TRUST = frozenset(
    (
        *("user", "port", "ProxyJump", "AddressFamily", "BindAddress", "BindInterface"),
        *(option.name for option in login.HOST_KEYS.rows),
        *("HostKeyAlgorithms", "KexAlgorithms", "RequiredRSASize"),
    )
)
"""Options that say, beside the host, to whom and which way credentials are sent, and by what that server proves itself.

(``Ciphers`` and ``MACs`` matter only after that. ``check=never`` leaves a part of the proof out.)
"""

FILES: tuple[str, ...] = tuple(
    option.name for option in TABLE if option.canonical in (path, secret_path, known_hosts_file, socket, path_for_sshfs)
)
"""Options whose value is the path of a file or a socket on this host."""

NAMES: tuple[str, ...] = tuple(name for option in TABLE for name in option.spellings)

_BY_NAME = {name.casefold(): option for option in TABLE for name in option.spellings}
_NEGATIONS = {name.casefold() for option in TABLE for name in option.negations}
_REFUSED_BY_NAME = {name.casefold(): (name, reason) for name, reason in REFUSED.items()}
_IGNORED_BY_NAME = {name.casefold(): reason for name, reason in IGNORED.items()}
_HARMLESS = {(name.casefold(), value) for name, value in HARMLESS.items()}


def lookup(name: str) -> Option:
    """Find an option by any of its spellings; upper and lower case are the same, as in ssh_config.

    Raises:
        RefusedOption: A volume must not have it; the error says why.
        UnknownOption: There is none of that name; the error suggests the nearest one.
    """
    folded = name.casefold()
    if folded in _REFUSED_BY_NAME:
        raise errors.RefusedOption(*_REFUSED_BY_NAME[folded])
    if folded not in _BY_NAME:
        raise errors.UnknownOption(name, NAMES, _page())
    return _BY_NAME[folded]


def _page() -> str:
    """Return what lists the options: a managed plugin, which has no journal either, brings no man page."""
    return "man docker-volume-sshfs" if journal.JOURNAL.exists() else "options.md in the plugin's documentation"


def negates(name: str) -> bool:
    """Tell whether a spelling switches its option off."""
    return name.casefold() in _NEGATIONS


def why_ignored(name: str, value: str = "") -> str:
    """Return why an option with this value has no effect on a volume; empty if it is not one of these."""
    folded = name.casefold()
    if folded.startswith("x-"):
        return "it is for the tools that read /etc/fstab"
    return ALWAYS_SO if (folded, value.casefold()) in _HARMLESS else _IGNORED_BY_NAME.get(folded, "")


def can_begin(text: str) -> bool:
    """Tell whether a text can be an item in a list of options: the name of a switch, or ``name=value``."""
    name, equals, _ = text.partition("=")
    folded = name.strip().casefold()
    if folded in _BY_NAME:
        return bool(equals) or not _BY_NAME[folded].value
    return folded in _REFUSED_BY_NAME or bool(why_ignored(folded))
