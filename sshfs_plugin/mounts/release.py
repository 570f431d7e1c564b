# SPDX-License-Identifier: MIT
"""The release program: it unmounts volumes that nobody uses.

It looks at every process, which the sandbox of the service does not allow, and serves all requests in one look. A
request is an empty file of the volume's name, which the service makes before it has this program run. When the file is
gone, the kernel's table of mounts tells whether the volume was unmounted.
"""

import fcntl
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.mounts import kernel, mountinfo
from sshfs_plugin.settings import Settings
from sshfs_plugin.volume import VolumeName, volume_name

log = logging.getLogger(__name__)

END_SECONDS = 8.0

LOOK_SECONDS, PAUSE_SECONDS = 1.5, 0.05
"""For how long to try again what a process uses. It may be the service's look at the mount, which a relay that has just
lost its connection lets wait for a second.
"""


def answer_requests(settings: Settings) -> None:
    """Release the volumes that the service has requested, until no request is left."""
    while names := _requested(settings):
        release(settings, names, requested=True)


def release(settings: Settings, names: Iterable[VolumeName], *, requested: bool = False) -> None:
    """Unmount volumes unless somebody uses them: a container, or a process on this host.

    So a wrong count of holders, ours or Docker's, takes no volume away from a running container. sshfs ends by itself
    once its mount is gone, and its unit or keeper cleans up.

    Args:
        settings: This host's.
        names: The volumes.
        requested: Whether the service has asked, and holds the volumes' locks. Then each request is looked for again
            right before the volume is unmounted, and locked meanwhile, since the service may have given up and mounted
            the volume anew; and a mountpoint that a crash of the host has left is removed.

    Raises:
        OSError: The kernel refuses to unmount one. Its request stays; the other volumes are released all the same.
        ProgramNotStarted: A mountpoint that was left could not be removed. The same is true of it.
    """
    mountpoints = {settings.mounts.resolve() / name: name for name in names}
    found = {mount.mountpoint: mount for mount in mountinfo.mounts() if mount.mountpoint in mountpoints}
    used = mountinfo.used_elsewhere(found.values())
    refusals, left, limit = [], dict(mountpoints), time.monotonic() + LOOK_SECONDS
    while left:
        is_last = time.monotonic() > limit
        for mountpoint, name in list(left.items()):
            request = settings.releases / name
            try:
                with ExitStack() as held:
                    if not requested or _is_held(request, held):
                        if mountpoint in found:
                            if not _unmount(mountpoint, used=found[mountpoint] in used, is_last=is_last):
                                continue
                        elif requested:
                            _remove(mountpoint)
                        request.unlink(missing_ok=True)
            except (OSError, errors.ProgramNotStarted) as refusal:  # raised after the others
                refusals.append(refusal)
            del left[mountpoint]
        if left:
            time.sleep(PAUSE_SECONDS)
    if refusals:
        raise refusals[0]


def withdraw(request: Path) -> bool:
    """Withdraw a request; return whether nothing comes of it any more, since no run serves it just now."""
    try:
        with request.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            request.unlink(missing_ok=True)
    except FileNotFoundError:
        return True
    except OSError:  # a run has locked it, or it can't be told
        request.unlink(missing_ok=True)
        return False
    return True


def _is_held(request: Path, held: ExitStack) -> bool:
    """Lock a request, which can't be withdrawn unnoticed then; return whether it is there still."""
    try:
        file = held.enter_context(request.open("rb"))
        fcntl.flock(file, fcntl.LOCK_EX)
        return os.path.samestat(os.fstat(file.fileno()), request.stat())
    except FileNotFoundError:
        return False


def _unmount(mountpoint: Path, *, used: bool, is_last: bool) -> bool:
    """Unmount a volume unless it is used; return whether another attempt is useless."""
    if used:
        log.info("%s is in use by a container: it stays", mountpoint)
        return True
    if kernel.unmount(mountpoint):
        return True
    if is_last:
        log.info("%s is in use by a process on this host: it stays", mountpoint)
    return is_last


def _remove(mountpoint: Path) -> None:
    """Remove a mountpoint, unless something is in it, or has been mounted at it meanwhile."""
    if not mountpoint.exists():
        return
    kernel.make_mutable(mountpoint)
    try:
        mountpoint.rmdir()
    except OSError as error:
        log.warning("%s stays, %s: look what is in it", mountpoint, error.strerror)


def _requested(settings: Settings) -> list[VolumeName]:
    try:
        return list(_valid(sorted(request.name for request in settings.releases.iterdir())))
    except FileNotFoundError:
        return []


def _valid(names: Iterable[str]) -> Iterator[VolumeName]:
    """Yield the names that can be those of volumes, and log the others: they are to keep no volume mounted."""
    for name in names:
        try:
            yield volume_name(name)
        except errors.InvalidVolumeName as error:
            log.warning("%s", error)


def _await_clean_up(settings: Settings, names: Iterable[VolumeName]) -> None:
    """Wait until the units or keepers of the unmounted volumes have cleaned up, too."""
    still_mounted = mountinfo.sshfs_below(settings.mounts)
    for name in names:
        if name not in still_mounted:
            kernel.await_absence(settings.mounts / name, END_SECONDS)


def main() -> None:
    """Carry out ``release [VOLUME...]``; an error is one line on stderr and exit status 1."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        settings = Settings.from_environment()
        if sys.argv[1:]:
            names = list(_valid(sys.argv[1:]))
            release(settings, names)
            _await_clean_up(settings, names)
        else:
            answer_requests(settings)
    except (errors.PluginError, OSError, ValueError) as error:
        sys.exit(str(error))
