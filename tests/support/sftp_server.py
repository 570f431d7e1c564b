# SPDX-License-Identifier: MIT
"""The files of the SSH server inside the test process."""

import contextlib
import os
import posixpath
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paramiko

if TYPE_CHECKING:
    from support.ssh_server import Login, Server


class Subsystem(paramiko.SFTPServer):  # type: ignore[misc]  # Debian's paramiko carries no types
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

    def _send_packet(self, kind: int, packet: paramiko.Message) -> None:
        if kind == paramiko.sftp.CMD_VERSION:
            for name in self.server.server.account.extensions:
                packet.add_string(name)
                packet.add_string("1")
        super()._send_packet(kind, packet)

    def finish_subsystem(self) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self.sock.send_exit_status(0)
        super().finish_subsystem()


class Files(paramiko.SFTPServerInterface):  # type: ignore[misc]  # as above
    """The account's directory; what would change it is told in ``Server.seen`` and refused if need be."""

    def __init__(self, login: "Login", server: "Server") -> None:
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

    def _answer(self, verb: str, asked: str, find: Callable[[Path], Any]) -> Any:
        path, answers = self._absolute(asked), self.server.account.answers
        self.server.meet(f"{verb} {path}", self.transport)
        time.sleep(self.server.account.pause)
        for place in (asked, path):
            status = answers.get(f"{verb} {place}")
            if isinstance(status, Iterator):
                status = next(status, None)
            if status is not None:
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

    def __init__(self, server: "Server", place: Path, flags: int) -> None:
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
