# SPDX-License-Identifier: MIT
"""A session on the connection that a volume shares with others (docs/how-it-works.md, "Shared connections")."""

import os
from select import select
from time import monotonic

from sshfs_plugin.relay import packets
from sshfs_plugin.relay.session import Session

MAKING_SECONDS = 50.0
"""How long to wait for a connection that is just being made."""

SESSION_SECONDS = 2.0
"""How long a session may take to begin; then the connection counts as hung, and no other volume waits for it.

It is short, since Podman waits for a Mount for 4.5 seconds.
"""

LOOK_SECONDS = 0.005


LONGEST_WORDS = 4096

NOT_IN_TIME = "the connection that is shared could not be made in time"


class NotMade(Exception):
    """The connection could not be made; a login by ourselves would be refused as well, and count with the server.

    Its text is what ssh has said.
    """


def begin_session(command: list[str], directory: str) -> Session | None:
    """Ask a shared connection for a session; return None if the connection has ended, or hangs.

    Args:
        command: What starts an ssh with a connection of its own.
        directory: That of the shared connection; empty for none.

    Raises:
        NotMade: It was to be made for this volume.
    """
    socket = f"{directory}/socket"
    if not directory or not _await(directory, socket):
        return None
    try:
        return Session(socket, command, seconds=SESSION_SECONDS)
    except (BlockingIOError, TimeoutError):
        _note(directory, "hung")
    except OSError:  # it has ended just now
        pass
    return None


def has_begun(session: Session, directory: str) -> bool:
    """Wait for the server's answer to the first packet; tell whether it has come."""
    if not select((session.descriptor,), (), (), SESSION_SECONDS)[0]:
        _note(directory, "hung")
        return False
    answer = session.answered()
    if packets.OF_OPENSSH in answer:
        _note(directory, "openssh")
    return answer != b""


def question_ahead(directory: str, path: bytes) -> bytes:
    """Return a request for the attributes of a path, to be sent at once, which saves a round trip.

    Args:
        directory: That of the shared connection.
        path: The path, empty to ask for none.

    Returns:
        The request, as our first; empty where an earlier session has not found that the server is OpenSSH's.
    """
    if not path or not os.path.exists(f"{directory}/openssh"):
        return b""
    return packets.build(packets.LSTAT, packets.FIRST_OWN_ID, packets.string(path))


def _note(directory: str, what: str) -> None:
    """Note something of a connection by an empty file."""
    try:
        os.close(os.open(f"{directory}/{what}", os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError:  # the connection has ended
        pass


def _await(directory: str, socket: str) -> bool:
    """Tell whether there is a connection; one that is being made is waited for. Raises NotMade."""
    limit = monotonic() + MAKING_SECONDS
    while os.path.exists(f"{directory}/making") and not os.path.exists(socket):
        if monotonic() > limit:
            raise NotMade(NOT_IN_TIME)
        select((), (), (), LOOK_SECONDS)
    try:
        with open(f"{directory}/failed", "rb") as failed:
            raise NotMade(failed.read(LONGEST_WORDS).decode("utf-8", "replace").strip() or NOT_IN_TIME)
    except OSError:
        return os.path.exists(socket)
