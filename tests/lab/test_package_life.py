# SPDX-License-Identifier: MIT
"""The life of the package while volumes are used: upgraded, downgraded, removed, purged, its libraries replaced."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .host import KEY, MOUNTS, PACKAGE, STAY, Host

SERVICE = "docker-volume-sshfs.service"
STATE = "/var/lib/docker-volume-sshfs"


@contextmanager
def in_use(host: Host, volume: str) -> Iterator[str]:
    """Let a container write without a gap to a volume that one and the same sshfs serves all the time."""
    directory = host.directory(volume)
    host.create(volume, directory)
    with host.writing(volume, directory, pause=0.01):
        process = host.sshfs(volume)
        assert process != "0"
        yield directory
        host.await_progress(directory)
        assert host.sshfs(volume) == process


def traces(host: Host) -> str:
    """Return what a purged package has left behind."""
    places = f"{STATE} /run/docker-volume-sshfs /etc/default/docker-volume-sshfs /etc/docker/plugins /etc/needrestart"
    found = host.machine.sh(f"find {places} -name '*sshfs*' 2>/dev/null || true").stdout
    processes = host.machine.run("pgrep", "-a", "-x", "sshfs", check=False).stdout
    units = host.machine.run("systemctl", "list-units", "--all", "--plain", "--quiet", f"{PACKAGE}*").stdout
    return found + processes + units


def test_upgrade_and_downgrade_leave_containers_and_their_files_alone(host: Host, newer: Path) -> None:
    version = host.version()
    with in_use(host, "upgraded") as directory:
        for package, expected in ((newer, f"9:{version}"), (host.package, version)):
            service = host.property(SERVICE, "MainPID")
            host.install(package)
            assert host.version() == expected
            host.await_progress(directory)
            host.machine.run("docker", "volume", "ls")
            assert host.property(SERVICE, "MainPID") != service, "the new code must be running"
            later = host.property("docker-volume-sshfs@upgraded", "Description").startswith("Later")
            assert later == (package is newer), "the new unit must be known"
            assert host.status("upgraded")["state"] == "mounted"
    host.machine.until(lambda: not host.is_mounted("upgraded"))


def test_reinstalling_leaves_containers_and_their_files_alone(host: Host) -> None:
    with in_use(host, "again"):
        service = host.property(SERVICE, "MainPID")
        host.install()
        host.machine.run("docker", "volume", "ls")
        assert host.property(SERVICE, "MainPID") != service
    host.machine.until(lambda: not host.is_mounted("again"))


def test_remove_leaves_a_used_mount_to_its_container_and_a_reinstall_goes_on(host: Host) -> None:
    with in_use(host, "kept") as directory:
        said = host.apt(f"remove {PACKAGE}")
        assert "The volume kept is in use and stays mounted" in said
        host.await_progress(directory)
        host.install()
        assert host.status("kept")["state"] == "mounted"
        assert "1\n" in host.run("kept", "head -n 1 /data/log").stdout, "another container shares the mount"
    host.machine.until(lambda: not host.is_mounted("kept"))


def test_a_mount_that_a_remove_has_left_is_ended_as_the_message_says(host: Host) -> None:
    machine, directory = host.machine, host.directory("late")
    host.create("late", directory)
    host.run("late", "echo precious >/data/file")
    host.start("holder", "late", STAY)
    said = host.apt(f"remove {PACKAGE}")
    advice = said.partition("say when its containers are stopped: ")[2].splitlines()[0]
    machine.run("docker", "rm", "-f", "holder")
    machine.sh(advice)
    assert not host.is_mounted("late")
    assert not machine.run("ls", "/run/docker-volume-sshfs/mounts").stdout, "a key or a password may be there"
    machine.until(lambda: not machine.run("pgrep", "-x", "sshfs", check=False))
    units = machine.run("systemctl", "list-units", "--all", "--plain", "--quiet", f"{PACKAGE}@*").stdout
    assert units == "", "not even a failed one"
    host.install()
    assert host.run("late", "cat /data/file").stdout == "precious\n"


def test_remove_ends_an_unused_mount(host: Host) -> None:
    host.create("idle", host.directory("idle"))
    socket = ("--unix-socket", "/run/docker-volume-sshfs/sshfs.sock")
    mount = json.dumps({"Name": "idle", "ID": "nobody"})
    host.machine.run("curl", "-fsS", *socket, "-d", mount, "http://plugin/VolumeDriver.Mount")
    assert host.is_mounted("idle")
    said = host.apt(f"remove {PACKAGE}")
    assert "in use" not in said
    assert not host.is_mounted("idle")
    assert "idle" not in host.machine.run("ls", MOUNTS).stdout


def test_purge_costs_docker_nothing_once_a_file_for_docker_is_removed_as_it_says(host: Host) -> None:
    machine = host.machine
    host.create("gone", host.directory("gone"))
    machine.run("docker", "volume", "rm", "gone")
    machine.write("/etc/docker/plugins/sshfs.json", '{"Name": "sshfs", "Addr": "https://127.0.0.1:9443"}\n')
    said = host.apt(f"purge {PACKAGE}")
    advice = (
        "By /etc/docker/plugins/sshfs.json Docker goes on looking for the plugin, for 15 seconds whenever volumes are "
        "listed: rm /etc/docker/plugins/sshfs.json"
    )
    assert said.count(advice) == 1
    machine.sh(advice.partition(": ")[2])
    with host.without_a_wait_for_a_plugin():
        machine.sh("systemctl restart docker && docker volume ls")
    assert traces(host) == ""


def test_volumes_that_were_left_at_a_purge_are_forgotten_as_the_page_says(host: Host) -> None:
    machine, start = host.machine, host.from_here()
    host.create("left", host.directory("left"))
    host.apt(f"purge {PACKAGE}")
    host.install()
    machine.run("systemctl", "restart", "docker")
    host.apt(f"purge {PACKAGE}")
    machine.run("systemctl", "restart", "docker")
    assert "Error restoring volume" not in machine.journal("-u", "docker", start)
    assert machine.run("docker", "volume", "ls", "-q").stdout == ""


def test_purge_leaves_the_file_system_as_it_was_but_for_the_user_s_key_and_remotes(host: Host) -> None:
    machine, directory = host.machine, host.directory("traced")
    host.apt(f"purge {PACKAGE}")
    before = paths(host)
    host.install()
    machine.sh(f"cp {KEY} /etc/{PACKAGE}/id_ed25519")
    machine.write(f"/etc/{PACKAGE}/remotes.d/nas.conf", "[remote]\nhost = nas\n", mode=0o600)
    host.create("traced", directory)
    host.run("traced", "echo precious >/data/file")
    machine.run("systemctl", "enable", "--now", f"{PACKAGE}-metrics.timer")
    machine.run("systemctl", "start", f"{PACKAGE}-metrics.service")
    machine.run("docker", "volume", "rm", "traced")
    host.apt(f"purge {PACKAGE}")
    try:
        own = (f"/etc/{PACKAGE} d", f"/etc/{PACKAGE}/id_ed25519 f")
        remotes = (f"/etc/{PACKAGE}/remotes.d d", f"/etc/{PACKAGE}/remotes.d/nas.conf f")
        assert paths(host) ^ before == {*own, *remotes, f"{directory}/file f"}
    finally:
        machine.run("rm", "-r", f"/etc/{PACKAGE}")


def paths(host: Host) -> set[str]:
    """Return all that is on the machine's disk, but for what Docker, dpkg and logs keep."""
    others = "/var/lib/docker /var/lib/containerd /var/lib/dpkg /var/lib/apt /var/cache /var/log /tmp".split()
    prune = " -o ".join(f"-path {directory}" for directory in others)
    found = host.machine.sh(f"find / /run/{PACKAGE} -xdev \\( {prune} \\) -prune -o -printf '%p %y\\n' || true").stdout
    return set(found.splitlines())


