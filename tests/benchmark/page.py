# SPDX-License-Identifier: MIT
"""The parts of ``docs/performance.md`` that are made from a result."""

import re
from collections.abc import Iterable

from .figures import SIDES, Figure, Result, shown


def filled(page: str, result: Result) -> str:
    """Return the page with the tables of a result, each between the two comments that name it."""
    parts = {"machine": _table(["", ""], list(result.machine.items()))}
    for table in SIDES:
        figures = [figure for figure in result.figures if figure.table == table and not figure.only_plotted]
        parts[table] = _figures(table, figures)
    for name, text in parts.items():
        pattern = rf"(?s)(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->\n)"
        page = re.sub(pattern, text.replace("\\", r"\\"), page)
    return page


def described(figure: Figure) -> str:
    """Return a figure as a line for a terminal."""
    line = f"{_work(figure):<58}{_round_trip(figure):>6}"
    for side, ratio in zip(SIDES[figure.table], (None, *figure.ratios), strict=True):
        if (median := figure.median(side)) is not None:
            line += f"  {side} {shown(median)} {figure.unit}" + (f" ({shown(ratio)})" if ratio else "")
    return line


def _figures(table: str, figures: Iterable[Figure]) -> str:
    first, *others = SIDES[table]
    heads = ["work", "round trip", first, *others, *(f"{first} : {other}" for other in others)]
    rows = []
    for figure in figures:
        medians = [figure.median(side) for side in SIDES[table]]
        cells = [f"{shown(median)} {figure.unit}" if median is not None else "-" for median in medians]
        ratios = [shown(ratio) if ratio is not None else "-" for ratio in figure.ratios]
        rows.append((_work(figure), _round_trip(figure), *cells, *ratios))
    if not any(round_trip for _, round_trip, *_ in rows):
        heads, rows = heads[:1] + heads[2:], [row[:1] + row[2:] for row in rows]
    return _table(heads, rows)


def _table(heads: list[str], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _work(figure: Figure) -> str:
    return figure.work if figure.volumes == 1 else f"{figure.volumes:,} {figure.work}"


def _round_trip(figure: Figure) -> str:
    return "" if figure.round_trip is None else f"{figure.round_trip} ms"
