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


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ("sshkey.source=/root/.ssh",),
            "sshkey.source=/root/.ssh is a setting: say the plugin's name before it, sshfs",
        ),
        (
            ("nas", "DEBUG=1", "sshkeys.source=/root/.ssh"),
            "there is no setting sshkeys.source=/root/.ssh: the settings are DEBUG, sshkey.source and state.source",
        ),
        (("nas", "DEBUG"), "there is no setting DEBUG: the settings are DEBUG, sshkey.source and state.source"),
        (("nas_1.deb", "sshfs"), "sshfs_1.deb and nas_1.deb are two packages: name one"),
    ],
)
def test_words_that_make_no_managed_plugin_are_refused_at_once(words: tuple[str, ...], complaint: str) -> None:
    argv = [str(SCRIPTS / "managed-plugin"), "sshfs_1.deb", *words]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (1, "", f"managed-plugin: {complaint}\n")
