# SPDX-License-Identifier: MIT
"""Servers that get stuck at a step, or send rubbish."""

import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from lab.host import KEY, MOUNTS, Host
from lab.machines.machine import IMAGE

from .containers import Record

NAMED = {
    "silent": "localhost port {} accepts the connection but has not spoken SSH in time",
    "rubbish": "what answers at localhost port {} is not an SSH server, it says '",
    "rubbish after its version": "what answers at localhost port {} is not an SSH server, it sends a packet of",
    "key exchange": "the SSH server at localhost port {} stopped answering",
    "login": "localhost did not answer the login of alice in time",
    "SFTP": "alice@localhost port {} lets the login in but did not start SFTP in time",
    "directory": "the directory /files on localhost can't be listed (no answer in time)",
}
"""What a Create says of each kind of bad server."""

CREATE = f"docker volume create -d sshfs -o sshcmd=alice@localhost:/files -o IdentityFile={KEY}"


@pytest.fixture
def bad_servers(host: Host) -> Iterator[dict[str, int]]:
    """Run one of each kind in the machine, and give their ports."""
    machine, tree = host.machine, host.checkout()
    program = f"cd {tree}; PYTHONPATH={tree}:{tree}/tests exec python3 -m support.bad_servers {KEY}.pub >/root/bad"
    machine.run("systemd-run", "--quiet", "--collect", "--unit=bad", "sh", "-c", program)
    try:
        machine.until("test -s /root/bad")
        yield json.loads(machine.read("/root/bad"))
    finally:
        machine.run("systemctl", "stop", "bad")
        host.clear()


class Answer(NamedTuple):
    """What a command said on stderr, and how long it took."""

    said: str
    seconds: float


def all_at_once(host: Host, commands: dict[str, str]) -> dict[str, Answer]:
    """Run commands at once, by their names; return what each says on stderr, and how long it takes."""
    machine = host.machine
    machine.run("rm -rf /root/at-once; mkdir /root/at-once")
    for name, command in commands.items():
        machine.write(f"/root/at-once/{name}.sh", command)
    machine.sh(
        "cd /root/at-once; for file in *.sh; do "
        '{ read -r before rest </proc/uptime; timeout 300 sh "$file" >/dev/null 2>"$file.said" || true; '
        'read -r after rest </proc/uptime; echo "$before $after" >"$file.when"; } & done; wait'
    )

    def answer(name: str) -> Answer:
        before, after = map(float, machine.read(f"/root/at-once/{name}.sh.when").split())
        return Answer(machine.read(f"/root/at-once/{name}.sh.said"), after - before)

    return {name: answer(name) for name in commands}


def test_a_server_that_gets_stuck_or_sends_rubbish_is_named_with_the_step(
    host: Host, bad_servers: dict[str, int], record_property: Record
) -> None:
    creates = {kind: f"{CREATE} -o port={port} bad-{number}" for number, (kind, port) in enumerate(bad_servers.items())}
    answers = all_at_once(host, creates)
    for kind, (said, seconds) in answers.items():
        assert NAMED[kind].format(bad_servers[kind]) in said, (kind, said)
        record_property(f"{kind}: Create failed after", seconds)
        # ours are 10 seconds for each of connection and key exchange, 20 for what follows; Docker's are 120
        assert seconds < 60, (kind, seconds)
    assert host.machine.run("docker", "volume", "ls", "-q").stdout == ""


MOUNT_SAYS = {
    "silent": "last words: Connection timed out during banner exchange",
    "rubbish": "invalid format",
    "rubbish after its version": "Bad packet length",
    "key exchange": "timed out",
    "login": "timed out",
    "SFTP": "was not usable after 55 seconds and was given up: is the server slow or overloaded?",
}
"""What a Mount says that no check went before, in words of ssh for the most part."""


@pytest.mark.long
def test_a_server_that_gets_stuck_or_sends_rubbish_fails_the_mount_of_a_volume_that_is_not_checked(
    host: Host, bad_servers: dict[str, int], record_property: Record
) -> None:
    machine, starts = host.machine, {}
    volumes = {kind: f"bad-{number}" for number, kind in enumerate(MOUNT_SAYS)}
    for kind, volume in volumes.items():
        machine.sh(f"{CREATE} -o port={bad_servers[kind]} -o check=never {volume}")
        starts[kind] = f"docker run --rm --network=none -v {volume}:/data {IMAGE} true"
    for kind, (said, seconds) in all_at_once(host, starts).items():
        assert "VolumeDriver.Mount: " in said, (kind, said)
        assert MOUNT_SAYS[kind] in said, (kind, said)
        record_property(f"{kind}: Mount failed after", seconds)
        assert seconds < 110, (kind, seconds)
        assert host.status(volumes[kind])["state"] == "unmounted"
    machine.until(f'test -z "$(ls -A {MOUNTS})"')
    assert machine.run("pgrep", "-x", "sshfs", check=False).stdout == ""
