# SPDX-License-Identifier: MIT
"""The errors of mounts that failed, with the last words of sshfs and ssh."""

from collections.abc import Sequence

from sshfs_plugin import errors
from sshfs_plugin.volume import VolumeName

_UNINFORMATIVE = (
    "read: Connection reset by peer",
    "remote host has disconnected",
    "Warning: Permanently added",
    "the connection that is shared",
)
"""How lines begin that explain no failure: the first two are sshfs's after any failure of ssh, the third is no error,
and the last is the relay's, where ssh itself says why.
"""

_TURNED_AWAY = "kex_exchange_identification:"
"""How a line begins that tells of a server that closes a connection before anything else."""

_CLOSED = "Connection closed by ", "Connection reset by "
"""How the line begins that follows, and that an ssh whose login is cut off has alone."""

_OF_SYSTEMD = ("Failed to attach ", "Job for ", 'See "systemctl status ')
"""How systemd's own lines begin, which say only that a unit failed, or are about its cgroup."""


def mount_failed(name: VolumeName, said: str, more: str = "") -> errors.MountFailed:
    """Return the error for an sshfs that ended, with the end of what it and ssh printed.

    Args:
        name: The volume.
        said: What they printed.
        more: What tells more where they printed nothing, as a part of a hint.
    """
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith(_OF_SYSTEMD)]
    if not lines:
        hint = "; ".join(filter(None, (f"docker-volume-sshfs check {name} tries the server", more)))
        return errors.MountFailed(f"sshfs could not mount volume '{name}' and did not say why", hint)
    telling = [line for line in lines if not line.startswith(_UNINFORMATIVE)] or lines
    words = errors.last_words(dict.fromkeys(telling))
    kind = errors.MountTurnedAway if _is_turned_away(telling) else errors.MountFailed
    return kind(f"sshfs could not mount volume '{name}', its last words: {words}")


def _is_turned_away(lines: Sequence[str]) -> bool:
    """Tell whether each ssh that has failed was turned away before its login: a server may count one that is cut off.

    Behind a jump host that cuts a login off, ssh itself has the words of one that is turned away (docs/facts.md).
    """
    turned_away = sum(line.startswith(_TURNED_AWAY) for line in lines)
    closed = sum(line.startswith(_CLOSED) for line in lines)
    # LogLevel=ERROR leaves out the second line of each
    return turned_away > 0 and closed in (0, turned_away) and turned_away + closed == len(lines)


def unmounted_by_hand(name: VolumeName) -> errors.MountFailed:
    """Return the error for a volume that is not mounted on this host, and whose process goes on."""
    return errors.MountFailed(
        f"volume '{name}' was unmounted by hand while containers go on using it",
        f"stop them (docker ps --filter volume={name}) and try again",
    )


def mount_timed_out(name: VolumeName, seconds: float) -> errors.MountTimedOut:
    """Return the error for a mount that did not answer in time."""
    return errors.MountTimedOut(
        f"volume '{name}' was not usable after {seconds:.0f} seconds and was given up",
        "is the server slow or overloaded? try again",
    )
