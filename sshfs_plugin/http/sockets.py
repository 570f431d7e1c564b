# SPDX-License-Identifier: MIT
"""What there is at a socket; by poll(2), since select(2) knows no descriptor above 1023."""

import select
import socket


def is_readable(connection: socket.socket) -> bool:
    """Tell whether data, or the end, can be read at once; nothing is read."""
    asked = select.poll()
    asked.register(connection, select.POLLIN)
    return bool(asked.poll(0))
