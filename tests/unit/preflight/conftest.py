# SPDX-License-Identifier: MIT
"""A host that makes the checks, a server, and keys."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ssh_client import FORMS, Client
from support.ssh_keys import write_key
from support.ssh_server import Account, Server, serving
from support.waiting import LIMIT_SECONDS

from sshfs_plugin.preflight import ssh


@pytest.fixture
def client(tmp_path: Path) -> Client:
    (tmp_path / "client/.ssh").mkdir(parents=True)
    return Client(tmp_path / "client")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return what the accounts are locked into."""
    directory = tmp_path / "server"
    (directory / "photos").mkdir(parents=True)
    (directory / "photos/a.jpg").write_text("a photo")
    return directory


@pytest.fixture
def server(files: Path) -> Iterator[Server]:
    """Run a server that takes a password."""
    with serving(Account(directory=files, password="hunter2")) as running:
        yield running


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Make private keys of every kind and form, each with its public key beside it."""
    directory = tmp_path_factory.mktemp("keys")
    return {form: write_key(directory / form, form, 2) for form in FORMS}


@pytest.fixture
def long_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a missing answer be what ends a check, however late this host notices that its time is up."""
    monkeypatch.setattr(ssh, "GRACE_SECONDS", LIMIT_SECONDS)
