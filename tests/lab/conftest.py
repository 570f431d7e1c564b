# SPDX-License-Identifier: MIT
"""Fixtures of the tests that need a whole Debian host; see ``machines/machine.py``.

One machine serves the session until a test fails on it. ``SSHFS_LAB_RELEASE`` chooses its release (default bookworm).
"""

import json
import os
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from .host import Host
from .machines.commands import LIMIT
from .machines.machine import Machine, unavailable
from .package import package_in

_HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, so that strict markers hold wherever the tests are started from."""
    config.addinivalue_line("markers", "lab: boots a whole Debian host; needs root")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of this directory."""
    for item in items:
        if _HERE not in item.path.parents:
            continue
        item.add_marker("lab")
        if config.pluginmanager.hasplugin("timeout") and not item.get_closest_marker("timeout"):
            # only a hang reaches it, and fixtures wait by limits of their own
            item.add_marker(pytest.mark.timeout(3 * LIMIT, func_only=True))


@pytest.fixture(scope="session", autouse=True)
def _available() -> None:
    """Skip where no machine can be booted, but fail in CI, where nobody would notice."""
    reason = unavailable()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def release() -> str:
    """Return the Debian release under test."""
    return os.environ.get("SSHFS_LAB_RELEASE", "bookworm")


_SPOILT = pytest.StashKey[bool]()
"""Whether the machine may be in a state that no test expects, or is not there yet."""


@pytest.fixture(scope="session")
def _kept(release: str, _available: None) -> Iterator[Machine]:
    kept = Machine(release)
    yield kept
    kept.destroy()


@pytest.fixture
def machine(_kept: Machine, request: pytest.FixtureRequest) -> Machine:
    """Give a machine that is on and has the images: another one if a test has failed, which leaves who knows what."""
    stash = request.session.stash
    if stash.get(_SPOILT, True):
        _kept.destroy()
        _kept.make()
        _kept.boot()
        _kept.import_busybox_image()
        stash[_SPOILT] = False
    return _kept


@pytest.fixture(scope="module")
def machine_given_up_afterwards(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the tests after a module that leaves what can't be cleaned up have another machine."""
    yield
    request.session.stash[_SPOILT] = True


@pytest.fixture(scope="module")
def leaves_the_machine_changed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Give up the machine after the tests of a module, which leave on it what others do not expect."""
    yield
    request.session.stash[_SPOILT] = True


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the package under test: ``$SSHFS_PACKAGE``, or one that is built now."""
    return package_in(tmp_path_factory.mktemp("build"))


@pytest.fixture
def newer(package: Path, tmp_path: Path) -> Path:
    """Return the package under test as a later release of it would be, with units that have changed."""
    tree, later = tmp_path / "tree", tmp_path / "later.deb"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 9:"))
    for unit in tree.rglob("docker-volume-sshfs@.service"):
        unit.write_text(unit.read_text().replace("Description=", "Description=Later "))
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, later], check=True, stdout=subprocess.DEVNULL)
    return later


@pytest.fixture
def host(machine: Machine, package: Path) -> Iterator[Host]:
    """Give the machine with the package installed and no volume on it."""
    host = Host(machine, package)
    if not host.is_installed():
        host.install()
        host.clear()
    yield host
    if host.is_installed():
        host.clear()


@pytest.fixture
def live_restore(host: Host) -> Iterator[None]:
    """Let containers outlive Docker meanwhile."""
    machine, path = host.machine, "/etc/docker/daemon.json"
    before = machine.read(path)
    machine.write(path, json.dumps({**json.loads(before), "live-restore": True}))
    try:
        machine.run("systemctl", "restart", "docker")
        yield
    finally:
        machine.write(path, before)
        host.clear()
        machine.run("systemctl", "restart", "docker")


@pytest.hookimpl(hookwrapper=True)  # type: ignore[misc]  # pytest gives no types for it
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Give up the machine on which a test has failed, and add the end of its journal to the report."""
    report: pytest.TestReport = (yield).get_result()
    if report.failed:
        item.session.stash[_SPOILT] = True
        booted = getattr(item, "funcargs", {}).get("machine")
        if isinstance(booted, Machine) and booted.is_on:
            report.sections.append(("journal of the machine", booted.journal("--output=short-precise", "--lines=40")))
