# SPDX-License-Identifier: MIT
"""gunicorn's worker with threads, in which nobody keeps a thread by connecting and saying too little.

It works with gunicorn 20.1 (Debian 12) to 27, whose own ways with a silent client all differ: 20.1 gives it a thread
for ever, 23 one of its places for ever, 27 a thread for five seconds.
"""

import contextlib
import errno
import logging
import selectors
import socket
import ssl
from typing import Any

from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker

from sshfs_plugin import errors
from sshfs_plugin.http import api
from sshfs_plugin.http.arrivals import Arrivals, has_first_byte, has_request

log = logging.getLogger(__name__)

CLIENT_SECONDS = 10.0
"""How long a client may keep a thread waiting: for its handshake, for more of its request, for room for its reply."""

_NO_CONNECTION = (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK)
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


class _Client(socket.socket):
    """A client's socket that is never waited for without a limit, which gunicorn would ask for."""

    def setblocking(self, flag: bool) -> None:
        """Wait for a while, or not at all."""
        self.settimeout(CLIENT_SECONDS if flag else 0)


class _Connection(TConn):  # type: ignore[misc]  # gunicorn carries no types
    """A connection that is closed at once: gunicorn 27 would wait two seconds for the client, and all others too."""

    def close(self, *_: Any, **__: Any) -> None:
        """Close it."""
        super().close()


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn carries no types
    """Serves each request in a thread, from when it is there."""

    def run(self) -> None:
        """Serve until told to stop."""
        self._arrivals: Arrivals[_Connection] = Arrivals(has_first_byte if self.cfg.is_ssl else has_request)
        self.poller.register(self._arrivals, selectors.EVENT_READ, self._take_arrived)
        super().run()

    def accept(self, *where: Any) -> None:
        """Take a connection; where is the listener alone, or until gunicorn 23 its address and the listener."""
        *_, listener = where
        try:
            connection, client = listener.accept()
        except OSError as error:
            if error.errno in _NO_CONNECTION or (error.errno in _NO_DESCRIPTOR and self._arrivals.give_up_oldest()):
                return
            raise
        waited_for = _Client(fileno=connection.detach())
        self._arrivals.expect(_Connection(self.cfg, waited_for, client, listener.getsockname()))

    def murder_keepalived(self, *args: Any, **options: Any) -> None:
        """End what takes too long, as gunicorn does at the end of each turn of its loop; the last turn takes all."""
        super().murder_keepalived(*args, **options)
        self._arrivals.give_up_overdue()
        if not self.alive:
            self._serve(self._arrivals.take_all())

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer what is no proper request in JSON, the one form that clients read, where gunicorn sends a page."""
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
            reply = api.raw_error(api.INTERNAL_ERROR)
        with contextlib.suppress(OSError):  # it may have gone
            client.sendall(reply)

    def _take_arrived(self, arrivals: Arrivals[_Connection]) -> None:
        self._serve(arrivals.arrived())

    def _serve(self, connections: list[_Connection]) -> None:
        for connection in connections:
            self.nr_conns += 1
            try:
                self.enqueue_req(connection)
            except OSError as error:  # who has gone again can't be wrapped in TLS, which is done here
                log.debug("gone before the handshake: %s", error)
                self.nr_conns -= 1
                connection.close()
