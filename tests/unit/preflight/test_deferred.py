# SPDX-License-Identifier: MIT
"""The preflight that is imported when it is needed."""

from pathlib import Path

import pytest
from support.ssh_client import Client
from support.ssh_server import Server

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.preflight import deferred
from sshfs_plugin.preflight.deferred import DeferredPreflight


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a file that stands for the preflight as it is installed."""
    file = tmp_path / "preflight.py"
    file.touch()
    monkeypatch.setattr(deferred, "_MODULE", file)
    return file


@pytest.mark.parametrize("upgrade", ["replaced", "gone"])
def test_what_an_upgrade_has_replaced_is_not_imported(
    client: Client, server: Server, module: Path, upgrade: str
) -> None:
    """It would call for what the rest of the process, of the old version, does not have."""
    preflight = client.preflight
    lazy = DeferredPreflight(keyring=preflight.keyring, known_hosts=preflight.known_hosts)
    begun = DeferredPreflight(keyring=preflight.keyring, known_hosts=preflight.known_hosts)
    volume = client.volume(server, password="hunter2")
    begun.prepare(volume)
    if upgrade == "replaced":
        new = module.with_name("new")
        new.touch()
        new.replace(module)
    else:
        module.unlink()
    with pytest.raises(errors.BeingUpgraded):
        lazy.prepare(volume)
    begun.prepare(volume).run(Deadline.after(60))
