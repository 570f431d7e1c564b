# SPDX-License-Identifier: MIT
"""Asking systemd for a start over the system bus; the bus is a stand-in, whose other end is a real one in the lab."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.system_bus import bus_at
from support.waiting import LIMIT_SECONDS

from sshfs_plugin import errors
from sshfs_plugin.host.system_bus import start_unit

MODE = "ignore-dependencies"


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the address of the system bus."""
    address = tmp_path / "bus"
    monkeypatch.setattr("sshfs_plugin.host.system_bus.ADDRESS", str(address))
    return address


@pytest.fixture
def said(address: Path) -> Iterator[list[bytes]]:
    """Give a bus that says these words, in answer to nothing, and hangs up when it has none left."""
    words: list[bytes] = []

    def say() -> None:
        with listening.accept()[0] as client:
            for word in words:
                client.recv(4096)
                client.sendall(word)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen()
        thread = threading.Thread(target=say)
        thread.start()
        yield words
        thread.join()


def test_unit_is_started(address: Path) -> None:
    asked: list[tuple[str, str]] = []

    def start(unit: str, mode: str) -> str:
        asked.append((unit, mode))
        return ""

    with bus_at(address, start):
        assert start_unit("a@b\\x2dc.service", mode=MODE, seconds=LIMIT_SECONDS) == ""
        assert start_unit("d.service", mode="replace", seconds=LIMIT_SECONDS) == ""
    assert asked == [("a@b\\x2dc.service", MODE), ("d.service", "replace")]


def test_refusal_is_told_in_the_words_of_systemd(address: Path) -> None:
    with bus_at(address, lambda unit, _: f"Unit {unit} is masked."):
        assert start_unit("a.service", mode=MODE, seconds=LIMIT_SECONDS) == "Unit a.service is masked."


def test_systemd_that_does_not_answer_is_waited_for_no_longer_than_was_said(address: Path) -> None:
    with bus_at(address, lambda *_: None), pytest.raises(errors.ProgramStuck, match="systemd did not end within 0 sec"):
        start_unit("a.service", mode=MODE, seconds=0.2)
    with pytest.raises(errors.ProgramStuck):
        start_unit("a.service", mode=MODE, seconds=0)


def test_host_without_a_system_bus_is_told_what_it_lacks(address: Path) -> None:
    assert start_unit("a.service", mode=MODE, seconds=LIMIT_SECONDS) == (
        f"systemd can't be asked at {address} ([Errno 2] No such file or directory): is dbus installed and running?"
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((b"",), "it has hung up"),
        ((b"REJECTED EXTERNAL\r\n",), "Authentication failed"),
        ((b"OK 0123456789abcdef\r\n", b""), "it has hung up"),
    ],
)
def test_bus_that_hangs_up_or_lets_nobody_in_is_named(
    address: Path, said: list[bytes], words: tuple[bytes, ...], why: str
) -> None:
    said.extend(words)
    refusal = start_unit("a.service", mode=MODE, seconds=LIMIT_SECONDS)
    assert refusal.startswith(f"systemd can't be asked at {address} ({why}")
