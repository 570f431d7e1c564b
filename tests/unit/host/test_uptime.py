# SPDX-License-Identifier: MIT
"""For how long a host has been up, and since when a process runs."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from sshfs_plugin.host import uptime


def test_host_is_as_old_as_its_first_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = uptime.seconds()
    assert 0 < host <= time.clock_gettime(time.CLOCK_BOOTTIME)
    (tmp_path / "1").mkdir()
    shutil.copy("/proc/self/stat", tmp_path / "1/stat")
    monkeypatch.setattr(uptime, "_PROC", tmp_path)
    assert 0 <= uptime.seconds() < host, "this process was not the first"


def test_host_whose_first_process_is_hidden_has_been_up_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uptime, "_PROC", tmp_path)
    assert uptime.seconds() > time.monotonic()


def test_process_is_told_from_another_by_its_start() -> None:
    ours = uptime.start_of(os.getpid())
    assert ours
    with subprocess.Popen(["sleep", "60"]) as later:
        started = uptime.start_of(later.pid)
        later.kill()
    assert started
    assert ours < started <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert uptime.start_of(later.pid) is None


def test_process_lives_until_it_ends_and_another_of_its_number_does_not_count() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        identity = uptime.identity(process.pid)
        assert uptime.lives(identity)
        assert not uptime.lives(f"{process.pid} 0.01"), "one that had the number before"
        process.kill()
    assert not uptime.lives(identity)
    assert uptime.identity(process.pid) == ""


@pytest.mark.parametrize("identity", ["", "0 ", "812", "812 None", "-1 0.0"])
def test_process_of_no_identity_does_not_live(identity: str) -> None:
    assert not uptime.lives(identity)
