# SPDX-License-Identifier: MIT
"""The preflight as a whole: the order of its checks, and what is recorded when all have passed."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.preflight.checks import Check, Observer, unobserved
from sshfs_plugin.preflight.connection import naming_jump_hosts
from sshfs_plugin.preflight.connector import Connector, shown
from sshfs_plugin.preflight.directory import look_at_directory, make_directory
from sshfs_plugin.preflight.kept import KEPT_SECONDS, KeptConnection, KeptConnections
from sshfs_plugin.preflight.local_host import require_able
from sshfs_plugin.preflight.login import log_in
from sshfs_plugin.preflight.port import asking_for_port, port_meant
from sshfs_plugin.preflight.sftp import Client, lacks, open_sftp
from sshfs_plugin.preflight.ssh import closed_on_failure, ended_at, ended_soon_after
from sshfs_plugin.preflight.transport import Transport
from sshfs_plugin.preflight.writing import try_writing
from sshfs_plugin.ssh.credentials import Keyring, Login
from sshfs_plugin.ssh.known_hosts import HostKey, KnownHosts
from sshfs_plugin.volume import HostKeyCheck, Volume

KEPT_ANSWERS_SECONDS = 2.0
"""How long the answers over a kept connection may take, before a new one is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """Makes the checks for volumes.

    Attributes:
        keyring: The keys and passwords of this host.
        known_hosts: The known hosts of this host.
        observer: Is told of each check.
        remembers: Whether a new host key is recorded once all checks have passed.
        writes: Whether to make the last check as well, which makes and removes a file on the server.
        kept: Connections of preflights that have passed for a Create, to go on there; None if each is to make all
            checks.
    """

    keyring: Keyring
    known_hosts: KnownHosts
    observer: Observer = unobserved
    remembers: bool = True
    writes: bool = False
    kept: KeptConnections | None = None

    def prepare(self, volume: Volume) -> "Prepared":
        """Make the checks that need no server, and return the rest of the preflight, which waits for the server alone.

        Raises:
            InvalidOption: This host can't do what an option asks.
            CredentialsError: What to log in with can't be used.
        """
        login = self._login(volume)
        with self.observer(Check.OPTIONS):
            require_able(volume, login, self.known_hosts)
        verified, *of_jumps = map(self._verified, (volume, *volume.jumps))
        return Prepared(self, volume, login, verified, tuple(of_jumps))

    def run(self, volume: Volume, deadline: Deadline, *, creating: bool = False) -> None:
        """Make all checks, and record the server's host key if it is new.

        Args:
            volume: The volume.
            deadline: When the caller gives up.
            creating: Whether the volume is being created, so that ``create_directory`` has an effect.

        Raises:
            InvalidOption: This host can't do what an option asks; the server was not asked.
            CredentialsError: What to log in with can't be used; the server was not asked.
            PreflightError: The first check that has failed.
            StateError: The host key could not be recorded.
        """
        prepared = self.prepare(volume)
        with asking_for_port(volume):
            prepared.run(deadline, creating=creating)

    def _verified(self, volume: Volume) -> tuple[HostKey, ...]:
        """Return the keys of a volume's server, or of a jump host, that the administrator has accepted."""
        return self.known_hosts.reading(volume.known_hosts).verified(volume.remote.host, volume.remote.port)

    def _login(self, volume: Volume) -> Login:
        with self.observer(Check.CREDENTIALS) as note:
            login = self.keyring.login_of(volume)
            kept = [str(path) for path in login.identity_files]
            if login.agent:
                count = len(login.agent_keys)
                kept.append(f"{count} key{'s' * (count != 1)} of the ssh-agent at {login.agent.path}")
            if login.password:
                kept.append("a password")
            note(", ".join(kept) or login.lacks or "none given, none found")
        return login


