# SPDX-License-Identifier: MIT
"""The end of things: power off and boot with volumes in use, remove and purge of the package."""

from .host import MOUNTS, PACKAGE, Host

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
    assert "left-over process" not in machine.journal(boot=-1, lines=2000)
    machine.run("rm", "/etc/systemd/system/docker.service.d/ssh.conf")


def test_remove_leaves_a_used_mount_to_its_container_and_a_reinstall_goes_on(host: Host) -> None:
    machine, directory = host.machine, host.directory("kept")
    host.create("kept", directory)
    with host.writing("kept", directory):
        said = machine.sh(f"apt-get remove -y {PACKAGE} 2>&1", timeout=120).stdout
        assert "The volume kept is in use and stays mounted" in said
        host.await_progress(directory)
        host.install()
        assert host.status("kept")["state"] == "mounted"
    assert not host.is_mounted("kept")


def test_remove_ends_an_unused_mount(host: Host) -> None:
    host.create("idle", host.directory("idle"))
    host.machine.run("systemctl", "start", "docker-volume-sshfs@idle")
    assert host.is_mounted("idle")
    host.machine.sh(f"apt-get remove -y {PACKAGE} 2>&1", timeout=120)
    assert not host.is_mounted("idle")
    assert host.machine.run("ls", MOUNTS).stdout == ""


def test_purge_costs_docker_nothing(host: Host) -> None:
    machine = host.machine
    host.create("gone", host.directory("gone"))
    machine.run("docker", "volume", "rm", "gone")
    machine.sh(f"apt-get purge -y {PACKAGE} 2>&1", timeout=120)
    machine.sh("systemctl restart docker && docker volume ls", timeout=14)
    assert machine.run("systemctl", "list-units", "--all", "--no-legend", f"{PACKAGE}*").stdout == ""
    assert not machine.run("test", "-e", "/var/lib/docker-volume-sshfs", check=False)


def test_purge_leaves_nothing_dead_and_nothing_on_the_server_touched(host: Host) -> None:
    machine, directory = host.machine, host.directory("purged")
    host.create("purged", directory)
    host.run("purged", "echo precious >/data/file")
    host.start("holder", "purged", "sleep 1000")
    said = machine.sh(f"apt-get purge -y {PACKAGE} 2>&1", timeout=120).stdout
    assert f"{MOUNTS}/purged is still mounted and stays" in said
    assert machine.run("docker", "exec", "holder", "cat", "/data/file").stdout == "precious\n"
    assert machine.sh("find /etc/docker/plugins /run/docker-volume-sshfs -name 'sshfs.*'", check=False).stdout == ""
    assert machine.run("ls", "/var/lib/docker-volume-sshfs").stdout == "mounts\n"
    machine.run("docker", "rm", "-f", "holder", timeout=90)
    machine.run("umount", f"{MOUNTS}/purged")
    machine.until(lambda: not machine.run("pgrep", "-x", "sshfs", check=False))
    assert machine.read(f"{directory}/file") == "precious\n"
