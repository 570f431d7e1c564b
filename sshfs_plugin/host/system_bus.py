# SPDX-License-Identifier: MIT
"""Asks systemd for the start of a unit over the system bus, in a fraction of the time that systemctl takes."""

import socket
from contextlib import closing

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline

ADDRESS = "/run/dbus/system_bus_socket"

_HELLO, _START = 1, 2
"""The serial numbers of our messages."""


def start_unit(unit: str, *, mode: str, seconds: float) -> str:
    """Have systemd start a unit, without waiting for that.

    Args:
        unit: Its name.
        mode: What else the job may change, as ``--job-mode=`` of systemctl has it.
        seconds: How long systemd may take to answer.

    Returns:
        Why it does not start the unit; empty if it does.

    Raises:
        ProgramStuck: Nobody has answered in time.
    """
    # where nothing is mounted, it is not needed
    from jeepney import AuthenticationError  # noqa: TID251 (this is the place)

    try:
        with closing(socket.socket(socket.AF_UNIX)) as bus:
            return _ask(_Bus(bus, Deadline.after(seconds)), unit, mode)
    except TimeoutError:
        raise errors.ProgramStuck("systemd", seconds) from None
    except (OSError, AuthenticationError) as error:
        return f"systemd can't be asked at {ADDRESS} ({error}): is dbus installed and running?"


class _Bus:
    """A connection to the system bus, on which nothing takes longer than until a deadline."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection, self._deadline = connection, deadline
        self._limited().connect(ADDRESS)

    def send(self, data: bytes) -> None:
        self._limited().sendall(data)

    def receive(self) -> bytes:
        data = self._limited().recv(4096)
        if not data:
            raise ConnectionResetError("it has hung up")
        return data

    def _limited(self) -> socket.socket:
        left = self._deadline.left()
        if not left:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection


def _ask(bus: _Bus, unit: str, mode: str) -> str:
    from jeepney import DBusAddress, HeaderFields, MessageType, Parser, new_method_call  # noqa: TID251 (as above)
    from jeepney.auth import BEGIN, Authenticator  # noqa: TID251 (as above)
    from jeepney.bus_messages import message_bus  # noqa: TID251 (as above)

    login = Authenticator()
    for data in login:
        bus.send(data)
        login.feed(bus.receive())
    systemd = DBusAddress("/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager")
    start = new_method_call(systemd, "StartUnit", "ss", (unit, mode))
    # all at once: the bus takes them in turn
    bus.send(BEGIN + message_bus.Hello().serialise(_HELLO) + start.serialise(_START))
    messages = Parser()
    while True:
        while (message := messages.get_next_message()) is None:
            messages.add_data(bus.receive())
        fields = message.header.fields
        if message.header.message_type is MessageType.error:
            return str(message.body[0] if message.body else fields[HeaderFields.error_name])
        if fields.get(HeaderFields.reply_serial) == _START:
            return ""
