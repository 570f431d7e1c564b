# SPDX-License-Identifier: MIT
"""The files that a volume's unit reads: the service writes them before the mount, and each reconnect reads them again.

They are in ``/run``, readable by root alone, and gone after a reboot, as the mounts are.
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.options import MOST_JUMPS
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh import sshfs
from sshfs_plugin.ssh.credentials import Login, account
from sshfs_plugin.ssh.known_hosts import KnownHosts
from sshfs_plugin.ssh.sshfs import numbered
from sshfs_plugin.volume import Volume, VolumeName

_LINE_BYTES = 64


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """Where the secrets of a volume or of a shared connection are written, and the host keys that it pins.

    Attributes:
        directory: The directory that they are in, readable by root alone.
    """

    directory: Path

    @property
    def password(self) -> Path:
        """The password; there only if it is on record or a credential, and so in no file for ssh's helper."""
        return self.directory / "password"

    @property
    def key(self) -> Path:
        """The copy of a key; there only if ssh can't use it where it is."""
        return self.directory / "key"

    @property
    def pinned(self) -> Path:
        """A directory with the pinned host keys of now: a remote may be edited while its volume is mounted."""
        return self.directory / "pinned"


@dataclass(frozen=True, slots=True)
class UnitFiles(SecretFiles):
    """The files of one volume."""

    @classmethod
    def of(cls, settings: Settings, name: VolumeName) -> "UnitFiles":
        """Return the files of a volume on a host with these settings."""
        return cls(settings.unit_files / name)

    @property
    def environment(self) -> Path:
        """The variables of the unit."""
        return self.directory / "environment"

    @property
    def ssh_config(self) -> Path:
        """The ssh_config of the volume's connections."""
        return self.directory / "ssh_config"

    @property
    def taken(self) -> Path:
        """An empty file that the step ``mount`` makes.

        Once it is there, the unit removes this directory when it ends.
        """
        return self.directory / "taken"

    @property
    def stopped(self) -> Path:
        """An empty file that the step ``stop`` makes when it kills an sshfs that has lost its server."""
        return self.directory / "stopped"

    @property
    def told(self) -> Path:
        """A FIFO to which the unit's steps write a line when the mount answers, and when the unit has ended."""
        return self.directory / "told"

    def write(self, volume: Volume, login: Login, settings: Settings, shared: Mapping[str, str] | None = None) -> None:
        """Write the files with which the unit mounts a volume.

        Args:
            volume: The volume.
            login: What it logs in with.
            settings: This host's.
            shared: The variables that tell its relay of the connection that it shares.

        Raises:
            StateError: A file could not be written.
        """
        mountpoint = settings.mounts / volume.name
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for mark in (self.taken, self.stopped, self.told):
                mark.unlink(missing_ok=True)
            os.mkfifo(self.told, 0o600)
            known_hosts = KnownHosts.of(settings).with_copies((volume, *volume.jumps), self.pinned)
            replace_file(self.ssh_config, sshfs.ssh_config(volume, login, known_hosts, self.key))
            values = {
                "SOURCE": volume.remote.source,
                "MOUNTPOINT": str(mountpoint.parent.resolve() / mountpoint.name),
                "SSH_CONFIG": str(self.ssh_config),
                "OPTIONS": sshfs.options(volume, settings.libexec / "relay"),
                **self._relay_variables(volume, shared or {}),
                **self._password_variables(volume, login, settings),
            }
            replace_file(self.environment, sshfs.environment_file(values))
        except OSError as error:
            self.remove()
            raise errors.StateError(
                f"cannot write to {self.directory}, {error.strerror}", "is the file system there full?"
            ) from error

    @contextmanager
    def listening(self) -> Iterator[int]:
        """Give a descriptor from which to read what the unit's steps tell from now on. Raises StateError."""
        try:
            descriptor = os.open(self.told, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise errors.StateError(f"cannot read {self.told}, {error.strerror}", "try again") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @property
    def outage(self) -> Path:
        """The file in which the relay says why the connection is lost; there only as long as it is."""
        return self.directory / "outage"

    @property
    def retry(self) -> Path:
        """An empty file that has the relay try again at once; it takes it away."""
        return self.directory / "retry"

    @property
    def reconnects(self) -> Path:
        """The file to which the relay adds a byte each time that it has connected again; its size is their number."""
        return self.directory / "reconnects"

    def remove(self) -> None:
        """Remove the files, after the unit has ended."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _relay_variables(self, volume: Volume, shared: Mapping[str, str]) -> dict[str, str]:
        """Return the settings of the relay."""
        if volume.read_seconds is None:
            return {}
        return {
            "SSHFS_PLUGIN_READ_TIMEOUT": str(volume.read_seconds),
            "SSHFS_PLUGIN_OUTAGE": str(self.outage),
            "SSHFS_PLUGIN_KEPT": f"{_kept_seconds(volume):g}",
            "SSHFS_PLUGIN_DIRECTORY": volume.remote.directory or ".",
            **shared,
        }

    def _password_variables(self, volume: Volume, login: Login, settings: Settings) -> dict[str, str]:
        """Return the variables with which ssh asks our helper for passwords, that of version 1.1 included."""
        variables = write_secrets(volume, login, self, settings.libexec / "askpass")
        # 1.1 knows no jump hosts, and would give them the password of the server
        of_1_1 = variables and not volume.jumps
        return {**variables, "SSHFS_PLUGIN_PASSWORD_OF": volume.name} if of_1_1 else variables


def _kept_seconds(volume: Volume) -> float:
    """Return for how long the relay may answer from what it has seen: at most for a second, as the kernel by default.

    With several connections it is none, since no relay sees all that sshfs asks; nor where sshfs follows links, since a
    directory has several paths then.
    """
    options = dict(volume.sshfs_options)
    if options.get("max_conns", "1") != "1" or "follow_symlinks" in options:
        return 0
    return min(float(options.get("attr_timeout") or 1), 1)


def is_answered(steps: int) -> bool:
    """Read what a step has told (see :meth:`UnitFiles.listening`); return whether it is that the mount answers."""
    return os.read(steps, _LINE_BYTES).startswith(b"answered")


def write_secrets(volume: Volume, login: Login, files: SecretFiles, askpass: Path) -> dict[str, str]:
    """Write the secrets that ssh can't read elsewhere, and remove those that are no more.

    Args:
        volume: The volume.
        login: What it and its jump hosts are logged in to with.
        files: Where to write those of its server; those of its jump hosts are beside.
        askpass: Our helper.

    Returns:
        The variables with which ssh asks our helper for passwords.
    """
    variables = {}
    for number in range(MOST_JUMPS + 1):
        each = (login, *login.jumps)[number] if number <= len(login.jumps) else Login()
        _write_or_remove(numbered(files.key, number), each.copied_key)
        on_record = numbered(files.password, number)
        _write_or_remove(on_record, f"{each.password}\n" if each.password and not each.password_file else "")
        if each.password:
            its = f"SSHFS_PLUGIN_ACCOUNT_{number}" if volume.jumps else "SSHFS_PLUGIN"
            variables[f"{its}_PASSWORD_FILE"] = str(each.password_file or on_record)
            if volume.jumps:
                variables[its] = account((volume, *volume.jumps)[number].remote)
    return {"SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force", **variables} if variables else {}


def _write_or_remove(file: Path, text: str) -> None:
    if text:
        replace_file(file, text)
    else:
        file.unlink(missing_ok=True)


def replace_file(path: Path, text: str) -> None:
    """Write a file so that its reader sees the old text or the new; it is not synced, since /run outlives no crash."""
    new = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        new.touch(mode=0o600, exist_ok=False)
        new.write_text(text, "utf-8")
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
