# SPDX-License-Identifier: MIT
"""The connections that volumes share: which volume uses which, and the files with which each is made.

A shared connection is an OpenSSH master, which is not part of any volume's unit. Volumes share one if all is the same
that decides how it is made and whom it may reach: server, login, keys or password, known host keys, options of ssh.
What a volume's relay does where its connection takes no session, hangs or is lost is in ``relay/shared.py``.

Each has a directory, by which the service (this module), the program that makes it (``libexec/connection``) and the
relays of its volumes tell each other of it:

=============  ===========================================  ===================================================
file           written by                                   what it says
=============  ===========================================  ===================================================
ssh_config     the service                                  how it is made, with ``environment``, a key, a password
pinned/        the service                                  the host keys that its volumes pin
volumes/NAME   the service                                  that a volume shares it
making         the service; removed by the program          that it is being made, and since when
said           the program                                  what ssh says; that the program has begun
socket         ssh                                          that it takes sessions
found          the program                                  that the program waits for the end of ssh
failed         the program                                  that it could not be made, and why
openssh        a relay                                      that its server is OpenSSH's
hung           a relay                                      that it begins no session: nobody joins it any more
ending         the service                                  that it was asked to end: nobody joins it any more
silent         the service                                  that it did not answer that, and is not asked again
=============  ===========================================  ===================================================

The program removes the directory at the end, and the service what a killed program has left.
"""

import errno
import hashlib
import json
import logging
import os
import secrets
import shutil
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.host import command
from sshfs_plugin.mounts import kernel
from sshfs_plugin.mounts.unit_files import SecretFiles, replace_file, write_secrets
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh import sshfs
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.ssh.known_hosts import KnownHosts
from sshfs_plugin.volume import Volume, VolumeName

log = logging.getLogger(__name__)

SESSIONS = 10
"""How many volumes share a connection: as many sessions does sshd take by default (MaxSessions)."""

MAKING_SECONDS = 50.0
"""How long it may take to make a connection."""

TOLD_SECONDS = 12.0
"""For how long the directory of a connection that could not be made stays at most."""

LOGINS_SECONDS = 3600.0
"""For how long what relays have told each other of their logins stays at least; it counts for some seconds."""

ANSWER_SECONDS = 0.5

END_SECONDS = 3.0
"""How long it may take to end idle connections, all together."""

LONGEST_SOCKET = 107 - len(".0123456789abcdef")
"""The longest path of a socket, in bytes, less what ssh adds to it while it makes the socket."""


