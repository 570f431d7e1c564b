# SPDX-License-Identifier: MIT
"""The ladder as a whole: which rung comes after which, and what is remembered at its top."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from sshfs_plugin import errors
from sshfs_plugin.credentials import Keyring
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.known_hosts import HostKey, KnownHosts
from sshfs_plugin.preflight.connection import exchange_keys
from sshfs_plugin.preflight.directory import look_at_directory
from sshfs_plugin.preflight.host_key import HOST_KEY_KINDS, any_known, judge
from sshfs_plugin.preflight.login import log_in
from sshfs_plugin.preflight.ssh import paramiko
from sshfs_plugin.volume import HostKeyCheck, Volume, VolumeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Climbs the ladder for volumes.

    Attributes:
        keyring: Where this host keeps what volumes log in with.
        known_hosts: The host keys that it knows.
    """

    keyring: Keyring
    known_hosts: KnownHosts

    def climb(self, volume: Volume, deadline: Deadline) -> None:
        """Pass if the server can serve the volume as asked, and remember its host key if it is new.

        Raises:
            CredentialsError: What to log in with can't be used; the server was not asked.
            PreflightError: The first rung that broke.
        """
        login = self.keyring.login(volume.credentials)
        with self._verified(volume, deadline) as (transport, host_key):
            log_in(transport, volume.remote, login, deadline)
            look_at_directory(transport, volume.remote, deadline)
            self._remember(volume, host_key)

    def forget(self, name: VolumeName) -> None:
        """Drop what is remembered for a volume alone: its pinned host key."""
        self.known_hosts.unpin(name)

    @contextlib.contextmanager
    def _verified(self, volume: Volume, deadline: Deadline) -> Iterator[tuple[paramiko.Transport, HostKey]]:
        """Connect, and go on only if the server is the one that it claims to be.

        A server has keys of several kinds and shows one: the known or pinned one may be of a kind that is not asked
        for first, so the others are asked for before the key counts as wrong.
        """
        known = self.known_hosts.reading(volume.known_hosts).lookup(volume.remote.host, volume.remote.port)
        families = sorted(HOST_KEY_KINDS, key=lambda kinds: not any_known(known, kinds))
        problems: list[errors.PreflightError] = []
        for kinds in families if volume.pinned_host_key else (tuple(sum(families, ())),):
            try:
                transport = exchange_keys(volume, deadline, kinds)
            except errors.NegotiationFailed as error:
                problems.append(error)
                continue
            try:
                shown = transport.get_remote_server_key()
                host_key = HostKey(kind=shown.get_name(), blob=shown.asbytes())
                if refusal := judge(volume, host_key, known):
                    problems.append(refusal)
                    continue
                yield transport, host_key
                return
            finally:
                transport.close()
        # a key that was shown and refused says more than a kind of key that the server lacks
        raise next((problem for problem in problems if isinstance(problem, errors.HostKeyError)), problems[0])

    def _remember(self, volume: Volume, host_key: HostKey) -> None:
        host, port = volume.remote.host, volume.remote.port
        if volume.pinned_host_key:
            self.known_hosts.pin(volume.name, host, port, host_key)
        elif volume.host_key_check is HostKeyCheck.ACCEPT_NEW:
            self.known_hosts.add(host, port, host_key)
