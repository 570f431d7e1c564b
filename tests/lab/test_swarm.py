# SPDX-License-Identifier: MIT
"""A Swarm of booted nodes in a network of their own: the page about it word for word, and what its nodes go through."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from support.long import LONG

from .documents import block, blocks, section
from .host import KEY, PACKAGE, Host
from .machines.commands import Result
from .machines.machine import Machine
from .machines.network import Network

PAGE = "docs/swarm.md"
NODES = ("one", "two", "three") if LONG else ("one", "two")
STAYING = tuple(node for node in NODES if node != "two")
COMPARE = block(PAGE, "ssh two docker-volume-sshfs status --json")
DEPLOY, DRAIN, ACTIVATE = (
    block(PAGE, beginning)
    for beginning in (
        "docker stack deploy",
        "docker node update --availability drain",
        "docker node update --availability active",
    )
)
NEW_NAME = block(PAGE, "sed -i")
KNOWN = block(PAGE, "ssh-keyscan")
REMOVE = "docker volume ls -q | xargs -r docker volume rm"
"""It fails until the tasks with the volumes are gone."""
PLAY = block(PAGE, "ansible-playbook")


class Swarm:
    """The nodes of a Swarm; the first is its manager, and has the SSH server ``nas`` as well."""

    def __init__(self, nodes: dict[str, Host]) -> None:
        self.nodes = nodes
        self.manager = nodes["one"].machine

    def sh(self, script: str, check: bool = True) -> Result:
        """Run a script as the administrator does, on the manager."""
        return self.manager.sh(f"cd /root/swarm; {script}", check=check)

    def await_tasks(self, service: str, *nodes: str) -> None:
        """Wait until a service has one running task on each of these nodes, and no other."""

        def running() -> bool:
            listed = (
                f"docker service ps -f desired-state=running --format '{{{{.Node}}}} {{{{.CurrentState}}}}' {service}"
            )
            tasks = [line.split()[:2] for line in self.manager.sh(listed).stdout.splitlines()]
            assert sorted(tasks) == [[node, "Running"] for node in sorted(nodes)], tasks
            return True

        self.manager.until(running)

    def in_task(self, node: str, service: str, script: str) -> str:
        """Run a script in the container of a service's task on a node, and return what it printed."""
        find = f"docker ps -q -f label=com.docker.swarm.service.name={service} -f status=running"
        return self.nodes[node].machine.sh(f'docker exec $({find}) sh -c "$1"', script).stdout

    def tell_fingerprint(self) -> None:
        """Bring the fingerprint of the server's host key to the administrator."""
        shown = self.manager.run("ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub").stdout
        self.manager.write("/root/swarm/nas.fingerprint", shown.split()[1] + "\n")


def state_is(host: Host, state: str) -> bool:
    return bool(host.status("album_music")["state"] == state)


@pytest.fixture(scope="module")
def swarm(release: str, package: Path, _available: None) -> Iterator[Swarm]:
    """Give a Swarm whose nodes are prepared as the page says."""
    with Network(*NODES) as network, ExitStack() as machines:
        nodes = {}
        for name in NODES:
            machine = machines.enter_context(Machine(release, network.place(name)))
            machine.boot()
            machine.import_busybox_image("busybox")
            nodes[name] = Host(machine, package)
            nodes[name].install()
            machine.sh("echo 10.77.0.1 nas >>/etc/hosts; install -D -m 600 $1.pub /root/.ssh/authorized_keys", KEY)
        swarm = Swarm(nodes)
        swarm.manager.sh(
            "mkdir -p /root/swarm /srv/photos /srv/music; chown alice: /srv/photos /srv/music; cp $1 /root/.ssh/; "
            "cp $1 /root/swarm/; shift; for node; do ssh-keyscan -t ed25519 $node >>/root/.ssh/known_hosts; done",
            *(KEY, *NODES),
        )
        swarm.manager.write("/root/swarm/nas.password", "correct horse battery\n")
        swarm.tell_fingerprint()
        there, play = section(PAGE, "Prepare the nodes")
        swarm.sh(there)
        if LONG:
            swarm.sh("echo three >>nodes.ini")
        swarm.sh(play)
        swarm.manager.run("docker", "swarm", "init", "--advertise-addr", "10.77.0.1")
        token = swarm.manager.run(*"docker swarm join-token -q worker".split()).stdout.strip()
        for name in NODES[1:]:
            nodes[name].machine.run("docker", "swarm", "join", "--token", token, "10.77.0.1:2377")
        there, _ = section(PAGE, "A stack")
        swarm.sh(there)
        yield swarm


