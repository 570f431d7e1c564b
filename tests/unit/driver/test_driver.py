# SPDX-License-Identifier: MIT
"""The rules of the verbs, one at a time and at the same time."""

import errno
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support import fakes
from support.fakes import ID, OTHER_ID, PODMAN_ID, caller, now, soon

from sshfs_plugin import context, errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.driver import driver as rules
from sshfs_plugin.driver import locks
from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.driver.values import Condition
from sshfs_plugin.holders import Client
from sshfs_plugin.volume import Unusable, VolumeName, usable


def create(driver: Driver, name: str = "photos", **opts: str) -> None:
    driver.create(name, {"sshcmd": fakes.SSHCMD, **opts}, soon())


def mount(driver: Driver, name: str = "photos", mount_id: str = ID, client: Client = Client.DOCKER) -> Path:
    """Mount as a client does whose reply arrives."""
    mountpoint = driver.mount(name, mount_id, caller(client), soon())
    driver.confirm(name, mount_id)
    return mountpoint


def status_of(driver: Driver, name: str = "photos") -> tuple[bool, int]:
    state = driver.get(name)
    return state.mountpoint is not None, state.holders


# Create


def test_create_records_the_volume_once_its_server_was_checked(driver: Driver, host: fakes.Host) -> None:
    create(driver, port="2222")
    assert host.preflight.checked == ["photos"]
    assert usable(host.volumes.records[VolumeName("photos")]).remote.port == 2222


def test_create_leaves_nothing_when_the_server_is_not_able_to_serve_it(driver: Driver, host: fakes.Host) -> None:
    host.preflight.problems["photos"] = errors.HostUnreachable("cannot connect to nas port 22")
    with pytest.raises(errors.HostUnreachable, match="cannot connect to nas port 22"):
        create(driver)
    assert not host.volumes.records
    with pytest.raises(errors.VolumeNotFound):
        driver.get("photos")


def test_create_leaves_nothing_when_it_cannot_be_recorded(driver: Driver, host: fakes.Host) -> None:
    host.volumes.problem = errors.StateError("cannot write photos.json, No space left on device")
    with pytest.raises(errors.StateError, match="No space left"):
        create(driver)
    assert driver.list_volumes() == []


def test_create_alone_lets_a_missing_directory_be_made(
    driver: Driver, host: fakes.Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "CHECK_HOLDS_SECONDS", -1.0)
    create(driver, create_directory="")
    mount(driver)
    assert host.preflight.checked == ["photos", "photos"]
    assert host.preflight.created == ["photos"]


@pytest.mark.parametrize("check", ["mount", "never"])
def test_create_asks_no_server_when_told_so(driver: Driver, host: fakes.Host, check: str) -> None:
    create(driver, check=check)
    assert host.preflight.checked == []


