# SPDX-License-Identifier: MIT
"""What may be at a port of loopback and is no SSH server: nothing, or something that does anything but SSH."""

import atexit
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import paramiko

LOOPBACK = "127.0.0.1"

_bound = contextlib.ExitStack()
"""What keeps the ports that were said to be closed from being given to another program."""
atexit.register(_bound.close)


@contextlib.contextmanager
def impostor(says: bytes = b"", *, hangs_up: bool = False) -> Iterator[int]:
    """Run something that is no SSH server and yield its port: it says something and may hang up then."""
    connections: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                connection.sendall(says)
                if hangs_up:  # closed before it has read what the client says, it could take its own words back
                    connection.shutdown(socket.SHUT_WR)

    with listening(LOOPBACK) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in connections:
                connection.close()


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """Yield a port that answers no connection request, as behind a firewall: the queue of its listener is full."""
    with socket.socket() as listener, socket.socket() as first:
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        first.connect(listener.getsockname())
        yield listener.getsockname()[1]


def proposal(connect: Callable[[int], object]) -> list[list[str]]:
    """Return the algorithms that a client proposes: the name-lists of SSH_MSG_KEXINIT, in the order of RFC 4253."""
    with listening(LOOPBACK) as listener:
        thread = threading.Thread(target=connect, args=(listener.getsockname()[1],), daemon=True)
        thread.start()
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as received:
            connection.sendall(b"SSH-2.0-test\r\n")
            received.readline()
            length = int.from_bytes(received.read(4), "big")
            packet = paramiko.Message(received.read(length))
        thread.join()
    packet.get_bytes(1 + 1 + 16)  # the length of the padding, the number of the message, the cookie
    return [packet.get_list() for _ in range(10)]


def closed_port() -> int:
    """Return a port at which nobody listens but who asks for it by number, for as long as this process runs."""
    unused = _bound.enter_context(socket.socket())
    unused.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    unused.bind((LOOPBACK, 0))
    port: int = unused.getsockname()[1]
    return port


def listening(address: str) -> socket.socket:
    """Listen on a free port of an address of either family."""
    return socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