@pytest.fixture
def stack(swarm: Swarm) -> Iterator[Swarm]:
    """Give the Swarm with the file of the page's stack; what is deployed of it is removed afterwards."""
    there, _ = section(PAGE, "A stack")
    swarm.sh(there)
    yield swarm
    swarm.sh(f"docker stack rm album; {ACTIVATE}", check=False)
    for host in swarm.nodes.values():
        host.machine.until(REMOVE)


@pytest.fixture
def service(swarm: Swarm) -> Iterator[Swarm]:
    """Give the Swarm with the page's service running."""
    _, create = section(PAGE, "A service")
    swarm.sh(create)
    yield swarm
    swarm.sh("docker service rm web", check=False)
    for host in swarm.nodes.values():
        host.machine.until(REMOVE)


def test_page_has_no_yaml_that_is_only_shown() -> None:
    assert blocks(PAGE, "yaml") == []


def test_nodes_are_prepared_alike_and_the_playbook_can_be_run_again(swarm: Swarm) -> None:
    for host in swarm.nodes.values():
        assert host.machine.run("stat", "-c", "%a", f"/etc/{PACKAGE}/id_ed25519", f"/etc/{PACKAGE}/nas.password")
        assert host.machine.run("ssh-keygen", "-F", "nas", "-f", "/etc/ssh/ssh_known_hosts")
    assert "changed=0" in swarm.sh(PLAY).stdout


def test_key_that_has_another_fingerprint_stops_the_preparation(swarm: Swarm) -> None:
    swarm.manager.write("/root/swarm/nas.fingerprint", "SHA256:" + "A" * 43 + "\n")
    try:
        assert not swarm.sh(KNOWN, check=False)
    finally:
        swarm.tell_fingerprint()


def test_replicas_on_all_nodes_have_the_same_data(service: Swarm) -> None:
    if LONG:
        service.manager.run(*"docker node update --availability drain three".split())
    service.await_tasks("web", "one", "two")
    if LONG:
        service.manager.run(*"docker node update --availability active three".split())
    service.in_task("one", "web", "echo from one >/photos/file")
    assert service.in_task("two", "web", "cat /photos/file") == "from one\n"
    service.in_task("two", "web", "echo from two >/photos/file")
    service.manager.until("grep 'from two' /srv/photos/file")


def test_options_that_change_are_not_taken_up_and_the_drift_is_found(stack: Swarm) -> None:
    stack.sh(DRAIN)
    stack.sh(DEPLOY)
    stack.await_tasks("album_web", *STAYING)
    said = stack.sh('sed -i \'s/uid: "1000"/uid: "1001"/\' album.yml; ' + DEPLOY)
    assert "Updating service album_web" in said.stdout + said.stderr
    stack.await_tasks("album_web", *STAYING)
    assert stack.in_task("one", "album_web", "stat -c %u /music") == "1000\n"
    assert stack.sh(COMPARE, check=False).stdout == "album_music: only here\n"
    stack.sh(ACTIVATE)
    stack.await_tasks("album_web", *NODES)
    assert stack.in_task("two", "album_web", "stat -c %u /music") == "1001\n"
    compared = stack.sh(COMPARE, check=False)
    assert (compared.returncode, compared.stdout) == (1, "album_music: uid is 1000 here and 1001 there\n")