@dataclass(frozen=True, slots=True)
class SharedConnection(SecretFiles):
    """The files of one shared connection; its secrets go when it has been made, and the directory when it ends."""

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
    def volumes(self) -> Path:
        """A directory with an empty file for each volume that shares it."""
        return self.directory / "volumes"

    @property
    def socket(self) -> Path:
        """The socket on which it takes sessions."""
        return self.directory / "socket"

    @property
    def variables(self) -> dict[str, str]:
        """What tells the relays of its volumes of it, and where they meet when they log in again."""
        return {"SSHFS_PLUGIN_CONNECTION": str(self.directory), "SSHFS_PLUGIN_LOGIN": str(self.logins)}

    @property
    def logins(self) -> Path:
        """A file that it has in common with all that are made with the same login; relays make it (relay/logins.py)."""
        return self.directory.parent.parent / "logins" / self.name.rpartition("-")[0]

    @property
    def making(self) -> Path:
        """A file that is there until it has been made, and tells since when it is, on the monotonic clock."""
        return self.directory / "making"

    @property
    def shared_by(self) -> set[str]:
        """The names of the volumes that share it."""
        try:
            return {file.name for file in self.volumes.iterdir()}
        except OSError:
            return set()

    @property
    def stands(self) -> bool:
        """Whether it has been made, and has not ended; one that hangs stands as well."""
        try:
            with socket.socket(socket.AF_UNIX) as attempt:
                attempt.settimeout(ANSWER_SECONDS)
                attempt.connect(str(self.socket))
        except (BlockingIOError, TimeoutError):  # it does not take the connections that wait
            return True
        except OSError:
            return False
        return True

    @property
    def hangs(self) -> bool:
        """Whether a relay has found that it begins no session."""
        return (self.directory / "hung").exists()

    @property
    def is_silent(self) -> bool:
        """Whether it was asked to end and did not answer."""
        return (self.directory / "silent").exists()

    def note_silence(self) -> None:
        """Note that it was asked to end and did not answer."""
        with suppress(OSError):  # it has ended just now
            (self.directory / "silent").touch(0o600)

    @property
    def ending(self) -> Path:
        """An empty file that is there once it is to end, and to be joined no more."""
        return self.directory / "ending"

    @property
    def is_being_made(self) -> bool:
        """Whether it is."""
        return self._was_begun_just_now is True

    @property
    def was_begun(self) -> bool:
        """Whether the program that makes it has begun to."""
        return (self.directory / "said").exists()

    @property
    def failed_just_now(self) -> bool:
        """Whether it could not be made, which volumes that wait for it are still to be told."""
        return _is_recent(self.directory / "failed", TOLD_SECONDS)

    @property
    def was_given_up(self) -> bool:
        """Whether it was to be made and nobody makes it any more: the program, or the service before, was killed."""
        return self._was_begun_just_now is False

    @property
    def _was_begun_just_now(self) -> bool | None:
        """Whether it was, if it is to be made; None if it has been made, or has failed, perhaps a moment ago."""
        try:
            return time.monotonic() - float(self.making.read_text()) < MAKING_SECONDS
        except OSError:
            return None
        except ValueError:  # it is empty: a service of version 1.12 had it made just before an upgrade
            return _is_recent(self.making, MAKING_SECONDS)

    def remove_secrets(self) -> None:
        """Remove what was needed to make it."""
        for pattern in ("password*", "key*", "making"):
            for file in self.directory.glob(pattern):
                file.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.directory, ignore_errors=True)


def _is_recent(file: Path, seconds: float) -> bool:
    """Tell whether a file was written in the last seconds."""
    try:
        # later than now if the clock was set back
        return abs(time.time() - file.stat().st_mtime) < seconds
    except OSError:
        return False


