# SPDX-License-Identifier: MIT
"""The algorithms that the preflight offers: those that Debian's ssh takes by default, changed by a volume's options.

So ssh can use a server that has passed. paramiko knows fewer algorithms than ssh. If it knows none of those that a
volume wants, the preflight offers the default ones all the same, and ssh alone insists on the volume's.
"""

import fnmatch
from collections.abc import Mapping, Sequence

from sshfs_plugin.preflight.transport import Transport

_NOT_IN_SSH = frozenset(
    (
        "ssh-rsa",
        "ssh-rsa-cert-v01@openssh.com",
        "ssh-dss",
        "diffie-hellman-group-exchange-sha1",
        "diffie-hellman-group14-sha1",
        "diffie-hellman-group1-sha1",
        "aes128-cbc",
        "aes192-cbc",
        "aes256-cbc",
        "3des-cbc",
        "hmac-md5",
        "hmac-sha1-96",
        "hmac-md5-96",
    )
)

_KEYWORDS = {"Ciphers": "ciphers", "MACs": "digests", "KexAlgorithms": "kex", "HostKeyAlgorithms": "key_types"}


def transport(connection: object, keywords: Mapping[str, str]) -> Transport:
    """Return a transport that offers the algorithms that a volume may use.

    Args:
        connection: A connected socket.
        keywords: The volume's keywords of ssh_config, with their values.
    """
    fresh = Transport(connection)
    for keyword, attribute in _KEYWORDS.items():
        options = fresh.get_security_options()
        setattr(options, attribute, chosen(getattr(options, attribute), keywords.get(keyword, "")))
    return fresh


def is_in_order(listed: str) -> bool:
    """Tell whether a list of ssh_config(5) says itself which algorithm comes first.

    Else ssh asks first for those kinds of host keys of which it knows a key of the server.
    """
    return bool(listed) and not listed.startswith(("+", "-"))


def _read(listed: str) -> tuple[str, list[str]]:
    """Return the sign with which a list begins, if it has one, and its patterns."""
    sign = listed[0] if listed[:1] in ("+", "-", "^") else ""
    return sign, listed.removeprefix(sign).split(",")


def chosen(supported: Sequence[str], listed: str) -> tuple[str, ...]:
    """Apply a list of ssh_config(5) to the algorithms that paramiko supports; the usual ones if it leaves none."""
    return left(supported, listed) or left(supported, "")


def left(supported: Sequence[str], listed: str) -> tuple[str, ...]:
    """Apply a list of ssh_config(5), such as ``+a,b``, to some algorithms, and return what it leaves in its order."""
    usual = [name for name in supported if name not in _NOT_IN_SSH]
    if not listed:
        return tuple(usual)
    sign, patterns = _read(listed)
    named = [name for pattern in patterns for name in fnmatch.filter(supported, pattern)]
    match sign:
        case "+":
            wanted = [*usual, *named]
        case "-":
            wanted = [name for name in usual if name not in named]
        case "^":
            wanted = [*named, *usual]
        case _:
            wanted = named
    return tuple(dict.fromkeys(wanted))