@pytest.mark.parametrize(
    ("elsewhere", "back"),
    [
        ("mv /etc/docker /srv/docker && ln -s /srv/docker /etc/docker", "rm /etc/docker && mv /srv/docker /etc/docker"),
        pytest.param("mount --bind /etc/docker /etc/docker", "umount /etc/docker", marks=pytest.mark.long),
    ],
    ids=["symbolic link", "mount point"],
)
def test_purge_with_an_alias_does_not_fail_where_etc_docker_is_no_plain_directory(
    host: Host, elsewhere: str, back: str
) -> None:
    machine = host.machine
    machine.sh(f"mkdir -p /etc/docker && {elsewhere}")
    try:
        machine.run(PACKAGE, "alias", "add", "vieux/sshfs")
        host.apt(f"purge {PACKAGE}")
        assert traces(host) == ""
        assert machine.run("test", "-d", "/etc/docker")
    finally:
        machine.sh(f"mkdir -p /etc/docker; {back}")


def test_purge_lets_containers_keep_their_files_and_nothing_stays_when_they_end(host: Host) -> None:
    machine, directory = host.machine, host.directory("purged")
    host.create("purged", directory)
    host.run("purged", "echo precious >/data/file")
    host.start("holder", "purged", STAY)
    said = host.apt(f"purge {PACKAGE}")
    assert "The volume purged is detached: nothing is left to unmount" in said
    assert "These volumes were not removed from Docker: purged." in said
    assert "dist-packages" not in said, "no bytecode is left"
    assert not machine.run("test", "-e", STATE, check=False)
    assert machine.run("docker", "exec", "holder", "cat", "/data/file").stdout == "precious\n"
    machine.run("docker", "exec", "holder", "sh", "-c", "echo more >>/data/file")
    machine.run("docker", "rm", "-f", "holder")
    machine.until(lambda: traces(host) == "")
    assert machine.read(f"{directory}/file") == "precious\nmore\n"


