# SPDX-License-Identifier: MIT
"""The kinds of event, held against what journalctl -x says of them."""

import re
from pathlib import Path

import pytest
from support.clients import ID, SSHCMD, DockerClient
from support.driver import FakeHost

from sshfs_plugin import errors
from sshfs_plugin.events import Event

ROOT = Path(__file__).parents[2]
CATALOG = (ROOT / "systemd/docker-volume-sshfs.catalog").read_text()


def test_every_kind_of_event_is_explained_and_no_other() -> None:
    assert re.findall(r"^-- (.*)$", CATALOG, re.MULTILINE) == list(Event)
    assert len(set(Event)) == len(re.findall("^    [A-Z_]+ = ", (ROOT / "sshfs_plugin/events.py").read_text(), re.M))


def test_every_explanation_has_a_subject_and_lines_that_fit_a_terminal() -> None:
    for entry in CATALOG.split("\n-- ")[1:]:
        head, _, text = entry.partition("\n\n")
        assert re.fullmatch(r"[0-9a-f]{32}\nSubject: .*\nDefined-By: \S+\nDocumentation: .*", head), head
        assert text.strip()
        assert max(map(len, text.splitlines())) <= 79


def test_every_kind_of_event_is_logged_somewhere() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "sshfs_plugin").rglob("*.py"))
    assert [event.name for event in Event if f"Event.{event.name}" not in sources] == []


def test_calls_are_logged_as_their_kinds_of_event(
    docker: DockerClient, host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    docker.create("photos", {"sshcmd": SSHCMD})
    docker.create("photos", {"sshcmd": "nas"})
    host.supervisor.start_problems["photos"] = errors.MountFailed("sshfs could not mount it")
    docker.mount("photos")
    host.supervisor.start_problems.clear()
    docker.mount("photos")
    host.supervisor.used.add("photos")
    docker.unmount("photos", ID)
    docker.remove("photos")
    host.supervisor.used.clear()
    docker.mount("photos")
    docker.unmount("photos")
    docker.remove("photos")
    assert [record.MESSAGE_ID for record in caplog.records if hasattr(record, "MESSAGE_ID")] == [
        Event.CREATED,
        Event.CREATE_FAILED,
        Event.MOUNT_FAILED,
        Event.MOUNTED,
        Event.LEFT_MOUNTED,
        Event.REMOVE_FAILED,
        Event.MOUNTED,
        Event.UNMOUNTED,
        Event.REMOVED,
    ]
