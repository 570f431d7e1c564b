# SPDX-License-Identifier: MIT
"""The rules of the verbs when several are called at the same time."""

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from support.clients import ID, OTHER_ID, SSHCMD
from support.driver import FakeHost, caller, create, mount, status_of
from support.waiting import LIMIT_SECONDS, Background, Gate, WatchedDeadline, now, soon

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.driver import locks
from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.driver.values import Condition


def test_second_call_on_a_busy_volume_gives_up_at_its_deadline_with_a_sentence(
    driver: Driver, host: FakeHost, in_background: Background
) -> None:
    create(driver)
    gate = host.supervisor.start_gates["photos"] = Gate()
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
        driver.create("photos", {"sshcmd": SSHCMD}, now())
    assert driver.get("photos").last_error == ""
    gate.open()
    mounting.result()


def test_two_mounts_of_one_volume_at_once_start_it_once(
    driver: Driver, host: FakeHost, in_background: Background
) -> None:
    create(driver)
    gate = host.supervisor.start_gates["photos"] = Gate()
    mounting = [in_background(driver.mount, "photos", mount_id, caller(), soon()) for mount_id in (ID, OTHER_ID)]
    gate.await_arrival()
    gate.open()
    assert len({mounted.result() for mounted in mounting}) == 1
    assert host.supervisor.started == ["photos"]
    assert status_of(driver) == (True, 2)


def test_volume_whose_server_has_not_answered_yet_is_not_told_to_be_mounted(
    driver: Driver, host: FakeHost, in_background: Background
) -> None:
    """Sshfs mounts before it connects."""
    create(driver)
    gate = host.supervisor.start_gates["photos"] = Gate()
    mounting = in_background(driver.mount, "photos", ID, caller(), soon())
    gate.await_arrival()
    host.supervisor.live.add("photos")
    for state in (driver.get("photos"), *driver.list_volumes()):
        assert (state.condition, state.mountpoint) == (Condition.UNMOUNTED, None)
    gate.open()
    mounting.result()
    assert driver.get("photos").condition is Condition.MOUNTED


PORT_HINT = "if 2222 is meant to be the port, say -o port=2222 -o sshcmd=me@nas:/photos"
AWAY = errors.HostUnreachable("cannot connect to nas port 22, no answer in time", "is it on?")


class Queue:
    """Calls that wait, one behind the other, for the only place at a server; the first of all is under way."""

    def __init__(self, host: FakeHost, driver: Driver, in_background: Background) -> None:
        self._host, self._driver, self._start = host, driver, in_background
        self._gate = host.preflight.gates["first"] = Gate()
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
        self._wait(self._driver.create, None, name, {"sshcmd": SSHCMD, **opts})

    def _wait(self, call: Callable[..., object], deadline: Deadline | None, *args: object) -> None:
        waits = WatchedDeadline((deadline or soon()).at, threading.Semaphore(0))
        self._calls.append(self._start(call, *args, waits))
        assert waits.asks.acquire(timeout=LIMIT_SECONDS)

    def failure(self, number: int) -> BaseException | None:
        """Await the end of one of them."""
        return self._calls[number].exception(LIMIT_SECONDS)

    def outcomes(self) -> list[str]:
        """Let the first one fail, and return the failures of all in their order, each with its kind."""
        self._gate.open()
        ended = [self.failure(number) for number in range(len(self._calls))]
        return [f"{type(failure).__name__}: {failure}" if failure else "" for failure in ended]


@pytest.fixture
def queue(
    driver: Driver, host: FakeHost, in_background: Background, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Queue]:
    monkeypatch.setattr(locks, "CONNECTS_PER_SERVER", 1)
    yield Queue(host, driver, in_background)


def test_calls_that_queue_at_a_server_that_is_away_end_with_the_first_that_began_after_them(
    driver: Driver, host: FakeHost, queue: Queue
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
    driver: Driver, host: FakeHost, queue: Queue, option: str, value: str
) -> None:
    closed = {"ConnectTimeout": "1", option: value}
    queue.begin(AWAY, **closed)
    create(driver, "closed", check="mount", **closed)
    create(driver, "open", check="mount", ConnectTimeout="1")
    host.preflight.problems["closed"] = AWAY
    queue.mount("closed", "open", "closed")
    assert queue.outcomes() == [f"HostUnreachable: {AWAY}"] * 2 + ["", f"HostUnreachable: {AWAY}"]
    assert sorted(host.preflight.checked) == ["closed", "first", "open"]


def test_a_port_that_is_dead_takes_no_place_from_another_port_of_the_same_host(driver: Driver, queue: Queue) -> None:
    queue.begin(AWAY, port="2222")
    driver.create("photos", {"sshcmd": SSHCMD}, now())
    driver.mount("photos", ID, caller(), now())
    assert queue.outcomes() == [f"HostUnreachable: {AWAY}"]


