# SPDX-License-Identifier: MIT
"""What runs as root for a volume: how little it may do beside its work, and that it is the last to want memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .host import PACKAGE, STAY, Host
from .machines.machine import Machine

VOLUME, CONNECTION = "docker-volume-sshfs@", "docker-volume-sshfs-connection@"

FEW = {"CAP_DAC_OVERRIDE": 1, "CAP_DAC_READ_SEARCH": 2}
"""The capabilities of a connection, and their numbers."""

CAPABILITIES = {
    CONNECTION: FEW,
    VOLUME: FEW
    | {"CAP_CHOWN": 0, "CAP_FOWNER": 3, "CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_LINUX_IMMUTABLE": 9}
    | {"CAP_SYS_ADMIN": 21},
}

PROBE = """\
import ctypes, json, os, socket, sys

libc = ctypes.CDLL(None, use_errno=True)
file, said = sys.argv[1:]

def call(name, *words):
    if getattr(libc, name)(*words) < 0:
        raise OSError(ctypes.get_errno(), "")

def set_uid_bit():
    open(file, "w").close()
    os.chmod(file, 0o4755)

attempts = {
    "mount": lambda: call("mount", None, None, None, 0, None),
    "look into other programs": lambda: call("ptrace", 0, 0, 0, 0),
    "switch swap on": lambda: call("swapon", b"/nothing", 0),
    "be root of a namespace": lambda: call("unshare", 0x10000000),
    "have mounts of its own": lambda: call("unshare", 0x20000),
    "have a network of its own": lambda: call("unshare", 0x40000000),
    "make a program that runs as its owner": set_uid_bit,
    "be another kind of machine": lambda: call("personality", 8),
    "speak to any device of a network": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "speak to a hypervisor": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM),
    "speak TCP": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "speak TCP over IPv6": lambda: socket.socket(socket.AF_INET6, socket.SOCK_STREAM),
    "speak to a program of this host": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
}

# a process for each, since what it tries may end it
def outcome(attempt):
    child = os.fork()
    if child == 0:
        try:
            attempt()
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {0: "done", -31: "killed"}.get(code) or os.strerror(code)

with open(said, "w") as output:
    json.dump({what: outcome(attempt) for what, attempt in attempts.items()}, output)
"""
"""Tries what a program that was taken over would try."""

NOT_PERMITTED, NO_SUCH_FAMILY = "Operation not permitted", "Address family not supported by protocol"

OUTCOMES = {
    "look into other programs": "killed",
    "switch swap on": "killed",
    "be root of a namespace": NOT_PERMITTED,
    "have mounts of its own": NOT_PERMITTED,
    "have a network of its own": NOT_PERMITTED,
    "make a program that runs as its owner": NOT_PERMITTED,
    "be another kind of machine": NOT_PERMITTED,
    "speak to any device of a network": NO_SUCH_FAMILY,
    "speak to a hypervisor": NO_SUCH_FAMILY,
    "speak TCP": "done",
    "speak TCP over IPv6": "done",
    "speak to a program of this host": "done",
}

NOT_SEEN_HERE = {
    "DevicePolicy": "closed",
    "KeyringMode": "private",
    "RestrictRealtime": "yes",
    "SystemCallArchitectures": "native",
    "UMask": "0077",
}
"""Settings that a machine of the lab can't show at work, or not apart from others."""


def connections(host: Host) -> list[str]:
    """Return the units of shared connections."""
    words = ("list-units", "--plain", "--no-legend", f"{CONNECTION}*.service")
    return [line.split()[0] for line in host.machine.run("systemctl", *words).stdout.splitlines()]


def processes(host: Host, unit: str) -> dict[str, list[dict[str, str]]]:
    """Return what the kernel says of each process of a unit, by the name of its program."""
    # in one hierarchy, or in one of several
    places = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    files = [f"{place}{host.property(unit, 'ControlGroup')}/cgroup.procs" for place in places]
    found: dict[str, list[dict[str, str]]] = {}
    for pid in host.machine.run("cat", *files, check=False).stdout.split():
        read = host.machine.sh("cat /proc/$1/status; echo oom: $(cat /proc/$1/oom_score_adj)", pid, check=False)
        if read:  # else it was of a step, and has ended
            status = {
                name: value.strip() for name, _, value in (line.partition(":") for line in read.stdout.splitlines())
            }
            found.setdefault(status["Name"], []).append(status)
    return found


