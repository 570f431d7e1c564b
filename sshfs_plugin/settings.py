# SPDX-License-Identifier: MIT
"""Where things are and how many there may be: the environment, read once.

``/etc/default/docker-volume-sshfs`` sets what an administrator may want to change; the tests set the rest to run a
whole plugin in a directory of their own. The release, a program of its own, reads the same settings.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PREFIX = "SSHFS_PLUGIN_"
FEWEST_THREADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the parts are told about this host.

    Attributes:
        state: What must outlive a reboot: volume records and known hosts.
        mounts: The mountpoints, one a volume.
        runtime: What must not: holders, and what the unit of each mounted volume reads.
        configuration: Where the default key is looked for.
        libexec: The programs that systemd and ssh run.
        home: What ``~`` stands for in the options.
        root: Below which Docker's own directories are.
        supervisor: ``systemd``, ``process``, or ``auto`` to look whether systemd is PID 1.
        threads: How many calls can be under way at once.
        tls: A directory with ``cert.pem`` and ``key.pem`` of the service and ``ca.pem``, the authority that has signed
            the certificates of those who may call it; None to be served without TLS.
    """

    state: Path = Path("/var/lib/docker-volume-sshfs")
    mounts: Path = Path("/var/lib/docker-volume-sshfs/mounts")
    runtime: Path = Path("/run/docker-volume-sshfs")
    configuration: Path = Path("/etc/docker-volume-sshfs")
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
        values: dict[str, Any] = {name: Path(text) for name, text in given.items()}
        if (supervisor := given.get("supervisor", "auto")) not in ("auto", "systemd", "process"):
            raise ValueError(f"{PREFIX}SUPERVISOR must be auto, systemd or process, not {supervisor!r}")
        if not (threads := given.get("threads", "512")).isdecimal() or int(threads) < FEWEST_THREADS:
            raise ValueError(f"{PREFIX}THREADS must be a number of at least {FEWEST_THREADS}, not {threads!r}")
        values |= {"supervisor": supervisor, "threads": int(threads)}
        return cls(**values)

    def environment(self) -> dict[str, str]:
        """Return the variables from which another process reads the same settings."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {PREFIX + name.upper(): str(value) for name, value in values.items() if value is not None}

    @property
    def volumes(self) -> Path:
        """The volume records."""
        return self.state / "volumes"

    @property
    def known_hosts(self) -> Path:
        """The host keys that this plugin has accepted."""
        return self.state / "known_hosts"

    @property
    def pinned(self) -> Path:
        """The host keys of volumes with ``host_key``, a file for each."""
        return self.state / "pinned"

    @property
    def socket(self) -> Path:
        """Where the service listens, as its socket unit says."""
        return self.runtime / "sshfs.sock"

    @property
    def spec(self) -> Path:
        """The file that tells Docker of the socket, there while the socket is open."""
        return self.runtime / "sshfs.spec"

    @property
    def holders(self) -> Path:
        """Who holds which volume."""
        return self.runtime / "holders"

    @property
    def unit_files(self) -> Path:
        """What the unit of each mounted volume reads, a directory for each."""
        return self.runtime / "mounts"

    @property
    def releases(self) -> Path:
        """A file for each volume that is to be unmounted if nobody uses it."""
        return self.runtime / "releases"

    @property
    def locks(self) -> Path:
        """Lock files of volumes whose process systemd does not keep."""
        return self.runtime / "locks"

    @property
    def logs(self) -> Path:
        """What sshfs and ssh say where there is no journal for it."""
        return self.runtime / "logs"

    @property
    def default_key(self) -> Path:
        """The key for volumes that name neither key nor password."""
        return self.configuration / "id_ed25519"
