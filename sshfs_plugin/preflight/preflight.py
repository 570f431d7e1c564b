# SPDX-License-Identifier: MIT
"""The preflight as a whole: the order of its checks, and what is recorded when all have passed."""

import contextlib
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.preflight.algorithms import is_in_order
from sshfs_plugin.preflight.checks import Check, Observer, unobserved
from sshfs_plugin.preflight.connection import Address, connect, connect_through, exchange_keys, resolve
from sshfs_plugin.preflight.directory import look_at_directory, make_directory
from sshfs_plugin.preflight.host_key import families, require_trusted
from sshfs_plugin.preflight.kept import KEPT_SECONDS, KeptConnection, KeptConnections
from sshfs_plugin.preflight.local_host import require_able
from sshfs_plugin.preflight.login import log_in
from sshfs_plugin.preflight.sftp import Client, lacks, open_sftp
from sshfs_plugin.preflight.ssh import GRACE_SECONDS, ended_at
from sshfs_plugin.preflight.transport import Transport
from sshfs_plugin.preflight.writing import try_writing
from sshfs_plugin.ssh.credentials import Keyring, Login
from sshfs_plugin.ssh.known_hosts import HostKey, KnownHosts
from sshfs_plugin.volume import SSH_PORT, HostKeyCheck, Remote, Volume, at_jump_host

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
        known_hosts = self.known_hosts.reading(volume.known_hosts)
        verified = known_hosts.verified(volume.remote.host, volume.remote.port)
        return Prepared(self, volume, login, verified)

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
        self.prepare(volume).run(deadline, creating=creating)

    def _run(self, prepared: "Prepared", deadline: Deadline, *, creating: bool, logged_in: Callable[[], None]) -> None:
        volume, login, remote = prepared.volume, prepared.login, prepared.volume.remote
        # read only now: another preflight may have added a key while this one waited
        known = self.known_hosts.accepted(remote.host, remote.port) + prepared.verified
        identity = self._identity(volume, login, known)
        # the port of a remote is in its file, whatever the directory begins with
        with contextlib.nullcontext() if volume.remote_name else _asking_for_port(remote):
            connection = self._passed_again(volume, identity, deadline) if creating else None
            if self.kept and not creating:
                # before a mount the login itself is in question, and one of them may be all that the server allows
                self.kept.drop(identity)
            connection = connection or self._passed(prepared, known, deadline, creating=creating, logged_in=logged_in)
        with _closed_on_failure(connection.transport):
            if self.remembers:
                known = self._remember(volume, connection.host_key, known)
                self._remember_jumps(volume, connection.transport)
        if self.kept and creating:
            self.kept.keep(self._identity(volume, login, known), connection)
        else:
            connection.close()

    def _passed(
        self,
        prepared: "Prepared",
        known: tuple[HostKey, ...],
        deadline: Deadline,
        *,
        creating: bool,
        logged_in: Callable[[], None],
    ) -> KeptConnection:
        """Make all checks of the server, and return the connection."""
        volume, login, remote = prepared.volume, prepared.login, prepared.volume.remote
        said = dict(volume.ssh_options)
        jump = self._jumped(volume, login, deadline)
        transport, host_key = self._verified(volume, known, deadline, jump)
        with _closed_on_failure(transport), _ended_soon_after(deadline, transport):
            until = time.monotonic() + KEPT_SECONDS
            with self.observer(Check.LOGIN) as note:
                note(f"{remote.user} with {log_in(transport, remote, login, deadline, said)}")
            logged_in()
            with self.observer(Check.SFTP) as note:
                sftp = open_sftp(transport, remote, deadline)
                for lack in lacks(sftp.extensions):
                    note(lack)
            self._check_directory(sftp, volume, creating=creating)
        return KeptConnection(transport=transport, sftp=sftp, host_key=host_key, until=until)

    def _jumped(self, volume: Volume, login: Login, deadline: Deadline) -> Transport | None:
        """Log in to a volume's jump hosts, each through the one before, and return the connection to the last."""
        if not volume.jumps:
            return None
        inner, reached = replace(self, observer=unobserved), None
        with self.observer(Check.JUMP) as note:
            for jump, its_login in zip(volume.jumps, login.jumps, strict=True):
                with at_jump_host(jump):
                    reached, _ = inner._verified(jump, self.known_hosts.of_server(jump), deadline, reached)
                    with _closed_on_failure(reached), _ended_soon_after(deadline, reached):
                        how = log_in(reached, jump.remote, its_login, deadline, dict(jump.ssh_options))
                note(f"{jump.remote_name} ({jump.remote.account}) with {how}")
        return reached

    def _passed_again(self, volume: Volume, identity: Hashable, deadline: Deadline) -> KeptConnection | None:
        """Make the checks of a Create that are left where a connection is kept, and return it; None if they fail.

        An error may come of the connection's age: it is broken, or its login does not have a group of which the user
        has become a member since. So only those of a new connection count.
        """
        connection = self.kept.take(identity) if self.kept else None
        if not self.kept or not connection:
            return None
        limit = Deadline.after(min(KEPT_ANSWERS_SECONDS, deadline.left() / 2))
        try:
            with _closed_on_failure(connection.transport), ended_at(limit, connection.transport):
                self._check_directory(connection.sftp, volume, creating=True)
        except errors.PreflightError:
            self.kept.drop(identity)  # the others are as old
            return None
        return connection

    def _identity(self, volume: Volume, login: Login, known: tuple[HostKey, ...]) -> Hashable:
        """Return a key of all on this host that decides whether a login is made, how, and to whom.

        It holds no secret, since it is kept in memory.
        """
        through = tuple(_way(jump, self.known_hosts.of_server(jump)) for jump in volume.jumps)
        return _way(volume, known), through, login.digest

    def _check_directory(self, sftp: Client, volume: Volume, *, creating: bool) -> None:
        remote = volume.remote
        with self.observer(Check.DIRECTORY) as note:
            if creating and volume.create_directory:
                make_directory(sftp, remote)
            note(look_at_directory(sftp, remote, was_made=volume.create_directory))
        if self.writes:
            with self.observer(Check.WRITING) as note:
                note(
                    "not tried, since the volume is read-only"
                    if volume.read_only
                    else f"{try_writing(sftp, remote)} made and removed"
                )

    def _login(self, volume: Volume) -> Login:
        with self.observer(Check.CREDENTIALS) as note:
            login = self.keyring.login_of(volume)
            kept = [str(path) for path in login.identity_files]
            if login.agent:
                kept.append(f"{len(login.agent_keys)} keys of the ssh-agent at {login.agent.path}")
            if login.password:
                kept.append("a password")
            note(", ".join(kept) or "none given, none found")
        return login

    def _verified(
        self, volume: Volume, known: tuple[HostKey, ...], deadline: Deadline, jump: Transport | None
    ) -> tuple[Transport, HostKey]:
        """Connect, check the host key, and return the connection with that key; the one to a jump host belongs to it.

        A server has keys of several kinds and shows one in a connection. Of which kind a pinned key is, its fingerprint
        does not tell, so all kinds are asked for in turn before the key counts as wrong.
        """
        said = dict(volume.ssh_options)
        addresses: list[Address] = []
        if not jump:
            with self.observer(Check.NAME) as note:
                addresses = resolve(volume.remote, deadline.left(float(said["ConnectTimeout"])), said)
                note(", ".join(dict.fromkeys(str(address[0]) for *_, address in addresses)))
        with _closed_on_failure(jump), _ended_soon_after(deadline, jump):
            transport, host_key = self._trusted_of_any_kind(volume, known, deadline, jump or addresses)
        transport.beneath = jump
        return transport, host_key

    def _trusted_of_any_kind(
        self, volume: Volume, known: tuple[HostKey, ...], deadline: Deadline, way: Transport | list[Address]
    ) -> tuple[Transport, HostKey]:
        in_order = families(known)
        # where the volume says the order, ssh will ask for all kinds in that order, too
        one_by_one = volume.pinned_host_key and not is_in_order(dict(volume.ssh_options).get("HostKeyAlgorithms", ""))
        problems: list[errors.PreflightError] = []
        for kinds in in_order if one_by_one else (tuple(sum(in_order, ())),):
            try:
                transport = self._encrypted(volume, way, kinds, deadline)
                with _closed_on_failure(transport):
                    return transport, self._trusted(volume, transport, known)
            except (errors.NegotiationFailed, errors.HostKeyError) as error:
                problems.append(error)
        # a key that was shown and refused says more than a kind of key that the server lacks
        raise next((problem for problem in problems if isinstance(problem, errors.HostKeyError)), problems[0])

    def _trusted(self, volume: Volume, transport: Transport, known: tuple[HostKey, ...]) -> HostKey:
        host_key = _shown(transport)
        with self.observer(Check.HOST_KEY) as note:
            why = require_trusted(volume, host_key, known, self.known_hosts)
            note(f"{host_key.kind} {host_key.fingerprint}, {why}")
        return host_key

    def _encrypted(
        self, volume: Volume, way: Transport | list[Address], kinds: tuple[str, ...], deadline: Deadline
    ) -> Transport:
        """Connect by a jump host or to an address, and return the connection once keys are exchanged."""
        said = dict(volume.ssh_options)
        limit = float(said["ConnectTimeout"])
        with self.observer(Check.CONNECTION) as note:
            if isinstance(way, Transport):
                name = volume.jumps[-1].remote_name
                connection = connect_through(way, name, volume.remote, deadline.left(limit))
                note(f"by the jump host {name}")
            else:
                connection = connect(volume.remote, way, deadline.left(limit), said)
                with contextlib.suppress(OSError):  # the server may have gone already, as the next check will say
                    address, port = connection.getpeername()[:2]
                    note(f"{address} port {port}")
        with self.observer(Check.KEY_EXCHANGE) as note:
            transport = exchange_keys(volume.remote, connection, kinds, deadline.left(limit), said)
            note(errors.last_words([transport.remote_version]))
        return transport

    def _remember_jumps(self, volume: Volume, transport: Transport) -> None:
        for jump in reversed(volume.jumps):
            assert transport.beneath  # noqa: S101 (_jumped has seen to it)
            transport = transport.beneath
            self._remember(jump, _shown(transport), self.known_hosts.of_server(jump))

    def _remember(self, volume: Volume, host_key: HostKey, known: tuple[HostKey, ...]) -> tuple[HostKey, ...]:
        """Record a host key where that is to be done, and return the keys that are known then."""
        host, port = volume.remote.host, volume.remote.port
        if volume.pinned_host_key:
            self.known_hosts.pin(volume.name, host, port, host_key)
        elif volume.host_key_check is HostKeyCheck.ACCEPT_NEW and host_key.blob not in {key.blob for key in known}:
            self.known_hosts.reading(volume.known_hosts).add(host, port, host_key)
            return (*known, host_key)
        return known


