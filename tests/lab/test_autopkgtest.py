# SPDX-License-Identifier: MIT
"""The tests that Debian runs against the installed package, run as Debian does."""

import re

from .host import ROOT, Host

NAMES = re.findall(r"^Tests: (\S+)$", (ROOT / "debian/tests/control").read_text(), re.MULTILINE)

AUTOPKGTEST = "autopkgtest --no-built-binaries --ignore-restrictions=isolation-container,isolation-machine"
"""With the package that is installed, and on a machine that it may do anything to."""


def test_debian_s_tests_pass_and_clean_up(host: Host) -> None:
    machine = host.machine
    checkout = host.checkout()
    machine.run("mv", checkout, "/srv/checkout")
    try:
        before = things(host)
        said = machine.sh(f"{AUTOPKGTEST} /srv/checkout -- null 2>&1").stdout
        assert re.findall(r"^(\S+) +PASS", said.partition("summary")[2], re.MULTILINE) == NAMES
        assert things(host) == before
    finally:
        machine.run("rm", "-r", "/srv/checkout")


def things(host: Host) -> set[str]:
    """Return what a test might have left behind; directories of systemd's own services come and go by themselves."""
    files = "ls -A --ignore='systemd-private-*' /root /home /tmp"
    return set(host.machine.sh(f"docker volume ls -q; docker images -q; docker ps -aq; {files}").stdout.split())
