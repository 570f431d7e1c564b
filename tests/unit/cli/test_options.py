# SPDX-License-Identifier: MIT
"""docker-volume-sshfs options: what a volume can have, and why not the rest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.administrator import Administrator

from sshfs_plugin.host import journal
from sshfs_plugin.options.table import IGNORED, REFUSED, TABLE, TOPICS


def test_options_explains_every_option_and_why_others_can_not_be(administrator: Administrator) -> None:
    said = administrator("options")
    assert said.code == 0
    text = " ".join(said.out.split())
    for topic in TOPICS:
        assert f" {topic.title} {topic.rows[0].name}" in f" {text}"
    for option in TABLE:
        assert f" {option.name}" in text
        assert option.meaning.replace("`", "").split(".")[0] in text
    for name, reason in (*REFUSED.items(), *IGNORED.items()):
        assert name in text
        assert f": {reason}." in text
    assert "`" not in said.out
    assert max(map(len, said.out.splitlines())) <= 80


def test_options_of_one_option_has_its_default_and_other_spellings(administrator: Administrator) -> None:
    said = administrator("options", "stricthostkeychecking")
    assert said.code == 0
    text = " ".join(said.out.split())
    assert text.startswith("host_key_check=accept-new|yes|no accept-new trusts a server at the")
    assert text.endswith("Default: accept-new. Also: StrictHostKeyChecking.")
    assert " Its opposite: rw." in " ".join(administrator("options", "ro").out.split())


def test_options_of_one_that_is_ignored_says_why(administrator: Administrator) -> None:
    said = administrator("options", "nodev")
    assert (said.code, said.out) == (0, "nodev is accepted and changes nothing about a volume: it is always so.\n")


def test_options_are_listed_by_a_page_where_there_is_neither_journal_nor_man_page(
    administrator: Administrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "JOURNAL", Path("/nowhere"))
    assert administrator("options", "zzzz").err == (
        "docker-volume-sshfs: unknown option 'zzzz': options.md in the plugin's documentation lists the "
        "options that a volume can have\n"
    )


@pytest.mark.parametrize(
    ("name", "error"),
    [
        (
            "proxycommand",
            "option 'ProxyCommand' is refused: it would run a command of the volume's creator as root on this host",
        ),
        ("identityfle", "unknown option 'identityfle': did you mean 'IdentityFile'?"),
        ("", "unknown option '': man docker-volume-sshfs lists the options that a volume can have"),
    ],
)
def test_options_that_a_volume_can_not_have_end_with_two(administrator: Administrator, name: str, error: str) -> None:
    said = administrator("options", name)
    assert (said.code, said.out) == (2, "")
    assert said.err.lower() == f"docker-volume-sshfs: {error}\n".lower()


def test_options_is_for_everybody(administrator: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert administrator("options", "gid").out == "  gid=number  Every file appears to belong to this group.\n"


def test_letters_that_the_terminal_does_not_have_end_nothing(administrator: Administrator) -> None:
    environment = {**os.environ, **administrator.settings.environment(), "PYTHONIOENCODING": "latin-1"}
    program = (sys.executable, "-m", "sshfs_plugin.cli", "options", "x-größe-日本")
    said = subprocess.run(program, env=environment, capture_output=True, check=True).stdout.decode("latin-1")
    assert said.startswith("x-größe-?? is accepted and changes nothing about a volume: ")


@pytest.mark.parametrize(
    ("full", "said"),
    [
        ("", "docker-volume-sshfs: cannot write the output, No space left on device: is it on a disk with room?\n"),
        ("2>&1", ""),
    ],
)
def test_output_to_a_full_disk_is_an_error_of_one_line(administrator: Administrator, full: str, said: str) -> None:
    environment = {**os.environ, **administrator.settings.environment()}
    program = ("sh", "-c", f'exec "$@" >/dev/full {full}', "sh", sys.executable, "-m", "sshfs_plugin.cli", "options")
    ended = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", said)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_keeps_no_command_from_its_work(administrator: Administrator, closed: str) -> None:
    environment = {**os.environ, **administrator.settings.environment()}

    def typed(*words: str) -> tuple[int, str, str]:
        program = ("sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "sshfs_plugin.cli", *words)
        said = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
        return said.returncode, said.stdout, said.stderr

    printed = "" if " >&-" in f" {closed}" else "  gid=number  Every file appears to belong to this group.\n"
    complained = "" if "2>&-" in closed else "docker-volume-sshfs: unknown option 'gidd': did you mean 'gid'?\n"
    assert typed("options", "gid") == (0, printed, "")
    assert typed("options", "gidd") == (2, "", complained)
    code, _, complaint = typed("status", "--compare", "-")
    assert (code, "Traceback" in complaint) == (2, False), "what it reads has ended at once"
