# SPDX-License-Identifier: MIT
"""With which algorithm ssh signs for a key: its own kind, except that an RSA key has several.

The rules are those of ssh's key_sig_algorithm(), see docs/facts.md, "How an RSA key signs". paramiko has others, by
which a key could be refused here that lets ssh in, or let in where ssh leaves it out.
"""

import re

from sshfs_plugin.preflight import algorithms
from sshfs_plugin.preflight.transport import Transport

RSA, _CERTIFIED_RSA = "ssh-rsa", "ssh-rsa-cert-v01@openssh.com"
"""The kinds of the keys, which are also what their signatures with SHA-1 are called."""

_SHA2 = ("rsa-sha2-512", "rsa-sha2-256")

_CERTIFIES_WITH_SHA1 = re.compile(r"SSH-[^-]+-OpenSSH_([2-6]\.|7\.[0-7])")
_ANNOUNCES_NO_SHA2 = re.compile(r"SSH-[^-]+-OpenSSH_7\.4")


def algorithm(kind: str, server: Transport, accepted: str) -> str:
    """Return the algorithm with which ssh would sign for a key; empty if it leaves the key out.

    Args:
        kind: The kind of the key or certificate.
        server: The connection, at which a login was tried: the server has announced by then what it takes.
        accepted: The volume's ``PubkeyAcceptedAlgorithms``; empty for the default.
    """
    announced = _announced(kind, server)
    if announced is None:
        return kind if kind in _accepted(kind, accepted) else ""
    suffix = kind.removeprefix(RSA)
    return next((name for name in _accepted(kind, accepted) if name.removesuffix(suffix) in announced), "")


def why_left_out(name: str, kind: str, server: Transport, accepted: str) -> str:
    """Return why ssh leaves a key out, with what to do about it; empty if it does not.

    Args:
        name: What the key is called.
        kind: As of :func:`algorithm`.
        server: As of :func:`algorithm`.
        accepted: As of :func:`algorithm`.
    """
    if algorithm(kind, server, accepted):
        return ""
    if _accepted(kind, accepted):
        if algorithm(kind, server, f"+{kind}") == kind:
            what = "RSA keys" if kind == RSA else "certificates of RSA keys"
            return (
                f"the server does not say that it takes {what} with SHA-2, which leaves out {name}: use an ed25519 "
                f"key, or -o PubkeyAcceptedAlgorithms=+{kind}"
            )
        if not algorithm(kind, server, ""):
            return f"the server says that it takes no RSA keys, which leaves out {name}: use an ed25519 key"
    return f"PubkeyAcceptedAlgorithms leaves out {name}, change that option or the key"


def _accepted(kind: str, accepted: str) -> tuple[str, ...]:
    """Return the algorithms for a kind of key that a volume accepts, in its order."""
    several = tuple(f"{name}{kind.removeprefix(RSA)}" for name in _SHA2) if kind in (RSA, _CERTIFIED_RSA) else ()
    return algorithms.left((*several, kind), accepted)


def _announced(kind: str, server: Transport) -> set[str] | None:
    """Return the algorithms that a server says it takes; None if it says nothing that ssh heeds for a kind of key."""
    if kind not in (RSA, _CERTIFIED_RSA):
        return None
    if kind == _CERTIFIED_RSA and _CERTIFIES_WITH_SHA1.match(server.remote_version):
        return None
    announced = server.server_extensions.get("server-sig-algs")
    if announced is None:
        return None
    if kind == RSA and _ANNOUNCES_NO_SHA2.match(server.remote_version):
        return set(_SHA2)
    return set(announced.decode("ascii", "replace").split(","))
