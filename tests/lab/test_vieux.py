# SPDX-License-Identifier: MIT
"""Coming from vieux/sshfs: volumes and containers that were made with it, before, during and after the move.

The plugin that stands in for it is a managed one as the real one is, built on the machine.
"""

import json
from collections.abc import Iterator

import pytest

from .documents import script
from .host import KEY, PACKAGE, ROOT, STAY, Host
from .machines.commands import Result
from .machines.machine import IMAGE

# each start of Docker beside the other plugin doubles the mounts of the machine, to a thousand and more; systemd takes
# half a minute then to make the sandbox of a service, if there is much else to do
pytestmark = pytest.mark.usefixtures("machine_given_up_afterwards")

NAME = "vieux/sshfs:latest"
STATE = "/var/lib/docker/plugins/sshfs-state.json"
ALIASES = "/etc/docker/plugins/vieux"


def _mount(name: str, source: str, destination: str, *options: str) -> dict[str, object]:
    described = {"name": name, "source": source, "destination": destination, "type": "bind"}
    return {**described, "options": ["rbind", *options], "settable": ["source"]}


CONFIG = {
    "description": "sshFS plugin for Docker",
    "documentation": "https://docs.docker.com/engine/extend/plugins/",
    "entrypoint": ["/usr/bin/python3", "/vieux_plugin.py"],
    "env": [],
    "interface": {"socket": "sshfs.sock", "types": ["docker.volumedriver/1.0"]},
    "linux": {"capabilities": ["CAP_SYS_ADMIN"], "devices": [{"path": "/dev/fuse"}]},
    "mounts": [
        _mount("state", "/var/lib/docker/plugins/", "/mnt/state"),
        _mount("sshkey", "", "/root/.ssh"),
        # in place of an image with Python and sshfs
        _mount("usr", "/usr", "/usr", "ro"),
        _mount("etc", "/etc", "/etc", "ro"),
    ],
    "network": {"type": "host"},
    "propagatedMount": "/mnt/volumes",
}

INSTALL = """
cd /root/vieux/rootfs
mkdir -p usr etc mnt/state mnt/volumes root/.ssh run/docker/plugins tmp var proc sys dev
for directory in bin sbin lib lib64; do ln -sfn usr/$directory $directory; done
docker plugin create "$1" /root/vieux
docker plugin set "$1" sshkey.source=/root/keys
docker plugin enable "$1"
"""


@pytest.fixture
def vieux(host: Host) -> Iterator[Host]:
    """Give the host with the other plugin as well, and on the server a directory with a file."""
    machine = host.machine
    machine.push(ROOT / "tests/lab/vieux_plugin.py", "/root/vieux/rootfs/vieux_plugin.py")
    machine.write("/root/vieux/config.json", json.dumps(CONFIG))
    machine.sh(INSTALL, NAME)
    machine.sh("echo hello >$1/hello.txt", host.directory("photos"))
    yield host
    machine.sh(
        "set +e; docker ps -aq | xargs -r docker rm -f; docker volume ls -q | xargs -r docker volume rm; "
        f"docker plugin rm -f {NAME}; rm -rf {ALIASES} {STATE} /root/vieux; systemctl restart docker"
    )


def make(host: Host, name: str, *words: str, sshcmd: str = "alice@nas:/srv/alice/photos") -> None:
    """Make a volume with the other plugin."""
    create = ("docker", "volume", "create", "-d", "vieux/sshfs", "-o", f"sshcmd={sshcmd}")
    host.machine.run(*create, *(part for word in words for part in ("-o", word)), name)


def command(host: Host, *words: str) -> Result:
    """Type the command; its exit code is part of the answer."""
    return host.machine.run(PACKAGE, *words, check=False)


def driver(host: Host, volume: str) -> str:
    """Return whose Docker takes a volume to be."""
    return host.machine.run("docker", "volume", "inspect", "-f", "{{.Driver}}", volume).stdout.strip()


def take_away(host: Host) -> None:
    """Let the other plugin go as the page says."""
    host.machine.run("docker", "plugin", "rm", "-f", NAME)


