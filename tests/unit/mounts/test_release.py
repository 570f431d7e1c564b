# SPDX-License-Identifier: MIT
"""Unmounting what nobody uses, against a fake kernel and a fake chattr."""

import logging
import os
import sys
import time
from collections.abc import Collection
from pathlib import Path

import pytest
from support.kernel import FakeKernel
from support.programs import Programs

from sshfs_plugin import errors
from sshfs_plugin.mounts import kernel, mountinfo, release
from sshfs_plugin.settings import Settings
from sshfs_plugin.volume import VolumeName

PHOTOS, FILMS = VolumeName("photos"), VolumeName("films")


@pytest.fixture(autouse=True)
def chattr(programs: Programs) -> Programs:
    """Keep the real chattr away, which would leave files that a test can't remove."""
    programs.add("chattr")
    return programs


@pytest.fixture
def mountpoint(settings: Settings) -> Path:
    return settings.mounts / PHOTOS


def test_release_unmounts_what_nobody_uses(settings: Settings, mountpoint: Path, fake_kernel: FakeKernel) -> None:
    mountpoint.mkdir(parents=True)
    fake_kernel.mount(mountpoint)
    release.release(settings, [PHOTOS])
    assert mountinfo.mounted_at(mountpoint) is None


@pytest.mark.parametrize("is_there", [True, False])
def test_release_holds_a_request_while_it_unmounts_and_lets_it_be_withdrawn_before(
    settings: Settings, mountpoint: Path, fake_kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    mountpoint.mkdir(parents=True)
    fake_kernel.mount(mountpoint)
    settings.releases.mkdir(parents=True)
    request = settings.releases / PHOTOS
    request.touch()
    withdrawn, unmount = [], kernel.unmount
    if not is_there:
        assert release.withdraw(request)

    def note(path: Path) -> bool:
        withdrawn.append(release.withdraw(request))
        return unmount(path)

    monkeypatch.setattr(kernel, "unmount", note)
    release.release(settings, [PHOTOS], requested=True)
    assert withdrawn == [False] * is_there
    assert (mountinfo.mounted_at(mountpoint) is None) == is_there


def test_release_removes_an_empty_mountpoint_that_is_left_over(
    settings: Settings, mountpoint: Path, programs: Programs, fake_kernel: FakeKernel
) -> None:
    mountpoint.mkdir(parents=True)
    settings.releases.mkdir(parents=True)
    (settings.releases / PHOTOS).touch()
    release.release(settings, [PHOTOS], requested=True)
    assert not mountpoint.exists()
    assert programs.calls("chattr") == [f"-i {mountpoint}"]
    assert fake_kernel.unmounted == []


def test_release_never_removes_what_is_in_a_mountpoint_that_is_left_over(
    settings: Settings, mountpoint: Path, fake_kernel: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    del fake_kernel
    mountpoint.mkdir(parents=True)
    (mountpoint / "holiday.jpg").write_text("")
    settings.releases.mkdir(parents=True)
    (settings.releases / PHOTOS).touch()
    release.release(settings, [PHOTOS], requested=True)
    assert (mountpoint / "holiday.jpg").exists()
    assert f"{mountpoint} stays, Directory not empty: look what is in it" in caplog.text


def test_release_leaves_a_mount_that_a_container_uses(
    settings: Settings, mountpoint: Path, fake_kernel: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    fake_kernel.mount(mountpoint, device="0:52")
    fake_kernel.process(
        612, namespace=2, mountinfo="633 612 0:52 / /data rw - fuse.sshfs me@nas:/photos rw,user_id=0\n"
    )
    with caplog.at_level(logging.INFO):
        release.release(settings, [PHOTOS])
    assert fake_kernel.unmounted == []
    assert f"{mountpoint} is in use by a container: it stays" in caplog.text


def test_release_leaves_a_mount_that_a_process_of_the_host_uses(
    settings: Settings, mountpoint: Path, fake_kernel: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    mountpoint.mkdir(parents=True)
    fake_kernel.mount(mountpoint)
    fake_kernel.busy.add(mountpoint)
    with caplog.at_level(logging.INFO):
        release.release(settings, [PHOTOS])
    assert mountinfo.mounted_at(mountpoint)
    assert f"{mountpoint} is in use by a process on this host: it stays" in caplog.text


def test_release_is_not_kept_by_a_look_at_the_mount(
    settings: Settings, mountpoint: Path, fake_kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service looks at each mount every few seconds, and it is in use for that moment."""
    mountpoint.mkdir(parents=True)
    fake_kernel.mount(mountpoint)
    fake_kernel.busy.add(mountpoint)
    monkeypatch.setattr(time, "sleep", lambda _: fake_kernel.busy.clear())
    release.release(settings, [PHOTOS])
    assert mountinfo.mounted_at(mountpoint) is None


def test_release_of_what_is_not_mounted_does_nothing(settings: Settings, fake_kernel: FakeKernel) -> None:
    release.release(settings, [PHOTOS])
    assert fake_kernel.unmounted == []


# Requests


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in settings.environment().items():
        monkeypatch.setenv(name, text)


@pytest.fixture
def both(settings: Settings, fake_kernel: FakeKernel) -> tuple[Path, Path]:
    """Mount two volumes and ask for the release of both; give their mountpoints."""
    settings.releases.mkdir(parents=True)
    for name, device in ((PHOTOS, "0:52"), (FILMS, "0:53")):
        (settings.mounts / name).mkdir(parents=True)
        fake_kernel.mount(settings.mounts / name, device=device)
        (settings.releases / name).touch()
    return settings.mounts / PHOTOS, settings.mounts / FILMS


@pytest.mark.usefixtures("own_logging", "environment")
def test_one_run_answers_all_that_wait_with_one_look_at_each_process(
    settings: Settings, both: tuple[Path, Path], fake_kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_kernel.process(612, namespace=2, mountinfo="633 612 0:53 / /data rw - fuse.sshfs me@nas:/films rw,user_id=0\n")
    scans: list[int] = []
    scan = mountinfo.used_elsewhere

    def counting(ours: Collection[mountinfo.Mount]) -> frozenset[mountinfo.Mount]:
        scans.append(len(ours))
        return scan(ours)

    monkeypatch.setattr(mountinfo, "used_elsewhere", counting)
    monkeypatch.setattr(sys, "argv", ["release"])
    release.main()
    assert [mountinfo.mounted_at(place) is None for place in both] == [True, False]
    assert list(settings.releases.iterdir()) == []
    assert scans == [2]


@pytest.mark.usefixtures("own_logging", "environment")
def test_what_the_kernel_does_not_let_go_keeps_no_other_from_its_release(
    settings: Settings, both: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    unmount = kernel.unmount

    def refuse(mountpoint: Path) -> bool:
        if mountpoint == both[0]:
            raise PermissionError(1, "Operation not permitted", os.fspath(mountpoint))
        return unmount(mountpoint)

    monkeypatch.setattr(kernel, "unmount", refuse)
    monkeypatch.setattr(sys, "argv", ["release"])
    with pytest.raises(SystemExit, match=f"Operation not permitted: '{both[0]}'"):
        release.main()
    assert [mountinfo.mounted_at(place) is None for place in both] == [False, True]
    assert [request.name for request in settings.releases.iterdir()] == [PHOTOS]


@pytest.mark.usefixtures("own_logging", "environment", "fake_kernel")
def test_program_that_cannot_be_started_keeps_no_other_volume_from_its_release(
    settings: Settings, fake_kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, mounted = settings.mounts / FILMS, settings.mounts / PHOTOS
    settings.releases.mkdir(parents=True)
    for mountpoint in (left, mounted):
        mountpoint.mkdir(parents=True)
        (settings.releases / mountpoint.name).touch()
    fake_kernel.mount(mounted)

    def refuse(_mountpoint: Path) -> None:
        raise errors.ProgramNotStarted("chattr", BlockingIOError(11, "Resource temporarily unavailable"))

    monkeypatch.setattr(kernel, "make_mutable", refuse)
    with pytest.raises(errors.ProgramNotStarted):
        release.release(settings, [FILMS, PHOTOS], requested=True)
    assert [request.name for request in settings.releases.iterdir()] == [FILMS]
    assert mountinfo.mounted_at(mounted) is None


def test_without_a_request_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["release"])
    release.main()


@pytest.mark.usefixtures("own_logging", "environment")
def test_volumes_that_are_named_are_released_and_their_clean_up_is_waited_for(
    both: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    awaited: list[Path] = []
    monkeypatch.setattr(kernel, "await_absence", lambda path, _: awaited.append(path))
    monkeypatch.setattr(sys, "argv", ["release", PHOTOS])
    release.main()
    assert [mountinfo.mounted_at(place) is None for place in both] == [True, False]
    assert awaited == [both[0]]


@pytest.mark.usefixtures("own_logging", "environment")
@pytest.mark.parametrize("name", ["../photos", "a/b", ""])
def test_names_that_are_none_are_told_and_keep_no_other_volume_mounted(
    both: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["release", name, PHOTOS])
    monkeypatch.setattr(kernel, "await_absence", lambda path, _: None)
    release.main()
    assert [mountinfo.mounted_at(place) is None for place in both] == [True, False]
    assert "can't be the name of a volume" in caplog.text


@pytest.mark.usefixtures("own_logging", "environment")
def test_a_stray_file_among_the_requests_ends_no_release(
    both: tuple[Path, Path], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings.releases / ".stray").touch()
    monkeypatch.setattr(sys, "argv", ["release"])
    release.main()
    assert [mountinfo.mounted_at(place) is None for place in both] == [True, True]


@pytest.mark.usefixtures("own_logging", "environment")
def test_who_has_given_up_is_not_unmounted_any_more(
    both: tuple[Path, Path], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The volume may be mounted anew by then, and that mount have been told to a client."""
    scan = mountinfo.used_elsewhere

    def scanning(ours: Collection[mountinfo.Mount]) -> frozenset[mountinfo.Mount]:
        (settings.releases / PHOTOS).unlink()
        return scan(ours)

    monkeypatch.setattr(mountinfo, "used_elsewhere", scanning)
    monkeypatch.setattr(sys, "argv", ["release"])
    release.main()
    assert [mountinfo.mounted_at(place) is None for place in both] == [False, True]


@pytest.mark.usefixtures("own_logging", "environment")
def test_a_mountpoint_that_is_being_mounted_is_not_removed_by_hand(
    settings: Settings, mountpoint: Path, fake_kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    del fake_kernel
    mountpoint.mkdir(parents=True)
    monkeypatch.setattr(kernel, "await_absence", lambda path, _: None)
    release.release(settings, [PHOTOS])
    assert mountpoint.exists()
