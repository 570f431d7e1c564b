# SPDX-License-Identifier: MIT
"""What a user reads when something is wrong, and what nobody gets to read."""

import json
import logging
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from support.clients import ID, OTHER_ID, PODMAN_ID, SSHCMD, DockerClient
from support.driver import FakeHost, caller, create, mount, slow_slots, status_of
from support.waiting import Background, Gate, await_that, soon

from sshfs_plugin import errors
from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.driver.locks import Slots
from sshfs_plugin.holders import Client
from sshfs_plugin.host import journal
from sshfs_plugin.http import api

OPTS = {"sshcmd": SSHCMD}


def post(client: FlaskClient, verb: str, body: Any = None, **environ: object) -> tuple[int, dict[str, Any]]:
    """Make a call as Docker does."""
    reply = client.post(
        f"/VolumeDriver.{verb}",
        data=b"" if body is None else json.dumps(body).encode(),
        headers={"Accept": api.CONTENT_TYPE},
        environ_overrides=environ,
        buffered=True,
    )
    answer = json.loads(reply.data)
    assert isinstance(answer, dict)
    return reply.status_code, answer


def error(client: FlaskClient, verb: str, body: Any = None) -> str:
    """Return what the user reads about a call that must fail."""
    status, answer = post(client, verb, body)
    assert status == 500
    assert list(answer) == ["Err"]
    return str(answer["Err"])


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        (None, "option 'sshcmd' is missing: say -o sshcmd=user@host:/dir"),
        ({**OPTS, "pasword": "x"}, "unknown option 'pasword': did you mean 'password'?"),
        (
            {**OPTS, "ssh_command": "nc"},
            "option 'ssh_command' is refused: it would run a command of the volume's creator as root on this host",
        ),
        ({**OPTS, "port": "ssh"}, "option 'port' must be a number from 1 to 65535, not 'ssh'"),
        ({"sshcmd": "nas"}, "option 'sshcmd' must look like user@host:/dir, with a colon between host and directory"),
    ],
)
def test_a_wrong_option_is_named_with_its_cure(client: FlaskClient, opts: dict[str, str], sentence: str) -> None:
    assert error(client, "Create", {"Name": "photos", "Opts": opts}).startswith(sentence)


@pytest.mark.parametrize("verb", ["Mount", "Unmount", "Remove", "Get", "Path"])
def test_an_unknown_volume_is_not_found_by_any_call(client: FlaskClient, verb: str) -> None:
    assert error(client, verb, {"Name": "photos", "ID": ID}) == "volume 'photos' not found"


def test_a_name_that_nobody_could_print_is_named_once_and_printable(client: FlaskClient) -> None:
    assert error(client, "Mount", {"Name": "pho\ntos", "ID": ID}) == "volume 'pho\\ntos' not found"


@pytest.mark.parametrize(("verb", "about"), [("Mount", "volume 'photos': "), ("Unmount", "")])
def test_a_missing_mount_id_is_named(client: FlaskClient, verb: str, about: str) -> None:
    post(client, "Create", {"Name": "photos", "Opts": OPTS})
    assert error(client, verb, {"Name": "photos"}) == (
        f"{about}the request has no mount ID: it needs one to be given back later"
    )


@pytest.mark.parametrize("problem", [errors.HostUnreachable, errors.PasswordFileUnusable, errors.StateError])
def test_what_is_in_the_way_of_a_mount_names_the_volume_of_which_docker_says_nothing(
    client: FlaskClient, host: FakeHost, problem: type[errors.PluginError]
) -> None:
    for name in ("music", "photos"):
        post(client, "Create", {"Name": name, "Opts": {**OPTS, "check": "mount"}})
        host.preflight.problems[name] = problem("it is broken", "mend it")
        assert error(client, "Mount", {"Name": name, "ID": ID}) == f"volume '{name}': it is broken: mend it"
    assert inspect(client)["lastError"] == "it is broken: mend it", "there everybody knows whose it is"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"Name": 7}, "'Name' is not a string: send it as one"),
        ({"Name": "photos", "ID": ["x"]}, "'ID' is not a string: send it as one"),
        ([], "the request is not a JSON object: see the volume plugin protocol"),
    ],
)
def test_a_request_of_the_wrong_form_is_told_so(client: FlaskClient, body: object, sentence: str) -> None:
    assert error(client, "Mount", body) == sentence


