# SPDX-License-Identifier: MIT
"""The managed plugin: made of the package by our script, used by Docker, gone and come back, pushed and installed."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .documents import script, section
from .host import PACKAGE, STAY, Host
from .machines import base_image
from .machines.machine import IMAGE, Machine
from .story import live_in_containers, tell_calls

KEY = "/root/.ssh/id_ed25519"
IN_PLUGIN = "runc --root /run/docker/runtime-runc/plugins.moby exec"
BEAT = "trap exit TERM; while true; do date >>/data/beat; sleep 0.1; done"

WORKSHOP = "/root/workshop"
"""Is there when a machine has been given all that the plugin is made of."""

LARGEST = 160
"""MB that the plugin may take on a disk."""

_REGISTRY = """\
version: 0.1
storage: {filesystem: {rootdirectory: /srv/registry/storage}}
http: {addr: "127.0.0.1:443", tls: {certificate: /srv/registry/certificate, key: /srv/registry/key}}
"""
_CERTIFICATE = (
    "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=example.org -addext subjectAltName=DNS:example.org"
)
_TRUSTED = "/etc/docker/certs.d/example.org"


pytestmark = pytest.mark.usefixtures("leaves_the_machine_changed")


class Managed:
    """The plugin ``sshfs``, on a machine without the package."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.machine = host.machine

    def make(self) -> None:
        """Make and enable it as a user does."""
        words = f"scripts/managed-plugin ../{self.host.package.name} sshfs sshkey.source=/root/.ssh"
        self.machine.sh(f"cd /root/checkout && {words}")

    def restore(self) -> None:
        """Let the plugin be there, enabled, and without volumes, whatever a test has left."""
        self.remove_package()
        self.host.clear()
        enabled = self.machine.run("docker", "plugin", "inspect", "-f", "{{.Enabled}}", "sshfs", check=False)
        if not enabled:
            self.make()
        elif enabled.stdout == "false\n":
            self.enable()

    def remove_package(self) -> None:
        """Let Docker know no other plugin."""
        if self.host.is_installed():
            self.host.clear()
            self.host.apt(f"purge {PACKAGE}")
        known = self.machine.run("docker", "info", "-f", "{{range .Plugins.Volume}}{{println .}}{{end}}").stdout
        if "sshfs" in known.splitlines():  # which Docker keeps until its end, whoever has removed the package
            self.machine.run("systemctl", "restart", "docker")

    def remove(self) -> None:
        """Let Docker know no plugin and no volume."""
        self.remove_package()
        self.host.clear()
        self.machine.sh("docker plugin ls -q | xargs -r docker plugin rm -f")

    @property
    def id(self) -> str:
        """All of its ID."""
        return self.machine.run("docker", "plugin", "inspect", "-f", "{{.Id}}", "sshfs").stdout.strip()

    def create(self, name: str) -> str:
        """Create a volume with the key of the plugin, and return its directory on the server."""
        directory = self.host.directory(name)
        self.host.create(name, directory, IdentityFile=KEY)
        return directory

    def inside(self, command: str) -> str:
        """Return what a command prints in the plugin."""
        return self.machine.sh(f"{IN_PLUGIN} {self.id} {command}").stdout

    def mounts(self) -> list[str]:
        """Return the devices of the volumes that are mounted on the host."""
        listed = self.machine.run("findmnt", "-n", "-r", "-t", "fuse.sshfs", "-o", "MAJ:MIN", check=False).stdout
        return sorted(set(listed.split()))

    def log(self, since: str) -> str:
        """Return what Docker has logged of it since a moment, given as an option of journalctl."""
        plugin, lines = f"plugin={self.id}", self.machine.journal("-u", "docker", since).splitlines()
        return "\n".join(line for line in lines if plugin in line)

    def disabled(self, *settings: str) -> None:
        """Disable it while it is in use, change settings, and enable it."""
        self.machine.run("docker", "plugin", "disable", "-f", "sshfs")
        for setting in settings:
            self.machine.run("docker", "plugin", "set", "sshfs", setting)
        self.enable()

    def enable(self) -> None:
        """Enable it, and once more if Docker has unmounted the new mounts with the old ones (docs/facts.md)."""

        def is_seen() -> bool:
            self.machine.run("docker", "plugin", "enable", "sshfs")
            seen = self.machine.run("grep", "propagated-mount .* tmpfs volumes ", "/proc/self/mountinfo", check=False)
            if not seen:
                self.machine.run("docker", "plugin", "disable", "-f", "sshfs")
            return bool(seen)

        self.machine.until(is_seen)

    def await_beat(self, directory: str) -> None:
        """Wait until a container writes, anew if it must."""
        self.machine.sh(f"rm -f {directory}/beat")
        self.machine.until(f"test -s {directory}/beat")


