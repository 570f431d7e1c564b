# SPDX-License-Identifier: MIT
"""``host-key``: what is known of a server's host keys, what it shows now, and how to trust or forget it."""

from collections.abc import Callable, Sequence

from sshfs_plugin import errors
from sshfs_plugin.cli import terminal
from sshfs_plugin.cli.exits import Exit
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.preflight.host_key import Standing, is_revoked, require_not_revoked, require_unbroken
from sshfs_plugin.preflight.keyscan import shown_host_keys
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.known_hosts import HostKey, KnownHosts, pattern
from sshfs_plugin.volume import Remote

SHOW_SECONDS = 40.0


def show(settings: Settings, remote: Remote) -> Exit:
    """Print a server's known host keys and those that it shows now; return FINE if the first of these is known.

    Raises:
        PreflightError: The server can't be asked, or does not show the known key.
    """
    known_hosts = KnownHosts.of(settings)
    known = known_hosts.lookup(remote.host, remote.port)
    terminal.say(f"{remote.server}, known:" if known else f"{remote.server} is not known here.")
    if known:
        _list([(key, f"{key.file}{', revoked' if key.revoked else ''}") for key in known])
    shown = shown_host_keys(remote, known, Deadline.after(SHOW_SECONDS))
    terminal.say("It shows now:")
    _list([(key, _standing(key, known)) for key in shown])
    if require_unbroken(remote, shown[0], known, known_hosts) is Standing.KNOWN:
        terminal.say("It is the server that is known.", colour="green")
        return Exit.FINE
    name = pattern(remote.host, remote.port)
    terminal.say(
        f"A volume trusts it at the first contact. To do so now: docker-volume-sshfs host-key trust '{name}'",
        colour="yellow",
    )
    return Exit.BROKEN


def trust(settings: Settings, remote: Remote, fingerprint: str, confirm: Callable[[], bool]) -> Exit:
    """Add the host keys that a server shows to the plugin's own known hosts.

    Args:
        settings: This host's.
        remote: The server.
        fingerprint: The fingerprint of the only key to trust; empty for all keys that it shows.
        confirm: Asks the user, after the keys are printed. It is not called if there is a fingerprint.

    Raises:
        PreflightError: The server can't be asked, shows another key than the known one, or none with the fingerprint,
            or that one is marked as revoked.
        StateError: The keys can't be recorded.
    """
    known_hosts = KnownHosts.of(settings)
    known = known_hosts.lookup(remote.host, remote.port)
    shown = shown_host_keys(remote, known, Deadline.after(SHOW_SECONDS))
    verdict = require_unbroken(remote, shown[0], known, known_hosts)
    wanted = [key for key in shown if fingerprint in ("", key.fingerprint)]
    if not wanted:
        raise errors.HostKeyNotPinned(
            f"{remote.server} shows no host key with the fingerprint {fingerprint}",
            f"it shows {' and '.join(key.fingerprint for key in shown)}; do not trust it before you know why",
        )
    if fingerprint:
        require_not_revoked(remote, wanted[0], known)
    if verdict is Standing.KNOWN and not fingerprint:
        terminal.say(f"{remote.server} is known already.")
        return Exit.FINE
    terminal.say(f"{remote.server} shows:")
    _list([(key, "revoked, and so left out" if is_revoked(key, known) else "") for key in wanted])
    if not fingerprint and not confirm():
        terminal.say("It is not trusted.", error=True)
        return Exit.BROKEN
    for key in wanted:
        if not is_revoked(key, known):
            known_hosts.add(remote.host, remote.port, key)
    terminal.say(f"It is trusted from now on ({known_hosts.own}).", colour="green")
    return Exit.FINE


def forget(settings: Settings, remote: Remote) -> Exit:
    """Remove a server from the plugin's own known hosts; return FINE if no other file knows it.

    Raises:
        StateError: The file can't be written, or keeps a revoked key.
    """
    known_hosts = KnownHosts.of(settings)
    before = known_hosts.lookup(remote.host, remote.port)
    if any(key.file == known_hosts.own for key in before):
        known_hosts.forget(remote.host, remote.port)
        terminal.say(f"{remote.server} is forgotten ({known_hosts.own}).")
    else:
        terminal.say(f"{known_hosts.own} does not know {remote.server}.")
    # a revoked key makes no server known, and ssh-keygen would not remove it
    others = {key.file: key for key in known_hosts.lookup(remote.host, remote.port) if not key.revoked}
    for file, key in others.items():
        removal = known_hosts.removal(remote.host, remote.port, key)
        terminal.say(f"{file} still knows it: {removal}", colour="yellow")
    return Exit.BROKEN if others else Exit.FINE


def _standing(key: HostKey, known: tuple[HostKey, ...]) -> str:
    if is_revoked(key, known):
        return "revoked"
    return "known" if key.blob in [other.blob for other in known] else "not known"


def _list(keys: Sequence[tuple[HostKey, str]]) -> None:
    terminal.table(("  KIND", "FINGERPRINT", ""), [(f"  {key.kind}", key.fingerprint, note) for key, note in keys])
