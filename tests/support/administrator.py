# SPDX-License-Identifier: MIT
"""Whoever types docker-volume-sshfs, inside the test process."""

import inspect
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner

from sshfs_plugin.cli.commands import NAME, command_line
from sshfs_plugin.settings import Settings

_APART: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
"""Before 8.2, click has to be told not to mix what goes to stderr with the rest."""


@dataclass(frozen=True)
class Said:
    """What the command has answered.

    Attributes:
        code: The exit code.
        out: What it printed.
        err: What it complained about.
    """

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What it printed, line by line, without the times that things took."""
        return [" ".join(_timeless(line)) for line in self.out.splitlines()]


def _timeless(line: str) -> list[str]:
    words = line.split()
    return [
        word
        for word, before, after in zip(words, ["", *words], [*words[1:], ""], strict=False)
        if not (_is_time(word) and after == "s") and not (word == "s" and _is_time(before))
    ]


def _is_time(word: str) -> bool:
    return word.replace(".", "", 1).isdecimal() and "." in word


@dataclass(frozen=True)
class Administrator:
    """Types commands on a host of its own.

    Attributes:
        settings: Where that host keeps its things.
    """

    settings: Settings

    def __call__(self, *words: str, answer: str = "", charset: str = "utf-8") -> Said:
        """Type a command and answer its question."""
        runner = CliRunner(charset=charset, env=self.settings.environment(), **_APART)
        result = runner.invoke(command_line, list(words), input=answer, prog_name=NAME)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)
