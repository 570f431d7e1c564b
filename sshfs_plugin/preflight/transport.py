# SPDX-License-Identifier: MIT
"""paramiko's end of a connection, held to what ssh does where the two differ."""

from typing import Any

from sshfs_plugin.preflight.ssh import paramiko

_SERVICE_REQUEST = bytes((paramiko.common.MSG_SERVICE_REQUEST,))
_LOGIN_SERVICE = "ssh-userauth"


class Transport(paramiko.Transport):  # type: ignore[misc]  # Debian's paramiko carries no types
    """A connection that asks for the login service once.

    Args:
        connection: A connected socket.
    """

    def __init__(self, connection: object) -> None:
        super().__init__(connection)
        self._has_asked = False

    def _send_message(self, data: Any) -> None:
        """Send a message, unless it is paramiko's request for the login service before each attempt but the first.

        Servers made with Go's x/crypto/ssh hang up at a second one. The answer to it is known, so it is given here.
        (paramiko's own ServiceRequestingTransport waits without limit for a server that does not answer.)
        """
        if data.asbytes()[:1] == _SERVICE_REQUEST:
            if self._has_asked:
                self.auth_handler._parse_service_accept(_granted())
                return
            self._has_asked = True
        super()._send_message(data)


def _granted() -> paramiko.Message:
    message = paramiko.Message()
    message.add_string(_LOGIN_SERVICE)
    message.rewind()
    return message
