# SPDX-License-Identifier: MIT
"""What was measured, and the file that keeps it."""

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

SIDES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "volumes": ("volume", "bare sshfs", "rclone"),
        "service": ("service",),
        "connections": ("shared connection", "own connection"),
        "relay": ("with the relay", "without"),
    }
)
"""Each table of figures, and what is compared there: the first with each of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What was measured of one kind of work.

    Attributes:
        row: The name by which it can be measured again.
        table: The table in which it stands; its sides are those of ``SIDES``.
        work: What was done.
        unit: Of the samples.
        samples: What each round has given, by side. A side that can't do the work is missing.
        round_trip: Milliseconds to the server and back, but for those of the host itself; None if no server took part.
        volumes: How many volumes took part in each sample.
        only_plotted: Whether it is a point of a plot and not a line of a table.
    """

    row: str
    table: str
    work: str
    unit: str
    samples: Mapping[str, tuple[float, ...]]
    round_trip: int | None = None
    volumes: int = 1
    only_plotted: bool = False

    def median(self, side: str) -> float | None:
        """Return the median of a side, if it was measured."""
        return statistics.median(self.samples[side]) if side in self.samples else None

    @property
    def ratios(self) -> tuple[float | None, ...]:
        """The median of the first side, divided by that of each other one."""
        first, *others = map(self.median, SIDES[self.table])
        return tuple(first / other if first and other else None for other in others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A run of the benchmark.

    Attributes:
        machine: What it ran on, and the versions of what took part.
        figures: In the order of the table.
    """

    machine: Mapping[str, str]
    figures: tuple[Figure, ...]

    def to_json(self) -> str:
        """Return the text of a file, with a line for each figure."""
        lines = ",\n".join(json.dumps(_to_object(figure)) for figure in self.figures)
        return f'{{"machine": {json.dumps(self.machine, indent=1)},\n"figures": [\n{lines}\n]}}\n'

    @classmethod
    def from_json(cls, text: str) -> "Result":
        """Return what such a file has."""
        read = json.loads(text)
        return cls(machine=read["machine"], figures=tuple(map(_from_object, read["figures"])))

    def updated(self, later: "Result", rows: Iterable[str]) -> "Result":
        """Return this result with the figures of a later run in place of its own, in the given order of all rows.

        Raises:
            ValueError: The two can't be compared, since something else took part.
        """
        if self.machine != later.machine:
            raise ValueError(f"not the same machine and versions: {dict(self.machine)}, and now {dict(later.machine)}")
        measured = {figure.row for figure in later.figures}
        figures = [figure for figure in self.figures if figure.row not in measured] + [*later.figures]
        order = list(rows)
        return Result(machine=self.machine, figures=tuple(sorted(figures, key=lambda figure: order.index(figure.row))))


def shown(value: float) -> str:
    """Return a number with about three digits that count."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def _to_object(figure: Figure) -> dict[str, Any]:
    samples = {side: [float(f"{sample:.5g}") for sample in taken] for side, taken in figure.samples.items()}
    medians = {side: float(f"{statistics.median(taken):.5g}") for side, taken in samples.items()}
    return {**asdict(figure), "samples": samples, "medians": medians}


def _from_object(read: Mapping[str, Any]) -> Figure:
    values: dict[str, Any] = {name: value for name, value in read.items() if name != "medians"}
    values["samples"] = {side: tuple(taken) for side, taken in read["samples"].items()}
    return Figure(**values)
