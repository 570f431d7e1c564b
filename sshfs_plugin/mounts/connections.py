# SPDX-License-Identifier: MIT
"""The connections that volumes share: which volume uses which, and the files with which each is made.

A shared connection is an OpenSSH master, which is not part of any volume's unit. Volumes share one if all is the same
that decides how it is made and whom it may reach: server, login, keys or password, known host keys, options of ssh.
What a volume's relay does where its connection takes no session, hangs or is lost is in ``relay/shared.py``.
"""

import hashlib
import itertools
import json
import secrets
import shutil
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.mounts.unit_files import password_variables, replace_file
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh import sshfs
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.ssh.known_hosts import KnownHosts
from sshfs_plugin.volume import Volume, VolumeName

SESSIONS = 10
"""How many volumes share a connection: as many sessions does sshd take by default (MaxSessions)."""

MAKING_SECONDS = 30.0
"""For how long a connection without a socket may be one that is just being made."""

ANSWER_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Connection:
    """The files of one shared connection.

    Attributes:
        directory: The directory that they are in, readable by root alone; it goes when the connection ends.
    """

    directory: Path

    @property
    def name(self) -> str:
        """What its unit is an instance of."""
        return self.directory.name

    @property
    def ssh_config(self) -> Path:
        """The ssh_config under which it is made."""
        return self.directory / "ssh_config"

    @property
    def environment(self) -> Path:
        """The variables with which it is made."""
        return self.directory / "environment"

    @property
    def password(self) -> Path:
        """The password, if one is on record."""
        return self.directory / "password"

    @property
    def known_hosts(self) -> Path:
        """The pinned host key, if there is one."""
        return self.directory / "known_hosts"

    @property
    def volumes(self) -> Path:
        """A directory with an empty file for each volume that shares it."""
        return self.directory / "volumes"

    @property
    def shared_by(self) -> set[str]:
        """The names of the volumes that share it."""
        try:
            return {file.name for file in self.volumes.iterdir()}
        except OSError:
            return set()

    @property
    def socket(self) -> Path:
        """The socket on which it takes sessions."""
        return self.directory / "socket"

    @property
    def takes_sessions(self) -> bool:
        """Whether it has been made, and has not ended."""
        with socket.socket(socket.AF_UNIX) as attempt:
            attempt.settimeout(ANSWER_SECONDS)
            try:
                attempt.connect(str(self.socket))
            except OSError:
                return False
        return True

    @property
    def hangs(self) -> bool:
        """Whether a relay has found that it begins no session."""
        return (self.directory / "hung").exists()

    @property
    def is_being_made(self) -> bool:
        """Whether somebody else has begun to make it just now; one that was killed leaves its socket behind."""
        with suppress(OSError):
            return not self.socket.exists() and time.time() - self.ssh_config.stat().st_mtime < MAKING_SECONDS
        return False

    def remove(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.directory, ignore_errors=True)


class Connections:
    """The shared connections of this host.

    Args:
        settings: This host's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known_hosts = KnownHosts.of(settings)
        self._choosing = threading.Lock()

    def stands(self, volume: Volume, login: Login) -> bool:
        """Tell whether a volume can share a connection that has been made, so that its login needs no check."""
        return volume.shares_connection and self._first_free(volume, login).takes_sessions

    def join(self, volume: Volume, login: Login) -> tuple[Connection, bool]:
        """Choose the connection that a volume shares from now on, and write its files if it is yet to be made.

        Returns:
            The connection, and whether the caller has to make it.

        Raises:
            StateError: A file could not be written.
        """
        with self._choosing:
            connection = self._first_free(volume, login)
            is_new = not (connection.takes_sessions or connection.is_being_made)
            try:
                if is_new:
                    self._write(connection, volume, login)
                (connection.volumes / volume.name).touch(0o600)
            except OSError as error:
                raise errors.StateUnwritable("write to", connection.directory, error) from error
            return connection, is_new

    def leave(self, name: VolumeName) -> None:
        """Note that a volume shares no connection any more."""
        for file in self._settings.connections.glob(f"*/volumes/{name}"):
            file.unlink(missing_ok=True)

    def _first_free(self, volume: Volume, login: Login) -> Connection:
        """Return the first connection that the volume shares already, or that takes one more, be it made or not."""
        key = self._key(volume, login)
        for number in itertools.count():
            connection = Connection(self._settings.connections / f"{key}-{number}")
            others = connection.shared_by - {volume.name}
            if len(others) < SESSIONS and not (connection.hangs and connection.takes_sessions):
                return connection
        raise AssertionError("not reached")

    def _key(self, volume: Volume, login: Login) -> str:
        """Return a name for all that decides how a connection is made; nobody can guess a password from it."""
        remote = volume.remote
        known = self._known_hosts.reading(volume.known_hosts).lookup(remote.host, remote.port)
        parts = [
            remote.account,
            sshfs.shared_ssh_config(volume, login, self._known_hosts, sshfs.NOWHERE),
            volume.pinned_host_key,
            login.digest.hex(),
            *(f"{key.file} {key.kind} {key.blob.hex()} {key.revoked}" for key in known),
        ]
        return hashlib.blake2b(json.dumps(parts).encode(), key=self._salt(), digest_size=8).hexdigest()

    def _salt(self) -> bytes:
        file = self._settings.connections / "salt"
        try:
            return file.read_bytes()
        except OSError:
            salt = secrets.token_hex(32)
            with suppress(OSError):  # without it no connection is found again, and each volume has one of its own
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                replace_file(file, salt)
            return salt.encode()

    def _write(self, connection: Connection, volume: Volume, login: Login) -> None:
        connection.remove()
        connection.directory.mkdir(mode=0o700)
        connection.volumes.mkdir(mode=0o700)
        if volume.pinned_host_key:
            shutil.copy(self._known_hosts.pinned / volume.name, connection.known_hosts)
        config = sshfs.shared_ssh_config(volume, login, self._known_hosts, connection.known_hosts)
        replace_file(connection.ssh_config, config)
        askpass = self._settings.libexec / "askpass"
        values = {"LOGIN": volume.remote.login, **password_variables(login, connection.password, askpass)}
        replace_file(connection.environment, sshfs.environment_file(values))