@pytest.fixture
def workshop(machine: Machine, package: Path) -> Managed:
    """Give a machine without the package, with all that the plugin is made of."""
    workshop = Managed(Host(machine, package))
    workshop.remove_package()
    if not machine.run("test", "-e", WORKSHOP, check=False):
        base_image.give(machine, package)
        workshop.host.checkout()
        machine.push(package, f"/root/{package.name}")
        machine.sh("rm -rf /root/.ssh && mkdir -m 700 /root/.ssh && cp /root/keys/id_ed25519 /root/.ssh")
        machine.run("touch", WORKSHOP)
    return workshop


@pytest.fixture
def managed(workshop: Managed) -> Managed:
    """Give the plugin without volumes."""
    workshop.restore()
    return workshop


@pytest.fixture
def unmade(workshop: Managed) -> Managed:
    """Give the machine without the plugin, and with a directory on the server that the pages speak of."""
    workshop.remove()
    workshop.machine.sh("rm -rf /srv/photos && mkdir /srv/photos && chown alice: /srv/photos")
    workshop.machine.run("docker", "tag", IMAGE, "busybox")
    return workshop


def test_it_is_small(managed: Managed, capsys: pytest.CaptureFixture[str]) -> None:
    size = managed.machine.run("du", "-sm", f"/var/lib/docker/plugins/{managed.id}/rootfs").stdout.split()[0]
    with capsys.disabled():
        sys.stdout.write(f"\nthe managed plugin takes {size} MB\n")
    assert int(size) <= LARGEST


def test_a_volume_is_written_by_one_container_and_read_by_another(managed: Managed) -> None:
    directory = managed.create("album")
    managed.host.run("album", "echo hello >/data/file")
    assert managed.host.run("album", "cat /data/file").stdout == "hello\n"
    assert managed.machine.read(f"{directory}/file") == "hello\n"
    assert managed.host.inspect("album")["Driver"] == "sshfs:latest"
    managed.machine.until(lambda: managed.mounts() == [])


def test_it_answers_as_the_package_does_and_serves_containers_as_well(managed: Managed) -> None:
    curl = ("curl", "--unix-socket", f"/run/docker/plugins/{managed.id}/sshfs.sock")
    mounts = f"/var/lib/docker/plugins/{managed.id}/propagated-mount"
    tell_calls(
        *(managed.host, curl, "http://plugin"),
        key=KEY,
        on_the_host=lambda mountpoint: mountpoint.replace("/mnt/volumes", mounts),
    )
    live_in_containers(managed.host, "lived", key=KEY, managed=True)


def test_secrets_and_remotes_are_below_the_directory_with_keys(managed: Managed) -> None:
    machine, host, there = managed.machine, managed.host, f"/root/.ssh/{PACKAGE}"
    machine.write(f"{there}/remotes.d/nas.conf", "[remote]\nhost = localhost\nuser = alice\nsecret = nas\n", mode=0o600)
    machine.write(f"{there}/secrets.d/nas", "correct horse battery\n", mode=0o600)
    machine.write(f"{there}/secrets.d/pass", "hunter2\n", mode=0o600)
    machine.sh(f"cp {KEY} {there}/key; ssh-keygen -q -p -P '' -N hunter2 -f {there}/key")
    try:
        directory = host.directory("named")
        host.create("named", directory, sshcmd=None, IdentityFile=None, remote="nas", o=f"directory={directory}")
        host.create("locked", directory, IdentityFile=f"{there}/key", passphrase_secret="pass")
        for volume in ("named", "locked"):
            host.run(volume, f"touch /data/{volume}")
            assert machine.run("test", "-e", f"{directory}/{volume}")
    finally:
        host.clear()
        machine.run("rm", "-r", there)


def test_a_mistake_is_named(managed: Managed) -> None:
    refused = managed.host.create("album", "/srv/nowhere", check=False, IdentityFile=KEY)
    assert "the directory /srv/nowhere does not exist on localhost for alice" in refused.stderr


