# SPDX-License-Identifier: MIT
"""docker-volume-sshfs remote, and what check and status say of a volume whose server a file describes."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.administrator import Administrator
from support.remotes import NAS, describe
from support.ssh_server import Account, Server, serving

from sshfs_plugin import options
from sshfs_plugin.options.remotes import Remotes
from sshfs_plugin.state.records import VolumeRecords
from sshfs_plugin.volume import VolumeName

CHECKS = ("key or password", "options", "name", "connection", "key exchange", "host key", "login", "SFTP", "directory")


@pytest.fixture
def remotes(administrator: Administrator) -> Remotes:
    return Remotes.of(administrator.settings)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "server/photos").mkdir(parents=True)
    with serving(Account(directory=tmp_path / "server", password="hunter2")) as running:
        yield running


def record(remotes: Remotes, administrator: Administrator, name: str, **opts: str) -> None:
    """Put a volume on record."""
    records = VolumeRecords.of(administrator.settings)
    records.directory.mkdir(parents=True, exist_ok=True)
    records.save(options.parse(VolumeName(name), opts, datetime.now(UTC), remotes))


def lines_of(server: Server) -> str:
    return f"host = 127.0.0.1\nuser = bob\nport = {server.port}\npassword = hunter2\n"


def test_list_without_remotes_says_where_they_would_be(administrator: Administrator, remotes: Remotes) -> None:
    said = administrator("remote", "list")
    assert (said.code, said.out, said.err) == (0, f"There are no remotes in {remotes.directory}.\n", "")


def test_list_has_the_server_and_the_volumes_of_each_remote(administrator: Administrator, remotes: Remotes) -> None:
    describe(remotes, NAS + "port = 2222\n")
    describe(remotes, "host = backup.lan\n", name="backup")
    record(remotes, administrator, "photos", remote="nas", directory="/photos")
    record(remotes, administrator, "music", remote="nas")
    record(remotes, administrator, "films", sshcmd="nas.lan:/films")
    said = administrator("remote", "list")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        "NAME    SERVER                   VOLUMES",
        "backup  root@backup.lan port 22",
        "nas     alice@nas.lan port 2222  music, photos",
    ]


def test_list_ends_with_one_where_a_file_is_wrong_or_missing(administrator: Administrator, remotes: Remotes) -> None:
    describe(remotes, name="old")
    record(remotes, administrator, "photos", remote="old")
    remotes.file("old").unlink()
    describe(remotes).chmod(0o644)
    said = administrator("remote", "list")
    assert said.code == 1
    assert said.lines == ["NAME SERVER VOLUMES", "nas unusable", "old unusable photos"]
    assert said.err.splitlines() == [
        f"remote 'nas' can't be used, {remotes.file('nas')} is open to users other than root: "
        f"chmod 600 {remotes.file('nas')}",
        f"remote 'old' can't be used, {remotes.file('old')} does not exist: "
        "docker-volume-sshfs remote list shows which there are",
    ]


def test_list_names_a_file_that_no_volume_can_mean(administrator: Administrator, remotes: Remotes) -> None:
    describe(remotes, name="my nas")
    said = administrator("remote", "list")
    assert (said.code, said.out) == (1, f"There are no remotes in {remotes.directory}.\n")
    assert said.err == (
        f"remote 'my nas' can't be used, {remotes.file('my nas')} has a name that no volume can say: give it another, "
        "and use at least two letters, digits, '_', '.' and '-', and begin with a letter or digit\n"
    )


def behind_bastion(administrator: Administrator, remotes: Remotes) -> None:
    """Put a volume of a remote and another on record, with bastion on the way to both, and outer before that."""
    describe(remotes, "host = outer.lan\n", name="outer")
    describe(remotes, "host = bastion.lan\nProxyJump = outer\n", name="bastion")
    describe(remotes, NAS + "ProxyJump = bastion\n")
    record(remotes, administrator, "photos", remote="nas")
    record(remotes, administrator, "films", sshcmd="10.0.0.7:/films", ProxyJump="bastion")
    record(remotes, administrator, "music", remote="bastion")


def test_list_and_show_have_the_volumes_behind_a_jump_host(administrator: Administrator, remotes: Remotes) -> None:
    behind_bastion(administrator, remotes)
    assert administrator("remote", "list").lines == [
        "NAME SERVER VOLUMES",
        "bastion root@bastion.lan port 22 music, films (through it), photos (through it)",
        "nas alice@nas.lan port 22 photos",
        "outer root@outer.lan port 22 films (through it), music (through it), photos (through it)",
    ]
    assert administrator("remote", "show", "bastion").out.splitlines()[-2:] == [
        "volumes:    music",
        "behind it:  films, photos",
    ]


def test_list_has_a_jump_host_whose_file_is_missing(administrator: Administrator, remotes: Remotes) -> None:
    behind_bastion(administrator, remotes)
    remotes.file("bastion").unlink()
    said = administrator("remote", "list")
    assert said.code == 1
    assert said.lines == [
        "NAME SERVER VOLUMES",
        "bastion unusable music, films (through it), photos (through it)",
        "nas unusable photos",
        "outer root@outer.lan port 22",
    ]


def test_check_of_a_jump_host_names_the_volumes_behind_it_that_its_file_does_not_go_with(
    administrator: Administrator, remotes: Remotes, server: Server
) -> None:
    describe(remotes, name="bastion")
    record(remotes, administrator, "films", sshcmd="10.0.0.7:/films", ProxyJump="bastion")
    describe(remotes, lines_of(server).replace("bob", "b%b"), name="bastion")
    said = administrator("remote", "check", "bastion")
    assert (said.code, len(said.lines)) == (1, 1 + len(CHECKS))
    assert said.err == (
        f"volume 'films': remote 'bastion' can't be used, {remotes.file('bastion')} is not valid for a jump host "
        "(option 'user' must not hold '%' or '$' for a jump host: ssh would replace it): mend it, "
        "and it counts from the next mount\n"
    )


def test_show_has_all_that_the_file_says_but_the_password(administrator: Administrator, remotes: Remotes) -> None:
    describe(remotes, NAS + "password = hunter2\nport = 2222\nuid = 1000\n")
    record(remotes, administrator, "photos", remote="nas")
    said = administrator("remote", "show", "nas")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        f"file:       {remotes.file('nas')}",
        "server:     alice@nas.lan port 2222",
        "directory:  as each volume says, else the login directory",
        "options:    password=(not shown), uid=1000",
        "volumes:    photos",
        "behind it:  none",
    ]


def test_show_of_a_wrong_file_says_what_is_wrong(administrator: Administrator, remotes: Remotes) -> None:
    describe(remotes, "hots = nas\n")
    said = administrator("remote", "show", "nas")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"docker-volume-sshfs: remote 'nas' can't be used, {remotes.file('nas')} is not valid (")
    assert administrator("remote", "show", "../nas").code == 2


def test_check_makes_all_checks(administrator: Administrator, remotes: Remotes, server: Server) -> None:
    describe(remotes, lines_of(server))
    said = administrator("remote", "check", "nas")
    assert (said.code, said.err) == (0, "")
    assert all(line.startswith(f"✓ {check}") for line, check in zip(said.lines[1:], CHECKS, strict=True))
    assert "hunter2" not in said.out


def test_check_names_the_volumes_that_the_file_does_not_go_with(
    administrator: Administrator, remotes: Remotes, server: Server
) -> None:
    describe(remotes, NAS)
    record(remotes, administrator, "photos", remote="nas", password_file="/etc/password")
    describe(remotes, lines_of(server))
    said = administrator("remote", "check", "nas")
    assert said.code == 1
    assert len(said.lines) == 1 + len(CHECKS)
    assert said.err == (
        f"volume 'photos': remote 'nas' can't be used, {remotes.file('nas')} is not valid for this volume (option "
        "'password_file' contradicts 'password': give one of them): mend it, and it counts from the next mount\n"
    )


def test_check_that_fails_names_the_volumes_that_the_file_does_not_go_with_as_well(
    administrator: Administrator, remotes: Remotes, server: Server
) -> None:
    describe(remotes, NAS)
    record(remotes, administrator, "photos", remote="nas", password_file="/etc/password")
    describe(remotes, lines_of(server).replace("hunter2", "wrong"))
    said = administrator("remote", "check", "nas")
    conflict, refused = said.err.splitlines()
    assert said.code == 1
    assert conflict.startswith(f"volume 'photos': remote 'nas' can't be used, {remotes.file('nas')} is not valid for")
    assert refused.startswith("docker-volume-sshfs: ")
    assert said.lines[-1] == "✗ login"


@pytest.mark.parametrize(
    ("sftp", "directory", "failed"), [(False, "", "✗ SFTP"), (True, "directory = /missing\n", "✗ directory")]
)
def test_check_of_what_may_be_a_jump_host_alone_says_what_that_does_not_need(  # noqa: PLR0913 (what fails, and on what)
    administrator: Administrator, remotes: Remotes, tmp_path: Path, sftp: bool, directory: str, failed: str
) -> None:
    said_so = (
        "; a remote that is a jump host alone needs the login, which has succeeded, and forwarding, but not this\n"
    )
    with serving(Account(directory=tmp_path, password="hunter2", sftp=sftp)) as server:
        describe(remotes, lines_of(server) + directory)
        said = administrator("remote", "check", "nas")
        assert (said.code, said.lines[-1]) == (1, failed)
        assert said.err.endswith(said_so)
        record(remotes, administrator, "films", sshcmd="10.0.0.7:/films", ProxyJump="nas")
        assert administrator("remote", "check", "nas").err.endswith(said_so)
        record(remotes, administrator, "photos", remote="nas")
        said = administrator("remote", "check", "nas")
        assert said.lines[-1] == failed
        assert not said.err.endswith(said_so), "a volume of its own needs both"


def test_volume_is_checked_with_what_the_file_says_by_now(
    administrator: Administrator, remotes: Remotes, server: Server
) -> None:
    describe(remotes)
    record(remotes, administrator, "photos", remote="nas", directory="/photos")
    describe(remotes, lines_of(server))
    said = administrator("check", "photos")
    assert (said.code, said.err) == (0, "")
    assert said.lines[0] == f"bob@127.0.0.1:/photos port {server.port}"
    assert administrator("check", "-oremote=nas", "-odirectory=/photos").lines == said.lines
    describe(remotes, "host = nas\nport = none\n")
    said = administrator("check", "photos")
    assert (said.code, said.out) == (1, "")
    assert "is not valid (option 'port' must be a number" in said.err
