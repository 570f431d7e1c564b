# SPDX-License-Identifier: MIT
"""The tests that Debian runs against the installed package, as they are written."""

import re

import pytest

from .host import ROOT, Host

NAMES = re.findall(r"^Tests: (\S+)$", (ROOT / "debian/tests/control").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_debian_s_test_passes_and_cleans_up(host: Host, name: str) -> None:
    machine = host.machine
    checkout = host.checkout()
    machine.run("mv", checkout, "/srv/checkout")
    try:
        before = things(host)
        machine.sh(f"cd /srv/checkout && debian/tests/{name} 2>&1", timeout=120)
        assert things(host) == before
    finally:
        machine.run("rm", "-r", "/srv/checkout")


def things(host: Host) -> set[str]:
    """Return what a test might have left behind."""
    return set(
        host.machine.sh("docker volume ls -q; docker images -q; docker ps -aq; ls -A /root /home /tmp").stdout.split()
    )
