# SPDX-License-Identifier: MIT
"""What Docker and Podman need of a volume plugin, duty by duty, in the bytes that they really send.

The numbers are those of docs/facts.md.
"""

import configparser
import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flask.testing import FlaskClient
from support.clients import ID, OTHER_ID, PODMAN_ID, SSHCMD, DockerClient, PodmanClient, WireClient
from support.driver import FakeHost, slow_slots
from support.serving import serving
from support.waiting import LIMIT_SECONDS, Background, Gate

from sshfs_plugin import errors
from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.host import uptime
from sshfs_plugin.http import api
from sshfs_plugin.mounts import systemd
from sshfs_plugin.settings import Settings
from sshfs_plugin.state.records import HolderRecords, VolumeRecords
from sshfs_plugin.volume import usable

TREE = Path(__file__).parents[2]
OPTS = {"sshcmd": SSHCMD}
ALL_CALLS: Mapping[str, Mapping[str, Any] | None] = {
    "Plugin.Activate": None,
    "VolumeDriver.Capabilities": {},
    "VolumeDriver.Create": {"Name": "photos", "Opts": OPTS},
    "VolumeDriver.Get": {"Name": "photos"},
    "VolumeDriver.Path": {"Name": "photos"},
    "VolumeDriver.List": {},
    "VolumeDriver.Mount": {"Name": "photos", "ID": ID},
    "VolumeDriver.Unmount": {"Name": "photos", "ID": ID},
    "VolumeDriver.Remove": {"Name": "photos"},
}


def unit(name: str) -> configparser.ConfigParser:
    """Read a unit of systemd; of keys that are repeated the last is enough here."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment]
    assert parser.read(TREE / "systemd" / name)
    return parser


@pytest.fixture
def gunicorn_conf(own_logging: None, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Give what gunicorn reads."""
    del own_logging
    monkeypatch.setenv("NOTIFY_SOCKET", "")
    monkeypatch.delitem(sys.modules, "sshfs_plugin.gunicorn_conf", raising=False)
    return importlib.import_module("sshfs_plugin.gunicorn_conf")


# 1 to 3: how the service is found, started and served


def test_duty_01_the_spec_names_the_socket_while_the_socket_is_open_and_is_gone_afterwards(tmp_path: Path) -> None:
    socket = unit("docker-volume-sshfs.socket")["Socket"]
    runtime = Path(socket["ListenStream"]).parent
    spec = tmp_path / "sshfs.spec"
    assert os.readlink(TREE / "etc/docker/plugins/sshfs.spec") == str(runtime / "sshfs.spec")  # noqa: PTH115
    for step in ("ExecStartPost", "ExecStopPost"):
        command = [word.replace(str(runtime / "sshfs.spec"), str(spec)) for word in shlex.split(socket[step])]
        subprocess.run(command, check=True)
        if step == "ExecStartPost":
            assert spec.read_text().strip() == f"unix://{socket['ListenStream']}"
            assert spec.read_text().startswith("unix:///")
    assert not spec.exists()


def test_duty_02_service_and_socket_start_before_docker_and_wait_for_nothing_of_it() -> None:
    for name in ("docker-volume-sshfs.service", "docker-volume-sshfs.socket", "docker-volume-sshfs@.service"):
        section = unit(name)["Unit"]
        assert "docker.service" in section["Before"].split()
        for key in ("After", "Requires", "Requisite", "Wants", "BindsTo", "PartOf"):
            assert "docker" not in section.get(key, "").replace("docker-volume-sshfs", "")


def test_duty_02_a_service_that_cannot_start_does_not_keep_docker_waiting_for_ever() -> None:
    service = unit("docker-volume-sshfs.service")
    slowest = float(service["Service"]["TimeoutStartSec"]) + float(service["Service"]["RestartSec"])
    attempts, interval = (float(service["Unit"][key]) for key in ("StartLimitBurst", "StartLimitIntervalSec"))
    assert attempts * slowest < interval
    assert float(service["Service"]["TimeoutStartSec"]) > systemd.SETTLE_SECONDS + 5


