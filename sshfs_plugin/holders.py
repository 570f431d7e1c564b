# SPDX-License-Identifier: MIT
"""Who holds a volume: the counting rules, as pure functions on a frozen value.

Docker's Mounts and Unmounts do not balance (docs/facts.md): ``docker cp`` mounts a live ID a second time, a
Docker that was killed never unmounts, and one that comes back mounts a stored ID again. Podman counts for itself and
uses one constant ID. So a holder is an ID with a count, and what is left over after a crash is marked as inherited.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sshfs_plugin.volume import MountID


class Client(enum.Enum):
    """Who speaks: the two count differently."""

    DOCKER = "docker"
    PODMAN = "podman"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """One mount ID's hold on a volume.

    Attributes:
        client: Who mounted.
        count: How many Mounts have not been given back.
        unconfirmed: How many of these have not been answered yet: they are not recorded, so that a crash before the
            reply invents no holder.
        device: The mount that it has, by the kernel's number of its file system; empty if that is not known.
        inherited: Whether it stems from before the client's present process, and so may never be given back.
    """

    client: Client
    count: int
    unconfirmed: int = 0
    device: str = ""
    inherited: bool = False


@dataclass(frozen=True, slots=True)
class Holders:
    """All the holders of one volume; every rule returns a new value."""

    by_id: Mapping[MountID, Holder] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many IDs hold the volume."""
        return len(self.by_id)

    @property
    def live(self) -> bool:
        """Whether somebody holds the volume who can be expected to give it back."""
        return any(not holder.inherited for holder in self.by_id.values())

    def have_other_than(self, device: str) -> bool:
        """Tell whether somebody holds another mount than this one."""
        return any(holder.device not in ("", device) for holder in self.by_id.values())

    def mounted(self, mount_id: MountID, client: Client, device: str = "") -> "Holders":
        """Add what a successful Mount adds, unconfirmed."""
        holder = self.by_id.get(mount_id)
        if holder is None:
            return self._with(mount_id, Holder(client=client, count=1, unconfirmed=1, device=device))
        if holder.inherited:
            return self._with(mount_id, replace(holder, inherited=False, unconfirmed=1, device=device))
        if client is Client.PODMAN:
            # the one hold is now this Mount's as well, so that it stays if the reply to the one before it is lost
            return self._with(mount_id, replace(holder, unconfirmed=0))
        return self._with(mount_id, replace(holder, count=holder.count + 1, unconfirmed=holder.unconfirmed + 1))

    def confirmed(self, mount_id: MountID) -> "Holders":
        """Note that the reply to one Mount was sent."""
        holder = self.by_id.get(mount_id)
        if holder is None or not holder.unconfirmed:
            return self
        return self._with(mount_id, replace(holder, unconfirmed=holder.unconfirmed - 1))

    def unanswered(self, mount_id: MountID) -> "Holders":
        """Take away what a Mount has added whose reply could not be sent, and which nobody will give back."""
        holder = self.by_id.get(mount_id)
        return self.unmounted(mount_id) if holder and holder.unconfirmed else self

    def unmounted(self, mount_id: MountID) -> "Holders":
        """Take away what an Unmount gives back; an ID that nobody knows changes nothing."""
        holder = self.by_id.get(mount_id)
        if holder is None:
            return self
        if holder.count <= 1:
            return Holders({other: kept for other, kept in self.by_id.items() if other != mount_id})
        unconfirmed = max(holder.unconfirmed - 1, 0)
        return self._with(mount_id, replace(holder, count=holder.count - 1, unconfirmed=unconfirmed))

    def inherited_from_docker(self) -> "Holders":
        """Note that a new Docker process has taken over: each of its IDs counts once, until it is taken up again."""
        return Holders(
            {
                mount_id: replace(holder, count=1, unconfirmed=0, inherited=True)
                if holder.client is Client.DOCKER
                else holder
                for mount_id, holder in self.by_id.items()
            }
        )

    def recorded(self) -> "Holders":
        """Return what is to be found again after a crash: only what was confirmed."""
        return Holders(
            {
                mount_id: replace(holder, count=holder.count - holder.unconfirmed, unconfirmed=0)
                for mount_id, holder in self.by_id.items()
                if holder.count > holder.unconfirmed
            }
        )

    def _with(self, mount_id: MountID, holder: Holder) -> "Holders":
        return Holders({**self.by_id, mount_id: holder})
