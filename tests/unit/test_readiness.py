# SPDX-License-Identifier: MIT
"""The report that a mount is usable, against a real socket."""

import array
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import fakes

from sshfs_plugin import readiness


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Give the socket at which systemd would listen, of both kinds that it can be."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        if request.param == "path":
            listening.bind(address := str(tmp_path / "notify"))
        else:
            listening.bind("")  # the kernel chooses an abstract name
            address = "@" + listening.getsockname().decode().removeprefix("\0")
        listening.settimeout(fakes.PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield listening


def _received(manager: socket.socket) -> tuple[bytes, list[int]]:
    message, passed, _, _ = manager.recvmsg(100, socket.CMSG_SPACE(4))
    return message, [descriptor for _, _, data in passed for descriptor in array.array("i", data)]


def test_announce_stays_until_the_report_was_read(manager: socket.socket, in_background: fakes.Background) -> None:
    announcing = in_background(readiness.announce)
    assert _received(manager) == (b"READY=1", [])
    barrier, descriptors = _received(manager)
    assert barrier == b"BARRIER=1"
    assert len(descriptors) == 1
    assert not announcing.done()
    os.close(descriptors[0])
    announcing.result()


def test_announce_ends_when_the_report_is_thrown_away(manager: socket.socket, in_background: fakes.Background) -> None:
    announcing = in_background(readiness.announce)
    assert [manager.recv(100), manager.recv(100)] == [b"READY=1", b"BARRIER=1"]
    announcing.result()


def test_announce_does_not_wait_for_ever(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_BARRIER_SECONDS", 0)
    readiness.announce()
    assert manager.recv(100) == b"READY=1"


def test_announce_without_anybody_to_tell_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    readiness.announce()


def test_announce_to_a_listener_that_has_gone_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    readiness.announce()


def test_announce_ends_when_the_listener_goes_with_its_report(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = os.pipe

    def pipe_when_the_report_was_read() -> tuple[int, int]:
        manager.close()
        return pipe()

    monkeypatch.setattr(os, "pipe", pipe_when_the_report_was_read)
    readiness.announce()
