# SPDX-License-Identifier: MIT
"""Who may work, and who is sent away at once so that others can."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from support import fakes

from sshfs_plugin import errors, turns
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.turns import Places, Turns


@pytest.fixture
def full() -> Iterator[Turns]:
    """Give turns of which all places at one server are taken."""
    taken = Turns()
    with ExitStack() as places:
        for _ in range(turns.CONNECTS_PER_HOST):
            places.enter_context(taken.at_host("nas", Deadline.after(1)))
        yield taken


def test_a_place_is_waited_for_until_the_deadline(full: Turns) -> None:
    with (
        pytest.raises(errors.ServerBusy, match="too many volumes are connecting to nas"),
        full.at_host("nas", Deadline.after(0.05)),
    ):
        pass


def test_other_servers_have_places_of_their_own(full: Turns) -> None:
    with full.at_host("other", Deadline.after(0)):
        pass


def test_who_would_be_one_too_many_to_wait_is_sent_away_at_once() -> None:
    places, busy = Places(1, waiting=1), errors.PluginBusy()
    waits = fakes.Watched(Deadline.after(0.5).at, threading.Semaphore(0))

    def wait() -> None:
        with pytest.raises(errors.PluginBusy), places.taken(waits, busy):
            pass

    with places.taken(Deadline.after(0), busy):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert waits.asks.acquire(timeout=fakes.PATIENCE)
        started = time.monotonic()
        with pytest.raises(errors.PluginBusy), places.taken(Deadline.after(100), busy):
            pass
        assert time.monotonic() - started < 0.4
        waiting.join()
        with pytest.raises(errors.PluginBusy), places.taken(Deadline.after(0.01), busy):
            pass  # waited, since nobody else does any more
    with places.taken(Deadline.after(0), busy):
        pass
