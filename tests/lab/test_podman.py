# SPDX-License-Identifier: MIT
"""What docs/podman.md says: its commands and files, word for word."""

from collections.abc import Iterator

import pytest

from .documents import block, blocks, preamble, section
from .host import KEY, Host
from .machines.commands import Result
from .machines.machine import IMAGE

PAGE = "docs/podman.md"
POD, PROJECT = blocks("docs/podman.md", "yaml")
FOUND_BY = block("docs/podman.md", "[engine.volume_plugins]")
CONFIGURATION = "/etc/containers/containers.conf"
DROP_INS = f"{CONFIGURATION}.d"
WITHOUT_QUADLET = WITHOUT_VOLUME_DRIVERS = "bookworm"
"""Its Podman knows no Quadlet, and its podman-compose no drivers of volumes."""

# there is no network in the machine, and systemd makes no slices for pods below a cgroup v1
_LAB = '[containers]\nnetns = "none"\n[engine]\ncgroup_manager = "cgroupfs"\n'
HELLO = "/usr/share/nginx/html/hello.txt"


@pytest.fixture
def administrator(host: Host) -> Iterator[Host]:
    """Give the host as the page expects it."""
    machine = host.machine
    machine.sh("mkdir -p /srv/photos && echo hello >/srv/photos/hello.txt && chown -R alice: /srv/photos")
    machine.sh("install -m 600 $1 /etc/docker-volume-sshfs/id_ed25519", KEY)
    machine.write(f"{DROP_INS}/lab.conf", _LAB)
    machine.sh("podman tag $1 busybox docker.io/library/nginx", IMAGE)
    # in place of one that serves
    serves = 'CMD ["sh", "-c", "trap exit TERM; while sleep 0.1; do true; done"]'
    machine.sh(
        'id=$(podman create $1) && podman commit -q --change "$2" $id docker.io/library/nginx && podman rm $id',
        IMAGE,
        serves,
    )
    yield host
    machine.sh(
        "set +e; podman pod rm -fa -t 0; podman rm -fa -t 0; podman volume rm -a; "
        "podman rmi -f docker.io/library/nginx; "
        "rm -rf $1 $2/lab.conf $2/50-own.conf /etc/containers/systemd /srv/photos /root/album /root/pod.yaml",
        *(CONFIGURATION, DROP_INS),
    )


def volumes(host: Host) -> list[str]:
    return host.machine.run("podman", "volume", "ls", "-q").stdout.split()


def test_a_volume_comes_and_goes_by_hand(administrator: Host) -> None:
    assert "hello.txt" in administrator.machine.sh(preamble(PAGE)).stdout
    assert volumes(administrator) == []


def plugins(host: Host) -> set[str]:
    """Return the names of the volume plugins that Podman is told of."""
    return set(host.machine.run("podman", "info", "-f", '{{join .Plugins.Volume " "}}').stdout.split())


def test_other_plugins_of_the_administrator_stay_and_what_is_read_later_counts(administrator: Host) -> None:
    machine = administrator.machine
    assert machine.read(f"{DROP_INS}/10-docker-volume-sshfs.conf").endswith(FOUND_BY)
    machine.write(CONFIGURATION, '[engine.volume_plugins]\nother = "/run/other.sock"\nsshfs = "/run/earlier.sock"\n')
    assert plugins(administrator) == {"local", "other", "sshfs"}
    machine.run("podman", "volume", "create", "--driver", "sshfs", "-o", "sshcmd=alice@nas:/srv/photos", "photos")
    machine.run("podman", "volume", "rm", "photos")
    machine.write(f"{DROP_INS}/50-own.conf", '[engine.volume_plugins]\nsshfs = "/run/later.sock"\n')
    refused = machine.run("podman", "volume", "create", "--driver", "sshfs", "photos", check=False)
    assert 'cannot access plugin sshfs socket "/run/later.sock"' in refused.stderr


@pytest.fixture
def user(host: Host) -> Iterator[str]:
    """Give somebody who has a Podman without root."""
    host.machine.run("useradd", "--system", "--create-home", "--shell", "/bin/sh", "somebody")
    yield "somebody"
    host.machine.sh("pkill -KILL -u somebody; until userdel -r somebody; do sleep 0.1; done", check=False)


def test_podman_of_another_user_is_as_before_but_for_reload(host: Host, user: str) -> None:
    machine = host.machine

    def podman(*words: str) -> Result:
        settings = ("env", "STORAGE_DRIVER=vfs", f"HOME=/home/{user}", f"XDG_RUNTIME_DIR=/home/{user}")
        return machine.run("runuser", "-u", user, "--", *settings, "podman", *words, check=False)

    for words in ("volume create plain", "volume inspect plain", "ps -a", "volume prune -f"):
        assert podman(*words.split()), words
    assert podman("volume", "ls", "-q").stdout == ""
    for words in ("volume create --driver sshfs -o sshcmd=alice@nas:/srv/photos photos", "volume reload"):
        assert "permission denied" in podman(*words.split()).stderr
    assert podman("volume", "ls", "-q").stdout == ""


