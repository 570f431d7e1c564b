# SPDX-License-Identifier: MIT
"""The paths and limits of the plugin, read once from the environment.

An administrator of the package sets no path: its units, their sandbox and the maintainer scripts have the usual ones,
and the administrator's command reads its own environment, not that of the service. What is left, such as the threads,
is set in ``/etc/default/docker-volume-sshfs``, and ``tls`` in a drop-in of the service (docs/ways-in.md). The managed
plugin has paths of its own, and tests run a plugin in a directory of theirs. The release program reads the same
settings.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PREFIX = "SSHFS_PLUGIN_"
FEWEST_THREADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The paths and limits on this host.

    Attributes:
        state: The directory of what must outlive a reboot: volume records and known hosts.
        mounts: The directory of the mountpoints, which are named after their volumes.
        runtime: The directory of what must not outlive a reboot: holders, and the files of mounted volumes' units.
        configuration: The directory of the default key, of the remotes' files and of secrets.
        credentials: The directory of the credentials that systemd has handed to the service; there while that runs.
        libexec: The directory of the programs that systemd and ssh run.
        home: The directory that ``~`` stands for in options.
        root: The directory below which Docker's own directories are.
        supervisor: ``systemd``, ``process``, or ``auto`` for systemd where it is PID 1.
        threads: How many calls can be under way at once.
        tls: A directory with the service's ``cert.pem`` and ``key.pem``, and with ``ca.pem``, the authority that signs
            the certificates of clients; None to be served without TLS.
    """

    state: Path = Path("/var/lib/docker-volume-sshfs")
    mounts: Path = Path("/var/lib/docker-volume-sshfs/mounts")
    runtime: Path = Path("/run/docker-volume-sshfs")
    configuration: Path = Path("/etc/docker-volume-sshfs")
    credentials: Path = Path("/run/credentials/docker-volume-sshfs.service")
    libexec: Path = Path("/usr/libexec/docker-volume-sshfs")
    home: Path = Path("/root")
    root: Path = Path("/")
    supervisor: str = "auto"
    threads: int = 512
    tls: Path | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read the settings from variables such as ``SSHFS_PLUGIN_SUPERVISOR``.

        Raises:
            ValueError: A value makes no sense; the message names the variable.
        """
        given = {
            field.name: text for field in dataclasses.fields(cls) if (text := environ.get(PREFIX + field.name.upper()))
        }
        return cls(**{name: _READ.get(name, Path)(text) for name, text in given.items()})

    def environment(self) -> dict[str, str]:
        """Return the variables from which another process reads the same settings."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {PREFIX + name.upper(): str(value) for name, value in values.items() if value is not None}

    @property
    def volumes(self) -> Path:
        """The directory of the volume records."""
        return self.state / "volumes"

    @property
    def known_hosts(self) -> Path:
        """The file of the host keys that this plugin has accepted."""
        return self.state / "known_hosts"

    @property
    def pinned(self) -> Path:
        """The directory of pinned host keys, with a file for each volume that has the option ``host_key``."""
        return self.state / "pinned"

    @property
    def socket(self) -> Path:
        """The socket of the service; its socket unit has the same path."""
        return self.runtime / "sshfs.sock"

    @property
    def spec(self) -> Path:
        """The spec that tells Docker where the socket is; it exists while the socket is open."""
        return self.runtime / "sshfs.spec"

    @property
    def holders(self) -> Path:
        """The directory of the holders' records."""
        return self.runtime / "holders"

    @property
    def unit_files(self) -> Path:
        """The directory of what volumes' units read, with a directory for each mounted volume."""
        return self.runtime / "mounts"

    @property
    def connections(self) -> Path:
        """The directory of shared connections, with a directory for each."""
        return self.runtime / "connections"

    @property
    def logins(self) -> Path:
        """The directory of the files in which volumes that have lost a shared connection tell of their logins."""
        return self.runtime / "logins"

    @property
    def releases(self) -> Path:
        """The directory of release requests: empty files, named after the volumes that are to be released."""
        return self.runtime / "releases"

    @property
    def locks(self) -> Path:
        """The directory of the lock files of volumes that are mounted without systemd."""
        return self.runtime / "locks"

    @property
    def logs(self) -> Path:
        """The directory of what sshfs and ssh print for volumes that are mounted without systemd."""
        return self.runtime / "logs"

    @property
    def remotes(self) -> Path:
        """The directory of the remotes' files."""
        return self.configuration / "remotes.d"

    @property
    def secrets(self) -> Path:
        """The directory of secrets, each in a file of its name."""
        return self.configuration / "secrets.d"

    @property
    def default_key(self) -> Path:
        """The key for volumes that name neither key nor password."""
        return self.configuration / "id_ed25519"


def _supervisor(text: str) -> str:
    if text not in ("auto", "systemd", "process"):
        raise ValueError(f"{PREFIX}SUPERVISOR must be auto, systemd or process, not {text!r}")
    return text


def _threads(text: str) -> int:
    if not text.isdecimal() or int(text) < FEWEST_THREADS:
        raise ValueError(f"{PREFIX}THREADS must be a number of at least {FEWEST_THREADS}, not {text!r}")
    return int(text)


_READ: Mapping[str, Callable[[str], Any]] = {"supervisor": _supervisor, "threads": _threads}
"""How the settings are read that are no paths."""