@dataclass(frozen=True, slots=True)
class Prepared:
    """A preflight whose checks of this host have passed, so that only those of the server are left.

    Attributes:
        preflight: What it is made with.
        volume: The volume that is checked.
        login: Its keys or password.
        verified: The server's host keys in the administrator's files, whose file system may hang.
        verified_of_jumps: Those of each jump host.
    """

    preflight: Preflight
    volume: Volume
    login: Login
    verified: tuple[HostKey, ...]
    verified_of_jumps: tuple[tuple[HostKey, ...], ...]

    def run(self, deadline: Deadline, *, creating: bool = False, logged_in: Callable[[], None] = lambda: None) -> None:
        """Make the checks, as ``Preflight.run`` does, but with errors that other volumes may share.

        Args:
            deadline: When the caller gives up.
            creating: Whether the volume is being created.
            logged_in: Is called once the server has let the login in: what is left may wait for a disk of the server.
        """
        volume, preflight = self.volume, self.preflight
        # read only now: another preflight may have added a key while this one waited
        known = self._accepted(volume) + self.verified
        identity = self._identity(known)
        connection = self._check_kept(identity, deadline) if creating else None
        if preflight.kept and not creating:
            # before a mount the login itself is in question, and one of them may be all that the server allows
            preflight.kept.drop(identity)
        connection = connection or self._check_server(known, deadline, creating=creating, logged_in=logged_in)
        with closed_on_failure(connection.transport):
            if preflight.remembers:
                known = self._remember(volume, connection.host_key, known)
                self._remember_jumps(connection.transport)
        if preflight.kept and creating:
            preflight.kept.keep(self._identity(known), connection)
        else:
            connection.close()

    def _check_server(
        self,
        known: tuple[HostKey, ...],
        deadline: Deadline,
        *,
        creating: bool,
        logged_in: Callable[[], None],
    ) -> KeptConnection:
        """Make all checks of the server, and return the connection."""
        volume, login, remote, observer = self.volume, self.login, self.volume.remote, self.preflight.observer
        connector = Connector(self.preflight.known_hosts, observer, deadline)
        jump = connector.through_jump_hosts(volume, login, self._known_jumps())
        transport, host_key = connector.connect(volume, known, jump)
        with closed_on_failure(transport), ended_soon_after(deadline, transport):
            until = time.monotonic() + KEPT_SECONDS
            with observer(Check.LOGIN) as note, naming_jump_hosts(volume, jump):
                note(f"{remote.user} with {log_in(transport, remote, login, deadline, volume.keywords)}")
            logged_in()
            with observer(Check.SFTP) as note, naming_jump_hosts(volume, jump):
                sftp = open_sftp(transport, remote, deadline)
                for lack in lacks(sftp.extensions, renames_in_steps=volume.renames_in_steps):
                    note(lack)
            self._check_directory(sftp, creating=creating)
        return KeptConnection(transport=transport, sftp=sftp, host_key=host_key, until=until)

    def _check_kept(self, identity: Hashable, deadline: Deadline) -> KeptConnection | None:
        """Make the checks of a Create that are left where a connection is kept, and return it; None if they fail.

        An error may come of the connection's age: it is broken, or its login does not have a group of which the user
        has become a member since. So only those of a new connection count.
        """
        kept = self.preflight.kept
        connection = kept.take(identity) if kept else None
        if not kept or not connection:
            return None
        limit = Deadline.after(min(KEPT_ANSWERS_SECONDS, deadline.left() / 2))
        try:
            with closed_on_failure(connection.transport), ended_at(limit, connection.transport):
                self._check_directory(connection.sftp, creating=True)
        except errors.PreflightError:
            kept.drop(identity)  # the others are as old
            return None
        return connection

    def _check_directory(self, sftp: Client, *, creating: bool) -> None:
        volume, remote, observer = self.volume, self.volume.remote, self.preflight.observer
        with observer(Check.DIRECTORY) as note:
            if creating and volume.create_directory and not port_meant(volume):
                make_directory(sftp, remote)
            note(look_at_directory(sftp, remote, was_made=volume.create_directory))
        if self.preflight.writes:
            with observer(Check.WRITING) as note:
                note(
                    "not tried, since the volume is read-only"
                    if volume.read_only
                    else f"{try_writing(sftp, remote)} made and removed"
                )

    def _identity(self, known: tuple[HostKey, ...]) -> Hashable:
        """Return a key of all on this host that decides whether a login is made, how, and to whom.

        It holds no secret, since it is kept in memory.
        """
        through = tuple(map(_way, self.volume.jumps, self._known_jumps()))
        return _way(self.volume, known), through, self.login.digest

    def _accepted(self, volume: Volume) -> tuple[HostKey, ...]:
        """Return those in the plugin's own file, which is on a disk of this host."""
        return self.preflight.known_hosts.accepted(volume.remote.host, volume.remote.port)

    def _known_jumps(self) -> list[tuple[HostKey, ...]]:
        """Return the keys that are known of each jump host by now."""
        both = zip(self.volume.jumps, self.verified_of_jumps, strict=True)
        return [self._accepted(jump) + verified for jump, verified in both]

    def _remember_jumps(self, transport: Transport) -> None:
        for jump, its_keys in reversed(list(zip(self.volume.jumps, self._known_jumps(), strict=True))):
            assert transport.beneath  # noqa: S101 (the connector has seen to it)
            transport = transport.beneath
            self._remember(jump, shown(transport), its_keys)

    def _remember(self, volume: Volume, host_key: HostKey, known: tuple[HostKey, ...]) -> tuple[HostKey, ...]:
        """Record a host key where that is to be done, and return the keys that are known then."""
        host, port = volume.remote.host, volume.remote.port
        if volume.pinned_host_key:
            self.preflight.known_hosts.pin(volume.name, host, port, host_key)
        elif volume.host_key_check is HostKeyCheck.ACCEPT_NEW and host_key.blob not in {key.blob for key in known}:
            self.preflight.known_hosts.reading(volume.known_hosts).add(host, port, host_key)
            return (*known, host_key)
        return known


def _way(volume: Volume, known: tuple[HostKey, ...]) -> Hashable:
    """Return all that decides how a volume's server is connected to and trusted."""
    remote = volume.remote
    trusted = frozenset((key.blob, key.revoked) for key in known)
    trust = (volume.host_key_check, volume.pinned_host_key, volume.known_hosts, trusted)
    return remote.host, remote.port, remote.user, volume.ssh_options, trust
