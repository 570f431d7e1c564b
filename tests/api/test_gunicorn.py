# SPDX-License-Identifier: MIT
"""The service under a real gunicorn, called by clients that do what none should."""

import contextlib
import os
import select
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from support.certificates import certificate
from support.clients import DockerClient, parse_reply, read_all
from support.impostors import closed_port
from support.service import HASTY, TOLD, Service, settings_below, started
from support.waiting import LIMIT_SECONDS, await_that

from sshfs_plugin.http import api, sockets

MANY = 2000

HEAD = b"POST /VolumeDriver.List HTTP/1.1\r\nHost: \r\n"
HALVES = (
    b"",
    HEAD,
    HEAD + b"Content-Length: 500\r\n\r\n{",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n1f4\r\n{",
)


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerClient]:
    """Give Docker's end of the socket of a service that all the tests share."""
    with started(tmp_path_factory.mktemp("gunicorn")) as service:
        yield service.docker


def test_clients_one_after_the_other_are_answered(docker: DockerClient) -> None:
    for _ in range(3):
        assert docker.activate().body == {"Implements": ["VolumeDriver"], "Err": ""}
        assert docker.list_names() == []


def test_clients_that_stay_when_they_have_their_reply_keep_nobody_waiting(docker: DockerClient) -> None:
    with ExitStack() as held:
        for _ in range(40):
            connection = held.enter_context(docker.connect())
            connection.sendall(docker.request("VolumeDriver.List", {}))
            assert read_all(connection)
        assert docker.list_names() == []


def test_requests_that_are_half_sent_keep_nobody_waiting(docker: DockerClient) -> None:
    with ExitStack() as held:
        halves = [held.enter_context(docker.connect()) for _ in range(MANY)]
        for number, connection in enumerate(halves):
            connection.sendall(HALVES[number % len(HALVES)])
        assert docker.list_names() == []
        assert not sockets.is_readable(halves[0]), "it has not been given up yet"
    assert docker.list_names() == []


def test_a_request_that_comes_in_pieces_is_answered(docker: DockerClient) -> None:
    whole = docker.request("VolumeDriver.Get", {"Name": "photos"})
    with docker.connect() as connection:
        for start in range(0, len(whole), 9):
            connection.sendall(whole[start : start + 9])
        reply = parse_reply(read_all(connection))
    assert reply
    assert reply.error == "volume 'photos' not found"


def test_a_request_that_does_not_come_is_waited_for_for_a_while_only(tmp_path: Path) -> None:
    configuration = tmp_path / "hasty.py"
    configuration.write_text(HASTY)
    with started(tmp_path, str(configuration)) as service, ExitStack() as held:
        halves = [held.enter_context(service.docker.connect()) for _ in HALVES]
        for half, connection in zip(HALVES, halves, strict=True):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its time was over before
                connection.sendall(half)
        assert [read_all(connection) for connection in halves] == [b""] * len(HALVES)
        assert service.docker.list_names() == []


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 12x",
        b"Content-Length: -1",
        b"Content-Length: 0\r\nContent-Length: 2",
        b"Transfer-Encoding: nonsense",
        b"Transfer-Encoding: chunked, chunked",
        b"no colon",
        b"X: " + 9000 * b"x",
        b"\r\n".join(b"X-%d: x" % number for number in range(200)),
    ],
    ids=lambda headers: repr(headers[:40]),
)
def test_what_gunicorn_refuses_is_refused_in_json(docker: DockerClient, headers: bytes) -> None:
    is_refused(docker, HEAD + headers + b"\r\n\r\n")


@pytest.mark.parametrize("header", [b"SCRIPT_NAME: /x", b"script_name: /VolumeDriver", b"PATH_INFO: /x", b"X_Y: z"])
def test_a_header_that_would_be_one_of_gunicorns_own_variables_is_passed_over(
    docker: DockerClient, header: bytes
) -> None:
    reply = docker.send_bytes(HEAD + header + b"\r\n\r\n")
    assert reply
    assert reply.body == {"Volumes": [], "Err": ""}


@pytest.mark.parametrize("line", [b"nonsense", b"POST / SMTP/1.0", b"PO ST", b"GET /%s HTTP/1.1" % (9000 * b"x")])
def test_what_is_no_http_is_refused_in_json(docker: DockerClient, line: bytes) -> None:
    is_refused(docker, line + b"\r\n\r\n")