def test_what_is_found_with_too_little_time_is_not_told_to_those_who_have_more(
    driver: Driver, host: FakeHost, queue: Queue
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
    driver: Driver, host: FakeHost, queue: Queue, problem: errors.PluginError
) -> None:
    queue.begin(problem, ConnectTimeout="1")
    create(driver, check="mount", ConnectTimeout="1")
    host.preflight.problems["photos"] = problem
    queue.mount("photos", "photos", "photos")
    queue.outcomes()
    assert host.preflight.checked == ["first", *["photos"] * 3]


def test_refused_login_is_told_to_those_who_wait_since_servers_ban_who_is_refused_too_often(
    driver: Driver, host: FakeHost, queue: Queue
) -> None:
    refusal = errors.LoginRefused("nas refused to let me in", "is the key right?")
    queue.begin(refusal)
    for name in (alike := [f"photos{number}" for number in range(9)]):
        create(driver, name, check="mount")
        host.preflight.problems[name] = refusal
    create(driver, "films", check="mount", IdentityFile="/another")
    queue.mount(*alike, "photos0", "films")
    queue.create("music")
    assert queue.outcomes() == [f"LoginRefused: {refusal}"] * 11 + ["", f"LoginRefused: {refusal}"]
    assert sorted(host.preflight.checked) == ["films", "first", "photos0"], "the first, and the first after all asked"


@pytest.mark.parametrize("problem", [errors.LoginRefused("nas refused to let me in", "is the key right?"), AWAY])
@pytest.mark.parametrize("names", [["asks", "other"], ["other", "asks"]])
def test_failure_that_volumes_share_asks_for_the_port_only_those_whose_directory_begins_with_one(
    driver: Driver, host: FakeHost, queue: Queue, problem: errors.PluginError, names: list[str]
) -> None:
    queue.begin(errors.ServerSilent("nas port 22 is busy"), ConnectTimeout="1")
    directories = {"asks": "2222/photos", "other": "/photos"}
    for name in names:
        sshcmd = f"me@nas:{directories[name]}"
        driver.create(name, {"sshcmd": sshcmd, "check": "mount", "ConnectTimeout": "1"}, soon())
        host.preflight.problems[name] = copy.copy(problem)
    queue.mount(*names)
    told = dict(zip(names, queue.outcomes()[1:], strict=True))
    own_hint = "" if problem is AWAY else f"; {problem.hint}"
    assert told["asks"].endswith(f"{problem.sentence}: {PORT_HINT}{own_hint}")
    assert told["other"].endswith(f": {problem}")
    assert host.preflight.checked == ["first", names[0]], "the other shares its failure"


def test_calls_whose_login_waits_for_a_server_that_does_not_answer_are_not_waited_for_long(
    driver: Driver, host: FakeHost, in_background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "LOGIN_SECONDS", 0.05)
    gate = Gate()
    names = [f"photos{number}" for number in range(locks.CONNECTS_PER_SERVER)]
    for name in names:
        create(driver, name, check="mount")
        host.preflight.gates[name] = gate
        host.preflight.problems[name] = errors.ServerSilent("nas port 22 does not answer")
    mounting = [in_background(driver.mount, name, ID, caller(), soon()) for name in names]
    for _ in mounting:
        gate.await_arrival()
    gate.open()
    for mounted in mounting:
        assert isinstance(mounted.exception(LIMIT_SECONDS), errors.ServerSilent)


@pytest.mark.parametrize(
    "opts",
    [{"sshcmd": "ann@nas:/photos"}, {"PreferredAuthentications": "password"}, {"IdentityFile": "/another"}],
    ids=str,
)
def test_refused_login_says_nothing_of_another_login_at_the_same_server(
    driver: Driver, queue: Queue, opts: dict[str, str]
) -> None:
    queue.begin(errors.LoginRefused("nas refused to let me in"))
    driver.create("photos", {"sshcmd": SSHCMD, "check": "mount", **opts}, soon())
    queue.mount("photos")
    assert queue.outcomes()[1:] == [""]


def test_create_that_is_refused_says_nothing_of_the_next_with_another_key(host: FakeHost, queue: Queue) -> None:
    queue.begin(AWAY)
    host.preflight.problems["/wrong"] = errors.LoginRefused("nas refused to let me in")
    for key in ("/wrong", "/wrong", "/right"):
        queue.create("photos", IdentityFile=key)
    assert queue.outcomes()[1:] == ["LoginRefused: nas refused to let me in"] * 2 + [""]


def test_mount_for_which_there_was_no_place_in_time_says_nothing_to_those_who_have_time(
    driver: Driver, queue: Queue
) -> None:
    queue.begin(AWAY)
    for name in ("photos", "films"):  # each has a lock of its own, which would be waited for as well
        create(driver, name, check="mount")
    queue.mount("films", deadline=Deadline.after(0.3))
    queue.mount("photos", deadline=Deadline.after(0.8))
    queue.mount("photos")
    assert queue.failure(1)
    assert isinstance(queue.failure(2), errors.ServerBusy)
    assert queue.outcomes()[3] == ""


