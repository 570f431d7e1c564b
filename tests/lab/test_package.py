# SPDX-License-Identifier: MIT
"""The package on a booted host: what installing it does, and what its units are."""

import re
import time

from .host import MOUNTS, PACKAGE, Host

SOCKET = "docker-volume-sshfs.socket"
SERVICE = "docker-volume-sshfs.service"
SPEC = "/etc/docker/plugins/sshfs.spec"


def test_install_opens_the_socket_and_docker_finds_the_plugin(host: Host) -> None:
    machine = host.machine
    assert host.property(SOCKET, "ActiveState") == "active"
    assert machine.run("systemctl", "is-enabled", SOCKET).stdout.strip() == "enabled"
    assert machine.read(SPEC) == "unix:///run/docker-volume-sshfs/sshfs.sock\n"
    started = time.monotonic()
    machine.run("docker", "volume", "ls")
    assert time.monotonic() - started < 10, "a spec that leads nowhere would cost 15 seconds"
    assert "sshfs" in machine.run("docker", "info", "-f", "{{.Plugins.Volume}}").stdout
    assert host.property(SERVICE, "ActiveState") == "active"
    assert host.property(SERVICE, "StatusText") in ("", "0 volumes, 0 mounted")


def test_enable_disable_and_status_behave(host: Host) -> None:
    machine = host.machine
    machine.run("systemctl", "disable", "--now", SOCKET)
    assert machine.run("systemctl", "is-enabled", SOCKET, check=False).stdout.strip() == "disabled"
    assert not machine.run("test", "-e", SPEC, check=False), "no spec without a socket"
    assert not machine.run("test", "-e", "/run/docker-volume-sshfs/sshfs.sock", check=False)
    machine.run("systemctl", "enable", "--now", SOCKET)
    assert machine.run("systemctl", "status", SOCKET)
    machine.run("docker", "volume", "ls")
    assert machine.run("systemctl", "status", SERVICE)


def test_the_service_is_sandboxed_well(host: Host) -> None:
    judged = host.machine.run("systemd-analyze", "security", "--no-pager", SERVICE).stdout
    exposure = float(judged.splitlines()[-1].split(":")[1].split()[0])
    assert exposure <= 2.0, judged


def test_the_units_are_sound(host: Host) -> None:
    units = (
        SOCKET,
        SERVICE,
        "docker-volume-sshfs@x.service",
        "docker-volume-sshfs-release@x.service",
    )
    verified = host.machine.run("systemd-analyze", "verify", "--man=no", *units, check=False)
    complaints = [line for line in verified.stderr.splitlines() if "docker-volume-sshfs" in line]
    assert complaints == []


def test_the_drop_in_orders_every_mount_before_docker(host: Host) -> None:
    directory = host.directory("ordered")
    host.create("my-ordered", directory)
    with host.writing("my-ordered", directory):
        unit = host.machine.run("systemd-escape", "--path", "--suffix=mount", f"{MOUNTS}/my-ordered").stdout.strip()
        assert "docker.service" in host.property(unit, "Before")
        assert "network-online.target" in host.property(unit, "After")


def test_daily_life_leaves_no_warning_in_the_journal(host: Host) -> None:
    machine, directory = host.machine, host.directory("daily")
    cursor = machine.run("journalctl", "-n", "1", "--show-cursor").stdout.rpartition("-- cursor: ")[2].strip()
    machine.run("systemctl", "restart", SERVICE)
    host.create("daily", directory)
    host.run("daily", "touch /data/file")
    machine.run("docker", "volume", "rm", "daily")
    machine.run("systemctl", "stop", SERVICE)
    said = ("journalctl", "-q", f"--after-cursor={cursor}", "-u", f"{PACKAGE}*", "-o", "cat")
    lines = machine.run(*said).stdout.splitlines()
    assert "Mount daily: mounted" in lines
    assert [line for line in lines if re.search("warn|deprecat", line, re.IGNORECASE)] == []
    # said by systemd 257 of a host whose cgroups are of both versions
    warned = machine.run(*said, "-p", "warning", check=False).stdout.splitlines()
    assert [line for line in warned if "compat systemd cgroup" not in line] == []


def test_a_service_that_cannot_start_does_not_hang_docker(host: Host) -> None:
    machine = host.machine
    drop_in = "/run/systemd/system/docker-volume-sshfs.service.d/broken.conf"
    machine.sh(f"systemctl stop {SERVICE} && mkdir -p $(dirname {drop_in})")
    machine.write(drop_in, "[Service]\nExecStart=\nExecStart=/bin/sh -c 'sleep 2.5; exit 1'\n")
    try:
        machine.run("systemctl", "daemon-reload")
        started = time.monotonic()
        machine.run("docker", "volume", "create", "-d", "sshfs", "broken", check=False, timeout=100)
        assert time.monotonic() - started < 90
        assert host.property(SOCKET, "ActiveState") == "failed"
        assert not machine.run("test", "-e", SPEC, check=False)
    finally:
        machine.sh(f"rm {drop_in} && systemctl daemon-reload && systemctl reset-failed '{PACKAGE}*'")
        machine.run("systemctl", "start", SOCKET)
    machine.run("docker", "volume", "ls")
    assert host.property(SERVICE, "ActiveState") == "active"
