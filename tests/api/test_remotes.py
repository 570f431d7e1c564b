# SPDX-License-Identifier: MIT
"""A volume of a remote, as Docker and whoever may talk to it see it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clients import ID, DockerClient
from support.driver import FakeHost, slow_slots
from support.remotes import describe
from support.serving import serving

from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.http import api
from sshfs_plugin.options.remotes import Remotes
from sshfs_plugin.settings import Settings
from sshfs_plugin.state.records import HolderRecords, VolumeRecords

OPTS = {"remote": "nas", "directory": "/photos"}
FILE = "host = secret.lan\nuser = alice\npassword = hunter2\nport = 2222\nallow_other =\n"


@pytest.fixture
def remotes(settings: Settings) -> Remotes:
    """Give the remotes of the host, of which there is one."""
    remotes = Remotes.of(settings)
    describe(remotes, FILE)
    return remotes


@pytest.fixture
def docker(host: FakeHost, settings: Settings, remotes: Remotes, tmp_path: Path) -> Iterator[DockerClient]:
    """Give Docker, with a volume of the remote."""
    driver = Driver(
        volumes=VolumeRecords.of(settings),
        holder_records=HolderRecords(settings.holders),
        preflight=host.real_preflight,
        supervisor=host.real_supervisor,
    )
    driver.load()
    with serving(api.create_app(driver, slow_slots=slow_slots(), tell=lambda _: None), tmp_path / "sshfs.sock"):
        docker = DockerClient(tmp_path / "sshfs.sock")
        assert docker.create("photos", OPTS).error == ""
        yield docker


def test_inspect_shows_the_name_of_the_remote_and_the_directory_alone(docker: DockerClient) -> None:
    volume = docker.get("photos").body["Volume"]
    assert volume["CreatedAt"]
    del volume["Status"]["since"]
    assert volume["Status"] == {
        "state": "unmounted",
        "holders": 0,
        "remote": "nas:/photos",
        "unit": "docker-volume-sshfs@photos.service",
    }


def test_record_has_what_was_given_alone(docker: DockerClient, settings: Settings) -> None:
    assert docker.create("photos", OPTS).error == ""
    assert json.loads((settings.volumes / "photos.json").read_text())["options"] == OPTS


@pytest.mark.parametrize("line", ["password hunter2", "hunter2", "password = hunter2\n hunter2", "port = none"])
def test_wrong_edit_is_told_and_the_volume_is_listed_and_removed(
    docker: DockerClient, remotes: Remotes, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    describe(remotes, f"{FILE}{line}\n")
    error = docker.mount("photos", ID).error
    assert error.startswith(f"volume 'photos': remote 'nas' can't be used, {remotes.file('nas')} ")
    assert docker.list_names() == ["photos"]
    status = docker.get("photos").body["Volume"]["Status"]
    assert (status["state"], status["remote"]) == ("unusable", "nas:/photos")
    assert status["lastError"] == error.removeprefix("volume 'photos': ")
    assert "hunter2" not in error + caplog.text
    assert "secret.lan" not in error
    assert docker.remove("photos").error == ""