def test_two_creates_of_one_name_at_once_check_once(driver: Driver, host: FakeHost, in_background: Background) -> None:
    gate = host.preflight.gates["photos"] = Gate()
    creating = [in_background(create, driver) for _ in range(2)]
    gate.await_arrival()
    gate.open()
    for created in creating:
        created.result()
    assert host.preflight.checked == ["photos"]


def test_mount_that_waited_for_a_remove_finds_no_volume(
    driver: Driver, host: FakeHost, in_background: Background
) -> None:
    create(driver)
    mount(driver)
    gate = host.supervisor.release_gates["photos"] = Gate()
    removing = in_background(driver.remove, "photos", soon())
    gate.await_arrival()
    mounting = in_background(driver.mount, "photos", OTHER_ID, caller(), soon())
    gate.open()
    removing.result()
    with pytest.raises(errors.VolumeNotFound):
        mounting.result()
    assert host.supervisor.live == set()


def test_only_eight_volumes_connect_to_one_server_at_once(
    driver: Driver, host: FakeHost, in_background: Background
) -> None:
    names = [f"photos{number}" for number in range(9)]
    gate = Gate()
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


def test_volumes_that_join_a_connection_take_no_place_of_those_who_log_in(
    driver: Driver, host: FakeHost, in_background: Background
) -> None:
    """Those in a directory that hangs would keep it for a minute."""
    gate = Gate()
    joining = [f"photos{number}" for number in range(locks.CONNECTS_PER_SERVER)]
    host.supervisor.connections.joinable.update(joining)
    for name in joining:
        create(driver, name, check="mount")
        host.supervisor.start_gates[name] = gate
    mounting = [in_background(driver.mount, name, ID, caller(), soon()) for name in joining]
    for _ in mounting:
        gate.await_arrival()
    driver.create("films", {"sshcmd": SSHCMD}, now())
    driver.mount("films", ID, caller(), now())
    gate.open()
    for mounted in mounting:
        mounted.result()


@pytest.mark.parametrize("hangs", ["directories", "files"])
def test_volumes_that_wait_for_a_directory_or_for_files_of_this_host_keep_nobody_from_their_server(
    driver: Driver, host: FakeHost, in_background: Background, hangs: str
) -> None:
    """Eight of them would take all slots there; creating and mounting alike, once or before the server lets them in."""
    gate = Gate()
    gates: dict[str, Gate] = getattr(host.preflight, hangs)
    for number in range(5):
        create(driver, f"mounted{number}", check="mount")
        gates[f"mounted{number}"] = gates[f"made{number}"] = gate
    waiting: list[Future[Path | None] | Future[None]] = []
    waiting += [in_background(create, driver, f"made{number}") for number in range(5)]
    waiting += [in_background(driver.mount, f"mounted{number}", ID, caller(), soon()) for number in range(5)]
    for _ in waiting:
        gate.await_arrival()
    driver.create("well", {"sshcmd": SSHCMD}, now())
    driver.mount("well", ID, caller(), now())
    gate.open()
    for call in waiting:
        call.result()


def test_volumes_that_start_in_one_moment_join_the_connection_of_the_first(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch, in_background: Background
) -> None:
    names = [f"photos{number}" for number in range(10)]
    monkeypatch.setattr(host.supervisor.connections, "can_be_joined", lambda *_: bool(host.supervisor.started))
    for name in names:
        create(driver, name, check="mount")
    gates = [host.preflight.gates.setdefault(name, Gate()) for name in names]
    waits = threading.Semaphore(0)
    first = in_background(driver.mount, names[0], ID, caller(), soon())
    gates[0].await_arrival()
    others = [in_background(driver.mount, name, ID, caller(), WatchedDeadline(soon().at, waits)) for name in names[1:]]
    for _ in others:
        assert waits.acquire(timeout=LIMIT_SECONDS)
    gates[0].open()
    first.result()
    for gate in gates[1:]:
        gate.open()
    for mounting in others:
        mounting.result()
    assert len(host.preflight.checked) <= 2, "that of the first, and one that began when it was logged in"
    assert sorted(host.supervisor.started) == names


def test_files_of_this_host_are_read_without_a_place_at_the_server_also_when_a_check_is_made_again(
    driver: Driver, host: FakeHost, in_background: Background
) -> None:
    names = [f"photos-{number}" for number in range(locks.CONNECTS_PER_SERVER + 1)]
    for name in names:
        create(driver, name)
    *stuck, well = names
    for name in stuck:
        host.preflight.files[name] = Gate()
        host.supervisor.start_problems[name] = errors.MountFailed("Host key verification failed.")
    waiting = [in_background(driver.mount, name, ID, caller(), soon()) for name in stuck]
    for name in stuck:
        host.preflight.files[name].await_arrival()
    mount(driver, well)
    for name, mounting in zip(stuck, waiting, strict=True):
        host.preflight.files[name].open()
        assert isinstance(mounting.exception(LIMIT_SECONDS), errors.MountFailed)
