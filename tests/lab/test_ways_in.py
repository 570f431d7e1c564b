# SPDX-License-Identifier: MIT
"""Every way in which Docker finds the service: the page about them word for word, and what each lets through."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .documents import preamble, section
from .host import KEY, PACKAGE, Host
from .story import live_in_containers, tell_calls

PAGE = "docs/ways-in.md"
SERVICE, SOCKET = f"{PACKAGE}.service", f"{PACKAGE}.socket"
ACTIVATE = f"{PACKAGE}-activate.service"
DROP_INS = f"/etc/systemd/system/{SOCKET}.d"
SPEC = "/run/docker-volume-sshfs/sshfs.spec"
OURS = "unix:///run/docker-volume-sshfs/sshfs.sock\n"
UNIX = ("curl", "--unix-socket", "/run/docker-volume-sshfs/sshfs.sock")
JSON = "/etc/docker/plugins/sshfs.json"
TLS = "https://127.0.0.1:9443"


@pytest.fixture
def administrator(host: Host) -> Host:
    """Give the host as the page expects it: with the default key, and room for drop-ins."""
    host.machine.sh(
        f"install -m 600 {KEY} /etc/docker-volume-sshfs/id_ed25519; mkdir -p /srv/photos; chown alice: /srv/photos"
    )
    host.machine.sh(preamble(PAGE))
    return host


@contextmanager
def way(host: Host, heading: str) -> Iterator[str]:
    """Go a way and back, as the page says; what was said on the way there is given."""
    there, back = section(PAGE, heading)
    try:
        yield host.machine.sh('sh -c "$1" 2>&1', there).stdout
    finally:
        host.machine.sh('sh -c "$1" 2>&1', back)


def listens(host: Host) -> list[str]:
    shown = host.machine.run("systemctl", "show", "-p", "Listen", SOCKET).stdout
    return [line.removeprefix("Listen=").removesuffix(" (Stream)") for line in shown.splitlines()]


def docker_reaches_it(host: Host, volume: str) -> None:
    """Docker knows the volume, and a container can write to it."""
    assert host.inspect(volume)["Driver"] == "sshfs"
    host.run(volume, f"touch /data/{volume}")
    assert host.machine.run("test", "-e", f"/srv/photos/{volume}")
    assert host.machine.run("docker-volume-sshfs", "status").stdout.count(volume) >= 1


def test_spec(administrator: Host) -> None:
    tell_calls(administrator, UNIX, "http://plugin")
    live_in_containers(administrator, "by-spec")


def test_sock(administrator: Host) -> None:
    host = administrator
    with way(host, ".sock"):
        assert listens(host) == ["/run/docker-volume-sshfs/sshfs.sock", "/run/docker/plugins/sshfs.sock"]
        docker_reaches_it(host, "by-sock")
        # without the spec, too, for a Docker that starts now
        host.machine.sh(f"rm {SPEC} && systemctl restart docker")
        docker_reaches_it(host, "by-sock")
        tell_calls(host, ("curl", "--unix-socket", "/run/docker/plugins/sshfs.sock"), "http://plugin")
        live_in_containers(host, "in-sock")
    assert host.machine.read(SPEC) == OURS
    docker_reaches_it(host, "by-sock")


def test_sock_in_a_directory(administrator: Host) -> None:
    host = administrator
    place = "/run/docker/plugins/sshfs/sshfs.sock"
    host.machine.write(f"{DROP_INS}/sock.conf", f"[Socket]\nListenStream=\nListenStream={place}\nExecStartPost=\n")
    _, back = section(PAGE, ".sock")
    try:
        host.machine.sh(f"systemctl stop {SOCKET} {SERVICE}; systemctl daemon-reload; systemctl start {SOCKET}")
        host.machine.run("systemctl", "restart", "docker")
        host.create("deep", host.directory("deep"))
        host.run("deep", "touch /data/file")
        assert "deep" in host.machine.run("docker-volume-sshfs", "status").stdout
        tell_calls(host, ("curl", "--unix-socket", place), "http://plugin")
    finally:
        host.machine.sh('sh -c "$1"; systemctl restart docker', back)


def the_unit_that_asks_reaches_it(host: Host) -> None:
    """In its sandbox the plugin's command can ask the service, which is up then before Docker asks."""
    drop_in = f"/run/systemd/system/{ACTIVATE}.d/lab.conf"
    told = "[Service]\nType=oneshot\nExecStart=\nExecStart=/usr/bin/docker-volume-sshfs status\n"
    host.machine.write(drop_in, told)
    try:
        host.machine.sh(f"systemctl daemon-reload && systemctl restart {ACTIVATE}")
        assert host.property(ACTIVATE, "ExecMainStatus") == "0"
    finally:
        host.machine.sh(f"rm {drop_in} && systemctl daemon-reload")


