# SPDX-License-Identifier: MIT
"""What happens at a volume's mountpoint before and after sshfs: made ready, unmounted, cleaned up.

The units call it with a step and a volume's name; it loads little, so that a mount is not kept waiting.
"""

import logging
import os

from sshfs_plugin import kernel, steps
from sshfs_plugin.settings import Settings
from sshfs_plugin.volume import VolumeName

log = logging.getLogger(__name__)

END_SECONDS = 8.0


def prepare(settings: Settings, name: VolumeName) -> None:
    """Make an empty mountpoint that nothing can be written to by accident."""
    mountpoint = settings.mounts / name
    kernel.detach_all(mountpoint)
    settings.mounts.mkdir(mode=0o700, parents=True, exist_ok=True)
    mountpoint.mkdir(mode=0o700, exist_ok=True)
    kernel.set_immutable(mountpoint, immutable=True)


def stop(settings: Settings, name: VolumeName) -> None:
    """Unmount and wait for sshfs to end by itself: a signal would take ssh along and read as a failure.

    What still uses the mount is not asked: that question comes before the stop, where it can be answered with no.
    """
    mountpoint = settings.mounts / name
    if not kernel.unmount(mountpoint):
        log.warning("%s is busy: it is detached from this host", mountpoint)
        kernel.detach_lazily(mountpoint)
    if process := int(os.environ.get("MAINPID", "0")):
        kernel.await_end(process, END_SECONDS)


def clean(settings: Settings, name: VolumeName) -> None:
    """Remove the mountpoint, with whatever dead mount is on it, and never anything that is in it."""
    mountpoint = settings.mounts / name
    kernel.detach_all(mountpoint)
    (settings.ssh_configs / name).unlink(missing_ok=True)
    if not mountpoint.exists():
        return
    kernel.set_immutable(mountpoint, immutable=False)
    try:
        mountpoint.rmdir()
    except OSError as error:
        log.warning("%s stays, %s: look what is in it", mountpoint, error.strerror)


def main() -> None:
    """Carry out ``mountpoint STEP VOLUME``."""
    steps.carry_out(prepare, stop, clean)
