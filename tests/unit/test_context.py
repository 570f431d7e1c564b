# SPDX-License-Identifier: MIT
"""What log lines are about."""

import pytest
from support.waiting import Background

from sshfs_plugin import context


def test_nothing_is_the_subject_at_first() -> None:
    assert context.subject() == {}


def test_inner_work_adds_to_the_subject_of_the_outer_and_takes_it_away_again() -> None:
    with context.about(VERB="Mount", VOLUME="photos"):
        with context.about(MOUNT_ID="4f61"):
            assert context.subject() == {"VERB": "Mount", "VOLUME": "photos", "MOUNT_ID": "4f61"}
        assert context.subject() == {"VERB": "Mount", "VOLUME": "photos"}
    assert context.subject() == {}


def test_empty_fields_are_left_out() -> None:
    with context.about(VERB="List", VOLUME="", MOUNT_ID=""):
        assert context.subject() == {"VERB": "List"}


def test_subject_ends_with_work_that_failed() -> None:
    with pytest.raises(ZeroDivisionError), context.about(VERB="Mount"):
        raise ZeroDivisionError
    assert context.subject() == {}


def test_one_thread_does_not_see_the_subject_of_another(in_background: Background) -> None:
    with context.about(VERB="Mount"):
        assert in_background(context.subject).result() == {}
