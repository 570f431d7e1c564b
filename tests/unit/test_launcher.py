# SPDX-License-Identifier: MIT
"""The steps of a volume's unit, against a fake kernel and fake programs; what becomes sshfs runs as a real process."""

import logging
import os
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support import fakes

from sshfs_plugin import errors, kernel, launcher, mountinfo, options, readiness
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


# prepare and clean


def test_prepare_makes_an_immutable_mountpoint_for_root_alone(
    settings: Settings, mountpoint: Path, programs: fakes.Programs, fake_kernel: fakes.FakeKernel
) -> None:
    del fake_kernel
    launcher.prepare(settings, PHOTOS)
    launcher.prepare(settings, PHOTOS)
    assert mountpoint.is_dir()
    assert settings.mounts.stat().st_mode & 0o777 == 0o700
    assert programs.calls("chattr") == [f"+i {mountpoint}"] * 2


def test_prepare_takes_away_what_is_left_of_an_earlier_mount(
    settings: Settings, mountpoint: Path, fake_kernel: fakes.FakeKernel
) -> None:
    mountpoint.mkdir(parents=True)
    fake_kernel.mount(mountpoint)
    fake_kernel.busy.add(mountpoint)
    launcher.prepare(settings, PHOTOS)
    assert mountinfo.mounted_at(mountpoint) is None


def test_clean_removes_mount_configuration_and_mountpoint(
    settings: Settings, mountpoint: Path, programs: fakes.Programs, fake_kernel: fakes.FakeKernel
) -> None:
    mountpoint.mkdir(parents=True)
    fake_kernel.mount(mountpoint)
    settings.ssh_configs.mkdir(parents=True)
    (settings.ssh_configs / PHOTOS).write_text("Host *")
    launcher.clean(settings, PHOTOS)
    launcher.clean(settings, PHOTOS)
    assert not mountpoint.exists()
    assert not (settings.ssh_configs / PHOTOS).exists()
    assert programs.calls("chattr") == [f"-i {mountpoint}"]


def test_clean_never_removes_what_is_in_a_mountpoint(
    settings: Settings, mountpoint: Path, fake_kernel: fakes.FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    del fake_kernel
    mountpoint.mkdir(parents=True)
    (mountpoint / "holiday.jpg").write_text("")
    launcher.clean(settings, PHOTOS)
    assert (mountpoint / "holiday.jpg").exists()
    assert f"{mountpoint} stays, Directory not empty: look what is in it" in caplog.text


# stop and release


def test_stop_unmounts_and_waits_for_sshfs_to_end(
    settings: Settings, mountpoint: Path, fake_kernel: fakes.FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    mountpoint.mkdir(parents=True)
    fake_kernel.mount(mountpoint)
    monkeypatch.setenv("MAINPID", "4711")
    launcher.stop(settings, PHOTOS)
    assert fake_kernel.unmounted == [(mountpoint, kernel.UMOUNT_NOFOLLOW)]


def test_stop_takes_a_busy_mount_from_this_host(
    settings: Settings,
    mountpoint: Path,
    fake_kernel: fakes.FakeKernel,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("MAINPID", raising=False)
    mountpoint.mkdir(parents=True)
    fake_kernel.mount(mountpoint)
    fake_kernel.busy.add(mountpoint)
    launcher.stop(settings, PHOTOS)
    assert mountinfo.mounted_at(mountpoint) is None
    assert f"{mountpoint} is busy: it is detached from this host" in caplog.text


def test_release_unmounts_what_nobody_uses_and_waits_for_the_clean_up(
    settings: Settings, mountpoint: Path, fake_kernel: fakes.FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "END_SECONDS", 0.0)  # nobody is here who would remove the mountpoint
    mountpoint.mkdir(parents=True)
    fake_kernel.mount(mountpoint)
    launcher.release(settings, PHOTOS)
    assert mountinfo.mounted_at(mountpoint) is None


def test_release_leaves_a_mount_that_a_container_uses(
    settings: Settings, mountpoint: Path, fake_kernel: fakes.FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    fake_kernel.mount(mountpoint, device="0:52")
    fake_kernel.process(
        612, namespace=2, mountinfo="633 612 0:52 / /data rw - fuse.sshfs me@nas:/photos rw,user_id=0\n"
    )
    with caplog.at_level(logging.INFO):
        launcher.release(settings, PHOTOS)
    assert fake_kernel.unmounted == []
    assert f"{mountpoint} is in use by a container: it stays" in caplog.text


def test_release_leaves_a_mount_that_a_process_of_the_host_uses(
    settings: Settings, mountpoint: Path, fake_kernel: fakes.FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    mountpoint.mkdir(parents=True)
    fake_kernel.mount(mountpoint)
    fake_kernel.busy.add(mountpoint)
    with caplog.at_level(logging.INFO):
        launcher.release(settings, PHOTOS)
    assert mountinfo.mounted_at(mountpoint)
    assert f"{mountpoint} is in use by a process on this host: it stays" in caplog.text


def test_release_of_what_is_not_mounted_does_nothing(settings: Settings, fake_kernel: fakes.FakeKernel) -> None:
    launcher.release(settings, PHOTOS)
    assert fake_kernel.unmounted == []


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
    programs.add("stat", '[ $(wc -l <"$HERE/stat.calls") -lt 3 ] || echo 65735546')
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
    programs.add("stat", "echo 65735546")
    ending = threading.Timer(0.05, process.rename, [process.with_name("4711-ended")])
    ending.start()
    with manager:
        launcher._report_when_usable(mountpoint, 4711)
        with pytest.raises(BlockingIOError):
            manager.recv(100)
    ending.join()
    assert programs.calls("stat") == []


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


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in settings.environment().items():
        monkeypatch.setenv(name, text)


@pytest.mark.usefixtures("own_logging", "environment")
def test_verbs_are_called_with_the_name_of_a_volume(
    mountpoint: Path, fake_kernel: fakes.FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    del fake_kernel
    monkeypatch.setattr(sys, "argv", ["launcher", "prepare", PHOTOS])
    launcher.main()
    assert mountpoint.is_dir()


@pytest.mark.usefixtures("own_logging", "environment")
@pytest.mark.parametrize("name", ["../photos", "a/b", ""])
def test_names_that_are_none_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(sys, "argv", ["launcher", "clean", name])
    with pytest.raises(SystemExit, match="can't be the name of a volume"):
        launcher.main()
