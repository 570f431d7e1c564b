# SPDX-License-Identifier: MIT
"""What tests of all tiers share: a host that is not there, a driver on it, and the ways to call it."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from support.clients import DockerClient, PodmanClient
from support.driver import FakeHost, slow_slots
from support.kernel import FakeKernel
from support.long import LONG
from support.programs import Programs
from support.service import settings_below
from support.serving import serving
from support.supervisor import FakeSupervisor
from support.waiting import LIMIT_SECONDS, Background

from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.host import command, local_files
from sshfs_plugin.http import api
from sshfs_plugin.mounts import kernel, mountinfo
from sshfs_plugin.settings import Settings


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long tests to the long run; pytest says how many."""
    left = [item for item in items if item.get_closest_marker("long") and not LONG]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files on this host take their time to be read, which a program of its own does."""
    monkeypatch.setattr(local_files, "ANSWER_SECONDS", LIMIT_SECONDS)


@pytest.fixture
def host() -> FakeHost:
    """Give a host on which nothing is mounted and no volume is known."""
    return FakeHost(supervisor=FakeSupervisor(root=Path("/var/lib/docker-volume-sshfs/mounts")))


@pytest.fixture
def driver(host: FakeHost) -> Driver:
    """Give a driver that has just started."""
    return host.start_driver()


@pytest.fixture
def client(driver: Driver) -> FlaskClient:
    """Give Flask's own client, for what needs no socket."""
    return api.create_app(driver, slow_slots=slow_slots(), tell=lambda _: None).test_client()


@pytest.fixture
def address(driver: Driver, tmp_path: Path) -> Iterator[Path]:
    """Give the socket on which the driver is served."""
    address = tmp_path / "sshfs.sock"
    with serving(api.create_app(driver, slow_slots=slow_slots(), tell=lambda _: None), address):
        yield address


@pytest.fixture
def docker(address: Path) -> DockerClient:
    """Give Docker's end of the socket."""
    return DockerClient(address)


@pytest.fixture
def podman(address: Path) -> PodmanClient:
    """Give Podman's end of the socket."""
    return PodmanClient(address)


@pytest.fixture
def in_background() -> Iterator[Background]:
    """Give a way to run calls at the same time; all must have ended at the end of the test."""
    with ThreadPoolExecutor(max_workers=24) as threads:
        yield Background(threads)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Give the settings of a plugin that lives in a directory of its own."""
    return settings_below(tmp_path)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Give a directory for executables that is first in PATH, for us and for what we run."""
    directory = tmp_path / "bin"
    directory.mkdir()
    path = f"{directory}:{command._ENVIRONMENT['PATH']}"
    monkeypatch.setenv("PATH", path)
    monkeypatch.setitem(command._ENVIRONMENT, "PATH", path)
    return Programs(directory)


@pytest.fixture
def fake_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    """Give a kernel that lists and unmounts what the test says."""
    fake = FakeKernel(tmp_path / "proc")
    monkeypatch.setattr(mountinfo, "_PROC", fake.proc)
    monkeypatch.setattr(kernel, "_libc", fake)
    return fake


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Let a test set up logging as the service does, and put back what was there."""
    root, gunicorn = logging.getLogger(), logging.getLogger("gunicorn.error")
    before = (root.handlers[:], root.level, gunicorn.handlers[:], gunicorn.propagate)
    yield
    root.handlers[:], gunicorn.handlers[:], gunicorn.propagate = before[0], before[2], before[3]
    root.setLevel(before[1])
