# SPDX-License-Identifier: MIT
"""A host in a directory whose name is short enough for the sockets of shared connections."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.service import settings_below

from sshfs_plugin.settings import Settings


@pytest.fixture
def settings() -> Iterator[Settings]:
    """Give a host's settings."""
    with tempfile.TemporaryDirectory(prefix="sshfs-") as directory:
        yield settings_below(Path(directory))