def test_a_volume_is_read_ahead_as_with_the_package(managed: Managed) -> None:
    managed.create("ahead")
    managed.host.start("reader", "ahead", STAY)
    (device,) = managed.mounts()
    assert managed.machine.read(f"/sys/class/bdi/{device}/read_ahead_kb") == "1024\n"


def test_the_command_tells_inside_what_it_tells_outside(managed: Managed) -> None:
    managed.create("seen")
    assert "seen  not mounted" in managed.inside("docker-volume-sshfs status")
    assert "✓ directory" in managed.inside("docker-volume-sshfs check seen")
    assert "the service answers, and has 1 volume" in managed.inside("docker-volume-sshfs doctor")


@pytest.mark.long
def test_a_directory_that_is_not_there_leaves_no_plugin_behind(managed: Managed) -> None:
    words = f"scripts/managed-plugin ../{managed.host.package.name} mistaken sshkey.source=/nowhere"
    refused = managed.machine.sh(f"cd /root/checkout && {words} 2>&1", check=False)
    assert refused.returncode != 0
    assert "/nowhere" in refused.stdout
    assert "mistaken" not in managed.machine.run("docker", "plugin", "ls").stdout
    assert managed.machine.run("docker", "ps", "-aq").stdout == ""


def test_a_name_that_can_not_be_had_is_refused_before_anything_is_made(managed: Managed) -> None:
    package = f"../{managed.host.package.name}"
    cases = {
        f"{package} ../docker-volume-sshfs_9.deb sshfs": (
            f"managed-plugin: {package} and ../docker-volume-sshfs_9.deb are two packages: name one\n"
        ),
        f"{package} sshfs": "managed-plugin: there is a plugin sshfs already: docker plugin rm -f sshfs\n",
    }
    for words, said in cases.items():
        refused = managed.machine.sh(f"cd /root/checkout && scripts/managed-plugin {words} 2>&1", check=False)
        assert (refused.returncode, refused.stdout) == (1, said)
    assert managed.machine.run("docker", "plugin", "inspect", "-f", "{{.Enabled}}", "sshfs").stdout == "true\n"


@pytest.mark.long
def test_it_can_be_made_where_docker_keeps_its_data_elsewhere(workshop: Managed, package: Path) -> None:
    machine, path = workshop.machine, "/etc/docker/daemon.json"
    before = machine.read(path)
    workshop.remove()
    # where it was before is still there
    machine.write(path, json.dumps({**json.loads(before), "data-root": "/srv/docker"}))
    machine.run("systemctl", "restart", "docker")
    machine.sh("systemctl stop archive; rm -r /srv/archive")  # given anew, with the image
    try:
        base_image.give(machine, package)
        workshop.make()
        machine.import_busybox_image()
        directory = workshop.create("album")
        workshop.host.run("album", "echo hello >/data/file")
        assert machine.read(f"{directory}/file") == "hello\n"
        assert machine.run("ls", "/srv/docker/plugins/docker-volume-sshfs/volumes").stdout == "album.json\n"
        workshop.remove()
    finally:
        machine.write(path, before)
        machine.sh("systemctl restart docker; rm -rf /srv/docker")


def test_keys_can_be_read_by_the_plugin_and_not_changed(managed: Managed) -> None:
    assert "Read-only file system" in managed.inside("sh -c 'touch /root/.ssh/id_ed25519 2>&1 || true'")


def test_no_dead_process_is_left_to_the_first(managed: Managed) -> None:
    managed.create("often")
    for _ in range(3):
        managed.host.run("often", "true")
    children = 'ps -o stat=,args= --ppid "$(pgrep -xo tini)"'
    assert "gunicorn" in managed.machine.sh(children).stdout
    managed.machine.until(f"! {children} | grep '^Z'")


def test_an_sshfs_that_was_killed_is_brought_back(managed: Managed) -> None:
    managed.create("killed")
    managed.host.start("holder", "killed", STAY)
    managed.machine.run("pkill", "-KILL", "-x", "sshfs")
    managed.machine.until(lambda: managed.host.run("killed", "touch /data/back"))