@pytest.mark.parametrize("chunks", [b"x\r\n", b"2\r\n{}{}\r\n0\r\n\r\n", b"-1\r\n\r\n", b"\r\n{}", b";x\r\n{}"])
def test_a_body_in_chunks_that_are_none_is_refused_in_json(docker: DockerClient, chunks: bytes) -> None:
    is_refused(docker, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)


@pytest.mark.parametrize("beginning", [b"", b"\r\n", b"\r\n1", b"\r\n0\r\n"])
def test_a_body_in_chunks_that_breaks_off_where_one_ends_is_refused_in_json(
    docker: DockerClient, beginning: bytes
) -> None:
    with docker.connect() as connection:
        # a thread has it before it is whole, as it is long
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % 100_000 + 100_000 * b" " + beginning)
        connection.shutdown(socket.SHUT_WR)
        reply = parse_reply(read_all(connection))
    assert reply
    assert (reply.status, list(reply.body)) == (500, ["Err"])
    assert "internal error" not in reply.error


def is_refused(docker: DockerClient, raw: bytes) -> None:
    reply = docker.send_bytes(raw)
    assert reply
    assert (reply.status, list(reply.body)) == (500, ["Err"])
    assert "<" not in reply.text
    assert "internal error" not in reply.error
    assert len(reply.error) < 500
    assert reply.headers["content-type"] == api.CONTENT_TYPE
    assert docker.list_names() == []


@pytest.mark.parametrize(
    "framing", ["Content-Length: {length}\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n"]
)
def test_a_body_is_read_up_to_a_limit(docker: DockerClient, framing: str) -> None:
    for length, error in (
        (api.LONGEST_BODY, "the request is not a JSON object"),
        (api.LONGEST_BODY + 1, "the body of the request is longer than 1 MiB: "),
    ):
        end = b"\r\n0\r\n\r\n" if "chunked" in framing else b""
        reply = docker.send_bytes(HEAD + framing.format(length=length).encode() + length * b"x" + end)
        assert reply
        assert reply.status == 500
        assert reply.error.startswith(error)


def test_a_body_of_any_length_is_refused_without_being_read(docker: DockerClient) -> None:
    with docker.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 100000000000\r\n\r\n")
        with contextlib.suppress(BrokenPipeError):
            for _ in range(1024):
                connection.sendall(64 * 1024 * b"x")
            raise AssertionError("64 MiB were read")
        reply = parse_reply(read_all(connection))
    assert reply
    assert "longer than 1 MiB" in reply.error


def test_a_client_that_does_not_take_its_reply_is_given_up_without_a_traceback(tmp_path: Path) -> None:
    configuration = tmp_path / "hasty.py"
    configuration.write_text(HASTY)
    records = settings_below(tmp_path).volumes
    records.mkdir(parents=True)
    for number in range(1500):  # more than fits into the buffers of a socket
        (records / f"photos{number}.json").write_text("{}")
    with started(tmp_path, str(configuration)) as service, service.docker.connect() as connection:
        connection.sendall(service.docker.request("VolumeDriver.List", {}))
        closed = select.poll()
        closed.register(connection, 0)
        assert closed.poll(LIMIT_SECONDS * 1000), "it waits for ever"
        assert len(service.docker.list_names()) == 1500
        assert "Traceback" not in service.log


def test_it_starts_where_no_temporary_directory_can_be_written_to(tmp_path: Path) -> None:
    configuration = tmp_path / "full.py"
    configuration.write_text(f'{TOLD}\nimport tempfile\ntempfile.tempdir = "/dev/null/tmp"\n')
    with started(tmp_path, str(configuration)) as service:
        assert service.docker.list_names() == []
        assert {path.name for path in service.settings.runtime.iterdir()} == {"holders", "log", "sshfs.sock"}


@pytest.fixture(scope="module")
def with_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, ssl.SSLContext]]:
    """Give a service that gives up soon, at a port, and what its clients need."""
    directory = tmp_path_factory.mktemp("tls")
    client = certificate(directory / "tls")
    configuration = directory / "hasty.py"
    port = closed_port()
    configuration.write_text(f'{HASTY}\nbind = "127.0.0.1:{port}"\n')
    with started(directory, str(configuration), tls=directory / "tls", port=port) as service:
        yield service, client


