# SPDX-License-Identifier: MIT
"""docker-volume-sshfs doctor on a booted host that is broken in one way after the other, and cured as it says."""

import re

from .host import KEY, MOUNTS, PACKAGE, STAY, Host
from .machines.commands import Result

SPEC = "/etc/docker/plugins/sshfs.spec"


def doctor(host: Host) -> Result:
    """Run it; no mount may hold it up."""
    said = host.machine.run(PACKAGE, "doctor", check=False)
    assert said.seconds < 60, said
    return said


def cure(host: Host, fault: str, *, level: str = "error") -> str:
    """See that a fault is the only one of its level, and return what is to be done about it.

    The clock is that of the host that the machine runs on, which may have no server for its time.
    """
    said = doctor(host)
    assert said.returncode == (1 if level == "error" else 0), said
    lines = said.stdout.splitlines()
    told = [line for line in lines if line.startswith(level) and "the clock is not synchronised" not in line]
    assert [line for line in told if fault not in line] == [], said
    assert told, said
    return lines[lines.index(told[0]) + 1].strip()


def test_faults_are_named_and_their_cures_work(host: Host) -> None:
    machine = host.machine
    key, remote, left = "/root/keys/for_doctor", f"/etc/{PACKAGE}/remotes.d/nas.conf", f"{MOUNTS}/left"
    machine.sh(f"install -m 600 {KEY} {key}")
    machine.write(remote, f"[remote]\nhost = nas\nuser = alice\nIdentityFile = {key}\n", mode=0o600)
    host.create("photos", host.directory("photos"), IdentityFile=key)
    host.start("user", "photos", STAY)
    well = doctor(host)
    assert well.returncode == 0, well
    assert "fine    the service answers, and has 1 volume\n" in well.stdout
    assert "fine    Docker answers, and has taken the driver up\n" in well.stdout

    machine.run("systemctl", "stop", f"{PACKAGE}.socket", f"{PACKAGE}.service")
    machine.sh(cure(host, f"{PACKAGE}.socket is closed, inactive (dead)"))

    machine.sh(f"rm {SPEC} && echo unix:///run/other.sock >{SPEC}")
    assert cure(host, f"Docker calls unix:///run/other.sock, by {SPEC}") == "remove that, and restart Docker"
    machine.run("rm", SPEC)
    machine.sh(cure(host, f"{SPEC} is missing"))

    machine.run("chmod", "644", key)
    machine.sh(cure(host, f"cannot use the identity file {key}, ssh refuses it because other users can read it"))
    machine.run("chmod", "644", remote)
    machine.sh(cure(host, f"remote 'nas' can't be used, {remote} is open to users other than root"))

    # with something in it the service itself leaves it
    machine.sh(f"mkdir {left} && touch {left}/file")
    told = cure(host, f"the mountpoint {left} is left over", level="warning")
    machine.sh(f"rm {left}/file; {told.removeprefix('look what is in it; then ')}")

    machine.sh("touch /run/no-device && mount --bind /run/no-device /dev/fuse")
    assert cure(host, "nothing can be mounted, /dev/fuse is no device").startswith("modprobe fuse")
    machine.run("umount", "/dev/fuse")

    machine.run("systemctl", "stop", "docker.service")
    said = doctor(host).stdout
    assert "fine    Docker is not running, and docker.socket starts it at its first use\n" in said, said
    assert host.property("docker.socket", "ActiveState") == "active", "to ask Docker would start it"
    assert host.property("docker.service", "ActiveState") == "inactive"
    machine.run("systemctl", "stop", "docker.socket")
    told = cure(host, "Docker is not running, docker.service is inactive (dead)", level="warning")
    machine.sh(told.partition(";")[0])
    machine.run("docker", "start", "user")
    machine.until(lambda: doctor(host).returncode == 0)

    machine.run("systemctl", "stop", f"{PACKAGE}@photos")
    told = cure(host, "the volume 'photos' is not mounted, although containers hold it")
    assert told == "restart them: docker ps --filter volume=photos shows them"
    machine.run("docker", "restart", "-t", "0", "user")

    machine.sh("pkill -STOP -x sftp-server")
    try:
        doctor(host)
    finally:
        machine.sh("pkill -CONT -x sftp-server")
    machine.run("rm", remote)
    machine.until(lambda: not re.search("^error", doctor(host).stdout, re.MULTILINE))
    assert "fine    the keys and passwords of all volumes and remotes can be used\n" in doctor(host).stdout
    machine.run("rm", key)
