# SPDX-License-Identifier: MIT
"""The check of SFTP: whether the server has it for this login, and with which extensions."""

import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline, time_limit
from sshfs_plugin.preflight.ssh import ANSWER_SECONDS, FAILURES, ended_at, paramiko, reason
from sshfs_plugin.preflight.transport import LARGEST_PACKET, Message, TooMuch, Transport, by_hand
from sshfs_plugin.volume import Remote

_VERSION = 3
"""The version of SFTP; OpenSSH and sshfs speak no other."""

_LISTS_AT_ONCE = "users-groups-by-id@openssh.com"
"""An extension that tells OpenSSH's sftp-server from others, where sshd is OpenSSH's as well. Its OPENDIR tells all:
READDIR has names or an end, and never an error (process_readdir in sftp-server.c). Others look into it at READDIR.
"""

_LARGEST_NAMES = 2**24 - 1
"""Bytes of names that a server may send at once. OpenSSH's sftp takes no more than of anything else; the relay does."""

_STATUS_SECONDS = 1.0
"""How long the exit status of a program may arrive after its end."""

_EXPIRED = "Password change required"
"""What OpenSSH prints in place of starting anything if the password has expired, even if a key was used (session.c)."""


class _Printed(paramiko.SFTPError):  # type: ignore[misc]  # Debian's paramiko carries no types
    """Something else came where SFTP should begin; the message is what came."""


class _Answers(dict[int, tuple[int, Any]]):
    """The answers to requests that were sent together, by the request's number: servers may answer in any order."""

    def _async_response(self, kind: int, message: Any, number: int) -> None:
        """Take an answer; paramiko calls this."""
        self[number] = kind, Message(message.get_remainder())


class Client(paramiko.SFTPClient):  # type: ignore[misc]  # as above
    """An SFTP client that notes the server's extensions, and refuses packets that OpenSSH would refuse.

    Attributes:
        extensions: The names of the extensions that the server announces, such as ``statvfs@openssh.com``.
    """

    _longest = LARGEST_PACKET

    def look_into(self, path: str) -> paramiko.SFTPAttributes:
        """Return the attributes of what is at a path; of a directory only if it can be entered and listed.

        It takes two round trips, or one where the server is OpenSSH's.

        Raises:
            FileNotFoundError, PermissionError: The server says so, of the path or of what is in it.
            FAILURES: Another refusal, or no answer.
        """
        inside, opened = self._asked(
            (paramiko.sftp.CMD_STAT, f"{path.rstrip('/')}/."), (paramiko.sftp.CMD_OPENDIR, path)
        )
        handle = opened[1].get_binary() if opened[0] == paramiko.sftp.CMD_HANDLE else None
        try:
            attributes = self._attributes(path, inside)
            if stat.S_ISDIR(attributes.st_mode or 0):
                if handle is None:
                    self._expected(paramiko.sftp.CMD_HANDLE, opened)
                if not self._lists_at_once:
                    self._longest = _LARGEST_NAMES
                    try:
                        with suppress(EOFError):  # it is empty
                            self._request(paramiko.sftp.CMD_READDIR, handle)
                    finally:
                        self._longest = LARGEST_PACKET
        finally:
            if handle is not None:
                with suppress(*FAILURES):  # the error that is on its way says more
                    self._async_request(type(None), paramiko.sftp.CMD_CLOSE, handle)  # whose answer nobody needs
        return attributes

    @property
    def _lists_at_once(self) -> bool:
        server = self.get_channel().get_transport().remote_version
        return "OpenSSH" in server and _LISTS_AT_ONCE in self.extensions

    def _attributes(self, path: str, inside: tuple[int, Any]) -> paramiko.SFTPAttributes:
        """Return the attributes of what is at a path, given the answer about "." in it: a file has none."""
        refusal: OSError | None = None
        try:
            return paramiko.SFTPAttributes._from_msg(self._expected(paramiko.sftp.CMD_ATTRS, inside))
        except OSError as error:
            refusal = error
        found = self._expected(paramiko.sftp.CMD_ATTRS, self._request(paramiko.sftp.CMD_STAT, path))
        attributes = paramiko.SFTPAttributes._from_msg(found)
        # a server need not know "."; that it lets nobody enter is an answer
        if isinstance(refusal, PermissionError) and stat.S_ISDIR(attributes.st_mode or 0):
            raise refusal
        return attributes

    def _asked(self, *requests: tuple[int, str]) -> list[tuple[int, Any]]:
        """Send requests together and return the answers in the same order, each with its kind."""
        answers = _Answers()
        numbers = [self._async_request(answers, kind, path) for kind, path in requests]
        while any(number not in answers for number in numbers):
            self._read_response()
        return [answers[number] for number in numbers]

    def _request(self, kind: int, *words: Any) -> tuple[int, Any]:
        answered, message = super()._request(kind, *words)
        return answered, Message(message.get_remainder())

    def _expected(self, kind: int, answer: tuple[int, Any]) -> Any:
        """Return the content of an answer of the right kind. Raises OSError for a refusal."""
        if answer[0] == paramiko.sftp.CMD_STATUS:
            self._convert_status(answer[1])
        if answer[0] != kind:
            raise paramiko.SFTPError("its answer is of another kind")
        return answer[1]

    def _convert_status(self, msg: Any) -> None:
        """Raise what a refusal means; its text need not be UTF-8, which paramiko takes for granted."""
        status = paramiko.Message()
        status.add_int(msg.get_int())
        status.add_string(msg.get_string().decode("utf-8", "replace"))
        status.rewind()
        super()._convert_status(status)

    def _send_version(self) -> int:
        hello = paramiko.Message()
        hello.add_int(_VERSION)
        with suppress(OSError):  # the program may have ended already; then its output says why
            self._send_packet(paramiko.sftp.CMD_INIT, hello)
        answer = paramiko.Message(self._read_answer())
        version: int = answer.get_int()
        announced = []
        while answer.get_remainder():
            announced.append(answer.get_string().decode("utf-8", "replace"))
            answer.get_string()  # its version
        self.extensions = frozenset(announced)
        return version

    def _read_answer(self) -> bytes:
        try:
            kind, data = self._read_packet()
        except paramiko.SFTPError:  # what should be a length is text
            kind, data = 0, self._last_read
        if kind != paramiko.sftp.CMD_VERSION:
            more = self.sock.recv(errors.LONGEST_QUOTE) if self.sock.recv_ready() else b""
            raise _Printed((data + more).decode("utf-8", "replace"))
        return bytes(data)

    def _read_all(self, n: int) -> bytes:
        if n > self._longest:
            raise paramiko.SFTPError(f"it sends a packet of {n} bytes")
        self._last_read: bytes = super()._read_all(min(n, LARGEST_PACKET))
        for left in range(n - LARGEST_PACKET, 0, -LARGEST_PACKET):  # of names, which nobody looks at
            super()._read_all(min(left, LARGEST_PACKET))
        return self._last_read


