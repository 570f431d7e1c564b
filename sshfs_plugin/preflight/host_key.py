# SPDX-License-Identifier: MIT
"""The check of the host key: whether the server is the one that it claims to be."""

import enum
import shlex

from sshfs_plugin import errors
from sshfs_plugin.ssh.known_hosts import HostKey, KnownHosts, pattern
from sshfs_plugin.volume import HostKeyCheck, Remote, Volume

HOST_KEY_KINDS = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"),
)
"""Families of host keys, in the order in which they are asked for.

As in ssh, ssh-rsa, the same key with a signature by SHA-1, is asked for only where ``HostKeyAlgorithms`` lets it in.
"""


class Standing(enum.Enum):
    """How a host key that a server shows compares with the known ones of that server."""

    KNOWN = "known"
    NEW = "new"
    CHANGED = "changed"


def families(known: tuple[HostKey, ...]) -> list[tuple[str, ...]]:
    """Return the kinds of host keys in the order in which to ask for them: those of which a key is known come first.

    As for ssh, a revoked key is not known.
    """
    good = [key for key in known if not key.revoked]
    return sorted(HOST_KEY_KINDS, key=lambda kinds: not any(key.kind in kinds for key in good))


def _standing(shown: HostKey, known: tuple[HostKey, ...]) -> Standing:
    """Compare a host key with the known ones as ssh does, except that a key of another kind counts as changed.

    To ssh such a key is new: with accept-new, an impostor need only show a kind of key that was never seen before.
    """
    if any(key.blob == shown.blob for key in known):
        return Standing.KNOWN
    return Standing.CHANGED if any(not key.revoked for key in known) else Standing.NEW


def require_unbroken(remote: Remote, shown: HostKey, known: tuple[HostKey, ...], known_hosts: KnownHosts) -> Standing:
    """Return whether a host key is known or new; new means that no key of the server is known.

    Args:
        remote: The server.
        shown: The key that it shows.
        known: The known keys of that server.
        known_hosts: The known hosts that have them.

    Raises:
        HostKeyChanged: Other keys of the server are known, or this one is marked as revoked.
    """
    require_not_revoked(remote, shown, known)
    verdict = _standing(shown, known)
    if verdict is Standing.CHANGED:
        before = min((key for key in known if not key.revoked), key=lambda key: key.kind != shown.kind)
        raise errors.HostKeyChanged(
            f"the host key of {remote.server} has changed from {before.fingerprint} to {shown.fingerprint}",
            "somebody may be in between; if the server was set up anew, remove its old key: "
            + known_hosts.removal(remote.host, remote.port, before),
        )
    return verdict


def is_revoked(shown: HostKey, known: tuple[HostKey, ...]) -> bool:
    """Tell whether a host key is among the known ones of its server as a revoked one, whatever else is said of it."""
    return any(key.revoked and key.blob == shown.blob for key in known)


def require_not_revoked(remote: Remote, shown: HostKey, known: tuple[HostKey, ...]) -> None:
    """Raise HostKeyChanged for a host key that is marked as revoked."""
    if is_revoked(shown, known):
        raise errors.HostKeyChanged(
            f"the host key of {remote.server}, {shown.fingerprint}, is marked as revoked",
            "do not trust this server before its administrator has explained it",
        )


def require_trusted(volume: Volume, shown: HostKey, known: tuple[HostKey, ...], known_hosts: KnownHosts) -> str:
    """Return in a few words why a volume may trust a host key, or raise an error.

    Args:
        volume: The volume, whose options say what is to be trusted.
        shown: The key that the server shows.
        known: The known keys of that server.
        known_hosts: The known hosts that have them.

    Raises:
        HostKeyNotPinned: It is not the key that the option ``host_key`` pins.
        HostKeyChanged: Other keys of the server are known, or this one is marked as revoked.
        HostKeyUnknown: No key of the server is known, and ``host_key_check=yes`` demands one.
    """
    remote = volume.remote
    if volume.pinned_host_key:
        if shown.fingerprint == volume.pinned_host_key:
            require_not_revoked(remote, shown, known)
            return "pinned"
        raise errors.HostKeyNotPinned(
            f"the host key of {remote.server} is {shown.fingerprint}, not the pinned {volume.pinned_host_key}",
            "either this is another server, or the option 'host_key' is out of date",
        )
    if volume.host_key_check is HostKeyCheck.NO:
        return "not checked"
    verdict = require_unbroken(remote, shown, known, known_hosts)
    if verdict is Standing.NEW and volume.host_key_check is HostKeyCheck.YES:
        raise errors.HostKeyUnknown(
            f"the host key of {remote.server} is not known, it is {shown.fingerprint}",
            f"verify it on the server (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then {_trust(volume)}"
            f"{_pin(volume, shown)}, or leave host_key_check=yes out there to trust it",
        )
    return verdict.value


def _pin(volume: Volume, key: HostKey) -> str:
    """Return how a host key becomes the only one that a volume trusts, or volumes of its remote."""
    if volume.remote_name:
        return f"write host_key = {key.fingerprint} into the file of the remote '{volume.remote_name}'"
    return f"say -o host_key={key.fingerprint} for a new volume"


def _trust(volume: Volume) -> str:
    """Return the command by which a volume's server becomes known; empty if it would not get there."""
    if volume.jump:
        return ""
    name = pattern(volume.remote.host, volume.remote.port)
    return f"sudo docker-volume-sshfs host-key trust {shlex.quote(name)}, or "
