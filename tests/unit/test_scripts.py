# SPDX-License-Identifier: MIT
"""The project's own scripts: what they say to words that they do not know. They do nothing then, and need no root."""

import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.parametrize("name", ["demo", "managed-plugin", "release", "test"])
def test_an_unknown_option_is_named_above_the_help(name: str) -> None:
    said = subprocess.run([SCRIPTS / name, "--foo"], capture_output=True, text=True, timeout=30, check=False)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith(f"{name}: there is no option --foo\n")
    assert f"scripts/{name}" in said.stderr


@pytest.mark.parametrize("name", ["demo", "managed-plugin", "release", "test"])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_the_help_is_no_complaint(name: str, option: str) -> None:
    said = subprocess.run([SCRIPTS / name, option], capture_output=True, text=True, timeout=30, check=False)
    assert (said.returncode, said.stderr) == (0, "")
    assert f"scripts/{name}" in said.stdout
