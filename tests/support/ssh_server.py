# SPDX-License-Identifier: MIT
"""SSH servers on loopback, inside the test process, made of paramiko's server side.

Each has one account, locked into a directory, and tells which logins and requests for files it saw.
"""

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko

from support.impostors import LOOPBACK, listening
from support.sftp_server import Files, Subsystem
from support.ssh_keys import host_key

KEY, PASSWORD, TYPED, NOTHING = "publickey", "password", "keyboard-interactive", "none"
_Outcome = int
_PASSWD_CHANGEREQ = b"\x3c"
"""SSH_MSG_USERAUTH_PASSWD_CHANGEREQ of RFC 4252, for which paramiko has no name."""

_CHANNEL_EXTENDED_DATA = b"\x5f"

FLOOD_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who can log in, by what, and what happens then.

    Attributes:
        directory: What the account is locked into; it sees this as ``/``.
        home: Where relative paths start.
        password: Empty if none fits.
        keys: Public keys as ``authorized_keys`` has them.
        certificates: Whether certificates of these keys are accepted, too.
        ways: Sequences of methods, of which each lets in: ``AuthenticationMethods`` of sshd_config.
        question: What it asks where something is to be typed.
        expired: Whether the server wants a new password first.
        sftp: Whether there is SFTP.
        extensions: The extensions of SFTP that it announces, beside paramiko's.
        greeting: What the login's start-up files print.
        floods: When it sends far more than its client says that it has room for: ``before`` its answer to a request for
            a subsystem, or ``after`` that, in place of the subsystem's answer; empty for never.
        last_words: What the program for SFTP says before it ends at once; empty if it stays.
        changes: What may be changed: ``open`` to make files, ``write`` to fill them, ``remove``, ``mkdir``.
        answers: Status codes to give to requests such as ``list /private``, or ``stat /private/.``; of an iterator
            one after the other, and then what is so.
        forwards: Whether it lets the login connect elsewhere from there.
        pause: Seconds that each request for files takes.
        stalls_at: A login method or request that is never answered.
        hangs_up_at: A login method or request at which the connection is closed.
    """

    directory: Path
    home: str = "/"
    password: str = ""
    keys: Sequence[str] = ()
    certificates: bool = False
    ways: Sequence[tuple[str, ...]] = ((KEY,), (PASSWORD,))
    question: str = "Password: "
    expired: bool = False
    sftp: bool = True
    extensions: Sequence[str] = ()
    greeting: bytes = b""
    floods: str = ""
    last_words: bytes = b""
    changes: Sequence[str] = ()
    answers: Mapping[str, int | Iterator[int]] = field(default_factory=dict)
    forwards: bool = False
    pause: float = 0
    stalls_at: str = ""
    hangs_up_at: str = ""


@dataclass(slots=True, kw_only=True)
class Server:
    """A running server.

    Attributes:
        account: Its only account; any login name will do.
        host_keys: What it proves itself with.
        tune: Changes the transport of a new connection, to a server of another age.
        port: Where it listens.
        seen: The login methods that were tried and the requests for files, in their order.
        typed: What was answered to questions that were to be answered by hand.
        flooded: How many bytes it has sent without being asked.
    """

    account: Account
    host_keys: Sequence[paramiko.PKey]
    tune: Callable[[Any], None]
    port: int
    seen: list[str] = field(default_factory=list)
    typed: list[str] = field(default_factory=list)
    flooded: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _transports: list[paramiko.Transport] = field(default_factory=list)

    @property
    def connections(self) -> int:
        """How many connections it has accepted."""
        return len(self._transports)

    @property
    def open_connections(self) -> int:
        """How many of them have not ended."""
        return sum(transport.is_active() for transport in self._transports)

    def hang_up(self) -> None:
        """Close all connections; new ones are accepted."""
        for transport in self._transports:
            transport.close()

    def go_on(self) -> None:
        """Answer what has stalled."""
        self._over.set()

    def end_sftp(self) -> None:
        """End SFTP in all connections, which stay."""
        for transport in self._transports:
            for channel in list(transport._channels.values()):
                channel.close()

    def serve(self, listener: socket.socket) -> None:
        """Accept connections until the listener is shut down."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as sshd does
                transport = paramiko.Transport(connection)
                self._transports.append(transport)
                for key in self.host_keys:
                    transport.add_server_key(key)
                self.tune(transport)
                transport.set_subsystem_handler("sftp", Subsystem, Files, self)
                transport.start_server(event=threading.Event(), server=Login(self, transport))

    def end(self) -> None:
        """Close every connection."""
        self._over.set()
        for transport in self._transports:
            transport.close()

    def meet(self, what: str, transport: paramiko.Transport) -> None:
        """Note a login method or a request, and misbehave if this is the one."""
        self.seen.append(what)
        if what == self.account.stalls_at:
            self._over.wait()
        if what == self.account.hangs_up_at:
            transport.close()


