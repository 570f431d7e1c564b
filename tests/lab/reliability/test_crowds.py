# SPDX-License-Identifier: MIT
"""Many volumes and containers at once."""

import pytest

from lab.host import KEY, MOUNTS, STAY, Host
from lab.machines.machine import IMAGE

from .containers import Record, seconds_up

CALL = "curl -sS --max-time 20 --unix-socket /run/docker-volume-sshfs/sshfs.sock -o /root/answer -w %{time_total}"


@pytest.mark.long
def test_a_hundred_volumes_are_mounted_at_once_within_the_limits_of_a_usual_server(
    host: Host, record_property: Record
) -> None:
    machine, directory = host.machine, host.directory("many")
    names = [f"many-{number}" for number in range(100)]
    with machine.sshd_with("MaxStartups 10:30:100\n"):
        create = f"docker volume create -d sshfs -o sshcmd=alice@nas:{directory} -o IdentityFile={KEY} -o check=never"
        machine.sh(f"for name in $@; do {create} $name; done", *names)
        mount = (
            f"ls /root/names | xargs -P 100 -I % {CALL.replace('/root/answer', '/root/answers/%')} "
            "-d '{\"Name\": \"%\", \"ID\": \"here\"}' --max-time 120 http://plugin/VolumeDriver.Mount"
        )
        machine.sh("cd /root; rm -rf names answers; mkdir names answers; cd names; touch $@", *names)
        began = seconds_up(host)
        machine.sh(mount)
        record_property("mounted after", seconds_up(host) - began)
        refused = 'cd /root/answers; grep -LF \'"Err": ""\' * | xargs -r tail -v -n +1'
        assert machine.sh(refused).stdout == ""
        assert len(machine.run("findmnt", "-n", "-t", "fuse.sshfs").stdout.splitlines()) == 100
        machine.sh(mount.replace("VolumeDriver.Mount", "VolumeDriver.Unmount"))
        machine.until(f'test -z "$(ls -A {MOUNTS})"')
        machine.sh("rm -r /root/names /root/answers")


@pytest.mark.long
def test_a_hundred_and_fifty_containers_are_there_after_a_boot(host: Host, record_property: Record) -> None:
    machine = host.machine
    volumes = [f"boot-{number}" for number in range(30)]
    for volume in volumes:
        host.create(volume, host.directory(volume))
    containers = [f"{volume}-{number}" for volume in volumes for number in range(5)]
    run = f"docker run -d --restart=always --network=none -v ${{name%-*}}:/data --name $name {IMAGE}"
    machine.sh(f"for name in $@; do {run} sh -c '{STAY}'; done", *containers)
    machine.reboot()
    began = seconds_up(host)
    machine.until(lambda: len(machine.run("docker", "ps", "-q").stdout.split()) == len(containers))
    record_property("all run after", seconds_up(host) - began)
    machine.sh("for name in $@; do docker exec $name touch /data/$name; done", *containers)
    for volume in volumes:
        assert host.status(volume)["holders"] == 5
        assert len(machine.run("ls", f"/srv/alice/{volume}").stdout.split()) == 5
