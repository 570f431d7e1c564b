# SPDX-License-Identifier: MIT
"""An application of Flask's on a socket, without gunicorn."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import BaseServer
from typing import TYPE_CHECKING, Any

from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment


class _GunicornsHandler(WSGIRequestHandler):
    """Hands the client's socket to the application under the name that gunicorn uses for it."""

    def make_environ(self) -> "WSGIEnvironment":
        """Return the request as WSGI has it."""
        return {**super().make_environ(), "gunicorn.socket": self.connection}

    def log(self, type: str, message: str, *args: Any) -> None:
        """Keep quiet about each request."""


@contextmanager
def serving(application: "WSGIApplication", address: Path) -> Iterator[None]:
    """Serve an application on a unix socket, a thread for each connection."""
    with answering(make_server(f"unix://{address}", 0, application, threaded=True, request_handler=_GunicornsHandler)):
        yield


@contextmanager
def answering(server: BaseServer) -> Iterator[None]:
    """Let a server answer in a thread of its own, and close it."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
