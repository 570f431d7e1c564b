# SPDX-License-Identifier: MIT
"""The values: which names are safe, what is shown, and what is never shown."""

import dataclasses
from datetime import UTC, datetime

import pytest

from sshfs_plugin import errors
from sshfs_plugin.volume import (
    LONGEST_NAME,
    Access,
    CheckAt,
    Credentials,
    HostKeyCheck,
    Remote,
    Volume,
    volume_name,
)


def remote(*, host: str = "nas", directory: str = "/photos") -> Remote:
    return Remote(user="bob", host=host, port=2222, directory=directory)


@pytest.mark.parametrize("name", ["photos", "a7", "7a", "my-photos_2.old", "A" * LONGEST_NAME])
def test_volume_name_when_docker_could_type_it_is_taken_as_it_is(name: str) -> None:
    assert volume_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a",
        ".",
        "..",
        "../../etc",
        "a/b",
        "-f",
        ".hidden",
        "_a",
        "a b",
        "a\n",
        "a\nb",
        "a\0b",
        "größe",
        "a@b",
        "a%b",
    ],
)
def test_volume_name_when_it_is_no_safe_file_name_is_refused_and_says_which_are(name: str) -> None:
    with pytest.raises(errors.InvalidVolumeName) as refusal:
        volume_name(name)
    assert str(refusal.value) == (
        f"{name!r} can't be the name of a volume: "
        "use at least two letters, digits, '_', '.' and '-', and begin with a letter or digit"
    )


def test_volume_name_when_too_long_is_refused_with_both_lengths() -> None:
    with pytest.raises(errors.InvalidVolumeName) as refusal:
        volume_name("a" * (LONGEST_NAME + 1))
    assert str(refusal.value) == "a volume name of 201 characters is too long: use at most 200"


def test_volume_name_when_long_and_wrong_is_not_repeated_at_length() -> None:
    with pytest.raises(errors.InvalidVolumeName) as refusal:
        volume_name("/" * 100_000)
    assert len(str(refusal.value)) < 2 * LONGEST_NAME


def test_source_when_the_host_has_a_name_is_what_sshfs_takes() -> None:
    assert remote().source == "bob@nas:/photos"
    assert remote(directory="").source == "bob@nas:"


def test_source_when_the_host_is_an_ipv6_address_puts_it_in_brackets() -> None:
    assert remote(host="2001:db8::1").source == "bob@[2001:db8::1]:/photos"


def test_remote_in_messages_tells_the_port() -> None:
    assert remote().account == "bob@nas port 2222"
    assert remote().server == "nas port 2222"


@pytest.mark.parametrize(
    ("allow_other", "default_permissions", "everyone"),
    [(True, False, True), (True, True, False), (False, False, False), (False, True, False)],
)
def test_access_is_everyones_when_others_are_let_in_unchecked(
    allow_other: bool, default_permissions: bool, everyone: bool
) -> None:
    access = Access(allow_other=allow_other, default_permissions=default_permissions)
    assert access.everyone is everyone


def test_repr_when_there_is_a_password_does_not_show_it() -> None:
    volume = Volume(
        name=volume_name("photos"),
        given={"sshcmd": "bob@nas:/photos", "password": "hunter2"},
        options={"sshcmd": "bob@nas:/photos", "password": "hunter2"},
        remote=remote(),
        credentials=Credentials(password="hunter2"),
        host_key_check=HostKeyCheck.ACCEPT_NEW,
        pinned_host_key="",
        known_hosts="",
        check=CheckAt.CREATE,
        create_directory=False,
        access=Access(allow_other=True, default_permissions=True),
        read_seconds=900,
        shares_connection=True,
        sshfs_options=(),
        ssh_options=(),
        created_at=datetime.now(UTC),
    )
    assert "hunter2" not in repr(volume)
    assert "photos" in repr(volume)


def test_values_when_made_can_not_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        remote().port = 22  # type: ignore[misc]  # this is what must fail