def test_duty_02_a_socket_that_was_closed_for_failures_is_opened_when_the_service_may_be_started_again() -> None:
    reopen = "docker-volume-sshfs-reopen.service"
    assert unit("docker-volume-sshfs.socket")["Unit"]["OnFailure"] == reopen
    pause = re.search(r"sleep (\d+) &&", unit(reopen)["Service"]["ExecStart"])
    assert pause
    assert pause[1] == unit("docker-volume-sshfs.service")["Unit"]["StartLimitIntervalSec"]
    assert unit(reopen)["Unit"]["PartOf"] == "docker-volume-sshfs.socket", "a stop by hand stays one"


def test_duty_03_gunicorn_serves_with_threads_that_no_slow_mount_ends(gunicorn_conf: ModuleType) -> None:
    assert (gunicorn_conf.worker_class, gunicorn_conf.workers) == ("sshfs_plugin.http.worker.Worker", 1)
    assert gunicorn_conf.threads >= 100
    assert gunicorn_conf.keepalive == 0
    assert gunicorn_conf.timeout == 0
    assert not hasattr(gunicorn_conf, "max_requests")
    started_with = unit("docker-volume-sshfs.service")["Service"]["ExecStart"]
    assert started_with.endswith("gunicorn -c python:sshfs_plugin.gunicorn_conf")


# 4 to 6: requests and replies

DOCKERS_BYTES = (
    b"POST /VolumeDriver.Create HTTP/1.1\r\n"
    b"Host: \r\n"
    b"User-Agent: Go-http-client/1.1\r\n"
    b"Content-Length: 51\r\n"
    b"Accept: application/vnd.docker.plugins.v1.2+json\r\n"
    b"\r\n"
    b'{"Name":"vol1","Opts":{"a":"b","sshcmd":"u@h:/p"}}\n'
)
PODMANS_BYTES = (
    b"POST /VolumeDriver.Create HTTP/1.1\r\n"
    b"Host: plugin\r\n"
    b"User-Agent: Go-http-client/1.1\r\n"
    b"Content-Length: 49\r\n"
    b"Content-Type: application/vnd.docker.plugins.v1.1+json\r\n"
    b"\r\n"
    b'{"Name":"pv1","Opts":{"a":"b","sshcmd":"u@h:/p"}}'
)


def test_duty_04_the_recorded_bytes_of_both_clients_are_read(docker: DockerClient, podman: PodmanClient) -> None:
    opts = {"a": "b", "sshcmd": "u@h:/p"}
    assert docker.request("VolumeDriver.Create", {"Name": "vol1", "Opts": opts}) == DOCKERS_BYTES
    assert podman.request("VolumeDriver.Create", {"Name": "pv1", "Opts": opts}) == PODMANS_BYTES
    for raw in (DOCKERS_BYTES, PODMANS_BYTES):
        reply = docker.send_bytes(raw)
        assert reply
        assert reply.error.startswith("unknown option 'a'")
        # the same without that option; the length stays right since JSON may have blanks
        reply = docker.send_bytes(raw.replace(b'"a":"b",', b"        "))
        assert reply
        assert (reply.status, reply.error) == (200, "")
    assert docker.list_names() == podman.list_names() == ["pv1", "vol1"]


