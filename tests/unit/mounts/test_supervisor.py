# SPDX-License-Identifier: MIT
"""Where volumes are mounted, and whether they answer."""

from pathlib import Path

import pytest
from support.kernel import FakeKernel
from support.programs import STAT_ANSWERED, STAT_UNANSWERED, Programs
from support.waiting import LIMIT_SECONDS, now, soon

from sshfs_plugin import errors
from sshfs_plugin.mounts.processes import ProcessSupervisor
from sshfs_plugin.mounts.supervisor import Supervisor
from sshfs_plugin.settings import Settings
from sshfs_plugin.volume import VolumeName

PHOTOS = VolumeName("photos")


@pytest.fixture
def below(settings: Settings) -> Supervisor:
    return ProcessSupervisor(settings)


def test_mounted_volumes_are_those_in_the_directory_of_mountpoints(
    below: Supervisor, settings: Settings, fake_kernel: FakeKernel
) -> None:
    assert below.mounted() == {}
    fake_kernel.mount(below.mountpoint(PHOTOS))
    fake_kernel.mount(settings.home / "films")
    assert below.mounted() == {"photos": "0:99"}


def test_a_mount_that_answers_passes(below: Supervisor, programs: Programs, fake_kernel: FakeKernel) -> None:
    programs.add("stat", STAT_ANSWERED)
    fake_kernel.mount(below.mountpoint(PHOTOS))
    assert below.answers(PHOTOS, LIMIT_SECONDS)
    below.files(PHOTOS).directory.mkdir(parents=True)
    below.require_answer(PHOTOS, soon())
    assert len(programs.calls("stat")) == 2
    assert not below.files(PHOTOS).retry.exists()


def test_mountpoints_are_left_over_at_which_nothing_of_any_kind_is_mounted(
    below: Supervisor, fake_kernel: FakeKernel
) -> None:
    assert below.left_over() == set()
    for name in ("empty", "photos", "other"):
        (below.settings.mounts / name).mkdir(parents=True)
    fake_kernel.mount(below.settings.mounts / "photos")
    fake_kernel.mount(below.settings.mounts / "other", kind="tmpfs")
    assert below.left_over() == {"empty"}


def test_reconnects_are_counted_until_the_volume_is_unmounted(below: Supervisor) -> None:
    assert below.reconnects(PHOTOS) == 0
    below.files(PHOTOS).directory.mkdir(parents=True)
    below.files(PHOTOS).reconnects.write_bytes(b"\n\n")
    assert below.reconnects(PHOTOS) == 2
    below.discard_files(PHOTOS)
    assert below.reconnects(PHOTOS) == 0


def test_a_mount_that_does_not_answer_is_no_success(
    below: Supervisor, programs: Programs, fake_kernel: FakeKernel
) -> None:
    programs.add("stat", STAT_UNANSWERED)
    fake_kernel.mount(below.mountpoint(PHOTOS))
    with pytest.raises(errors.MountTimedOut) as refusal:
        below.require_answer(PHOTOS, now())
    assert str(refusal.value) == (
        "volume 'photos' is mounted but its server does not answer: "
        "try again when the server is back, or unmount it with docker-volume-sshfs release --force photos"
    )


def test_a_mount_whose_relay_has_given_up_has_it_try_again_and_says_what_it_says(
    below: Supervisor, programs: Programs, fake_kernel: FakeKernel
) -> None:
    programs.add("stat", STAT_UNANSWERED)
    fake_kernel.mount(below.mountpoint(PHOTOS))
    files = below.files(PHOTOS)
    files.directory.mkdir(parents=True)
    files.outage.write_text("the connection to the server is lost (it was closed); it is tried again every 5 seconds")
    with pytest.raises(errors.MountTimedOut) as refusal:
        below.require_answer(PHOTOS, now())
    assert files.retry.exists()
    assert str(refusal.value) == (
        "volume 'photos' is mounted but its server does not answer: the connection to the server is lost "
        "(it was closed); it is tried again every 5 seconds; try again when the server is back, "
        "or unmount it with docker-volume-sshfs release --force photos"
    )
    below.discard_files(PHOTOS)
    assert not files.directory.exists()


def test_a_mount_that_is_just_connecting_again_is_waited_for(
    below: Supervisor, programs: Programs, fake_kernel: FakeKernel, tmp_path: Path
) -> None:
    programs.add(
        "stat", f"[ -e {tmp_path}/asked ] && {{ {STAT_ANSWERED}; }}\ntouch {tmp_path}/asked\n{STAT_UNANSWERED}"
    )
    fake_kernel.mount(below.mountpoint(PHOTOS))
    below.require_answer(PHOTOS, soon())
    assert len(programs.calls("stat")) == 2


@pytest.mark.usefixtures("fake_kernel")
def test_a_mount_that_somebody_took_away_is_named_as_such(below: Supervisor) -> None:
    with pytest.raises(errors.MountFailed) as refusal:
        below.require_answer(PHOTOS, soon())
    assert str(refusal.value) == (
        "volume 'photos' was unmounted by hand while containers go on using it: "
        "stop them (docker ps --filter volume=photos) and try again"
    )