def test_text_that_is_no_json_is_told_so(client: FlaskClient) -> None:
    reply = client.post("/VolumeDriver.Create", data=b"Name=photos")
    assert (reply.status_code, json.loads(reply.data)["Err"]) == (
        500,
        "the request is not a JSON object: see the volume plugin protocol",
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/VolumeDriver.Nonsense"),
        ("GET", "/VolumeDriver.Get"),
        ("OPTIONS", "/VolumeDriver.Get"),
        ("POST", "/"),
        ("POST", "/VolumeDriver.Get/"),
        ("POST", "/x//VolumeDriver.Get"),
    ],
)
def test_a_call_that_does_not_exist_is_json_as_well(client: FlaskClient, method: str, path: str) -> None:
    reply = client.open(path, method=method)
    assert reply.status_code == 404
    assert json.loads(reply.data) == {"Err": f"{method} {path} is no call of this plugin"}


def test_the_last_failure_is_shown_by_inspect_until_a_success(client: FlaskClient, host: FakeHost) -> None:
    post(client, "Create", {"Name": "photos", "Opts": OPTS})
    host.supervisor.start_problems["photos"] = errors.MountFailed("sshfs could not mount volume 'photos'", "try again")
    said = error(client, "Mount", {"Name": "photos", "ID": ID})
    assert said == "sshfs could not mount volume 'photos': try again"
    assert inspect(client)["lastError"] == said
    host.supervisor.start_problems.clear()
    post(client, "Mount", {"Name": "photos", "ID": ID})
    assert "lastError" not in inspect(client)


def inspect(client: FlaskClient) -> dict[str, Any]:
    status, answer = post(client, "Get", {"Name": "photos"})
    assert status == 200
    shown = answer["Volume"]["Status"]
    assert isinstance(shown, dict)
    return shown


def test_inspect_tells_a_mount_that_does_not_answer(client: FlaskClient, host: FakeHost, driver: Driver) -> None:
    post(client, "Create", {"Name": "photos", "Opts": OPTS})
    post(client, "Mount", {"Name": "photos", "ID": ID})
    host.supervisor.silent.add("photos")
    driver.look_after(1)
    shown = inspect(client)
    assert shown["state"] == "unresponsive"
    assert shown["lastError"] == (
        "its mount does not answer: docker-volume-sshfs release --force photos unmounts it if its containers can't be "
        "stopped"
    )
    assert shown["lastErrorAt"] == shown["since"]
    host.supervisor.silent.clear()
    driver.look_after(1)
    assert "lastError" not in inspect(client)


@pytest.mark.parametrize(
    ("opts", "access"),
    [
        ({}, "as owner, group and mode allow"),
        ({"allow_other": ""}, "everyone, unchecked (allow_other)"),
        ({"allow_other": "", "default_permissions": ""}, "as owner, group and mode allow"),
        ({"allow_other": "no"}, "root only"),
    ],
)
def test_inspect_tells_who_has_access(client: FlaskClient, opts: dict[str, str], access: str) -> None:
    post(client, "Create", {"Name": "photos", "Opts": OPTS | opts})
    assert inspect(client)["access"] == access


def test_inspect_tells_the_host_key_that_is_demanded(client: FlaskClient) -> None:
    fingerprint = "SHA256:" + "A" * 43
    post(client, "Create", {"Name": "photos", "Opts": {**OPTS, "host_key": fingerprint}})
    assert inspect(client)["hostKey"] == fingerprint


@pytest.mark.parametrize("header", ["x" * 64, "a..b", "", "ä"])
def test_a_host_header_says_nothing(client: FlaskClient, header: str) -> None:
    assert client.post("/VolumeDriver.List", headers={"Host": header}).json == {"Volumes": [], "Err": ""}


