# SPDX-License-Identifier: MIT
"""A relay with the test at both of its ends, and with a clock that can be put forward."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.relayed import Clock, Relayed, Server, Servers, Start
from support.waiting import LIMIT_SECONDS

from sshfs_plugin.relay import outage, relay, ssh

_NUMBERS = itertools.count()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """Give what the relay starts in place of ssh."""
    servers = Servers(tmp_path, name=f"relay-{os.getpid()}-{next(_NUMBERS)}")
    yield servers
    servers.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give the relay's clock. It is looked at often, and attempts may follow one another at once."""
    clock = Clock()
    monkeypatch.setattr(relay, "monotonic", clock)
    monkeypatch.setattr(relay, "CLOCK_SECONDS", 0.01)
    # it passes only where a test says so, however busy this host is
    monkeypatch.setattr(outage, "HOLD_SECONDS", 10.0)
    monkeypatch.setattr(outage, "LET_IN_SECONDS", 20.0)
    monkeypatch.setattr(outage, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(outage, "UNREACHED_SECONDS", 0.0)
    monkeypatch.setattr(ssh, "END_SECONDS", LIMIT_SECONDS)
    return clock


@pytest.fixture
def start(servers: Servers, tmp_path: Path, clock: Clock) -> Iterator[Start]:
    """Give a way to start a relay; each has ended at the end of the test."""
    started: list[Relayed] = []

    def starting(read_seconds: float = float("inf"), **settings: Any) -> Relayed:
        directory = tmp_path / f"volume-{len(started)}"
        directory.mkdir(exist_ok=True)
        started.append(Relayed(servers, directory / "outage", read_seconds, **settings))
        return started[-1]

    yield starting
    for relayed in started:
        relayed.sshfs.stream.close()
    servers.close()
    clock.forward(outage.HOLD_SECONDS)
    for relayed in started:
        relayed.close()


@pytest.fixture
def relayed(start: Start) -> Relayed:
    """Give a relay in which reads may wait for ever."""
    return start()


@pytest.fixture
def server(relayed: Relayed, servers: Servers) -> Server:
    """Give the server of its first connection."""
    return relayed.connected(servers)
