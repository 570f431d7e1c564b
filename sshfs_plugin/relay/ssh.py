# SPDX-License-Identifier: MIT
"""What passes packets on to a server, and the socket to it."""

import _socket  # the module "socket" is several times as large as the relay
import os
from select import select
from time import monotonic

LAST_WORDS_BYTES = FIRST_BYTES = 4096

END_SECONDS, LOOK_SECONDS = 0.5, 0.005
"""How long its end is waited for, and how often to look."""


class Connection:
    """What passes packets on to a server and back: an ssh, or a session on the connection of another.

    Attributes:
        descriptor: That of the socket for packets to it and from it.
        errors: The descriptor to read its messages from; -1 if they go where ours go, or have ended.
        said: The end of its messages.
        takes_packets: Whether it takes packets still.
    """

    def __init__(self, *, quiet: bool) -> None:
        """Make the socket; if messages are to be read here and not to go where ours go, a pipe as well.

        Raises:
            OSError: There are too many descriptors.
        """
        self._socket, self._theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self.descriptor, self.takes_packets, self.said = self._socket.fileno(), True, b""
        self._status = -1
        self.errors, self._their_errors = os.pipe() if quiet else (-1, 2)
        for descriptor in (self.descriptor, self.errors):
            if descriptor >= 0:
                os.set_blocking(descriptor, False)

    def read_messages(self) -> bytes:
        """Return what it has said since it was asked last."""
        try:
            said = os.read(self.errors, LAST_WORDS_BYTES)
        except BlockingIOError:
            return b""
        if not said:
            os.close(self.errors)
            self.errors = -1
        self._note(said)
        return said

    def send(self, packet: bytes) -> None:
        """Give it a packet, unless it has ended."""
        try:
            os.write(self.descriptor, packet)
        except OSError:
            pass

    def answered(self) -> bytes:
        """Return the beginning of what there is to be read, and leave it there; empty if it has closed its socket."""
        try:
            return self._socket.recv(FIRST_BYTES, _socket.MSG_PEEK)
        except OSError:
            return b""

    def end_input(self) -> None:
        """Let it read the end of its input."""
        self.takes_packets = False
        try:
            self._socket.shutdown(_socket.SHUT_WR)
        except OSError:  # it has ended
            pass

    def has_ended(self) -> bool:
        """Return whether it has ended by itself."""
        raise NotImplementedError

    def await_end(self) -> bool:
        """Return whether it has ended by itself, or does so within half a second."""
        limit = monotonic() + END_SECONDS
        while not self.has_ended():
            if monotonic() > limit:
                return False
            select((), (), (), LOOK_SECONDS)
        return True

    def end(self) -> int:
        """End it if it goes on; return its exit status."""
        raise NotImplementedError

    def _note(self, said: bytes) -> None:
        self.said = (self.said + said)[-LAST_WORDS_BYTES:]

    def _close_theirs(self) -> None:
        """Close the ends that were handed over."""
        self._theirs.close()
        if self._their_errors > 2:  # noqa: PLR2004 (it is no standard stream)
            os.close(self._their_errors)

    def _close(self) -> None:
        self.takes_packets = False
        self._socket.close()
        if self.errors >= 0:
            os.close(self.errors)
            self.errors = -1


class Ssh(Connection):
    """A running ssh.

    Attributes:
        pid: Its process.
    """

    def __init__(self, command: list[str], *, quiet: bool) -> None:
        """Start it; if it is to be quiet, its messages are read here.

        Raises:
            OSError: It can't be started.
        """
        Connection.__init__(self, quiet=quiet)
        try:
            self.pid = os.posix_spawn(
                command[0],
                command,
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, self._theirs.fileno(), 0),
                    (os.POSIX_SPAWN_DUP2, self._theirs.fileno(), 1),
                    (os.POSIX_SPAWN_DUP2, self._their_errors, 2),
                ],
                setpgroup=0,
                # in a relay that sshfs has started to reconnect the signals that end an ssh are blocked
                setsigmask=[],
            )
        except OSError:
            self._close()
            raise
        finally:
            self._close_theirs()

    def has_ended(self) -> bool:
        """Return whether it has ended by itself."""
        if self._status < 0:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # it was reaped already, since our starter ignores the ends of children
                pid, status = self.pid, 0
            if pid:
                self._status = status
        return self._status >= 0

    def end(self) -> int:
        """End it if it still runs, with the ssh that it has started for a jump host; return its exit status.

        One that reads from a file system that does not answer can't be ended (docs/facts.md), and is left behind.
        """
        if not self.has_ended():
            try:
                os.killpg(self.pid, 9)
            except ProcessLookupError:  # as above
                pass
            self.await_end()
        while self.errors >= 0 and self.read_messages():
            pass
        self._close()
        return os.waitstatus_to_exitcode(self._status if self._status >= 0 else 9)


def process_at_other_end(descriptor: int) -> int:
    """Return the process that has made a socket pair."""
    pair = _socket.socket(fileno=os.dup(descriptor))
    pid, _, _ = memoryview(pair.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)).cast("i")
    pair.close()
    return int(pid)
