# SPDX-License-Identifier: MIT
"""Unmounting what nobody uses: for all volumes that wait for it at once, since it takes a look at every process.

The service, which may not do that, puts a file with the volume's name into a directory and has this program run. When
the file has gone the question is answered, and the kernel's table of mounts tells how.
"""

import logging
import sys
from collections.abc import Iterable
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.mounts import kernel, mountinfo
from sshfs_plugin.settings import Settings
from sshfs_plugin.volume import VolumeName, volume_name

log = logging.getLogger(__name__)

END_SECONDS = 8.0


def answer_requests(settings: Settings) -> None:
    """Release what the service wants to have released, until it wants no more."""
    while names := _wanted(settings):
        release(settings, names)


def release(settings: Settings, names: Iterable[VolumeName]) -> None:
    """Unmount volumes unless somebody uses them: a container, or a process on this host.

    No miscount, ours or Docker's, can then take a volume away from a running container. sshfs ends by itself once
    its mount is gone, and whoever keeps it cleans up. A mountpoint that is left over from a host that was cut off is
    removed.

    Raises:
        OSError: The kernel refuses to unmount one; the others are done, and its request stays.
    """
    places = {settings.mounts.resolve() / name: name for name in names}
    found = {mount.mountpoint: mount for mount in mountinfo.mounts() if mount.mountpoint in places}
    used = mountinfo.used_elsewhere(found.values())
    refusals = []
    for mountpoint, name in places.items():
        try:
            if mountpoint in found:
                _unmount(mountpoint, used=found[mountpoint] in used)
            else:
                _remove(mountpoint)
        except OSError as refusal:  # the others are not to wait for this one
            refusals.append(refusal)
        else:
            (settings.releases / name).unlink(missing_ok=True)
    if refusals:
        raise refusals[0]


def _unmount(mountpoint: Path, *, used: bool) -> None:
    if used:
        log.info("%s is in use by a container: it stays", mountpoint)
    elif not kernel.unmount(mountpoint):
        log.info("%s is in use by a process on this host: it stays", mountpoint)


def _remove(mountpoint: Path) -> None:
    """Remove a mountpoint, unless something is in it, or mounted at it by now."""
    if not mountpoint.exists():
        return
    kernel.make_mutable(mountpoint)
    try:
        mountpoint.rmdir()
    except OSError as error:
        log.warning("%s stays, %s: look what is in it", mountpoint, error.strerror)


def _wanted(settings: Settings) -> list[VolumeName]:
    try:
        return [volume_name(request.name) for request in settings.releases.iterdir()]
    except FileNotFoundError:
        return []


def _await_clean_up(settings: Settings, names: Iterable[VolumeName]) -> None:
    """Wait until what has kept the processes of unmounted volumes has cleaned up, too."""
    still_mounted = mountinfo.sshfs_below(settings.mounts)
    for name in names:
        if name not in still_mounted:
            kernel.await_absence(settings.mounts / name, END_SECONDS)


def main() -> None:
    """Carry out ``release [VOLUME...]``; an error is one line on stderr and exit status 1."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        settings = Settings.from_environment()
        if names := [volume_name(name) for name in sys.argv[1:]]:
            release(settings, names)
            _await_clean_up(settings, names)
        else:
            answer_requests(settings)
    except (errors.PluginError, OSError, ValueError) as error:
        sys.exit(str(error))
