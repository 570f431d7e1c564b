# SPDX-License-Identifier: MIT
"""The holders of a volume, and the rules by which they are counted, as pure functions on a frozen value.

Docker's Mounts and Unmounts do not balance (docs/facts.md): ``docker cp`` mounts with an ID that already holds the
volume, a Docker that was killed never unmounts, and a restarted one mounts with its stored IDs again. Podman counts for
itself and uses one constant ID. So a holder is a mount ID with a count, and when Docker was restarted its earlier
holders are marked as inherited.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sshfs_plugin.volume import MountID


class Client(enum.Enum):
    """The program that sends requests; Docker and Podman count differently."""

    DOCKER = "docker"
    PODMAN = "podman"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """One mount ID's hold on a volume.

    Attributes:
        client: The program that mounted.
        count: How many Mounts have had no Unmount yet.
        unconfirmed: How many of these Mounts have not been answered yet. They are not recorded, so that a crash before
            the reply leaves no holder that the client knows nothing of.
        device: The kernel's number of the mounted file system, ``major:minor``; empty if it is not known.
        inherited: Whether an earlier process of the client mounted, so that an Unmount may never come.
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
        """Whether there is a holder that is not inherited, and so can be expected to unmount."""
        return any(not holder.inherited for holder in self.by_id.values())

    @property
    def are_docker_s(self) -> bool:
        """Whether only Docker holds the volume. Then what nothing uses was given back: Podman may hold for nobody."""
        return all(holder.client is Client.DOCKER for holder in self.by_id.values())

    def have_other_than(self, device: str) -> bool:
        """Tell whether a holder has another mount than that of this device."""
        return any(holder.device not in ("", device) for holder in self.by_id.values())

    def mounted(self, mount_id: MountID, client: Client, device: str = "") -> "Holders":
        """Count a successful Mount, which is unconfirmed until its reply has been sent."""
        holder = self.by_id.get(mount_id)
        if holder is None:
            return self._with(mount_id, Holder(client=client, count=1, unconfirmed=1, device=device))
        if holder.inherited:
            return self._with(mount_id, replace(holder, inherited=False, unconfirmed=1, device=device))
        if client is Client.PODMAN:
            # The one hold is this Mount's, too: it must stay if the reply to the Mount before is lost. No container has
            # an earlier mount: Podman asks for one only when the first of them starts.
            return self._with(mount_id, replace(holder, unconfirmed=0, device=device))
        return self._with(mount_id, replace(holder, count=holder.count + 1, unconfirmed=holder.unconfirmed + 1))

    def confirmed(self, mount_id: MountID) -> "Holders":
        """Note that the reply to one Mount has been sent."""
        holder = self.by_id.get(mount_id)
        if holder is None or not holder.unconfirmed:
            return self
        return self._with(mount_id, replace(holder, unconfirmed=holder.unconfirmed - 1))

    def unanswered(self, mount_id: MountID) -> "Holders":
        """Undo the count of a Mount whose reply could not be sent: no Unmount will follow it."""
        holder = self.by_id.get(mount_id)
        return self.unmounted(mount_id) if holder and holder.unconfirmed else self

    def unmounted(self, mount_id: MountID) -> "Holders":
        """Count an Unmount; an ID that holds nothing changes nothing."""
        holder = self.by_id.get(mount_id)
        if holder is None:
            return self
        if holder.count <= 1:
            return Holders({other: kept for other, kept in self.by_id.items() if other != mount_id})
        unconfirmed = max(holder.unconfirmed - 1, 0)
        return self._with(mount_id, replace(holder, count=holder.count - 1, unconfirmed=unconfirmed))

    def inherited_from_docker(self) -> "Holders":
        """Mark Docker's holders as inherited, since Docker was restarted; each counts once from now on."""
        return Holders(
            {
                mount_id: replace(holder, count=1, unconfirmed=0, inherited=True)
                if holder.client is Client.DOCKER
                else holder
                for mount_id, holder in self.by_id.items()
            }
        )

    def recorded(self) -> "Holders":
        """Return the holders to be recorded: those of confirmed Mounts alone."""
        return Holders(
            {
                mount_id: replace(holder, count=holder.count - holder.unconfirmed, unconfirmed=0)
                for mount_id, holder in self.by_id.items()
                if holder.count > holder.unconfirmed
            }
        )

    def _with(self, mount_id: MountID, holder: Holder) -> "Holders":
        return Holders({**self.by_id, mount_id: holder})
