# SPDX-License-Identifier: MIT
"""How tests wait: for what must happen, at a place of their own choice, and never for a length of time."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from sshfs_plugin.deadline import Deadline

_P = ParamSpec("_P")
_T = TypeVar("_T")

LIMIT_SECONDS = 60.0
"""How long a test waits for what must happen; it is used up by failures only."""


def soon() -> Deadline:
    """Return a deadline that no test reaches."""
    return Deadline.after(LIMIT_SECONDS)


def now() -> Deadline:
    """Return a deadline that has come already: whoever has to wait gives up at once."""
    return Deadline.after(0)


@dataclass(frozen=True)
class WatchedDeadline(Deadline):
    """A deadline that tells whenever somebody asks how long to wait.

    Attributes:
        asks: Is released each time.
    """

    asks: threading.Semaphore

    def left(self, at_most: float = float("inf")) -> float:
        """Tell, and answer."""
        self.asks.release()
        return super().left(at_most)


@dataclass(frozen=True)
class DeadlineOnce(Deadline):
    """A deadline that has come once something is so.

    Attributes:
        is_so: Tells whether it is.
    """

    is_so: Callable[[], bool]

    def left(self, at_most: float = float("inf")) -> float:
        """Return the seconds that are left: none once it is so."""
        return 0.0 if self.is_so() else super().left(at_most)


def await_that(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait until a condition holds that nothing tells of."""
    limit = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < limit, f"not within {LIMIT_SECONDS} s: {what()}"
        time.sleep(0.01)


class Gate:
    """A place at which a slow answer is held back until the test lets it through."""

    def __init__(self) -> None:
        self._reached = threading.Semaphore(0)
        self._open = threading.Event()

    def hold(self) -> None:
        """Stop here, on the side of the fake."""
        self._reached.release()
        assert self._open.wait(LIMIT_SECONDS), "the test never opened the gate"

    def await_arrival(self) -> None:
        """Wait until somebody stands at the gate, on the side of the test."""
        assert self._reached.acquire(timeout=LIMIT_SECONDS), "nobody came to the gate"

    def open(self) -> None:
        """Let everybody through from now on."""
        self._open.set()


class Background:
    """Runs calls in threads of their own."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads

    def __call__(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> "Future[_T]":
        """Start a call whose result is asked for later."""
        return self._threads.submit(call, *args, **kwargs)
