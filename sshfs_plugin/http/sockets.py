# SPDX-License-Identifier: MIT
"""Waiting at a socket; by poll(2), since select(2) knows no descriptor above 1023."""

import select
import socket


def has_something(connection: socket.socket, seconds: float) -> bool:
    """Tell whether there is something to read, be it the end, or comes within so many seconds; nothing is taken."""
    asked = select.poll()
    asked.register(connection, select.POLLIN)
    return bool(asked.poll(seconds * 1000))