VAR_LIB_ELSEWHERE = f"""
mkdir -p /srv/lib
mount --rbind /var/lib /srv/lib
mount -t tmpfs none /var
ln -s /srv/lib /var/lib
mkdir -p {STATE}/mounts/linked
mount -t tmpfs none {STATE}/mounts/linked
(cd {STATE}/mounts/linked && sh /var/lib/dpkg/info/{PACKAGE}.prerm remove)
sh /var/lib/dpkg/info/{PACKAGE}.postrm purge
grep {PACKAGE}/mounts /proc/self/mountinfo || echo nothing stays
"""


def test_remove_and_purge_find_mounts_where_var_lib_is_a_symbolic_link(host: Host) -> None:
    """In a mount namespace in which it is one: the machine's own has Docker's files mounted there."""
    said = host.machine.sh('unshare --mount sh -ec "$1" 2>&1', VAR_LIB_ELSEWHERE).stdout
    host.apt(f"purge {PACKAGE}")
    assert (
        "The volume linked is in use and stays mounted. "
        f"Unless the package is purged, say when its containers are stopped: umount /srv/lib/{PACKAGE}"
    ) in said
    assert "The volume linked is detached: nothing is left to unmount" in said
    assert said.endswith("nothing stays\n")


MOUNTS_ELSEWHERE = f"""
mount -t tmpfs none /srv
mount -t tmpfs none /var/lib/{PACKAGE}
mkdir -p /srv/mounts/linked
ln -s /srv/mounts {MOUNTS}
mount -t tmpfs none /srv/mounts/linked
sh /var/lib/dpkg/info/{PACKAGE}.postrm purge
grep /srv/mounts /proc/self/mountinfo || echo nothing stays
"""


@pytest.mark.long
def test_purge_finds_mounts_where_their_directory_is_a_symbolic_link(host: Host) -> None:
    said = host.machine.sh('unshare --mount sh -ec "$1" 2>&1', MOUNTS_ELSEWHERE).stdout
    host.apt(f"purge {PACKAGE}")
    assert "The volume linked is detached: nothing is left to unmount" in said
    assert said.endswith("nothing stays\n")


def test_after_a_purge_a_lost_connection_is_not_made_again(host: Host) -> None:
    """Without the known host keys it could be made to anybody."""
    machine, directory = host.machine, host.directory("lost")
    host.create("lost", directory)
    host.start("holder", "lost", STAY)
    host.apt(f"purge {PACKAGE}")
    server = session(host)
    machine.sh("kill $1; while kill -0 $1 2>/dev/null; do sleep 0.1; done", server)
    machine.until("! docker exec holder touch /data/later")
    assert machine.run("ls", directory).stdout == ""
    machine.run("docker", "rm", "-f", "holder")
    machine.until(lambda: traces(host) == "")


def session(host: Host) -> str:
    """Return the pid of the server's process for the latest login of alice."""
    return host.machine.run("pgrep", "-n", "-f", "^sshd(-session)?: alice@notty").stdout.strip()


