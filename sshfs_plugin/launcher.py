# SPDX-License-Identifier: MIT
"""What runs in a volume's unit: prepare the mountpoint, become sshfs, clean up; and let go of a mount that nobody uses.

The unit's lines call it with a verb and a volume's name. On a host without systemd the same verbs are called by
``keep``, which does what the unit does. It reads the volume's record itself, so that a unit can be restarted while
the service is down.
"""

import fcntl
import logging
import os
import subprocess  # noqa: TID251 (it waits for a child that lives as long as its volume)
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sshfs_plugin import errors, kernel, mountinfo, readiness, sshfs
from sshfs_plugin.credentials import Keyring
from sshfs_plugin.known_hosts import KnownHosts
from sshfs_plugin.settings import Settings
from sshfs_plugin.store import VolumeStore
from sshfs_plugin.volume import VolumeName, volume_name

log = logging.getLogger(__name__)

POLL_SECONDS = 0.01
ANSWER_SECONDS = 5.0
END_SECONDS = 8.0
RESTART_PAUSE_SECONDS = 1.0


def prepare(settings: Settings, name: VolumeName) -> None:
    """Make an empty mountpoint that nothing can be written to by accident."""
    mountpoint = settings.mounts / name
    kernel.detach_all(mountpoint)
    settings.mounts.mkdir(mode=0o700, parents=True, exist_ok=True)
    mountpoint.mkdir(mode=0o700, exist_ok=True)
    kernel.set_immutable(mountpoint, immutable=True)


def mount(settings: Settings, name: VolumeName) -> None:
    """Become sshfs, after leaving a watcher that reports when the mount is usable.

    Raises:
        VolumeNotFound, CredentialsError: There is nothing to mount, or nothing to log in with.
    """
    volume = VolumeStore(settings.volumes).load(name)
    login = Keyring.of(settings).login(volume.credentials)
    config = settings.ssh_configs / name
    config.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    config.write_text(sshfs.ssh_config(volume, login, KnownHosts.of(settings)))
    mountpoint = settings.mounts / name
    _leave_watcher(mountpoint, sshfs_process=os.getpid())
    argv = sshfs.argv(volume, mountpoint, config)
    environment = sshfs.environment(volume, login, settings.libexec / "askpass")
    os.execvpe(argv[0], argv, {**os.environ, **environment})  # noqa: S606 (argv holds only what options.py knows)


def _leave_watcher(mountpoint: Path, *, sshfs_process: int) -> None:
    """Start the watcher as nobody's child: this process becomes sshfs, which would never reap it."""
    between = os.fork()
    if between:
        os.waitpid(between, 0)
        return
    try:
        if os.fork() == 0:
            _report_when_usable(mountpoint, sshfs_process)
    finally:
        os._exit(0)


def _report_when_usable(mountpoint: Path, sshfs_process: int) -> None:
    """Wait until a FUSE mount answers at the mountpoint; its line in mountinfo comes long before that."""
    while kernel.is_alive(sshfs_process):
        mount = mountinfo.mounted_at(mountpoint)
        if mount and mount.kind == mountinfo.SSHFS and kernel.answers(mountpoint, ANSWER_SECONDS):
            kernel.set_read_ahead(mount.device)
            readiness.announce()
            return
        time.sleep(POLL_SECONDS)


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


def release(settings: Settings, name: VolumeName) -> None:
    """Unmount a volume unless somebody uses it: a container, or a process on this host.

    No miscount, ours or Docker's, can then take a volume away from a running container. sshfs ends by itself once
    its mount is gone, and whoever keeps it cleans up, which is waited for.
    """
    mountpoint = settings.mounts / name
    mount = mountinfo.mounted_at(mountpoint)
    if mount is None:
        return
    if mountinfo.used_elsewhere(mount):
        log.info("%s is in use by a container: it stays", mountpoint)
    elif not kernel.unmount(mountpoint):
        log.info("%s is in use by a process on this host: it stays", mountpoint)
    else:
        kernel.await_absence(mountpoint, END_SECONDS)


def keep(settings: Settings, name: VolumeName) -> None:
    """Do what the volume's unit does, where there is no systemd: prepare, mount, mount again if killed, clean up.

    It holds the volume's lock file meanwhile, so that whoever can lock it knows that all is over.
    """
    settings.locks.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (settings.locks / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            prepare(settings, name)
            while subprocess.call([settings.libexec / "launcher", "mount", name]) < 0:  # noqa: S603 (our own)
                log.warning("sshfs was killed: %s is mounted again", name)
                time.sleep(RESTART_PAUSE_SECONDS)
                prepare(settings, name)
        finally:
            clean(settings, name)


_VERBS: dict[str, Callable[[Settings, VolumeName], None]] = {
    verb.__name__: verb for verb in (prepare, mount, stop, clean, release, keep)
}


def main() -> None:
    """Carry out ``launcher VERB VOLUME``; an error is one line on stderr and exit status 1."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    verb, name = sys.argv[1:]
    try:
        _VERBS[verb](Settings.from_environment(), volume_name(name))
    except (errors.PluginError, OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
