# SPDX-License-Identifier: MIT
"""A port that seems to be far away."""

import socket
import threading
import time

from support.delay import delayed


def echo(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        while piece := connection.recv(65536):
            connection.sendall(piece)


def test_all_arrives_in_order_and_no_sooner_than_after_the_round_trip() -> None:
    sent = bytes(range(256)) * 4000
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=echo, args=(listener,), daemon=True).start()
        with delayed(listener.getsockname()[1], 0.05) as port, socket.create_connection(("127.0.0.1", port)) as here:
            for _ in range(2):
                started = time.monotonic()
                here.sendall(b"?")
                assert here.recv(1) == b"?"
                assert time.monotonic() - started >= 0.05
            threading.Thread(target=here.sendall, args=(sent,), daemon=True).start()
            received = b""
            while len(received) < len(sent):
                received += here.recv(65536)
            assert received == sent


def test_the_end_of_a_connection_arrives_too() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        delayed(listener.getsockname()[1], 0.01) as port,
        socket.create_connection(("127.0.0.1", port)) as here,
    ):
        there, _ = listener.accept()
        there.sendall(b"the last words")
        there.close()
        assert here.recv(100) == b"the last words"
        assert here.recv(100) == b""