def test_it_is_not_disabled_by_accident_and_comes_back_with_its_volumes(managed: Managed) -> None:
    machine, directory = managed.machine, managed.create("kept")
    managed.host.start("holder", "kept", BEAT)
    managed.await_beat(directory)
    refused = machine.run("docker", "plugin", "disable", "sshfs", check=False)
    assert "is in use" in refused.stderr
    managed.await_beat(directory)
    machine.run("docker", "plugin", "disable", "-f", "sshfs")
    machine.until("! grep propagated-mount /proc/self/mountinfo && ! pgrep -x sshfs")
    managed.enable()
    assert managed.host.status("kept")["state"] == "unmounted"
    dead = machine.run("docker", "exec", "holder", "ls", "/data", check=False)
    assert "Transport endpoint is not connected" in dead.stderr
    machine.run("docker", "restart", "-t", "0", "holder")
    managed.await_beat(directory)
    assert managed.host.status("kept")["holders"] == 1


def test_a_container_keeps_its_files_even_if_the_volume_is_unmounted_below_it(managed: Managed) -> None:
    """All that a miscount could do, since from inside no container's use is seen."""
    directory = managed.create("lost")
    managed.host.start("holder", "lost", BEAT)
    managed.inside("umount /mnt/volumes/lost")
    managed.await_beat(directory)
    refused = managed.host.run("lost", "true", check=False)
    assert "was unmounted by hand while containers go on using it" in refused.stderr
    managed.machine.run("docker", "rm", "-f", "holder")
    managed.machine.until(lambda: managed.host.run("lost", "cat /data/beat"))


def test_its_log_is_in_docker_s_and_says_more_when_asked_to(managed: Managed) -> None:
    managed.create("told")

    def use(setting: str) -> str:
        """Return what is logged of a use with a setting."""
        managed.disabled(setting)
        since = managed.host.from_here()
        managed.host.run("told", "true")
        # Docker passes on what it is told a moment later
        managed.machine.until(lambda: "Mount told: mounted" in managed.log(since))
        return managed.log(since)

    try:
        assert 'level=info msg="Mount told: mounted"' in use("DEBUG=0")
        assert "running" not in use("DEBUG=false")
        assert "Mount told: running " in use("DEBUG=1")
    finally:
        managed.disabled("DEBUG=0")


@pytest.mark.long
def test_it_hides_a_package_that_is_installed_too(managed: Managed) -> None:
    managed.host.install()
    try:
        managed.create("whose")
        assert managed.host.inspect("whose")["Driver"] == "sshfs:latest"
        hidden = (
            "Docker uses the managed plugin sshfs, and not this plugin: docker plugin rm -f sshfs, and restart Docker"
        )
        assert hidden in managed.machine.run("docker-volume-sshfs", "status", check=False).stderr
        assert hidden in managed.machine.journal("-u", PACKAGE, "-n", "30")
        assert not managed.machine.run("test", "-e", f"/var/lib/{PACKAGE}/volumes/whose.json", check=False)
    finally:
        managed.remove_package()


def test_volumes_survive_a_restart_of_docker(managed: Managed) -> None:
    directory = managed.create("restarted")
    managed.host.start("holder", "restarted", BEAT, "--restart=always")
    managed.await_beat(directory)
    managed.machine.run("systemctl", "restart", "docker")
    managed.await_beat(directory)
    assert managed.host.status("restarted")["holders"] == 1
    managed.machine.run("docker", "rm", "-f", "holder")
    managed.machine.until(lambda: managed.mounts() == [])


def test_volumes_survive_a_crash_of_docker(managed: Managed) -> None:
    machine, directory = managed.machine, managed.create("crashed")
    managed.host.start("holder", "crashed", BEAT, "--restart=always")
    before = machine.run("systemctl", "show", "-P", "MainPID", "docker").stdout
    machine.run("systemctl", "kill", "-s", "KILL", "docker")
    machine.until(lambda: machine.run("systemctl", "show", "-P", "MainPID", "docker").stdout not in (before, "0\n"))
    machine.until("docker version")

    def beats() -> bool:
        if machine.run("docker", "inspect", "-f", "{{.State.Running}}", "holder").stdout == "false\n":
            # what the next test shows has happened
            managed.disabled()
            machine.run("docker", "start", "holder")
        return bool(machine.run("test", "-s", f"{directory}/beat", check=False))

    machine.run("rm", "-f", f"{directory}/beat")
    machine.until(beats)
    assert managed.host.status("crashed")["holders"] == 1


