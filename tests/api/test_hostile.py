# SPDX-License-Identifier: MIT
"""Connections at random that are no clients, beside a client that is one.

What single ones of them are told is in ``test_gunicorn.py``.
"""

import random
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from support import wild
from support.clients import SSHCMD, DockerClient, parse_reply, read_all
from support.long import normally
from support.service import BLOCKS_TOLD, HASTY, Service, Size, size_of, started
from support.waiting import await_that

from sshfs_plugin.http import api

CONNECTIONS = normally(200, 10_000)
SEED = 20261127
HELD = 64
MOST_BYTES_MORE = 12 << 20
MOST_BLOCKS_IN_A_QUARTER = normally(1000, 500)
MOST_THREADS_MORE = 8
SECONDS_EACH = 0.1

HEAD = b"POST /VolumeDriver.List HTTP/1.1\r\nHost: \r\n"
TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(505)


def request(rng: random.Random) -> bytes:
    """Return a request that is none to create a volume, whose server might be another one once it is damaged."""
    requests = wild.Wild(rng.randrange(1 << 32))
    while b"/VolumeDriver.Create" in (raw := requests.request().raw):
        pass
    return raw[:20_000]


def damaged(rng: random.Random) -> bytes:
    """Return a request with some bytes changed, lost or too much."""
    raw = bytearray(request(rng))
    for _ in range(rng.choice((1, 3, 20))):
        place = rng.randrange(len(raw))
        match rng.randrange(3):
            case 0:
                raw[place] = rng.randrange(256)
            case 1:
                del raw[place : place + rng.choice((1, 10))]
            case _:
                raw[place:place] = rng.choice((b"\0", b"\r\n", b"\r\n\r\n", b"\xff", b" ", rng.randbytes(9)))
        raw = raw or bytearray(b"\n")
    return bytes(raw)


def chunked(rng: random.Random) -> bytes:
    """Return a request whose body is in chunks, some of which are none."""
    chunks = (
        b"1\r\n{\r\n",
        b"1;x=y\r\n}\r\n",
        b"ffffffff\r\n",
        b"7" * 30 + b"\r\n",
        b"0x1\r\n{\r\n",
        b"+1\r\n{\r\n",
        b" 1 \r\n{\r\n",
        b"\r\n",
        b"1\r\n{{\r\n",
        b"1;" + b"x" * 5000 + b"\r\n{\r\n",
        b"0\r\nX: y\r\n\r\n",
        b"\xb2\r\n",
    )
    body = b"".join(rng.choices(chunks, k=rng.choice((0, 1, 2, 50))))
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body + rng.choice((b"", b"0\r\n\r\n", b"0\r\n"))


def strange_headers(rng: random.Random) -> bytes:
    """Return a request with headers that nobody sends."""
    headers = (
        b"Transfer-Encoding: chunked\r\nContent-Length: 2",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding:\x0bchunked",
        b"Content-Length: +2",
        b"Content-Length: 2, 2",
        b"Content-Length: \xd9\xa2",
        b"Content-Length : 2",
        b" Content-Length: 2",
        b"X: y\r\n folded",
        b"X: y\rZ: z",
        b"X\0: y",
        b"X: \0\x1b[2J",
        b": y",
        b"X" * 9000,
        b"X: " + b"y" * 60_000,
        b"\n".join(b"X-%d: y" % number for number in range(300)),
        b"Host: a\r\nHost: b",
        b"Host: [::1",
        b"Host: \xff/\\@",
        b"Expect: 100-continue",
        b"Expect: nonsense",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x",
        b"Upgrade: h2c\r\nHTTP2-Settings: x",
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off",
        b"SCRIPT_NAME: /x",
        b"SERVER_PROTOCOL: x\r\nwsgi.input: x",
        b"Content-Type: multipart/form-data; boundary=" + b"x" * 3000,
        b"Content-Length: 2\r\n\r\n{}POST /VolumeDriver.Remove HTTP/1.1",
    )
    return HEAD + b"\r\n".join(rng.sample(headers, rng.choice((1, 1, 2, 4)))) + rng.choice((b"\r\n\r\n", b"\n\n", b""))


def no_http(rng: random.Random) -> bytes:
    """Return what is meant for others."""
    return rng.choice(
        (
            b"",
            TLS_HELLO,
            b"SSH-2.0-OpenSSH_9.2p1\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
            b"PROXY TCP4 ::1 ::1 1 1\r\n" + HEAD + b"\r\n",
            b"\r\n" * 40_000,
            b"\0" * 100_000,
            b"GET / " + b"x" * 200_000,
            b"GET /%s HTTP/9.9\r\n\r\n" % rng.randbytes(30).replace(b"\n", b"."),
            b"get\r\n\r\n",
            rng.randbytes(rng.choice((1, 100, 70_000))),
            rng.randbytes(500) + b"\r\n\r\n",
        )
    )


def pipelined(rng: random.Random) -> bytes:
    """Return several requests at once, of which the first alone is to be answered."""
    return (HEAD + b"Content-Length: 2\r\n\r\n{}") * rng.choice((2, 10, 3000))


