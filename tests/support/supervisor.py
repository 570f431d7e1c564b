# SPDX-License-Identifier: MIT
"""A supervisor that mounts nothing."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sshfs_plugin.deadline import Deadline
from sshfs_plugin.errors import MountError
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.volume import Volume, VolumeName
from support.waiting import Gate


@dataclass
class FakeConnections:
    """Shared connections that are none.

    Attributes:
        joinable: The volumes that can share one that stands.
        ended: How often the idle ones were to end.
        left: The volumes that share one no more.
    """

    joinable: set[str] = field(default_factory=set)
    ended: int = 0
    left: list[str] = field(default_factory=list)

    def leave(self, name: VolumeName) -> None:
        """Note it."""
        self.left.append(name)

    def can_be_joined(self, volume: Volume, login: Login) -> bool:
        """Tell whether the test says so."""
        return volume.name in self.joinable

    def end_idle(self) -> None:
        """Note it."""
        self.ended += 1

    def remove_given_up(self) -> None:
        """Do nothing: none is ever made."""


@dataclass
class FakeSupervisor:
    """Mounts that exist by name alone.

    Attributes:
        root: The directory of the mountpoints.
        live: The volumes that are mounted.
        devices: The device of the latest mount of each.
        silent: Those whose mount does not answer.
        outages: Those that have no connection to their server, with the reason and since when.
        reconnected: How often volumes have been connected again.
        used: Those that a container or process uses.
        start_problems: What a start fails with.
        release_problems: What a release fails with.
        start_gates: Where starts are held back.
        release_gates: Where releases are held back.
        answer_gates: Where the question whether a mount answers is held back.
        started: Every start, in order.
        logins: What each of them logs in with.
        released: Every release that unmounted, in order.
        asked: How often each volume was to be released, used or not.
        seconds: How long each start and release might take.
        answer_seconds: How long each question whether a mount answers might take.
        discarded: The volumes of whose unit files nothing is kept any more, in order.
        mounted_elsewhere: The devices that a container has which nothing here has.
        kept: Those whose process goes on although they are not mounted.
        unprovided: Those whose unit would find nothing to read.
        unsettled: The volumes of which a release is under way that an earlier process has asked for.
        connections: The shared connections.
        empty: The mountpoints at which nothing is mounted.
        cleared: Those of them that were to be removed, in order.
        clear_problem: Why they can't be.
        logs_shortened: How often the logs were to be shortened.
    """

    root: Path
    live: set[str] = field(default_factory=set)
    devices: dict[str, str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    outages: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    reconnected: dict[str, int] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    start_problems: dict[str, Exception] = field(default_factory=dict)
    release_problems: dict[str, MountError] = field(default_factory=dict)
    start_gates: dict[str, Gate] = field(default_factory=dict)
    release_gates: dict[str, Gate] = field(default_factory=dict)
    answer_gates: dict[str, Gate] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    logins: list[Login] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    answer_seconds: list[float] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)
    mounted_elsewhere: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    unprovided: set[str] = field(default_factory=set)
    unsettled: set[str] = field(default_factory=set)
    connections: FakeConnections = field(default_factory=FakeConnections)
    empty: set[str] = field(default_factory=set)
    cleared: list[str] = field(default_factory=list)
    clear_problem: MountError | None = None
    logs_shortened: int = 0

    def mountpoint(self, name: VolumeName) -> Path:
        """Return where a volume is mounted when it is."""
        return self.root / name

    def unit(self, name: VolumeName) -> str:
        """Return what systemd would call it."""
        return f"docker-volume-sshfs@{name}.service"

    def log(self, _name: VolumeName) -> str:
        """Return where systemd would have its words."""
        return "journalctl -t sshfs"

    def mounted(self) -> dict[str, str]:
        """Return the names of the volumes that are mounted, with the device of each."""
        return {name: self.devices.get(name, "") for name in self.live}

    def device(self, name: VolumeName) -> str | None:
        """Return the device of a volume's mount; None if it is not mounted."""
        return self.mounted().get(name)

    def answers(self, name: VolumeName, seconds: float) -> bool:
        """Tell whether a mount is there and not silent."""
        self.answer_seconds.append(seconds)
        if gate := self.answer_gates.get(name):
            gate.hold()
        return name in self.live and name not in self.silent

    def outage(self, name: VolumeName) -> tuple[str, datetime] | None:
        """Return why a volume has no connection, and since when."""
        return self.outages.get(name)

    def reconnects(self, name: VolumeName) -> int:
        """Return how often a volume has been connected again."""
        return self.reconnected.get(name, 0)

    def left_over(self) -> set[str]:
        """Return the mountpoints of which the test says so."""
        return self.empty - self.live

    def clear(self, name: VolumeName, deadline: Deadline) -> None:
        """Note that a mountpoint is to be removed."""
        self.seconds.append(deadline.left())
        self.cleared.append(name)
        if self.clear_problem:
            raise self.clear_problem

    def shorten_logs(self) -> None:
        """Note that the logs are to be shortened."""
        self.logs_shortened += 1

    def settle(self) -> None:
        """End all releases that an earlier process has left under way."""
        self.unsettled.clear()

    def start(self, volume: Volume, login: Login, deadline: Deadline) -> None:
        """Mount a volume, unless the test has said otherwise of it."""
        self.logins.append(login)
        name = volume.name
        self.seconds.append(deadline.left())
        self.started.append(name)
        if gate := self.start_gates.get(name):
            gate.hold()
        if problem := self.start_problems.get(name):
            raise problem
        self.silent.discard(name)
        self.live.add(name)
        self.devices[name] = f"0:{len(self.started)}"

    def is_mounted_nowhere(self, device: str) -> bool:
        """Tell whether a device is known, and mounted neither here nor, as the test says, elsewhere."""
        return bool(device) and device not in {*self.mounted().values(), *self.mounted_elsewhere}

    def is_kept(self, name: VolumeName) -> bool:
        """Tell whether the volume's process goes on although it is not mounted here."""
        return name in self.kept

    def end_unless_kept(self, name: VolumeName, _deadline: Deadline) -> bool:
        """Tell whether the volume's process does not go on although it is not mounted here."""
        return name not in self.kept

    def is_provided(self, name: VolumeName) -> bool:
        """Tell whether what the volume's unit reads is there."""
        return name not in self.unprovided

    def provide(self, volume: Volume, login: Login) -> None:
        """Note that what the volume's unit reads is there now."""
        self.logins.append(login)
        self.unprovided.discard(volume.name)

    def discard_files(self, name: VolumeName) -> None:
        """Note that what a volume's unit reads is there no more."""
        self.discarded.append(name)

    def release(self, name: VolumeName, deadline: Deadline) -> bool:
        """Unmount a volume unless it is used."""
        self.seconds.append(deadline.left())
        self.asked.append(name)
        if gate := self.release_gates.get(name):
            gate.hold()
        if problem := self.release_problems.get(name):
            raise problem
        if name in self.used:
            return False
        self.live.discard(name)
        self.released.append(name)
        return True
