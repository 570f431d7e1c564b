# SPDX-License-Identifier: MIT
"""The client of an ssh-agent (draft-ietf-sshm-ssh-agent), which may be gone, locked or hung."""

import os
import shlex
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.host import local_files

ANSWER_SECONDS = 5.0
LARGEST_ANSWER = 256 * 1024
"""Bytes. ssh takes no more of an agent."""

_WHERE = "does the agent run, and is 'IdentityAgent' its socket on this host?"

_REQUEST_IDENTITIES, _IDENTITIES_ANSWER = 11, 12
_SIGN_REQUEST, _SIGN_RESPONSE = 13, 14


@dataclass(frozen=True, slots=True)
class Agent:
    """An ssh-agent.

    Attributes:
        path: Its socket.
    """

    path: Path

    def keys(self) -> tuple[bytes, ...]:
        """Return its public keys and certificates, at least one, each in SSH's wire format.

        Raises:
            AgentUnusable: It can't be asked, or has none.
            FileStuck: The file system of its socket does not answer.
        """
        answer = self._ask(bytes((_REQUEST_IDENTITIES,)), _IDENTITIES_ANSWER)
        try:
            keys = _identities(answer)
        except ValueError:
            raise self._unintelligible() from None
        if not keys:
            hint = (
                f"SSH_AUTH_SOCK={shlex.quote(str(self.path))} ssh-add KEY adds one; an agent that is locked shows none"
            )
            raise self._unusable("it holds no key", hint)
        return keys

    def sign(self, key: bytes, data: bytes, flags: int) -> bytes:
        """Return a signature of data.

        Args:
            key: One of its public keys.
            data: What to sign.
            flags: Which algorithm to use, where a key has several.

        Raises:
            AgentUnusable: It can't be asked, or does not sign.
            FileStuck: The file system of its socket does not answer.
        """
        request = bytes((_SIGN_REQUEST,)) + _string(key) + _string(data) + flags.to_bytes(4, "big")
        try:
            return take_string(self._ask(request, _SIGN_RESPONSE))[0]
        except ValueError:
            raise self._unintelligible() from None

    def _ask(self, request: bytes, expected: int) -> bytes:
        """Return the answer to a request, without its type."""
        self._require_socket()
        limit = Deadline.after(ANSWER_SECONDS)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(limit.left())
                connection.connect(str(self.path))
                connection.sendall(_string(request))
                length = int.from_bytes(_receive(connection, 4, limit), "big")
                if not 0 < length <= LARGEST_ANSWER:
                    raise self._unintelligible()
                kind, answer = _receive(connection, 1, limit)[0], _receive(connection, length - 1, limit)
        except (TimeoutError, BlockingIOError):
            raise self._unusable(
                f"it did not answer within {ANSWER_SECONDS:.0f} seconds", "does it wait for a person, or hang?"
            ) from None
        except ConnectionRefusedError:
            raise self._unusable("nobody listens there", "start it again, with ssh-agent -a and this path") from None
        except EOFError:
            raise self._unintelligible() from None
        except OSError as error:
            raise self._unusable(
                f"{error.strerror or error}", "it must be the socket of an agent that root runs"
            ) from None
        if kind != expected:
            what = "to sign" if expected == _SIGN_RESPONSE else "to name its keys"
            raise self._unusable(f"it refuses {what}", "is it locked, or does it ask a person (ssh-add -c)?")
        return answer

    def _require_socket(self) -> None:
        """Raise AgentUnusable unless root's socket is there: the service may not connect to those of others."""
        try:
            found = local_files.look(self.path)
        except FileNotFoundError:
            what, hint = local_files.absence(self.path, _WHERE)
            raise self._unusable(f"it {what}", hint) from None
        except OSError as error:
            raise self._unusable(f"{error.strerror}", _WHERE) from None
        if not stat.S_ISSOCK(found.mode):
            raise self._unusable("it is not a socket", "name what SSH_AUTH_SOCK is for the agent")
        if found.owner not in (0, os.getuid()):
            raise self._unusable(
                "it belongs to a user other than root", "run an agent for volumes as root, with ssh-agent -a"
            )

    def _unintelligible(self) -> errors.AgentUnusable:
        return self._unusable("it does not answer as an ssh-agent does", "is that the socket of one?")

    def _unusable(self, what: str, hint: str) -> errors.AgentUnusable:
        return errors.AgentUnusable(f"cannot use the ssh-agent at {self.path}, {what}", hint)


def _receive(connection: socket.socket, length: int, limit: Deadline) -> bytes:
    data = b""
    while len(data) < length:
        connection.settimeout(max(limit.left(), 0.001))
        part = connection.recv(length - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def take_string(data: bytes) -> tuple[bytes, bytes]:
    """Split data after the string at its beginning. Raises ValueError if it is shorter."""
    end = 4 + int.from_bytes(data[:4], "big")
    if len(data) < end:
        raise ValueError
    return data[4:end], data[end:]


def _identities(answer: bytes) -> tuple[bytes, ...]:
    """Return the keys of an answer, each of which a comment follows. Raises ValueError if it is malformed."""
    keys, rest = [], answer[4:]
    for _ in range(int.from_bytes(answer[:4], "big")):
        key, rest = take_string(rest)
        _, rest = take_string(rest)
        keys.append(key)
    return tuple(keys)
