# SPDX-License-Identifier: MIT
"""What becomes of volumes when something is wrong where their records are."""

from collections.abc import Iterator

import pytest

from .host import PACKAGE, Host

STATE = f"/var/lib/{PACKAGE}"


@pytest.fixture
def file_system(host: Host) -> Iterator[None]:
    """Keep the plugin's state on a file system of its own meanwhile."""
    host.machine.sh(f"systemctl stop {PACKAGE}; mount -t tmpfs -o mode=0700 state {STATE}; systemctl start {PACKAGE}")
    yield
    host.clear()
    host.machine.sh(f"systemctl stop {PACKAGE}; umount {STATE}; systemctl start {PACKAGE}")


@pytest.mark.usefixtures("file_system")
def test_a_file_system_that_was_read_only_for_a_while_is_written_to_again_after_what_the_error_says(host: Host) -> None:
    machine, directory = host.machine, host.directory("waiting")
    machine.sh(f"mount -o remount,ro {STATE}; systemctl restart {PACKAGE}")
    cure = f"systemctl restart {PACKAGE}"
    refused = host.create("waiting", directory, check=False)
    assert f"Read-only file system: once it can be written to, {cure}" in refused.stderr
    machine.sh(f"mount -o remount,rw {STATE}")
    assert cure in host.create("waiting", directory, check=False).stderr, "the service has mounts of its own"
    machine.run(*cure.split())
    host.create("waiting", directory)
    host.run("waiting", "touch /data/file")
