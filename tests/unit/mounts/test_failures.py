# SPDX-License-Identifier: MIT
"""What a user reads when a volume could not be mounted."""

import pytest

from sshfs_plugin import errors
from sshfs_plugin.mounts import failures
from sshfs_plugin.volume import VolumeName

PHOTOS = VolumeName("photos")


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
    assert str(failures.mount_failed(PHOTOS, said)) == (
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
    assert isinstance(failures.mount_failed(PHOTOS, said), errors.MountTurnedAway)
    by_a_jump_host = f"bob@gate: Permission denied (publickey).\n{said}"
    assert not isinstance(failures.mount_failed(PHOTOS, by_a_jump_host), errors.MountTurnedAway)


@pytest.mark.parametrize("behind", ["", BEHIND])
def test_a_mount_whose_login_was_cut_off_was_not_turned_away_before_it(behind: str) -> None:
    """A server, or a jump host, that counts logins would count another."""
    said = f"Connection closed by 192.0.2.1 port 22\n{behind}"
    assert not isinstance(failures.mount_failed(PHOTOS, said), errors.MountTurnedAway)


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
    assert str(failures.mount_failed(PHOTOS, said)) == failure
    more = failures.mount_failed(PHOTOS, said, "journalctl VOLUME=photos tells more")
    assert str(more) == f"{failure}; journalctl VOLUME=photos tells more"


def test_a_mount_that_took_too_long_says_how_long() -> None:
    assert str(failures.mount_timed_out(PHOTOS, 4.5)) == (
        "volume 'photos' was not usable after 4 seconds and was given up: "
        "is the server slow or overloaded? try again"
    )
