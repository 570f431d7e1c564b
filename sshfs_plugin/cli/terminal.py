# SPDX-License-Identifier: MIT
"""Prints the command's lines, tables and colours, for terminals that have these and for those that do not.

Much of the text comes from servers. Unprintable characters are replaced, since terminals obey escape sequences.
"""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import click  # noqa: TID251 (this is the place, with commands.py)

from sshfs_plugin import errors
from sshfs_plugin.errors import printable

_CHECK_MARK, _CROSS = "✓", "✗"


def say(text: str = "", *, colour: str | None = None, error: bool = False) -> None:
    """Print a line; the colour is for terminals alone."""
    shown = printable(text)
    _print(click.style(shown, fg=colour) if colour else shown, error=error)


def say_text(text: str) -> None:
    """Print lines for programs."""
    _print(text, nl=False)


def say_json(value: Any) -> None:
    """Print a value for programs."""
    _print(json.dumps(value, indent=2))


def step(name: str, seconds: float, found: str, *, holds: bool) -> None:
    """Print whether one of several steps has passed, how long it took, and what it has found."""
    mark = click.style(_mark(holds), fg="green" if holds else "red")
    _print(f"{mark} {printable(name):<15} {seconds:6.2f} s  {printable(found)}".rstrip())


def judged(text: str, word: str, *, colour: str) -> None:
    """Print a line after a word that judges it."""
    _print(f"{click.style(f'{word:<8}', fg=colour)}{printable(text)}")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below a header, each column as wide as it must be."""
    shown = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in shown) for column in range(len(header))]
    for row in shown:
        _print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def heading(text: str) -> None:
    """Print a blank line and a heading."""
    _print(f"\n{click.style(printable(text), bold=True)}")


def paragraph(text: str) -> None:
    """Print text below a heading, wrapped to the terminal's width."""
    formatter = click.HelpFormatter()
    with formatter.indentation():
        formatter.write_text(printable(text))
    _print(formatter.getvalue(), nl=False)


def pairs(rows: Sequence[tuple[str, str]]) -> None:
    """Print names with their texts, wrapped to the terminal's width."""
    formatter = click.HelpFormatter()
    with formatter.indentation():
        formatter.write_dl([(name, printable(text)) for name, text in rows])
    _print(formatter.getvalue(), nl=False)


def _print(text: str, *, nl: bool = True, error: bool = False) -> None:
    """Print to one of the two streams. Raises OutputUnwritable where that is a file on a full disk, as of cron jobs."""
    try:
        click.echo(text, nl=nl, err=error)
    except BrokenPipeError:  # whoever reads has enough, and click ends the command
        raise
    except OSError as problem:
        # Python would try once more at the end, and print a traceback
        os.dup2(os.open(os.devnull, os.O_WRONLY), (sys.stderr if error else sys.stdout).fileno())
        if not error:
            raise errors.OutputUnwritable("the output", problem.strerror, "is it on a disk with room?") from problem


def _mark(holds: bool) -> str:
    """Return a check mark or a cross where the encoding has them, else words of equal width."""
    try:
        (_CHECK_MARK + _CROSS).encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return "ok    " if holds else "FAILED"
    return _CHECK_MARK if holds else _CROSS