@pytest.fixture
def probed(host: Host) -> Iterator[str]:
    """Let the units try what a program that was taken over would; give the path that what each says begins with."""
    said = f"/run/{PACKAGE}/probe"
    host.machine.write("/root/probe.py", PROBE)
    for unit in CAPABILITIES:
        line = f"ExecStartPre=/usr/bin/python3 /root/probe.py {said}.file {said}.{unit}\n"
        host.machine.write(f"/run/systemd/system/{unit}.service.d/probe.conf", f"[Service]\n{line}")
    host.machine.run("systemctl", "daemon-reload")
    yield said
    host.clear()
    host.machine.sh(f"rm -r /root/probe.py {said}.* /run/systemd/system/{PACKAGE}*@.service.d; systemctl daemon-reload")


def test_what_runs_as_root_for_a_volume_may_do_little_beside(host: Host, probed: str) -> None:
    host.create("confined", host.directory("confined"))
    host.start("user", "confined", STAY)
    (connection,) = connections(host)
    volume = f"{VOLUME}confined.service"
    # a machine may be in a sandbox where nobody may
    spared = "-500" if host.machine.run("choom", "-n", "-500", "--", "true", check=False) else "0"
    for template, unit, programs in ((VOLUME, volume, {"sshfs", "relay"}), (CONNECTION, connection, {"ssh"})):
        of_unit = processes(host, unit)
        assert of_unit.keys() >= programs
        allowed = f"{sum(1 << number for number in CAPABILITIES[template].values()):016x}"
        for status in (each for same in of_unit.values() for each in same):
            assert {status[f"Cap{kind}"] for kind in ("Prm", "Eff", "Bnd")} == {allowed}
            assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
            assert status["oom"] == spared
        assert host.property(unit, "OOMScoreAdjust") == "-500"
        assert host.property(unit, "SyslogLevelPrefix") == "no"
        assert {name: host.property(unit, name) for name in NOT_SEEN_HERE} == NOT_SEEN_HERE
        said: dict[str, Any] = json.loads(host.machine.read(f"{probed}.{template}"))
        # what sshfs needs is let through, and then there is no such file system
        assert said.pop("mount") == ("Bad address" if template == VOLUME else "killed")
        assert said == OUTCOMES
    assert host.property(volume, "OOMPolicy") == "continue"
    assert 0 < int(host.property(volume, "MemoryMax")) < 2**63, "a part of this host's memory"
    assert host.property(volume, "DeviceAllow") == "/dev/fuse rw"


KILL_FOR_MEMORY = """\
import os, signal, subprocess, sys

cgroup = "/sys/fs/cgroup" + sys.argv[1]
# PID 1 hears of the end of its own children alone
script = 'echo $$ >"$0/cgroup.procs"; sleep 1000 >/dev/null 2>&1 & echo $!'
victim = int(subprocess.run(["sh", "-e", "-c", script, cgroup], stdout=subprocess.PIPE, check=True).stdout)
# as systemd-oomd tells PID 1 that it was that
before = int(os.getxattr(cgroup, "user.oomd_ooms")) if "user.oomd_ooms" in os.listxattr(cgroup) else 0
os.setxattr(cgroup, "user.oomd_ooms", str(before + 1).encode())
os.kill(victim, signal.SIGKILL)
"""
"""Kills a process of a unit beside its main one, and has it count as killed for want of memory."""


@pytest.mark.long
def test_volume_goes_on_when_a_process_beside_its_sshfs_is_killed_for_want_of_memory(
    release: str, package: Path
) -> None:
    """Which systemd notices where there is one hierarchy of cgroups."""
    unit, counted = f"{VOLUME}spared.service", "systemd-oomd killed some process(es) in this unit"
    with Machine(release, one_hierarchy=True) as machine:
        machine.boot()
        machine.import_busybox_image()
        host = Host(machine, package)
        host.install()
        host.create("spared", host.directory("spared"))
        host.start("user", "spared", STAY)
        sshfs = host.sshfs("spared")

        def kill() -> None:
            before = machine.journal("-u", unit).count(counted)
            machine.run("/usr/bin/python3", "-c", KILL_FOR_MEMORY, host.property(unit, "ControlGroup"))
            machine.until(lambda: machine.journal("-u", unit).count(counted) == before + 1)

        kill()
        machine.run("docker", "exec", "user", "touch", "/data/goes-on")
        assert host.sshfs("spared") == sshfs

        machine.write(f"/run/systemd/system/{VOLUME}.service.d/stop.conf", "[Service]\nOOMPolicy=stop\n")
        machine.run("systemctl", "daemon-reload")
        kill()
        machine.until(lambda: host.sshfs("spared") != sshfs)
        ended = machine.run("docker", "exec", "user", "touch", "/data/goes-on", check=False)
        assert "Transport endpoint is not connected" in ended.stderr