class SharedConnections:
    """The shared connections of this host.

    Args:
        settings: This host's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known_hosts = KnownHosts.of(settings)
        self._choosing, self._salting = threading.Lock(), threading.Lock()

    def can_be_joined(self, volume: Volume, login: Login) -> bool:
        """Tell whether a connection stands, or is being made, that a volume can share: its login needs no check.

        A pinned host key is not known before a check has found it, under the server's name and port of now.
        """
        if not volume.shares_connection or not all(map(self._known_hosts.has_pinned, (volume, *volume.jumps))):
            return False
        return self._joinable(volume, self._key(volume, login)) is not None

    def join(self, volume: Volume, login: Login) -> tuple[SharedConnection | None, bool]:
        """Choose the connection that a volume shares from now on, and write its files if it is yet to be made.

        Returns:
            The connection, None if the volume is to share none, and whether the caller has to make it.
        """
        self.leave(volume.name)
        if not volume.shares_connection:
            return None, False
        key = self._key(volume, login)
        try:
            self._settings.logins.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._choosing:
                found = self._joinable(volume, key)
                if not found:
                    return self._new(key, volume, login), True
                (found.volumes / volume.name).touch(0o600)
                return found, False
        except OSError as error:  # it has ended just now, or /run is full
            log.warning("the volume gets a connection of its own, since %s", error)
            return None, False

    def leave(self, name: VolumeName) -> None:
        """Note that a volume shares no connection any more."""
        for file in self._settings.connections.glob(f"*/volumes/{name}"):
            file.unlink(missing_ok=True)

    def end_idle(self) -> None:
        """End the connections that no volume shares, which otherwise stay for a while, as those that hang do.

        One that does not answer in time is not asked again.
        """
        with self._choosing:
            idle = [each for each in self.all() if not (each.shared_by or each.is_being_made)]
            for connection in idle:
                with suppress(OSError):  # it has ended just now
                    connection.ending.touch(0o600)
        limit = Deadline.after(END_SECONDS)
        for connection in idle:
            left = limit.left()
            if left and connection.stands and not connection.is_silent:
                words = ["ssh", "-F", "none", "-O", "exit", "-S", str(connection.socket), "none"]
                try:
                    command.run(words, seconds=left)
                    kernel.await_absence(connection.directory, limit.left())
                except errors.ProgramStuck:
                    if left > END_SECONDS / 2:  # else it had no time to answer
                        connection.note_silence()
                except errors.ProgramError as error:
                    log.warning("an idle connection stays for some minutes: %s", error)

    def remove_ended(self) -> None:
        """Remove what is left of connections that have ended, or were never made."""
        self.remove_given_up()
        for connection in self.all():
            # in the order in which they become true
            if not (connection.is_being_made or connection.stands or connection.failed_just_now):
                connection.remove()
        for file in self._settings.logins.glob("*"):
            if not _is_recent(file, LOGINS_SECONDS):
                file.unlink(missing_ok=True)

    def remove_given_up(self) -> None:
        """Remove the passwords and keys of connections that nothing makes any more, and what was never made at all."""
        for connection in self.all():
            if connection.was_given_up:
                (connection.remove_secrets if connection.stands else connection.remove)()

    def all(self, names: str = "*") -> list[SharedConnection]:
        """Return the connections whose names match a pattern, those included that have ended and left their files."""
        return [SharedConnection(directory) for directory in sorted(self._settings.connections.glob(f"{names}/"))]

    def _joinable(self, volume: Volume, key: str) -> SharedConnection | None:
        """Return a connection of a key that takes one more volume, or will when it is made."""
        for connection in self.all(f"{key}-*"):
            is_full = len(connection.shared_by - {volume.name}) >= SESSIONS
            is_open = not (is_full or connection.hangs or connection.ending.exists())
            if is_open and (connection.is_being_made or connection.stands):  # one that is made meanwhile stands then
                return connection
        return None

    def _key(self, volume: Volume, login: Login) -> str:
        """Return a name for all that decides how a connection is made; nobody can guess a password from it."""
        remote = volume.remote
        known = [key for each in (volume, *volume.jumps) for key in self._known_hosts.of_server(each)]
        parts = [
            remote.account,
            sshfs.shared_ssh_config(volume, login, self._known_hosts),
            *(each.pinned_host_key for each in (volume, *volume.jumps)),
            login.digest.hex(),
            *(f"{key.file} {key.kind} {key.blob.hex()} {key.revoked}" for key in known),
        ]
        return hashlib.blake2b(json.dumps(parts).encode(), key=self._salt(), digest_size=8).hexdigest()

    def _salt(self) -> bytes:
        file = self._settings.connections / "salt"
        with self._salting:
            try:
                return file.read_bytes()
            except OSError:
                salt = secrets.token_hex(32)
                with suppress(OSError):  # without it no connection is found again
                    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    replace_file(file, salt)
                return salt.encode()

    def _new(self, key: str, volume: Volume, login: Login) -> SharedConnection:
        """Write the files of a new connection, whose name no other has had, for the first volume that shares it."""
        connection = SharedConnection(self._settings.connections / f"{key}-{secrets.token_hex(2)}")
        if len(os.fsencode(connection.socket)) > LONGEST_SOCKET:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(connection.socket))
        connection.directory.mkdir(mode=0o700)
        try:
            self._write(connection, volume, login)
        except BaseException:  # else others would wait for it
            connection.remove()
            raise
        return connection

    def _write(self, connection: SharedConnection, volume: Volume, login: Login) -> None:
        """Write the files of a connection, which a volume shares from now on."""
        connection.volumes.mkdir(mode=0o700)
        (connection.volumes / volume.name).touch(0o600)
        replace_file(connection.making, str(time.monotonic()))
        known_hosts = self._known_hosts.with_copies((volume, *volume.jumps), connection.pinned)
        pinned = known_hosts.pinned_file(volume.name)
        config = sshfs.shared_ssh_config(volume, login, known_hosts, pinned, connection.key)
        replace_file(connection.ssh_config, config)
        askpass = self._settings.libexec / "askpass"
        values = {"LOGIN": volume.remote.login, **write_secrets(volume, login, connection, askpass)}
        replace_file(connection.environment, sshfs.environment_file(values))
