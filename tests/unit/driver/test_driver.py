# SPDX-License-Identifier: MIT
"""The rules of the verbs, one at a time."""

import errno
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from support.clients import ID, OTHER_ID, PODMAN_ID
from support.driver import FakeHost, caller, create, mount, status_of
from support.preflight import LOGIN
from support.waiting import LIMIT_SECONDS, Background, Gate, now, soon

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.driver import mounting, releasing
from sshfs_plugin.driver.counters import Failure
from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.driver.values import Condition
from sshfs_plugin.holders import Client
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.volume import Volume, VolumeName, usable

# Create


def test_create_records_the_volume_once_its_server_was_checked(driver: Driver, host: FakeHost) -> None:
    create(driver, port="2222")
    assert host.preflight.checked == ["photos"]
    assert usable(host.volumes.records[VolumeName("photos")]).remote.port == 2222


def test_create_leaves_nothing_when_the_server_is_not_able_to_serve_it(driver: Driver, host: FakeHost) -> None:
    host.preflight.problems["photos"] = errors.HostUnreachable("cannot connect to nas port 22")
    with pytest.raises(errors.HostUnreachable, match="cannot connect to nas port 22"):
        create(driver)
    assert not host.volumes.records
    with pytest.raises(errors.VolumeNotFound):
        driver.get("photos")


def test_create_leaves_nothing_when_it_cannot_be_recorded(driver: Driver, host: FakeHost) -> None:
    host.volumes.problem = errors.StateError("cannot write photos.json, No space left on device")
    with pytest.raises(errors.StateError, match="No space left"):
        create(driver)
    assert driver.list_volumes() == []


def test_create_alone_lets_a_missing_directory_be_made(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounting, "CHECK_HOLDS_SECONDS", -1.0)
    create(driver, create_directory="")
    mount(driver)
    assert host.preflight.checked == ["photos", "photos"]
    assert host.preflight.created == ["photos"]


@pytest.mark.parametrize("check", ["mount", "never"])
def test_create_asks_no_server_when_told_so(driver: Driver, host: FakeHost, check: str) -> None:
    create(driver, check=check)
    assert host.preflight.checked == []