@pytest.mark.parametrize(
    "headers",
    [
        b"",
        b"Host: \r\n",
        b"Host: /run/docker-volume-sshfs/sshfs.sock\r\n",
        b"Host: plugin.moby.localhost\r\n",
        b"Content-Type: application/x-www-form-urlencoded\r\n",
        b"Content-Type: text/plain; charset=latin-1\r\n",
    ],
)
def test_duty_04_no_header_is_needed_and_none_changes_what_the_body_says(docker: DockerClient, headers: bytes) -> None:
    body = b'{"Name":"photos","Opts":{"sshcmd":"me@nas:/photos"}}'
    raw = b"POST /VolumeDriver.Create HTTP/1.1\r\n" + headers
    reply = docker.send_bytes(raw + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert reply
    assert (reply.status, reply.error) == (200, "")
    assert docker.list_names() == ["photos"]


@pytest.mark.parametrize("which", ["docker", "podman"])
def test_duty_05_every_success_is_status_200_with_a_json_body(which: str, request: pytest.FixtureRequest) -> None:
    client: WireClient = request.getfixturevalue(which)
    for call, body in ALL_CALLS.items():
        reply = client.send(call, body)
        assert reply.status == 200, call
        assert isinstance(reply.body, dict), call
        assert reply.error == "", call


@pytest.mark.parametrize("which", ["docker", "podman"])
def test_duty_06_every_error_is_another_status_with_a_sentence_in_json(
    which: str, request: pytest.FixtureRequest, host: FakeHost
) -> None:
    client: WireClient = request.getfixturevalue(which)
    host.preflight.problems["films"] = errors.HostUnreachable("cannot connect to nas port 22, connection refused")
    replies = [
        client.create("films", OPTS),
        client.create("films", {"sshcmd": "nonsense"}),
        client.mount("missing"),
        client.unmount("missing"),
        client.remove("missing"),
        client.get("missing"),
        client.send("VolumeDriver.Path", {"Name": "missing"}),
        client.send("VolumeDriver.Nonsense", {}),
        client.send("", {}),
    ]
    for reply in replies:
        assert reply.status >= 400
        assert len(reply.error) > 10
        assert list(reply.body) == ["Err"]
        assert "<" not in reply.text
        assert "json" in reply.headers["content-type"]


# 7 and 8: first contact


def test_duty_07_activate_is_answered_any_number_of_times_even_while_a_mount_hangs(
    docker: DockerClient, podman: PodmanClient, host: FakeHost, in_background: Background
) -> None:
    docker.create("photos", OPTS)
    gate = host.supervisor.start_gates["photos"] = Gate()
    mounting = in_background(docker.mount, "photos")
    gate.await_arrival()
    for client in (docker, docker, podman, docker, podman):
        assert client.activate().body["Implements"] == ["VolumeDriver"]
    assert not mounting.done()
    gate.open()
    assert mounting.result().status == 200


def test_duty_08_capabilities_name_one_of_the_two_scopes(docker: DockerClient) -> None:
    reply = docker.send("VolumeDriver.Capabilities", {})
    assert reply.body["Capabilities"]["Scope"] in {"local", "global"}


# 9 to 11: Get and List


def test_duty_09_get_and_list_answer_while_every_slow_call_hangs(
    docker: DockerClient, host: FakeHost, in_background: Background
) -> None:
    gate = Gate()
    names = [f"photos{number}" for number in range(4)]  # as many as are let in at once
    for name in names:
        docker.create(name, OPTS)
        host.supervisor.start_gates[name] = gate
    mounting = [in_background(docker.mount, name) for name in names]
    for _ in mounting:
        gate.await_arrival()
    assert docker.get("photos0").body["Volume"]["Mountpoint"] == ""
    assert docker.list_names() == names
    assert not any(mounted.done() for mounted in mounting)
    gate.open()
    assert {mounted.result().status for mounted in mounting} == {200}


def test_duty_09_get_and_list_ask_no_server(docker: DockerClient, host: FakeHost) -> None:
    docker.create("photos", OPTS)
    asked = len(host.preflight.checked)
    host.preflight.problems["photos"] = errors.HostUnreachable("cannot connect to nas port 22")
    docker.mount("photos")
    host.supervisor.silent.add("photos")
    assert docker.get("photos").status == 200
    assert docker.list_names() == ["photos"]
    assert len(host.preflight.checked) == asked


@pytest.mark.parametrize("name", ["missing", "", "..", "a/b", "x\ny"])
def test_duty_10_get_of_an_unknown_or_empty_name_is_not_found(docker: DockerClient, name: str) -> None:
    docker.create("photos", OPTS)
    reply = docker.get(name)
    assert (reply.status, reply.error) == (500, f"volume {name!r} not found")
    assert "Volume" not in reply.body


def test_duty_10_podman_is_told_so_too(podman: PodmanClient) -> None:
    reply = podman.get("missing")
    assert (reply.status, reply.error) == (500, "volume 'missing' not found")


@pytest.mark.parametrize("body", [None, {}, {"ID": ID}])
def test_duty_11_get_without_body_or_name_is_closed_without_a_reply(
    docker: DockerClient, podman: PodmanClient, body: dict[str, str] | None
) -> None:
    for client in (docker, podman):
        assert client.send_bytes(client.request("VolumeDriver.Get", body)) is None


# 12 and 13: lost connections


def test_duty_12_the_retry_without_a_body_changes_nothing(docker: DockerClient, host: FakeHost) -> None:
    docker.create("photos", OPTS)
    docker.mount("photos")
    before = (dict(host.volumes.records), dict(host.holder_records.records), set(host.supervisor.live))
    for verb in ("Create", "Mount", "Unmount", "Remove"):
        reply = docker.retry(f"VolumeDriver.{verb}")
        assert reply
        assert (reply.status, reply.error) == (
            500,
            "the request came without its body, as Docker's retries do: run the command again",
        )
    assert before == (host.volumes.records, host.holder_records.records, host.supervisor.live)


NONSENSE = [b"", b"{}", b"null", b"[]", b'"x"', b"{", b"\xff", b'{"Name":null}', b'{"Name":["x"],"ID":1,"Opts":2}']


@pytest.mark.parametrize(
    ("call", "content"),
    [
        (call, content)
        for call in ALL_CALLS
        for content in NONSENSE
        if (call, content) not in {("VolumeDriver.Get", b""), ("VolumeDriver.Get", b"{}")}  # duty 11
    ],
)
def test_duty_13_no_other_request_is_left_without_a_reply(docker: DockerClient, call: str, content: bytes) -> None:
    raw = b"POST /%s HTTP/1.1\r\nHost: \r\nContent-Length: %d\r\n\r\n" % (call.encode(), len(content))
    reply = docker.send_bytes(raw + content)
    assert reply
    assert reply.body["Err"] == "" if reply.status == 200 else reply.error


def test_duty_13_the_service_stops_gracefully_and_the_socket_stays_open(gunicorn_conf: ModuleType) -> None:
    service = unit("docker-volume-sshfs.service")
    assert gunicorn_conf.graceful_timeout >= 30
    assert float(service["Service"]["TimeoutStopSec"]) > gunicorn_conf.graceful_timeout
    assert "docker-volume-sshfs.socket" in service["Unit"]["Requires"]
    assert "docker-volume-sshfs.service" not in str(dict(unit("docker-volume-sshfs.socket")["Unit"]))


# 14 to 17: volumes

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def test_duty_14_the_time_of_creation_has_a_zone(docker: DockerClient, host: FakeHost) -> None:
    docker.create("photos", OPTS)
    (volume,) = host.volumes.records.values()
    said = docker.get("photos").body["Volume"]["CreatedAt"]
    assert RFC_3339.fullmatch(said)
    assert datetime.fromisoformat(said) == usable(volume).created_at.replace(microsecond=0)


def test_duty_15_options_that_are_absent_null_or_empty_are_the_same(docker: DockerClient) -> None:
    bodies: list[dict[str, object]] = [
        {"Name": "photos"},
        {"Name": "photos", "Opts": None},
        {"Name": "photos", "Opts": {}},
    ]
    replies = [docker.send("VolumeDriver.Create", body) for body in bodies]
    assert {(reply.status, reply.error) for reply in replies} == {
        (500, "option 'sshcmd' is missing: say -o sshcmd=user@host:/dir")
    }


@pytest.mark.parametrize("opts", [{"port": 22}, {"ro": True}, ["ro"], "ro", {"ro": None}])
def test_duty_15_option_values_that_are_no_text_are_refused(docker: DockerClient, opts: object) -> None:
    reply = docker.send("VolumeDriver.Create", {"Name": "photos", "Opts": opts})
    assert reply.error == "'Opts' is not an object of strings: quote all values of options"


@pytest.mark.parametrize(
    "name", ["../../etc/x", "a/b", ".", "..", "-dash", "with blank", "new\nline", "ümlaut", "a:b", "x" * 300, ""]
)
def test_duty_16_create_refuses_the_names_that_docker_lets_through(
    docker: DockerClient, host: FakeHost, name: str
) -> None:
    reply = docker.create(name, OPTS)
    assert reply.status == 500
    assert "name" in reply.error
    assert "\n" not in reply.error
    assert not host.volumes.records


@pytest.mark.parametrize("name", ["a1", "my_photos-2.old", "4f61" * 16, "x" * 200])
def test_duty_16_create_takes_what_is_a_name(docker: DockerClient, name: str) -> None:
    assert docker.create(name, OPTS).status == 200


def start_on_disk(settings: Settings, host: FakeHost) -> Driver:
    driver = Driver(
        volumes=VolumeRecords(settings.volumes),
        holder_records=HolderRecords(settings.holders),
        preflight=host.real_preflight,
        supervisor=host.real_supervisor,
    )
    driver.load()
    return driver


def test_duty_17_what_was_answered_survives_a_plugin_that_is_killed_right_then(
    settings: Settings, host: FakeHost, tmp_path: Path
) -> None:
    address = tmp_path / "first.sock"
    with serving(api.create_app(start_on_disk(settings, host), slow_slots=slow_slots(), tell=print), address):
        docker = DockerClient(address)
        docker.create("photos", {**OPTS, "port": "2222"})
        created = docker.get("photos").body["Volume"]["CreatedAt"]
        docker.mount("photos")
    restarted = start_on_disk(settings, host)
    address = tmp_path / "second.sock"
    with serving(api.create_app(restarted, slow_slots=slow_slots(), tell=print), address):
        volume = DockerClient(address).get("photos").body["Volume"]
    assert volume["CreatedAt"] == created
    assert volume["Status"]["remote"] == "me@nas:/photos port 2222"
    assert volume["Status"]["holders"] == 1


def test_duty_17_create_is_no_success_when_the_volume_is_not_on_disk(docker: DockerClient, host: FakeHost) -> None:
    host.volumes.problem = errors.StateError("cannot write photos.json, No space left on device", "is the disk full?")
    reply = docker.create("photos", OPTS)
    assert (reply.status, reply.error) == (
        500,
        "cannot write photos.json, No space left on device: is the disk full?",
    )
    assert docker.list_names() == []


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"version": 2}',
        '{"version": 1, "created_at": "2024-05-17T12:30:00Z", "options": {"sshcmd": "nas:", "ProxyCommand": "id"}}',
    ],
)
def test_duty_17_a_volume_is_known_to_both_clients_though_its_record_is_not_understood(
    settings: Settings, host: FakeHost, tmp_path: Path, content: str
) -> None:
    """Docker would forget it for ever, and ``docker run -v photos:...`` make a local volume in its place."""
    record = settings.volumes / "photos.json"
    settings.volumes.mkdir(parents=True)
    record.write_text(content)
    app = api.create_app(start_on_disk(settings, host), slow_slots=slow_slots(), tell=print)
    with serving(app, tmp_path / "sock"):
        for client in (DockerClient(tmp_path / "sock"), PodmanClient(tmp_path / "sock")):
            assert client.list_names() == ["photos"]
            volume = client.get("photos").body["Volume"]
            assert (volume["Name"], volume["Mountpoint"], "CreatedAt" in volume) == ("photos", "", False)
            assert volume["Status"]["state"] == "unusable"
            why = volume["Status"]["lastError"]
            assert why.startswith(f"volume 'photos' is unusable, its record {record} ")
            assert client.mount("photos").error == client.create("photos", OPTS).error == why
        assert record.read_text() == content
        assert client.remove("photos").error == ""
        assert client.list_names() == []
        assert not record.exists()


