# SPDX-License-Identifier: MIT
"""A whole plugin in a directory of its own: gunicorn with a socket as from systemd, real sshd, real sshfs."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.plugin import Plugin
from integration.sshd import Server, start_server


def unavailable() -> str:
    """Say why these tests can't run here; empty if they can."""
    if os.geteuid() != 0:
        return "they mount, which takes root"
    if not Path("/dev/fuse").exists():
        return "/dev/fuse is missing"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all of them, so that they can be chosen by their tier."""
    for item in items:
        if "/integration/" in str(item.path):
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session", autouse=True)
def _available() -> None:
    if reason := unavailable():
        if os.environ.get("CI") == "true":
            pytest.fail(f"integration tests can't run: {reason}")
        pytest.skip(f"INTEGRATION TESTS DID NOT RUN: {reason}")


@pytest.fixture(scope="session")
def server(_available: None) -> Iterator[Server]:
    """A real sshd on loopback."""
    with start_server() as server:
        yield server


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    """A plugin that has no volumes yet; at the end none may be left mounted."""
    # pytest's directories have names too long for the sockets of shared connections
    with tempfile.TemporaryDirectory(prefix="sshfs-") as directory, Plugin(Path(directory) / "plugin") as plugin:
        yield plugin
