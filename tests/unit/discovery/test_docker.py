# SPDX-License-Identifier: MIT
"""What Docker finds under our name, in Docker's own order."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sshfs_plugin.discovery import docker

OURS = "unix:///run/docker-volume-sshfs/sshfs.sock"


class Host:
    """The directories in which Docker looks."""

    def __init__(self, root: Path, open_sockets: ExitStack) -> None:
        self.root = root
        self._open = open_sockets

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def run_docker(self, *words: str) -> None:
        self.write("run/docker.pid", "4711\n")
        self.write("proc/4711/cmdline", "\0".join((*words, "")))

    def listen(self, path: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        listening = self._open.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(str(file))

    def manage(self, name: str, *, enabled: bool = True, place: str = "var/lib/docker") -> None:
        described = {"plugin": {"Name": name, "Enabled": enabled}}
        self.write(f"{place}/plugins/0123abc/config.json", json.dumps(described))

    @property
    def found(self) -> tuple[str, str]:
        """Where something was found, and what it says."""
        found = docker.find(self.root)
        assert found
        return str(found.file.relative_to(self.root)), found.address


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with ExitStack() as open_sockets:
        yield Host(tmp_path, open_sockets)


def test_nothing_is_found_where_there_is_nothing(host: Host) -> None:
    assert docker.find(host.root) is None


def test_each_way_in_comes_before_the_ones_that_docker_looks_at_later(host: Host) -> None:
    described = json.dumps({"Name": "sshfs", "Addr": "tcp://127.0.0.1:9001"})
    for path, text, address in (
        ("usr/lib/docker/plugins/sshfs.json", described, "tcp://127.0.0.1:9001"),
        ("usr/lib/docker/plugins/sshfs.spec", "tcp://127.0.0.1:9002\n", "tcp://127.0.0.1:9002"),
        ("etc/docker/plugins/sshfs/sshfs.json", described, "tcp://127.0.0.1:9001"),
        ("etc/docker/plugins/sshfs.json", described, "tcp://127.0.0.1:9001"),
        ("etc/docker/plugins/sshfs/sshfs.spec", f"{OURS}\n", OURS),
        ("etc/docker/plugins/sshfs.spec", f"{OURS}\n", OURS),
    ):
        host.write(path, text)
        assert host.found == (path, address)
    for path in ("run/docker/plugins/sshfs/sshfs.sock", "run/docker/plugins/sshfs.sock"):
        host.listen(path)
        assert host.found == (path, f"unix:///{path}")
    host.manage("sshfs:latest")
    assert host.found == ("var/lib/docker/plugins/0123abc", "")


def test_what_is_no_socket_and_links_that_lead_nowhere_are_passed_over_as_docker_does(host: Host) -> None:
    host.write("run/docker/plugins/sshfs.sock", "")
    host.write("etc/docker/plugins/readme", "")
    (host.root / "etc/docker/plugins/sshfs.spec").symlink_to("/nowhere")
    host.write("etc/docker/daemon.json", '{"data-root": 5}')
    for described in ("not JSON", "[]", '"x"', "{}", '{"Addr": 5}'):
        host.write("etc/docker/plugins/sshfs.json", described)
        assert docker.find(host.root) is None
    for described in ("[]", '"x"', '{"plugin": []}', '{"plugin": "sshfs:latest"}'):
        host.write("var/lib/docker/plugins/0123abc/config.json", described)
        assert docker.find(host.root) is None
    host.manage("vieux/sshfs:latest")
    host.write("usr/lib/docker/plugins/sshfs.spec", OURS)
    assert host.found == ("usr/lib/docker/plugins/sshfs.spec", OURS)


def test_other_names_are_looked_for_in_the_same_places(host: Host) -> None:
    for name in ("vieux/sshfs", "vieux/sshfs:latest"):
        assert docker.find(host.root, name) is None
        host.write(f"etc/docker/plugins/{name}.spec", OURS)
        found = docker.find(host.root, name)
        assert found
        assert (found.file, found.address) == (host.root / f"etc/docker/plugins/{name}.spec", OURS)
    host.manage("vieux/sshfs:latest")
    managed = docker.Found(file=host.root / "var/lib/docker/plugins/0123abc", managed="vieux/sshfs:latest")
    assert docker.find(host.root, "vieux/sshfs") == docker.find(host.root, "vieux/sshfs:latest") == managed
    assert docker.find(host.root, "vieux/sshfs:next") is None
    assert docker.find(host.root) is None


def test_a_description_says_with_what_a_client_proves_who_it_is(host: Host) -> None:
    tls = {"InsecureSkipVerify": False, "CAFile": "/c/ca.pem", "CertFile": "/c/cert.pem", "KeyFile": "/c/key.pem"}
    described = {"Name": "sshfs", "Addr": "https://127.0.0.1:9443", "TLSConfig": tls}
    host.write("etc/docker/plugins/sshfs.json", json.dumps(described))
    assert docker.find(host.root) == docker.Found(
        file=host.root / "etc/docker/plugins/sshfs.json",
        address="https://127.0.0.1:9443",
        tls=docker.TLS(authority=Path("/c/ca.pem"), certificate=Path("/c/cert.pem"), key=Path("/c/key.pem")),
    )


@pytest.mark.parametrize("tls", [{}, {"CAFile": "/c/ca.pem"}, "x"])
def test_a_description_with_which_a_client_proves_nothing_is_found_all_the_same(host: Host, tls: object) -> None:
    described = {"Name": "sshfs", "Addr": "https://127.0.0.1:9443", "TLSConfig": tls}
    host.write("etc/docker/plugins/sshfs.json", json.dumps(described))
    assert host.found == ("etc/docker/plugins/sshfs.json", "https://127.0.0.1:9443")


def test_a_managed_plugin_is_found_where_docker_keeps_its_data(host: Host) -> None:
    host.write("etc/docker/daemon.json", json.dumps({"data-root": "/srv/docker"}))
    host.manage("sshfs:latest", enabled=False, place="srv/docker")
    assert docker.find(host.root) == docker.Found(
        file=host.root / "srv/docker/plugins/0123abc", managed="sshfs:latest", disabled=True
    )


@pytest.mark.parametrize(
    ("told", "place"),
    [
        ({"userns-remap": "default"}, "var/lib/docker/165536.165536"),
        ({"userns-remap": "alice:users", "data-root": "/srv/docker"}, "srv/docker/100000.200000"),
        ({"userns-remap": ""}, "var/lib/docker"),
        ({"graph": "/srv/docker"}, "srv/docker"),
    ],
)
def test_a_managed_plugin_is_found_where_docker_keeps_those_of_other_users_numbers_and_nowhere_else(
    host: Host, told: dict[str, str], place: str
) -> None:
    host.write("etc/docker/daemon.json", json.dumps(told))
    host.manage("sshfs:latest", place="var/lib/docker/buildkit")
    other = "var/lib/docker" if place != "var/lib/docker" else "var/lib/docker/165536.165536"
    host.manage("sshfs:latest", place=other)
    assert docker.find(host.root) is None
    host.manage("sshfs:latest", place=place)
    assert docker.find(host.root) == docker.Found(file=host.root / place / "plugins/0123abc", managed="sshfs:latest")


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["--data-root=/srv/docker"], "srv/docker"),
        (["-H", "fd://", "--data-root", "/srv/docker", "--debug"], "srv/docker"),
        (["-g", "/srv/docker"], "srv/docker"),
        (["--userns-remap=default"], "var/lib/docker/165536.165536"),
        (["--config-file", "/srv/daemon.json"], "srv/docker/165536.165536"),
        (["-H", "fd://", "--icc=false"], "var/lib/docker"),
    ],
)
def test_a_managed_plugin_is_found_where_the_command_line_of_docker_lets_it_be(
    host: Host, words: list[str], place: str
) -> None:
    host.write("srv/daemon.json", json.dumps({"data-root": "/srv/docker", "userns-remap": "default"}))
    host.manage("sshfs:latest", place=place)
    host.run_docker("/usr/sbin/dockerd", *words)
    assert docker.find(host.root) == docker.Found(file=host.root / place / "plugins/0123abc", managed="sshfs:latest")


def test_the_command_line_of_a_process_that_only_has_the_number_of_docker_says_nothing(host: Host) -> None:
    host.run_docker("/usr/bin/other", "--data-root=/srv/docker")
    host.manage("sshfs:latest", place="srv/docker")
    assert docker.find(host.root) is None
    host.manage("sshfs:latest")
    assert docker.find(host.root)


@pytest.mark.parametrize(
    ("address", "ours", "leads"),
    [
        (OURS, [OURS], True),
        (OURS, ["unix:///run/docker/plugins/sshfs.sock", OURS], True),
        ("unix:///run/other.sock", [OURS], False),
        ("https://127.0.0.1:9443", ["tcp://127.0.0.1:9443"], True),
        ("tcp://127.0.0.1:9443", ["tcp://127.0.0.1:9444"], False),
        ("tcp://127.0.0.1:no", ["tcp://127.0.0.1:9444"], False),
        ("tcp://[::1:9444", ["tcp://[::1]:9444"], False),
        ("tcp://[nas]:9444", ["tcp://127.0.0.1:9444"], False),
        ("https://127.0.0.1:9443/", ["tcp://0.0.0.0:9443"], True),
        ("https://[fd00::5]:9443", ["tcp://[::]:9443"], True),
        ("https://192.0.2.7:9443", ["tcp://127.0.0.1:9443"], False),
        ("https://dockerhost.example:9443", ["tcp://192.0.2.7:9443"], True),
        ("tcp://run/docker-volume-sshfs/sshfs.sock", [OURS], False),
        ("", [OURS], False),
    ],
)
def test_an_address_leads_to_us_if_we_listen_there(address: str, ours: list[str], leads: bool) -> None:
    assert docker.Found(file=Path("spec"), address=address).leads_to(ours) is leads


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, []),
        (docker.Found(file=Path("/etc/docker/plugins/sshfs.spec"), address=OURS), []),
        (
            docker.Found(file=Path("/run/docker/plugins/sshfs.sock"), address="unix:///run/docker/plugins/sshfs.sock"),
            [
                "Docker calls unix:///run/docker/plugins/sshfs.sock, by /run/docker/plugins/sshfs.sock, and not this "
                "plugin: remove that, and restart Docker"
            ],
        ),
        (
            docker.Found(file=Path("/var/lib/docker/plugins/0123"), managed="sshfs:latest"),
            [
                "Docker uses the managed plugin sshfs, and not this plugin: docker plugin rm -f sshfs, and restart "
                "Docker"
            ],
        ),
        (
            docker.Found(file=Path("/var/lib/docker/plugins/0123"), managed="sshfs:latest", disabled=True),
            [
                "Docker uses the managed plugin sshfs, although it is disabled, and not this plugin: docker plugin rm "
                "-f sshfs, and restart Docker"
            ],
        ),
    ],
)
def test_what_docker_finds_before_us_is_told(
    found: docker.Found | None, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "find", lambda _root, _name: found)
    assert [str(each) for each in docker.hiding([OURS])] == said


def test_what_hides_another_name_of_ours_is_told_as_well_and_once(host: Host) -> None:
    for name in ("sshfs", "vieux/sshfs", "vieux/sshfs:latest"):
        host.write(f"etc/docker/plugins/{name}.spec", OURS)
    names = ("sshfs", "vieux/sshfs", "vieux/sshfs:latest")
    assert docker.hiding([OURS], names, host.root) == []
    host.manage("vieux/sshfs:latest")
    assert docker.hiding([OURS], names, host.root) == [
        docker.Hiding(
            "Docker uses the managed plugin vieux/sshfs, and not this plugin",
            "docker plugin rm -f vieux/sshfs, and restart Docker",
        )
    ]