# 18 and 19: Mount


@pytest.mark.parametrize("which", ["docker", "podman"])
def test_duty_18_mount_answers_the_absolute_path_of_a_live_mount(
    which: str, request: pytest.FixtureRequest, host: FakeHost
) -> None:
    client: WireClient = request.getfixturevalue(which)
    client.create("photos", OPTS)
    mountpoint = client.mount("photos").body["Mountpoint"]
    assert mountpoint.startswith("/")
    assert mountpoint == str(host.supervisor.root / "photos")
    assert host.supervisor.live == {"photos"}
    assert client.get("photos").body["Volume"]["Mountpoint"] == mountpoint


@pytest.mark.parametrize("which", ["docker", "podman"])
def test_duty_18_mount_names_no_path_when_there_is_no_live_mount(
    which: str, request: pytest.FixtureRequest, host: FakeHost
) -> None:
    client: WireClient = request.getfixturevalue(which)
    client.create("photos", OPTS)
    client.mount("photos")
    host.supervisor.silent.add("photos")
    host.supervisor.start_problems["photos"] = errors.MountTimedOut(
        "volume 'photos' is mounted but its server does not answer", "try again"
    )
    reply = client.mount("photos", OTHER_ID)
    assert (reply.status, reply.error) == (
        500,
        "volume 'photos' is mounted but its server does not answer: try again",
    )
    assert "Mountpoint" not in reply.body


