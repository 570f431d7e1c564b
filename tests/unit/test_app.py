# SPDX-License-Identifier: MIT
"""The composition root: parts that fit together, on a host that is a directory."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, wait
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.clients import ID, SSHCMD
from support.driver import FakeHost
from support.programs import Programs
from support.service import TREE
from support.waiting import LIMIT_SECONDS, Background, Gate

from sshfs_plugin import app, errors, options
from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.host.own_mounts import OwnMount
from sshfs_plugin.mounts.processes import ProcessSupervisor
from sshfs_plugin.mounts.supervisors import supervisor
from sshfs_plugin.mounts.systemd import SystemdSupervisor
from sshfs_plugin.settings import Settings
from sshfs_plugin.state.records import VolumeRecords
from sshfs_plugin.volume import VolumeName


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the settings be those of the test."""
    for name, text in settings.environment().items():
        monkeypatch.setenv(name, text)


def test_application_serves_the_volumes_on_record(settings: Settings) -> None:
    settings.volumes.mkdir(parents=True)
    volume = options.parse(VolumeName("photos"), {"sshcmd": SSHCMD}, datetime.now(UTC))
    VolumeRecords(settings.volumes).save(volume)
    application = app.create_app()
    reply = application.test_client().post("/VolumeDriver.List")
    assert reply.json
    (listed,) = reply.json["Volumes"]
    assert (listed["Name"], listed["Mountpoint"], listed["Status"]["holders"]) == ("photos", "", 0)