def test_a_handshake_that_stops_halfway_keeps_a_thread_for_a_while_only(
    with_tls: tuple[Service, ssl.SSLContext],
) -> None:
    service, client = with_tls
    with ExitStack() as held:
        for _ in range(2 * service.settings.threads):
            half = held.enter_context(socket.create_connection(("127.0.0.1", service.port)))
            half.sendall(b"\x16\x03\x01\x02\x00\x01")
        with client.wrap_socket(socket.create_connection(("127.0.0.1", service.port), LIMIT_SECONDS)) as connection:
            connection.sendall(service.docker.request("VolumeDriver.List", {}))
            reply = parse_reply(read_all(connection))
    assert reply
    assert reply.body == {"Volumes": [], "Err": ""}


def test_a_request_that_stops_halfway_over_tls_is_given_up_without_a_traceback(
    with_tls: tuple[Service, ssl.SSLContext],
) -> None:
    service, client = with_tls
    for half in (HEAD, HEAD + b"Content-Length: 500\r\n\r\n{"):
        with client.wrap_socket(socket.create_connection(("127.0.0.1", service.port), LIMIT_SECONDS)) as connection:
            connection.sendall(half)
            read_all(connection)
    assert "Traceback" not in service.log


def test_a_client_that_resets_its_connection_before_the_handshake_disturbs_nobody(
    with_tls: tuple[Service, ssl.SSLContext],
) -> None:
    service, client = with_tls
    address = "127.0.0.1", service.port

    def worker_that_answers() -> int:
        with client.wrap_socket(socket.create_connection(address, LIMIT_SECONDS)) as connection:
            connection.sendall(service.docker.request("VolumeDriver.List", {}))
            assert read_all(connection)
        return service.worker

    before = worker_that_answers()
    for _ in range(20):
        with socket.create_connection(address) as hasty:
            hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert worker_that_answers() == before, "it has ended, and all calls with it"
    assert "cannot be served" not in service.log, "what a client does is no fault of the certificates"


@pytest.mark.parametrize("file", ["ca.pem", "cert.pem", "key.pem"])
def test_a_service_without_one_of_its_certificates_says_so_and_does_not_start(tmp_path: Path, file: str) -> None:
    certificate(tmp_path / "tls")
    (tmp_path / "tls" / file).unlink()
    configuration = tmp_path / "told.py"
    port = closed_port()
    configuration.write_text(f'{TOLD}\nbind = "127.0.0.1:{port}"\n')
    service = Service(replace(settings_below(tmp_path), tls=tmp_path / "tls"), port)
    assert service.ends_at_once(str(configuration)) == os.EX_CONFIG
    assert f"{tmp_path}/tls/{file} cannot be read (No such file or directory): " in service.log
    assert "Traceback" not in service.log


def test_certificates_that_are_spoilt_while_it_serves_are_complained_about_and_used_again_once_they_are_mended(
    tmp_path: Path,
) -> None:
    client = certificate(tmp_path / "tls")
    certificate(tmp_path / "others")
    configuration = tmp_path / "told.py"
    port = closed_port()
    configuration.write_text(f'{TOLD}\nbind = "127.0.0.1:{port}"\n')
    key = tmp_path / "tls" / "key.pem"
    fitting = key.read_bytes()

    def connection() -> ssl.SSLSocket:
        return client.wrap_socket(socket.create_connection(("127.0.0.1", port), LIMIT_SECONDS))

    with started(tmp_path, str(configuration), tls=tmp_path / "tls", port=port) as service:
        key.write_bytes((tmp_path / "others" / "key.pem").read_bytes())
        with pytest.raises(OSError, match="reset|EOF"):
            connection()
        complaint = f"{tmp_path}/tls/cert.pem and {key} are not a certificate and its key"
        await_that(lambda: complaint in service.log, lambda: f"it complains\n{service.log}")
        assert "Traceback" not in service.log
        key.write_bytes(fitting)
        with connection() as mended:
            mended.sendall(service.docker.request("VolumeDriver.List", {}))
            assert parse_reply(read_all(mended))


def test_a_connection_that_was_taken_before_a_stop_is_answered(tmp_path: Path) -> None:
    with started(tmp_path) as service, service.docker.connect() as connection:
        service.docker.list_names()  # by now the connection before it was taken as well
        assert service.process
        service.process.terminate()
        await_that(lambda: not service.settings.socket.exists(), lambda: "it stops")
        connection.sendall(service.docker.request("VolumeDriver.List", {}))
        reply = parse_reply(read_all(connection))
    assert reply
    assert reply.body == {"Volumes": [], "Err": ""}
