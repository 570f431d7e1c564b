# SPDX-License-Identifier: MIT
"""What was measured, as a file, and measured again."""

import json

import pytest
from benchmark.figures import Figure, Result, shown

READ = Figure(
    row="read",
    table="volumes",
    work="sequential read",
    unit="MB/s",
    samples={"volume": (200.0, 300.0, 250.0), "bare sshfs": (125.0, 100.0, 150.0)},
    round_trip=20,
)
MOUNT = Figure(row="mount", table="volumes", work="Mount", unit="ms", samples={"volume": (40.0,)}, volumes=100)
RESULT = Result(machine={"kernel": "6.1", "sshfs": "3.7.3"}, figures=(MOUNT, READ))


def test_a_result_is_the_same_when_it_was_written_and_read() -> None:
    assert Result.from_json(RESULT.to_json()) == RESULT


def test_the_file_has_the_medians_for_others_to_read() -> None:
    assert json.loads(RESULT.to_json())["figures"][1]["medians"] == {"volume": 250.0, "bare sshfs": 125.0}


def test_ratios_are_those_of_the_medians_and_missing_where_nothing_was_measured() -> None:
    assert READ.ratios == (2.0, None)


def test_a_row_that_is_measured_again_takes_the_place_of_its_figures() -> None:
    again = Figure(row="mount", table="volumes", work="Mount", unit="ms", samples={"volume": (50.0,)})
    later = Result(machine=RESULT.machine, figures=(again,))
    assert RESULT.updated(later, ["mount", "read"]).figures == (again, READ)
    assert RESULT.updated(later, ["read", "mount"]).figures == (READ, again)


def test_figures_of_another_machine_or_version_are_not_mixed_in() -> None:
    later = Result(machine={**RESULT.machine, "sshfs": "3.7.6"}, figures=())
    with pytest.raises(ValueError, match=r"^not the same machine and versions: .*3\.7\.3.*, and now .*3\.7\.6"):
        RESULT.updated(later, ["mount", "read"])


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1,234"), (285.4, "285"), (44.44, "44.4"), (8.666, "8.67"), (0.094, "0.09")]
)
def test_numbers_are_shown_with_the_digits_that_count(value: float, text: str) -> None:
    assert shown(value) == text
