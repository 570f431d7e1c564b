# SPDX-License-Identifier: MIT
"""``release``: unmounts a volume by hand; the service need not run."""

from sshfs_plugin import errors
from sshfs_plugin.cli import terminal
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.events import Event
from sshfs_plugin.host import journal
from sshfs_plugin.mounts.supervisors import supervisor
from sshfs_plugin.settings import Settings
from sshfs_plugin.state.records import VolumeRecords
from sshfs_plugin.volume import volume_name

RELEASE_SECONDS = 60.0


def release(settings: Settings, text: str, *, by_force: bool) -> None:
    """Unmount a volume, by force also if it is in use or its server does not answer.

    Args:
        settings: This host's.
        text: The name of the volume.
        by_force: Whether to detach it even if it is in use.

    Raises:
        InvalidVolumeName, VolumeNotFound: There is no such volume, neither on record nor mounted.
        VolumeInUse: A container or a process uses it.
        UnmountFailed: It could not be unmounted; the error says why.
    """
    name, deadline = volume_name(text), Deadline.after(RELEASE_SECONDS)
    mounts = supervisor(settings)
    was_mounted = mounts.device(name) is not None
    if not was_mounted and name not in VolumeRecords.of(settings).names():
        raise errors.VolumeNotFound(name)
    if by_force and (was_mounted or not mounts.end_unless_kept(name, deadline)):
        mounts.release_by_force(name, deadline)
        journal.note(f"release --force {name}: unmounted", Event.RELEASED_BY_FORCE, name)
        terminal.say(f"{name} is unmounted.", colour="green")
        terminal.say(
            f"Containers that had it have lost it until they are restarted: docker ps -a --filter volume={name}"
        )
    elif not was_mounted:
        terminal.say(f"{name} is not mounted.")
    elif mounts.release_by_hand(name, deadline):
        terminal.say(f"{name} is unmounted; the next container that uses it mounts it again.", colour="green")
    else:
        raise errors.VolumeInUse(
            name,
            f"docker ps --filter volume={name} shows containers, fuser -vm {mounts.mountpoint(name)} processes; "
            f"docker-volume-sshfs release --force {name} takes it away from them",
        )
