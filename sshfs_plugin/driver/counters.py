# SPDX-License-Identifier: MIT
"""What this process has counted since it was started; the states of the volumes are not among it.

It is kept in memory alone: whoever reads it regularly takes the differences.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from sshfs_plugin import errors
from sshfs_plugin.preflight.checks import Check, Note, unobserved

LIMITS = (0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0)
"""Limits of the histograms' buckets, in seconds."""


@dataclass(slots=True)
class Durations:
    """How long something took that is done again and again.

    Attributes:
        count: How often it was done.
        seconds: How long it took, all times together.
        within: How often it took so long at most, for each of LIMITS.
    """

    count: int = 0
    seconds: float = 0.0
    within: list[int] = field(default_factory=lambda: [0] * len(LIMITS))

    def add(self, seconds: float) -> None:
        """Count one time more."""
        self.count += 1
        self.seconds += seconds
        for place, limit in enumerate(LIMITS):
            self.within[place] += seconds <= limit


class Failure(NamedTuple):
    """A kind of failure.

    Attributes:
        verb: What was to be done.
        check: The check that has failed; empty if it was none of the preflight's.
        error: The name of the error's class.
    """

    verb: str
    check: str
    error: str


class Counters:
    """The counters. To count never waits for more than another thread's counting.

    Attributes:
        started_at: Since when it is counted.
        calls: How often each verb was called, by others than our own command and watchdog.
        failures: How often each kind of failure has occurred: in calls, whoever made them, and in unmounts, whose
            failure ends no call.
        mounts: From a Mount's arrival until the volume can be used, where it was not mounted before, without the wait
            for a server that is not up yet.
        checks: Each check of the preflight, whether it has passed or not.
        unmounts: How many volumes were unmounted since nobody used them.
    """

    def __init__(self) -> None:
        self.started_at = datetime.now(UTC)
        self.calls: Counter[str] = Counter()
        self.failures: Counter[Failure] = Counter()
        self.mounts = Durations()
        self.checks = {check.label: Durations() for check in Check}
        self.unmounts = 0
        self._counting = threading.Lock()

    def called(self, verb: str) -> None:
        """Count a call."""
        with self._counting:
            self.calls[verb] += 1

    def failed(self, verb: str, error: Exception) -> None:
        """Count a call that ends with an error, or an unmount that has failed."""
        check = error.check if isinstance(error, errors.PluginError) else ""
        with self._counting:
            self.failures[Failure(verb, check, type(error).__name__)] += 1

    def mounted(self, seconds: float) -> None:
        """Count a mount that took so long."""
        with self._counting:
            self.mounts.add(seconds)

    def unmounted(self) -> None:
        """Count an unmount."""
        with self._counting:
            self.unmounts += 1

    @contextmanager
    def check(self, check: Check) -> Iterator[Note]:
        """Observe a check of the preflight, and note in its error which one it was."""
        began = time.monotonic()
        try:
            with unobserved(check) as note:
                yield note
        except errors.PluginError as error:
            error.check = check.label
            raise
        finally:
            with self._counting:
                self.checks[check.label].add(time.monotonic() - began)
