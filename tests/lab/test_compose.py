# SPDX-License-Identifier: MIT
"""What docs/compose.md and the README say of compose: their files and commands, word for word."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .documents import blocks
from .host import KEY, Host
from .machines.commands import Result
from .machines.machine import IMAGE

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "/root/album"
PASSWORD_FILE = "/etc/docker-volume-sshfs/nas.password"


ONE_SERVICE, TWO_SERVICES, OPTIONS, OWN_SERVER, EXTERNAL = blocks("docs/compose.md", "yaml")
CHANGE, CREATE = blocks("docs/compose.md", "sh")


class Album:
    """The project of the document, in its directory."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.machine = host.machine

    def write(self, text: str) -> None:
        """Save the project's compose.yaml."""
        self.machine.write(f"{PROJECT}/compose.yaml", text)

    def sh(self, script: str, check: bool = True) -> Result:
        """Run a script in the project's directory; what is said goes to stdout."""
        return self.machine.sh(f"cd {PROJECT} && exec 2>&1\n{script}", check=check)

    def read(self, service: str, path: str) -> str:
        """Return what a file says to a service that is running."""
        return self.sh(f"docker-compose exec -T {service} cat {path}").stdout

    def volumes(self) -> list[str]:
        """Return the names of all volumes."""
        return self.machine.run("docker", "volume", "ls", "-q").stdout.split()

    def containers(self) -> list[str]:
        """Return the IDs of all containers."""
        return self.machine.run("docker", "ps", "-aq").stdout.split()


@pytest.fixture
def album(host: Host) -> Iterator[Album]:
    """Give an empty project, the default key, and on the server a directory with a file."""
    machine = host.machine
    machine.sh("rm -rf /srv/photos && mkdir /srv/photos && echo hello >/srv/photos/hello.txt")
    machine.run("chown", "-R", "alice:", "/srv/photos")
    machine.sh(f"cp {KEY} /etc/docker-volume-sshfs/id_ed25519")
    machine.write(PASSWORD_FILE, "correct horse battery\n", mode=0o600)
    machine.run("docker", "tag", IMAGE, "busybox")
    # in place of one that serves
    machine.sh(
        f'docker create --name served {IMAGE} && docker commit --change "$1" served nginx && docker rm served',
        'CMD ["sh", "-c", "trap exit TERM; while sleep 0.1; do true; done"]',
    )
    yield Album(host)
    # a file that compose refuses can't be taken down by it
    machine.sh("docker ps -aq | xargs -r docker rm -f; docker network prune -f; docker rmi busybox nginx")
    machine.sh(f"rm -rf {PROJECT} /srv/photos /etc/docker-volume-sshfs/id_ed25519 {PASSWORD_FILE}")


@pytest.mark.parametrize("example", [*blocks("README.md", "yaml"), ONE_SERVICE], ids=["README", "compose.md"])
def test_one_service_comes_and_goes_and_the_server_keeps_its_files(album: Album, example: str) -> None:
    album.write(example)
    album.sh("docker-compose up -d")
    assert album.read("web", "/usr/share/nginx/html/hello.txt") == "hello\n"
    refused = album.sh("docker-compose exec -T web touch /usr/share/nginx/html/new", check=False)
    assert "Read-only file system" in refused.stdout
    album.sh("docker-compose down")
    assert album.volumes() == ["album_photos"]
    assert album.host.status("album_photos")["state"] == "unmounted"
    album.sh("docker-compose up -d")
    album.sh("docker-compose down -v")
    assert album.volumes() == []
    assert album.machine.read("/srv/photos/hello.txt") == "hello\n"


def test_a_mistake_is_composes_error_and_nothing_is_started(album: Album) -> None:
    album.write(ONE_SERVICE.replace("/srv/photos", "/srv/phots"))
    refused = album.sh("docker-compose up -d", check=False)
    assert refused.returncode != 0
    assert "the directory /srv/phots does not exist on nas for alice" in refused.stdout
    assert album.volumes() == []
    assert album.containers() == []


def test_two_services_share_one_mount(album: Album) -> None:
    album.write(TWO_SERVICES)
    album.sh("docker-compose up -d")
    album.machine.until(lambda: ":" in album.read("web", "/usr/share/nginx/html/latest.txt"))
    assert album.host.status("album_photos")["holders"] == 2
    assert album.machine.run("pgrep", "-xc", "sshfs").stdout == "1\n"
    album.sh("docker-compose down -v -t 0")
    assert album.volumes() == []
    assert album.machine.sh("ls /srv/photos").stdout == "hello.txt\nlatest.txt\n"