def test_duty_19_every_call_gives_up_with_time_left_to_tell_its_caller(
    docker: DockerClient, podman: PodmanClient, host: FakeHost
) -> None:
    def longest() -> float:
        given = host.preflight.seconds + host.supervisor.seconds
        host.preflight.seconds.clear()
        host.supervisor.seconds.clear()
        return max(given)

    for client, long, short in ((docker, 120, 60), (podman, 5, 5)):
        client.create("photos", OPTS)
        assert 0.75 * long < longest() < 0.95 * long
        client.mount("photos", ID)
        assert 0.75 * long < longest() < 0.95 * long
        client.unmount("photos", ID)
        assert 0.75 * short < longest() < 0.95 * short
        client.mount("photos", ID)
        longest()
        client.remove("photos")
        assert 0.75 * short < longest() < 0.95 * short


def test_duty_19_mount_that_nobody_waits_for_any_more_is_undone(docker: DockerClient, host: FakeHost) -> None:
    docker.create("photos", OPTS)
    mounting = host.supervisor.start_gates["photos"] = Gate()
    undoing = host.supervisor.release_gates["photos"] = Gate()
    with docker.connect() as connection:
        connection.sendall(docker.request("VolumeDriver.Mount", {"Name": "photos", "ID": ID}))
        mounting.await_arrival()
    mounting.open()
    undoing.await_arrival()
    undoing.open()
    docker.remove("photos")  # waits until all is done
    assert host.supervisor.released == ["photos"]
    assert host.holder_records.records == {}


