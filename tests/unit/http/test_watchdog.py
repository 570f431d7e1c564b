# SPDX-License-Identifier: MIT
"""What systemd hears of a service that answers, and of one that does not."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import LIMIT_SECONDS

from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.http import watchdog

LIMIT_MICROSECONDS = "200000"


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Give the socket at which systemd listens, for a service that is to be alive every fifth of a second."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(LIMIT_SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", LIMIT_MICROSECONDS)
        yield listening


def test_service_that_answers_is_alive_and_counts_no_call(
    manager: socket.socket, address: Path, driver: Driver
) -> None:
    end = watchdog.start((f"unix://{address}",), has_tls=False)
    assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    end.set()
    assert driver.counters.calls == {}


def test_service_that_takes_calls_and_answers_none_is_not(manager: socket.socket, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        silent.settimeout(LIMIT_SECONDS)
        end = watchdog.start((f"unix://{tmp_path}/silent",), has_tls=False)
        for _ in range(2):
            asked, _address = silent.accept()
            with asked:
                asked.settimeout(LIMIT_SECONDS)
                while asked.recv(4096):
                    pass  # until it gives up
        end.set()
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_service_that_wants_certificates_only_is_asked_nothing_and_taken_for_alive(manager: socket.socket) -> None:
    end = watchdog.start(("tcp://127.0.0.1:1",), has_tls=True)
    assert manager.recv(100) == b"WATCHDOG=1"
    end.set()


def test_service_is_not_watched_where_systemd_does_not_want_to_know(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, address: Path
) -> None:
    monkeypatch.delenv("WATCHDOG_USEC")
    before = {thread.name for thread in threading.enumerate()}
    watchdog.start((f"unix://{address}",), has_tls=False)
    assert {thread.name for thread in threading.enumerate()} == before
    manager.setblocking(False)
