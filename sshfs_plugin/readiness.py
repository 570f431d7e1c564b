# SPDX-License-Identifier: MIT
"""Telling whoever started a volume's process that its mount is usable.

The message is systemd's ``READY=1`` on the socket of ``$NOTIFY_SOCKET``. python-systemd 235 can send it but can't wait
until it was read, and PID 1 drops the message of a process that has ended by then, so the barrier is made here.
"""

import contextlib
import os
import select
import socket

_BARRIER_SECONDS = 5


def announce() -> None:
    """Send READY=1 and return when it was read, or after five seconds.

    Where there is no systemd, who has started the process listens for its first report only, and then closes.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        contextlib.suppress(FileNotFoundError, ConnectionRefusedError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager,
    ):
        manager.connect(address)
        manager.send(b"READY=1")
        _await_reading(manager)


def _await_reading(manager: socket.socket) -> None:
    ours, theirs = os.pipe()
    with os.fdopen(ours):
        try:
            socket.send_fds(manager, [b"BARRIER=1"], [theirs])
        finally:
            os.close(theirs)
        closed = select.poll()
        closed.register(ours, select.POLLHUP)
        closed.poll(_BARRIER_SECONDS * 1000)
