# SPDX-License-Identifier: MIT
"""The package on a booted host: what installing it does, and what its units are."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .host import MOUNTS, PACKAGE, Host
from .machines.machine import IMAGE

SOCKET = "docker-volume-sshfs.socket"
SERVICE = "docker-volume-sshfs.service"
ACTIVATE = "docker-volume-sshfs-activate.service"
REOPEN = "docker-volume-sshfs-reopen.service"
SPEC = "/etc/docker/plugins/sshfs.spec"


def test_install_opens_the_socket_and_docker_finds_the_plugin(host: Host) -> None:
    machine = host.machine
    assert host.property(SOCKET, "ActiveState") == "active"
    assert machine.run("systemctl", "is-enabled", SOCKET).stdout.strip() == "enabled"
    assert machine.read(SPEC) == "unix:///run/docker-volume-sshfs/sshfs.sock\n"
    with host.without_a_wait_for_a_plugin():
        machine.run("docker", "volume", "ls")
    assert "sshfs" in machine.run("docker", "info", "-f", "{{.Plugins.Volume}}").stdout
    assert host.property(SERVICE, "ActiveState") == "active"
    assert host.property(SERVICE, "StatusText") in ("", "0 volumes, 0 mounted")


def test_where_python_is_too_old_apt_says_so(host: Host) -> None:
    """On Debian 11 the service could not start."""
    needed = host.machine.run("dpkg-query", "--show", "--showformat=${Depends}", PACKAGE).stdout
    assert "python3:any (>= 3.11~)" in needed.split(", ")


def dockers_drivers(host: Host) -> str:
    """Return the volume drivers that Docker has taken up, from which Swarm's scheduler chooses."""
    return host.machine.run("docker", "info", "-f", "{{.Plugins.Volume}}").stdout


def await_the_driver(host: Host) -> None:
    """Wait until Docker has taken the driver up, with nobody asking for it."""
    host.machine.until(lambda: "sshfs" in dockers_drivers(host))


def test_docker_takes_the_driver_up_at_each_of_its_starts_without_a_volume(host: Host) -> None:
    """After a restart, a crash and a reboot; a node that has no volume yet is one for Swarm's tasks."""
    machine = host.machine
    assert machine.run("docker", "volume", "ls", "-q").stdout == ""
    machine.run("systemctl", "restart", "docker")
    await_the_driver(host)
    before = host.property("docker", "MainPID")
    machine.run("systemctl", "kill", "-s", "KILL", "docker")
    machine.until(lambda: host.property("docker", "MainPID") not in ("0", before))
    machine.until("docker info")
    await_the_driver(host)
    machine.reboot()
    await_the_driver(host)
    assert host.property(ACTIVATE, "Result") == "success"


@contextmanager
def service_that_starts_slowly(host: Host) -> Iterator[None]:
    """Let the service not be up before there is a file /run/answer, and Docker be started meanwhile."""
    machine, drop_in = host.machine, "/run/systemd/system/docker-volume-sshfs.service.d/slow.conf"
    held = "/bin/sh -c 'until test -e /run/answer; do sleep 0.1; done'"
    machine.write(drop_in, f"[Service]\nExecStartPre={held}\nTimeoutStartSec=infinity\n")
    machine.sh(f"rm -f /run/answer; systemctl daemon-reload && systemctl stop {SERVICE}")
    try:
        machine.run("systemctl", "restart", "docker")
        machine.until(lambda: host.property(ACTIVATE, "SubState") == "running")
        yield
    finally:
        machine.sh(f"touch /run/answer; rm {drop_in} && systemctl daemon-reload")


def test_docker_does_not_wait_for_a_plugin_that_does_not_answer(host: Host) -> None:
    with service_that_starts_slowly(host):
        host.machine.run("docker", "run", "--rm", IMAGE, "true")
        assert host.property(ACTIVATE, "SubState") == "running", "it waits, and Docker does not"
        host.machine.run("touch", "/run/answer")
        await_the_driver(host)


def test_docker_that_leads_a_swarm_before_the_plugin_answers_goes_on(host: Host) -> None:
    """One that waits for a plugin's first answer at that moment never answers for volumes again (docs/facts.md)."""
    with service_that_starts_slowly(host), host.swarm():
        host.machine.run("touch", "/run/answer")
        await_the_driver(host)
        host.machine.run("timeout", "60", "docker", "volume", "ls")


def test_docker_that_starts_while_the_one_before_is_still_asked_is_asked_anew(host: Host) -> None:
    machine, drop_in = host.machine, f"/run/systemd/system/{ACTIVATE}.d/slow.conf"
    slow_once = "/bin/sh -c 'test -e /run/asked || { touch /run/asked; exec sleep infinity; }'"
    machine.write(drop_in, f"[Service]\nExecStartPost=+{slow_once}\nTimeoutStartSec=infinity\n")
    machine.sh("rm -f /run/asked; systemctl daemon-reload")
    try:
        machine.run("systemctl", "restart", "docker")
        machine.until("test -e /run/asked")
        machine.run("systemctl", "restart", "docker")
        await_the_driver(host)
    finally:
        machine.sh(f"rm {drop_in} && systemctl daemon-reload && systemctl restart {ACTIVATE}")


