# SPDX-License-Identifier: MIT
"""Running the distribution's programs: real ones, and some made for the occasion."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import has_ended
from support.programs import Programs
from support.waiting import LIMIT_SECONDS, Background, await_that

from sshfs_plugin import errors
from sshfs_plugin.host import command


def test_run_returns_status_and_both_outputs(programs: Programs) -> None:
    programs.add("tool", "echo out; echo err >&2; exit 3")
    job = command.run(["tool", "a b", Path("/c")], seconds=LIMIT_SECONDS)
    assert (job.returncode, job.stdout, job.stderr) == (3, "out\n", "err\n")
    assert programs.calls("tool") == ["a b /c"]


def test_programs_get_a_small_environment_and_nothing_of_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    job = command.run(["env"], seconds=LIMIT_SECONDS, environment={"EXTRA": "1"})
    variables = dict(line.split("=", 1) for line in job.stdout.splitlines())
    assert set(variables) == {"PATH", "HOME", "LC_ALL", "EXTRA"}
    assert variables["LC_ALL"] == "C.UTF-8"


def test_programs_find_nothing_on_their_input() -> None:
    assert command.run(["cat"], seconds=LIMIT_SECONDS).stdout == ""


def test_output_that_is_no_text_is_still_shown() -> None:
    assert command.run(["printf", r"\377"], seconds=LIMIT_SECONDS).stdout == "\N{REPLACEMENT CHARACTER}"


def test_run_ends_a_program_at_its_limit() -> None:
    with pytest.raises(errors.ProgramStuck, match="sleep did not end within 0 seconds: is this host overloaded"):
        command.run(["sleep", "60"], seconds=0.05)


def test_run_notices_the_end_of_a_program_at_once(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_seconds: float) -> None:
        raise AssertionError("it looks again after a pause")

    programs.add("tool", "exec >&- 2>&-; sleep 0.2")  # it ends later than its output
    monkeypatch.setattr(time, "sleep", refuse)
    assert command.run(["tool"], seconds=LIMIT_SECONDS).returncode == 0


def test_run_where_the_kernel_does_not_tell_of_an_end_notices_it_all_the_same(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_pid: int) -> int:
        raise PermissionError

    programs.add("tool", "exec >&- 2>&-; sleep 0.2; exit 3")
    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert command.run(["tool"], seconds=LIMIT_SECONDS).returncode == 3


def test_run_of_a_program_that_is_not_installed_says_so() -> None:
    with pytest.raises(errors.ProgramNotStarted, match="^cannot start program, No such file or directory: "):
        command.run(["/nowhere/program"], seconds=LIMIT_SECONDS)


def test_commands_are_logged_in_a_form_to_paste(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        command.run(["true", "a b"], seconds=LIMIT_SECONDS)
    assert caplog.messages == ["running true 'a b'"]


def test_a_program_at_its_limit_is_ended(programs: Programs) -> None:
    programs.add("tool", 'echo $$ >"$HERE/pid"; exec sleep 60')
    for seconds in (0.5, 5, 50):  # a busy host may not have begun it sooner
        with pytest.raises(errors.ProgramStuck):
            command.run(["tool"], seconds=seconds)
        if programs.calls("tool"):
            break
    pid = int((programs.directory / "pid").read_text())
    await_that(lambda: has_ended(pid), lambda: "it goes on")


@pytest.fixture
def undead(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no signal end what is killed, until the test is over; tests of the integration tier have real ones."""
    monkeypatch.setattr(command, "_END_SECONDS", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(subprocess.Popen, "kill", lambda _: None)
        yield
    for process in command._left_behind:
        process.kill()
        process.wait(LIMIT_SECONDS)


@pytest.mark.usefixtures("undead")
def test_what_can_not_be_killed_is_not_waited_for_and_not_started_again(programs: Programs) -> None:
    programs.add("tool", "exec sleep 60")
    for _ in range(3):
        with pytest.raises(errors.ProgramStuck, match="tool did not end within 0 seconds"):
            command.run(["tool"], seconds=0.3)
    await_that(lambda: programs.calls("tool"), lambda: "it does not run")
    assert len(programs.calls("tool")) == 1
    (left,) = command._left_behind
    os.kill(left.pid, signal.SIGKILL)
    os.waitid(os.P_PID, left.pid, os.WEXITED | os.WNOWAIT)
    programs.add("tool", "echo well again")
    assert command.run(["tool"], seconds=LIMIT_SECONDS).stdout == "well again\n"
    assert command._left_behind == []


@pytest.mark.usefixtures("undead")
def test_many_threads_leave_programs_behind_and_none_is_lost(in_background: Background) -> None:
    calls = [in_background(command.run, ["sleep", str(60 + number)], seconds=0.05) for number in range(24)]
    assert all(isinstance(call.exception(), errors.ProgramStuck) for call in calls)
    assert len(command._left_behind) == 24
