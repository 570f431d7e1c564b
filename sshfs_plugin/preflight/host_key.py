# SPDX-License-Identifier: MIT
"""The rung that asks whether the server is the one that it claims to be, judged as ssh would."""

from sshfs_plugin import errors
from sshfs_plugin.known_hosts import HostKey, pattern
from sshfs_plugin.volume import HostKeyCheck, Remote, Volume

HOST_KEY_KINDS = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256"),
)
"""Families of host keys, in the order in which they are asked for; ssh-rsa with SHA-1 is refused by ssh as well."""


def any_known(known: tuple[HostKey, ...], kinds: tuple[str, ...]) -> bool:
    """Tell whether a known key is of one of these kinds, so that a server is asked for it first."""
    return any(key.kind in kinds or (key.kind == "ssh-rsa" and "rsa-sha2-512" in kinds) for key in known)


def judge(volume: Volume, shown: HostKey, known: tuple[HostKey, ...]) -> errors.HostKeyError | None:
    """Judge a host key as ssh would, but take none of another kind than those that are known.

    To ssh such a key is new, so with accept-new a stranger need only show a kind that was never seen before.
    """
    remote = volume.remote
    if volume.pinned_host_key:
        if shown.fingerprint == volume.pinned_host_key:
            return None
        return errors.HostKeyNotPinned(
            f"the host key of {remote.server} is {shown.fingerprint}, not the pinned {volume.pinned_host_key}",
            "either this is another server, or the option 'host_key' is out of date",
        )
    if volume.host_key_check is HostKeyCheck.NO:
        return None
    same = [key for key in known if key.blob == shown.blob]
    if any(key.revoked for key in same):
        return errors.HostKeyChanged(
            f"the host key of {remote.server}, {shown.fingerprint}, is marked as revoked",
            "do not trust this server before its administrator has explained it",
        )
    if same:
        return None
    valid = [key for key in known if not key.revoked]
    if other := min(valid, key=lambda key: key.kind != shown.kind, default=None):
        return errors.HostKeyChanged(
            f"the host key of {remote.server} has changed from {other.fingerprint} to {shown.fingerprint}",
            f"somebody may be in between; if the server was set up anew, remove its old key: {_forget(remote, other)}",
        )
    if volume.host_key_check is HostKeyCheck.YES:
        return errors.HostKeyUnknown(
            f"the host key of {remote.server} is not known, it is {shown.fingerprint}",
            "verify it on the server (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) and say "
            f"-o host_key={shown.fingerprint}, or leave host_key_check=yes out to trust it",
        )
    return None


def _forget(remote: Remote, key: HostKey) -> str:
    return f"ssh-keygen -R '{pattern(remote.host, remote.port)}' -f {key.file}"
