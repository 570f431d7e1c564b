# SPDX-License-Identifier: MIT
"""Connecting to a server, or to its jump hosts first, as far as its host key is trusted."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.preflight.algorithms import is_in_order
from sshfs_plugin.preflight.checks import Check, Observer, unobserved
from sshfs_plugin.preflight.connection import (
    Address,
    connect,
    connect_through,
    exchange_keys,
    naming_jump_hosts,
    resolve,
)
from sshfs_plugin.preflight.host_key import families, require_trusted
from sshfs_plugin.preflight.login import log_in
from sshfs_plugin.preflight.ssh import closed_on_failure, ended_soon_after
from sshfs_plugin.preflight.transport import Transport
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.ssh.known_hosts import HostKey, KnownHosts
from sshfs_plugin.volume import Volume, at_jump_host


@dataclass(frozen=True, slots=True)
class Connector:
    """Makes the checks from the name to the host key.

    Attributes:
        known_hosts: The known hosts of this host.
        observer: Is told of each check.
        deadline: When the caller gives up.
    """

    known_hosts: KnownHosts
    observer: Observer
    deadline: Deadline

    def connect(
        self, volume: Volume, known: tuple[HostKey, ...], jump: Transport | None = None
    ) -> tuple[Transport, HostKey]:
        """Connect, check the host key, and return the connection with that key; the one to a jump host belongs to it.

        A server has keys of several kinds and shows one in a connection. Of which kind a pinned key is, its fingerprint
        does not tell, so all kinds are asked for in turn before the key counts as wrong.
        """
        addresses: list[Address] = []
        if not jump:
            with self.observer(Check.NAME) as note:
                addresses = resolve(volume.remote, self.deadline.left(volume.connect_seconds), volume.keywords)
                note(", ".join(dict.fromkeys(str(address[0]) for *_, address in addresses)))
        with closed_on_failure(jump), ended_soon_after(self.deadline, jump):
            transport, host_key = self._connect_trusted(volume, known, jump or addresses)
        transport.beneath = jump
        return transport, host_key

    def _connect_trusted(
        self, volume: Volume, known: tuple[HostKey, ...], way: Transport | list[Address]
    ) -> tuple[Transport, HostKey]:
        in_order = families(known)
        # where the volume says the order, ssh will ask for all kinds in that order, too
        one_by_one = volume.pinned_host_key and not is_in_order(volume.keywords.get("HostKeyAlgorithms", ""))
        problems: list[errors.PreflightError] = []
        for kinds in in_order if one_by_one else (tuple(sum(in_order, ())),):
            try:
                transport = self._connect_encrypted(volume, way, kinds)
                with closed_on_failure(transport):
                    return transport, self._require_trusted(volume, transport, known)
            except (errors.NegotiationFailed, errors.HostKeyError) as error:
                problems.append(error)
        # a key that was shown and refused says more than a kind of key that the server lacks
        raise next((problem for problem in problems if isinstance(problem, errors.HostKeyError)), problems[0])

    def _require_trusted(self, volume: Volume, transport: Transport, known: tuple[HostKey, ...]) -> HostKey:
        host_key = shown(transport)
        with self.observer(Check.HOST_KEY) as note:
            why = require_trusted(volume, host_key, known, self.known_hosts)
            note(f"{host_key.kind} {host_key.fingerprint}, {why}")
        return host_key

    def _connect_encrypted(self, volume: Volume, way: Transport | list[Address], kinds: tuple[str, ...]) -> Transport:
        """Connect by a jump host or to an address, and return the connection once keys are exchanged."""
        limit, keywords = volume.connect_seconds, volume.keywords
        with self.observer(Check.CONNECTION) as note:
            if isinstance(way, Transport):
                name = volume.jumps[-1].remote_name
                connection = connect_through(way, name, volume.remote, self.deadline.left(limit))
                note(f"by the jump host {name}")
            else:
                connection = connect(volume.remote, way, self.deadline.left(limit), keywords)
                with contextlib.suppress(OSError):  # the server may have gone already, as the next check will say
                    address, port = connection.getpeername()[:2]
                    note(f"{address} port {port}")
        jump = way if isinstance(way, Transport) else None
        with self.observer(Check.KEY_EXCHANGE) as note, naming_jump_hosts(volume, jump):
            transport = exchange_keys(volume.remote, connection, kinds, self.deadline.left(limit), keywords)
            note(errors.last_words([transport.remote_version]))
        return transport

    def through_jump_hosts(
        self, volume: Volume, login: Login, known: Sequence[tuple[HostKey, ...]]
    ) -> Transport | None:
        """Log in to a volume's jump hosts, each through the one before, and return the connection to the last.

        Args:
            volume: The volume.
            login: What it and they are logged in to with.
            known: The host keys that are known of each of them.
        """
        if not volume.jumps:
            return None
        inner, reached = replace(self, observer=unobserved), None
        with self.observer(Check.JUMP) as note:
            for jump, its_login, its_keys in zip(volume.jumps, login.jumps, known, strict=True):
                with at_jump_host(jump):
                    reached, _ = inner.connect(jump, its_keys, reached)
                    with (
                        closed_on_failure(reached),
                        ended_soon_after(self.deadline, reached),
                        naming_jump_hosts(jump, reached.beneath),
                    ):
                        how = log_in(reached, jump.remote, its_login, self.deadline, jump.keywords)
                note(f"{jump.remote_name} ({jump.remote.account}) with {how}")
        return reached


def shown(transport: Transport) -> HostKey:
    """Return the host key that a server has shown."""
    key = transport.shown_key
    return HostKey(kind=key.get_name(), blob=key.asbytes())
