# SPDX-License-Identifier: MIT
"""gunicorn's worker with threads, which lets nobody keep a place by connecting and saying nothing."""

import errno
import socket
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

from sshfs_plugin import sockets

REQUEST_SECONDS = 5.0
"""How long a client over TCP may be silent while it should speak: at first, at the handshake, within its request."""

_NO_CONNECTION = (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK)


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn carries no types
    """Serves each connection in a thread."""

    def accept(self, server: Any, listener: socket.socket) -> None:
        """Give each connection to a thread at once: gunicorn 23 would let those wait for ever that say nothing."""
        try:
            connection, client = listener.accept()
        except OSError as error:
            if error.errno not in _NO_CONNECTION:
                raise
            return
        self.nr_conns += 1
        self.enqueue_req(TConn(self.cfg, connection, client, server))

    def handle(self, conn: TConn) -> Any:
        """Serve one connection; the unix socket, at which root alone can be, is trusted to speak."""
        if conn.sock.family != socket.AF_UNIX:
            conn.sock.settimeout(REQUEST_SECONDS)
            if not sockets.has_something(conn.sock, REQUEST_SECONDS):
                return False, conn
        return super().handle(conn)
