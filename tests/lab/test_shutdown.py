# SPDX-License-Identifier: MIT
"""Power off and boot with volumes in use."""

import pytest
from support.long import normally

from .documents import block
from .host import MOUNTS, PACKAGE, Host


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
    began = machine.run("date", "+--since=@%s").stdout.strip()
    machine.reboot()
    journal = machine.journal("--boot=-1", "--output=short", began).splitlines()
    for name in names:
        assert machine.read(f"/srv/alice/{name}/last") == "last\n", "the files were there while Docker stopped"
        machine.until(f"docker exec {name} touch /data/back")
        assert host.status(name)["holders"] == 1
    # as systemd puts it when a unit does not stop by itself, and when some of it stays
    forced = [line for line in journal if "timed out" in line or "left-over process" in line]
    assert [line for line in forced if PACKAGE in line or "docker.service" in line] == []
    machine.run("rm", "/etc/systemd/system/docker.service.d/ssh.conf")


def test_a_mountpoint_that_a_power_cut_has_left_goes_with_its_volume(host: Host) -> None:
    machine, left = host.machine, f"{MOUNTS}/cut-off"
    host.create("cut-off", host.directory("cut-off"))
    host.start("user", "cut-off", "sleep 1000")
    machine.run("sync")
    machine.cut_power()
    machine.boot()
    assert machine.run("test", "-d", left), "nobody was there to remove it"
    machine.run("docker", "rm", "user")
    machine.run("docker", "volume", "rm", "cut-off")
    machine.until(f"test ! -e {left}")


def test_mountpoints_of_no_volume_are_removed_if_nothing_is_in_them(host: Host) -> None:
    """What a cut-off host or an older version has left, of volumes that are no more."""
    machine = host.machine
    machine.sh(
        f"cd {MOUNTS} && mkdir empty full mounted && touch full/precious && chattr +i empty && "
        "mount -t tmpfs none mounted"
    )
    try:
        machine.run("systemctl", "restart", PACKAGE)
        machine.until(f"test ! -e {MOUNTS}/empty")
        machine.until("journalctl -t sshfs -n 20 -o cat | grep 'full stays, Directory not empty: look what is in it'")
        assert machine.run("ls", f"{MOUNTS}/full").stdout == "precious\n"
        assert machine.run("findmnt", f"{MOUNTS}/mounted")
    finally:
        machine.sh(f"cd {MOUNTS} && umount mounted && rm -r full mounted")


def test_a_server_that_comes_up_later_than_this_host_is_waited_for(host: Host) -> None:
    """Docker starts a container once at its start, and not again if that fails."""
    machine, names = host.machine, [f"early-{number}" for number in range(normally(4, 20))]
    drop_in = "/etc/systemd/system/ssh.service.d/later.conf"
    machine.write(drop_in, "[Service]\nExecStartPre=/bin/sleep 20\n")
    for name in names:
        host.create(name, host.directory(name))
        host.start(name, name, "touch /data/up; sleep 1000", "--restart=always")
    machine.sh(f"rm {' '.join(f'/srv/alice/{name}/up' for name in names)}; systemctl disable ssh.socket")
    machine.reboot()
    for name in names:
        machine.until(f"test -e /srv/alice/{name}/up")
        assert host.status(name)["state"] == "mounted"
        assert "tried again in 5 seconds, since this host has just started" in host.log(name)
    machine.run("rm", drop_in)


@pytest.mark.long
def test_a_server_that_comes_up_too_late_finds_its_containers_started_by_systemd(host: Host) -> None:
    machine = host.machine
    ssh, unit = "/etc/systemd/system/ssh.service.d/later.conf", "/etc/systemd/system/start-site.service"
    host.create("web", host.directory("web"))
    host.start("site", "web", "touch /data/up; sleep 1000", "--restart=always")
    machine.write(ssh, "[Service]\nExecStartPre=/bin/sleep 130\nTimeoutStartSec=300\n")
    machine.write(unit, block("docs/everyday.md", "[Unit]\nDescription=Start the container"))
    machine.sh("rm /srv/alice/web/up; systemctl disable ssh.socket; systemctl enable start-site")
    machine.reboot()
    assert "cannot connect to localhost port 22" in host.status("web")["lastError"]
    machine.until("test -e /srv/alice/web/up")
    machine.run("rm", ssh, unit)
