# SPDX-License-Identifier: MIT
"""What becomes sshfs: the main process of a volume's unit, and the keeper in its place where there is no systemd.

It reads the volume's record itself, so that a unit can be restarted while the service is down.
"""

import fcntl
import logging
import os
import signal
import subprocess  # noqa: TID251 (it waits for a child that lives as long as its volume)
import time
from pathlib import Path

from sshfs_plugin import kernel, mountinfo, mountpoint, readiness, sshfs, steps
from sshfs_plugin.credentials import Keyring
from sshfs_plugin.known_hosts import KnownHosts
from sshfs_plugin.settings import Settings
from sshfs_plugin.store import VolumeStore
from sshfs_plugin.volume import VolumeName

log = logging.getLogger(__name__)

POLL_SECONDS = 0.01
ANSWER_SECONDS = 5.0
RESTART_PAUSE_SECONDS = 1.0


def mount(settings: Settings, name: VolumeName) -> None:
    """Become sshfs, after leaving a watcher that reports when the mount is usable.

    Raises:
        VolumeNotFound, RecordUnusable, CredentialsError: There is nothing to mount, or nothing to log in with.
    """
    volume = VolumeStore(settings.volumes).load(name)
    login = Keyring.of(settings).login(volume.credentials)
    config = settings.ssh_configs / name
    config.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    config.write_text(sshfs.ssh_config(volume, login, KnownHosts.of(settings)))
    place = settings.mounts / name
    _leave_watcher(place, sshfs_process=os.getpid())
    argv = sshfs.argv(volume, place, config)
    environment = sshfs.environment(volume, login, settings.libexec / "askpass")
    os.execvpe(argv[0], argv, {**os.environ, **environment})  # noqa: S606 (argv holds only what option_table/ knows)


def _leave_watcher(place: Path, *, sshfs_process: int) -> None:
    """Start the watcher as nobody's child: this process becomes sshfs, which would never reap it."""
    between = os.fork()
    if between:
        os.waitpid(between, 0)
        return
    try:
        if os.fork() == 0:
            _watch(place, sshfs_process)
    finally:
        os._exit(0)


def _watch(place: Path, sshfs_process: int) -> None:
    """Report that the mount is usable, or end sshfs if nobody can be told: its start would be waited for in vain."""
    try:
        _report_when_usable(place, sshfs_process)
    except Exception as error:  # noqa: BLE001 (whatever it was, nobody else would tell of it)
        log.error("cannot report that %s is mounted, %r: it is unmounted again", place, error)
        os.kill(sshfs_process, signal.SIGTERM)


def _report_when_usable(place: Path, sshfs_process: int) -> None:
    """Wait until a FUSE mount answers at the mountpoint; its line in mountinfo comes long before that."""
    while kernel.is_alive(sshfs_process):
        mount = mountinfo.mounted_at(place)
        if mount and kernel.answers(place, ANSWER_SECONDS):
            kernel.set_read_ahead(mount.device)
            readiness.announce()
            return
        time.sleep(POLL_SECONDS)


def keep(settings: Settings, name: VolumeName) -> None:
    """Do what the volume's unit does, where there is no systemd: prepare, mount, mount again if killed, clean up.

    It holds the volume's lock file meanwhile, so that whoever can lock it knows that all is over.
    """
    settings.locks.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (settings.locks / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            mountpoint.prepare(settings, name)
            while subprocess.call([settings.libexec / "launcher", "mount", name]) < 0:  # noqa: S603 (our own)
                log.warning("sshfs was killed: %s is mounted again", name)
                time.sleep(RESTART_PAUSE_SECONDS)
                mountpoint.prepare(settings, name)
        finally:
            mountpoint.clean(settings, name)


def main() -> None:
    """Carry out ``launcher STEP VOLUME``."""
    steps.carry_out(mount, keep)


if __name__ == "__main__":
    main()
