# SPDX-License-Identifier: MIT
"""A session on a shared connection, asked of the ssh that has it as another ssh would ask (OpenSSH's PROTOCOL.mux).

An ssh of the volume's own, which would do nothing but ask, would take longer to start than the session takes to begin.
"""

import _socket  # as in relay/ssh.py
import os
from struct import error, pack, unpack_from

from sshfs_plugin.relay.packets import string
from sshfs_plugin.relay.ssh import Connection

HELLO, NEW_SESSION = 0x00000001, 0x10000002
PERMISSION_DENIED, FAILURE, EXIT_MESSAGE = 0x80000002, 0x80000003, 0x80000004
VERSION = 4
NO_ESCAPE = 0xFFFFFFFF
REQUEST = 0
"""The number of our only request."""

FAILED = 255
"""The exit status of an ssh that could not do what it was asked."""

LONGEST_ANSWER = 4096


class Session(Connection):
    """A session that was asked for; whether it begins is seen when the server answers."""

    def __init__(self, path: str, command: list[str], *, seconds: float) -> None:
        """Ask for it.

        Args:
            path: The socket on which sessions are asked for.
            command: What starts an ssh with a connection of its own. It ends with the host and what to run there, which
                is a subsystem if ``-s`` comes before them.
            seconds: How long it may take until the other ssh has taken what is asked.

        Raises:
            OSError: It does not take it, or has ended.
        """
        Connection.__init__(self, quiet=True)
        self._answers = b""
        self._control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        is_subsystem = "-s" in command[-4:-2]  # the second may be "--"
        try:
            self._control.settimeout(seconds)
            self._control.connect(path)
            request = _new_session(os.fsencode(command[-1]), is_subsystem)
            # each message is a string, as SFTP has them
            self._control.sendall(string(pack(">II", HELLO, VERSION)) + string(request))
            for descriptor in (self._theirs.fileno(), self._theirs.fileno(), self._their_errors):
                handed_over = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, pack("=i", descriptor))
                self._control.sendmsg([b"\0"], [handed_over])
            self._control.settimeout(0)
        except OSError:
            self._control.close()
            self._close()
            raise
        finally:
            self._close_theirs()

    def has_ended(self) -> bool:
        """Return whether it has ended by itself."""
        try:
            while self._status < 0:
                heard = self._control.recv(LONGEST_ANSWER)
                self._answers += heard
                if not heard:
                    self._status = FAILED
                self._understand()
        except BlockingIOError:
            pass
        except OSError:
            self._status = FAILED
        return self._status >= 0

    def end(self) -> int:
        """End it if it goes on, which its connection does when we hang up; return its exit status."""
        has_ended = self.has_ended()
        self._control.close()
        while self.errors >= 0 and self.read_messages():
            pass
        self._close()
        return self._status if has_ended else FAILED

    def _understand(self) -> None:
        """Take what was answered apart; what can't be understood ends the session."""
        try:
            while len(self._answers) >= 4:  # noqa: PLR2004 (the length of a length)
                (length,) = unpack_from(">I", self._answers)
                if length > LONGEST_ANSWER:
                    raise error
                answer, rest = self._answers[4 : 4 + length], self._answers[4 + length :]
                if len(answer) < length:
                    return
                kind, _ = unpack_from(">II", answer)
                self._answers = rest
                if kind == EXIT_MESSAGE:
                    (self._status,) = unpack_from(">8xI", answer)
                elif kind in (PERMISSION_DENIED, FAILURE):
                    self._note(answer[12:] + b"\n")
                    self._status = FAILED
        except error:
            self._status = FAILED


def _new_session(command: bytes, is_subsystem: bool) -> bytes:
    """Return a request for a session without terminal, X11, agent or variables."""
    flags = pack(">IIIII", False, False, False, is_subsystem, NO_ESCAPE)
    return pack(">II", NEW_SESSION, REQUEST) + string(b"") + flags + string(b"") + string(command)
