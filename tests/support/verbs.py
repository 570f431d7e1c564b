# SPDX-License-Identifier: MIT
"""The verbs of a driver, as a client that has its reply calls them."""

from pathlib import Path

from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.holders import Client
from support import fakes
from support.fakes import ID, caller, soon


def create(driver: Driver, name: str = "photos", **opts: str) -> None:
    """Create a volume, of the one remote that all have if nothing else is said."""
    driver.create(name, {"sshcmd": fakes.SSHCMD, **opts}, soon())


def mount(driver: Driver, name: str = "photos", mount_id: str = ID, client: Client = Client.DOCKER) -> Path:
    """Mount as a client does whose reply arrives."""
    mountpoint = driver.mount(name, mount_id, caller(client), soon())
    driver.confirm(name, mount_id)
    return mountpoint


def status_of(driver: Driver, name: str = "photos") -> tuple[bool, int]:
    """Tell whether a volume is mounted, and how many hold it."""
    state = driver.get(name)
    return state.mountpoint is not None, state.holders
