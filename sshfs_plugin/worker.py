# SPDX-License-Identifier: MIT
"""gunicorn's worker with threads, which lets nobody keep a thread by connecting and saying nothing."""

import socket
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

REQUEST_SECONDS = 5.0
"""How long a client over TCP may be silent while it should speak: at the handshake, and within its request."""


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn carries no types
    """Serves each connection in a thread."""

    def handle(self, conn: TConn) -> Any:
        """Serve one connection; the unix socket, at which root alone can be, is trusted to speak."""
        if conn.sock.family != socket.AF_UNIX:
            conn.sock.settimeout(REQUEST_SECONDS)
        return super().handle(conn)
