# SPDX-License-Identifier: MIT
"""The page about servers by name, word for word, and what Docker and the host show of such a volume."""

from collections.abc import Iterator

import pytest

from .documents import script
from .host import KEY, PACKAGE, Host

PAGE = "docs/remotes.md"
FILE = f"/etc/{PACKAGE}/remotes.d/nas.conf"


@pytest.fixture
def administrator(host: Host) -> Iterator[Host]:
    """Give a host with the default key, and a directory on its server."""
    host.machine.sh(f"install -m 600 {KEY} /etc/{PACKAGE}/id_ed25519; mkdir -p /srv/photos; chown alice: /srv/photos")
    yield host
    host.clear()
    host.machine.run("rm", "-f", FILE, f"/etc/{PACKAGE}/id_ed25519")


def follow(host: Host) -> str:
    """Do what the page says, and return what was said."""
    return host.machine.sh('sh -c "$1" 2>&1', script(PAGE)).stdout


def test_the_commands_about_remotes_work_as_written(administrator: Host) -> None:
    host = administrator
    said = follow(host)
    assert '"remote": "nas:/srv/photos"' in said
    assert "alice@nas:" in said, "the check before the move"
    assert "alice@lab:" in said, "the check after it"
    host.run("by-name", "echo hello >/data/by-name")
    assert host.machine.read("/srv/photos/by-name") == "hello\n"
    assert host.inspect("by-name")["Options"] == {"remote": "nas", "directory": "/srv/photos"}
    assert "alice" not in str(host.inspect("by-name"))


def test_wrong_edit_is_an_error_of_docker_run_and_costs_no_volume(administrator: Host) -> None:
    host, machine = administrator, administrator.machine
    follow(host)
    machine.sh(f"echo prot = 22 >>{FILE}")
    refused = host.run("by-name", "true", check=False)
    assert not refused
    assert f"remote 'nas' can't be used, {FILE} is not valid (unknown option 'prot'" in refused.stderr
    assert host.status("by-name")["state"] == "unusable"
    machine.sh(f"sed -i /^prot/d {FILE}")
    host.run("by-name", "test -d /data")
    assert "lastError" not in host.status("by-name")
