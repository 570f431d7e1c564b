# SPDX-License-Identifier: MIT
"""The commands of the README and of pages that go with it, word for word, in the order in which people type them."""

import pytest

from .documents import block, script
from .host import KEY, PACKAGE, Host
from .repository import offered

ANSWERS = """#!/bin/sh
case $1 in *yes/no*) echo yes ;; *) echo 'correct horse battery' ;; esac
"""
"""What a person answers to ssh-copy-id's questions."""


ENVIRONMENT = "SSH_ASKPASS=/root/answers SSH_ASKPASS_REQUIRE=force SYSTEMD_PAGER=cat"


@pytest.fixture
def newcomer(host: Host) -> Host:
    """Give a host on which nobody has logged in anywhere yet, and somebody who answers ssh-copy-id's questions."""
    machine = host.machine
    machine.sh("mkdir -p /srv/photos && chown alice: /srv/photos && rm -rf /root/.ssh && mkdir -m 700 /root/.ssh")
    machine.run("docker", "tag", "busybox:lab", "busybox")
    machine.write("/root/answers", ANSWERS, mode=0o700)
    machine.write("/etc/sudoers.d/answers", 'Defaults env_keep += "SSH_ASKPASS SSH_ASKPASS_REQUIRE"\n', mode=0o440)
    return host


def follow(host: Host, document: str) -> str:
    return host.machine.sh(f'{ENVIRONMENT} sh -c "$1" 2>&1', script(document)).stdout


def test_the_commands_of_the_readme_work_as_written(newcomer: Host) -> None:
    host = newcomer
    host.apt(f"purge {PACKAGE}")
    with offered(host):
        said = follow(host, "README.md")
        played = host.machine.run("ansible-playbook", *"-c local -i localhost, docker-volume-sshfs.yml".split()).stdout
    assert "hello\n" in said
    assert "failed=0" in played
    assert '"state": "unmounted"' in said
    assert host.machine.read("/srv/photos/hello.txt") == "hello\n"
    assert host.machine.run("stat", "-c", "%U", "/srv/photos/by-1000").stdout == "alice\n"
    assert host.inspect("app-photos")["Options"]["uid"] == "1000"


def test_the_commands_about_keys_and_host_keys_work_as_written(newcomer: Host) -> None:
    host, machine = newcomer, newcomer.machine
    said = follow(host, "docs/credentials.md")
    assert "/srv/photos" in said
    for volume in ("with-key", "with-password", "careful", "with-secret", "with-file", "with-agent"):
        host.run(volume, f"touch /data/{volume}")
        assert machine.run("test", "-e", f"/srv/photos/{volume}")
    assert machine.run("stat", "-c", "%a", "/etc/docker-volume-sshfs/nas.password").stdout == "600\n"
    host.clear()
    machine.sh(
        f"rm -r /etc/systemd/system/{PACKAGE}.service.d /etc/{PACKAGE}/nas* /etc/{PACKAGE}/secrets.d/*; "
        f"systemctl stop volumes-agent; systemctl daemon-reload; systemctl restart {PACKAGE}.service"
    )


def test_a_key_that_is_good_for_files_alone_serves_a_volume(newcomer: Host) -> None:
    """With what docs/credentials.md writes before the key in authorized_keys."""
    host, machine = newcomer, newcomer.machine
    key = machine.read("/home/alice/.ssh/authorized_keys").splitlines()[0]
    before, _, _ = block("docs/credentials.md", "restrict,command=").partition("ssh-ed25519 AAAA")
    machine.sh("cp -p /home/alice/.ssh/authorized_keys /root/authorized_keys")
    try:
        machine.sh('echo "$1$2" >/home/alice/.ssh/authorized_keys', before, key)
        assert not machine.run(*f"ssh -oStrictHostKeyChecking=no -i {KEY} alice@nas id".split(), check=False)
        host.create("restricted", host.directory("restricted"))
        host.run("restricted", "echo hello >/data/file")
        assert host.run("restricted", "cat /data/file").stdout == "hello\n"
    finally:
        machine.sh("cp -p /root/authorized_keys /home/alice/.ssh/authorized_keys")


def test_the_commands_of_troubleshooting_work_as_written(newcomer: Host) -> None:
    newcomer.machine.sh(f"install -m 600 {KEY} /etc/docker-volume-sshfs/id_ed25519")
    said = follow(newcomer, "docs/troubleshooting.md")
    assert "There are no volumes." in said
    assert "directory" in said
