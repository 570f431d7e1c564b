# SPDX-License-Identifier: MIT
"""The package and a repository of it, built by the release's own tools as the documents say, by an ordinary user."""

import re
from collections.abc import Iterator

import pytest

from .documents import block
from .host import PACKAGE, Host
from .repository import KEYRING, SOURCE

BUILD = block("README.md", "sudo apt install --no-install-recommends dpkg-dev")
RELEASE = block("docs/installing.md", "./scripts/release --throwaway-key")
INSTALL = block("README.md", "sudo curl -fsS -o /etc/apt/keyrings")
HOME = "/home/alice"


@pytest.fixture
def builder(host: Host) -> Iterator[Host]:
    """Give a host without the package, on which alice has a checkout and may use sudo."""
    host.apt(f"purge {PACKAGE}")
    host.checkout(HOME)
    # only what is built here may be installed
    host.machine.sh(f"rm -f {HOME}/{PACKAGE}_*")
    host.machine.write("/etc/apt/apt.conf.d/builder", 'APT::Get::Assume-Yes "1";\n')
    host.machine.write("/etc/sudoers.d/builder", "alice ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    yield host
    host.machine.sh(f"rm -rf /etc/apt/apt.conf.d/builder /etc/sudoers.d/builder {HOME}/{PACKAGE}_* {HOME}/checkout")


def in_checkout(host: Host, commands: str) -> str:
    """Let alice run commands in her checkout, and return what they printed."""
    script = f"exec 2>&1; cd checkout; {commands}"
    return host.machine.run("su", "--login", "--shell=/bin/sh", "--command", f"set -e; {script}", "alice").stdout


def test_the_package_that_a_checkout_builds_installs_and_serves_a_volume(builder: Host) -> None:
    said = in_checkout(builder, BUILD)
    assert " passed" not in said
    assert builder.is_installed()
    builder.create("built", builder.directory("built"))
    builder.run("built", "echo hello >/data/file")
    assert builder.run("built", "cat /data/file").stdout == "hello\n"
    builder.clear()


def test_a_build_runs_the_unit_and_api_tests(builder: Host) -> None:
    """With the Python and the packages of the machine's release, two at a time: one by one they wait for minutes."""
    said = in_checkout(builder, f"export PYTEST_ADDOPTS='-n 2'; {BUILD.replace(' -Pnocheck', '')}")
    assert re.search(r"\d{3,} passed", said)


STATIC = "systemd-run --unit=static -p DynamicUser=yes -p WorkingDirectory=/srv/static /usr/bin/python3 -m http.server"
ALONE = 'Dir::Etc::SourceList "/dev/null"; Acquire::http::Proxy "DIRECT";\n'
"""Debian can't be reached from here."""


def test_a_release_is_installed_from_where_its_files_are_published_as_they_are(builder: Host) -> None:
    machine = builder.machine
    # who is careful with files publishes them all the same
    said = in_checkout(builder, f"umask 077; {RELEASE}")
    assert "URIs: http://localhost:8000\n" in said
    machine.sh(f"cp -a {HOME}/checkout/repository /srv/static; rm -r {HOME}/checkout/repository; {STATIC}")
    machine.write("/etc/apt/apt.conf.d/alone", ALONE)
    try:
        machine.until("curl -fsS http://localhost:8000/InRelease")
        in_checkout(builder, INSTALL.replace("https://example.org/debian", "http://localhost:8000"))
        assert builder.is_installed()
        assert "http://localhost:8000 " in machine.run("apt-cache", "policy", PACKAGE).stdout
    finally:
        lists = "/var/lib/apt/lists/localhost*"
        machine.sh(f"systemctl stop static; rm -rf /srv/static {lists} {KEYRING} {SOURCE} /etc/apt/apt.conf.d/alone")


def test_a_release_is_signed_with_the_key_that_is_named_and_leaves_the_agent_of_its_owner_alone(builder: Host) -> None:
    machine, url = builder.machine, "--url https://example.org/debian"
    machine.push(builder.package, f"{HOME}/given.deb")
    generate = "gpg --batch --passphrase '' --quick-generate-key releases@example.org ed25519 sign never"
    in_checkout(builder, f"{generate} && gpg-connect-agent /bye")
    agent = machine.run("pgrep", "-x", "gpg-agent").stdout
    try:
        in_checkout(builder, f"./scripts/release --key releases@example.org {url} signed ~/given.deb")
        in_checkout(builder, "gpg --verify signed/InRelease")
        in_checkout(builder, f"! ./scripts/release --throwaway-key {url} broken /nowhere/package.deb")
        assert machine.run("pgrep", "-x", "gpg-agent").stdout == agent
    finally:
        in_checkout(builder, "gpgconf --kill all; rm -rf ~/.gnupg ~/given.deb")
