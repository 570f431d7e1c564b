# SPDX-License-Identifier: MIT
"""What the service counts, as docker-volume-sshfs metrics asks for it."""

from pathlib import Path
from typing import Any

import pytest
from support.clients import ID, OTHER_ID, SSHCMD, DockerClient
from support.driver import FakeHost
from support.waiting import soon

from sshfs_plugin import errors
from sshfs_plugin.discovery.client import Service


def counters(docker: DockerClient) -> Any:
    return docker.send("Service.Counters", None).body["Counters"]


def test_calls_are_counted_and_the_question_for_their_number_is_not(docker: DockerClient) -> None:
    docker.create("photos", {"sshcmd": SSHCMD})
    docker.get("photos")
    docker.get("photos")
    counters(docker)
    assert counters(docker)["calls"] == [{"verb": "Create", "count": 1}, {"verb": "Get", "count": 2}]


def test_calls_of_our_own_are_not_counted_and_their_failures_are(docker: DockerClient, address: Path) -> None:
    docker.create("photos", {"sshcmd": SSHCMD})
    ours = Service(address=f"unix://{address}", deadline=soon())
    assert [volume["Name"] for volume in ours.volumes()] == ["photos"]
    ours.create("music", {"sshcmd": SSHCMD})
    with pytest.raises(errors.ServiceRefusal):
        ours.create("music", {"sshcmd": "bob@nas:"})
    counted = ours.counters()
    assert counted["calls"] == [{"verb": "Create", "count": 1}]
    assert counted["failures"] == [{"verb": "Create", "check": "", "error": "VolumeExists", "count": 1}]


def test_mounts_are_counted_where_something_was_mounted_and_unmounts_where_it_ended(docker: DockerClient) -> None:
    docker.create("photos", {"sshcmd": SSHCMD})
    docker.mount("photos")
    docker.mount("photos", OTHER_ID)
    docker.unmount("photos", OTHER_ID)
    counted = counters(docker)
    assert (counted["mounts"]["count"], counted["unmounts"]) == (1, 0)
    assert counted["mounts"]["seconds"] > 0
    assert counted["mounts"]["within"][-1] == {"seconds": 60.0, "count": 1}
    docker.unmount("photos")
    assert counters(docker)["unmounts"] == 1


def test_mount_of_a_volume_that_is_mounted_and_does_not_answer_is_no_mount(
    docker: DockerClient, host: FakeHost
) -> None:
    docker.create("photos", {"sshcmd": SSHCMD})
    docker.mount("photos")
    host.supervisor.silent.add("photos")
    assert docker.mount("photos", OTHER_ID).status == 200
    assert host.supervisor.started == ["photos", "photos"]
    assert counters(docker)["mounts"]["count"] == 1


def test_failures_are_counted_by_verb_check_and_kind(docker: DockerClient, host: FakeHost) -> None:
    docker.create("photos", {"sshcmd": SSHCMD})
    host.supervisor.start_problems["photos"] = errors.MountFailed("sshfs could not mount it")
    docker.mount("photos")
    docker.mount("photos")
    docker.create("photos", {"sshcmd": "bob@nas:"})
    docker.get("nothing")
    assert counters(docker)["failures"] == [
        {"verb": "Mount", "check": "", "error": "MountFailed", "count": 2},
        {"verb": "Create", "check": "", "error": "VolumeExists", "count": 1},
    ]


def test_unmount_that_failed_is_counted_although_the_call_succeeds(docker: DockerClient, host: FakeHost) -> None:
    docker.create("photos", {"sshcmd": SSHCMD})
    docker.mount("photos")
    host.supervisor.release_problems["photos"] = errors.UnmountFailed("it could not be unmounted")
    assert docker.unmount("photos").status == 200
    assert counters(docker)["failures"] == [{"verb": "Unmount", "check": "", "error": "UnmountFailed", "count": 1}]


def test_failure_of_a_check_is_counted_with_its_name(docker: DockerClient, host: FakeHost) -> None:
    refused = errors.LoginRefused("alice may not log in")
    refused.check = "login"
    host.preflight.problems["photos"] = refused
    docker.create("photos", {"sshcmd": SSHCMD})
    assert counters(docker)["failures"] == [{"verb": "Create", "check": "login", "error": "LoginRefused", "count": 1}]


def test_fault_of_the_plugin_is_counted(docker: DockerClient, host: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    host.supervisor.start_problems["photos"] = KeyError("oh")
    docker.create("photos", {"sshcmd": SSHCMD})
    docker.mount("photos", ID)
    assert counters(docker)["failures"] == [{"verb": "Mount", "check": "", "error": "KeyError", "count": 1}]


def test_reconnects_are_those_of_mounted_volumes(docker: DockerClient, host: FakeHost) -> None:
    docker.create("photos", {"sshcmd": SSHCMD})
    docker.create("music", {"sshcmd": SSHCMD})
    docker.mount("photos")
    host.supervisor.reconnected.update(photos=3, music=1)
    assert counters(docker)["reconnects"] == [{"volume": "photos", "count": 3}]