@dataclass(frozen=True, slots=True)
class Prepared:
    """A preflight whose checks of this host have passed, so that only those of the server are left.

    Attributes:
        preflight: The preflight that makes the checks.
        volume: The volume that is checked.
        login: Its keys or password.
        verified: The server's host keys in the administrator's files.
    """

    preflight: Preflight
    volume: Volume
    login: Login
    verified: tuple[HostKey, ...]

    def run(self, deadline: Deadline, *, creating: bool = False, logged_in: Callable[[], None] = lambda: None) -> None:
        """Make the checks, as ``Preflight.run`` does.

        Args:
            deadline: When the caller gives up.
            creating: Whether the volume is being created.
            logged_in: Is called once the server has let the login in: what is left may wait for a disk of the server.
        """
        self.preflight._run(self, deadline, creating=creating, logged_in=logged_in)


@contextlib.contextmanager
def _asking_for_port(remote: Remote) -> Iterator[None]:
    """Add a hint to an error where the directory begins with what may be meant as the port."""
    try:
        yield
    except errors.PreflightError as error:
        meant = remote.with_port_from_directory
        if meant and remote.port in (SSH_PORT, meant.port) and not isinstance(error, errors.HostUnresolved):
            cure = f"if {meant.port} is meant to be the port, say -o port={meant.port} -o sshcmd={meant.source}"
            # without a connection the error's own hint leads nowhere
            error.hint = cure if isinstance(error, errors.HostUnreachable) else f"{cure}; {error.hint}"
        raise


def _way(volume: Volume, known: tuple[HostKey, ...]) -> Hashable:
    """Return all that decides how a volume's server is connected to and trusted."""
    remote = volume.remote
    trusted = frozenset((key.blob, key.revoked) for key in known)
    trust = (volume.host_key_check, volume.pinned_host_key, volume.known_hosts, trusted)
    return remote.host, remote.port, remote.user, volume.ssh_options, trust


def _shown(transport: Transport) -> HostKey:
    """Return the host key that a server has shown."""
    shown = transport.shown_key
    return HostKey(kind=shown.get_name(), blob=shown.asbytes())


@contextlib.contextmanager
def _closed_on_failure(transport: Transport | None) -> Iterator[None]:
    """Close a connection, if there is one, if there is an error."""
    try:
        yield
    except BaseException:
        if transport:
            transport.close()
        raise


@contextlib.contextmanager
def _ended_soon_after(deadline: Deadline, transport: Transport | None) -> Iterator[None]:
    """Close a connection, if there is one, shortly after a deadline."""
    with ended_at(Deadline(deadline.at + GRACE_SECONDS), transport) if transport else contextlib.nullcontext():
        yield
