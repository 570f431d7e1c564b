# SPDX-License-Identifier: MIT
"""What docs/tools.md says of programs that talk to Docker: its commands and files, word for word."""

import json
from collections.abc import Iterator

import pytest

from .documents import block, blocks, section
from .host import KEY, STAY, Host
from .machines.machine import IMAGE

PAGE = "docs/tools.md"
REQUEST, _, SERVE = blocks("docs/tools.md", "sh")
(HEALTH,) = blocks("docs/tools.md", "yaml")
SDK = block("docs/tools.md", "import docker")
SPAWNER = block("docs/tools.md", "def mount_home")

SPAWN = """\
import types

import docker


class Client(docker.APIClient):
    def spawn(self, spawner):
        # as DockerSpawner 14.0 does in mount_binds and create_object
        mounts = [docker.types.Mount(**mount) for mount in spawner.mounts]
        host_config = self.create_host_config(mounts=mounts, network_mode="none")
        return self.create_container("busybox", ["touch", "/home/jovyan/work/notebook"], host_config=host_config)


c = types.SimpleNamespace(DockerSpawner=types.SimpleNamespace())
exec(open("/root/jupyterhub_config.py").read())
spawner = types.SimpleNamespace(escaped_name="ann")
c.DockerSpawner.pre_spawn_hook(spawner)
client = Client()
container = client.spawn(spawner)
client.start(container)
assert client.wait(container)["StatusCode"] == 0
"""

STATE = "docker ps -a -f label=com.docker.compose.service=web --format '{{.Status}}'"


@pytest.fixture
def administrator(host: Host) -> Iterator[Host]:
    """Give the host as the page expects it."""
    machine = host.machine
    machine.sh("mkdir -p /srv/photos /srv/homes && echo hello >/srv/photos/hello.txt")
    machine.sh("chown -R alice: /srv/photos /srv/homes && install -m 600 $1 /etc/docker-volume-sshfs/id_ed25519", KEY)
    machine.run("docker", "tag", IMAGE, "busybox")
    yield host
    machine.sh("docker ps -aq | xargs -r docker rm -f; docker rmi busybox; rm -rf /root/album")
    machine.sh("rm -rf /srv/photos /srv/homes")


def test_docker_s_api_makes_a_volume_and_tells_mistakes(administrator: Host) -> None:
    machine = administrator.machine
    told = json.loads(machine.sh(REQUEST).stdout)
    assert (told["Name"], told["Driver"]) == ("photos", "sshfs")
    assert administrator.run("photos", "stat -c %u /data/hello.txt").stdout == "1000\n"

    def refused(text: str, by: str) -> str:
        assert text in REQUEST
        again = REQUEST.replace("curl -fsS", "curl -sS -w '%{http_code}'").replace('"photos"', '"other"')
        return machine.sh(again.replace(text, by)).stdout

    mistake = refused("/srv/photos", "/srv/phots")
    assert "the directory /srv/phots does not exist on nas for alice" in json.loads(mistake[:-3])["message"]
    assert mistake.endswith("500")
    assert "cannot unmarshal number" in refused('"1000"', "1000")
    # what the page says of a volume that is there
    machine.sh(REQUEST.replace("1000", "1001"))
    assert administrator.inspect("photos")["Options"]["uid"] == "1000"


@pytest.mark.long
def test_ansible_makes_a_volume_and_makes_it_anew_when_an_option_changes(administrator: Host) -> None:
    machine = administrator.machine
    there, play = section(PAGE, "Ansible")
    machine.sh(f"cd /root && {there}")

    def run(check: bool = True) -> str:
        return machine.sh(f"cd /root && exec 2>&1; {play}", check=check).stdout

    def edit(before: str, after: str) -> None:
        text = machine.read("/root/volumes.yml")
        assert before in text
        machine.write("/root/volumes.yml", text.replace(before, after))

    assert "changed=1 " in run()
    assert administrator.run("photos", "stat -c '%u %a' /data/hello.txt").stdout == "1000 750\n"
    assert "changed=0 " in run(), "a switch of yes is as it was"
    edit('uid: "1000"', 'uid: "1001"')
    administrator.start("user", "photos", STAY)
    assert "volume is in use" in run(check=False)
    machine.run("docker", "rm", "-f", "user")
    assert "changed=1 " in run()
    assert administrator.inspect("photos")["Options"]["uid"] == "1001"
    assert machine.read("/srv/photos/hello.txt") == "hello\n"
    edit('"yes"', "yes")
    assert "cannot unmarshal bool" in run(check=False)


