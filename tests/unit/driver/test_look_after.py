# SPDX-License-Identifier: MIT
"""What the driver does by itself, every now and then."""

import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from support.clients import ID, OTHER_ID
from support.driver import FakeHost, caller, create, mount, status_of
from support.waiting import Background, Gate, soon

from sshfs_plugin import context, errors
from sshfs_plugin.driver import registry, releasing, upkeep
from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.driver.values import Condition
from sshfs_plugin.events import Event
from sshfs_plugin.holders import Client
from sshfs_plugin.volume import VolumeName


def test_look_after_lets_go_of_a_mount_that_nobody_holds(driver: Driver, host: FakeHost) -> None:
    create(driver)
    driver.mount("photos", ID, caller(), soon())
    host.start_driver().look_after(1)
    assert host.supervisor.released == ["photos"]


def test_look_after_provides_what_the_unit_of_an_older_version_lacks(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    host.supervisor.unprovided.add("photos")
    driver.look_after(1)
    assert host.supervisor.unprovided == set()


def test_look_after_lets_no_log_grow_without_end(driver: Driver, host: FakeHost) -> None:
    driver.look_after(1)
    assert host.supervisor.logs_shortened == 1


def test_look_after_removes_what_is_left_over_of_volumes_that_are_no_more(driver: Driver, host: FakeHost) -> None:
    """After a power cut; it tries once, since a mountpoint with something in it stays."""
    create(driver)
    host.supervisor.empty = {"photos", "films", "lost+found"}
    driver.look_after(1)
    driver.look_after(1)
    assert host.supervisor.cleared == ["films"]
    driver.remove("photos", soon())
    driver.look_after(1)
    assert host.supervisor.cleared == ["films", "photos"]


def test_a_volume_that_has_lost_its_connection_says_why_at_once(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    since = datetime(2026, 11, 26, tzinfo=UTC)
    host.supervisor.outages["photos"] = ("the connection to the server is lost (Connection refused)", since)
    state = driver.get("photos")
    assert state.condition is Condition.UNRESPONSIVE
    assert (state.last_error, state.last_error_at) == host.supervisor.outages["photos"]
    host.supervisor.outages.clear()
    assert driver.get("photos").condition is Condition.MOUNTED
    assert driver.get("photos").last_error == ""


def test_a_volume_is_well_as_soon_as_its_connection_is_back(driver: Driver, host: FakeHost) -> None:
    """Not only when it is looked at the next time: the relay tells of the end of an outage at once."""
    create(driver)
    mount(driver)
    host.supervisor.outages["photos"] = ("the connection to the server is lost (it was closed)", datetime.now(UTC))
    host.supervisor.silent.add("photos")
    driver.look_after(1)
    assert driver.get("photos").condition is Condition.UNRESPONSIVE
    host.supervisor.outages.clear()
    host.supervisor.silent.clear()
    assert driver.get("photos").condition is Condition.MOUNTED


@contextmanager
def looked_at_in_vain(driver: Driver, host: FakeHost, in_background: Background) -> Iterator[None]:
    """Let something happen while the mount is asked, which then has not answered."""
    gate = host.supervisor.answer_gates["photos"] = Gate()
    host.supervisor.silent.add("photos")
    looking = in_background(driver.look_after, 1)
    gate.await_arrival()
    yield
    gate.open()
    looking.result()


def test_a_look_that_an_outage_has_cut_short_says_nothing_once_that_is_over(
    driver: Driver, host: FakeHost, in_background: Background
) -> None:
    create(driver)
    mount(driver)
    with looked_at_in_vain(driver, host, in_background):
        host.supervisor.reconnected["photos"] = 1
    assert driver.get("photos").condition is Condition.MOUNTED


def test_a_look_at_a_mount_that_was_replaced_meanwhile_says_nothing_of_the_next(
    driver: Driver, host: FakeHost, in_background: Background
) -> None:
    """Released by force, and mounted anew by a container that was restarted."""
    create(driver)
    mount(driver)
    with looked_at_in_vain(driver, host, in_background):
        host.supervisor.devices["photos"] = "0:100"
    assert driver.get("photos").condition is Condition.REMOUNTED, "and not unresponsive"


def test_look_after_does_not_complain_of_a_mount_that_was_released_meanwhile(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    create(driver)
    mount(driver)
    driver.look_after(1)

    def is_gone(name: VolumeName, _seconds: float) -> bool:
        host.supervisor.live.discard(name)
        return False

    monkeypatch.setattr(host.supervisor, "answers", is_gone)
    driver.look_after(1)
    assert "does not answer" not in caplog.text


def test_look_after_leaves_the_mountpoint_of_a_volume_that_another_service_has_made(host: FakeHost) -> None:
    """To remove a directory unmounts it wherever else it is a mountpoint."""
    first, second = host.start_driver(), host.start_driver()
    create(second)
    host.supervisor.empty = {"photos"}
    first.look_after(1)
    assert host.supervisor.cleared == []


def test_look_after_removes_what_is_left_over_once_more_if_it_came_back_or_could_not_be_removed(
    driver: Driver, host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.supervisor.clear_problem = errors.UnmountFailed("the release took too long")
    host.supervisor.empty = {"films"}
    driver.look_after(1)
    assert "the mountpoint of films, which is no volume any more, stays for now: the release took too" in caplog.text
    host.supervisor.clear_problem = None
    driver.look_after(1)
    host.supervisor.empty = set()
    driver.look_after(1)
    host.supervisor.empty = {"films"}
    driver.look_after(1)
    assert host.supervisor.cleared == ["films"] * 3


def test_look_after_goes_on_with_the_other_volumes_when_one_fails(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = host.supervisor.answers

    def answers_but_for_one(name: VolumeName, seconds: float) -> bool:
        if name == "films":
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return answers(name, seconds)

    for name in ("films", "photos"):
        create(driver, name)
        mount(driver, name)
    monkeypatch.setattr(host.supervisor, "answers", answers_but_for_one)
    host.supervisor.silent.add("photos")
    driver.look_after(1)
    assert driver.get("photos").condition is Condition.UNRESPONSIVE
    assert "looking after the volume failed" in caplog.text


def test_look_after_leaves_the_mountpoint_of_a_volume_that_is_being_made(
    driver: Driver, host: FakeHost, in_background: Background
) -> None:
    gate = host.preflight.gates["photos"] = Gate()
    creating = in_background(create, driver)
    gate.await_arrival()
    host.supervisor.empty = {"photos"}
    driver.look_after(1)
    gate.open()
    creating.result()
    driver.look_after(1)
    assert host.supervisor.cleared == []


def test_look_after_leaves_held_volumes_mounted(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    driver.look_after(1)
    assert host.supervisor.asked == []


def test_look_after_drops_what_an_old_dockerd_left_once_nobody_uses_it(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    driver.activate(caller(process=200))
    driver.look_after(1)
    assert status_of(driver) == (False, 0)
    assert host.holder_records.records == {}


def test_look_after_drops_what_an_old_dockerd_left_of_a_volume_that_is_not_mounted(
    driver: Driver, host: FakeHost
) -> None:
    create(driver)
    mount(driver)
    host.supervisor.live.clear()
    assert driver.get("photos").condition is Condition.LOST
    driver.look_after(1)
    assert status_of(driver) == (False, 1), "a container holds it, if in vain"
    driver.activate(caller(process=200))
    driver.look_after(1)
    assert status_of(driver) == (False, 0)
    assert driver.get("photos").condition is Condition.UNMOUNTED


def test_get_tells_of_containers_whose_mount_died_and_was_made_anew(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    assert driver.get("photos").condition is Condition.MOUNTED
    host.supervisor.devices["photos"] = "0:77"  # sshfs was killed, and systemd has brought it back
    assert driver.get("photos").condition is Condition.REMOUNTED
    mount(driver, mount_id=OTHER_ID)
    assert host.start_driver().get("photos").condition is Condition.REMOUNTED
    driver.unmount("photos", ID, soon())
    assert driver.get("photos").condition is Condition.MOUNTED


def test_look_after_says_once_that_a_mount_has_to_stay(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(releasing, "LEAVE_SECONDS", -1.0)
    create(driver)
    mount(driver)
    host.supervisor.used.add("photos")
    driver.activate(caller(process=200))
    for _ in range(3):
        driver.look_after(1)
    assert caplog.text.count("left mounted: a container or a process on this host still uses it") == 1


def test_what_is_held_since_before_a_crash_and_used_by_nothing_is_released_after_a_while(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Docker gave it back while there was no service, and will not try again."""
    create(driver)
    mount(driver)
    restarted = host.start_driver()
    restarted.look_after(1)
    assert host.supervisor.asked == [], "a container may be about to begin"
    monkeypatch.setattr(upkeep, "DOUBT_SECONDS", -1.0)
    restarted = host.start_driver()
    restarted.look_after(1)
    assert status_of(restarted) == (False, 0)
    assert restarted.get("photos").condition is Condition.UNMOUNTED
    assert "nothing uses it, so what held it was given back while there was no service" in caplog.text


def test_what_is_held_since_before_a_crash_and_used_is_asked_about_once(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(driver)
    mount(driver)
    host.supervisor.used.add("photos")
    monkeypatch.setattr(upkeep, "DOUBT_SECONDS", -1.0)
    restarted = host.start_driver()
    restarted.look_after(1)
    restarted.look_after(1)
    assert host.supervisor.asked == ["photos"]
    assert status_of(restarted) == (True, 1)
    assert host.holder_records.inherited("photos") == set()


@pytest.mark.parametrize("process", ["", "200"])
def test_what_an_unknown_docker_may_just_have_mounted_is_released_only_after_a_while(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch, process: str
) -> None:
    """Over TCP an alias of the plugin, which Docker activates as well, looks like a Docker that was restarted."""
    create(driver)
    mount(driver)
    mount(driver, mount_id=OTHER_ID)
    driver.activate(replace(caller(), process=process))
    driver.unmount("photos", OTHER_ID, soon())
    driver.look_after(1)
    assert host.supervisor.asked == ([] if not process else ["photos"]), "a container may be about to begin"
    assert host.holder_records.inherited("photos") == ({ID} if not process else set())
    monkeypatch.setattr(registry, "DOUBT_SECONDS", -1.0)
    driver.activate(replace(caller(), process=process))
    driver.look_after(1)
    assert (host.supervisor.released, status_of(driver)) == (["photos"], (False, 0))


def test_what_an_unknown_docker_may_just_have_mounted_outlasts_a_crash(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(driver)
    mount(driver)
    driver.activate(replace(caller(), process=""))
    host.start_driver().look_after(1)
    assert host.supervisor.asked == [], "a container may be about to begin"
    monkeypatch.setattr(registry, "DOUBT_SECONDS", -1.0)
    host.start_driver().look_after(1)
    assert host.supervisor.released == ["photos"]


def test_what_nobody_holds_any_more_is_released_at_once_whoever_docker_is(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    driver.activate(replace(caller(), process=""))
    driver.unmount("photos", ID, soon())
    assert host.supervisor.released == ["photos"]


@pytest.mark.parametrize("use", ["none", "a container that has lost it", "kept by its process"])
def test_what_is_held_since_before_a_crash_and_mounted_no_more_is_not_lost_unless_something_has_it_still(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, use: str
) -> None:
    """An administrator has released it while there was no service, or its sshfs has ended."""
    create(driver)
    mount(driver)
    host.supervisor.live.discard("photos")
    if use == "a container that has lost it":
        host.supervisor.mounted_elsewhere.add(host.supervisor.devices["photos"])
    elif use == "kept by its process":
        host.supervisor.kept.add("photos")
    early = host.start_driver()
    early.look_after(1)
    assert early.get("photos").condition is Condition.LOST, "a container may be about to begin"
    monkeypatch.setattr(upkeep, "DOUBT_SECONDS", -1.0)
    restarted = host.start_driver()
    restarted.look_after(1)
    if use == "none":
        assert (restarted.get("photos").condition, status_of(restarted)) == (Condition.UNMOUNTED, (False, 0))
        assert host.holder_records.counts("photos") == {}
        assert "mounted nowhere, so what held it was given back while there was no service" in caplog.text
    else:
        assert (restarted.get("photos").condition, status_of(restarted)) == (Condition.LOST, (False, 1))


@pytest.mark.parametrize("since", ["mounted", "held by podman"])
def test_what_is_held_otherwise_than_before_a_crash_is_left_alone(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch, since: str
) -> None:
    create(driver)
    mount(driver, client=Client.DOCKER if since == "mounted" else Client.PODMAN)
    monkeypatch.setattr(upkeep, "DOUBT_SECONDS", -1.0)
    restarted = host.start_driver()
    if since == "mounted":
        mount(restarted, mount_id=OTHER_ID)
    restarted.look_after(1)
    assert host.supervisor.asked == []


@pytest.mark.parametrize("trouble", ["used", "stuck"])
def test_look_after_asks_again_only_after_a_while_when_a_mount_has_to_stay(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    create(driver)
    mount(driver)
    if trouble == "used":
        host.supervisor.used.add("photos")
    else:
        host.supervisor.release_problems["photos"] = errors.UnmountFailed("volume 'photos' could not be unmounted")
    driver.activate(caller(process=200))
    driver.look_after(1)
    driver.look_after(1)
    assert host.supervisor.asked == ["photos"]
    monkeypatch.setattr(releasing, "LEAVE_SECONDS", -1.0)
    restarted = host.start_driver()
    restarted.look_after(1)
    restarted.look_after(1)
    assert host.supervisor.asked == ["photos"] * 3
    assert status_of(restarted) == (True, 1)


def test_look_after_says_once_more_that_a_mount_has_to_stay_after_it_was_mounted_for_another(
    driver: Driver, host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    create(driver)
    host.supervisor.used.add("photos")
    for mount_id in (ID, OTHER_ID):
        mount(driver, mount_id=mount_id)
        driver.unmount("photos", mount_id, soon())
        driver.look_after(1)
    assert caplog.text.count("left mounted: a container or a process on this host still uses it") == 2


def test_volume_whose_sshfs_has_ended_leaves_its_connection_when_it_is_given_back(
    driver: Driver, host: FakeHost
) -> None:
    """It would take the place of another in it, and keep it from ending."""
    create(driver)
    mount(driver)
    host.supervisor.live.remove("photos")
    assert host.supervisor.connections.left == []
    driver.unmount("photos", ID, soon())
    assert host.supervisor.connections.left == ["photos"]


def test_look_after_asks_again_at_once_of_a_mount_that_may_be_in_use_by_its_own_look_alone(
    driver: Driver, host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    """What looks at a mount whose server is frozen can't be killed, and uses it until the server answers."""
    create(driver)
    mount(driver)
    host.supervisor.silent.add("photos")
    driver.look_after(1)
    host.supervisor.used.add("photos")
    driver.unmount("photos", ID, soon())
    driver.look_after(1)
    driver.look_after(1)
    assert host.supervisor.asked == ["photos"] * 3
    assert caplog.text.count("left mounted: ") == 1
    with pytest.raises(errors.UnmountFailed) as refusal:
        driver.remove("photos", soon())
    assert str(refusal.value) == (
        "volume 'photos' could not be unmounted while its server, nas port 22, does not answer: "
        "try again when it is back, or unmount it with docker-volume-sshfs release --force photos"
    )
    host.supervisor.silent.clear()
    host.supervisor.used.clear()
    driver.look_after(1)
    assert host.supervisor.released == ["photos"]


def test_look_after_asks_of_a_new_mount_whatever_became_of_the_one_before(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    host.supervisor.used.add("photos")
    driver.activate(caller(process=200))
    driver.look_after(1)
    host.supervisor.used.clear()
    host.supervisor.live.clear()
    mount(driver, mount_id=OTHER_ID)
    driver.activate(caller(process=300))
    driver.look_after(1)
    assert host.supervisor.released == ["photos"]
    assert status_of(driver) == (False, 0)


def test_look_after_notes_which_mounts_do_not_answer(
    driver: Driver, host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    create(driver)
    mount(driver)
    host.supervisor.silent.add("photos")
    driver.look_after(1)
    assert driver.get("photos").condition is Condition.UNRESPONSIVE
    assert "the mount does not answer" in caplog.text
    host.supervisor.silent.clear()
    driver.look_after(1)
    assert driver.get("photos").condition is Condition.MOUNTED
    assert "the mount answers again" in caplog.text
    host.supervisor.live.clear()
    driver.look_after(1)
    assert driver.get("photos").condition is Condition.LOST


def test_look_after_tells_once_of_a_condition_for_which_no_call_is_to_blame(
    driver: Driver, host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    create(driver)
    mount(driver)
    changes: tuple[tuple[Callable[[], None], Event], ...] = (
        (lambda: host.supervisor.outages.update(photos=("it is lost", datetime.now(UTC))), Event.UNRESPONSIVE),
        (host.supervisor.outages.clear, Event.ANSWERS_AGAIN),
        (lambda: host.supervisor.devices.update(photos="0:77"), Event.REMOUNTED),
        (host.supervisor.live.clear, Event.LOST),
    )
    for change, told in changes:
        caplog.clear()
        change()
        driver.look_after(1)
        driver.look_after(1)
        assert [getattr(record, "MESSAGE_ID", "") for record in caplog.records] == [told]


@pytest.mark.parametrize("condition", [Condition.LOST, Condition.REMOUNTED, Condition.UNRESPONSIVE])
def test_look_after_tells_of_a_condition_no_second_time_after_a_restart_of_the_service(
    driver: Driver, host: FakeHost, caplog: pytest.LogCaptureFixture, condition: Condition
) -> None:
    create(driver)
    mount(driver)
    if condition is Condition.LOST:
        host.supervisor.live.clear()
    elif condition is Condition.REMOUNTED:
        host.supervisor.devices["photos"] = "0:77"
    else:
        host.supervisor.silent.add("photos")
    restarted = host.start_driver()  # it has happened while there was no service
    restarted.look_after(1)
    assert [getattr(record, "MESSAGE_ID", "") for record in caplog.records] == [Event[condition.name]]
    caplog.clear()
    restarted = host.start_driver()
    restarted.look_after(1)
    assert (restarted.get("photos").condition, caplog.records) == (condition, [])
    mount(restarted)
    restarted.unmount("photos", ID, soon())
    restarted.unmount("photos", ID, soon())
    mount(restarted)
    restarted.look_after(1)
    caplog.clear()
    host.supervisor.live.clear()
    host.start_driver().look_after(1)
    assert [getattr(record, "MESSAGE_ID", "") for record in caplog.records] == [Event.LOST], "it happens anew"


def test_what_was_told_and_cannot_be_recorded_is_told_again_after_a_restart(
    driver: Driver, host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    create(driver)
    mount(driver)
    host.supervisor.live.clear()
    host.holder_records.problem = errors.StateError("cannot write told, No space left on device")
    driver.look_after(1)
    assert "what was logged of volumes is not on record: cannot write told, No space left on device" in caplog.text
    caplog.clear()
    host.start_driver().look_after(1)
    assert [record.MESSAGE_ID for record in caplog.records if hasattr(record, "MESSAGE_ID")] == [Event.LOST]


def test_look_after_logs_with_the_name_of_the_volume(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    subjects: list[dict[str, str]] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            subjects.append(dict(context.subject()))

    upkeep.log.addHandler(listener := Listener())
    try:
        host.supervisor.silent.add("photos")
        driver.look_after(1)
    finally:
        upkeep.log.removeHandler(listener)
    assert subjects == [{"VOLUME": "photos"}]


def test_look_after_passes_a_volume_over_on_which_somebody_works(
    driver: Driver, host: FakeHost, in_background: Background
) -> None:
    create(driver)
    host.supervisor.live.add("photos")
    host.supervisor.silent.add("photos")
    gate = host.supervisor.start_gates["photos"] = Gate()
    mounting = in_background(driver.mount, "photos", ID, caller(), soon())
    gate.await_arrival()
    driver.look_after(1)
    assert host.supervisor.asked == []
    gate.open()
    mounting.result()
    assert status_of(driver) == (True, 1)


def test_look_after_does_not_let_go_of_the_new_volume_that_has_an_old_ones_name(
    driver: Driver, host: FakeHost, in_background: Background
) -> None:
    create(driver)
    host.supervisor.live.add("photos")
    gate = host.supervisor.answer_gates["photos"] = Gate()
    looking = in_background(driver.look_after, 1)
    gate.await_arrival()
    del host.supervisor.answer_gates["photos"]
    driver.remove("photos", soon())
    create(driver, sshcmd="me@nas:/elsewhere")
    mount(driver)
    host.supervisor.asked.clear()
    gate.open()
    looking.result()
    assert host.supervisor.asked == []
    assert status_of(driver) == (True, 1)


def test_look_after_does_not_let_go_when_somebody_has_mounted_meanwhile(
    driver: Driver, host: FakeHost, in_background: Background
) -> None:
    create(driver)
    host.supervisor.live.add("photos")
    gate = host.supervisor.answer_gates["photos"] = Gate()
    looking = in_background(driver.look_after, 1)
    gate.await_arrival()
    del host.supervisor.answer_gates["photos"]
    mount(driver)
    gate.open()
    looking.result()
    assert host.supervisor.asked == []
    assert status_of(driver) == (True, 1)
