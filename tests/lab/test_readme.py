# SPDX-License-Identifier: MIT
"""The README's commands, word for word, in the order in which a newcomer types them."""

from .documents import script
from .host import PACKAGE, Host
from .repository import offered

ANSWERS = """#!/bin/sh
case $1 in *yes/no*) echo yes ;; *) echo 'correct horse battery' ;; esac
"""
"""What a person answers to ssh-copy-id's questions."""


def test_the_commands_of_the_readme_work_as_written(host: Host) -> None:
    machine = host.machine
    host.apt(f"purge {PACKAGE}")
    machine.sh("mkdir -p /srv/photos && chown alice: /srv/photos && rm -rf /root/.ssh")
    machine.run("docker", "tag", "busybox:lab", "busybox")
    machine.write("/root/answers", ANSWERS, mode=0o700)
    machine.write("/etc/sudoers.d/answers", 'Defaults env_keep += "SSH_ASKPASS SSH_ASKPASS_REQUIRE"\n', mode=0o440)
    environment = "SSH_ASKPASS=/root/answers SSH_ASKPASS_REQUIRE=force SYSTEMD_PAGER=cat"
    with offered(host):
        said = machine.sh(f'{environment} sh -c "$1" 2>&1', script("README.md"), timeout=200).stdout
    assert "hello\n" in said
    assert '"state": "not mounted"' in said
    assert machine.read("/srv/photos/hello.txt") == "hello\n"
    assert machine.run("stat", "-c", "%U", "/srv/photos/by-1000").stdout == "alice\n"
    assert host.inspect("app-photos")["Options"]["uid"] == "33"