def test_mount_while_the_check_holds_reads_no_file_again_and_no_key_is_remembered(
    driver: Driver, host: fakes.Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(driver)
    mount(driver)
    assert host.preflight.prepared == ["photos"]
    assert host.supervisor.logins == [fakes.LOGIN.without_contents]
    assert fakes.LOGIN.without_contents.contents == {}
    monkeypatch.setattr(rules, "CHECK_HOLDS_SECONDS", -1.0)
    create(driver, "music")
    mount(driver, "music")
    assert host.preflight.prepared == ["photos", "music", "music"]


def test_mount_that_is_never_checked_reads_what_it_logs_in_with_each_time(driver: Driver, host: fakes.Host) -> None:
    create(driver, check="never")
    mount(driver)
    driver.unmount("photos", ID, soon())
    mount(driver)
    assert (host.preflight.prepared, host.preflight.checked) == (["photos", "photos"], [])
    assert host.supervisor.logins == [fakes.LOGIN, fakes.LOGIN]


def test_create_again_with_the_same_options_changes_nothing(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    before = dict(host.volumes.records)
    create(driver, port="22")
    assert host.volumes.records == before
    assert host.preflight.checked == ["photos"]


def test_create_again_with_other_options_names_them_and_the_cure(driver: Driver) -> None:
    create(driver)
    with pytest.raises(errors.VolumeExists) as refusal:
        create(driver, port="2222", password="secret")
    assert str(refusal.value) == (
        "volume 'photos' exists already and differs in 'port', 'password': "
        "to change it, docker volume rm photos first: files on the server stay as they are"
    )


@pytest.mark.parametrize("name", ["", "..", "../../etc/x", "a/b", "-dash", "a b", "a\nb", "ümlaut", "x" * 201])
def test_create_refuses_names_that_could_be_no_file_or_unit(driver: Driver, host: fakes.Host, name: str) -> None:
    with pytest.raises(errors.InvalidVolumeName):
        create(driver, name)
    assert not host.volumes.records


def test_create_refuses_a_wrong_option_before_it_asks_any_server(driver: Driver, host: fakes.Host) -> None:
    with pytest.raises(errors.UnknownOption, match="did you mean 'password'"):
        create(driver, pasword="x")
    assert host.preflight.checked == []


def test_create_unmounts_what_is_left_of_a_volume_whose_record_is_lost(driver: Driver, host: fakes.Host) -> None:
    host.supervisor.live.add("photos")
    create(driver)
    assert host.supervisor.released == ["photos"]
    assert status_of(driver) == (False, 0)


def test_create_does_not_take_over_the_mount_of_a_lost_volume_that_is_used(driver: Driver, host: fakes.Host) -> None:
    host.supervisor.live.add("photos")
    host.supervisor.used.add("photos")
    with pytest.raises(errors.VolumeInUse):
        create(driver)
    assert not host.volumes.records


# Mount


def test_mount_gives_the_mountpoint_at_which_it_has_mounted(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    assert mount(driver) == host.supervisor.root / "photos"
    assert host.supervisor.started == ["photos"]
    assert status_of(driver) == (True, 1)


def test_mount_of_an_unknown_volume_says_so(driver: Driver) -> None:
    with pytest.raises(errors.VolumeNotFound, match="volume 'photos' not found"):
        mount(driver)


def test_mount_without_an_id_is_refused_since_nobody_could_give_it_back(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    with pytest.raises(errors.InvalidRequest, match="the request has no mount ID"):
        driver.mount("photos", "", caller(), soon())
    assert host.supervisor.started == []


def test_mount_of_a_mounted_volume_only_adds_a_holder(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    mount(driver)
    mount(driver, mount_id=OTHER_ID)
    assert host.supervisor.started == ["photos"]
    assert host.holder_records.counts("photos") == {ID: 1, OTHER_ID: 1}


def test_mount_does_not_check_again_right_after_create(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    mount(driver)
    assert host.preflight.checked == ["photos"]


def test_mount_checks_again_when_the_last_check_is_old(
    driver: Driver, host: fakes.Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "CHECK_HOLDS_SECONDS", -1.0)
    create(driver)
    host.preflight.problems["photos"] = errors.LoginRefused("nas refused to let me in")
    with pytest.raises(errors.LoginRefused):
        mount(driver)
    assert host.supervisor.started == []
    assert status_of(driver) == (False, 0)


def test_mount_checks_first_for_a_volume_that_create_did_not_check(driver: Driver, host: fakes.Host) -> None:
    create(driver, check="mount")
    mount(driver)
    assert host.preflight.checked == ["photos"]


def test_mount_never_checks_for_a_volume_that_wants_no_check(driver: Driver, host: fakes.Host) -> None:
    create(driver, check="never")
    mount(driver)
    assert host.preflight.checked == []
    assert host.supervisor.started == ["photos"]


def test_mount_starts_again_when_the_mount_does_not_answer(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    mount(driver)
    host.supervisor.silent.add("photos")
    mount(driver, mount_id=OTHER_ID)
    assert host.supervisor.started == ["photos", "photos"]


@pytest.mark.parametrize(("left", "spent"), [(100, 2), (4.5, 2), (1, 1)])
def test_mount_spends_no_more_than_two_seconds_on_a_mount_that_hangs(
    driver: Driver, host: fakes.Host, left: float, spent: float
) -> None:
    create(driver)
    mount(driver)
    host.supervisor.silent.add("photos")
    driver.mount("photos", OTHER_ID, caller(), Deadline.after(left))
    assert host.supervisor.answer_seconds == [pytest.approx(spent, abs=0.5)]


def test_failed_mount_leaves_no_holder_and_is_told_by_get_until_a_success(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    host.supervisor.start_problems["photos"] = errors.MountFailed("sshfs could not mount volume 'photos'")
    with pytest.raises(errors.MountFailed):
        mount(driver)
    failed = driver.get("photos")
    assert failed.last_error == "sshfs could not mount volume 'photos'"
    assert failed.last_error_at
    assert status_of(driver) == (False, 0)
    host.supervisor.start_problems.clear()
    mount(driver)
    assert driver.get("photos").last_error == ""


def test_failure_that_the_mount_has_outlived_is_told_no_more(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    mount(driver)
    host.supervisor.silent.add("photos")
    host.supervisor.start_problems["photos"] = errors.MountTimedOut("the server does not answer")
    with pytest.raises(errors.MountTimedOut):
        mount(driver, mount_id=OTHER_ID)
    driver.look_after(1)
    assert driver.get("photos").last_error == "the server does not answer"
    host.supervisor.silent.clear()
    driver.look_after(1)
    assert driver.get("photos").last_error == ""


def test_mount_that_fails_after_a_check_was_spared_is_checked_and_tried_again(driver: Driver, host: fakes.Host) -> None:
    """A host key that was forgotten meanwhile is accepted anew by the check, and only then known to ssh."""
    create(driver)
    host.supervisor.start_problems["photos"] = errors.MountFailed("Host key verification failed.")
    host.preflight.mends = host.supervisor.start_problems.clear
    mount(driver)
    assert status_of(driver) == (True, 1)
    assert host.preflight.checked == ["photos", "photos"]


def test_mount_that_was_too_slow_after_a_check_was_spared_is_not_checked_without_time(
    driver: Driver, host: fakes.Host
) -> None:
    create(driver)
    host.supervisor.start_problems["photos"] = errors.MountTimedOut("volume 'photos' was not usable after 4 seconds")
    with pytest.raises(errors.MountTimedOut, match="was not usable after 4 seconds"):
        driver.mount("photos", ID, caller(), Deadline.after(1))
    assert host.preflight.checked == ["photos"], "at create alone"


def test_mount_after_one_that_has_failed_is_checked_first(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    host.supervisor.start_problems["photos"] = errors.MountFailed("Host key verification failed.")
    with pytest.raises(errors.MountFailed):
        driver.mount("photos", ID, caller(), Deadline.after(1))
    host.preflight.problems["photos"] = errors.HostKeyChanged("the host key of nas port 22 has changed")
    with pytest.raises(errors.HostKeyChanged):
        mount(driver)
    assert host.supervisor.started == ["photos"], "not once more in vain"


def test_mount_for_a_client_that_has_gone_holds_nothing_and_is_undone(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    driver.mount("photos", ID, caller(gone=True), soon())
    assert host.supervisor.released == ["photos"]
    assert status_of(driver) == (False, 0)


def test_mount_for_a_client_that_has_gone_takes_nothing_from_those_who_hold(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    mount(driver, mount_id=PODMAN_ID, client=Client.PODMAN)
    driver.mount("photos", PODMAN_ID, caller(Client.PODMAN, gone=True), soon())
    assert host.supervisor.asked == []
    assert host.holder_records.counts("photos") == {PODMAN_ID: 1}


def test_mount_that_waited_for_one_whose_client_has_gone_mounts_anew(
    driver: Driver, host: fakes.Host, in_background: fakes.Background
) -> None:
    create(driver)
    gate = host.supervisor.start_gates["photos"] = fakes.Gate()
    first = in_background(driver.mount, "photos", PODMAN_ID, caller(Client.PODMAN, gone=True), soon())
    gate.await_arrival()
    second = in_background(driver.mount, "photos", PODMAN_ID, caller(Client.PODMAN), soon())
    gate.open()
    first.result()
    second.result()
    assert status_of(driver) == (True, 1)


# Confirm


def test_holder_is_recorded_only_when_the_reply_was_sent(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    driver.mount("photos", ID, caller(), soon())
    assert host.holder_records.counts("photos") == {}
    driver.confirm("photos", ID)
    assert host.holder_records.counts("photos") == {ID: 1}


def test_crash_between_mount_and_reply_invents_no_holder(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    driver.mount("photos", ID, caller(), soon())
    assert status_of(host.start_driver()) == (True, 0)


def test_confirm_after_the_unmount_changes_nothing(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    driver.mount("photos", ID, caller(), soon())
    driver.unmount("photos", ID, soon())
    driver.confirm("photos", ID)
    assert host.holder_records.counts("photos") == {}
    assert status_of(driver) == (False, 0)


def test_confirm_after_the_removal_changes_nothing(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    driver.mount("photos", ID, caller(), soon())
    driver.remove("photos", soon())
    driver.confirm("photos", ID)
    create(driver)
    driver.confirm("photos", ID)
    assert host.holder_records.records == {}
    assert status_of(driver) == (False, 0)


def test_unmount_before_the_confirmation_of_a_second_mount_keeps_the_first_on_record(
    driver: Driver, host: fakes.Host
) -> None:
    create(driver)
    mount(driver)
    driver.mount("photos", ID, caller(), soon())
    driver.unmount("photos", ID, soon())
    assert host.holder_records.counts("photos") == {ID: 1}


# Unmount


def test_unmount_of_the_last_holder_unmounts(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    mount(driver)
    mount(driver, mount_id=OTHER_ID)
    driver.unmount("photos", ID, soon())
    assert host.supervisor.asked == []
    driver.unmount("photos", OTHER_ID, soon())
    assert host.supervisor.released == ["photos"]
    assert host.holder_records.records == {}


def test_unmount_of_an_unknown_id_is_a_success_that_takes_nothing_from_others(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    mount(driver)
    driver.unmount("photos", OTHER_ID, soon())
    assert status_of(driver) == (True, 1)


def test_unmount_of_an_unknown_volume_says_so(driver: Driver) -> None:
    with pytest.raises(errors.VolumeNotFound, match="volume 'photos' not found"):
        driver.unmount("photos", ID, soon())


def test_unmount_without_an_id_is_refused(driver: Driver) -> None:
    create(driver)
    with pytest.raises(errors.InvalidRequest, match="no mount ID"):
        driver.unmount("photos", "", soon())


def test_docker_cp_does_not_take_the_volume_from_its_container(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    mount(driver)
    mount(driver)
    driver.unmount("photos", ID, soon())
    assert status_of(driver) == (True, 1)
    driver.unmount("photos", ID, soon())
    assert status_of(driver) == (False, 0)


def test_podman_mounts_as_often_as_it_likes_and_gives_back_once(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    for _ in range(3):
        mount(driver, mount_id=PODMAN_ID, client=Client.PODMAN)
    driver.unmount("photos", PODMAN_ID, soon())
    assert host.supervisor.released == ["photos"]


def test_unmount_of_a_volume_that_a_container_uses_leaves_it_mounted(
    driver: Driver, host: fakes.Host, caplog: pytest.LogCaptureFixture
) -> None:
    create(driver)
    mount(driver)
    host.supervisor.used.add("photos")
    driver.unmount("photos", ID, soon())
    assert status_of(driver) == (True, 0)
    assert "left mounted: a container or a process on this host still uses it" in caplog.text


def test_unmount_that_cannot_be_done_is_a_success_and_the_count_is_down(
    driver: Driver, host: fakes.Host, caplog: pytest.LogCaptureFixture
) -> None:
    create(driver)
    mount(driver)
    host.supervisor.release_problems["photos"] = errors.UnmountFailed("volume 'photos' could not be unmounted")
    driver.unmount("photos", ID, soon())
    assert host.holder_records.counts("photos") == {}
    assert "left mounted: volume 'photos' could not be unmounted" in caplog.text


def test_unmount_gives_up_its_hold_on_record_before_it_waits_for_the_release(
    driver: Driver, host: fakes.Host, in_background: fakes.Background
) -> None:
    create(driver)
    mount(driver)
    gate = host.supervisor.release_gates["photos"] = fakes.Gate()
    unmounting = in_background(driver.unmount, "photos", ID, soon())
    gate.await_arrival()
    assert host.holder_records.counts("photos") == {}
    gate.open()
    unmounting.result()


def test_unmount_counts_even_while_another_call_keeps_the_volume_busy(
    driver: Driver, host: fakes.Host, in_background: fakes.Background, caplog: pytest.LogCaptureFixture
) -> None:
    create(driver)
    mount(driver)
    host.supervisor.silent.add("photos")
    gate = host.supervisor.start_gates["photos"] = fakes.Gate()
    mounting = in_background(driver.mount, "photos", OTHER_ID, caller(), soon())
    gate.await_arrival()
    driver.unmount("photos", ID, now())
    assert host.holder_records.counts("photos") == {}
    assert "left mounted for now: volume 'photos' is busy" in caplog.text
    gate.open()
    mounting.result()
    assert status_of(driver) == (True, 1)


def test_unmount_that_waited_for_a_mount_leaves_it_to_its_new_holder(
    driver: Driver, host: fakes.Host, in_background: fakes.Background
) -> None:
    create(driver)
    mount(driver)
    host.supervisor.silent.add("photos")
    gate = host.supervisor.start_gates["photos"] = fakes.Gate()
    mounting = in_background(driver.mount, "photos", OTHER_ID, caller(), soon())
    gate.await_arrival()
    unmounting = in_background(driver.unmount, "photos", ID, soon())
    gate.open()
    mounting.result()
    unmounting.result()
    assert host.supervisor.asked == []
    assert status_of(driver) == (True, 1)


def test_holders_that_cannot_be_recorded_fail_no_verb_and_are_recorded_later(
    driver: Driver, host: fakes.Host, caplog: pytest.LogCaptureFixture
) -> None:
    create(driver)
    host.holder_records.problem = errors.StateError("cannot write photos.json, No space left on device")
    mount(driver)
    driver.activate(caller(process=200))
    assert "the holders are not on record: cannot write photos.json, No space left on device" in caplog.text
    host.holder_records.problem = None
    mount(driver)
    assert host.holder_records.counts("photos") == {ID: 1}


# Activate


def test_new_dockerd_makes_every_count_one_and_its_next_mount_the_same_reference(
    driver: Driver, host: fakes.Host
) -> None:
    driver.activate(caller(process=100))
    create(driver)
    mount(driver)
    mount(driver)
    driver.activate(caller(process=200))
    assert host.holder_records.counts("photos") == {ID: 1}
    mount(driver)
    assert host.holder_records.counts("photos") == {ID: 1}
    driver.unmount("photos", ID, soon())
    assert host.supervisor.released == ["photos"]


def test_reference_that_was_taken_up_again_is_on_record_as_such(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    mount(driver)
    driver.activate(caller(process=200))
    assert host.holder_records.inherited("photos") == {ID}
    mount(driver)
    assert host.holder_records.inherited("photos") == set()


def test_crash_before_the_reply_leaves_an_inherited_reference_inherited(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    mount(driver)
    driver.activate(caller(process=200))
    driver.mount("photos", ID, caller(process=200), soon())
    assert host.holder_records.inherited("photos") == {ID}


def test_activation_by_the_same_dockerd_changes_nothing(driver: Driver, host: fakes.Host) -> None:
    driver.activate(caller(process=100))
    create(driver)
    mount(driver)
    mount(driver)
    driver.activate(caller(process=100))
    assert host.holder_records.counts("photos") == {ID: 2}


def test_activation_by_podman_changes_nothing(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    mount(driver)
    mount(driver)
    driver.activate(caller(Client.PODMAN, process=300))
    assert host.holder_records.counts("photos") == {ID: 2}


def test_new_dockerd_takes_nothing_from_podman(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    mount(driver, mount_id=PODMAN_ID, client=Client.PODMAN)
    driver.activate(caller(process=200))
    driver.look_after(1)
    assert host.supervisor.asked == []
    assert status_of(driver) == (True, 1)


def test_activation_is_answered_while_a_mount_hangs(
    driver: Driver, host: fakes.Host, in_background: fakes.Background
) -> None:
    create(driver)
    mount(driver)
    host.supervisor.silent.add("photos")
    gate = host.supervisor.start_gates["photos"] = fakes.Gate()
    mounting = in_background(driver.mount, "photos", OTHER_ID, caller(), soon())
    gate.await_arrival()
    driver.activate(caller(process=200))
    assert host.holder_records.inherited("photos") == {ID}
    gate.open()
    mounting.result()


# Remove


def test_remove_unmounts_and_forgets_everything(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    mount(driver)
    driver.remove("photos", soon())
    assert host.supervisor.released == ["photos"]
    assert not host.volumes.records
    assert not host.holder_records.records
    assert host.preflight.forgotten == ["photos"]
    assert driver.list_volumes() == []


def test_remove_of_an_unknown_volume_says_so(driver: Driver) -> None:
    with pytest.raises(errors.VolumeNotFound, match="volume 'photos' not found"):
        driver.remove("photos", soon())


def test_remove_refuses_when_a_container_really_uses_the_volume(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    mount(driver)
    host.supervisor.used.add("photos")
    with pytest.raises(errors.VolumeInUse) as refusal:
        driver.remove("photos", soon())
    assert str(refusal.value) == (
        "volume 'photos' is still in use by a running container or a process on this host: stop it and try again"
    )
    assert status_of(driver) == (True, 1)
    assert driver.get("photos").last_error == "", "nothing is wrong with the volume"


def test_remove_keeps_the_volume_when_its_record_cannot_be_removed(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    host.volumes.problem = errors.StateError("cannot remove photos.json, Read-only file system")
    with pytest.raises(errors.StateError):
        driver.remove("photos", soon())
    assert driver.get("photos").last_error == "cannot remove photos.json, Read-only file system"


# Get and List


def test_list_is_in_order_of_names(driver: Driver) -> None:
    for name in ("photos", "films", "music"):
        create(driver, name)
    assert [state.record.name for state in driver.list_volumes()] == ["films", "music", "photos"]


def test_get_shows_no_mountpoint_before_the_mount(driver: Driver) -> None:
    create(driver)
    state = driver.get("photos")
    assert (state.mountpoint, state.condition, state.last_error) == (None, Condition.UNMOUNTED, "")


@pytest.mark.parametrize("name", ["", "nope", "../etc"])
def test_get_of_an_unknown_name_says_not_found(driver: Driver, name: str) -> None:
    with pytest.raises(errors.VolumeNotFound, match=f"volume '{name}' not found"):
        driver.get(name)


def test_get_and_list_and_other_volumes_do_not_wait_for_a_slow_mount(
    driver: Driver, host: fakes.Host, in_background: fakes.Background
) -> None:
    create(driver)
    create(driver, "films")
    gate = host.supervisor.start_gates["photos"] = fakes.Gate()
    mounting = in_background(driver.mount, "photos", ID, caller(), soon())
    gate.await_arrival()
    assert status_of(driver) == (False, 0)
    assert len(driver.list_volumes()) == 2
    assert mount(driver, "films") == host.supervisor.root / "films"
    create(driver, "music")
    assert not mounting.done()
    gate.open()
    mounting.result()


def test_get_and_list_do_not_wait_for_a_slow_create_of_another_volume(
    driver: Driver, host: fakes.Host, in_background: fakes.Background
) -> None:
    create(driver)
    gate = host.preflight.gates["films"] = fakes.Gate()
    creating = in_background(create, driver, "films")
    gate.await_arrival()
    assert [state.record.name for state in driver.list_volumes()] == ["photos"]
    with pytest.raises(errors.VolumeNotFound):
        driver.get("films")
    gate.open()
    creating.result()


def test_get_tells_since_when_a_volume_has_been_as_it_is(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    created = driver.get("photos").since
    assert abs(datetime.now(UTC) - created) < timedelta(seconds=fakes.PATIENCE)
    assert driver.get("photos").since == created
    mount(driver)
    mounted = driver.get("photos").since
    assert mounted > created
    mount(driver, mount_id=OTHER_ID)
    assert driver.get("photos").since == mounted, "another holder changes nothing"
    host.supervisor.silent.add("photos")
    driver.look_after(1)
    looked_at = datetime.now(UTC)
    assert mounted < driver.get("photos").since < looked_at, "it is noted without anybody asking"


# Volumes whose record can't be used


PHOTOS = VolumeName("photos")
BROKEN = Unusable(name=PHOTOS, record=Path("/volumes/photos.json"), complaint="lacks 'options'")


@pytest.fixture
def broken(host: fakes.Host) -> Driver:
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


def test_unusable_volume_is_logged_when_the_driver_starts(host: fakes.Host, caplog: pytest.LogCaptureFixture) -> None:
    host.volumes.records[PHOTOS] = BROKEN
    host.start_driver()
    assert [record.message for record in caplog.records] == [str(BROKEN.error)]


def test_unusable_volume_can_not_be_mounted_or_created_and_its_record_is_not_touched(
    broken: Driver, host: fakes.Host
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


def test_unusable_volume_can_be_removed_and_made_anew(broken: Driver, host: fakes.Host) -> None:
    broken.remove("photos", soon())
    assert PHOTOS not in host.volumes.records
    create(broken)
    mount(broken)
    assert status_of(broken) == (True, 1)


def test_unusable_volume_that_is_mounted_can_be_given_back(driver: Driver, host: fakes.Host) -> None:
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
    driver: Driver, host: fakes.Host, use: Callable[[Driver], object]
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


# Waiting


def test_second_call_on_a_busy_volume_gives_up_at_its_deadline_with_a_sentence(
    driver: Driver, host: fakes.Host, in_background: fakes.Background
) -> None:
    create(driver)
    gate = host.supervisor.start_gates["photos"] = fakes.Gate()
    mounting = in_background(driver.mount, "photos", ID, caller(), soon())
    gate.await_arrival()
    with pytest.raises(errors.VolumeBusy) as refusal:
        driver.mount("photos", OTHER_ID, caller(), now())
    assert str(refusal.value) == (
        "volume 'photos' is busy with another call that has not finished: try again in a moment"
    )
    with pytest.raises(errors.VolumeBusy):
        driver.remove("photos", now())
    with pytest.raises(errors.VolumeBusy):
        driver.create("photos", {"sshcmd": fakes.SSHCMD}, now())
    assert driver.get("photos").last_error == ""
    gate.open()
    mounting.result()


def test_two_mounts_of_one_volume_at_once_start_it_once(
    driver: Driver, host: fakes.Host, in_background: fakes.Background
) -> None:
    create(driver)
    gate = host.supervisor.start_gates["photos"] = fakes.Gate()
    mounting = [in_background(driver.mount, "photos", mount_id, caller(), soon()) for mount_id in (ID, OTHER_ID)]
    gate.await_arrival()
    gate.open()
    assert len({mounted.result() for mounted in mounting}) == 1
    assert host.supervisor.started == ["photos"]
    assert status_of(driver) == (True, 2)


AWAY = errors.HostUnreachable("cannot connect to nas port 22, no answer in time", "is it on?")


class Queue:
    """Calls that wait, one behind the other, for the only place at a server; the first of all is under way."""

    def __init__(self, host: fakes.Host, driver: Driver, in_background: fakes.Background) -> None:
        self._host, self._driver, self._start = host, driver, in_background
        self._gate = host.preflight.gates["first"] = fakes.Gate()
        self._calls: list[Future[object]] = []

    def begin(self, problem: errors.PluginError, **opts: str) -> None:
        """Let a mount be under way that is to fail."""
        create(self._driver, "first", check="mount", **opts)
        self._host.preflight.problems["first"] = problem
        self._calls.append(self._start(self._driver.mount, "first", ID, caller(), soon()))
        self._gate.await_arrival()

    def mount(self, *names: str, deadline: Deadline | None = None) -> None:
        """Let a mount of each wait behind the others, under an ID of its own."""
        for name in names:
            self._wait(self._driver.mount, deadline, name, f"{len(self._calls)}", caller())

    def create(self, name: str, **opts: str) -> None:
        """Let a create wait behind the others."""
        self._wait(self._driver.create, None, name, {"sshcmd": fakes.SSHCMD, **opts})

    def _wait(self, call: Callable[..., object], deadline: Deadline | None, *args: object) -> None:
        waits = fakes.Watched((deadline or soon()).at, threading.Semaphore(0))
        self._calls.append(self._start(call, *args, waits))
        assert waits.asks.acquire(timeout=fakes.PATIENCE)

    def failure(self, number: int) -> BaseException | None:
        """Await the end of one of them."""
        return self._calls[number].exception(fakes.PATIENCE)

    def outcomes(self) -> list[str]:
        """Let the first one fail, and return the failures of all in their order, each with its kind."""
        self._gate.open()
        ended = [self.failure(number) for number in range(len(self._calls))]
        return [f"{type(failure).__name__}: {failure}" if failure else "" for failure in ended]


@pytest.fixture
def queue(
    driver: Driver, host: fakes.Host, in_background: fakes.Background, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Queue]:
    monkeypatch.setattr(locks, "CONNECTS_PER_SERVER", 1)
    yield Queue(host, driver, in_background)


def test_calls_that_queue_at_a_server_that_is_away_end_with_the_first_that_began_after_them(
    driver: Driver, host: fakes.Host, queue: Queue
) -> None:
    patient = {"ConnectTimeout": "1"}  # fails, as a rule, with time left
    queue.begin(AWAY, **patient)
    for name in (names := [f"photos{number}" for number in range(6)]):
        create(driver, name, check="mount", **patient)
        host.preflight.problems[name] = AWAY
    queue.mount("photos0", "photos0", *names)
    queue.create("films", **patient)
    assert queue.outcomes() == [f"HostUnreachable: {AWAY}"] * 10
    assert host.preflight.checked == ["first", "photos0"]
    host.preflight.problems.clear()
    mount(driver, "photos0")


@pytest.mark.parametrize(
    ("option", "value"),
    [("BindAddress", "192.0.2.7"), ("BindInterface", "lo"), ("AddressFamily", "inet6"), ("ConnectTimeout", "2")],
)
def test_a_way_that_is_closed_says_nothing_of_another_way_to_the_same_server(
    driver: Driver, host: fakes.Host, queue: Queue, option: str, value: str
) -> None:
    closed = {"ConnectTimeout": "1", option: value}
    queue.begin(AWAY, **closed)
    create(driver, "closed", check="mount", **closed)
    create(driver, "open", check="mount", ConnectTimeout="1")
    host.preflight.problems["closed"] = AWAY
    queue.mount("closed", "open", "closed")
    assert queue.outcomes() == [f"HostUnreachable: {AWAY}"] * 2 + ["", f"HostUnreachable: {AWAY}"]
    assert host.preflight.checked == ["first", "closed", "open"]


def test_a_port_that_is_dead_takes_no_place_from_another_port_of_the_same_host(driver: Driver, queue: Queue) -> None:
    queue.begin(AWAY, port="2222")
    driver.create("photos", {"sshcmd": fakes.SSHCMD}, now())
    driver.mount("photos", ID, caller(), now())
    assert queue.outcomes() == [f"HostUnreachable: {AWAY}"]


def test_what_is_found_with_too_little_time_is_not_told_to_those_who_have_more(
    driver: Driver, host: fakes.Host, queue: Queue
) -> None:
    """Podman waits five seconds, so what does not answer then may well do within the ten of ConnectTimeout."""
    queue.begin(AWAY)
    for name in ("hurried", "patient"):
        create(driver, name, check="mount")
    host.preflight.problems["hurried"] = AWAY
    queue.mount("hurried", deadline=Deadline.after(4.5))
    queue.mount("patient")
    assert queue.outcomes() == [f"HostUnreachable: {AWAY}"] * 2 + [""]


@pytest.mark.parametrize(
    "problem",
    [
        errors.ServerSilent("nas port 22 accepts the connection but has not spoken SSH in time"),
        errors.NegotiationFailed("the SSH server at nas port 22 broke the connection off"),
        errors.NotAnSSHServer("what answers at nas port 22 is not an SSH server"),
        errors.LoginUnfinished("nas did not answer the login of me in time"),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_failure_at_a_server_that_may_only_be_busy_is_not_told_to_those_who_wait(
    driver: Driver, host: fakes.Host, queue: Queue, problem: errors.PluginError
) -> None:
    queue.begin(problem, ConnectTimeout="1")
    create(driver, check="mount", ConnectTimeout="1")
    host.preflight.problems["photos"] = problem
    queue.mount("photos", "photos", "photos")
    queue.outcomes()
    assert host.preflight.checked == ["first", *["photos"] * 3]


def test_refused_login_is_told_to_those_who_wait_since_servers_ban_who_is_refused_too_often(
    driver: Driver, host: fakes.Host, queue: Queue
) -> None:
    refusal = errors.LoginRefused("nas refused to let me in", "is the key right?")
    queue.begin(refusal)
    for name in ("photos", "films"):
        create(driver, name, check="mount")
    host.preflight.problems["photos"] = refusal
    queue.mount("photos", "photos", "films", "photos")
    assert queue.outcomes() == [f"LoginRefused: {refusal}"] * 3 + ["", f"LoginRefused: {refusal}"]
    assert host.preflight.checked.count("photos") == 2, "the first, and the one that began after all had asked"


def test_create_that_is_refused_says_nothing_of_the_next_with_another_key(host: fakes.Host, queue: Queue) -> None:
    queue.begin(AWAY)
    host.preflight.problems["/wrong"] = errors.LoginRefused("nas refused to let me in")
    for key in ("/wrong", "/wrong", "/right"):
        queue.create("photos", IdentityFile=key)
    assert queue.outcomes()[1:] == ["LoginRefused: nas refused to let me in"] * 2 + [""]


def test_mount_for_which_there_was_no_place_in_time_says_nothing_to_those_who_have_time(
    driver: Driver, queue: Queue
) -> None:
    queue.begin(AWAY)
    create(driver, check="mount")
    for seconds in (0.3, 0.8):
        queue.mount("photos", deadline=Deadline.after(seconds))
    queue.mount("photos")
    assert queue.failure(1)
    assert isinstance(queue.failure(2), errors.ServerBusy)
    assert queue.outcomes()[3] == ""


def test_two_creates_of_one_name_at_once_check_once(
    driver: Driver, host: fakes.Host, in_background: fakes.Background
) -> None:
    gate = host.preflight.gates["photos"] = fakes.Gate()
    creating = [in_background(create, driver) for _ in range(2)]
    gate.await_arrival()
    gate.open()
    for created in creating:
        created.result()
    assert host.preflight.checked == ["photos"]


def test_mount_that_waited_for_a_remove_finds_no_volume(
    driver: Driver, host: fakes.Host, in_background: fakes.Background
) -> None:
    create(driver)
    mount(driver)
    gate = host.supervisor.release_gates["photos"] = fakes.Gate()
    removing = in_background(driver.remove, "photos", soon())
    gate.await_arrival()
    mounting = in_background(driver.mount, "photos", OTHER_ID, caller(), soon())
    gate.open()
    removing.result()
    with pytest.raises(errors.VolumeNotFound):
        mounting.result()
    assert host.supervisor.live == set()


def test_only_eight_volumes_connect_to_one_server_at_once(
    driver: Driver, host: fakes.Host, in_background: fakes.Background
) -> None:
    names = [f"photos{number}" for number in range(9)]
    gate = fakes.Gate()
    for name in names:
        create(driver, name)
        host.supervisor.start_gates[name] = gate
    mounting = [in_background(driver.mount, name, ID, caller(), soon()) for name in names[:8]]
    for _ in mounting:
        gate.await_arrival()
    with pytest.raises(errors.ServerBusy) as refusal:
        driver.mount(names[8], ID, caller(), now())
    assert str(refusal.value) == "too many volumes are connecting to nas port 22 at once: try again in a moment"
    driver.create("elsewhere", {"sshcmd": "me@other:/dir"}, now())
    driver.mount("elsewhere", ID, caller(), now())
    gate.open()
    for mounted in mounting:
        mounted.result()
    driver.mount(names[8], ID, caller(), now())


def test_volumes_that_wait_for_files_of_this_host_keep_nobody_from_their_server(
    driver: Driver, host: fakes.Host, in_background: fakes.Background
) -> None:
    """Eight of them would take all turns there; creating and mounting alike."""
    gate = fakes.Gate()
    for number in range(5):
        driver.create(f"mounted{number}", {"sshcmd": fakes.SSHCMD, "check": "mount"}, now())
        host.preflight.files[f"mounted{number}"] = host.preflight.files[f"made{number}"] = gate
    waiting: list[Future[Path] | Future[None]] = []
    waiting += [in_background(create, driver, f"made{number}") for number in range(5)]
    waiting += [in_background(driver.mount, f"mounted{number}", ID, caller(), soon()) for number in range(5)]
    for _ in waiting:
        gate.await_arrival()
    driver.create("well", {"sshcmd": fakes.SSHCMD}, now())
    driver.mount("well", ID, caller(), now())
    gate.open()
    for call in waiting:
        call.result()


# Start


def test_restart_takes_up_volumes_mounts_and_holders(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    mount(driver)
    restarted = host.start_driver()
    assert status_of(restarted) == (True, 1)
    restarted.unmount("photos", ID, soon())
    assert host.supervisor.released == ["photos"]


def test_start_lets_no_release_go_on_that_an_earlier_process_has_asked_for(host: fakes.Host) -> None:
    host.supervisor.unsettled.add("photos")
    host.start_driver()
    assert not host.supervisor.unsettled


def test_start_leaves_a_mount_without_a_record_alone(host: fakes.Host, caplog: pytest.LogCaptureFixture) -> None:
    host.supervisor.live.add("orphan")
    driver = host.start_driver()
    driver.look_after(1)
    assert "orphan is mounted but there is no record of such a volume: it is left alone" in caplog.text
    assert host.supervisor.asked == []


# Looking after


def test_look_after_lets_go_of_a_mount_that_nobody_holds(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    driver.mount("photos", ID, caller(), soon())
    host.start_driver().look_after(1)
    assert host.supervisor.released == ["photos"]


def test_look_after_removes_what_is_left_over_of_volumes_that_are_no_more(driver: Driver, host: fakes.Host) -> None:
    """After a power cut; it tries once, since a mountpoint with something in it stays."""
    create(driver)
    host.supervisor.empty = {"photos", "films", "lost+found"}
    driver.look_after(1)
    driver.look_after(1)
    assert host.supervisor.cleared == ["films"]
    driver.remove("photos", soon())
    driver.look_after(1)
    assert host.supervisor.cleared == ["films", "photos"]


def test_look_after_removes_what_is_left_over_once_more_if_it_came_back_or_could_not_be_removed(
    driver: Driver, host: fakes.Host, caplog: pytest.LogCaptureFixture
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
    driver: Driver, host: fakes.Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
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
    driver: Driver, host: fakes.Host, in_background: fakes.Background
) -> None:
    gate = host.preflight.gates["photos"] = fakes.Gate()
    creating = in_background(create, driver)
    gate.await_arrival()
    host.supervisor.empty = {"photos"}
    driver.look_after(1)
    gate.open()
    creating.result()
    driver.look_after(1)
    assert host.supervisor.cleared == []


def test_look_after_leaves_held_volumes_mounted(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    mount(driver)
    driver.look_after(1)
    assert host.supervisor.asked == []


def test_look_after_drops_what_an_old_dockerd_left_once_nobody_uses_it(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    mount(driver)
    driver.activate(caller(process=200))
    driver.look_after(1)
    assert status_of(driver) == (False, 0)
    assert host.holder_records.records == {}


def test_look_after_drops_what_an_old_dockerd_left_of_a_volume_that_is_not_mounted(
    driver: Driver, host: fakes.Host
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


def test_get_tells_of_containers_whose_mount_died_and_was_made_anew(driver: Driver, host: fakes.Host) -> None:
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
    driver: Driver, host: fakes.Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rules, "LEAVE_SECONDS", -1.0)
    create(driver)
    mount(driver)
    host.supervisor.used.add("photos")
    driver.activate(caller(process=200))
    for _ in range(3):
        driver.look_after(1)
    assert caplog.text.count("left mounted: a container or a process on this host still uses it") == 1


@pytest.mark.parametrize("trouble", ["used", "stuck"])
def test_look_after_asks_again_only_after_a_while_when_a_mount_has_to_stay(
    driver: Driver, host: fakes.Host, monkeypatch: pytest.MonkeyPatch, trouble: str
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
    monkeypatch.setattr(rules, "LEAVE_SECONDS", -1.0)
    restarted = host.start_driver()
    restarted.look_after(1)
    restarted.look_after(1)
    assert host.supervisor.asked == ["photos"] * 3
    assert status_of(restarted) == (True, 1)


def test_look_after_asks_of_a_new_mount_whatever_became_of_the_one_before(driver: Driver, host: fakes.Host) -> None:
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
    driver: Driver, host: fakes.Host, caplog: pytest.LogCaptureFixture
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


def test_look_after_logs_with_the_name_of_the_volume(driver: Driver, host: fakes.Host) -> None:
    create(driver)
    mount(driver)
    subjects: list[dict[str, str]] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            subjects.append(dict(context.subject()))

    rules.log.addHandler(listener := Listener())
    try:
        host.supervisor.silent.add("photos")
        driver.look_after(1)
    finally:
        rules.log.removeHandler(listener)
    assert subjects == [{"VOLUME": "photos"}]


def test_look_after_passes_a_volume_over_on_which_somebody_works(
    driver: Driver, host: fakes.Host, in_background: fakes.Background
) -> None:
    create(driver)
    host.supervisor.live.add("photos")
    host.supervisor.silent.add("photos")
    gate = host.supervisor.start_gates["photos"] = fakes.Gate()
    mounting = in_background(driver.mount, "photos", ID, caller(), soon())
    gate.await_arrival()
    driver.look_after(1)
    assert host.supervisor.asked == []
    gate.open()
    mounting.result()
    assert status_of(driver) == (True, 1)


def test_look_after_does_not_let_go_of_the_new_volume_that_has_an_old_ones_name(
    driver: Driver, host: fakes.Host, in_background: fakes.Background
) -> None:
    create(driver)
    host.supervisor.live.add("photos")
    gate = host.supervisor.answer_gates["photos"] = fakes.Gate()
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
    driver: Driver, host: fakes.Host, in_background: fakes.Background
) -> None:
    create(driver)
    host.supervisor.live.add("photos")
    gate = host.supervisor.answer_gates["photos"] = fakes.Gate()
    looking = in_background(driver.look_after, 1)
    gate.await_arrival()
    del host.supervisor.answer_gates["photos"]
    mount(driver)
    gate.open()
    looking.result()
    assert host.supervisor.asked == []
    assert status_of(driver) == (True, 1)


def test_files_of_this_host_are_read_without_a_place_at_the_server_also_when_a_check_is_made_again(
    driver: Driver, host: fakes.Host, in_background: fakes.Background
) -> None:
    names = [f"photos-{number}" for number in range(locks.CONNECTS_PER_SERVER + 1)]
    for name in names:
        create(driver, name)
    *stuck, well = names
    for name in stuck:
        host.preflight.files[name] = fakes.Gate()
        host.supervisor.start_problems[name] = errors.MountFailed("Host key verification failed.")
    waiting = [in_background(driver.mount, name, ID, caller(), soon()) for name in stuck]
    for name in stuck:
        host.preflight.files[name].await_arrival()
    mount(driver, well)
    for name, mounting in zip(stuck, waiting, strict=True):
        host.preflight.files[name].open()
        assert isinstance(mounting.exception(fakes.PATIENCE), errors.MountFailed)
