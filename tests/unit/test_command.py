# SPDX-License-Identifier: MIT
"""Running the distribution's programs: real ones, and some made for the occasion."""

import logging
from pathlib import Path

import pytest
from support import fakes

from sshfs_plugin import command, errors


def test_run_returns_status_and_both_outputs(programs: fakes.Programs) -> None:
    programs.add("tool", "echo out; echo err >&2; exit 3")
    job = command.run(["tool", "a b", Path("/c")], seconds=fakes.PATIENCE)
    assert (job.returncode, job.stdout, job.stderr) == (3, "out\n", "err\n")
    assert programs.calls("tool") == ["a b /c"]


def test_programs_get_a_small_environment_and_nothing_of_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    job = command.run(["env"], seconds=fakes.PATIENCE, environment={"EXTRA": "1"})
    variables = dict(line.split("=", 1) for line in job.stdout.splitlines())
    assert set(variables) == {"PATH", "HOME", "LC_ALL", "EXTRA"}
    assert variables["LC_ALL"] == "C.UTF-8"


def test_programs_find_nothing_on_their_input() -> None:
    assert command.run(["cat"], seconds=fakes.PATIENCE).stdout == ""
    assert command.output_within(["cat"], seconds=fakes.PATIENCE) == ""


def test_output_that_is_no_text_is_still_shown() -> None:
    assert command.run(["printf", r"\377"], seconds=fakes.PATIENCE).stdout == "\N{REPLACEMENT CHARACTER}"


def test_run_ends_a_program_at_its_limit() -> None:
    with pytest.raises(errors.ProgramStuck, match="sleep did not end within 0 seconds: is this host overloaded"):
        command.run(["sleep", "60"], seconds=0.05)


def test_run_of_a_program_that_is_not_installed_raises() -> None:
    with pytest.raises(FileNotFoundError, match="/nowhere/program"):
        command.run(["/nowhere/program"], seconds=fakes.PATIENCE)


def test_commands_are_logged_in_a_form_to_paste(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        command.run(["true", "a b"], seconds=fakes.PATIENCE)
    assert caplog.messages == ["running true 'a b'"]


def test_output_within_gives_the_output_of_a_success() -> None:
    assert command.output_within(["echo", "yes"], seconds=fakes.PATIENCE) == "yes\n"


def test_output_within_gives_nothing_after_a_failure(capfd: pytest.CaptureFixture[str]) -> None:
    assert command.output_within(["sh", "-c", "echo yes; echo no >&2; exit 1"], seconds=fakes.PATIENCE) is None
    assert capfd.readouterr().err == ""


# the process is left behind on purpose, since waiting for it could take for ever
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_output_within_does_not_wait_for_a_program_that_hangs() -> None:
    assert command.output_within(["sleep", "60"], seconds=0.05) is None
    hanging = len(command._left_behind)
    assert command.output_within(["sleep", "60"], seconds=60) is None, "at once, since the first one hangs still"
    assert len(command._left_behind) == hanging
