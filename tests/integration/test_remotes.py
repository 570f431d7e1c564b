# SPDX-License-Identifier: MIT
"""A remote that is edited: its server moves to another port, and an edit makes no sense."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.remotes import describe

from integration.plugin import Plugin, Refused
from integration.sshd import Server, start_server
from sshfs_plugin.options.remotes import Remotes


@pytest.fixture(scope="module")
def elsewhere(server: Server) -> Iterator[Server]:
    """Give the server after its move: another port, and another host key."""
    with start_server(model=server) as elsewhere:
        yield elsewhere


def point_to(plugin: Plugin, server: Server, *more: str) -> Path:
    """Write where the server is into the file of the remote."""
    lines = ["host = 127.0.0.1", f"port = {server.port}", f"user = {server.user}", f"IdentityFile = {server.key}"]
    return describe(Remotes.of(plugin.settings), "".join(f"{line}\n" for line in (*lines, *more)))


def directory_on(server: Server, says: str) -> Path:
    """Make a directory of the volume, with a file."""
    directory = server.make(says)
    (directory / "file").write_text(says)
    return directory


def test_server_that_moves_is_found_at_the_next_mount(plugin: Plugin, server: Server, elsewhere: Server) -> None:
    before, after = directory_on(server, "before"), directory_on(elsewhere, "after")
    point_to(plugin, server, f"directory = {before}")
    plugin.create("photos", {"remote": "nas"})
    mountpoint = plugin.mount("photos")
    assert (mountpoint / "file").read_text() == "before"
    assert plugin.status("photos")["remote"] == "nas:"

    point_to(plugin, elsewhere, f"directory = {after}")
    assert plugin.mount("photos", "two") == mountpoint
    assert (mountpoint / "file").read_text() == "before", "a mounted volume stays as it is"
    plugin.unmount("photos")
    plugin.unmount("photos", "two")

    plugin.create("photos", {"remote": "nas"})
    assert (plugin.mount("photos") / "file").read_text() == "after"
    plugin.unmount("photos")


def test_edit_that_makes_no_sense_is_told_and_can_be_mended(plugin: Plugin, server: Server) -> None:
    photos = directory_on(server, "mended")
    file = point_to(plugin, server)
    plugin.create("photos", {"remote": "nas", "directory": str(photos)})
    point_to(plugin, server, "prot = 22", "password = hunter2")
    with pytest.raises(Refused) as refused:
        plugin.mount("photos")
    assert str(refused.value) == (
        f"volume 'photos': remote 'nas' can't be used, {file} is not valid (unknown option 'prot': did you mean "
        "'port'?): mend it, and it counts from the next mount"
    )
    plugin.restart()
    assert [volume["Name"] for volume in plugin.call("List")["Volumes"]] == ["photos"]
    assert plugin.status("photos")["state"] == "unusable"
    point_to(plugin, server)
    assert (plugin.mount("photos") / "file").read_text() == "mended"
    assert plugin.status("photos")["state"] == "mounted"
    plugin.unmount("photos")
    plugin.call("Remove", Name="photos")
    assert "hunter2" not in plugin.log.read_text(errors="replace")
