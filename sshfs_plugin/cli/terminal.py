# SPDX-License-Identifier: MIT
"""How the command looks: ticks, tables and colours, for terminals that have them and for those that do not.

Servers have a say in much of what is shown, so that nothing of it reaches the terminal that could steer it.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

import click  # noqa: TID251 (this is the place, with commands.py)

from sshfs_plugin.errors import tamed

_TICK, _CROSS = "✓", "✗"


def say(text: str = "", *, colour: str | None = None, error: bool = False) -> None:
    """Print a line; the colour is for terminals alone."""
    shown = tamed(text)
    click.echo(click.style(shown, fg=colour) if colour else shown, err=error)


def say_json(value: Any) -> None:
    """Print a value for programs."""
    click.echo(json.dumps(value, indent=2))


def step(name: str, seconds: float, found: str, *, holds: bool) -> None:
    """Print how one step of several went, how long it took, and what was found."""
    mark = click.style(_mark(holds), fg="green" if holds else "red")
    click.echo(f"{mark} {tamed(name):<15} {seconds:6.2f} s  {tamed(found)}".rstrip())


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below a header, each column as wide as it must be."""
    shown = [[tamed(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in shown) for column in range(len(header))]
    for row in shown:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def heading(text: str) -> None:
    """Print the heading of a part, apart from the one before."""
    click.echo(f"\n{click.style(tamed(text), bold=True)}")


def paragraph(text: str) -> None:
    """Print text below a heading, wrapped to the terminal's width."""
    formatter = click.HelpFormatter()
    with formatter.indentation():
        formatter.write_text(tamed(text))
    click.echo(formatter.getvalue(), nl=False)


def pairs(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and what belongs to them, wrapped to the terminal's width."""
    formatter = click.HelpFormatter()
    with formatter.indentation():
        formatter.write_dl([(name, tamed(text)) for name, text in rows])
    click.echo(formatter.getvalue(), nl=False)


def _mark(holds: bool) -> str:
    """Return a tick or a cross where the encoding has them, else words of one width."""
    try:
        (_TICK + _CROSS).encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return "ok    " if holds else "FAILED"
    return _TICK if holds else _CROSS
