# SPDX-License-Identifier: MIT
"""Whoever administers a host whose things are all in the test's own directory."""

import os

import pytest
from support.administrator import Administrator

from sshfs_plugin.settings import Settings


@pytest.fixture
def administrator(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Administrator:
    """Give root's hands on the command line."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (settings.home / ".ssh").mkdir(parents=True)
    return Administrator(settings)