def test_where_docker_has_lost_the_way_to_volumes_nothing_is_written_to_the_hosts_disk(managed: Managed) -> None:
    """As Docker 20.10 may when it comes back from a crash."""
    directory, place = managed.create("astray"), f"/var/lib/docker/plugins/{managed.id}/propagated-mount"
    cut_off = "umount $0 && mount --make-private $0 && mount -t tmpfs -o size=64k,mode=0700 volumes $0"
    managed.inside(f"sh -c '{cut_off}' /mnt/volumes")
    refused = managed.host.run("astray", "echo precious >/data/file", check=False)
    assert "no such file or directory" in refused.stderr
    assert managed.machine.run("find", place, directory, "-type", "f").stdout == ""
    managed.disabled()
    managed.host.run("astray", "echo precious >/data/file")
    assert managed.machine.read(f"{directory}/file") == "precious\n"


def test_volumes_survive_a_reboot(managed: Managed) -> None:
    machine, directory = managed.machine, managed.create("booted")
    # the server is this same host, so Docker must not mount before sshd is up
    machine.write("/etc/systemd/system/docker.service.d/ssh.conf", "[Unit]\nAfter=ssh.service\n")
    machine.run("systemctl", "daemon-reload")
    managed.host.start("holder", "booted", BEAT, "--restart=always")
    managed.await_beat(directory)
    machine.reboot()
    managed.await_beat(directory)
    assert managed.host.status("booted")["holders"] == 1
    machine.run("rm", "/etc/systemd/system/docker.service.d/ssh.conf")


@pytest.mark.long
def test_the_way_from_the_package_and_back_loses_nothing(unmade: Managed) -> None:
    host, machine = unmade.host, unmade.machine
    there, back = section("docs/ways-in.md", "To the managed plugin and back")
    host.install()
    machine.run("systemctl", "restart", "docker")
    machine.run("docker", "volume", "create", "-d", "sshfs", "-o", "sshcmd=alice@nas:/srv/photos", "photos")
    machine.run("docker", "run", "-d", "--name", "web", "-v", "photos:/photos", "busybox", "sleep", "1000")
    machine.run("docker", "exec", "web", "touch", "/photos/by-package")
    machine.sh('cd /root/checkout && sh -c "$1" 2>&1', there)
    assert host.inspect("photos")["Driver"] == "sshfs:latest"
    machine.run("docker", "exec", "web", "touch", "/photos/by-managed-plugin")
    machine.sh('cd /root/checkout && sh -c "$1" 2>&1', back)
    assert host.inspect("photos")["Driver"] == "sshfs"
    listed = machine.run("docker", "exec", "web", "ls", "/photos").stdout.splitlines()
    assert listed == ["by-managed-plugin", "by-package"]


@contextmanager
def registry(machine: Machine) -> Iterator[None]:
    """Let example.org be a registry with a certificate that Docker has been told to trust."""
    machine.write("/srv/registry/config.yml", _REGISTRY)
    machine.sh(f"cd /srv/registry && {_CERTIFICATE} -keyout key -out certificate")
    machine.sh(f"mkdir -p {_TRUSTED} && cp /srv/registry/certificate {_TRUSTED}/ca.crt")
    machine.sh("grep -q example.org /etc/hosts || echo 127.0.0.1 example.org >>/etc/hosts")
    machine.run("systemd-run", "--unit=registry", "docker-registry", "serve", "/srv/registry/config.yml")
    try:
        machine.until("curl -fsS --cacert /srv/registry/certificate https://example.org/v2/")
        yield
    finally:
        machine.run("systemctl", "stop", "registry")
        machine.run("rm", "-rf", "/srv/registry", _TRUSTED)


def test_the_commands_of_its_page_work_as_written(unmade: Managed) -> None:
    machine = unmade.machine
    with registry(machine):
        commands = f"cd /root/checkout && {script('docs/managed-plugin.md')}"
        said = machine.sh('sh -c "$1" 2>&1', commands).stdout
        size = machine.run("du", "-sm", "/srv/registry/storage").stdout.split()[0]
    assert said.count("hello\n") == 2
    assert '"Name": "photos"' in said
    assert "DEBUG=1" in said
    assert "Installed plugin example.org/sshfs" in said
    assert "Upgraded plugin sshfs" in said
    assert int(size) < LARGEST / 2
    assert machine.run("docker", "plugin", "ls", "-q").stdout == ""
    assert machine.read("/srv/photos/hello.txt") == "hello\n"
