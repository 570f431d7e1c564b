# SPDX-License-Identifier: MIT
"""SSH servers on loopback, inside the test process: true ones, made of paramiko's server side, and impostors.

A true server has one account, locked into a directory, and tells which logins and requests for files it saw. An
impostor takes connections and then does anything but SSH.
"""

import contextlib
import functools
import io
import os
import posixpath
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko

from sshfs_plugin.host import command

LOOPBACK = "127.0.0.1"
KEY, PASSWORD, TYPED, NOTHING = "publickey", "password", "keyboard-interactive", "none"

_Outcome = int
_PASSWD_CHANGEREQ = b"\x3c"
"""SSH_MSG_USERAUTH_PASSWD_CHANGEREQ of RFC 4252, for which paramiko has no name."""


def write_key(file: Path, form: str, number: int = 1) -> Path:
    """Write a private key that ssh-keygen has made, and the public one beside it.

    Args:
        file: Where to.
        form: ``ed25519``, ``ecdsa`` or ``rsa`` for OpenSSH's own form, or with ``-PEM`` or ``-PKCS8`` after it.
        number: Tells keys of the same form apart; those of the same number and kind are made once.
    """
    private, public = _key_pair(form, number)
    file.write_text(private)
    file.chmod(0o600)
    public_key(file).write_text(public)
    return file


def public_key(file: Path) -> Path:
    """Return where the public key of a private key is."""
    return file.with_name(f"{file.name}.pub")


@functools.cache
def _key_pair(form: str, number: int) -> tuple[str, str]:
    kind, _, encoding = form.partition("-")
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "key"
        if encoding:
            write_key(file, kind, number)
            _run("ssh-keygen", "-q", "-p", "-m", encoding, "-P", "", "-N", "", "-f", file)
        else:
            bits = ("-b", "2048") if kind == "rsa" else ()
            _run("ssh-keygen", "-q", "-t", kind, *bits, "-N", "", "-C", "", "-f", file)
        return file.read_text(), public_key(file).read_text()


def _run(*argv: str | Path) -> None:
    command.run(argv, seconds=10).check_returncode()