def half(rng: random.Random) -> bytes:
    """Return the first part of a request."""
    raw = request(rng)
    return raw[: rng.randrange(len(raw))]


def huge(rng: random.Random) -> bytes:
    """Return a request with a body that is too long, or said to be so."""
    length = rng.choice((api.LONGEST_BODY + 1, 3 * api.LONGEST_BODY, 10**9, 10**18, 10**300))
    return HEAD + b"Content-Length: %d\r\n\r\n" % length + b"[" * min(length, 2 * api.LONGEST_BODY)


MAKERS: tuple[Callable[[random.Random], bytes], ...] = (
    damaged,
    damaged,
    chunked,
    strange_headers,
    no_http,
    pipelined,
    half,
    half,
    huge,
)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Give a service that gives up soon on those who do not finish their request."""
    configuration = tmp_path / "hasty.py"
    configuration.write_text(HASTY + BLOCKS_TOLD)
    with started(tmp_path, str(configuration)) as service:
        yield service


def push(connection: socket.socket, raw: bytes, rng: random.Random) -> None:
    """Send bytes, at once or in pieces, as far as the service takes them without waiting."""
    connection.setblocking(False)
    size = rng.choice((len(raw) or 1, len(raw) or 1, 7, 1000))
    try:
        for start in range(0, min(len(raw), size * 500), size):
            connection.sendall(raw[start : start + size])
    except (BrokenPipeError, BlockingIOError, ConnectionResetError):
        return


def is_proper(said: bytes) -> bool:
    """Tell whether an answer is none, or that of a call or an error, in JSON."""
    reply = parse_reply(said.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n"))
    if reply is None or (reply.status == 404 and not reply.text):  # that of HEAD
        return True
    body: Mapping[str, object] = reply.body  # all that came, so there is one answer
    return (
        reply.headers["content-type"] == api.CONTENT_TYPE
        and (reply.status == 200) == (body["Err"] == "")
        and reply.status in (200, 404, 500)
        and api.INTERNAL_ERROR not in reply.text
    )


def read_to_the_end(connection: socket.socket) -> bytes:
    connection.setblocking(True)
    connection.settimeout(60)
    with connection:
        return read_all(connection)


def is_at_rest(service: Service, first: Size) -> bool:
    """Tell whether the service has closed what it had open."""
    return size_of(service.worker).descriptors <= first.descriptors


def is_well(docker: DockerClient) -> bool:
    return docker.get("photos").status == 200


@pytest.mark.timeout(300 + CONNECTIONS * SECONDS_EACH)
def test_a_client_is_answered_while_dozens_of_others_send_what_none_should(service: Service) -> None:
    rng = random.Random(SEED)  # noqa: S311 (nothing here is secret)
    docker = service.docker
    assert docker.create("photos", {"sshcmd": SSHCMD, "check": "never"}).status == 200
    held: deque[tuple[socket.socket, bytes]] = deque()
    worker, first = service.worker, size_of(service.worker)
    for number in range(CONNECTIONS):
        if number == CONNECTIONS // 2:  # by now each of its threads has its own memory, which is not given back
            expect_proper(held)
            before = size_of(worker)
        if number == CONNECTIONS * 3 // 4:
            expect_proper(held)
            await_that(lambda: is_at_rest(service, first), lambda: f"all is closed, {size_of(worker)}")
            between, blocks_between = size_of(worker), service.blocks()
        raw = rng.choice(MAKERS)(rng)
        connection = docker.connect()
        push(connection, raw, rng)
        if rng.random() < 0.3:
            connection.close()  # without a look at the answer
        else:
            held.append((connection, raw))
        if number % 10 == 0:
            assert is_well(docker), f"amid {number} connections of seed {SEED}"
        expect_proper(held, HELD)
    expect_proper(held)
    await_that(lambda: is_at_rest(service, first), lambda: f"all is closed, {size_of(worker)}")
    after, blocks = size_of(worker), service.blocks()
    print(  # noqa: T201 (pytest -s shows it)
        f"{CONNECTIONS} connections: {before} after a half, {between} with {blocks_between} blocks after three quarters"
        f", {after} with {blocks} at the end"
    )
    assert service.worker == worker, "it has ended, and was started anew"
    assert docker.list_names() == ["photos"]
    assert after.threads <= before.threads + MOST_THREADS_MORE
    assert after.memory <= before.memory + MOST_BYTES_MORE
    assert blocks <= blocks_between + MOST_BLOCKS_IN_A_QUARTER
    assert "Traceback" not in service.log


def expect_proper(held: deque[tuple[socket.socket, bytes]], but: int = 0) -> None:
    """Read what the oldest connections were answered, until so many are left."""
    while len(held) > but:
        connection, raw = held.popleft()
        said = read_to_the_end(connection)
        assert is_proper(said), f"{raw[:2000]!r} (seed {SEED}) was answered {said[:2000]!r}"
