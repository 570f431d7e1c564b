# SPDX-License-Identifier: MIT
"""The lab itself: what every other test in this directory takes for granted."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from .machines.machine import CONTENT_IMAGE, IMAGE, Machine
from .machines.network import Network

UNKNOWN = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
SSH = f"ssh -o BatchMode=yes -i /root/keys/id_ed25519 {UNKNOWN}"


def test_machine_is_booted_by_systemd(machine: Machine) -> None:
    assert machine.read("/proc/1/comm") == "systemd\n"
    assert machine.run("systemctl", "is-system-running", check=False).stdout == "running\n"
    assert machine.run("hostname").stdout == "lab\n"


def test_release_is_the_wanted_one(machine: Machine, release: str) -> None:
    assert f"VERSION_CODENAME={release}\n" in machine.read("/etc/os-release")


VERSIONS = {"bookworm": ("20.10.", "4.3."), "trixie": ("26.1.", "5.4.")}
"""Of Docker and Podman, as the README says that they are tested."""


def test_engines_are_those_that_the_readme_names(machine: Machine, release: str) -> None:
    docker, podman = VERSIONS[release]
    assert machine.run("docker", "version", "-f", "{{.Server.Version}}").stdout.startswith(docker)
    assert machine.run("podman", "version", "-f", "{{.Version}}").stdout.startswith(podman)


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_engine_runs_a_container(machine: Machine, engine: str) -> None:
    words = (engine, "run", "--rm", "--network=none", IMAGE, "echo", "hello")
    assert machine.run(*words).stdout == "hello\n"


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_content_of_an_image_is_copied_into_an_empty_volume(machine: Machine, engine: str) -> None:
    volume = f"{engine} run --rm --network=none -v lab-copy:/data {CONTENT_IMAGE}"
    machine.sh(f"{volume} sh -c 'echo changed > /data/file'")
    assert machine.sh(f"{volume} cat /data/file /data/sub/file").stdout == "changed\ncontent below\n"
    machine.run(engine, "volume", "rm", "lab-copy")


def test_sshd_accepts_the_key(machine: Machine) -> None:
    assert machine.sh(f"{SSH} alice@127.0.0.1 id -u").stdout == "1000\n"


def test_sshd_accepts_the_password(machine: Machine) -> None:
    machine.write("/root/askpass", "#!/bin/sh\necho 'correct horse battery'\n", 0o700)
    login = f"ssh -o PubkeyAuthentication=no {UNKNOWN}"
    script = f"SSH_ASKPASS=/root/askpass SSH_ASKPASS_REQUIRE=force {login} alice@127.0.0.1 id -u"
    assert machine.sh(script).stdout == "1000\n"


def test_sshfs_mounts_and_its_read_ahead_can_be_set(machine: Machine) -> None:
    machine.run("mkdir", "-p", "/mnt/far")
    machine.sh(f"sshfs -o 'ssh_command={SSH}' alice@127.0.0.1: /mnt/far")
    try:
        machine.sh("echo 1024 > /sys/class/bdi/$(findmnt -rno MAJ:MIN /mnt/far)/read_ahead_kb")
        machine.sh("echo near > /mnt/far/file")
        assert machine.read("/home/alice/file") == "near\n"
    finally:
        machine.run("umount", "--lazy", "/mnt/far")


def test_immutable_directory_refuses_files(machine: Machine) -> None:
    machine.sh("mkdir /var/lib/fixed && chattr +i /var/lib/fixed")
    refused = machine.run("touch", "/var/lib/fixed/file", check=False)
    machine.sh("chattr -i /var/lib/fixed && rmdir /var/lib/fixed")
    assert "Operation not permitted" in refused.stderr


def test_package_is_installed_without_a_network(machine: Machine) -> None:
    fields = (
        "Package: lab-probe",
        "Version: 1",
        "Architecture: all",
        "Maintainer: Lab <lab@localhost>",
        "Depends: sshfs, gunicorn, python3-flask, python3-paramiko, python3-systemd",
        "Description: probe",
    )
    machine.write("/root/probe/DEBIAN/control", "".join(f"{field}\n" for field in fields))
    machine.sh("dpkg-deb --root-owner-group --build /root/probe /root/probe.deb")
    machine.sh("DEBIAN_FRONTEND=noninteractive apt-get install --yes /root/probe.deb")
    machine.run("dpkg", "--purge", "lab-probe")


def test_failed_command_shows_what_it_printed(machine: Machine) -> None:
    shown = r"(?s)ended with 3 .*stdout ---\nout\n--- stderr ---\nerr"
    with pytest.raises(AssertionError, match=shown):
        machine.sh("echo out; echo err >&2; exit 3")


def test_hanging_command_is_killed_at_its_limit(machine: Machine) -> None:
    result = machine.run("sleep", "60", check=False, timeout=0.5)
    assert result.timed_out
    machine.until("! pgrep -x sleep")


def test_command_belongs_to_the_machine(machine: Machine) -> None:
    assert "/.." not in machine.read("/proc/self/cgroup")


def test_pushed_file_keeps_its_bytes_and_its_mode(machine: Machine, tmp_path: Path) -> None:
    source = tmp_path / "script"
    source.write_bytes(bytes(range(256)))
    source.chmod(0o750)
    machine.push(source, "/root/pushed")
    digest = hashlib.sha256(bytes(range(256))).hexdigest()
    assert machine.run("sha256sum", "/root/pushed").stdout.split()[0] == digest
    assert machine.run("stat", "-c", "%a", "/root/pushed").stdout == "750\n"


def test_file_survives_write_and_read(machine: Machine) -> None:
    machine.write("/root/a directory/file", "täxt\n", 0o600)
    assert machine.read("/root/a directory/file") == "täxt\n"
    assert machine.run("stat", "-c", "%a", "/root/a directory/file").stdout == "600\n"


def test_reboot_keeps_the_disk_and_loses_run(machine: Machine) -> None:
    machine.sh("touch /run/gone /var/lib/kept")
    machine.reboot()
    assert not machine.run("test", "-e", "/run/gone", check=False)
    machine.run("rm", "/var/lib/kept")


def test_container_with_a_restart_policy_is_back_when_the_power_was_cut(machine: Machine) -> None:
    options = "--detach --name=back --restart=always --network=none"
    machine.sh(f"docker run {options} {IMAGE} sleep 600")
    machine.cut_power()
    machine.boot()
    machine.until("docker inspect -f '{{.State.Running}}' back | grep -qx true")
    machine.run("docker", "rm", "-f", "back")


def bridges() -> set[str]:
    return {path.name for path in Path("/sys/class/net").glob("lab-*")}


def test_network_is_removed_at_the_end_and_that_of_a_killed_run_by_the_next() -> None:
    before = bridges()
    killed = "import os; from lab.machines.network import Network; Network('one').__enter__(); os._exit(0)"
    tests = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", killed], check=True, cwd=tests)
    assert len(bridges() - before) == 1
    with Network("one") as network:
        assert bridges() - before == {network.place("one").bridge}
    assert bridges() == before