def test_tcp_on_loopback(administrator: Host) -> None:
    host = administrator
    with way(host, ".spec with TCP"):
        the_unit_that_asks_reaches_it(host)
        assert host.machine.read(SPEC) == "tcp://127.0.0.1:9345\n"
        docker_reaches_it(host, "by-tcp")
        warned = host.machine.run("docker-volume-sshfs", "doctor").stdout
        assert "every user of this host can call the service at tcp://127.0.0.1:9345, and so act as root" in warned
        tell_calls(host, ("curl",), "http://127.0.0.1:9345")
        live_in_containers(host, "in-tcp")
    assert host.machine.read(SPEC) == OURS
    docker_reaches_it(host, "by-tcp")


@pytest.mark.parametrize(
    ("listen", "described", "refusal"),
    [
        (
            "0.0.0.0:9345",
            "",
            "the plugin will not be served at tcp://0.0.0.0:9345, where other hosts could act as root on this one: "
            "listen on 127.0.0.1, or ask for certificates",
        ),
        (
            "127.0.0.1:9345",
            '{"Name": "sshfs", "Addr": "https://127.0.0.1:9345", "TLSConfig": {}}',
            "the plugin will not be served at tcp://127.0.0.1:9345 without TLS, which /etc/docker/plugins/sshfs.json "
            "tells Docker to use there: ask for certificates",
        ),
    ],
)
def test_tcp_for_the_world_or_where_docker_was_told_of_tls_is_refused(
    administrator: Host, listen: str, described: str, refusal: str
) -> None:
    host = administrator
    _, back = section(PAGE, ".spec with TCP")
    host.machine.write(f"{DROP_INS}/tcp.conf", f"[Socket]\nListenStream={listen}\n")
    host.machine.write("/etc/docker/plugins/sshfs.json", described)
    try:
        host.machine.sh(f"systemctl stop {SOCKET} {SERVICE}; systemctl daemon-reload; systemctl start {SOCKET}")
        assert not host.machine.run("systemctl", "start", SERVICE, check=False)
        assert host.property(SERVICE, "ExecMainStatus") == "78"
        assert refusal in host.machine.journal("-u", SERVICE, "-n", "30")
    finally:
        host.machine.sh(f"rm /etc/docker/plugins/sshfs.json; systemctl reset-failed {SERVICE} {SOCKET}", check=False)
        host.machine.sh('sh -c "$1" 2>&1', back)
    host.machine.run("docker", "volume", "ls")
    assert host.property(SERVICE, "ActiveState") == "active"


def test_tls_lets_in_whom_the_authority_has_signed_and_nobody_else(administrator: Host) -> None:
    host, machine = administrator, administrator.machine
    with way(host, ".json with TLS") as said:
        assert "by-tls" in said
        docker_reaches_it(host, "by-tls")
        assert not machine.run("test", "-e", SPEC, check=False)
        ca = ("--cacert", "/etc/docker/sshfs-plugin/ca.pem")
        certificate = ("--cert", "/etc/docker/sshfs-plugin/cert.pem", "--key", "/etc/docker/sshfs-plugin/key.pem")
        ask = ("curl", "-sS", "-X", "POST", f"{TLS}/VolumeDriver.List", "-H", "Accept: x")
        assert "by-tls" in machine.run(*ask, *ca, *certificate).stdout
        machine.sh(
            "openssl req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=Docker "
            "-keyout /root/stranger.key -out /root/stranger.pem"
        )
        for stranger in (
            (*ask, *ca),
            (*ask, *ca, "--cert", "/root/stranger.pem", "--key", "/root/stranger.key"),
            ("curl", "-sS", "-X", "POST", "http://127.0.0.1:9443/VolumeDriver.List"),
        ):
            refused = machine.run(*stranger, check=False)
            assert refused.returncode != 0
            assert "by-tls" not in refused.stdout
        tell_calls(host, ("curl", *ca, *certificate), TLS)
        live_in_containers(host, "in-tls")
        machine.sh(f"mkdir -p /usr/lib/docker/plugins && mv {JSON} /usr/lib/docker/plugins && systemctl restart docker")
        docker_reaches_it(host, "by-tls")
        machine.run("mv", "/usr/lib/docker/plugins/sshfs.json", JSON)
        hold_every_place_in_silence(host)
        assert "by-tls" in machine.run(*ask, *ca, *certificate, "--max-time", "300").stdout
        machine.until("test -e /root/cut-off")
        assert "Traceback" not in machine.journal("-u", SERVICE, "-n", "100")
        give_up_while_the_server_is_frozen(host, ("curl", *ca, *certificate))
        assert "by-tls" in machine.run("docker-volume-sshfs", "status").stdout
    docker_reaches_it(host, "by-tls")


