# SPDX-License-Identifier: MIT
"""Where volumes are mounted, and what a user reads when one could not be."""

from pathlib import Path

import pytest
from support.kernel import FakeKernel
from support.programs import STAT_ANSWERED, STAT_UNANSWERED, Programs
from support.waiting import LIMIT_SECONDS, now, soon

from sshfs_plugin import errors
from sshfs_plugin.mounts import supervisor
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


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Permission denied (publickey).\nread: Connection reset by peer\n", "Permission denied (publickey)."),
        (
            "Warning: Permanently added 'nas' (ED25519) to the list of known hosts.\n  me@nas: no such user  \n",
            "me@nas: no such user",
        ),
        ("one\ntwo\none\n", "one; two"),
        (f"{'a banner' * 10_000}\nPermission denied (publickey).\n", "... Permission denied (publickey)."),
        ("read: Connection reset by peer\n", "read: Connection reset by peer"),
        ("Failed to attach 42 to compat systemd cgroup '/system.slice/x', ignoring\nno such key\n", "no such key"),
    ],
)
def test_a_failed_mount_speaks_in_the_last_words_of_ssh(said: str, words: str) -> None:
    assert str(supervisor.mount_failed(PHOTOS, said)) == (
        f"sshfs could not mount volume 'photos', its last words: {words}"
    )


BEHIND = "kex_exchange_identification: Connection closed by remote host\nConnection closed by UNKNOWN port 65535\n"
"""The last words of an ssh whose connection to the server, through a jump host, is closed."""


@pytest.mark.parametrize(
    "said",
    [
        "kex_exchange_identification: read: Connection reset by peer\nConnection reset by 127.0.0.1 port 22\n",
        "kex_exchange_identification: Connection closed by remote host\nConnection closed by 192.0.2.1 port 22\n",
        BEHIND,
        f"kex_exchange_identification: read: Connection reset by peer\nConnection reset by 192.0.2.1 port 22\n{BEHIND}",
    ],
    ids=["reset", "closed", "behind a jump host", "by a jump host"],
)
def test_a_mount_that_was_turned_away_before_its_login_is_told_apart(said: str) -> None:
    assert isinstance(supervisor.mount_failed(PHOTOS, said), errors.MountTurnedAway)
    by_a_jump_host = f"bob@gate: Permission denied (publickey).\n{said}"
    assert not isinstance(supervisor.mount_failed(PHOTOS, by_a_jump_host), errors.MountTurnedAway)


@pytest.mark.parametrize("behind", ["", BEHIND])
def test_a_mount_whose_login_was_cut_off_was_not_turned_away_before_it(behind: str) -> None:
    """A server, or a jump host, that counts logins would count another."""
    said = f"Connection closed by 192.0.2.1 port 22\n{behind}"
    assert not isinstance(supervisor.mount_failed(PHOTOS, said), errors.MountTurnedAway)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "\n \n",
        "Job for docker-volume-sshfs@photos.service failed because the control process exited with error code.\n"
        'See "systemctl status docker-volume-sshfs@photos.service" and "journalctl -xe" for details.\n',
    ],
)
def test_an_sshfs_that_ends_without_a_word_is_not_given_those_of_systemd(said: str) -> None:
    failure = (
        "sshfs could not mount volume 'photos' and did not say why: docker-volume-sshfs check photos tries the server"
    )
    assert str(supervisor.mount_failed(PHOTOS, said)) == failure
    more = supervisor.mount_failed(PHOTOS, said, "journalctl VOLUME=photos tells more")
    assert str(more) == f"{failure}; journalctl VOLUME=photos tells more"


def test_a_mount_that_took_too_long_says_how_long(settings: Settings) -> None:
    assert str(supervisor.mount_timed_out(PHOTOS, 4.5)) == (
        "volume 'photos' was not usable after 4 seconds and was given up: "
        "is the server slow or overloaded? try again"
    )
