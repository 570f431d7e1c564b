# SPDX-License-Identifier: MIT
"""What containers see when a process is killed, or a service is not there."""

import pytest

from lab.host import MOUNTS, PACKAGE, STAY, Host
from lab.ssh_server import SshServer

from .containers import Record, large_file, logging, seconds_up

RELAY = "^/usr/bin/python3 -S /usr/libexec/docker-volume-sshfs/relay .*/mounts/{0}/ssh_config"

SSH = "^/usr/bin/ssh .*/mounts/{0}/ssh_config"


@pytest.mark.parametrize(
    "killed", ["relay", *(pytest.param(other, marks=pytest.mark.long) for other in ("ssh", "sshd's child", "sshd"))]
)
def test_a_killed_process_costs_a_log_only_the_lines_meanwhile(
    host: Host, server: SshServer, killed: str, record_property: Record
) -> None:
    machine, directory = host.machine, host.directory("killed")
    # those that share a connection have no ssh of their own
    host.create("killed", directory, own_connection="yes" if killed == "ssh" else "no")
    with logging(host, "killed", directory) as log:
        sshfs = host.sshfs("killed")
        match killed:
            case "relay":
                machine.run("pkill", "-KILL", "-f", RELAY.format("killed"))
            case "ssh":
                machine.run("pkill", "-KILL", "-f", SSH.format("killed"))
            case "sshd's child":
                machine.run("pkill", "-KILL", "-u", "alice", "-x", "sftp-server")
            case "sshd":
                machine.run("systemctl", "restart", "ssh")
                server.cut()
        record_property("lines failed for", log.await_recovery())
        record_property("lines failed", len(log.failed))
        assert host.status("killed")["state"] == "mounted"
        assert host.sshfs("killed") == sshfs, "containers need no restart"


@pytest.mark.parametrize("live_restored", [False, True], ids=["", "live-restore"])
def test_a_killed_docker_amid_a_copy_leaves_nothing_mounted(
    host: Host, live_restored: bool, request: pytest.FixtureRequest
) -> None:
    if live_restored:
        request.getfixturevalue("live_restore")
    machine, directory = host.machine, host.directory("crash")
    large_file(host, directory)
    host.create("crash", directory)
    host.create("quiet", directory)
    host.start("always", "crash", STAY, "--restart=always")
    host.start("never", "crash", STAY)
    host.start("idle", "quiet", STAY)
    # nobody reads the copy, so it can't end
    machine.run(
        *("systemd-run", "--quiet", "--collect", "--unit=copy"),
        *("sh", "-c", "docker cp always:/data/large - | { head -c 1 >/root/copying; exec sleep 1000; }"),
    )
    machine.until("test -s /root/copying")
    machine.run("systemctl", "kill", "-s", "KILL", "docker")
    machine.until(lambda: machine.run("docker", "exec", "always", "touch", "/data/back"))

    def holders(volume: str) -> int:
        return int(host.status(volume)["holders"])

    running = machine.run("docker", "ps", "--format", "{{.Names}}").stdout.split()
    assert sorted(running) == (["always", "idle", "never"] if live_restored else ["always"])
    # it never gives back what ended with it, which counts unless the volume was unmounted before the restart mounted it
    counted = holders("crash")
    assert counted == 2 or (counted == 1 and not live_restored)
    assert holders("quiet") <= 1
    machine.run("docker", "cp", "always:/data/large", "/root/large")
    # after live-restore Docker takes the end of the copy for that of the container, and does not tell of the real one
    assert holders("crash") == (1 if live_restored else counted)
    machine.sh("systemctl stop copy; rm /root/large /root/copying")
    machine.run("docker", "exec", "always", "touch", "/data/back")
    machine.run("docker", "rm", "-f", "never", "idle")
    assert holders("crash") == (0 if live_restored else counted)
    assert (host.status("crash")["state"], host.is_mounted("crash")) == ("mounted", True)
    machine.run("docker", "exec", "always", "touch", "/data/still")
    machine.run("docker", "rm", "-f", "always")
    if not live_restored:
        machine.until(lambda: not host.is_mounted("crash"))
    assert holders("crash") == 0
    machine.run("docker", "volume", "rm", "crash", "quiet")
    machine.until(f'test -z "$(ls -A {MOUNTS})"')
    assert machine.run("pgrep", "-x", "sshfs", check=False).stdout == ""


@pytest.mark.long
def test_a_volume_that_is_given_back_while_there_is_no_service_is_unmounted_later(
    host: Host, record_property: Record
) -> None:
    """Docker does not give it back again."""
    machine = host.machine
    # which systemd mounts on a host, and systemd-nspawn leaves out
    connections = "/sys/fs/fuse/connections"
    machine.sh(f"mount -o remount,rw /sys && mkdir -p {connections} && mount -t fusectl fusectl {connections}")
    host.create("forgotten", host.directory("forgotten"))
    for name in ("released", "lost"):
        host.create(name, host.directory(name))
        host.start(f"user-of-{name}", name, STAY)
    host.start("user", "forgotten", STAY)
    machine.run("systemctl", "stop", f"{PACKAGE}.socket", PACKAGE)
    machine.run("docker", "rm", "-f", "user", "user-of-released", check=False, timeout=240)
    assert machine.run("docker", "ps", "-a", "--format", "{{.Names}}").stdout == "user-of-lost\n"
    machine.run("docker-volume-sshfs", "release", "released")
    machine.run("docker-volume-sshfs", "release", "--force", "lost")
    machine.run("systemctl", "start", f"{PACKAGE}.socket")
    began = seconds_up(host)
    assert (host.status("forgotten")["state"], host.status("forgotten")["holders"]) == ("mounted", 1)
    assert (host.status("released")["state"], host.status("released")["holders"]) == ("lost", 1)
    machine.until(lambda: not host.is_mounted("forgotten"), timeout=600)
    record_property("unmounted after", seconds_up(host) - began)
    machine.until(lambda: bool(host.status("forgotten")["holders"] == 0))
    assert host.status("forgotten")["state"] == "unmounted"
    machine.until(lambda: bool(host.status("released")["holders"] == 0))
    assert host.status("released")["state"] == "unmounted"
    assert (host.status("lost")["state"], host.status("lost")["holders"]) == ("lost", 1), "its container runs"
