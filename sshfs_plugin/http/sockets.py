# SPDX-License-Identifier: MIT
"""Waiting at a socket; by poll(2), since select(2) knows no descriptor above 1023."""

import select
import socket


def is_readable(connection: socket.socket, seconds: float) -> bool:
    """Tell whether data, or the end, can be read at once or within so many seconds; nothing is read."""
    asked = select.poll()
    asked.register(connection, select.POLLIN)
    return bool(asked.poll(seconds * 1000))
