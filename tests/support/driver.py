# SPDX-License-Identifier: MIT
"""What a driver finds around it, and those who call its verbs.

All of it answers at once unless a test closes a gate.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.driver.locks import Slots
from sshfs_plugin.driver.values import Caller
from sshfs_plugin.holders import Client
from sshfs_plugin.mounts.supervisor import Supervisor
from sshfs_plugin.preflight.deferred import DeferredPreflight
from sshfs_plugin.state.records import HolderRecords, VolumeRecords
from support.clients import ID, SSHCMD
from support.preflight import FakePreflight
from support.records import MemoryHolders, MemoryVolumes
from support.supervisor import FakeSupervisor
from support.waiting import soon


def caller(client: Client = Client.DOCKER, *, process: int = 100, gone: bool = False) -> Caller:
    """Return somebody who sends requests, dockerd unless said otherwise."""
    return Caller(client=client, process=str(process), has_gone=lambda: gone)


def slow_slots() -> Slots:
    """Return room for a few slow calls at once."""
    return Slots(4, waiting=4)


@dataclass
class FakeHost:
    """All that a driver finds around it, and that outlives it."""

    supervisor: FakeSupervisor
    preflight: FakePreflight = field(default_factory=FakePreflight)
    volumes: MemoryVolumes = field(default_factory=MemoryVolumes)
    holder_records: MemoryHolders = field(default_factory=MemoryHolders)
    up_seconds: float = float("inf")
    living: set[str] = field(default_factory=set)

    @property
    def volume_store(self) -> VolumeRecords:
        """The volume records, to one who asks for a store."""
        return cast(VolumeRecords, self.volumes)

    @property
    def holder_store(self) -> HolderRecords:
        """The holder records, to one who asks for a store."""
        return cast(HolderRecords, self.holder_records)

    @property
    def real_preflight(self) -> DeferredPreflight:
        """The preflight, to one who asks for a real one."""
        return cast(DeferredPreflight, self.preflight)

    @property
    def real_supervisor(self) -> Supervisor:
        """The supervisor, to one who asks for a real one."""
        return cast(Supervisor, self.supervisor)

    def start_driver(self) -> Driver:
        """Start a driver, as each start of the service does."""
        driver = Driver(
            volumes=self.volume_store,
            holder_records=self.holder_store,
            preflight=self.real_preflight,
            supervisor=self.real_supervisor,
            up_seconds=lambda: self.up_seconds,
            lives=self.living.__contains__,
        )
        driver.load()
        return driver


def create(driver: Driver, name: str = "photos", **opts: str) -> None:
    """Create a volume, of the one remote that all have if nothing else is said."""
    driver.create(name, {"sshcmd": SSHCMD, **opts}, soon())


def mount(driver: Driver, name: str = "photos", mount_id: str = ID, client: Client = Client.DOCKER) -> Path:
    """Mount as a client does whose reply arrives."""
    mountpoint = driver.mount(name, mount_id, caller(client), soon())
    driver.confirm(name, mount_id)
    assert mountpoint
    return mountpoint


def status_of(driver: Driver, name: str = "photos") -> tuple[bool, int]:
    """Tell whether a volume is mounted, and how many hold it."""
    state = driver.get(name)
    return state.mountpoint is not None, state.holders
