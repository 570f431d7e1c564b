# SPDX-License-Identifier: MIT
"""A network for several machines: a bridge of this host, to which nothing else is connected."""

import contextlib
import secrets
from dataclasses import dataclass
from pathlib import Path

from .bootstrap import put
from .cache import CACHE, locked
from .commands import on_host

_UNIT = """\
[Unit]
Description=Give the machine its address in the network of the lab
DefaultDependencies=no
After=sysinit.target lab-writable.service
Before=basic.target
[Service]
Type=oneshot
RemainAfterExit=yes
# Docker makes settings there for its own networks
ExecStart=mount -o remount,rw /proc/sys
ExecStart=ip address add {address}/24 dev host0
ExecStart=ip link set host0 up
[Install]
WantedBy=basic.target
"""


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a machine in a network.

    Attributes:
        bridge: The bridge to which it is connected.
        hostname: Its name.
        addresses: The addresses of all machines there, by their names.
    """

    bridge: str
    hostname: str
    addresses: dict[str, str]

    def prepare(self, disk: Path) -> None:
        """Let a machine that boots from this disk have its address before Docker starts, and know the others."""
        put(disk, "/etc/hostname", f"{self.hostname}\n")
        others = "".join(f"{address} {name}\n" for name, address in self.addresses.items())
        put(disk, "/etc/hosts", f"127.0.0.1 localhost\n{others}")
        put(disk, "/etc/systemd/system/lab-network.service", _UNIT.format(address=self.addresses[self.hostname]))
        on_host("systemctl", f"--root={disk}", "enable", "lab-network.service")


class Network:
    """A network in which machines have names and addresses; this host has none there, and there is no way out.

    As a context manager it makes the bridge, and removes it at the end, after its machines. The bridge of a run that
    was killed is removed by the next run.
    """

    def __init__(self, *hostnames: str) -> None:
        """Prepare a network for machines of these names; nothing is made yet."""
        self._addresses = {hostname: f"10.77.0.{number}" for number, hostname in enumerate(hostnames, 1)}
        # an interface has at most 15 characters
        self._bridge = f"lab-{secrets.token_hex(4)}"
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> "Network":
        """Make the bridge."""
        with self._cleanup, locked(CACHE / "networks.lock"):
            _sweep()
            lock = _LOCKS / self._bridge
            self._cleanup.enter_context(locked(lock))
            self._cleanup.callback(lock.unlink)
            on_host("ip", "link", "add", self._bridge, "type", "bridge")
            self._cleanup.callback(_remove, self._bridge)
            on_host("ip", "link", "set", self._bridge, "up")
            self._cleanup = self._cleanup.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bridge."""
        self._cleanup.close()

    def place(self, hostname: str) -> Place:
        """Return the place of one of the machines."""
        return Place(self._bridge, hostname, self._addresses)


_LOCKS = CACHE / "networks"
"""A file for each bridge, named like it, which is locked as long as the bridge is used."""


def _remove(bridge: str) -> None:
    on_host("ip", "link", "delete", bridge, check=False)
    assert not Path("/sys/class/net", bridge).exists(), f"the bridge {bridge} can't be removed"


def _sweep() -> None:
    _LOCKS.mkdir(parents=True, exist_ok=True)
    for lock in _LOCKS.iterdir():
        with locked(lock, wait=False) as free:
            if free:
                _remove(lock.name)
                lock.unlink()
