# SPDX-License-Identifier: MIT
"""The package and a repository of it, built by the release's own tools as the documents say."""

from collections.abc import Iterator

import pytest

from .documents import block
from .host import PACKAGE, Host

BUILD = block("README.md", "sudo apt install dpkg-dev")
RELEASE = block("docs/installing.md", "./scripts/release --throwaway-key")


@pytest.fixture
def builder(host: Host) -> Iterator[Host]:
    """Give a host that has a checkout and no package; the other tiers' tests run elsewhere."""
    host.apt(f"purge {PACKAGE}")
    host.checkout()
    # only what is built here may be installed
    host.machine.sh(f"rm -f /root/{PACKAGE}_*")
    host.machine.write("/etc/apt/apt.conf.d/builder", 'APT::Get::Assume-Yes "1";\n')
    yield host
    host.machine.sh(f"rm -rf /etc/apt/apt.conf.d/builder /root/{PACKAGE}_* /root/checkout")


def in_checkout(host: Host, commands: str) -> str:
    script = f"exec 2>&1; cd /root/checkout; export DEB_BUILD_OPTIONS=nocheck; {commands}"
    return host.machine.sh(script, timeout=200).stdout


def test_the_package_that_a_checkout_builds_installs_and_serves_a_volume(builder: Host) -> None:
    in_checkout(builder, BUILD)
    assert builder.is_installed()
    builder.create("built", builder.directory("built"))
    builder.run("built", "echo hello >/data/file")
    assert builder.run("built", "cat /data/file").stdout == "hello\n"
    builder.clear()


def test_a_release_builds_what_it_offers(builder: Host) -> None:
    machine = builder.machine
    said = in_checkout(builder, RELEASE)
    assert "URIs: http://localhost:8000\n" in said
    offered = machine.sh("cd /root/checkout/repository && ls && cat Packages").stdout
    assert f"{PACKAGE}_1.0.0_all.deb" in offered
    assert f"Package: {PACKAGE}\n" in offered


def test_a_release_is_signed_with_the_key_that_is_named_and_leaves_the_agent_of_its_owner_alone(builder: Host) -> None:
    machine = builder.machine
    generate = "gpg --batch --passphrase '' --quick-generate-key releases@example.org ed25519 sign never"
    machine.sh(f"{generate} && gpg-connect-agent /bye")
    agent = machine.run("pgrep", "-x", "gpg-agent").stdout
    try:
        in_checkout(builder, "./scripts/release --key releases@example.org --url https://example.org/debian signed")
        machine.sh("cd /root/checkout/signed && gpg --verify InRelease")
        machine.sh("! /root/checkout/scripts/release --throwaway-key /root/checkout/broken /nowhere/package.deb")
        assert machine.run("pgrep", "-x", "gpg-agent").stdout == agent
    finally:
        machine.sh("gpgconf --kill all; rm -rf /root/.gnupg")
