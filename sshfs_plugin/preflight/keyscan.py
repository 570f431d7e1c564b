# SPDX-License-Identifier: MIT
"""The keyscan: which host keys a server has. It shows one in a connection, so each kind takes a connection."""

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.preflight.connection import connect, exchange_keys, resolve
from sshfs_plugin.preflight.host_key import families
from sshfs_plugin.ssh.known_hosts import HostKey
from sshfs_plugin.volume import Remote

ANSWER_SECONDS = 10.0

_ALL_KINDS = {"HostKeyAlgorithms": "+ssh-rsa"}
"""An old server has only an RSA key with a signature by SHA-1, and a volume may let that in."""


def shown_host_keys(remote: Remote, known: tuple[HostKey, ...], deadline: Deadline) -> tuple[HostKey, ...]:
    """Return the server's host keys, at least one; the first is the one that a volume would be shown.

    Raises:
        HostUnresolved, HostUnreachable, TurnedAway, ServerSilent, NotAnSSHServer, NegotiationFailed: It
            shows none.
    """
    keys: list[HostKey] = []
    problem: errors.NegotiationFailed | None = None
    addresses = resolve(remote, deadline.left(ANSWER_SECONDS))
    for kinds in families(known):
        connection = connect(remote, addresses, deadline.left(ANSWER_SECONDS))
        try:
            transport = exchange_keys(remote, connection, kinds, deadline.left(ANSWER_SECONDS), _ALL_KINDS)
        except errors.NegotiationFailed as error:
            problem = problem or error
            continue
        shown = transport.shown_key
        transport.close()
        keys.append(HostKey(kind=shown.get_name(), blob=shown.asbytes()))
    if not keys and problem:
        raise problem
    return tuple(keys)