@pytest.mark.parametrize("header", ["Origin", "Sec-Fetch-Site", "origin"])
def test_a_web_page_changes_nothing(client: FlaskClient, header: str) -> None:
    reply = client.post("/VolumeDriver.Create", json={"Name": "photos", "Opts": OPTS}, headers={header: "null"})
    assert reply.json == {"Err": "the request comes from a web page: no web page may call the plugin"}
    assert post(client, "List", {})[1]["Volumes"] == []


def test_path_is_empty_until_the_volume_is_mounted(client: FlaskClient, host: FakeHost) -> None:
    post(client, "Create", {"Name": "photos", "Opts": OPTS})
    assert post(client, "Path", {"Name": "photos"}) == (200, {"Mountpoint": "", "Err": ""})
    post(client, "Mount", {"Name": "photos", "ID": ID})
    assert post(client, "Path", {"Name": "photos"})[1]["Mountpoint"] == str(host.supervisor.root / "photos")


def test_no_password_leaves_the_plugin(client: FlaskClient, host: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    secret = {**OPTS, "password": "hunter2"}
    host.preflight.problems["films"] = errors.LoginRefused("nas refused to let me in with the password")
    with caplog.at_level(logging.DEBUG):
        answers = [
            post(client, "Create", {"Name": "photos", "Opts": secret}),
            post(client, "Create", {"Name": "photos", "Opts": OPTS}),
            post(client, "Create", {"Name": "photos", "Opts": {**secret, "password": "hunter2\n"}}),
            post(client, "Create", {"Name": "films", "Opts": secret}),
            post(client, "Mount", {"Name": "photos", "ID": ID}),
            post(client, "Get", {"Name": "photos"}),
            post(client, "List", {}),
        ]
    assert "hunter2" not in str(answers)
    assert "hunter2" not in caplog.text
    assert "hunter2" not in str([record.__dict__ for record in caplog.records])
    assert "hunter2" not in repr(host.volumes.records)


LOGS = [
    (".", "journalctl -u docker-volume-sshfs"),
    ("nowhere", "what the service prints (a managed plugin's is in Docker's log)"),
]
"""Whether there is a journal, and where the service logs to."""


@pytest.mark.parametrize(("place", "log"), LOGS)
def test_a_surprise_is_a_sentence_for_the_user_and_a_traceback_for_the_log(  # noqa: PLR0913 (with where that is)
    client: FlaskClient,
    host: FakeHost,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    place: str,
    log: str,
) -> None:
    monkeypatch.setattr(journal, "JOURNAL", tmp_path / place)
    host.supervisor.start_problems["photos"] = ZeroDivisionError("a detail")
    post(client, "Create", {"Name": "photos", "Opts": OPTS})
    assert error(client, "Mount", {"Name": "photos", "ID": ID}) == (
        f"internal error of the sshfs plugin: {log} tells more"
    )
    assert "ZeroDivisionError: a detail" in caplog.text


def test_errors_are_logged_but_not_that_a_volume_is_unknown(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        error(client, "Get", {"Name": "photos"})
        assert caplog.messages == []
        error(client, "Create", {"Name": "..", "Opts": OPTS})
        error(client, "Create")
        error(client, "Create", {"Name": 7})
        error(client, "Create", [])
    assert {record.levelname for record in caplog.records} == {"ERROR"}
    in_name, no_body, no_text, no_object = caplog.messages
    assert in_name.startswith("'..' can't be the name of a volume: use at least two letters, digits")
    assert no_body.startswith("the request came without its body")
    assert no_text.startswith("'Name' is not a string")
    assert no_object.startswith("the request is not a JSON object")


@pytest.mark.parametrize(("place", "log"), LOGS)
def test_too_many_slow_calls_are_told_so_and_leave_get_alone(  # noqa: PLR0913 (with where the log is)
    driver: Driver,
    host: FakeHost,
    in_background: Background,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    place: str,
    log: str,
) -> None:
    monkeypatch.setattr(journal, "JOURNAL", tmp_path / place)
    monkeypatch.setattr(api, "PODMAN_SECONDS", 0.0)
    client = api.create_app(driver, slow_slots=Slots(1, waiting=0), tell=lambda _: None).test_client()
    post(client, "Create", {"Name": "photos", "Opts": OPTS})
    gate = host.supervisor.start_gates["photos"] = Gate()
    mounting = in_background(post, client, "Mount", {"Name": "photos", "ID": ID})
    gate.await_arrival()
    hasty = client.post("/VolumeDriver.Remove", json={"Name": "photos"})
    said = json.loads(hasty.data)["Err"]
    assert said == (
        "the sshfs plugin is busy with too many slow calls: "
        f"try again in a moment; {log} tells which servers are slow"
    )
    assert caplog.messages == [said]
    assert post(client, "Get", {"Name": "photos"})[0] == 200
    gate.open()
    assert mounting.result()[0] == 200


# The client's socket in odd states


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give a connection, our end first."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_get_without_a_body_on_no_socket_names_no_volume(client: FlaskClient) -> None:
    assert "Volume" not in post(client, "Get")[1]


def test_a_client_that_was_cut_off_holds_nothing(
    client: FlaskClient, host: FakeHost, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    post(client, "Create", {"Name": "photos", "Opts": OPTS})
    ours.send(b"what it never read")
    theirs.close()
    post(client, "Mount", {"Name": "photos", "ID": ID}, **{"gunicorn.socket": ours})
    assert host.supervisor.released == ["photos"]


def test_a_client_that_has_sent_more_than_it_should_is_still_there(
    client: FlaskClient, host: FakeHost, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    post(client, "Create", {"Name": "photos", "Opts": OPTS})
    theirs.send(b"more")
    post(client, "Mount", {"Name": "photos", "ID": ID}, **{"gunicorn.socket": ours})
    assert host.holder_records.counts("photos") == {ID: 1}
    assert ours.recv(10) == b"more"


def test_a_client_that_went_before_it_had_its_reply_holds_nothing(
    driver: Driver, docker: DockerClient, host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    docker.create("photos", OPTS)
    docker.mount("photos", OTHER_ID)
    for mount_id in (ID, OTHER_ID):
        with docker.connect() as connection:
            connection.shutdown(socket.SHUT_RD)  # from here on nothing can be sent to it
            connection.sendall(docker.request("VolumeDriver.Mount", {"Name": "photos", "ID": mount_id}))
            await_that(lambda: len(caplog.messages) >= 1, lambda: "the reply is found to be lost")
        assert caplog.messages == ["the client has gone before it had its reply, and holds nothing"]
        assert (caplog.records[0].levelname, host.holder_records.counts("photos")) == ("WARNING", {OTHER_ID: 1})
        caplog.clear()
    docker.unmount("photos", OTHER_ID)
    assert host.supervisor.released == ["photos"]


def test_a_client_that_was_cut_off_takes_no_hold_from_the_next_caller_with_its_id(
    driver: Driver,
    client: FlaskClient,
    pair: tuple[socket.socket, socket.socket],
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours, theirs = pair
    theirs.close()
    create(driver)
    driver.mount("photos", PODMAN_ID, caller(Client.PODMAN), soon())  # its reply is on the way
    lost = client.post(
        "/VolumeDriver.Mount",
        json={"Name": "photos", "ID": PODMAN_ID},
        environ_overrides={"gunicorn.socket": ours},
    )
    lost.close()  # before it was written
    driver.confirm("photos", PODMAN_ID)
    assert status_of(driver) == (True, 1)
    assert caplog.messages == ["the client has gone and holds nothing"]


def test_a_mount_that_no_client_has_heard_of_is_let_go(
    driver: Driver, docker: DockerClient, host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    docker.create("photos", OPTS)
    with docker.connect() as connection:
        connection.shutdown(socket.SHUT_RD)
        connection.sendall(docker.request("VolumeDriver.Mount", {"Name": "photos", "ID": ID}))
        await_that(lambda: caplog.messages, lambda: "the reply is found to be lost")
    assert host.supervisor.live == {"photos"}
    driver.look_after(1)
    assert (host.supervisor.live, host.holder_records.records) == (set(), {})


def test_the_summary_is_told_when_the_reply_was_written_and_the_hold_is_on_record(
    driver: Driver, host: FakeHost
) -> None:
    told: list[tuple[str, dict[str, int]]] = []
    host.supervisor.live.add("no-volume")
    client = api.create_app(
        driver,
        slow_slots=slow_slots(),
        tell=lambda summary: told.append((summary, host.holder_records.counts("photos"))),
    ).test_client()
    post(client, "Create", {"Name": "photos", "Opts": OPTS})
    post(client, "Mount", {"Name": "photos", "ID": ID})
    post(client, "Get", {"Name": "photos"})
    error(client, "Mount", {"Name": "films", "ID": ID})
    assert told == [
        ("1 volume, 0 mounted", {}),
        ("1 volume, 1 mounted", {ID: 1}),
        ("1 volume, 1 mounted", {ID: 1}),
    ]


def test_a_client_over_tcp_is_no_known_process_and_so_may_be_a_new_dockerd(client: FlaskClient, host: FakeHost) -> None:
    """Counts of a dockerd that was killed would never go down; one too low does no harm, since real use is seen."""
    post(client, "Create", {"Name": "photos", "Opts": OPTS})
    for mount_id in (ID, ID, OTHER_ID):
        post(client, "Mount", {"Name": "photos", "ID": mount_id})
    with socket.socket() as over_tcp:
        environ = {"gunicorn.socket": over_tcp}
        client.post("/Plugin.Activate", headers={"Accept": "*/*"}, environ_overrides=environ)
    assert host.holder_records.counts("photos") == {ID: 1, OTHER_ID: 1}


@pytest.mark.parametrize("verb", ["Create", "Mount", "Unmount", "Remove", "Get", "Path"])
def test_call_about_a_volume_looks_at_no_other(
    driver: Driver, host: FakeHost, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    for name in ("films", "music", "photos"):
        create(driver, name)
        mount(driver, name)
    looked_at = set()

    def unit(name: str) -> str:
        looked_at.add(name)
        return f"docker-volume-sshfs@{name}.service"

    monkeypatch.setattr(host.supervisor, "unit", unit)
    client = api.create_app(driver, slow_slots=slow_slots(), tell=print).test_client()
    status, _ = post(client, verb, {"Name": "photos", "ID": ID, "Opts": OPTS})
    assert status == 200
    assert looked_at <= {"photos"}


def test_list_says_what_get_says_whatever_has_changed_since_the_last_list(
    client: FlaskClient, driver: Driver, host: FakeHost
) -> None:
    create(driver, "films")
    create(driver, "photos")
    lost = "connection refused", datetime(2026, 11, 26, tzinfo=UTC)

    def create_anew() -> None:
        driver.remove("films", soon())
        create(driver, "films", allow_other="")

    def fail() -> None:
        host.supervisor.start_problems["films"] = errors.MountFailed("volume 'films' could not be mounted")
        post(client, "Mount", {"Name": "films", "ID": ID})

    changes: list[Callable[[], object]] = [
        lambda: mount(driver),
        lambda: mount(driver, mount_id=OTHER_ID),
        lambda: host.supervisor.outages.update(photos=lost),
        host.supervisor.outages.clear,
        fail,
        create_anew,
        lambda: driver.remove("films", soon()),
    ]
    before = post(client, "List", {})
    for change in changes:
        change()
        status, answer = listed = post(client, "List", {})
        assert status == 200
        assert listed != before
        for volume in answer["Volumes"]:
            assert post(client, "Get", {"Name": volume["Name"]}) == (200, {"Volume": volume, "Err": ""})
        before = listed
    assert [volume["Name"] for volume in answer["Volumes"]] == ["photos"]