def test_where_docker_is_stopped_installing_does_not_start_it(host: Host) -> None:
    machine = host.machine
    machine.run("systemctl", "stop", "docker.service")
    try:
        host.install()
        assert host.property("docker.socket", "ActiveState") == "active", "to ask Docker would start it"
        assert host.property("docker.service", "ActiveState") == "inactive"
    finally:
        machine.run("systemctl", "start", "docker.service")


def test_where_docker_has_no_command_nobody_asks_it(host: Host) -> None:
    machine = host.machine
    # Docker may just have been started, and be asked still
    machine.until(
        f"! systemctl list-jobs --no-legend | grep . && systemctl show -P ActiveState {ACTIVATE} | grep inactive"
    )
    machine.run("mv", "/usr/bin/docker", "/usr/bin/docker.away")
    try:
        machine.run("systemctl", "restart", "docker")
        machine.until(lambda: host.property(ACTIVATE, "ConditionResult") == "no")
        assert host.property(ACTIVATE, "Result") == "success"
    finally:
        machine.run("mv", "/usr/bin/docker.away", "/usr/bin/docker")


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
    assert host.property(SERVICE, "MemoryMax") == str(1024**3)


def test_the_units_are_sound(host: Host) -> None:
    units = (
        SOCKET,
        SERVICE,
        ACTIVATE,
        REOPEN,
        "docker-volume-sshfs@x.service",
        "docker-volume-sshfs-release.service",
        "docker-volume-sshfs-metrics.service",
        "docker-volume-sshfs-metrics.timer",
    )
    verified = host.machine.run("systemd-analyze", "verify", "--man=no", *units, check=False)
    complaints = [line for line in verified.stderr.splitlines() if "docker-volume-sshfs" in line]
    assert complaints == []


def test_the_drop_in_orders_every_mount_before_docker(host: Host) -> None:
    directory = host.directory("ordered")
    host.create("my-ordered", directory)
    with host.writing("my-ordered", directory):
        unit = host.machine.run("systemd-escape", "--path", "--suffix=mount", f"{MOUNTS}/my-ordered").stdout.strip()
        # systemd learns of mounts a moment later
        host.machine.until(lambda: "docker.service" in host.property(unit, "Before"))
        assert "network-online.target" in host.property(unit, "After")


def test_daily_life_leaves_no_warning_in_the_journal(host: Host) -> None:
    machine, directory = host.machine, host.directory("daily")
    said = (host.from_here(), "-u", f"{PACKAGE}*")
    machine.run("systemctl", "restart", "docker")
    await_the_driver(host)
    machine.run("systemctl", "restart", SERVICE)
    host.create("daily", directory)
    host.run("daily", "touch /data/file")
    machine.run("docker", "volume", "rm", "daily")
    machine.run("systemctl", "stop", SERVICE)
    lines = machine.journal(*said).splitlines()
    assert "Mount daily: mounted" in lines
    assert [line for line in lines if re.search("warn|deprecat", line, re.IGNORECASE)] == []
    # said by systemd 257 of a host whose cgroups are of both versions
    warned = machine.journal(*said, "-p", "warning").splitlines()
    assert [line for line in warned if "compat systemd cgroup" not in line] == []


def test_installing_does_not_wait_for_a_docker_that_hangs(host: Host) -> None:
    machine = host.machine
    await_the_driver(host)
    docker = host.property("docker", "MainPID")
    machine.run("kill", "-STOP", docker)
    try:
        started = time.monotonic()
        machine.run("systemctl", "restart", ACTIVATE)  # as the package's script does it
        assert time.monotonic() - started < 30
        assert host.property(ACTIVATE, "SubState") == "running"
    finally:
        machine.run("kill", "-CONT", docker)
    machine.until(lambda: host.property(ACTIVATE, "SubState") == "dead")
    assert host.property(ACTIVATE, "Result") == "success"


def test_for_dockers_client_root_has_no_configuration_rather_than_one_that_can_not_be_read(host: Host) -> None:
    """Docker 28's client would complain of that in the journal at each start of Docker; Debian's do not."""
    machine, drop_in = host.machine, f"/run/systemd/system/{ACTIVATE}.d/lab.conf"
    look = """/bin/sh -c 'ls /root/.docker 2>&1 | grep "No such file"'"""
    machine.run("mkdir", "/root/.docker")
    machine.write(drop_in, f"[Service]\nType=oneshot\nExecStart=\nExecStart={look}\n")
    try:
        machine.sh(f"systemctl daemon-reload && systemctl restart {ACTIVATE}")
    finally:
        machine.sh(f"rm -r /root/.docker {drop_in} && systemctl daemon-reload && systemctl restart {ACTIVATE}")


