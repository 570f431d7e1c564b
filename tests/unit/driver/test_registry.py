# SPDX-License-Identifier: MIT
"""Volumes whose record can't be used, and what a driver that starts finds on record."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.clients import ID, OTHER_ID
from support.driver import FakeHost, create, mount, status_of
from support.waiting import Background, Gate, soon

from sshfs_plugin import errors
from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.driver.values import Condition
from sshfs_plugin.volume import Unusable, VolumeName

# Volumes whose record can't be used


PHOTOS = VolumeName("photos")
BROKEN = Unusable(name=PHOTOS, record=Path("/volumes/photos.json"), complaint="lacks 'options'")


@pytest.fixture
def broken(host: FakeHost) -> Driver:
    """Return a driver that has started with a broken record beside a good one."""
    create(host.start_driver(), "music")
    host.volumes.records[PHOTOS] = BROKEN
    return host.start_driver()


def test_unusable_volume_is_shown_with_the_reason(broken: Driver) -> None:
    assert [state.record.name for state in broken.list_volumes()] == ["music", "photos"]
    state = broken.get("photos")
    assert (state.condition, state.last_error) == (Condition.UNUSABLE, str(BROKEN.error))
    assert state.last_error_at
    assert broken.get("music").condition is Condition.UNMOUNTED


def test_unusable_volume_is_logged_when_the_driver_starts(host: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    host.volumes.records[PHOTOS] = BROKEN
    host.start_driver()
    assert [record.message for record in caplog.records] == [str(BROKEN.error)]


def test_unusable_volume_can_not_be_mounted_or_created_and_its_record_is_not_touched(
    broken: Driver, host: FakeHost
) -> None:
    with pytest.raises(errors.RecordUnusable) as refusal:
        mount(broken)
    assert str(refusal.value) == str(BROKEN.error)
    with pytest.raises(errors.RecordUnusable) as refusal:
        create(broken)
    assert str(refusal.value) == str(BROKEN.error)
    assert host.volumes.records[PHOTOS] is BROKEN
    assert (host.preflight.checked, host.supervisor.started) == (["music"], [])
    assert status_of(broken) == (False, 0)


def test_unusable_volume_can_be_removed_and_made_anew(broken: Driver, host: FakeHost) -> None:
    broken.remove("photos", soon())
    assert PHOTOS not in host.volumes.records
    create(broken)
    mount(broken)
    assert status_of(broken) == (True, 1)


def test_unusable_volume_that_is_mounted_can_be_given_back(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    host.volumes.records[PHOTOS] = BROKEN
    restarted = host.start_driver()
    assert restarted.get("photos").condition is Condition.UNUSABLE
    assert status_of(restarted) == (True, 1)
    restarted.look_after(1)
    with pytest.raises(errors.RecordUnusable):
        mount(restarted, mount_id=OTHER_ID)
    assert status_of(restarted) == (True, 1)
    restarted.unmount("photos", ID, soon())
    assert status_of(restarted) == (False, 0)
    assert restarted.get("photos").last_error == str(BROKEN.error), "an unmount mends no record"


@pytest.mark.parametrize("use", [mount, create, lambda driver: driver.look_after(1)])
def test_unusable_volume_is_one_again_as_soon_as_its_record_is_mended(
    driver: Driver, host: FakeHost, use: Callable[[Driver], object]
) -> None:
    create(driver)
    good = host.volumes.records[PHOTOS]
    host.volumes.records[PHOTOS] = BROKEN
    restarted = host.start_driver()
    host.volumes.records[PHOTOS] = replace(BROKEN, complaint="lacks 'created_at'")
    restarted.look_after(1)
    assert "lacks 'created_at'" in restarted.get("photos").last_error, "mended in part"
    host.volumes.records[PHOTOS] = good
    use(restarted)
    state = restarted.get("photos")
    assert (state.record, state.last_error) == (good, "")
    mount(restarted)


def test_unusable_volume_that_is_made_anew_while_all_are_looked_after_is_said_nothing_of(
    host: FakeHost, in_background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    create(host.start_driver(), "music")
    host.volumes.records[PHOTOS] = BROKEN
    driver = host.start_driver()
    host.supervisor.live.add("music")
    gate = host.supervisor.answer_gates["music"] = Gate()
    looking = in_background(driver.look_after, 1)
    gate.await_arrival()
    driver.remove("photos", soon())
    create(driver)
    with caplog.at_level(logging.INFO):
        caplog.clear()
        gate.open()
        looking.result()
    assert "can be used again" not in caplog.text


# Start


def test_restart_takes_up_volumes_mounts_and_holders(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    restarted = host.start_driver()
    assert status_of(restarted) == (True, 1)
    restarted.unmount("photos", ID, soon())
    assert host.supervisor.released == ["photos"]


def test_start_lets_no_release_go_on_that_an_earlier_process_has_asked_for(host: FakeHost) -> None:
    host.supervisor.unsettled.add("photos")
    host.start_driver()
    assert not host.supervisor.unsettled


def test_start_leaves_a_mount_without_a_record_alone(host: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    host.supervisor.live.add("orphan")
    driver = host.start_driver()
    driver.look_after(1)
    assert "orphan is mounted but there is no record of such a volume: it is left alone" in caplog.text
    assert host.supervisor.asked == []