def test_options_reach_the_volume(album: Album) -> None:
    album.write(OPTIONS)
    album.sh("docker-compose up")
    assert album.machine.run("stat", "-c", "%U", "/srv/photos/by-1000").stdout == "alice\n"
    assert album.host.inspect("album_photos")["Options"] == {
        "sshcmd": "alice@nas:/srv/photos",
        "password_file": PASSWORD_FILE,
        "uid": "1000",
        "gid": "1000",
        "umask": "027",
        "create_directory": "",
    }
    assert album.host.run("album_photos", "stat -c '%u:%g %a' /data/hello.txt").stdout == "1000:1000 750\n"


def test_compose_refuses_a_switch_that_is_no_text(album: Album) -> None:
    album.write(OPTIONS.replace('create_directory: ""', "create_directory: true"))
    refused = album.sh("docker-compose up", check=False)
    assert refused.returncode != 0
    complaint = "create_directory .*should be a string, or a number|create_directory must be a string"
    assert re.search(complaint, refused.stdout)


def test_a_switch_is_turned_off(album: Album) -> None:
    album.write(OPTIONS.replace('create_directory: ""', 'allow_other: "no"'))
    said = album.sh("docker-compose up", check=False).stdout
    assert "Permission denied" in said
    assert album.host.status("album_photos")["access"] == "root only"


def test_a_umask_without_quotes_is_another_number(album: Album) -> None:
    album.write(OPTIONS.replace('"027"', "027"))
    album.sh("docker-compose up")
    assert album.host.inspect("album_photos")["Options"]["umask"] == "23"


def test_a_changed_option_needs_a_new_volume(album: Album) -> None:
    album.write(ONE_SERVICE)
    album.sh("docker-compose up -d")
    album.write(f"{ONE_SERVICE}      uid: 33\n")
    said = album.sh("docker-compose up -d", check=False)
    if album.sh("docker-compose version --short").stdout.startswith("1.29"):
        assert said.returncode != 0
        assert 'please remove the existing volume "album_photos" first' in said.stdout
    assert "uid" not in album.host.inspect("album_photos")["Options"]
    album.sh(f"set -e\n{CHANGE}")
    assert album.host.inspect("album_photos")["Options"]["uid"] == "33"
    assert album.read("web", "/usr/share/nginx/html/hello.txt") == "hello\n"


SFTP_SERVER = """\
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
cd "$tree"
mkdir -p bin etc tmp root run/sshd home/alice/photos
for file in /usr/sbin/sshd /usr/lib/openssh/sshd-session /usr/lib/openssh/sshd-auth; do
    test ! -e $file || { echo $file; ldd $file | grep -o '/[^ )]*'; }
done | sort -u | xargs -I{} cp --parents -L {} .
cp --parents -p /etc/ssh/ssh_host_ed25519_key .
cp "$(command -v busybox)" bin/busybox
for applet in sh nc grep cat; do ln -s busybox bin/$applet; done
for file in passwd group shadow; do
    grep -E '^(root|alice|sshd|nogroup):' /etc/$file | sed s,/bin/bash,/bin/sh, >etc/$file
done
printf 'UsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n' >etc/ssh/sshd_config
echo hello >home/alice/photos/hello.txt
cp -r /home/alice/.ssh home/alice/
chown -R alice: home/alice
tar -c . | docker import --change 'CMD ["/usr/sbin/sshd", "-D", "-e"]' - sftp-server
"""
"""Makes an image of the machine's own SSH server."""


def test_a_server_can_be_a_service_of_the_project(album: Album) -> None:
    album.machine.sh(SFTP_SERVER)
    album.write(OWN_SERVER)
    album.sh("docker-compose up -d")
    assert album.read("web", "/usr/share/nginx/html/hello.txt") == "hello\n"
    album.sh("docker-compose down -v -t 1")
    assert album.volumes() == []
    # what the page says of check=mount
    album.write(OWN_SERVER.replace("check: mount", "check: create"))
    refused = album.sh("docker-compose up -d", check=False)
    assert "cannot connect to 127.0.0.1 port 2222, connection refused" in refused.stdout


def test_an_external_volume_outlives_the_project(album: Album) -> None:
    album.write(EXTERNAL)
    refused = album.sh("docker-compose up -d", check=False)
    assert refused.returncode != 0
    assert re.search("could not be found|not found", refused.stdout)
    album.sh(CREATE)
    album.sh("docker-compose up -d")
    assert album.read("web", "/usr/share/nginx/html/hello.txt") == "hello\n"
    album.sh("docker-compose down -v")
    assert album.volumes() == ["photos"]
    assert not album.host.is_mounted("photos")
