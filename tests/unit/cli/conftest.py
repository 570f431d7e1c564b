# SPDX-License-Identifier: MIT
"""Whoever administers a host whose things are all in the test's own directory."""

import os
from pathlib import Path

import pytest
from support.administrator import Administrator

from sshfs_plugin.host import journal
from sshfs_plugin.settings import Settings


@pytest.fixture(autouse=True)
def with_journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let this host have a journal, whatever it has."""
    monkeypatch.setattr(journal, "JOURNAL", tmp_path)


@pytest.fixture
def administrator(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Administrator:
    """Give root's hands on the command line."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (settings.home / ".ssh").mkdir(parents=True)
    return Administrator(settings)