def test_mount_while_the_check_holds_reads_no_file_again_and_no_key_is_remembered(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(driver)
    mount(driver)
    assert host.preflight.prepared == ["photos"]
    assert host.supervisor.logins == [LOGIN.without_contents]
    assert LOGIN.without_contents.contents == {}
    monkeypatch.setattr(mounting, "CHECK_HOLDS_SECONDS", -1.0)
    create(driver, "music")
    mount(driver, "music")
    assert host.preflight.prepared == ["photos", "music", "music"]


def test_mount_that_is_never_checked_reads_what_it_logs_in_with_each_time(driver: Driver, host: FakeHost) -> None:
    create(driver, check="never")
    mount(driver)
    driver.unmount("photos", ID, soon())
    mount(driver)
    assert (host.preflight.prepared, host.preflight.checked) == (["photos", "photos"], [])
    assert host.supervisor.logins == [LOGIN, LOGIN]


def test_create_again_with_the_same_options_changes_nothing(driver: Driver, host: FakeHost) -> None:
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
def test_create_refuses_names_that_could_be_no_file_or_unit(driver: Driver, host: FakeHost, name: str) -> None:
    with pytest.raises(errors.InvalidVolumeName):
        create(driver, name)
    assert not host.volumes.records


def test_create_refuses_a_wrong_option_before_it_asks_any_server(driver: Driver, host: FakeHost) -> None:
    with pytest.raises(errors.UnknownOption, match="did you mean 'password'"):
        create(driver, pasword="x")
    assert host.preflight.checked == []


def test_remove_ends_connections_that_no_volume_shares_any_more(driver: Driver, host: FakeHost) -> None:
    create(driver)
    driver.remove("photos", soon())
    assert host.supervisor.connections.ended == 1


def test_remove_and_create_leave_a_volume_alone_whose_process_goes_on_although_it_is_unmounted(
    driver: Driver, host: FakeHost
) -> None:
    """Its sshfs would read what is written for a new volume of the name, and give the old server its password."""
    create(driver)
    host.supervisor.kept.add("photos")
    with pytest.raises(errors.VolumeInUse):
        driver.remove("photos", soon())
    host.volumes.records.clear()
    with pytest.raises(errors.VolumeInUse):
        create(host.start_driver())
    assert host.supervisor.discarded == []


def test_create_unmounts_what_is_left_of_a_volume_whose_record_is_lost(driver: Driver, host: FakeHost) -> None:
    host.supervisor.live.add("photos")
    create(driver)
    assert host.supervisor.released == ["photos"]
    assert status_of(driver) == (False, 0)


def test_create_does_not_take_over_the_mount_of_a_lost_volume_that_is_used(driver: Driver, host: FakeHost) -> None:
    host.supervisor.live.add("photos")
    host.supervisor.used.add("photos")
    with pytest.raises(errors.VolumeInUse):
        create(driver)
    assert not host.volumes.records


# Mount


def test_mount_gives_the_mountpoint_at_which_it_has_mounted(driver: Driver, host: FakeHost) -> None:
    create(driver)
    assert mount(driver) == host.supervisor.root / "photos"
    assert host.supervisor.started == ["photos"]
    assert status_of(driver) == (True, 1)


def test_mount_of_an_unknown_volume_says_so(driver: Driver) -> None:
    with pytest.raises(errors.VolumeNotFound, match="volume 'photos' not found"):
        mount(driver)


def test_mount_without_an_id_is_refused_since_nobody_could_give_it_back(driver: Driver, host: FakeHost) -> None:
    create(driver)
    with pytest.raises(errors.InvalidRequest, match="the request has no mount ID"):
        driver.mount("photos", "", caller(), soon())
    assert host.supervisor.started == []


def test_mount_of_a_mounted_volume_only_adds_a_holder(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    mount(driver, mount_id=OTHER_ID)
    assert host.supervisor.started == ["photos"]
    assert host.holder_records.counts("photos") == {ID: 1, OTHER_ID: 1}


def test_mount_does_not_check_again_right_after_create(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    assert host.preflight.checked == ["photos"]


def test_mount_checks_again_when_the_last_check_is_old(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounting, "CHECK_HOLDS_SECONDS", -1.0)
    create(driver)
    host.preflight.problems["photos"] = errors.LoginRefused("nas refused to let me in")
    with pytest.raises(errors.LoginRefused):
        mount(driver)
    assert host.supervisor.started == []
    assert status_of(driver) == (False, 0)


@pytest.mark.parametrize("joinable", [False, True])
def test_mount_checks_again_when_the_connection_was_lost_since_the_last_check(
    driver: Driver, host: FakeHost, joinable: bool
) -> None:
    """After it the relay tries to log in once more, and that is not to be refused.

    It makes a connection of its own, whatever other volumes share.
    """
    create(driver)
    mount(driver)
    if joinable:
        host.supervisor.connections.joinable.add("photos")
    host.supervisor.silent.add("photos")
    host.supervisor.outages["photos"] = ("the connection to the server is lost (it was closed)", datetime.now(UTC))
    host.preflight.problems["photos"] = errors.LoginRefused("nas refused to let me in")
    with pytest.raises(errors.LoginRefused):
        driver.mount("photos", OTHER_ID, caller(), soon())
    assert host.supervisor.started == ["photos"]


def test_mount_checks_first_for_a_volume_that_create_did_not_check(driver: Driver, host: FakeHost) -> None:
    create(driver, check="mount")
    mount(driver)
    assert host.preflight.checked == ["photos"]


def test_mount_in_the_middle_of_an_upgrade_makes_no_check(driver: Driver, host: FakeHost) -> None:
    create(driver, check="mount")
    host.preflight.is_being_upgraded = True
    mount(driver)
    assert host.preflight.checked == []
    assert host.supervisor.started == ["photos"]
    with pytest.raises(errors.BeingUpgraded, match="is just being upgraded and can check no server: try again"):
        create(driver, "films")
    create(driver, "music", check="mount")
    host.supervisor.start_problems["music"] = errors.MountFailed("sshfs could not mount volume 'music'", "why")
    with pytest.raises(errors.MountFailed):
        mount(driver, "music")


def test_mount_never_checks_for_a_volume_that_wants_no_check(driver: Driver, host: FakeHost) -> None:
    create(driver, check="never")
    mount(driver)
    assert host.preflight.checked == []
    assert host.supervisor.started == ["photos"]


def test_mount_starts_again_when_the_mount_does_not_answer(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    host.supervisor.silent.add("photos")
    mount(driver, mount_id=OTHER_ID)
    assert host.supervisor.started == ["photos", "photos"]


@pytest.mark.parametrize(("left", "spent"), [(100, 2), (4.5, 2), (1, 1)])
def test_mount_spends_no_more_than_two_seconds_on_a_mount_that_hangs(
    driver: Driver, host: FakeHost, left: float, spent: float
) -> None:
    create(driver)
    mount(driver)
    host.supervisor.silent.add("photos")
    driver.mount("photos", OTHER_ID, caller(), Deadline.after(left))
    assert host.supervisor.answer_seconds == [pytest.approx(spent, abs=0.5)]


def test_failed_mount_leaves_no_holder_and_is_told_by_get_until_a_success(driver: Driver, host: FakeHost) -> None:
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


@pytest.mark.parametrize("times", [1, 2])
def test_server_that_turns_a_mount_away_is_asked_once_more(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A loaded one closes connections before their login, at random."""
    monkeypatch.setattr("sshfs_plugin.driver.mounting.AGAIN_SECONDS", 0.0)
    problems = [errors.MountTurnedAway("Connection reset by 192.0.2.1 port 22")] * times
    start, asked = host.supervisor.start, []

    def start_in_the_end(volume: Volume, login: Login, deadline: Deadline) -> None:
        asked.append(volume.name)
        if problems:
            raise problems.pop()
        start(volume, login, deadline)

    monkeypatch.setattr(host.supervisor, "start", start_in_the_end)
    create(driver, check="never")
    if times == 1:
        mount(driver)
    else:
        with pytest.raises(errors.MountTurnedAway):
            mount(driver)
    assert asked == ["photos"] * 2


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("at", ["create", "mount"])
def test_server_that_turns_a_check_away_is_asked_once_more(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch, times: int, at: str
) -> None:
    """Other hosts log in there as well, and when a site starts, all at once."""
    monkeypatch.setattr(mounting, "AGAIN_SECONDS", 0.0)
    create(driver, check=at)
    host.preflight.checked.clear()
    problems = [errors.TurnedAway("nas port 22 closed the connection")] * times
    run = host.preflight.run

    def run_in_the_end(*args: Any, **options: Any) -> None:
        run(*args, **options)
        if problems:
            raise problems.pop()

    monkeypatch.setattr(host.preflight, "run", run_in_the_end)

    def use() -> None:
        create(driver, "music") if at == "create" else mount(driver)

    if times == 1:
        use()
    else:
        with pytest.raises(errors.TurnedAway):
            use()
    assert len(host.preflight.checked) == 2


def test_mount_whose_sshfs_has_ended_by_then_is_no_success_and_leaves_no_holder(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(driver)
    monkeypatch.setattr(host.supervisor, "mounted", dict)
    with pytest.raises(errors.MountFailed) as refusal:
        mount(driver)
    assert str(refusal.value) == (
        "volume 'photos' was mounted, and its sshfs ended at once: journalctl -t sshfs tells why; try again"
    )
    assert status_of(driver) == (False, 0)


def test_mount_of_a_volume_whose_unit_goes_on_unmounted_says_that_containers_use_it(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a purge of the package, which takes away what the unit reads, and its installation anew."""
    create(driver)
    monkeypatch.setattr(host.supervisor, "mounted", dict)
    host.supervisor.kept.add("photos")
    with pytest.raises(errors.MountFailed) as refusal:
        mount(driver)
    assert str(refusal.value) == (
        "volume 'photos' was unmounted by hand while containers go on using it: "
        "stop them (docker ps --filter volume=photos) and try again"
    )
    assert status_of(driver) == (False, 0)


def test_failure_that_the_mount_has_outlived_is_told_no_more(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    host.supervisor.silent.add("photos")
    host.supervisor.start_problems["photos"] = errors.MountTimedOut("its server does not answer")
    with pytest.raises(errors.MountTimedOut):
        mount(driver, mount_id=OTHER_ID)
    driver.look_after(1)
    assert driver.get("photos").last_error == (
        "its mount does not answer: docker-volume-sshfs release --force photos unmounts it "
        "if its containers can't be stopped"
    )
    host.supervisor.silent.clear()
    driver.look_after(1)
    assert driver.get("photos").last_error == ""


def test_mount_that_fails_after_a_check_was_spared_is_checked_and_tried_again(driver: Driver, host: FakeHost) -> None:
    """A host key that was forgotten meanwhile is accepted anew by the check, and only then known to ssh."""
    create(driver)
    host.supervisor.start_problems["photos"] = errors.MountFailed("Host key verification failed.")
    host.preflight.mends = host.supervisor.start_problems.clear
    mount(driver)
    assert status_of(driver) == (True, 1)
    assert host.preflight.checked == ["photos", "photos"]


def test_mount_that_was_too_slow_after_a_check_was_spared_is_not_checked_without_time(
    driver: Driver, host: FakeHost
) -> None:
    create(driver)
    host.supervisor.start_problems["photos"] = errors.MountTimedOut("volume 'photos' was not usable after 4 seconds")
    with pytest.raises(errors.MountTimedOut, match="was not usable after 4 seconds"):
        driver.mount("photos", ID, caller(), Deadline.after(1))
    assert host.preflight.checked == ["photos"], "at create alone"


def test_mount_that_can_share_a_connection_that_stands_is_not_checked(driver: Driver, host: FakeHost) -> None:
    create(driver, check="mount")
    host.supervisor.connections.joinable.add("photos")
    mount(driver)
    assert host.preflight.checked == []


def test_mount_that_fails_on_a_connection_that_stands_is_checked_and_tried_again(
    driver: Driver, host: FakeHost
) -> None:
    create(driver, check="mount")
    host.supervisor.connections.joinable.add("photos")
    host.supervisor.start_problems["photos"] = errors.MountFailed("No such file or directory")
    host.preflight.problems["photos"] = errors.DirectoryUnusable("the directory /photos does not exist on nas for bob")
    with pytest.raises(errors.DirectoryUnusable, match="/photos does not exist on nas for bob"):
        mount(driver)
    assert host.supervisor.started == ["photos"]


def test_check_that_passes_and_a_mount_that_fails_all_the_same_count_for_nothing(
    driver: Driver, host: FakeHost
) -> None:
    create(driver)
    host.supervisor.start_problems["photos"] = errors.MountFailed("Permission denied (publickey).")
    for _ in range(2):
        with pytest.raises(errors.MountFailed):
            mount(driver)
    assert host.preflight.checked == ["photos"] * 3, "at create, after the first mount, and before the second"


def test_mount_that_is_never_checked_is_not_either_when_it_fails(driver: Driver, host: FakeHost) -> None:
    create(driver, check="never")
    host.supervisor.connections.joinable.add("photos")
    host.supervisor.start_problems["photos"] = errors.MountFailed("No such file or directory")
    with pytest.raises(errors.MountFailed, match="No such file"):
        mount(driver)
    assert host.preflight.checked == []


def test_mount_after_one_that_has_failed_is_checked_first(driver: Driver, host: FakeHost) -> None:
    create(driver)
    host.supervisor.start_problems["photos"] = errors.MountFailed("Host key verification failed.")
    with pytest.raises(errors.MountFailed):
        driver.mount("photos", ID, caller(), Deadline.after(1))
    host.preflight.problems["photos"] = errors.HostKeyChanged("the host key of nas port 22 has changed")
    with pytest.raises(errors.HostKeyChanged):
        mount(driver)
    assert host.supervisor.started == ["photos"], "not once more in vain"


def test_mount_for_a_client_that_has_gone_holds_nothing_and_is_undone(driver: Driver, host: FakeHost) -> None:
    create(driver)
    assert driver.mount("photos", ID, caller(gone=True), soon()) is None
    assert host.supervisor.released == ["photos"]
    assert status_of(driver) == (False, 0)


def test_mount_for_a_client_that_has_gone_takes_nothing_from_those_who_hold(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver, mount_id=PODMAN_ID, client=Client.PODMAN)
    driver.mount("photos", PODMAN_ID, caller(Client.PODMAN, gone=True), soon())
    assert host.supervisor.asked == []
    assert host.holder_records.counts("photos") == {PODMAN_ID: 1}


def test_mount_that_waited_for_one_whose_client_has_gone_mounts_anew(
    driver: Driver, host: FakeHost, in_background: Background
) -> None:
    create(driver)
    gate = host.supervisor.start_gates["photos"] = Gate()
    first = in_background(driver.mount, "photos", PODMAN_ID, caller(Client.PODMAN, gone=True), soon())
    gate.await_arrival()
    second = in_background(driver.mount, "photos", PODMAN_ID, caller(Client.PODMAN), soon())
    gate.open()
    first.result()
    second.result()
    assert status_of(driver) == (True, 1)


@pytest.mark.parametrize(
    "kind", [errors.HostUnresolved, errors.HostUnreachable, errors.TurnedAway, errors.ServerSilent]
)
def test_mount_just_after_the_start_of_the_host_waits_for_the_server(
    driver: Driver,
    host: FakeHost,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: type[errors.PluginError],
) -> None:
    create(driver)
    host.up_seconds = 0.0
    early = host.start_driver()
    host.preflight.problems["photos"] = kind("cannot connect to nas port 22")
    told = []

    def server_comes_up(seconds: float) -> None:
        if seconds == mounting.TRY_EVERY_SECONDS:  # else it is asked once more, as at any other time
            told.append((seconds, early.get("photos").last_error))
            host.preflight.problems.clear()

    monkeypatch.setattr("sshfs_plugin.driver.mounting.time.sleep", server_comes_up)
    mount(early)
    assert told == [(5.0, "cannot connect to nas port 22")]
    assert early.get("photos").last_error == ""
    assert "tried again in 5 seconds, since this host has just started: cannot connect to nas" in caplog.text


def test_mount_just_after_the_start_waits_even_if_the_clock_is_not_set_yet(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small machines have no clock of their own: until a time server answers, it is long ago."""
    create(driver)
    host.up_seconds = 20.0
    early = host.start_driver()
    host.preflight.problems["photos"] = errors.HostUnreachable("cannot connect to nas port 22")
    clock = Mock(now=lambda zone: datetime(1970, 1, 1, tzinfo=zone))
    monkeypatch.setattr(mounting, "datetime", clock)
    monkeypatch.setattr("sshfs_plugin.driver.mounting.time.sleep", lambda _: host.preflight.problems.clear())
    mount(early)
    assert status_of(early) == (True, 1)


@pytest.mark.parametrize(
    ("up_seconds", "error", "seconds"),
    [
        (300.0, errors.HostUnreachable("refused"), 100.0),
        (20.0, errors.HostUnreachable("refused, of a volume that was made after the start"), 100.0),
        (0.0, errors.HostUnreachable("refused, and Podman does not wait"), 4.5),
        (0.0, errors.LoginRefused("wrong key"), 100.0),
    ],
)
def test_mount_does_not_wait_for_what_will_not_change_or_for_longer_than_its_caller(
    driver: Driver, host: FakeHost, up_seconds: float, error: errors.PluginError, seconds: float
) -> None:
    create(driver)
    host.up_seconds = up_seconds
    early = host.start_driver()
    host.preflight.problems["photos"] = error
    with pytest.raises(type(error)):
        early.mount("photos", ID, caller(Client.DOCKER), Deadline.after(seconds))
    assert len(host.preflight.checked) == 2, "at the Create, and once at the Mount"


# Confirm


def test_holder_is_recorded_only_when_the_reply_was_sent(driver: Driver, host: FakeHost) -> None:
    create(driver)
    driver.mount("photos", ID, caller(), soon())
    assert host.holder_records.counts("photos") == {}
    driver.confirm("photos", ID)
    assert host.holder_records.counts("photos") == {ID: 1}


def test_crash_between_mount_and_reply_invents_no_holder(driver: Driver, host: FakeHost) -> None:
    create(driver)
    driver.mount("photos", ID, caller(), soon())
    assert status_of(host.start_driver()) == (True, 0)


def test_confirm_after_the_unmount_changes_nothing(driver: Driver, host: FakeHost) -> None:
    create(driver)
    driver.mount("photos", ID, caller(), soon())
    driver.unmount("photos", ID, soon())
    driver.confirm("photos", ID)
    assert host.holder_records.counts("photos") == {}
    assert status_of(driver) == (False, 0)


def test_confirm_after_the_removal_changes_nothing(driver: Driver, host: FakeHost) -> None:
    create(driver)
    driver.mount("photos", ID, caller(), soon())
    driver.remove("photos", soon())
    driver.confirm("photos", ID)
    create(driver)
    driver.confirm("photos", ID)
    assert host.holder_records.records == {}
    assert status_of(driver) == (False, 0)


def test_unmount_before_the_confirmation_of_a_second_mount_keeps_the_first_on_record(
    driver: Driver, host: FakeHost
) -> None:
    create(driver)
    mount(driver)
    driver.mount("photos", ID, caller(), soon())
    driver.unmount("photos", ID, soon())
    assert host.holder_records.counts("photos") == {ID: 1}


# Unmount


def test_unmount_of_the_last_holder_unmounts(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    mount(driver, mount_id=OTHER_ID)
    driver.unmount("photos", ID, soon())
    assert host.supervisor.asked == []
    driver.unmount("photos", OTHER_ID, soon())
    assert host.supervisor.released == ["photos"]
    assert host.holder_records.records == {}


def test_unmount_of_an_unknown_id_is_a_success_that_takes_nothing_from_others(driver: Driver, host: FakeHost) -> None:
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


def test_docker_cp_does_not_take_the_volume_from_its_container(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    mount(driver)
    driver.unmount("photos", ID, soon())
    assert status_of(driver) == (True, 1)
    driver.unmount("photos", ID, soon())
    assert status_of(driver) == (False, 0)


def test_podman_mounts_as_often_as_it_likes_and_gives_back_once(driver: Driver, host: FakeHost) -> None:
    create(driver)
    for _ in range(3):
        mount(driver, mount_id=PODMAN_ID, client=Client.PODMAN)
    driver.unmount("photos", PODMAN_ID, soon())
    assert host.supervisor.released == ["photos"]


def test_unmount_of_a_volume_that_a_container_uses_leaves_it_mounted(
    driver: Driver, host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    create(driver)
    mount(driver)
    host.supervisor.used.add("photos")
    driver.unmount("photos", ID, soon())
    assert status_of(driver) == (True, 0)
    assert "left mounted: a container or a process on this host still uses it" in caplog.text


@pytest.mark.parametrize("is_used", [True, False])
def test_unmount_of_a_volume_that_was_unmounted_by_hand_leaves_it_its_connection_while_it_is_used(
    driver: Driver, host: FakeHost, *, is_used: bool
) -> None:
    """A connection that no volume shares is ended when any volume is removed."""
    create(driver)
    mount(driver)
    host.supervisor.live.clear()
    if is_used:
        host.supervisor.kept.add("photos")
    driver.unmount("photos", ID, soon())
    assert host.supervisor.connections.left == ([] if is_used else ["photos"])


def test_unmount_is_a_success_where_no_program_can_tell_whether_the_volume_is_used(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker would give back a holder that a later Mount has."""

    def cannot_tell(_name: str) -> bool:
        raise errors.ProgramNotStarted("systemctl", OSError(errno.EAGAIN, "Resource temporarily unavailable"))

    create(driver)
    mount(driver)
    host.supervisor.live.clear()
    monkeypatch.setattr(host.supervisor, "is_kept", cannot_tell)
    driver.unmount("photos", ID, soon())
    assert host.holder_records.counts("photos") == {}
    assert host.supervisor.connections.left == []


def test_mount_of_a_volume_that_answers_again_shows_it_so_at_once(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    host.supervisor.silent.add("photos")
    driver.look_after(1)
    assert driver.get("photos").condition is Condition.UNRESPONSIVE
    host.supervisor.silent.clear()
    mount(driver, mount_id=OTHER_ID)
    assert driver.get("photos").condition is Condition.MOUNTED


def test_unmount_that_cannot_be_done_is_a_success_and_the_count_is_down(
    driver: Driver, host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    create(driver)
    mount(driver)
    host.supervisor.release_problems["photos"] = errors.UnmountFailed("volume 'photos' could not be unmounted")
    driver.unmount("photos", ID, soon())
    assert host.holder_records.counts("photos") == {}
    assert "left mounted: volume 'photos' could not be unmounted" in caplog.text


@pytest.fixture
def failed_unmount(driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an unmount have failed, which is tried again at each look."""
    monkeypatch.setattr(releasing, "LEAVE_SECONDS", -1.0)
    create(driver)
    mount(driver)
    host.supervisor.release_problems["photos"] = errors.UnmountFailed("volume 'photos' could not be unmounted")
    driver.unmount("photos", ID, soon())


@pytest.mark.usefixtures("failed_unmount")
def test_unmount_that_failed_is_told_until_the_volume_is_unmounted(driver: Driver, host: FakeHost) -> None:
    assert driver.get("photos").last_error == "volume 'photos' could not be unmounted"
    driver.look_after(1)
    assert driver.get("photos").last_error == "volume 'photos' could not be unmounted", "that it answers mends nothing"
    assert driver.counters.failures == {Failure("Unmount", "", "UnmountFailed"): 2}
    host.supervisor.release_problems.clear()
    driver.look_after(1)
    assert (status_of(driver), driver.get("photos").last_error) == ((False, 0), "")


@pytest.mark.usefixtures("failed_unmount")
@pytest.mark.parametrize("settled", ["mounted again", "found in use", "unmounted by hand"])
def test_unmount_that_failed_is_told_no_more_once_there_is_none_to_be_made(
    driver: Driver, host: FakeHost, settled: str
) -> None:
    host.supervisor.release_problems.clear()
    if settled == "mounted again":
        mount(driver, mount_id=OTHER_ID)
    elif settled == "found in use":
        host.supervisor.used.add("photos")
    else:
        host.supervisor.live.clear()
    driver.look_after(1)
    assert driver.get("photos").last_error == ""


def test_unmount_that_failed_hides_no_error_of_a_later_mount(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    host.supervisor.release_problems["photos"] = errors.UnmountFailed("volume 'photos' could not be unmounted")
    driver.unmount("photos", ID, soon())
    host.supervisor.live.clear()
    host.supervisor.start_problems["photos"] = errors.MountFailed("sshfs could not mount volume 'photos'")
    with pytest.raises(errors.MountFailed):
        mount(driver)
    driver.look_after(1)
    assert driver.get("photos").last_error == "sshfs could not mount volume 'photos'"


def test_unmount_gives_up_its_hold_on_record_before_it_waits_for_the_release(
    driver: Driver, host: FakeHost, in_background: Background
) -> None:
    create(driver)
    mount(driver)
    gate = host.supervisor.release_gates["photos"] = Gate()
    unmounting = in_background(driver.unmount, "photos", ID, soon())
    gate.await_arrival()
    assert host.holder_records.counts("photos") == {}
    gate.open()
    unmounting.result()


def test_unmount_counts_even_while_another_call_keeps_the_volume_busy(
    driver: Driver, host: FakeHost, in_background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    create(driver)
    mount(driver)
    host.supervisor.silent.add("photos")
    gate = host.supervisor.start_gates["photos"] = Gate()
    mounting = in_background(driver.mount, "photos", OTHER_ID, caller(), soon())
    gate.await_arrival()
    driver.unmount("photos", ID, now())
    assert host.holder_records.counts("photos") == {}
    assert "left mounted for now: volume 'photos' is busy" in caplog.text
    gate.open()
    mounting.result()
    assert status_of(driver) == (True, 1)


def test_unmount_that_waited_for_a_mount_leaves_it_to_its_new_holder(
    driver: Driver, host: FakeHost, in_background: Background
) -> None:
    create(driver)
    mount(driver)
    host.supervisor.silent.add("photos")
    gate = host.supervisor.start_gates["photos"] = Gate()
    mounting = in_background(driver.mount, "photos", OTHER_ID, caller(), soon())
    gate.await_arrival()
    unmounting = in_background(driver.unmount, "photos", ID, soon())
    gate.open()
    mounting.result()
    unmounting.result()
    assert host.supervisor.asked == []
    assert status_of(driver) == (True, 1)


def test_holders_that_cannot_be_recorded_fail_no_verb_and_are_recorded_later(
    driver: Driver, host: FakeHost, caplog: pytest.LogCaptureFixture
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
    driver: Driver, host: FakeHost
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


def test_reference_that_was_taken_up_again_is_on_record_as_such(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    driver.activate(caller(process=200))
    assert host.holder_records.inherited("photos") == {ID}
    mount(driver)
    assert host.holder_records.inherited("photos") == set()


def test_crash_before_the_reply_leaves_an_inherited_reference_inherited(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    driver.activate(caller(process=200))
    driver.mount("photos", ID, caller(process=200), soon())
    assert host.holder_records.inherited("photos") == {ID}


def test_activation_by_the_same_dockerd_changes_nothing(driver: Driver, host: FakeHost) -> None:
    host.living.add("100")
    driver.activate(caller(process=100))
    create(driver)
    mount(driver)
    mount(driver)
    driver.activate(caller(process=100))
    assert host.holder_records.counts("photos") == {ID: 2}


def test_activation_by_the_same_dockerd_after_a_restart_of_the_service_changes_nothing(
    driver: Driver, host: FakeHost
) -> None:
    """It activates each name of the plugin when that is first used, such as an alias."""
    host.living.add("100")
    driver.activate(caller(process=100))
    create(driver)
    mount(driver)
    restarted = host.start_driver()
    restarted.activate(caller(process=100))
    assert host.holder_records.inherited("photos") == set()
    host.living.remove("100")
    restarted.activate(caller(process=200))
    assert host.holder_records.inherited("photos") == {ID}


def test_activation_by_somebody_else_while_dockerd_lives_changes_nothing(driver: Driver, host: FakeHost) -> None:
    """An administrator who tries the plugin with curl must not have Docker's mounts taken for those of a dead one."""
    host.living.add("100")
    driver.activate(caller(process=100))
    create(driver)
    mount(driver)
    mount(driver)
    driver.activate(caller(process=300))
    assert host.holder_records.counts("photos") == {ID: 2}
    assert host.holder_records.inherited("photos") == set()
    host.living.remove("100")
    driver.activate(caller(process=200))
    assert host.holder_records.inherited("photos") == {ID}


def test_activation_by_podman_changes_nothing(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    mount(driver)
    driver.activate(caller(Client.PODMAN, process=300))
    assert host.holder_records.counts("photos") == {ID: 2}


def test_new_dockerd_takes_nothing_from_podman(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver, mount_id=PODMAN_ID, client=Client.PODMAN)
    driver.activate(caller(process=200))
    driver.look_after(1)
    assert host.supervisor.asked == []
    assert status_of(driver) == (True, 1)


def test_activation_is_answered_while_a_mount_hangs(driver: Driver, host: FakeHost, in_background: Background) -> None:
    create(driver)
    mount(driver)
    host.supervisor.silent.add("photos")
    gate = host.supervisor.start_gates["photos"] = Gate()
    mounting = in_background(driver.mount, "photos", OTHER_ID, caller(), soon())
    gate.await_arrival()
    driver.activate(caller(process=200))
    assert host.holder_records.inherited("photos") == {ID}
    gate.open()
    mounting.result()


# Remove


def test_remove_unmounts_and_forgets_everything(driver: Driver, host: FakeHost) -> None:
    create(driver)
    mount(driver)
    driver.remove("photos", soon())
    assert host.supervisor.released == ["photos"]
    assert not host.volumes.records
    assert not host.holder_records.records
    assert host.preflight.unpinned == ["photos"]
    assert driver.list_volumes() == []


def test_remove_of_an_unknown_volume_says_so(driver: Driver) -> None:
    with pytest.raises(errors.VolumeNotFound, match="volume 'photos' not found"):
        driver.remove("photos", soon())


def test_remove_refuses_when_a_container_really_uses_the_volume(driver: Driver, host: FakeHost) -> None:
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


def test_remove_keeps_the_volume_when_its_record_cannot_be_removed(driver: Driver, host: FakeHost) -> None:
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
    driver: Driver, host: FakeHost, in_background: Background
) -> None:
    create(driver)
    create(driver, "films")
    gate = host.supervisor.start_gates["photos"] = Gate()
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
    driver: Driver, host: FakeHost, in_background: Background
) -> None:
    create(driver)
    gate = host.preflight.gates["films"] = Gate()
    creating = in_background(create, driver, "films")
    gate.await_arrival()
    assert [state.record.name for state in driver.list_volumes()] == ["photos"]
    with pytest.raises(errors.VolumeNotFound):
        driver.get("films")
    gate.open()
    creating.result()


def test_get_tells_since_when_a_volume_has_been_as_it_is(driver: Driver, host: FakeHost) -> None:
    create(driver)
    created = driver.get("photos").since
    assert abs(datetime.now(UTC) - created) < timedelta(seconds=LIMIT_SECONDS)
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