def open_sftp(transport: Transport, remote: Remote, deadline: Deadline) -> Client:
    """Start SFTP over a connection that is logged in.

    Raises:
        SFTPUnavailable: The server did not start it for this login, or not in time; the error says why.
    """
    seconds = time_limit(deadline.left(ANSWER_SECONDS))
    limit = Deadline.after(seconds)
    channel = None
    # paramiko would wait without limit for the answer to a request, unless the connection ends
    with ended_at(limit, transport):
        try:
            channel = transport.open_session(timeout=seconds)
            channel.settimeout(seconds)
            channel.invoke_subsystem("sftp")
            return Client(channel)
        except FAILURES as error:
            if not limit.left():
                raise _too_late(remote) from error
            raise _unavailable(remote, transport, channel, error) from error


def lacks(extensions: frozenset[str], *, renames_in_steps: bool) -> Iterator[str]:
    """Yield, in words, what programs will notice where a server lacks extensions.

    Args:
        extensions: Those that it announces.
        renames_in_steps: Whether sshfs makes up for posix-rename.
    """
    if "posix-rename@openssh.com" not in extensions:
        if renames_in_steps:
            yield "no posix-rename: a file takes the place of another in several steps"
        else:
            yield "no posix-rename: a file can't take the place of another"
    if "statvfs@openssh.com" not in extensions:
        yield "no statvfs: df shows an invented size"
    if "fsync@openssh.com" not in extensions:
        yield "no fsync: programs are not told when a file is on the server's disk"


def _too_late(remote: Remote) -> errors.SFTPUnavailable:
    return errors.SFTPUnavailable(
        f"{remote.account} lets the login in but did not start SFTP in time",
        "it may be busy, or what runs at a login there waits for something, such as a name service or a home directory "
        "on the network; try again",
    )


def _unavailable(
    remote: Remote, transport: Transport, channel: paramiko.Channel | None, error: Exception
) -> errors.SFTPUnavailable:
    subject = f"{remote.account} lets the login in but"
    for fault in (error, transport.saved_exception):  # paramiko gives it to what waits for an answer, or keeps it
        if isinstance(fault, TooMuch):
            return errors.SFTPUnavailable(f"{subject} sends {fault}", "what runs there is no SFTP server")
    if not transport.is_active():
        return errors.SFTPUnavailable(
            f"{subject} closed the connection when it asked for SFTP ({reason(error)})", "its log tells why"
        )
    if channel is None:
        return errors.SFTPUnavailable(
            f"{subject} opens no session for it ({getattr(error, 'text', None) or reason(error)})",
            "its sshd_config may say 'MaxSessions 0', which leaves forwarding alone",
        )
    if isinstance(error, _Printed):
        return errors.SFTPUnavailable(
            f"{subject} prints '{reason(error)}' where SFTP should begin",
            "nothing in the login's start-up files may print, and its shell must let it in; 'Subsystem sftp "
            "internal-sftp' in its sshd_config needs neither",
        )
    if isinstance(error.__context__, EOFError):  # which paramiko replaces by an error of its own
        said = _last_words(channel) or reason(error.__context__)
        if _EXPIRED in said:
            return errors.SFTPUnavailable(
                f"{subject} wants a new password first ({said})", f"{by_hand(remote, transport)}, and choose one"
            )
        return errors.SFTPUnavailable(
            f"{subject} its SFTP ended at once ({said})",
            "the program that 'Subsystem sftp' names in its sshd_config may be missing, or the login's shell starts "
            "nothing; 'Subsystem sftp internal-sftp' needs neither",
        )
    return errors.SFTPUnavailable(
        f"{subject} has no SFTP for it ({reason(error)})",
        "the server needs the line 'Subsystem sftp internal-sftp' in its sshd_config",
    )


def _last_words(channel: paramiko.Channel) -> str:
    """Return the end of what a program printed on stderr, and its exit status if the server tells it."""
    said = channel.recv_stderr(errors.LONGEST_QUOTE) if channel.recv_stderr_ready() else b""
    lines = said.decode("utf-8", "replace").splitlines()
    if channel.status_event.wait(_STATUS_SECONDS) and channel.exit_status >= 0:
        lines.append(f"exit status {channel.exit_status}")
    return errors.last_words(lines)