def test_quadlet_makes_units_of_a_volume_and_a_container(administrator: Host, release: str) -> None:
    there, back = section(PAGE, "Quadlet")
    machine = administrator.machine
    machine.run("mkdir", "-p", "/etc/containers/systemd")
    if release == WITHOUT_QUADLET:
        assert not machine.run("test", "-e", "/usr/lib/systemd/system-generators/podman-system-generator", check=False)
        return
    machine.sh(there, check=False)  # Podman gives the plugin five seconds, which a busy machine may use up
    machine.until(f"podman exec systemd-web grep hello {HELLO}")
    assert administrator.is_mounted("photos")
    options = machine.run("docker-volume-sshfs", "status", "photos").stdout.partition("options:")[2]
    for option in ("sshcmd=alice@nas:/srv/photos", "uid=1000", "gid=1000", "check=mount"):
        assert option in options
    machine.sh(back)
    assert volumes(administrator) == []
    assert machine.read("/srv/photos/hello.txt") == "hello\n"


def test_a_container_of_quadlet_writes_until_its_end_at_power_off(administrator: Host, release: str) -> None:
    """Even if it takes longer to end than its volume would."""
    if release == WITHOUT_QUADLET:
        return
    machine, unit = administrator.machine, "/etc/containers/systemd/web.container"
    script = "trap 'sleep 12; date >/usr/share/nginx/html/last; exit' TERM; while sleep 0.1; do true; done"
    machine.run("mkdir", "-p", "/etc/containers/systemd")
    machine.sh(section(PAGE, "Quadlet")[0], check=False)
    longer = f'PodmanArgs=--stop-timeout=30\nExec=sh -c "{script}"\n\n[Service]'
    machine.write(unit, machine.read(unit).replace(":ro\n", "\n").replace("[Service]", longer))
    # the server is this same host
    machine.write("/etc/systemd/system/web.service.d/ssh.conf", "[Unit]\nAfter=ssh.service\n")
    machine.sh("chown alice: /srv/photos; systemctl daemon-reload; systemctl restart web")
    machine.until(f"podman exec systemd-web grep hello {HELLO}")
    machine.reboot()
    try:
        assert machine.run("test", "-e", "/srv/photos/last")
        machine.until(f"podman exec systemd-web grep hello {HELLO}")
    finally:
        machine.sh("rm -r /etc/systemd/system/web.service.d")
        machine.sh(section(PAGE, "Quadlet")[1])


def test_a_pod_has_the_volume_that_its_claim_describes(administrator: Host) -> None:
    machine = administrator.machine
    machine.write("/root/pod.yaml", POD)
    play = "podman kube play --replace --network none /root/pod.yaml"
    machine.until(f"{play} && podman exec site-web grep hello {HELLO}")
    machine.run("podman", "kube", "down", "/root/pod.yaml")
    assert volumes(administrator) == ["photos"]
    assert not administrator.is_mounted("photos")


COMPOSE = "cd /root/album && exec 2>&1; podman-compose"


def test_a_project_of_podman_compose_has_its_volume(administrator: Host, release: str) -> None:
    machine = administrator.machine
    project = PROJECT
    if release == WITHOUT_VOLUME_DRIVERS:
        machine.write("/root/album/compose.yaml", project)
        machine.sh(f"{COMPOSE} up -d; {COMPOSE} down")
        assert machine.run("podman", "volume", "inspect", "-f", "{{.Driver}}", "album_photos").stdout == "local\n"
        machine.run("podman", "volume", "rm", "album_photos")
        machine.sh(section(PAGE, "podman-compose")[1])
    else:  # there is no network in the machine
        project = project.replace("    image:", "    network_mode: none\n    image:")
    machine.write("/root/album/compose.yaml", project)
    machine.until(f"{COMPOSE} up -d; podman exec album_web_1 grep hello {HELLO}")
    machine.sh(f"{COMPOSE} down -v")
    made_by_hand = release == WITHOUT_VOLUME_DRIVERS
    assert volumes(administrator) == (["album_photos"] if made_by_hand else [])
    assert machine.read("/srv/photos/hello.txt") == "hello\n"


def test_podman_compose_does_not_tell_why_a_volume_can_not_be_made(administrator: Host, release: str) -> None:
    machine = administrator.machine
    machine.write("/root/album/compose.yaml", PROJECT.replace("/srv/photos", "/srv/phots"))
    said = machine.sh(f"{COMPOSE} up -d", check=False).stdout
    assert "does not exist" not in said, "it does, and the page says that it does not"
    if release == WITHOUT_VOLUME_DRIVERS:
        return
    assert "volume create" in said
    asked = machine.run("journalctl", "-u", "docker-volume-sshfs", "-n", "5", "-o", "cat").stdout
    assert "the directory /srv/phots does not exist on nas for alice" in asked
