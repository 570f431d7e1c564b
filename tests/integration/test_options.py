# SPDX-License-Identifier: MIT
"""What options do to a mounted volume, seen through the real sshfs."""

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from integration.plugin import Plugin, await_that
from integration.sshd import Server


def mounted(plugin: Plugin, server: Server, name: str, **options: str) -> tuple[Path, Path]:
    """Return a new directory of the server, and where a volume with these options shows it."""
    directory = server.make(name)
    plugin.create(name, server.options(directory, **options))
    return directory, plugin.mount(name)


def options_of_mount(mountpoint: Path) -> list[str]:
    argv = ["findmnt", "--noheadings", "--output=OPTIONS", "--mountpoint", str(mountpoint)]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=300).stdout.strip().split(",")


def ssh_config(plugin: Plugin, name: str) -> str:
    return (plugin.settings.unit_files / name / "ssh_config").read_text()


def test_links_out_of_the_directory_cannot_be_read_unless_that_is_asked_for(plugin: Plugin, server: Server) -> None:
    directory, contained = mounted(plugin, server, "contained")
    (directory / "tool").symlink_to("../package/tool.js")
    (directory / "etc").symlink_to("/etc/hostname")
    for name in ("tool", "etc"):
        with pytest.raises(PermissionError):
            (contained / name).readlink()
    plugin.create("links", server.options(directory, no_contain_symlinks=""))
    links = plugin.mount("links")
    assert (links / "tool").readlink() == Path("../package/tool.js")
    assert (links / "etc").readlink() == Path("/etc/hostname")
    plugin.create("followed", server.options(directory, follow_symlinks=""))
    assert (plugin.mount("followed") / "etc").read_text() == Path("/etc/hostname").read_text()
    for name in ("links", "contained", "followed"):
        plugin.unmount(name)


def test_a_file_that_is_added_on_the_server_shows_up_soon(plugin: Plugin, server: Server) -> None:
    directory, mountpoint = mounted(plugin, server, "added")
    assert list(mountpoint.iterdir()) == []
    (directory / "new").touch()
    await_that(lambda: (mountpoint / "new") in mountpoint.iterdir(), "the new file is listed")
    plugin.unmount("added")


def what_a_container_knows(mountpoint: Path, log: int) -> dict[str, object]:
    """Look at what the server may have changed; ``log`` is a file that stays open."""
    return {
        "names": sorted(os.listdir(mountpoint)),
        "size": (mountpoint / "log").stat().st_size,
        "asked for before": (mountpoint / "new").exists(),
        "removed": (mountpoint / "gone").exists(),
        "link": str((mountpoint / "current").readlink()),
        "open": os.pread(log, 100, 0),
        "opened again": (mountpoint / "page").read_text(),
    }


BEFORE = {
    "names": ["current", "gone", "log", "page"],
    "size": 4,
    "asked for before": False,
    "removed": True,
    "link": "one",
    "open": b"one\n",
    "opened again": "old",
}
AFTER = {
    "names": ["current", "log", "new", "page"],
    "size": 8,
    "asked for before": True,
    "removed": False,
    "link": "two",
    "open": b"one\ntwo\n",
    "opened again": "new",
}


@pytest.mark.parametrize(("profile", "at_once"), [("strict", set(AFTER)), ("metadata", {"opened again"})])
def test_a_profile_says_what_of_the_servers_changes_a_container_sees_at_once(
    plugin: Plugin, server: Server, profile: str, at_once: set[str]
) -> None:
    """With ``metadata`` the rest is seen a minute later; with ``default`` too soon to tell that it is not seen yet."""
    directory, mountpoint = mounted(plugin, server, f"profile-{profile}", profile=profile)
    for name, text in (("log", "one\n"), ("page", "old"), ("gone", "")):
        (directory / name).write_text(text)
    (directory / "current").symlink_to("one")
    log = os.open(mountpoint / "log", os.O_RDONLY)
    assert what_a_container_knows(mountpoint, log) == BEFORE
    with (directory / "log").open("a") as file:
        file.write("two\n")
    (directory / "page").write_text("new")
    (directory / "new").touch()
    (directory / "gone").unlink()
    (directory / "current").unlink()
    (directory / "current").symlink_to("two")
    assert what_a_container_knows(mountpoint, log) == BEFORE | {what: AFTER[what] for what in at_once}
    os.close(log)
    plugin.unmount(f"profile-{profile}")