def test_application_starts_without_paramiko_which_only_checks_of_servers_need() -> None:
    imported = subprocess.run(
        [sys.executable, "-c", "import sshfs_plugin.app, sys; print(*sys.modules)"],
        cwd=TREE,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert "sshfs_plugin.driver.driver" in imported
    assert {"paramiko", "cryptography"}.isdisjoint(imported)


def test_application_checks_servers_for_real_and_records_nothing_that_fails(settings: Settings) -> None:
    body = {"Name": "photos", "Opts": {"sshcmd": "me@localhost:/photos", "port": "1", "password": "x"}}
    application = app.create_app()
    reply = application.test_client().post("/VolumeDriver.Create", json=body)
    assert reply.status_code == 500
    assert reply.json == {
        "Err": "cannot connect to localhost port 1, connection refused: "
        "is an SSH server running there, and is 'port' right?"
    }
    assert list(settings.volumes.iterdir()) == []


def test_application_counts_the_check_that_fails_under_its_name() -> None:
    client = app.create_app().test_client()
    client.post("/VolumeDriver.Create", json={"Name": "photos", "Opts": {"sshcmd": "me@localhost:", "port": "1"}})
    reply = client.post("/Service.Counters").json
    assert reply
    assert reply["Counters"]["failures"] == [
        {"verb": "Create", "check": "connection", "error": "HostUnreachable", "count": 1}
    ]
    made = [counted["check"] for counted in reply["Counters"]["checks"] if counted["count"]]
    assert made == ["credentials", "options", "name", "connection"]


def test_application_does_not_start_without_its_records(settings: Settings) -> None:
    settings.state.write_text("a file where a directory should be")
    with pytest.raises(errors.StateError, match="cannot read .*volumes, Not a directory"):
        app.create_app()


def test_application_does_not_start_with_a_setting_that_makes_no_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSHFS_PLUGIN_THREADS", "many")
    with pytest.raises(ValueError, match="SSHFS_PLUGIN_THREADS must be a number of at least 8, not 'many'"):
        app.create_app()


def test_slow_calls_leave_threads_to_quick_ones_whether_they_are_done_or_wait(
    settings: Settings, host: FakeHost, in_background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSHFS_PLUGIN_THREADS", "8")
    monkeypatch.setattr(app, "supervisor", lambda _: host.supervisor)
    settings.volumes.mkdir(parents=True)
    gate = Gate()
    for name in (names := [VolumeName(f"photos{number}") for number in range(7)]):
        opts = {"sshcmd": SSHCMD, "check": "never"}
        VolumeRecords(settings.volumes).save(options.parse(name, opts, datetime.now(UTC)))
        host.supervisor.start_gates[name] = gate
    application = app.create_app()

    def mount(name: str) -> str:
        headers = {"Accept": "application/vnd.docker.plugins.v1.2+json"}
        body = {"Name": name, "ID": ID}
        reply = application.test_client().post("/VolumeDriver.Mount", json=body, headers=headers).json
        return str(reply and reply["Err"])

    mounting = [in_background(mount, name) for name in names[:4]]
    for _ in mounting:
        gate.await_arrival()
    mounting += [in_background(mount, name) for name in names[4:]]
    ended, others = wait(mounting, LIMIT_SECONDS, FIRST_COMPLETED)
    gate.open()
    assert [call.result().partition(":")[0] for call in ended] == ["the sshfs plugin is busy with too many slow calls"]
    assert [call.result(LIMIT_SECONDS) for call in others] == [""] * 6


@pytest.mark.parametrize(("choice", "kind"), [("systemd", SystemdSupervisor), ("process", ProcessSupervisor)])
def test_supervisor_is_the_one_that_the_settings_name(choice: str, kind: type) -> None:
    assert isinstance(supervisor(Settings(supervisor=choice)), kind)


def test_supervisor_is_systemd_exactly_where_it_has_booted_the_host() -> None:
    booted = Path("/run/systemd/system").is_dir()
    assert isinstance(supervisor(Settings(supervisor="auto")), SystemdSupervisor if booted else ProcessSupervisor)


class _Enough(BaseException):
    """Ends what otherwise goes on for ever."""


class _Watched(Driver):
    """A driver that tells when its volumes are looked after."""

    def __init__(self, host: FakeHost, looks: Callable[[], None]) -> None:
        super().__init__(
            volumes=host.volume_store,
            holder_records=host.holder_store,
            preflight=host.real_preflight,
            supervisor=host.real_supervisor,
        )
        self._looks = looks

    def look_after(self, seconds: float) -> None:
        """Look once."""
        self._looks()
        super().look_after(seconds)


def test_volumes_are_looked_after_again_when_that_has_failed_once(
    host: FakeHost, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "LOOK_EVERY_SECONDS", 0.0)
    outcomes = iter([OSError("no more processes"), None, _Enough()])

    def look() -> None:
        if outcome := next(outcomes):
            raise outcome

    with pytest.raises(_Enough):
        app._look_after(_Watched(host, look), host.real_supervisor, settings, OwnMount(settings.state))
    assert caplog.messages == ["looking after the volumes failed"]
    assert "no more processes" in caplog.text


def test_what_hides_the_service_from_docker_is_told_when_it_comes_and_once(
    host: FakeHost, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "LOOK_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(
        "sshfs_plugin.http.listening.addresses", lambda: ("unix:///run/docker-volume-sshfs/sshfs.sock",)
    )
    spec = settings.root / "etc/docker/plugins/sshfs.spec"
    spec.parent.mkdir(parents=True)
    looks = iter(range(4))

    def look() -> None:
        if (past := next(looks, None)) is None:
            raise _Enough
        if past == 1:
            spec.write_text("unix:///run/other.sock")

    with pytest.raises(_Enough):
        app._look_after(_Watched(host, look), host.real_supervisor, settings, OwnMount(settings.state))
    assert caplog.messages == [
        f"Docker calls unix:///run/other.sock, by {spec}, and not this plugin: remove that, and restart Docker"
    ]


RESTARTS = ["try-restart --job-mode=ignore-dependencies --no-block docker-volume-sshfs.service"]


@pytest.mark.parametrize(
    "said_and_restarts",
    [
        ("echo ro,relatime", "echo rw,relatime", RESTARTS),
        ("echo ro,relatime", "echo ro,relatime", []),
        ("echo rw,relatime", "echo rw,relatime", []),
        ("echo ro,relatime", "exit 1", []),
    ],
    ids=["writable again", "still read-only", "only the mount is read-only", "nobody can tell"],
)
def test_service_that_has_met_a_read_only_file_system_is_started_anew_when_it_can_be_written_to(
    host: FakeHost,
    settings: Settings,
    programs: Programs,
    monkeypatch: pytest.MonkeyPatch,
    said_and_restarts: tuple[str, str, list[str]],
) -> None:
    at_first, later, restarts = said_and_restarts
    monkeypatch.setattr(app, "LOOK_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))  # as the mount says ever after
    programs.add("findmnt", at_first)
    programs.add("systemctl")
    state = OwnMount(settings.state)
    looks = iter([None])

    def look() -> None:
        programs.add("findmnt", later)
        if next(looks, _Enough):
            raise _Enough

    with pytest.raises(_Enough):
        app._look_after(_Watched(host, look), SystemdSupervisor(settings), settings, state)
    assert programs.calls("systemctl") == restarts


def test_service_that_could_not_be_started_anew_is_asked_for_again(
    host: FakeHost, settings: Settings, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "LOOK_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    programs.add("findmnt", "echo ro,relatime")
    state = OwnMount(settings.state)
    programs.add("findmnt", "echo rw,relatime")
    outcomes = iter(["exit 1", "exit 1", "exit 0", "exit 0", None])

    def look() -> None:
        if (outcome := next(outcomes)) is None:
            raise _Enough
        programs.add("systemctl", outcome)

    with pytest.raises(_Enough):
        app._look_after(_Watched(host, look), SystemdSupervisor(settings), settings, state)
    assert programs.calls("systemctl") == 3 * RESTARTS


def test_application_looks_after_its_volumes_in_a_thread_that_ends_with_it() -> None:
    before = set(threading.enumerate())
    app.create_app()
    (looking,) = (thread for thread in set(threading.enumerate()) - before if thread.name == "look-after")
    assert looking.daemon