@contextmanager
def failing(host: Host, command: str, pause: float) -> Iterator[None]:
    """Let the service fail at its start, and the pauses after which systemd tries again be short."""
    machine = host.machine
    settings = {
        SERVICE: f"[Unit]\nStartLimitIntervalSec={pause}\n[Service]\nExecStart=\nExecStart=/bin/sh -c '{command}'\n",
        REOPEN: "[Service]\nExecStart=\n" f"ExecStart=/bin/sh -c 'sleep {pause} && exec systemctl start {SOCKET}'\n",
    }
    machine.run("systemctl", "stop", SERVICE)
    for unit, text in settings.items():
        machine.write(f"/run/systemd/system/{unit}.d/lab.conf", text)
    machine.run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        mend(host)
        machine.sh(f"systemctl stop {REOPEN} && rm /run/systemd/system/{REOPEN}.d/lab.conf && systemctl daemon-reload")
        machine.sh(f"systemctl reset-failed '{PACKAGE}*' && systemctl start {SOCKET}")
    machine.run("docker", "volume", "ls")
    assert host.property(SERVICE, "ActiveState") == "active"


def mend(host: Host) -> None:
    """Let the service start again as it should."""
    host.machine.sh(f"rm -f /run/systemd/system/{SERVICE}.d/lab.conf && systemctl daemon-reload")


def until_closed(host: Host) -> None:
    """Call the service until systemd has closed its socket."""
    host.machine.run("docker", "volume", "create", "-d", "sshfs", "broken", check=False)
    assert host.property(SOCKET, "ActiveState") == "failed"
    assert not host.machine.run("test", "-e", SPEC, check=False)
    assert host.property(REOPEN, "ActiveState") == "active"


def test_a_service_that_hangs_is_started_again_and_containers_do_not_notice(host: Host) -> None:
    machine, directory = host.machine, host.directory("watched")
    host.create("watched", directory)
    drop_in = f"/run/systemd/system/{SERVICE}.d/lab.conf"
    machine.write(drop_in, "[Service]\nWatchdogSec=4\nTimeoutAbortSec=2\n")
    machine.sh(f"systemctl daemon-reload && systemctl restart {SERVICE}")
    try:
        with host.writing("watched", directory):
            hung = machine.sh(f"pgrep -P {host.property(SERVICE, 'MainPID')}").stdout.split()
            before = int(host.property(SERVICE, "NRestarts"))
            machine.run("kill", "-STOP", *hung)
            machine.until(lambda: int(host.property(SERVICE, "NRestarts")) > before)
            machine.run("docker", "volume", "inspect", "watched")
            assert host.status("watched")["state"] == "mounted"
    finally:
        machine.sh(f"rm {drop_in} && systemctl daemon-reload && systemctl restart {SERVICE}")


def test_a_service_that_cannot_start_does_not_hang_docker(host: Host) -> None:
    with failing(host, "sleep 2.5; exit 1", pause=180):
        started = time.monotonic()
        until_closed(host)
        assert time.monotonic() - started < 90


def test_a_socket_that_was_closed_for_failures_opens_by_itself(host: Host) -> None:
    with failing(host, "exit 1", pause=40):
        until_closed(host)
        mend(host)
        host.machine.until(lambda: host.property(SOCKET, "ActiveState") == "active")
        assert host.machine.read(SPEC) == "unix:///run/docker-volume-sshfs/sshfs.sock\n"
        host.machine.run("docker", "volume", "ls")
        assert host.property(SERVICE, "ActiveState") == "active"
        assert host.property(REOPEN, "ActiveState") == "inactive"


def test_a_socket_that_was_closed_for_crashes_opens_by_itself(host: Host) -> None:
    with failing(host, "exec /usr/bin/gunicorn -c python:sshfs_plugin.gunicorn_conf", pause=60):
        for _ in range(8):
            host.machine.sh(f"docker volume ls && systemctl kill --signal=KILL {SERVICE}")
        host.machine.until(lambda: host.property(SOCKET, "ActiveState") == "failed")
        host.machine.until(lambda: host.property(SOCKET, "ActiveState") == "active")
        host.machine.run("docker", "volume", "ls")


def test_a_socket_that_an_administrator_has_stopped_stays_closed(host: Host) -> None:
    with failing(host, "exit 1", pause=180):
        until_closed(host)
        host.machine.run("systemctl", "stop", SOCKET)
        assert host.property(REOPEN, "ActiveState") == "inactive"
        assert host.property(SOCKET, "ActiveState") != "active"
