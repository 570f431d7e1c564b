# SPDX-License-Identifier: MIT
"""Who may work, and who is sent away at once so that others can."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from support.waiting import LIMIT_SECONDS, WatchedDeadline

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.driver import locks
from sshfs_plugin.driver.locks import Locks, SharedFailures, Slots
from sshfs_plugin.volume import VolumeName


@pytest.fixture
def full() -> Iterator[Locks]:
    """Give locks of which all slots of one server are taken."""
    taken = Locks()
    with ExitStack() as places:
        for _ in range(locks.CONNECTS_PER_SERVER):
            places.enter_context(taken.at_server("nas", Deadline.after(1)))
        yield taken


def test_a_slot_is_waited_for_until_the_deadline(full: Locks) -> None:
    with (
        pytest.raises(errors.ServerBusy, match="too many volumes are connecting to nas"),
        full.at_server("nas", Deadline.after(0.05)),
    ):
        pass


def test_other_servers_have_slots_of_their_own(full: Locks) -> None:
    with full.at_server("other", Deadline.after(0)):
        pass


def test_who_would_be_one_too_many_to_wait_is_sent_away_at_once() -> None:
    places, busy = Slots(1, waiting=1), errors.PluginBusy("the log")
    waits = WatchedDeadline(Deadline.after(0.5).at, threading.Semaphore(0))

    def wait() -> None:
        with pytest.raises(errors.PluginBusy), places.taken(waits, busy):
            pass

    with places.taken(Deadline.after(0), busy):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert waits.asks.acquire(timeout=LIMIT_SECONDS)
        started = time.monotonic()
        with pytest.raises(errors.PluginBusy), places.taken(Deadline.after(100), busy):
            pass
        assert time.monotonic() - started < 0.4
        waiting.join()
        waits = WatchedDeadline(Deadline.after(0.01).at, threading.Semaphore(0))
        wait()
        assert waits.asks.acquire(blocking=False), "it waited, since nobody else does any more"
    with places.taken(Deadline.after(0), busy):
        pass


def everything(_error: errors.PluginError) -> bool:
    return True


def attempt(attempts: SharedFailures, asked: float, problem: errors.PluginError | None = None) -> None:
    with attempts.attempt("nas", asked, everything):
        if problem:
            raise problem


def test_failure_comes_to_those_who_had_asked_before_that_attempt_began_and_to_nobody_else() -> None:
    attempts, problem = SharedFailures(), errors.HostUnreachable("cannot connect to nas port 22", "is it on?")
    before = time.monotonic()
    with pytest.raises(errors.HostUnreachable):
        attempt(attempts, before, problem)
    with pytest.raises(errors.HostUnreachable) as told:
        attempt(attempts, before)
    assert str(told.value) == str(problem)
    assert told.value is not problem, "its traceback is that of another thread"
    problem.volume = told.value.volume = "photos"  # as whoever raises it says of its own volume
    with pytest.raises(errors.HostUnreachable) as again:
        attempt(attempts, before)
    assert again.value.volume == ""
    with attempts.attempt("other", before, everything):
        pass
    attempt(attempts, time.monotonic())


def test_success_ends_what_a_failure_says() -> None:
    attempts, before = SharedFailures(), time.monotonic()
    with pytest.raises(errors.HostUnreachable):
        attempt(attempts, before, errors.HostUnreachable("cannot connect to nas port 22"))
    attempt(attempts, time.monotonic())
    attempt(attempts, before)


def test_failure_while_others_succeed_is_told_to_nobody() -> None:
    attempts, before = SharedFailures(), time.monotonic()
    with pytest.raises(errors.HostUnreachable), attempts.attempt("nas", before, everything):
        attempt(attempts, before)
        raise errors.HostUnreachable("cannot connect to nas port 22, no answer in time")
    attempt(attempts, before)


def test_nothing_is_kept_of_volumes_and_servers_that_nobody_works_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host may make and remove volumes for years."""
    monkeypatch.setattr(locks, "LONGEST_WAIT_SECONDS", 0.0)
    held, failures = Locks(), SharedFailures()
    for number in range(100):
        with (
            held.on_volume(VolumeName(f"photos-{number}"), Deadline.after(1)),
            held.at_server(f"nas-{number}", Deadline.after(1)),
            suppress(errors.HostUnreachable),
            failures.attempt(number, time.monotonic(), lambda _: True),
        ):
            if number % 2:
                raise errors.HostUnreachable("nobody answers", "is it on?")
    assert (len(held._volumes), len(held._servers)) == (0, 0)
    assert len(failures._succeeded) + len(failures._failed) <= 1


def test_those_who_join_a_connection_wait_for_a_place_and_not_for_long() -> None:
    few = Locks()
    with ExitStack() as places:
        for _ in range(locks.CONNECTS_PER_SERVER):
            places.enter_context(few.joining("nas", Deadline.after(1)))
        started = time.monotonic()
        with few.joining("nas", Deadline.after(0.2)):
            waited = time.monotonic() - started
        with few.joining("other", Deadline.after(100)):
            pass
    assert waited >= 0.1, "half of the time that is left"