def test_purge_after_remove_ends_what_nobody_uses_any_more(host: Host) -> None:
    machine = host.machine
    host.create("two-steps", host.directory("two-steps"))
    host.start("holder", "two-steps", STAY)
    host.apt(f"remove {PACKAGE}")
    machine.run("docker", "rm", "-f", "holder")
    assert host.is_mounted("two-steps")
    host.apt(f"purge {PACKAGE}")
    machine.until(lambda: traces(host) == "")


def test_a_server_that_has_stalled_does_not_hang_a_purge(host: Host) -> None:
    machine = host.machine
    host.create("stalled", host.directory("stalled"))
    host.start("holder", "stalled", STAY)
    stalled = session(host)
    machine.run("kill", "-STOP", stalled)
    try:
        host.apt(f"purge {PACKAGE}")
        assert not machine.run("test", "-e", STATE, check=False)
    finally:
        machine.run("kill", "-CONT", stalled)
        machine.run("docker", "rm", "-f", "holder")
    machine.until(lambda: traces(host) == "")


UPGRADE = r"""
mkdir /srv/upgrade && cd /srv/upgrade
for deb in /var/cache/apt/archives/*.deb; do
    version=$(dpkg-deb --field "$deb" Version)
    echo "s/(= $version)/(= $version+lab)/g" >>same
    dpkg-deb --raw-extract "$deb" "$(basename "$deb" .deb)"
done
for tree in */; do
    sed -i -e 's/^Version: .*/&+lab/' -f same "$tree/DEBIAN/control"
    dpkg-deb -Znone --build "$tree" >&2
    sed -n 's/^Package: //p' "$tree/DEBIAN/control"
done
apt-ftparchive packages . >Packages
apt-ftparchive -o APT::FTPArchive::Release::Origin=lab release . >Release
"""
"""Makes the next version of what is in apt's cache, offers it, and prints the names."""

SECURITY = """
Unattended-Upgrade::Origins-Pattern { "origin=lab"; };
Dir::Etc::SourceList "/dev/null";
"""


@pytest.fixture
def upgrade(host: Host) -> Iterator[set[str]]:
    """Offer an upgrade of what sshfs and ssh are made of, to who looks for such by himself, and give its packages."""
    machine = host.machine
    packages = set(machine.sh(UPGRADE).stdout.split())
    machine.write("/etc/apt/apt.conf.d/99security", SECURITY)
    machine.write("/etc/apt/sources.list.d/security.list", "deb [trusted=yes] file:/srv/upgrade ./\n")
    yield packages
    machine.sh("rm -r /srv/upgrade /etc/apt/apt.conf.d/99security /etc/apt/sources.list.d/security.list")


@pytest.mark.long
def test_an_unattended_upgrade_of_libraries_and_needrestart_leave_volumes_alone(host: Host, upgrade: set[str]) -> None:
    machine = host.machine
    # on Debian 13 a containerd that is restarted forgets its containers
    machine.write("/etc/needrestart/conf.d/lab.conf", "$nrconf{override_rc}{qr(^containerd)} = 0;\n")
    assert {"libc6", "openssl", "fuse3", "sshfs", "openssh-client"} <= upgrade
    assert {"libssl3", "libssl3t64"} & upgrade
    with in_use(host, "library") as directory:
        host.apt("update")
        machine.run("unattended-upgrade", "-v")
        versions = machine.run("dpkg-query", "-W", "-f", "${Version}\n", *upgrade).stdout.split()
        assert [version for version in versions if not version.endswith("+lab")] == []
        host.await_progress(directory)
        as_automation = "DEBIAN_FRONTEND=noninteractive NEEDRESTART_UI=NeedRestart::UI::stdio"
        said = machine.sh(f"{as_automation} needrestart -v -r a 2>&1").stdout
        assert "uses obsolete binary /usr/bin/sshfs" in said
        restarted = said.partition("Restarting services...")[2].partition("Service restarts being deferred:")[0]
        assert "systemctl restart " in restarted
        assert "docker-volume-sshfs@" not in restarted


def test_needrestart_spares_volumes_by_our_own_word(host: Host) -> None:
    """Debian's needrestart leaves everything alone whose name begins with docker; others need not."""
    script = 'our %nrconf; do "/etc/needrestart/conf.d/docker-volume-sshfs.conf" ; die $@ if $@; my ($re) = keys '
    script += '%{$nrconf{override_rc}}; exit("docker-volume-sshfs\\@photos.service" =~ /$re/ ? 0 : 1)'
    assert host.machine.run("perl", "-e", script)
