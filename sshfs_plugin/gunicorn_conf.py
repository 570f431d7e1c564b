# SPDX-License-Identifier: MIT
"""How gunicorn serves the plugin: ``gunicorn -c python:sshfs_plugin.gunicorn_conf``.

The socket comes from systemd (or systemd-socket-activate), which gunicorn takes by itself.
"""

import gc
import logging
import os
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sshfs_plugin import errors
from sshfs_plugin.host import journal
from sshfs_plugin.http import listening, watchdog
from sshfs_plugin.settings import Settings

wsgi_app = "sshfs_plugin.app:create_app()"

journal.set_up()


def _settings_or_end() -> Settings:
    """Read the settings. If they make no sense, end with EX_CONFIG, after which systemd does not try again."""
    try:
        return Settings.from_environment()
    except ValueError as error:
        logging.getLogger(__name__).critical("%s", error)
        sys.exit(os.EX_CONFIG)


_settings = _settings_or_end()

bind = f"unix:{_settings.socket}"
"""Where to listen if systemd passes no socket: never at a port, since other users of this host could call there."""

workers = 1
"""One process, since the locks of volumes are in its memory."""
worker_class = "sshfs_plugin.http.worker.Worker"
threads = _settings.threads
worker_connections = 2 * threads

keepalive = 0
"""Connections are not kept: a request that meets the end of one is sent again without its body (docs/facts.md)."""
timeout = 0
"""gunicorn ends no worker that seems silent: 20.1 measures that by the wall clock, and whoever sets that clock forward
would end all calls that are under way. Whether calls are answered is systemd's to watch (http/watchdog.py).
"""
graceful_timeout = 40

if _settings.tls:
    certfile = str(_settings.tls / "cert.pem")
    keyfile = str(_settings.tls / "key.pem")
    ca_certs = str(_settings.tls / "ca.pem")
    cert_reqs = ssl.CERT_REQUIRED

umask = 0o077
worker_tmp_dir = str(_settings.runtime)
"""Where gunicorn makes a file for its worker: on a full or read-only disk no temporary directory can be written to."""
proc_name = "docker-volume-sshfs"
loglevel = "warning"

_notify_socket = os.environ.pop("NOTIFY_SOCKET", "")
"""Taken from gunicorn, which would report READY=1 before the application is even imported."""


def ssl_context(_settings: object, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Return gunicorn's own context, which takes the same authorities with each Python; gunicorn 20.1 has no such hook.

    Since 3.13 an authority without keyUsage is none, which is what ``openssl req -x509`` makes.
    """
    context = default()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def on_starting(server: Any) -> None:
    """Log gunicorn's messages as ours, and end with EX_CONFIG if the plugin can't be served at its sockets.

    The directory of the worker's file is made where nobody has made it, as the unit and the managed plugin do.
    """
    gunicorn = logging.getLogger("gunicorn.error")
    gunicorn.handlers.clear()
    gunicorn.propagate = True
    where = listening.addresses() or [listening.written(address) for address in server.address]
    try:
        listening.require_suitable(where, _settings)
        if _settings.tls:
            listening.require_certificates(Path(ca_certs), Path(certfile), Path(keyfile))
    except errors.UnsuitableSocket as error:
        logging.getLogger(__name__).critical("%s", error)
        sys.exit(os.EX_CONFIG)
    _settings.runtime.mkdir(mode=0o700, parents=True, exist_ok=True)


def pre_fork(_server: object, _worker: object) -> None:
    """Keep the garbage collector off all that is there: its marks would give each process a copy of what they share."""
    gc.freeze()


def post_worker_init(_worker: object) -> None:
    """Tell systemd that the service is ready, once the application is loaded and about to answer."""
    if _notify_socket:
        os.environ["NOTIFY_SOCKET"] = _notify_socket
        journal.ready()
        watchdog.start(listening.addresses(), has_tls=_settings.tls is not None)
