# SPDX-License-Identifier: MIT
"""Volumes whose server is described in a file that is edited: when an edit counts, and what a wrong one does."""

import logging

import pytest
from support.clients import ID, OTHER_ID
from support.driver import FakeHost, mount, status_of
from support.preflight import FakePrepared
from support.remotes import NAS, describe
from support.waiting import Background, Gate, soon

from sshfs_plugin import errors
from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.driver.values import Condition
from sshfs_plugin.options.remotes import Remotes
from sshfs_plugin.settings import Settings
from sshfs_plugin.state.records import VolumeRecords
from sshfs_plugin.volume import Volume

OPTS = {"remote": "nas", "directory": "/photos"}
WRONG = "host = nas.lan\nport = none\n"


@pytest.fixture
def remotes(settings: Settings) -> Remotes:
    remotes = Remotes.of(settings)
    describe(remotes)
    return remotes


@pytest.fixture
def asked(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the servers that are asked, in order."""
    servers: list[str] = []
    prepare = host.preflight.prepare

    def note(volume: Volume) -> FakePrepared:
        servers.append(volume.remote.account)
        return prepare(volume)

    monkeypatch.setattr(host.preflight, "prepare", note)
    return servers


def start(host: FakeHost, settings: Settings) -> Driver:
    """Start a driver on the records on disk."""
    driver = Driver(
        volumes=VolumeRecords.of(settings),
        holder_records=host.holder_store,
        preflight=host.real_preflight,
        supervisor=host.real_supervisor,
    )
    driver.load()
    return driver


@pytest.fixture
def driver(host: FakeHost, settings: Settings, remotes: Remotes, asked: list[str]) -> Driver:
    """Give a driver with a volume of a remote."""
    driver = start(host, settings)
    driver.create("photos", OPTS, soon())
    return driver


def unmount(driver: Driver, mount_id: str = ID) -> None:
    driver.unmount("photos", mount_id, soon())


def test_edit_counts_from_the_next_mount_on(driver: Driver, remotes: Remotes, asked: list[str]) -> None:
    mount(driver)
    describe(remotes, "host = new.lan\n")
    mount(driver, mount_id=OTHER_ID)
    assert asked == ["alice@nas.lan port 22"]
    unmount(driver, OTHER_ID)
    unmount(driver)
    mount(driver)
    assert asked == ["alice@nas.lan port 22", "root@new.lan port 22"]


def test_create_asks_the_server_of_the_file_and_fails_without_a_file(driver: Driver, asked: list[str]) -> None:
    with pytest.raises(errors.RemoteUnusable, match=r"remote 'other' can't be used, .*other\.conf does not exist"):
        driver.create("films", {"remote": "other"}, soon())
    assert [state.record.name for state in driver.list_volumes()] == ["photos"]
    assert asked == ["alice@nas.lan port 22"]


@pytest.mark.parametrize("text", ["host = new.lan\n", WRONG])
def test_create_again_with_the_same_options_changes_nothing_whatever_the_file_says(
    driver: Driver, remotes: Remotes, asked: list[str], text: str
) -> None:
    describe(remotes, text)
    driver.create("photos", OPTS, soon())
    with pytest.raises(errors.VolumeExists, match="differs in 'directory'"):
        driver.create("photos", {"remote": "nas"}, soon())
    assert asked == ["alice@nas.lan port 22"]


def test_mount_with_a_wrong_file_fails_and_the_volume_stays(
    driver: Driver, host: FakeHost, remotes: Remotes, asked: list[str]
) -> None:
    describe(remotes, WRONG)
    with pytest.raises(errors.RemoteUnusable) as refused:
        mount(driver)
    assert str(refused.value) == (
        f"remote 'nas' can't be used, {remotes.file('nas')} is not valid (option 'port' must be a number from 1 to "
        "65535, not 'none'): mend it, and it counts from the next mount"
    )
    assert host.supervisor.started == []
    state = driver.get("photos")
    assert (state.condition, state.last_error) == (Condition.UNUSABLE, str(refused.value))
    assert driver.list_volumes() == [state]
    describe(remotes, "host = new.lan\n")
    mount(driver)
    assert (driver.get("photos").condition, driver.get("photos").last_error) == (Condition.MOUNTED, "")
    assert asked[-1] == "root@new.lan port 22"


def test_mended_file_is_found_without_a_mount(driver: Driver, remotes: Remotes) -> None:
    describe(remotes, WRONG)
    with pytest.raises(errors.RemoteUnusable):
        mount(driver)
    failed_at = driver.get("photos").last_error_at
    driver.look_after(1)
    assert driver.get("photos").last_error_at == failed_at, "it is the same failure"
    describe(remotes)
    driver.look_after(1)
    assert (driver.get("photos").condition, driver.get("photos").last_error) == (Condition.UNMOUNTED, "")


@pytest.mark.parametrize("through", ["a remote", "a jump host"])
def test_file_that_is_spoilt_is_noticed_without_a_mount(driver: Driver, remotes: Remotes, through: str) -> None:
    if through == "a jump host":
        describe(remotes, "host = bastion.lan\n", name="bastion")
        driver.create("films", {"sshcmd": "nas:/films", "ProxyJump": "bastion"}, soon())
    name, file = ("photos", "nas") if through == "a remote" else ("films", "bastion")
    driver.look_after(1)
    assert driver.get(name).condition is Condition.UNMOUNTED
    away = remotes.file(file).rename(remotes.directory / "away")
    driver.look_after(1)
    assert driver.get(name).condition is Condition.UNUSABLE
    assert driver.get(name).last_error.endswith("does not exist: docker-volume-sshfs remote list shows which there are")
    away.rename(remotes.file(file))
    driver.look_after(1)
    assert driver.get(name).condition is Condition.UNMOUNTED


def test_file_that_is_spoilt_during_a_call_is_noticed_after_it(
    driver: Driver, host: FakeHost, remotes: Remotes, in_background: Background
) -> None:
    mount(driver)
    gate = host.supervisor.release_gates["photos"] = Gate()
    unmounting = in_background(unmount, driver)
    gate.await_arrival()
    describe(remotes, WRONG)
    driver.look_after(1)
    gate.open()
    unmounting.result()
    assert driver.get("photos").condition is Condition.UNMOUNTED
    driver.look_after(1)
    assert driver.get("photos").condition is Condition.UNUSABLE


def test_volume_with_a_wrong_file_can_be_removed(driver: Driver, remotes: Remotes, settings: Settings) -> None:
    remotes.file("nas").unlink()
    with pytest.raises(errors.RemoteUnusable):
        mount(driver)
    driver.remove("photos", soon())
    assert driver.list_volumes() == []
    assert VolumeRecords.of(settings).names() == []


def test_mounted_volume_is_not_disturbed_by_a_wrong_file(driver: Driver, host: FakeHost, remotes: Remotes) -> None:
    mount(driver)
    describe(remotes, WRONG)
    mount(driver, mount_id=OTHER_ID)
    driver.look_after(1)
    assert status_of(driver) == (True, 2)
    state = driver.get("photos")
    assert state.condition is Condition.MOUNTED
    assert "is not valid (option 'port'" in state.last_error
    unmount(driver)
    unmount(driver, OTHER_ID)
    assert host.supervisor.released == ["photos"]


def test_driver_that_starts_with_a_wrong_file_keeps_the_volume(
    driver: Driver, host: FakeHost, remotes: Remotes, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    mount(driver)
    describe(remotes, WRONG)
    again = start(host, settings)
    state = again.get("photos")
    assert (state.condition, state.holders) == (Condition.MOUNTED, 1)
    assert state.last_error in [record.message for record in caplog.records if record.levelno == logging.ERROR]


def test_preflight_of_before_an_edit_does_not_count_after_it(
    driver: Driver, remotes: Remotes, asked: list[str]
) -> None:
    describe(remotes, NAS + "port = 2222\n")
    mount(driver)
    assert asked == ["alice@nas.lan port 22", "alice@nas.lan port 2222"]


def test_mount_behind_a_jump_host_that_is_turned_away_is_tried_once_more(
    driver: Driver, host: FakeHost, remotes: Remotes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sshfs_plugin.driver.mounting.AGAIN_SECONDS", 0.0)
    asked = []

    def turn_away(volume: Volume, *_: object) -> None:
        asked.append(volume.name)
        raise errors.MountTurnedAway("kex_exchange_identification: Connection closed by remote host")

    monkeypatch.setattr(host.supervisor, "start", turn_away)
    describe(remotes, "host = gate.lan\nuser = bob\n", name="gate")
    driver.create("far", {"sshcmd": "alice@nas:/far", "check": "never", "ProxyJump": "gate"}, soon())
    with pytest.raises(errors.MountTurnedAway):
        mount(driver, "far")
    assert asked == ["far"] * 2