def test_a_container_finds_its_files_after_the_move_and_docker_goes_on(vieux: Host) -> None:
    machine = vieux.machine
    make(vieux, "photos", "IdentityFile=/root/.ssh/id_ed25519", "allow_other", "noatime")
    make(vieux, "by-password", "password=correct horse battery", "port=22")
    vieux.start("web", "photos", f"cat /data/hello.txt; {STAY}", "--restart", "unless-stopped")
    machine.until(lambda: machine.run("docker", "logs", "web").stdout == "hello\n")
    assert driver(vieux, "photos") == NAME
    state = machine.read(STATE)
    machine.run("docker", "stop", "-t", "0", "web")

    dry = command(vieux, "import-vieux", "--dry-run")
    assert dry.returncode == 0, dry
    assert "IdentityFile=/root/keys/id_ed25519, allow_other=yes" in dry.stdout
    assert "option 'noatime' is ignored" in dry.stdout
    assert "correct horse battery" not in dry.stdout
    assert command(vieux, "status").stdout.endswith("There are no volumes.\n")
    refused = command(vieux, "alias", "add")
    assert refused.returncode == 1
    assert "still installed" in refused.stderr
    made = command(vieux, "import-vieux")
    assert made.returncode == 0, made
    assert f"docker plugin rm -f {NAME}" in made.stdout
    assert "there already" in command(vieux, "import-vieux").stdout
    assert machine.read(STATE) == state

    take_away(vieux)
    assert command(vieux, "alias", "add").returncode == 0
    machine.run("docker", "start", "web")
    machine.until(lambda: machine.run("docker", "logs", "web").stdout == "hello\nhello\n")
    assert vieux.is_mounted("photos")
    assert driver(vieux, "photos") == NAME
    assert vieux.status("photos")["state"] == "mounted"
    listed = machine.run("docker", "volume", "ls", "--format", "{{.Driver}} {{.Name}}").stdout.splitlines()
    assert sorted(listed) == [f"{NAME} by-password", f"{NAME} photos"]
    assert vieux.run("by-password", "cat /data/hello.txt").stdout == "hello\n"

    machine.run("systemctl", "restart", "docker")
    machine.until(lambda: machine.run("docker", "logs", "web").stdout == "hello\n" * 3)
    assert driver(vieux, "photos") == NAME
    machine.run("docker", "volume", "ls")
    assert f"Volume name photos already exists for driver {NAME}" in machine.journal("-u", "docker")

    machine.run("docker", "rm", "-f", "web")
    machine.run("docker", "volume", "rm", "photos", "by-password")
    assert command(vieux, "status").stdout.endswith("There are no volumes.\n")
    assert machine.read("/srv/alice/photos/hello.txt") == "hello\n"
    assert command(vieux, "alias", "remove").returncode == 0
    assert not machine.run("test", "-e", ALIASES, check=False)


def test_an_existing_volume_goes_by_the_name_with_the_tag_alone(vieux: Host) -> None:
    machine = vieux.machine
    make(vieux, "photos", "IdentityFile=/root/.ssh/id_ed25519")
    assert command(vieux, "import-vieux").returncode == 0
    take_away(vieux)
    assert command(vieux, "alias", "add").returncode == 0
    create = ("docker", "volume", "create", "-o", "sshcmd=alice@nas:/srv/alice/photos", "-o", f"IdentityFile={KEY}")
    assert machine.run(*create, "-d", NAME, "photos")
    refused = machine.run(*create, "-d", "vieux/sshfs", "photos", check=False)
    assert f"driver '{NAME}' already has volume 'photos'" in refused.stderr
    machine.run(*create, "-d", "vieux/sshfs", "new")
    assert driver(vieux, "new") == "vieux/sshfs"
    assert vieux.run("new", "cat /data/hello.txt").stdout == "hello\n"


COMPOSE = """\
services:
  web:
    image: {image}
    command: cat /data/hello.txt
    network_mode: none
    volumes:
      - photos:/data
volumes:
  photos:
    driver: {driver}
    driver_opts:
      sshcmd: alice@nas:/srv/alice/photos
      IdentityFile: {key}
"""


