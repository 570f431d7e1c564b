# SPDX-License-Identifier: MIT
"""What becomes sshfs, as a real process with a fake sshfs, and what keeps it where there is no systemd."""

import os
import signal
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support import fakes

from sshfs_plugin import errors, launcher, options, readiness
from sshfs_plugin.settings import Settings
from sshfs_plugin.store import VolumeStore
from sshfs_plugin.volume import VolumeName

PHOTOS = VolumeName("photos")
TREE = Path(launcher.__file__).parents[1]


@pytest.fixture(autouse=True)
def chattr(programs: fakes.Programs) -> fakes.Programs:
    """Keep the real chattr away, which would leave files that a test can't remove."""
    programs.add("chattr")
    return programs


@pytest.fixture
def mountpoint(settings: Settings) -> Path:
    return settings.mounts / PHOTOS


def record(settings: Settings, **opts: str) -> None:
    """Put a volume on record, as the service does."""
    settings.volumes.mkdir(parents=True)
    volume = options.parse(PHOTOS, {"sshcmd": fakes.SSHCMD, **opts}, datetime.now(UTC))
    VolumeStore(settings.volumes).save(volume)


# mount


def run_launcher(settings: Settings, *words: str) -> tuple[int, str]:
    """Run the launcher as a unit does, which sees the real kernel; return its exit status and what it said.

    What it says goes to a file, since with a pipe the watcher's copy of it would have to be waited for.
    """
    said = settings.libexec.parent / "said"
    with said.open("w") as output:
        status = subprocess.call(
            [sys.executable, "-m", "sshfs_plugin.launcher", *words],
            env={**os.environ, **settings.environment(), "PYTHONPATH": str(TREE)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            timeout=fakes.PATIENCE,
        )
    return status, said.read_text()


def test_mount_becomes_sshfs_with_a_configuration_of_its_own_and_no_secret_in_sight(
    settings: Settings, mountpoint: Path, programs: fakes.Programs
) -> None:
    record(settings, password="hunter2", port="2222", check="never")
    programs.add("sshfs", 'env >"$HERE/environment"; cp "$5" "$HERE/ssh_config"; exit 7')
    assert run_launcher(settings, "mount", PHOTOS) == (7, "")
    (call,) = programs.calls("sshfs")
    config = settings.ssh_configs / PHOTOS
    assert call.startswith(f"-f me@nas:/photos {mountpoint} -F {config} -o allow_other -o default_permissions")
    assert "    Port 2222\n" in (programs.directory / "ssh_config").read_text()
    environment = (programs.directory / "environment").read_text()
    assert f"SSH_ASKPASS={settings.libexec}/askpass\n" in environment
    assert "SSHFS_PLUGIN_PASSWORD_OF=photos\n" in environment
    for seen in (call, environment, config.read_text()):
        assert "hunter2" not in seen


def test_mount_leaves_no_child_to_sshfs_that_it_would_have_to_reap(
    settings: Settings, programs: fakes.Programs
) -> None:
    record(settings, password="hunter2", check="never")
    programs.add("sshfs", 'cat /proc/$$/task/$$/children >"$HERE/children"')
    assert run_launcher(settings, "mount", PHOTOS) == (0, "")
    children = (programs.directory / "children").read_text().split()
    assert len(children) == 1, "only cat itself"


def test_mount_of_an_unknown_volume_is_one_line_and_exit_status_one(settings: Settings) -> None:
    assert run_launcher(settings, "mount", PHOTOS) == (1, "volume 'photos' not found\n")


def test_mount_of_a_volume_with_a_broken_record_is_one_line_and_exit_status_one(settings: Settings) -> None:
    file = settings.volumes / f"{PHOTOS}.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    status, said = run_launcher(settings, "mount", PHOTOS)
    assert (status, said.count("\n")) == (1, 1)
    assert said.startswith(f"volume 'photos' is unusable, its record {file} lacks 'version': mend it")


def test_mount_without_a_usable_key_says_so_before_sshfs_is_started(
    settings: Settings, programs: fakes.Programs
) -> None:
    record(settings, IdentityFile="/nowhere/key")
    programs.add("sshfs")
    with pytest.raises(errors.IdentityFileUnusable, match="/nowhere/key, it does not exist"):
        launcher.mount(settings, PHOTOS)
    assert programs.calls("sshfs") == []


# the watcher is forked off by the test's own process here, which may have threads
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_mount_without_sshfs_installed_fails_and_its_watcher_ends(
    settings: Settings, fake_kernel: fakes.FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    del fake_kernel
    record(settings, password="hunter2", check="never")
    monkeypatch.setenv("PATH", str(settings.libexec))
    with pytest.raises(FileNotFoundError):
        launcher.mount(settings, PHOTOS)


# The watcher


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """Give the socket at which systemd would listen, which here throws away what it gets at the end."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "notify"))
    listening.setblocking(False)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setattr(readiness, "_BARRIER_SECONDS", 0)
    return listening


def test_watcher_reports_once_the_mount_answers_and_not_before(
    mountpoint: Path, manager: socket.socket, programs: fakes.Programs, fake_kernel: fakes.FakeKernel
) -> None:
    fake_kernel.process(4711, namespace=1)
    fake_kernel.mount(mountpoint)
    programs.add("stat", f'[ $(wc -l <"$HERE/stat.calls") = 3 ] || {{ {fakes.SILENCE}; }}')
    with manager:
        launcher._report_when_usable(mountpoint, 4711)
        assert manager.recv(100) == b"READY=1"
    assert len(programs.calls("stat")) == 3


def test_watcher_ends_without_a_report_when_sshfs_has_ended(
    mountpoint: Path, manager: socket.socket, fake_kernel: fakes.FakeKernel
) -> None:
    fake_kernel.mount(mountpoint)
    with manager:
        launcher._report_when_usable(mountpoint, 4711)
        with pytest.raises(BlockingIOError):
            manager.recv(100)


def test_watcher_is_not_content_with_another_file_system(
    mountpoint: Path, manager: socket.socket, programs: fakes.Programs, fake_kernel: fakes.FakeKernel
) -> None:
    process = fake_kernel.process(4711, namespace=1)
    fake_kernel.mount(mountpoint, kind="tmpfs")
    programs.add("stat", fakes.ANSWER)
    ending = threading.Timer(0.05, process.rename, [process.with_name("4711-ended")])
    ending.start()
    with manager:
        launcher._report_when_usable(mountpoint, 4711)
        with pytest.raises(BlockingIOError):
            manager.recv(100)
    ending.join()
    assert programs.calls("stat") == []


def test_watcher_that_can_not_report_says_so_and_ends_sshfs(
    mountpoint: Path,
    programs: fakes.Programs,
    fake_kernel: fakes.FakeKernel,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", f"/{'long' * 100}")
    programs.add("stat", "echo 65735546")
    fake_kernel.mount(mountpoint)
    with subprocess.Popen(["sleep", "60"]) as sshfs:
        fake_kernel.process(sshfs.pid, namespace=1)
        launcher._watch(mountpoint, sshfs.pid)
        assert sshfs.wait(fakes.PATIENCE) == -signal.SIGTERM
    (said,) = caplog.messages
    assert said.startswith(f"cannot report that {mountpoint} is mounted, OSError('AF_UNIX path too long')")


# keep


def add_launcher(settings: Settings, script: str) -> fakes.Programs:
    """Put a stand-in where the keeper finds the launcher that is to become sshfs."""
    settings.libexec.mkdir(parents=True)
    installed = fakes.Programs(settings.libexec)
    installed.add("launcher", script)
    return installed


def test_keep_prepares_mounts_and_cleans_up_and_holds_the_lock_meanwhile(
    settings: Settings, mountpoint: Path, fake_kernel: fakes.FakeKernel
) -> None:
    del fake_kernel
    lock, seen = settings.locks / PHOTOS, settings.libexec / "seen"
    installed = add_launcher(settings, f"[ -d {mountpoint} ] && ! flock -n {lock} true && : >{seen}; exit 1")
    launcher.keep(settings, PHOTOS)
    assert installed.calls("launcher") == ["mount photos"]
    assert seen.exists()
    assert not mountpoint.exists()


def test_keep_mounts_again_when_sshfs_was_killed(
    settings: Settings,
    fake_kernel: fakes.FakeKernel,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    del fake_kernel
    monkeypatch.setattr(launcher, "RESTART_PAUSE_SECONDS", 0.0)
    installed = add_launcher(settings, '[ $(wc -l <"$HERE/launcher.calls") -ge 3 ] || kill -9 $$')
    launcher.keep(settings, PHOTOS)
    assert installed.calls("launcher") == ["mount photos"] * 3
    assert caplog.messages == ["sshfs was killed: photos is mounted again"] * 2


def test_keep_cleans_up_even_if_nothing_can_be_started(
    settings: Settings, mountpoint: Path, fake_kernel: fakes.FakeKernel
) -> None:
    del fake_kernel
    with pytest.raises(FileNotFoundError):
        launcher.keep(settings, PHOTOS)
    assert not mountpoint.exists()


# The command line