def test_options_under_a_new_name_are_the_same_on_all_nodes(stack: Swarm) -> None:
    stack.sh(DEPLOY)
    stack.await_tasks("album_web", *NODES)
    stack.sh(NEW_NAME)
    for host in (stack.nodes["one"], stack.nodes["two"]):
        host.machine.until(partial(host.is_mounted, "album_music_2"))
    stack.await_tasks("album_web", *NODES)
    assert [stack.in_task(node, "album_web", "stat -c %u /music") for node in ("one", "two")] == ["1001\n"] * 2
    assert stack.sh(COMPARE).stdout == ""
    digests = {
        volume["optionsDigest"]
        for host in stack.nodes.values()
        for volume in json.loads(host.machine.run(PACKAGE, "status", "--json").stdout)["volumes"]
        if volume["name"] == "album_music_2"
    }
    assert len(digests) == 1


def test_drained_node_unmounts_and_takes_part_again(stack: Swarm) -> None:
    stack.sh(DEPLOY)
    stack.await_tasks("album_web", *NODES)
    two = stack.nodes["two"]
    stack.sh(DRAIN)
    two.machine.until(lambda: not two.is_mounted("album_music"))
    assert two.status("album_music")["state"] == "unmounted"
    stack.sh(ACTIVATE)
    stack.await_tasks("album_web", *NODES)
    assert two.is_mounted("album_music")


@pytest.mark.long
def test_server_that_has_another_key_is_known_again_by_what_prepares_nodes(stack: Swarm) -> None:
    stack.sh(DEPLOY)
    stack.await_tasks("album_web", *NODES)
    manager = stack.manager
    manager.sh(
        "cd /etc/ssh; rm ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f ssh_host_ed25519_key; systemctl restart ssh"
    )
    stack.in_task("two", "album_web", "touch /music/before")
    stack.nodes["one"].cut_connections()
    for host in (stack.nodes["one"], stack.nodes["two"]):
        host.machine.until(partial(state_is, host, "unresponsive"))
    assert not stack.sh(KNOWN, check=False), "the fingerprint is still the old one"
    stack.tell_fingerprint()
    stack.sh(KNOWN)
    # the nodes themselves are reached by name and key, too
    manager.sh("ssh-keygen -R one; ssh-keyscan -t ed25519 one >>/root/.ssh/known_hosts")
    stack.sh(PLAY)
    for node in ("one", "two"):
        stack.nodes[node].machine.until(f"{PACKAGE} status album_music")
        assert stack.in_task(node, "album_web", "ls /music/before") == "/music/before\n"


@pytest.mark.long
def test_node_that_is_rebooted_mounts_again_and_one_without_volumes_gets_tasks(stack: Swarm) -> None:
    two = stack.nodes["two"]
    stack.sh(DEPLOY)
    stack.await_tasks("album_web", *NODES)
    two.machine.reboot()
    stack.await_tasks("album_web", *NODES)
    two.machine.until(partial(state_is, two, "mounted"))
    stack.sh(DRAIN)
    two.machine.until("docker container prune -f && docker volume rm album_music", timeout=60)
    two.machine.reboot()
    stack.sh(ACTIVATE)
    stack.await_tasks("album_web", *NODES)
    assert two.is_mounted("album_music")


@pytest.mark.long
def test_replicas_of_a_node_that_is_lost_go_on_elsewhere_with_the_same_data(service: Swarm) -> None:
    """Swarm takes a node for lost when it has been silent for a while."""
    service.manager.run("docker", "node", "update", "--availability", "drain", "two")
    service.await_tasks("web", "one", "three")
    service.in_task("three", "web", "echo from three >/photos/file")
    three = service.nodes["three"].machine
    three.cut_power()
    service.manager.run("docker", "node", "update", "--availability", "active", "two")
    service.await_tasks("web", "one", "two")
    assert service.in_task("two", "web", "cat /photos/file") == "from three\n"
    three.boot()
    service.manager.until("docker node ls --format '{{.Hostname}} {{.Status}}' | grep 'three Ready'")