def test_compose_files_go_on(vieux: Host) -> None:
    machine = vieux.machine

    def up(name: str, key: str = "/root/.ssh/id_ed25519") -> Result:
        machine.write("/root/album/compose.yaml", COMPOSE.format(image=IMAGE, driver=name, key=key))
        return machine.sh("cd /root/album && docker-compose up --no-color 2>&1", check=False)

    assert "hello" in up(NAME).stdout
    assert driver(vieux, "album_photos") == NAME
    untagged = up("vieux/sshfs")
    machine.sh("cd /root/album && docker-compose down")
    assert command(vieux, "import-vieux").returncode == 0
    take_away(vieux)
    assert command(vieux, "alias", "add").returncode == 0
    again = up(NAME)
    assert "hello" in again.stdout, again
    assert vieux.status("album_photos")["state"] == "unmounted"
    assert bool(up("vieux/sshfs")) == bool(untagged), "compose 1.29 insists on the tag, before as after"
    machine.sh("cd /root/album && docker-compose down -v")
    assert machine.run("docker", "volume", "ls", "-q").stdout == ""
    refused = up("vieux/sshfs")
    assert "cannot use the identity file /root/.ssh/id_ed25519, it does not exist" in refused.stdout
    assert "hello" in up("vieux/sshfs", KEY).stdout
    assert driver(vieux, "album_photos") == "vieux/sshfs"
    machine.sh("cd /root/album && docker-compose down -v && rm -r /root/album")
    assert machine.read("/srv/alice/photos/hello.txt") == "hello\n"


def test_a_server_that_is_away_is_named_and_the_others_are_made(vieux: Host) -> None:
    make(vieux, "away", "port=2", "password=correct horse battery")
    make(vieux, "photos", "password=correct horse battery")
    said = command(vieux, "import-vieux")
    assert said.returncode == 1
    assert "✗ away" in said.stdout
    assert "connection refused" in said.stdout
    assert "✓ photos" in said.stdout
    assert said.stderr == "1 of 2 volumes are missing: away\n"
    assert command(vieux, "import-vieux", "--no-check").returncode == 0


def test_going_back_gives_the_volumes_to_the_other_plugin(vieux: Host) -> None:
    machine = vieux.machine
    make(vieux, "photos", "IdentityFile=/root/.ssh/id_ed25519")
    vieux.start("web", "photos", f"cat /data/hello.txt; {STAY}")
    machine.run("docker", "stop", "-t", "0", "web")
    assert command(vieux, "import-vieux").returncode == 0
    take_away(vieux)
    assert command(vieux, "alias", "add").returncode == 0
    machine.run("docker", "start", "web")
    machine.run("docker", "stop", "-t", "0", "web")
    assert command(vieux, "alias", "remove").returncode == 0
    machine.sh(INSTALL, NAME)
    machine.run("systemctl", "restart", "docker")
    machine.run("docker", "start", "web")
    machine.until(lambda: machine.run("docker", "logs", "web").stdout == "hello\n" * 3)
    assert not vieux.is_mounted("photos")
    assert "/propagated-mount/" in machine.run("findmnt", "-t", "fuse.sshfs", "-n", "-o", "TARGET").stdout


def test_the_commands_of_the_page_work_as_written(vieux: Host) -> None:
    machine = vieux.machine
    machine.sh("rm -rf /srv/photos; mkdir /srv/photos; echo hello >/srv/photos/hello.txt; chown -R alice: /srv/photos")
    make(vieux, "photos", "IdentityFile=/root/.ssh/id_ed25519", sshcmd="alice@nas:/srv/photos")
    vieux.start("web", "photos", f"cat /data/hello.txt; {STAY}")
    said = machine.sh(f"{script('docs/coming-from-vieux.md')} 2>&1").stdout
    assert f"{NAME}   photos" in said
    assert driver(vieux, "photos") == "sshfs"
    assert vieux.run("photos", "cat /data/hello.txt").stdout == "hello\n"
    assert not machine.run("test", "-e", ALIASES, check=False)


def test_purge_removes_the_aliases(vieux: Host) -> None:
    take_away(vieux)
    assert command(vieux, "alias", "add").returncode == 0
    vieux.apt(f"remove {PACKAGE}")
    assert vieux.machine.run("ls", ALIASES).stdout == "sshfs.spec\nsshfs:latest.spec\n"
    vieux.apt(f"purge {PACKAGE}")
    assert not vieux.machine.run("test", "-e", ALIASES, check=False)