# 20 to 24: counting


def holders(client: WireClient) -> int:
    """Return how many IDs hold the volume, as ``docker volume inspect`` shows it."""
    count = client.get("photos").body["Volume"]["Status"]["holders"]
    assert isinstance(count, int)
    return count


def test_duty_20_docker_cp_mounts_a_live_id_again_and_gives_only_that_back(
    docker: DockerClient, host: FakeHost
) -> None:
    docker.create("photos", OPTS)
    docker.mount("photos")
    docker.mount("photos")
    assert host.holder_records.counts("photos") == {ID: 2}
    docker.unmount("photos")
    assert (holders(docker), host.supervisor.released) == (1, [])
    docker.unmount("photos")
    assert (holders(docker), host.supervisor.released) == (0, ["photos"])


def test_duty_20_counts_outlast_the_plugin(docker: DockerClient, host: FakeHost, tmp_path: Path) -> None:
    docker.create("photos", OPTS)
    docker.mount("photos")
    docker.mount("photos")
    address = tmp_path / "second.sock"
    with serving(api.create_app(host.start_driver(), slow_slots=slow_slots(), tell=print), address):
        restarted = DockerClient(address)
        restarted.unmount("photos")
        assert (holders(restarted), host.supervisor.released) == (1, [])
        restarted.unmount("photos")
        assert (holders(restarted), host.supervisor.released) == (0, ["photos"])


