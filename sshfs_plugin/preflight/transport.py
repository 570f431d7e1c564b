# SPDX-License-Identifier: MIT
"""paramiko's transport, made to behave as ssh does where the two differ."""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, ClassVar

from sshfs_plugin.preflight.ssh import FAILURES, paramiko
from sshfs_plugin.volume import Remote

LARGEST_PACKET = 256 * 1024
"""Bytes. OpenSSH takes no larger packet, be it of SSH or of SFTP."""

LONGEST_GREETING = 64 * 1024
"""Bytes of text that a server may send before it says that it speaks SSH."""

MOST_BEYOND = 16
"""How often a message may be read beyond its end, where paramiko finds zeros: old servers leave out what comes last."""

LARGEST_NUMBER = 8192 // 8 + 1
"""Bytes of a number in a key exchange, with the one that says that it is positive. OpenSSH takes no larger group."""

UNNOTICED_SECONDS = 0.1
"""For how long the end of a connection to a jump host may be unnoticed where that of what goes through it is not."""

_SERVICE_REQUEST = bytes((paramiko.common.MSG_SERVICE_REQUEST,))
_LOGIN_SERVICE = "ssh-userauth"
_KEY_WOULD_DO = paramiko.common.MSG_USERAUTH_INFO_REQUEST
"""SSH_MSG_USERAUTH_PK_OK of RFC 4252; it depends on the login's method what the number means."""


class TooLong(paramiko.SSHException):  # type: ignore[misc]  # Debian's paramiko carries no types
    """The server sends a longer packet or greeting than ssh would take."""


class TooMuch(paramiko.SSHException):  # type: ignore[misc]  # as above
    """The server sends more than was asked for and there is room for, which paramiko would all keep."""


class Malformed(paramiko.SSHException):  # type: ignore[misc]  # as above
    """A message says that more is in it than there is, has a number to compute with for ever, or comes out of turn."""


class Message(paramiko.Message):  # type: ignore[misc]  # as above
    """A message that can be read to its end, and hardly beyond.

    Some have a number of items before the items. paramiko would read as many as that says, up to 2^32, of nothing.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._length, self._beyond = len(content), 0

    def get_bytes(self, n: int) -> bytes:
        """Return the next bytes. Raises Malformed if too many were asked for beyond the end."""
        if n and self.packet.tell() >= self._length:
            self._beyond += 1
            if self._beyond > MOST_BEYOND:
                raise Malformed("a message that ends too early")
        data: bytes = super().get_bytes(n)
        return data

    def get_mpint(self) -> int:
        """Return the next number. Raises Malformed for a negative one, and for one that is larger than SSH has."""
        number: bytes = self.get_binary()
        if number[:1] >= b"\x80" or len(number) > LARGEST_NUMBER:
            raise Malformed("a number that no key exchange has")
        return int.from_bytes(number, "big")


def _within_window(feed: Callable[[paramiko.Channel, Message], None]) -> Callable[[paramiko.Channel, Message], None]:
    """Let what comes for a channel be kept unless it is more than the channel's window."""

    def feed_if_it_fits(channel: paramiko.Channel, message: Message) -> None:
        feed(channel, message)
        if len(channel.in_buffer) + len(channel.in_stderr_buffer) > channel.in_window_size:
            raise TooMuch(f"more than the {channel.in_window_size} bytes that it may send at once")

    return feed_if_it_fits


class Transport(paramiko.Transport):  # type: ignore[misc]  # as above
    """A connection that asks for the login service once and reads no packet without a limit.

    Args:
        connection: A connected socket, or a channel of a connection to a jump host.

    Attributes:
        beneath: The connection to the jump host that it goes through, which is closed with it; None if there is none.
    """

    _channel_handler_table: ClassVar = {
        **paramiko.Transport._channel_handler_table,
        paramiko.common.MSG_CHANNEL_DATA: _within_window(paramiko.Channel._feed),
        paramiko.common.MSG_CHANNEL_EXTENDED_DATA: _within_window(paramiko.Channel._feed_extended),
    }

    def __init__(self, connection: object) -> None:
        super().__init__(connection)
        self.beneath: Transport | None = None
        self.packetizer = _Packets(self.sock)
        self._channels = _Channels(self)
        self._has_asked = self._was_closed = False

    @property
    def shown_key(self) -> paramiko.PKey:
        """The host key that the other end has shown, even if the connection has ended since."""
        return self.host_key

    @property
    def first_words(self) -> bytes:
        """What the other end has sent up to its name and version, or instead of them."""
        words: bytes = self.packetizer.first_words
        return words

    def has_gone(self) -> bool:
        """Tell whether the connection has ended, and not by :meth:`close`; a moment is left for that to be noticed."""
        self.join(UNNOTICED_SECONDS)
        return not (self.is_alive() or self._was_closed)

    def close(self) -> None:
        """End it, and before that what it goes through: a jump host that stalls takes no goodbye for half a minute."""
        self._was_closed = True
        if self.beneath:
            self.beneath.close()
        elif isinstance(self.sock, socket.socket):
            # paramiko's thread would keep it open for a moment, and it may be the only one that the server allows
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
        # nor later, nor does a jump host whose connection is ended just now
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            super().close()

    def get_exception(self) -> Exception | None:
        """Return what has ended the connection, once; any error of Python's is about a message out of turn."""
        error: Exception | None = super().get_exception()
        return error if error is None or isinstance(error, FAILURES) else Malformed("a message that makes no sense")

    def offer_key(self, user: str, key: paramiko.PKey, algorithm: str) -> list[str]:
        """Log in with a key that signs with this algorithm, and return the methods that are wanted after it."""
        return self._await(_KeyOffer(self, algorithm), user, key)

    def ask_about_key(self, user: str, key: paramiko.PKey, algorithm: str) -> list[str]:
        """Return nothing if a key would be taken, or if it needs no signature; else raise what ``offer_key`` raises."""
        return self._await(_KeyQuestion(self, algorithm), user, key)

    def _await(self, handler: "_KeyOffer", user: str, key: paramiko.PKey) -> list[str]:
        answered = threading.Event()
        self.auth_handler = handler
        handler.auth_publickey(user, key, answered)
        wanted: list[str] = handler.wait_for_response(answered)
        return wanted

    def _send_message(self, data: Any) -> None:
        """Send a message, but request the login service only once; paramiko does so before each attempt to log in.

        Servers made with Go's x/crypto/ssh hang up at a second request. Its answer is known, so it is made up here.
        (paramiko's own ServiceRequestingTransport waits without limit for a server that does not answer.)
        """
        if data.asbytes()[:1] == _SERVICE_REQUEST:
            if self._has_asked:
                self.auth_handler._parse_service_accept(_granted())
                return
            self._has_asked = True
        super()._send_message(data)


