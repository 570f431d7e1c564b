# SPDX-License-Identifier: MIT
"""The tests that Debian runs against the installed package, as they are written."""

import re

import pytest

from .host import ROOT, Host

NAMES = re.findall(r"^Tests: (\S+)$", (ROOT / "debian/tests/control").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_debian_s_test_passes_and_cleans_up(host: Host, name: str) -> None:
    machine = host.machine
    before = machine.sh("docker volume ls -q; docker images -q; docker ps -aq; ls /root /home").stdout
    checkout = host.checkout()
    machine.sh(f"cd {checkout} && debian/tests/{name} 2>&1", timeout=120)
    after = machine.sh(
        f"rm -r {checkout}*; docker volume ls -q; docker images -q; docker ps -aq; ls /root /home"
    ).stdout
    assert after == before