ANOTHER_PROCESS = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
connection.sendall(sys.stdin.buffer.read())
while connection.recv(65536):
    pass
"""


def activate_from_another_process(client: WireClient) -> None:
    """Make first contact as a client that was just started: it is told by its process."""
    subprocess.run(
        [sys.executable, "-IS", "-c", ANOTHER_PROCESS, str(client.address)],
        input=client.request("Plugin.Activate", None),
        timeout=LIMIT_SECONDS,
        check=True,
    )


def test_duty_21_a_new_dockerd_holds_everything_once_and_its_next_mount_is_the_same_hold(
    docker: DockerClient, host: FakeHost
) -> None:
    host.living.add(uptime.identity(os.getpid()))
    docker.activate()
    docker.create("photos", OPTS)
    docker.mount("photos")
    docker.mount("photos")
    docker.mount("photos", OTHER_ID)
    docker.activate()
    activate_from_another_process(docker)
    assert host.holder_records.counts("photos") == {ID: 2, OTHER_ID: 1}
    host.living.clear()
    activate_from_another_process(docker)
    assert host.holder_records.counts("photos") == {ID: 1, OTHER_ID: 1}
    docker.mount("photos")
    assert host.holder_records.counts("photos") == {ID: 1, OTHER_ID: 1}
    docker.mount("photos")
    assert host.holder_records.counts("photos") == {ID: 2, OTHER_ID: 1}


def test_duty_21_the_ids_that_a_killed_dockerd_left_do_not_keep_a_volume_mounted(
    docker: DockerClient, host: FakeHost
) -> None:
    docker.create("photos", OPTS)
    docker.mount("photos")
    activate_from_another_process(docker)
    docker.mount("photos", OTHER_ID)
    docker.unmount("photos", OTHER_ID)
    assert (holders(docker), host.supervisor.released) == (0, ["photos"])


def test_duty_21_podmans_processes_are_no_new_dockerd(
    docker: DockerClient, podman: PodmanClient, host: FakeHost
) -> None:
    docker.activate()
    docker.create("photos", OPTS)
    docker.mount("photos")
    docker.mount("photos")
    activate_from_another_process(podman)
    assert host.holder_records.counts("photos") == {ID: 2}


def test_duty_22_podman_mounts_its_one_id_any_number_of_times_and_gives_it_back_once(
    podman: PodmanClient, host: FakeHost
) -> None:
    podman.create("photos", OPTS)
    for _ in range(3):
        podman.mount("photos")
    assert host.holder_records.counts("photos") == {PODMAN_ID: 1}
    podman.unmount("photos")
    assert host.supervisor.released == ["photos"]


def test_duty_23_unmount_of_an_unknown_id_is_a_success(docker: DockerClient, host: FakeHost) -> None:
    docker.create("photos", OPTS)
    assert docker.unmount("photos", OTHER_ID).status == 200
    docker.mount("photos")
    assert docker.unmount("photos", OTHER_ID).status == 200
    assert host.holder_records.counts("photos") == {ID: 1}


def test_duty_23_the_count_goes_down_even_if_the_unmount_fails(docker: DockerClient, host: FakeHost) -> None:
    docker.create("photos", OPTS)
    docker.mount("photos")
    host.supervisor.release_problems["photos"] = errors.UnmountFailed("volume 'photos' could not be unmounted")
    assert docker.unmount("photos").status == 200
    assert holders(docker) == 0


def test_duty_23_unmount_is_finished_for_a_client_that_has_gone(podman: PodmanClient, host: FakeHost) -> None:
    podman.create("photos", OPTS)
    podman.mount("photos")
    gate = host.supervisor.release_gates["photos"] = Gate()
    with podman.connect() as connection:
        connection.sendall(podman.request("VolumeDriver.Unmount", {"Name": "photos", "ID": PODMAN_ID}))
        gate.await_arrival()
    gate.open()
    podman.remove("photos")  # waits until all is done
    assert host.supervisor.released == ["photos"]


def test_duty_24_remove_clears_ids_that_are_left_over(docker: DockerClient, host: FakeHost) -> None:
    docker.create("photos", OPTS)
    docker.mount("photos")
    docker.mount("photos", OTHER_ID)
    assert docker.remove("photos").status == 200
    assert host.supervisor.live == set()
    assert (host.volumes.records, host.holder_records.records) == ({}, {})


def test_duty_24_remove_does_nothing_on_the_server(docker: DockerClient, host: FakeHost) -> None:
    docker.create("photos", OPTS)
    asked = list(host.preflight.checked)
    host.preflight.problems["photos"] = errors.HostUnreachable("cannot connect to nas port 22")
    assert docker.remove("photos").status == 200
    assert host.preflight.checked == asked
    assert host.supervisor.started == []


def test_duty_24_remove_refuses_only_what_is_really_used(docker: DockerClient, host: FakeHost) -> None:
    docker.create("photos", OPTS)
    docker.mount("photos")
    host.supervisor.used.add("photos")
    assert docker.remove("photos").error == (
        "volume 'photos' is still in use by a running container or a process on this host: stop it and try again"
    )
    assert docker.list_names() == ["photos"]


# 25: all at once


def test_duty_25_mounts_gets_and_lists_go_on_at_the_same_time(
    docker: DockerClient, host: FakeHost, in_background: Background
) -> None:
    docker.create("photos", OPTS)
    gate = host.supervisor.start_gates["photos"] = Gate()
    mounting = [in_background(docker.mount, "photos", mount_id) for mount_id in (ID, OTHER_ID)]
    gate.await_arrival()
    between = [in_background(docker.get, "photos") for _ in range(5)]
    listing = [in_background(docker.list_names) for _ in range(5)]
    assert {reply.result().status for reply in between} == {200}
    assert all(names.result() == ["photos"] for names in listing)
    gate.open()
    assert len({mounted.result().body["Mountpoint"] for mounted in mounting}) == 1
    assert host.supervisor.started == ["photos"]
    assert host.holder_records.counts("photos") == {ID: 1, OTHER_ID: 1}


def test_duty_25_dockerds_start_asks_for_every_volume_at_once(docker: DockerClient, in_background: Background) -> None:
    names = [f"photos{number}" for number in range(100)]
    for name in names:
        docker.create(name, {**OPTS, "check": "never"})
    replies = [in_background(docker.get, name) for name in names]
    assert [reply.result().body["Volume"]["Name"] for reply in replies] == names


def test_duty_25_calls_without_a_socket_of_their_own_are_served_as_well(client: FlaskClient) -> None:
    for call, body in ALL_CALLS.items():
        assert client.post(f"/{call}", json=body or {}).status_code == 200, call