def test_the_python_sdk_makes_a_volume_and_tells_mistakes(administrator: Host) -> None:
    machine = administrator.machine
    machine.write("/root/sdk.py", SDK)
    assert "hello.txt\n" in machine.run("/usr/bin/python3", "/root/sdk.py").stdout
    catch = "try:\n    {}\nexcept docker.errors.APIError as error:\n    print(error.explanation)\n"
    mistake = 'client.volumes.create("other", driver="sshfs", driver_opts={"sshcmd": "alice@nas:/srv/phots"})'
    machine.write("/root/sdk.py", f"import docker\nclient = docker.from_env()\n{catch.format(mistake)}")
    said = machine.run("/usr/bin/python3", "/root/sdk.py").stdout
    assert "the directory /srv/phots does not exist on nas for alice" in said


def test_what_dockerspawner_sends_gives_each_user_a_directory(administrator: Host) -> None:
    machine = administrator.machine
    machine.write("/root/jupyterhub_config.py", SPAWNER)
    machine.write("/root/spawn.py", SPAWN)
    machine.run("/usr/bin/python3", "/root/spawn.py")
    assert machine.run("stat", "-c", "%U", "/srv/homes/ann/notebook").stdout == "alice\n"
    assert administrator.run("home-ann", "stat -c %u:%g /data/notebook").stdout == "1000:100\n"


def quick(text: str) -> str:
    """Return a recipe with a look each second."""
    assert "15s" in text
    return text.replace("15s", "1s")


@pytest.fixture
def guarded(administrator: Host) -> Iterator[Host]:
    """Give the project of the page, up and healthy."""
    machine = administrator.machine
    # in place of one that serves
    machine.sh(
        f'docker create --name served {IMAGE} && docker commit --change "$1" served nginx && docker rm served',
        f"CMD {json.dumps(['sh', '-c', STAY])}",
    )
    machine.write("/root/album/compose.yaml", quick(HEALTH).replace("5s", "2s"))
    machine.sh("cd /root/album && docker-compose up -d 2>&1")
    machine.until(f"{STATE} | grep -F '(healthy)'")
    yield administrator
    machine.sh("cd /root/album && docker-compose down -v -t 1 2>&1; docker rmi nginx")


def test_a_health_check_notices_a_server_that_goes_away_and_that_it_is_back(guarded: Host) -> None:
    machine = guarded.machine
    machine.run("systemctl", "stop", "ssh")
    try:
        guarded.cut_connections()
        machine.until(f"{STATE} | grep -F '(unhealthy)'")
    finally:
        machine.run("systemctl", "start", "ssh")
    machine.until(f"{STATE} | grep -F '(healthy)'")


def test_a_health_check_notices_a_server_that_does_not_answer(guarded: Host) -> None:
    machine = guarded.machine
    machine.run("pkill", "-STOP", "-x", "sftp-server")
    try:
        machine.until(f"{STATE} | grep -F '(unhealthy)'")
    finally:
        machine.run("pkill", "-CONT", "-x", "sftp-server", check=False)
    machine.until(f"{STATE} | grep -F '(healthy)'")


def test_swarm_replaces_a_container_that_has_lost_its_volume(administrator: Host) -> None:
    machine = administrator.machine
    with administrator.swarm():
        machine.sh(quick(SERVE).replace("sleep 1000", f"sh -c '{STAY}'"))  # one that ends as soon as it is told to
        machine.until("docker ps -q -f health=healthy | grep .")
        first = machine.run("docker", "ps", "-q").stdout.strip()
        machine.run("kill", "-KILL", administrator.sshfs("photos"))
        machine.until(f"docker ps -q -f health=healthy | grep -vF {first}")