def test_a_directory_is_made_when_asked_for_with_a_name_that_needs_no_care(plugin: Plugin, server: Server) -> None:
    missing = server.make("parents") / 'a, b/100% "größe" \\ it\'s'
    plugin.create("made", server.options(missing, create_directory=""))
    assert missing.is_dir()
    mountpoint = plugin.mount("made")
    (mountpoint / "file").touch()
    assert (missing / "file").exists()
    plugin.unmount("made")


def test_owners_are_translated_by_a_file_whose_name_needs_no_care(
    plugin: Plugin, server: Server, tmp_path: Path
) -> None:
    login, nobody = pwd.getpwnam(server.user), pwd.getpwnam("nobody")
    uids, gids = tmp_path / "uids, of\\ 100% größe", tmp_path / "gids"
    uids.write_text(f"nobody:{login.pw_uid}\n")
    gids.write_text(f"nogroup:{login.pw_gid}\n")
    _, mountpoint = mounted(
        *(plugin, server, "translated"), idmap="file", uidfile=str(uids), gidfile=str(gids), nomap="ignore"
    )
    (mountpoint / "file").touch()
    assert ((mountpoint / "file").stat().st_uid, (mountpoint / "file").stat().st_gid) == (
        nobody.pw_uid,
        nobody.pw_gid,
    )
    plugin.unmount("translated")


def test_names_are_translated_between_character_sets(plugin: Plugin, server: Server) -> None:
    directory, mountpoint = mounted(
        *(plugin, server, "latin"), modules="iconv", from_code="ISO-8859-1", to_code="UTF-8"
    )
    (Path(os.fsdecode(bytes(directory) + "/größe".encode("latin-1")))).write_text("old")
    assert (mountpoint / "größe").read_text() == "old"
    plugin.unmount("latin")


def test_what_is_said_about_the_connection_reaches_ssh(plugin: Plugin, server: Server) -> None:
    _, mountpoint = mounted(
        *(plugin, server, "tuned"),
        Ciphers="aes256-ctr,aes128-ctr",
        Compression="yes",
        AddressFamily="inet",
        BindAddress="127.0.0.2",
        max_conns="2",
        noexec="",
        cache_timeout="0",
        nonempty="",
    )
    config = ssh_config(plugin, "tuned")
    for line in ("Ciphers aes256-ctr,aes128-ctr", "Compression yes", "AddressFamily inet", "BindAddress 127.0.0.2"):
        assert f"    {line}\n" in config
    assert "noexec" in options_of_mount(mountpoint)
    (mountpoint / "file").write_text("x" * 100_000)
    assert (mountpoint / "file").read_text() == "x" * 100_000
    plugin.unmount("tuned")


def test_a_known_hosts_file_decides_whom_ssh_trusts(plugin: Plugin, server: Server, tmp_path: Path) -> None:
    keys = subprocess.run(
        ["ssh-keyscan", "-p", str(server.port), "127.0.0.1"], capture_output=True, text=True, check=True, timeout=300
    ).stdout
    known_hosts = tmp_path / "known hosts, 100%"
    known_hosts.write_text(keys)
    directory, _ = mounted(plugin, server, "strict", host_key_check="yes", known_hosts=str(known_hosts))
    assert not plugin.settings.known_hosts.exists()
    plugin.unmount("strict")
    # as many have written it for sshfs
    lax = {"StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null"}
    plugin.create("lax", server.options(directory, **lax))
    plugin.mount("lax")
    plugin.unmount("lax")
