# SPDX-License-Identifier: MIT
"""What CONTRIBUTING.md says of a mount and of the service by hand, word for word; test_docs.py has its other blocks."""

import pytest

from .documents import blocks, section
from .host import PACKAGE, STAY, Host

PAGE = "CONTRIBUTING.md"
SERVICE = f"{PACKAGE}.service"


@pytest.fixture
def viewer(host: Host) -> Host:
    """Give a host on which a container uses the volume that the page speaks of."""
    directory = host.directory("photos")
    host.machine.sh("touch $1/a.jpg", directory)
    host.create("photos", directory)
    host.start("viewer", "photos", STAY)
    return host


def test_the_commands_about_a_mount_work_as_written(viewer: Host) -> None:
    machine, checkout = viewer.machine, viewer.checkout()
    there, back = section(PAGE, "Debug a mount")
    assert [block for block in blocks(PAGE, "sh") if block not in f"{there}\n{back}"] == [], "nobody runs these"
    said = machine.sh('cd "$1" && sh -c "$2" 2>&1', checkout, there).stdout
    assert "Active: active (running)" in said
    assert "OPTIONS=" in said and "Host *" in said, "what the unit reads"
    assert "a.jpg" in said, "the mount by hand"
    assert '{"Volumes": [], "Err": ""}' in said, "the service by hand"
    assert viewer.property(SERVICE, "Environment") == f"PYTHONPATH={checkout} SSHFS_PLUGIN_DEBUG=1"
    assert viewer.is_mounted("photos")
    machine.sh('cd "$1" && sh -c "$2"', checkout, back)
    assert viewer.property(SERVICE, "Environment") == ""
    assert machine.run("docker", "exec", "viewer", "ls", "/data").stdout == "a.jpg\n"
    assert not machine.run("test", "-e", "/run/by-hand", check=False)