SILENT = """
import socket, time
held = [socket.create_connection(("127.0.0.1", 9443)) for _ in range(1040)]
open("/root/held", "w").close()
for connection in held:
    assert connection.recv(1) == b"", "the other end has closed it"
open("/root/cut-off", "w").close()
"""


def hold_every_place_in_silence(host: Host) -> None:
    """Connect more often than there are threads and places to wait for them, say nothing and stay."""
    host.machine.write("/root/silent.py", SILENT)
    host.machine.run("rm", "-f", "/root/held", "/root/cut-off")
    run = ("systemd-run", "-q", "--collect", "-u", "silent", "-p", "LimitNOFILE=4096")
    host.machine.run(*run, "/usr/bin/python3", "/root/silent.py")
    host.machine.until("test -e /root/held")


def give_up_while_the_server_is_frozen(host: Host, curl: tuple[str, ...]) -> None:
    """Mount and go: who has gone holds nothing, which is as hard to see over TLS as it matters."""
    machine = host.machine
    server = host.property("ssh.service", "MainPID")
    body = '{"Name": "by-tls", "ID": "gone"}'
    # a connection that stands would need nothing from the server that is frozen
    machine.run("systemctl", "stop", "docker-volume-sshfs-connection@*")
    machine.until("! ss -tnH state established dport = :22 | grep .")
    machine.run("kill", "-STOP", server)
    try:
        mount = (*curl, "-H", "Accept: x", "-d", body, f"{TLS}/VolumeDriver.Mount")
        machine.run("systemd-run", "-q", "--collect", "-u", "impatient", *mount)
        machine.until("ss -tnH state established dport = :22 | grep .")
        machine.run("systemctl", "stop", "impatient")
    finally:
        machine.run("kill", "-CONT", server)
    machine.until(lambda: "the client has gone and holds nothing" in host.log("by-tls"))
    machine.until(lambda: not host.is_mounted("by-tls"))
    assert host.status("by-tls")["holders"] == 0


def test_swarm_gives_a_task_to_a_node_that_has_no_volume_yet(administrator: Host) -> None:
    host, machine = administrator, administrator.machine
    _, serve = section(PAGE, "Swarm")
    machine.sh("docker tag busybox:lab busybox && systemctl restart docker")

    def is_mounted() -> bool:
        assert host.is_mounted("photos"), machine.sh("docker service ps --no-trunc web; docker info").stdout
        return True

    with host.swarm():
        machine.sh(serve)
        machine.until(is_mounted)
    machine.run("docker", "rmi", "busybox")


def test_what_hides_the_plugin_is_told(administrator: Host) -> None:
    """A socket that an older plugin has left behind comes before our spec."""
    machine = administrator.machine
    other = "/run/docker/plugins/sshfs.sock"
    machine.sh(
        f"mkdir -p /run/docker/plugins && /usr/bin/python3 -c "
        f"'import socket; socket.socket(socket.AF_UNIX).bind(\"{other}\")'"
    )
    try:
        told = machine.run("docker-volume-sshfs", "status", check=False)
        assert told.returncode == 1
        assert (
            f"Docker calls unix://{other}, by {other}, and not this plugin: remove that, and restart Docker"
            in told.stderr
        )
        logged = f"journalctl -u {SERVICE} -n 20 -o cat | grep 'Docker calls unix://{other}'"
        machine.until(logged)  # as soon as a running service notices
        machine.run("systemctl", "restart", SERVICE)
        machine.until(f"test $({logged} | wc -l) -ge 2")  # and whenever one starts
    finally:
        machine.sh(f"rm {other}")
    assert machine.run("docker-volume-sshfs", "status")
