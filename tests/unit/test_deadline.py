# SPDX-License-Identifier: MIT
"""How long callers wait."""

import time

import pytest

from sshfs_plugin.deadline import Deadline, time_limit


def test_left_when_nothing_limits_it_is_the_time_until_the_deadline() -> None:
    assert Deadline.after(50).left() == pytest.approx(50, abs=1)


def test_left_when_a_step_has_a_shorter_limit_is_that_limit() -> None:
    assert Deadline.after(50).left(10) == 10


def test_left_when_the_deadline_is_nearer_than_the_limit_of_a_step_is_the_deadline() -> None:
    assert Deadline.after(5).left(10) == pytest.approx(5, abs=1)


def test_left_when_the_deadline_has_passed_is_zero_and_never_negative() -> None:
    passed = Deadline(time.monotonic() - 100)
    assert passed.left() == 0
    assert passed.left(10) == 0


def test_time_limit_is_never_one_that_means_not_to_wait() -> None:
    assert time_limit(0) > 0
    assert time_limit(5) == 5
