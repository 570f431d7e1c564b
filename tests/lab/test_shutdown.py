# SPDX-License-Identifier: MIT
"""Power off and boot with volumes in use."""

from .host import PACKAGE, Host

LONGEST_POWEROFF = 40.0
"""Seconds; Docker alone gives its containers ten."""


def test_power_off_with_volumes_in_use_is_orderly_and_all_comes_back(host: Host) -> None:
    machine = host.machine
    names = [f"boot-{number}" for number in range(3)]
    # the server is this same host, so Docker must not mount before sshd is up
    machine.write("/etc/systemd/system/docker.service.d/ssh.conf", "[Unit]\nAfter=ssh.service\n")
    machine.run("systemctl", "daemon-reload")
    script = "trap 'echo last >/data/last; exit 0' TERM; while true; do sleep 0.1; done"
    for name in names:
        host.create(name, host.directory(name))
        host.start(name, name, script, "--restart=always")
    seconds = machine.poweroff(timeout=LONGEST_POWEROFF * 2)
    assert seconds < LONGEST_POWEROFF
    machine.boot()
    for name in names:
        assert machine.read(f"/srv/alice/{name}/last") == "last\n", "the files were there while Docker stopped"
        machine.until(f"docker exec {name} touch /data/back", timeout=60)
        assert host.status(name)["holders"] == 1
    left_over = [line for line in machine.journal(boot=-1, lines=2000).splitlines() if "left-over process" in line]
    assert not [line for line in left_over if PACKAGE in line]
    machine.run("rm", "/etc/systemd/system/docker.service.d/ssh.conf")
