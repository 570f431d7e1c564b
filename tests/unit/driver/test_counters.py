# SPDX-License-Identifier: MIT
"""What is counted of the checks of a preflight."""

import pytest

from sshfs_plugin import errors
from sshfs_plugin.driver.counters import LIMITS, Counters, Durations
from sshfs_plugin.preflight.checks import Check


def test_duration_counts_within_each_limit_that_it_does_not_exceed() -> None:
    durations = Durations()
    for seconds in (LIMITS[0], 2.0, 100.0):
        durations.add(seconds)
    assert (durations.count, durations.seconds) == (3, 102.05)
    assert durations.within == [1, 1, 1, 1, 1, 2, 2, 2]


def test_check_that_fails_is_counted_and_named_in_its_error() -> None:
    counters, error = Counters(), errors.HostKeyChanged("the key has changed")
    with counters.check(Check.NAME):
        pass
    with pytest.raises(errors.HostKeyChanged), counters.check(Check.HOST_KEY):
        raise error
    assert error.check == "host_key"
    made = {check: durations.count for check, durations in counters.checks.items() if durations.count}
    assert made == {"name": 1, "host_key": 1}
