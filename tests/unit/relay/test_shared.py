# SPDX-License-Identifier: MIT
"""A session on a shared connection: whether one is asked for, and what is done when none begins."""

import os
import socket
import threading
from pathlib import Path

import pytest
from support.waiting import LIMIT_SECONDS

from sshfs_plugin.relay import shared
from sshfs_plugin.relay.ssh import Ssh

GREETING = b"\0\0\0\5\1\0\0\0\3"


@pytest.fixture
def connection(tmp_path: Path) -> Path:
    directory = tmp_path / "connection"
    directory.mkdir()
    return directory


def ssh(tmp_path: Path, script: str) -> list[str]:
    program = tmp_path / "ssh"
    program.write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/asked\n{script}\n')
    program.chmod(0o755)
    return [str(program), "-s", "nas", "sftp"]


def session(command: list[str], directory: Path) -> Ssh:
    begun = shared.begin_session(command, str(directory))
    assert begun is not None
    begun.send(GREETING)
    return begun


def test_session_is_asked_of_the_connection_and_of_nobody_else(tmp_path: Path, connection: Path) -> None:
    (connection / "socket").touch()
    begun = session(ssh(tmp_path, "exec head -c 9"), connection)
    assert shared.has_begun(begun, str(connection))
    assert os.read(begun.descriptor, 100) == GREETING
    begun.end()
    asked = (tmp_path / "asked").read_text().split()
    assert asked == [f"-oControlPath={connection}/socket", "-oProxyCommand=false", "-s", "nas", "sftp"]


def test_session_that_is_refused_has_not_begun_and_the_connection_is_well(tmp_path: Path, connection: Path) -> None:
    (connection / "socket").touch()
    begun = session(ssh(tmp_path, "exit 255"), connection)
    assert not shared.has_begun(begun, str(connection))
    assert begun.end() == 255
    assert not (connection / "hung").exists()


def test_connection_that_begins_no_session_counts_as_hung(
    tmp_path: Path, connection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "SESSION_SECONDS", 0.05)
    (connection / "socket").touch()
    begun = session(ssh(tmp_path, "exec sleep 1000"), connection)
    assert not shared.has_begun(begun, str(connection))
    begun.end()
    assert (connection / "hung").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["", "gone", "connection"])
def test_no_session_is_asked_for_where_there_is_no_connection(tmp_path: Path, connection: Path, name: str) -> None:
    """It was never to be shared, or has ended, or takes no further session and is about to end."""
    directory = str(tmp_path / name) if name else ""
    assert shared.begin_session(ssh(tmp_path, ""), directory) is None


def test_connection_that_is_being_made_is_waited_for(tmp_path: Path, connection: Path) -> None:
    (connection / "making").touch()
    command, begun = ssh(tmp_path, "exec cat"), []
    waiting = threading.Thread(target=lambda: begun.append(shared.begin_session(command, str(connection))))
    waiting.start()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(connection / "socket"))
        waiting.join(LIMIT_SECONDS)
    (found,) = begun
    assert found
    found.end()


@pytest.mark.parametrize("in_time", [True, False])
def test_connection_that_cannot_be_made_is_told(
    tmp_path: Path, connection: Path, monkeypatch: pytest.MonkeyPatch, in_time: bool
) -> None:
    """A login by the volume itself would be one more that is refused."""
    (connection / "making").touch()
    monkeypatch.setattr(shared, "MAKING_SECONDS", LIMIT_SECONDS if in_time else 0.05)
    if in_time:
        threading.Timer(0.05, (connection / "making").unlink).start()
    with pytest.raises(shared.NotMade):
        shared.begin_session(ssh(tmp_path, ""), str(connection))
