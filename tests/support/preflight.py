# SPDX-License-Identifier: MIT
"""A preflight that asks no server."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from sshfs_plugin.deadline import Deadline
from sshfs_plugin.errors import BeingUpgraded, PluginError
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.volume import Volume, VolumeName
from support.waiting import Gate

LOGIN = Login(password="hunter2", contents={Path("/root/.ssh/id_rsa-cert.pub"): b"signed"})


@dataclass(frozen=True)
class FakePrepared:
    """A preflight whose login tells keys apart by their names."""

    preflight: "FakePreflight"
    volume: Volume
    login: Login

    def run(self, deadline: Deadline, *, creating: bool = False, logged_in: Callable[[], None] = lambda: None) -> None:
        """Make the checks."""
        self.preflight.run(self.volume, deadline, creating=creating, logged_in=logged_in)


@dataclass
class FakePreflight:
    """A preflight that fails or hangs where the test says so."""

    problems: dict[str, PluginError] = field(default_factory=dict)
    gates: dict[str, Gate] = field(default_factory=dict)
    files: dict[str, Gate] = field(default_factory=dict)
    directories: dict[str, Gate] = field(default_factory=dict)
    prepared: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    unpinned: list[str] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    is_being_upgraded: bool = False
    mends: Callable[[], object] = lambda: None
    seconds: list[float] = field(default_factory=list)

    def prepare(self, volume: Volume) -> FakePrepared:
        """Note that this host's files are read, or break or hang there."""
        self.prepared.append(volume.name)
        if gate := self.files.get(volume.name):
            gate.hold()
        if self.is_being_upgraded:
            raise BeingUpgraded
        return FakePrepared(self, volume, _login(volume))

    def login(self, volume: Volume) -> Login:
        """Note that this host's files are read."""
        self.prepared.append(volume.name)
        return _login(volume)

    def run(self, volume: Volume, deadline: Deadline, *, creating: bool = False, logged_in: Callable[[], None]) -> None:
        """Pass, unless the test has said otherwise of this volume or its key."""
        if creating:
            self.created.append(volume.name)
        self.seconds.append(deadline.left())
        self.checked.append(volume.name)
        if gate := self.gates.get(volume.name):
            gate.hold()
        if problem := self.problems.get(volume.name) or self.problems.get(volume.credentials.identity_file):
            raise problem
        logged_in()
        if gate := self.directories.get(volume.name):
            gate.hold()
        self.mends()

    def unpin(self, name: VolumeName) -> None:
        """Note that a volume's pinned host key is to be removed."""
        self.unpinned.append(name)


def _login(volume: Volume) -> Login:
    key = volume.credentials.identity_file
    return replace(LOGIN, identity_files=(Path(key),)) if key else LOGIN