def by_hand(remote: Remote, transport: Transport) -> str:
    """Return the advice to log in to a server by hand, with the command where that needs no jump host."""
    return "log in there by hand once" + ("" if transport.beneath else f", with ssh {remote.arguments}")


class _KeyOffer(paramiko.auth_handler.AuthHandler):  # type: ignore[misc]  # as above
    """A login with a key whose algorithm is known; paramiko would choose one by rules that are not those of ssh."""

    def __init__(self, transport: Transport, algorithm: str) -> None:
        super().__init__(transport)
        self._algorithm = algorithm

    def _finalize_pubkey_algorithm(self, _key_type: str) -> str:
        return self._algorithm


class _KeyQuestion(_KeyOffer):
    """The question whether a key would be taken, which ssh asks before it lets an agent sign; paramiko has none."""

    def _request_auth(self) -> None:
        question = paramiko.Message()
        question.add_byte(paramiko.common.cMSG_USERAUTH_REQUEST)
        question.add_string(self.username)
        question.add_string("ssh-connection")
        question.add_string("publickey")
        question.add_boolean(False)
        question.add_string(self._algorithm)
        question.add_string(self.private_key.asbytes())
        self.transport._send_message(question)

    @property
    def _handler_table(self) -> dict[int, Callable[..., None]]:
        return {**super()._handler_table, _KEY_WOULD_DO: self._be_welcome}

    def _be_welcome(self, *_message: object) -> None:
        """End the wait. paramiko 2.12 gives the handler as well as the message."""
        self.authenticated = True
        self.auth_event.set()


class _Channels(paramiko.transport.ChannelMap):  # type: ignore[misc]  # as above
    """The channels of a connection, each of which knows it before other threads see the channel.

    paramiko tells it a moment later. A connection that ends in between has to end a channel that does not know it.
    """

    def __init__(self, transport: Transport) -> None:
        super().__init__()
        self._transport = transport

    def put(self, chanid: int, chan: paramiko.Channel) -> None:
        chan._set_transport(self._transport)
        chan.event = _Answered(chan)
        super().put(chanid, chan)


class _Answered(threading.Event):
    """What waits for the answer to a request: it is not waited for, without limit, if the channel has been closed.

    paramiko clears the event before it sends a request, and would forget an end that came just before.
    """

    def __init__(self, channel: paramiko.Channel) -> None:
        super().__init__()
        self._channel = channel

    def clear(self) -> None:
        super().clear()
        if self._channel.closed:
            self.set()


def _granted() -> paramiko.Message:
    message = paramiko.Message()
    message.add_string(_LOGIN_SERVICE)
    message.rewind()
    return message


class _Packets(paramiko.packet.Packetizer):  # type: ignore[misc]  # as above
    """Refuses packets and greetings that are longer than SSH has, and messages that end too early."""

    def __init__(self, connection: object) -> None:
        super().__init__(connection)
        self.first_words = b""

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        if n > LARGEST_PACKET:
            raise TooLong(f"a packet of {n} bytes")
        data: bytes = super().read_all(n, check_rekey)
        return data

    def read_message(self) -> tuple[int, Message]:
        """Return the kind of the next message and what is in it."""
        kind, message = super().read_message()
        bounded = Message(message.asbytes())
        bounded.seqno = message.seqno
        return kind, bounded

    def _read_timeout(self, timeout: float) -> bytes:
        """Read a part of the lines that come before the first packet."""
        data: bytes = super()._read_timeout(timeout)
        self.first_words += data
        if len(self.first_words) > LONGEST_GREETING:
            raise TooLong("text without end")
        return data
