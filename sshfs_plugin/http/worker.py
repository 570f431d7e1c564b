# SPDX-License-Identifier: MIT
"""gunicorn's worker with threads, in which a client that sends no whole request occupies no thread.

It works with gunicorn 20.1 (Debian 12) to 27, which all treat a silent client differently: 20.1 gives it a thread for
ever, 23 one of its connections for ever, 27 a thread for five seconds.
"""

import contextlib
import errno
import logging
import selectors
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker

from sshfs_plugin import errors
from sshfs_plugin.http import api, listening
from sshfs_plugin.http.arrivals import Arrivals, has_first_byte, has_request

log = logging.getLogger(__name__)

CLIENT_SECONDS = 10.0
"""How long a thread waits for a client: for its handshake, for more of its request, or to take more of its reply."""

_NO_CONNECTION = (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK)
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


def _drop_silent_clients(record: logging.LogRecord) -> bool:
    """Leave out of gunicorn's log the tracebacks of clients that kept a thread waiting."""
    _, error, _ = record.exc_info or (None, None, None)
    if isinstance(error, TimeoutError):
        log.debug("a client is given up: %s", error)
    return not isinstance(error, TimeoutError)


def _ending(read: Callable[..., bytes]) -> Callable[..., bytes]:
    """Let a connection be read to its end once: gunicorn 20.1 would look for the end of a chunk there for ever."""
    has_ended = False

    def read_on(*limit: Any) -> bytes:
        nonlocal has_ended
        if has_ended:
            raise NoMoreData
        data = read(*limit)
        has_ended = not data
        return data

    return read_on


class _Client(socket.socket):
    """A client's socket with a time limit, where gunicorn would have it block without one."""

    def setblocking(self, flag: bool) -> None:
        """Block for CLIENT_SECONDS at most, or not at all."""
        self.settimeout(CLIENT_SECONDS if flag else 0)


class _Connection(TConn):  # type: ignore[misc]  # gunicorn carries no types
    """A connection that is closed at once: gunicorn 27 would wait two seconds for the client, in its main loop."""

    def init(self) -> None:
        """Begin TLS, if there is any. Its files are read anew each time, and may have been spoilt since the start."""
        try:
            super().init()
        except OSError as error:
            if not self.cfg.is_ssl:
                raise
            try:
                listening.require_certificates(*map(Path, (self.cfg.ca_certs, self.cfg.certfile, self.cfg.keyfile)))
            except errors.CertificatesUnusable as fault:
                log.error("%s", fault)
                raise ConnectionResetError(errno.ECONNRESET, "no TLS") from error  # gunicorn logs no traceback of it
            raise

    def close(self, *_: Any, **__: Any) -> None:
        """Close it."""
        super().close()


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn carries no types
    """Gives each request a thread once it has arrived."""

    def run(self) -> None:
        """Serve until told to stop."""
        logging.getLogger("gunicorn.error").addFilter(_drop_silent_clients)
        self._arrivals: Arrivals[_Connection] = Arrivals(has_first_byte if self.cfg.is_ssl else has_request)
        self.poller.register(self._arrivals, selectors.EVENT_READ, self._take_arrived)
        super().run()

    def accept(self, *where: Any) -> None:
        """Accept a connection; ``where`` ends with the listener, before which gunicorn up to 23 passes its address."""
        *_, listener = where
        try:
            connection, client = listener.accept()
        except OSError as error:
            if error.errno in _NO_CONNECTION or (error.errno in _NO_DESCRIPTOR and self._arrivals.give_up_oldest()):
                return
            raise
        limited = _Client(fileno=connection.detach())
        self._arrivals.expect(_Connection(self.cfg, limited, client, listener.getsockname()))

    def murder_keepalived(self, *args: Any, **options: Any) -> None:
        """Close overdue connections, in each pass of gunicorn's loop; the last pass serves the rest."""
        super().murder_keepalived(*args, **options)
        self._arrivals.give_up_overdue()
        if not self.alive:
            self._serve(self._arrivals.take_all())

    def handle_request(self, req: Any, *where: Any) -> Any:
        """Serve a request without the headers that gunicorn would take for variables of its own, as SCRIPT_NAME."""
        req.unreader.chunk = _ending(req.unreader.chunk)
        req.headers = [(name, value) for name, value in req.headers if "_" not in name]
        return super().handle_request(req, *where)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer in JSON, which clients read, where gunicorn would answer a malformed request with an HTML page."""
        del req, addr
        if isinstance(exc, ssl.SSLError):
            log.debug("no TLS: %s", exc)
            return
        if isinstance(exc, ParseException):
            refusal = errors.InvalidRequest(f"the request is not as HTTP has it, {exc}"[: errors.LONGEST_QUOTE])
            log.warning("%s", refusal)
            reply = api.raw_error(str(refusal))
        else:
            log.error("internal error", exc_info=exc)
            reply = api.raw_error(api.internal_error())
        with contextlib.suppress(OSError):  # the client may have gone
            client.sendall(reply)

    def _take_arrived(self, arrivals: Arrivals[_Connection]) -> None:
        self._serve(arrivals.arrived())

    def _serve(self, connections: list[_Connection]) -> None:
        for connection in connections:
            self.nr_conns += 1
            try:
                self.enqueue_req(connection)
            except OSError as error:  # TLS is set up here, which fails if the client has gone
                log.debug("gone before the handshake: %s", error)
                self.nr_conns -= 1
                connection.close()
