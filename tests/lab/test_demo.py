# SPDX-License-Identifier: MIT
"""The newcomer's first command, on a machine that has the package, Docker and volumes of its own already."""

from .documents import block
from .host import Host


def test_the_demo_shows_a_volume_and_leaves_the_machine_as_it_was(host: Host) -> None:
    machine = host.machine
    checkout = host.checkout()
    host.create("mine", host.directory("mine"))
    before = set(machine.run("docker", "images", "-q").stdout.split())
    said = machine.sh(f"cd {checkout} && {block('README.md', 'sudo ./scripts/demo')}", timeout=150).stdout
    assert said.count("hello from the first container\n") == 3  # by another container, on the server, and after rm
    assert "does not exist on 127.0.0.1 for daemon: make it first" in said
    assert "Done: " in said
    assert host.is_installed()
    assert machine.run("docker", "volume", "ls", "-q").stdout == "mine\n"
    assert machine.run("docker", "ps", "-aq").stdout == ""
    assert set(machine.run("docker", "images", "-q").stdout.split()) == before
    assert not machine.run("test", "-e", "/var/lib/sshfs-demo", check=False)
