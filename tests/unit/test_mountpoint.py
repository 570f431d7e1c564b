# SPDX-License-Identifier: MIT
"""The steps at a mountpoint, against a fake kernel and a fake chattr."""

import sys
from pathlib import Path

import pytest
from support import fakes

from sshfs_plugin import kernel, mountinfo, steps
from sshfs_plugin import mountpoint as program
from sshfs_plugin.settings import Settings
from sshfs_plugin.volume import VolumeName

PHOTOS = VolumeName("photos")


@pytest.fixture(autouse=True)
def chattr(programs: fakes.Programs) -> fakes.Programs:
    """Keep the real chattr away, which would leave files that a test can't remove."""
    programs.add("chattr")
    return programs


@pytest.fixture
def mountpoint(settings: Settings) -> Path:
    return settings.mounts / PHOTOS


# prepare and clean


def test_prepare_makes_an_immutable_mountpoint_for_root_alone(
    settings: Settings, mountpoint: Path, programs: fakes.Programs, fake_kernel: fakes.FakeKernel
) -> None:
    del fake_kernel
    program.prepare(settings, PHOTOS)
    program.prepare(settings, PHOTOS)
    assert mountpoint.is_dir()
    assert settings.mounts.stat().st_mode & 0o777 == 0o700
    assert programs.calls("chattr") == [f"+i {mountpoint}"] * 2


def test_prepare_takes_away_what_is_left_of_an_earlier_mount(
    settings: Settings, mountpoint: Path, fake_kernel: fakes.FakeKernel
) -> None:
    mountpoint.mkdir(parents=True)
    fake_kernel.mount(mountpoint)
    fake_kernel.busy.add(mountpoint)
    program.prepare(settings, PHOTOS)
    assert mountinfo.mounted_at(mountpoint) is None


def test_clean_removes_mount_configuration_and_mountpoint(
    settings: Settings, mountpoint: Path, programs: fakes.Programs, fake_kernel: fakes.FakeKernel
) -> None:
    mountpoint.mkdir(parents=True)
    fake_kernel.mount(mountpoint)
    settings.ssh_configs.mkdir(parents=True)
    (settings.ssh_configs / PHOTOS).write_text("Host *")
    program.clean(settings, PHOTOS)
    program.clean(settings, PHOTOS)
    assert not mountpoint.exists()
    assert not (settings.ssh_configs / PHOTOS).exists()
    assert programs.calls("chattr") == [f"-i {mountpoint}"]


def test_clean_never_removes_what_is_in_a_mountpoint(
    settings: Settings, mountpoint: Path, fake_kernel: fakes.FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    del fake_kernel
    mountpoint.mkdir(parents=True)
    (mountpoint / "holiday.jpg").write_text("")
    program.clean(settings, PHOTOS)
    assert (mountpoint / "holiday.jpg").exists()
    assert f"{mountpoint} stays, Directory not empty: look what is in it" in caplog.text


# stop


def test_stop_unmounts_and_waits_for_sshfs_to_end(
    settings: Settings, mountpoint: Path, fake_kernel: fakes.FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    mountpoint.mkdir(parents=True)
    fake_kernel.mount(mountpoint)
    monkeypatch.setenv("MAINPID", "4711")
    program.stop(settings, PHOTOS)
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
    program.stop(settings, PHOTOS)
    assert mountinfo.mounted_at(mountpoint) is None
    assert f"{mountpoint} is busy: it is detached from this host" in caplog.text


# How it is called


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in settings.environment().items():
        monkeypatch.setenv(name, text)


@pytest.mark.usefixtures("own_logging", "environment")
def test_verbs_are_called_with_the_name_of_a_volume(
    mountpoint: Path, fake_kernel: fakes.FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    del fake_kernel
    monkeypatch.setattr(sys, "argv", ["mountpoint", "prepare", PHOTOS])
    program.main()
    assert mountpoint.is_dir()


@pytest.mark.usefixtures("own_logging", "environment")
@pytest.mark.parametrize("name", ["../photos", "a/b", ""])
def test_names_that_are_none_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(sys, "argv", ["mountpoint", "clean", name])
    with pytest.raises(SystemExit, match="can't be the name of a volume"):
        program.main()


@pytest.mark.usefixtures("own_logging", "environment")
@pytest.mark.parametrize("words", [[], ["prepare"], ["mount", "photos"], ["prepare", "photos", "films"]])
def test_what_is_no_step_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["mountpoint", *words])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == ("mountpoint is called with a step (prepare, stop, clean) and the name of a volume")


@pytest.mark.usefixtures("own_logging", "environment")
def test_a_fault_of_a_step_is_not_taken_for_an_unknown_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(settings: Settings, name: VolumeName) -> None:
        raise KeyError(name)

    monkeypatch.setattr(sys, "argv", ["mountpoint", "mistaken", PHOTOS])
    with pytest.raises(KeyError, match=PHOTOS):
        steps.carry_out(mistaken)