@functools.cache
def host_key(kind: str, number: int = 1) -> paramiko.PKey:
    """Return the host key of a kind (ed25519, ecdsa or rsa) that has this number."""
    if kind == "ed25519":
        return paramiko.Ed25519Key.from_private_key(io.StringIO(_key_pair(kind, number)[0]))
    of_kind = paramiko.ECDSAKey if kind == "ecdsa" else paramiko.RSAKey
    return of_kind.from_private_key(io.StringIO(_key_pair(f"{kind}-PEM", number)[0]))


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
        expired: Whether the server wants a new password first.
        sftp: Whether there is SFTP.
        greeting: What the login's start-up files print.
        last_words: What the program for SFTP says before it ends at once; empty if it stays.
        changes: What may be changed: ``open`` to make files, ``write`` to fill them, ``remove``, ``mkdir``.
        answers: Status codes to give to requests such as ``list /private``.
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
    expired: bool = False
    sftp: bool = True
    greeting: bytes = b""
    last_words: bytes = b""
    changes: Sequence[str] = ()
    answers: Mapping[str, int] = field(default_factory=dict)
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
    """

    account: Account
    host_keys: Sequence[paramiko.PKey]
    tune: Callable[[Any], None]
    port: int
    seen: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _transports: list[paramiko.Transport] = field(default_factory=list)

    @property
    def connections(self) -> int:
        """How many connections it has accepted."""
        return len(self._transports)

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
                transport.set_subsystem_handler("sftp", _Subsystem, _Files, self)
                transport.start_server(event=threading.Event(), server=_Login(self, transport))

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
    with _listening(address) as listener:
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


@contextlib.contextmanager
def impostor(says: bytes = b"", *, hangs_up: bool = False) -> Iterator[int]:
    """Run something that is no SSH server and yield its port: it says something and may hang up then."""
    connections: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                connection.sendall(says)
                if hangs_up:  # closed before it has read what the client says, it could take its own words back
                    connection.shutdown(socket.SHUT_WR)

    with _listening(LOOPBACK) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in connections:
                connection.close()


@contextlib.contextmanager
def deaf() -> Iterator[int]:
    """Yield a port that answers no connection request, as behind a firewall: the queue of its listener is full."""
    with socket.socket() as listener, socket.socket() as first:
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        first.connect(listener.getsockname())
        yield listener.getsockname()[1]


def proposal(connect: Callable[[int], object]) -> list[list[str]]:
    """Return the algorithms that a client proposes: the name-lists of SSH_MSG_KEXINIT, in the order of RFC 4253."""
    with _listening(LOOPBACK) as listener:
        thread = threading.Thread(target=connect, args=(listener.getsockname()[1],), daemon=True)
        thread.start()
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as received:
            connection.sendall(b"SSH-2.0-test\r\n")
            received.readline()
            length = int.from_bytes(received.read(4), "big")
            packet = paramiko.Message(received.read(length))
        thread.join()
    packet.get_bytes(1 + 1 + 16)  # the length of the padding, the number of the message, the cookie
    return [packet.get_list() for _ in range(10)]


def closed_port() -> int:
    """Return a port at which nobody listens."""
    with socket.socket() as unused:
        unused.bind((LOOPBACK, 0))
        port: int = unused.getsockname()[1]
        return port


def _listening(address: str) -> socket.socket:
    return socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)


class _Login(paramiko.ServerInterface):  # type: ignore[misc]  # Debian's paramiko carries no types
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
        return paramiko.server.InteractiveQuery("", "", ("Password: ", False))

    def check_auth_interactive_response(self, responses: Sequence[str]) -> _Outcome:
        return self._judge(TYPED, fits=list(responses) == [self.server.account.password])

    def check_channel_request(self, kind: str, chanid: int) -> _Outcome:
        accepted: int = paramiko.OPEN_SUCCEEDED
        return accepted

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        self.server.meet(f"subsystem {name}", self.transport)
        return self.server.account.sftp and super().check_channel_subsystem_request(channel, name)

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


class _Subsystem(paramiko.SFTPServer):  # type: ignore[misc]  # as above
    """SFTP of a login that may print something first."""

    def start_subsystem(self, name: str, transport: paramiko.Transport, channel: paramiko.Channel) -> None:
        account = self.server.server.account
        channel.sendall(account.greeting)
        if account.last_words:
            channel.recv(1)  # the client has its answer by then
            channel.sendall_stderr(account.last_words)
            channel.send_exit_status(127)
            channel.close()
            return
        super().start_subsystem(name, transport, channel)

    def finish_subsystem(self) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self.sock.send_exit_status(0)
        super().finish_subsystem()


class _Files(paramiko.SFTPServerInterface):  # type: ignore[misc]  # as above
    """The account's directory; what would change it is told in ``Server.seen`` and refused if need be."""

    def __init__(self, login: _Login, server: Server) -> None:
        super().__init__(login)
        self.transport = login.transport
        self.server = server

    def canonicalize(self, path: str) -> str:
        self.server.meet(f"canonicalize {path}", self.transport)
        return self._absolute(path)

    def list_folder(self, path: str) -> Any:
        return self._answer("list", path, _entries)

    def stat(self, path: str) -> Any:
        return self._answer("stat", path, lambda place: paramiko.SFTPAttributes.from_stat(place.stat()))

    def lstat(self, path: str) -> Any:
        return self._answer("lstat", path, lambda place: paramiko.SFTPAttributes.from_stat(place.lstat()))

    def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> Any:
        if "open" not in self.server.account.changes:
            return self._refuse("open", path)
        return self._answer("open", path, lambda place: _File(self.server, place, flags))

    def mkdir(self, path: str, attr: paramiko.SFTPAttributes) -> Any:
        if "mkdir" not in self.server.account.changes:
            return self._refuse("mkdir", path)
        return self._answer("mkdir", path, lambda place: _done(place.mkdir))

    def remove(self, path: str) -> Any:
        if "remove" not in self.server.account.changes:
            return self._refuse("remove", path)
        return self._answer("remove", path, lambda place: _done(place.unlink))

    def rmdir(self, path: str) -> int:
        return self._refuse("rmdir", path)

    def rename(self, oldpath: str, newpath: str) -> int:
        return self._refuse("rename", oldpath)

    def posix_rename(self, oldpath: str, newpath: str) -> int:
        return self._refuse("rename", oldpath)

    def chattr(self, path: str, attr: paramiko.SFTPAttributes) -> int:
        return self._refuse("chattr", path)

    def symlink(self, target_path: str, path: str) -> int:
        return self._refuse("symlink", path)

    def _absolute(self, path: str) -> str:
        return posixpath.normpath(posixpath.join(self.server.account.home, path))

    def _answer(self, verb: str, path: str, find: Callable[[Path], Any]) -> Any:
        path = self._absolute(path)
        self.server.meet(f"{verb} {path}", self.transport)
        time.sleep(self.server.account.pause)
        if (status := self.server.account.answers.get(f"{verb} {path}")) is not None:
            return status
        try:
            return find(Path(f"{self.server.account.directory}{path}"))
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)

    def _refuse(self, verb: str, path: str) -> int:
        self.server.meet(f"{verb} {self._absolute(path)}", self.transport)
        refused: int = paramiko.SFTP_PERMISSION_DENIED
        return refused


def _done(change: Callable[[], None]) -> int:
    change()
    done: int = paramiko.SFTP_OK
    return done


class _File(paramiko.SFTPHandle):  # type: ignore[misc]  # as above
    """A file that was just made, on a disk that may be full."""

    def __init__(self, server: Server, place: Path, flags: int) -> None:
        super().__init__(flags)
        self.server = server
        self.writefile = os.fdopen(os.open(place, flags, 0o600), "wb")

    def write(self, offset: int, data: bytes) -> int:
        outcome: int = paramiko.SFTP_FAILURE
        if "write" in self.server.account.changes:
            outcome = super().write(offset, data)
        return outcome


def _entries(directory: Path) -> list[paramiko.SFTPAttributes]:
    entries = []
    for entry in os.scandir(os.fsencode(directory)):
        attributes = paramiko.SFTPAttributes.from_stat(entry.stat(follow_symlinks=False))
        # as bytes, since names need not be UTF-8
        attributes.filename = entry.name
        entries.append(attributes)
    return entries
