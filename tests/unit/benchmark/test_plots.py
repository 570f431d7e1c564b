# SPDX-License-Identifier: MIT
"""Plots show what was measured, and are the same each time."""

import re
from collections.abc import Mapping
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from benchmark.figures import Figure, Result
from benchmark.plots import PLOTS, drawn

READ = PLOTS["performance-read.svg"]


def result(**taken: Mapping[int, tuple[float, ...]]) -> Result:
    """Return reads by side and round-trip time."""
    distances = sorted({distance for by_distance in taken.values() for distance in by_distance})
    figures = [
        Figure(
            row="read",
            table="volumes",
            work="sequential read",
            unit="MB/s",
            samples={side: by_distance[distance] for side, by_distance in taken.items() if distance in by_distance},
            round_trip=distance,
        )
        for distance in distances
    ]
    return Result(machine={}, figures=tuple(figures))


def heights(svg: str) -> list[float]:
    """Return how far down the points of all lines are."""
    return [float(down) for down in re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)"', svg)]


def test_a_plot_of_figures_that_were_written_and_read_is_the_same() -> None:
    measured = result(volume={0: (200.0, 210.0), 20: (60.0, 61.0)}, rclone={0: (120.0,), 20: (50.0,)})
    assert drawn(READ, Result.from_json(measured.to_json())) == drawn(READ, measured)


def test_points_are_the_medians_and_lines_reach_from_the_least_to_the_most() -> None:
    svg = drawn(READ, result(volume={0: (100.0, 200.0, 120.0), 20: (0.0, 0.0)}))
    assert ElementTree.fromstring(svg).tag.endswith("svg")  # noqa: S314 (it is our own)
    bottom, top = 310.0, 40.0
    assert heights(svg) == [pytest.approx(bottom - (bottom - top) * 120 / 200, abs=0.1), bottom]
    assert f"{bottom - (bottom - top) * 100 / 200:.1f}V{top:.1f}" in svg


def test_a_side_that_was_measured_nowhere_is_left_out() -> None:
    svg = drawn(READ, result(volume={0: (100.0,), 20: (50.0,)}))
    assert ">volume 50.0<" in svg
    assert "rclone" not in svg


@pytest.mark.parametrize(
    ("highest", "steps"), [(8.1, "0 2 4 6 8 10"), (260, "0 50 100 150 200 250 300"), (0.4, "0 0.1 0.2 0.3 0.4")]
)
def test_the_scale_has_few_round_numbers(highest: float, steps: str) -> None:
    svg = drawn(READ, result(volume={0: (highest,), 20: (0.0,)}))
    assert " ".join(re.findall(r'text-anchor="end" fill="black">([\d.]+)<', svg)) == steps


def test_words_at_the_ends_of_lines_do_not_cover_each_other() -> None:
    svg = drawn(READ, result(**{"volume": {1: (50.0,)}, "bare sshfs": {1: (50.0,)}, "rclone": {1: (49.0,)}}))
    words = [float(down) for down in re.findall(r'y="([\d.]+)" text-anchor="start"', svg)]
    assert len(words) == 3
    assert min(abs(one - other) for one, other in pairwise(words)) >= 14
