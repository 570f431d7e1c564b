# SPDX-License-Identifier: MIT
"""Plots of a result, as SVG: the same text for the same result, whatever is installed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType

from .figures import SIDES, Figure, Result, shown

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 130, 40, 50
FONT = 'font-family="sans-serif" font-size="13"'
COLOURS: Mapping[str, str] = MappingProxyType({"volume": "#0072b2", "bare sshfs": "#d55e00", "rclone": "#009e73"})
"""Of each side; people who see few colours can tell these apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A plot.

    Attributes:
        title: What it shows, with the unit.
        across: What grows from left to right, with the unit.
        work: Which figures it shows.
        position: Where from left to right each belongs.
    """

    title: str
    across: str
    work: str
    position: Callable[[Figure], float]


PLOTS: Mapping[str, Plot] = MappingProxyType(
    {
        "performance-mounts.svg": Plot(
            title="Seconds until all are mounted, at once",
            across="volumes",
            work="Mounts at once",
            position=lambda figure: figure.volumes,
        ),
        "performance-read.svg": Plot(
            title="Sequential read, MB/s",
            across="round-trip time, ms",
            work="sequential read",
            position=lambda figure: figure.round_trip or 0,
        ),
    }
)
"""Each plot by the name of its file."""


def drawn(plot: Plot, result: Result) -> str:
    """Return a plot as SVG: the medians, and how far apart the samples were."""
    figures = sorted((figure for figure in result.figures if figure.work == plot.work), key=plot.position)
    highest = max(max(taken) for figure in figures for taken in figure.samples.values())
    wide, high = plot.position(figures[-1]), _steps(highest)[-1]

    def x(figure: Figure) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * plot.position(figure) / wide

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / high

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(plot.title)}</text>',
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, plot.across, "middle"),
    ]
    for step in _steps(highest):
        lines.append(f'<path d="M{LEFT} {y(step):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        lines.append(_text(LEFT - 8, y(step) + 4, f"{step:g}", "end"))
    lines += [_text(x(figure), HEIGHT - BOTTOM + 20, f"{plot.position(figure):g}", "middle") for figure in figures]
    ends = []
    for side in SIDES["volumes"]:
        measured = [
            (x(figure), figure.samples[side], figure.median(side)) for figure in figures if side in figure.samples
        ]
        if not measured:
            continue
        points = [(across, y(median)) for across, _, median in measured if median is not None]
        path = "L".join(f"{across:.1f} {down:.1f}" for across, down in points)
        lines.append(f'<g stroke="{COLOURS[side]}" fill="none" stroke-width="2"><path d="M{path}"/>')
        lines += [f'<path d="M{across:.1f} {y(min(taken)):.1f}V{y(max(taken)):.1f}"/>' for across, taken, _ in measured]
        lines += [f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3"/>' for across, down in points] + ["</g>"]
        ends.append((points[-1][1], side, shown(measured[-1][2] or 0)))
    for down, (_, side, value) in zip(_apart([end[0] for end in sorted(ends)]), sorted(ends), strict=True):
        lines.append(_text(WIDTH - RIGHT + 8, down + 4, f"{side} {value}", "start", COLOURS[side]))
    return "\n".join([*lines, "</svg>\n"])


def _text(x: float, y: float, text: str, anchor: str, colour: str = "black") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


def _steps(highest: float) -> list[float]:
    """Return round numbers from 0 to the first that is not lower."""
    power = 1.0
    while power * 10 < highest:
        power *= 10
    while power > highest:
        power /= 10
    step = next(step for step in (power / 5, power / 2, power, power * 2, power * 5) if step * 6 >= highest)
    return [step * number for number in range(int(-(-highest // step)) + 1)]


def _apart(heights: Sequence[float], distance: float = 16) -> list[float]:
    """Move what stands too close together down, in order, so that it can be read."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + distance) if moved else height)
    return moved