@contextlib.contextmanager
def serving(
    account: Account,
    host_keys: Sequence[paramiko.PKey] = (),
    tune: Callable[[Any], None] = lambda transport: None,
    address: str = LOOPBACK,
) -> Iterator[Server]:
    """Run a true server; without a word its host key is an ed25519 one."""
    with listening(address) as listener:
        server = Server(
            account=account, host_keys=host_keys or (host_key("ed25519"),), tune=tune, port=listener.getsockname()[1]
        )
        thread = threading.Thread(target=server.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            server.end()


class Login(paramiko.ServerInterface):  # type: ignore[misc]  # Debian's paramiko carries no types
    """One connection's way through the methods that its account asks for, after a single service request."""

    def __init__(self, server: Server, transport: paramiko.Transport) -> None:
        self.server = server
        self.transport = transport
        self.passed: tuple[str, ...] = ()
        self.asked = False

    def get_banner(self) -> tuple[str | None, str | None]:
        """Hang up at a second service request, as servers made with Go's x/crypto/ssh do; this is called at each."""
        if self.asked:
            self.transport.close()
        self.asked = True
        return None, None

    def get_allowed_auths(self, username: str) -> str:
        done = len(self.passed)
        ways = [way for way in self.server.account.ways if way[:done] == self.passed]
        return ",".join(dict.fromkeys(way[done] for way in ways))

    def check_auth_none(self, username: str) -> _Outcome:
        return self._judge(NOTHING, fits=True)

    def check_auth_password(self, username: str, password: str) -> _Outcome:
        if self.server.account.expired:
            self._ask_for_a_new_password()
        return self._judge(PASSWORD, fits=bool(password) and password == self.server.account.password)

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> _Outcome:
        known = [line.split()[1] for line in self.server.account.keys]
        plain = key.public_blob is None
        return self._judge(KEY, fits=key.get_base64() in known and (plain or self.server.account.certificates))

    def check_auth_interactive(self, username: str, submethods: str) -> _Outcome | paramiko.server.InteractiveQuery:
        if TYPED not in self.get_allowed_auths(username):
            return self._judge(TYPED, fits=False)
        return paramiko.server.InteractiveQuery("", "", (self.server.account.question, False))

    def check_auth_interactive_response(self, responses: Sequence[str]) -> _Outcome | paramiko.server.InteractiveQuery:
        self.server.typed.extend(responses)
        if self.server.account.expired and len(self.server.typed) == 1:
            return paramiko.server.InteractiveQuery("", "", ("New password: ", False), ("Retype new password: ", False))
        return self._judge(TYPED, fits=list(responses) == [self.server.account.password])

    def check_channel_request(self, kind: str, chanid: int) -> _Outcome:
        accepted: int = paramiko.OPEN_SUCCEEDED
        return accepted

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> _Outcome:
        self.server.meet(f"forward to {destination[0]}", self.transport)
        if not self.server.account.forwards:
            prohibited: int = paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
            return prohibited
        try:
            there = socket.create_connection(destination)
        except OSError:
            failed: int = paramiko.OPEN_FAILED_CONNECT_FAILED
            return failed
        threading.Thread(target=self._forward, args=(chanid, there), daemon=True).start()
        accepted: int = paramiko.OPEN_SUCCEEDED
        return accepted

    def _forward(self, number: int, there: socket.socket) -> None:
        """Pass on what comes from a channel and what comes for it, until either ends."""
        while (channel := self.transport.accept(10)) and channel.get_id() != number:
            pass
        with contextlib.suppress(OSError, EOFError), there:
            while channel:  # there is none if the connection has ended
                for ready in select.select((channel, there), (), ())[0]:
                    data = ready.recv(65536)
                    (there if ready is channel else channel).sendall(data)
                    if not data:
                        channel.close()
                        return

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        self.server.meet(f"subsystem {name}", self.transport)
        if self.server.account.floods == "before":
            self._flood(channel)
        if self.server.account.floods:
            threading.Thread(target=self._flood_when_asked, args=(channel,), daemon=True).start()
            return True
        return self.server.account.sftp and super().check_channel_subsystem_request(channel, name)

    def _flood_when_asked(self, channel: paramiko.Channel) -> None:
        if channel.recv(1):
            self._flood(channel)

    def _flood(self, channel: paramiko.Channel) -> None:
        words = paramiko.Message()
        words.add_byte(_CHANNEL_EXTENDED_DATA)
        words.add_int(channel.remote_chanid)
        words.add_int(1)  # what a program prints on stderr
        words.add_string(bytes(32768))
        with contextlib.suppress(OSError, EOFError):
            for _ in range(FLOOD_BYTES // 32768):
                self.transport._send_message(words)
                self.server.flooded += 32768

    def _ask_for_a_new_password(self) -> None:
        request = paramiko.Message()
        request.add_byte(_PASSWD_CHANGEREQ)
        request.add_string("Password expired")
        request.add_string("")
        self.transport._send_message(request)

    def _judge(self, method: str, *, fits: bool) -> _Outcome:
        self.server.meet(method, self.transport)
        failed: int = paramiko.AUTH_FAILED
        partly: int = paramiko.AUTH_PARTIALLY_SUCCESSFUL
        fully: int = paramiko.AUTH_SUCCESSFUL
        # ssh asks whether a key would do before it signs with it, so that one key comes twice
        again = self.passed[-1:] == (method,)
        if not fits or not (again or method in self.get_allowed_auths("").split(",")):
            return failed
        if not again:
            self.passed = (*self.passed, method)
        return fully if self.passed in self.server.account.ways else partly
