# SPDX-License-Identifier: MIT
"""paramiko, which is imported here alone, and what all checks need to use it."""

import contextlib
import logging
import struct
import threading
import warnings
from collections.abc import Iterator

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.volume import Remote

with warnings.catch_warnings():
    # paramiko 2.12 names ciphers that its cryptography deprecates; they are not offered
    warnings.simplefilter("ignore")
    import paramiko  # noqa: TID251 (this is the place)

ANSWER_SECONDS = 20.0
"""How long a server may take for one answer."""

GRACE_SECONDS = 0.2
"""How long after its limit a connection is closed. Before that the limits of single answers end, at the same moment:
their errors tell which answer was missing.
"""

FAILURES = (
    *(paramiko.SSHException, paramiko.SFTPError, OSError, EOFError),
    # from paramiko's own code, in its thread too, over messages that a server should not have sent
    *(ValueError, IndexError, struct.error),
)
"""What paramiko raises when a server can't or won't do something."""

__all__ = [
    "ANSWER_SECONDS",
    "FAILURES",
    "GRACE_SECONDS",
    "closed_on_failure",
    "ended_at",
    "ended_soon_after",
    "fell_silent",
    "paramiko",
    "reason",
]

logging.getLogger("paramiko").setLevel(logging.CRITICAL)


def fell_silent(remote: Remote) -> errors.ServerSilent:
    """Return the error for a server that has stopped answering."""
    return errors.ServerSilent(
        f"the SSH server at {remote.server} stopped answering",
        "it may be overloaded, or large packets get lost on the way (MTU)",
    )


def reason(error: Exception) -> str:
    """Say in words what a library's exception means."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, UnicodeError):
        return "its answer is not in UTF-8"
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    said = errors.last_words(words.splitlines()).rstrip(": ")
    return said or ("connection closed" if isinstance(error, EOFError) else type(error).__name__)


@contextlib.contextmanager
def ended_at(deadline: Deadline, transport: paramiko.Transport) -> Iterator[None]:
    """Close a connection at a deadline; what waits for the server then fails at once.

    paramiko has time limits for single answers at best, and a slow server may have many answers to give.
    """
    limit = threading.Timer(deadline.left(), transport.close)
    limit.daemon = True
    limit.start()
    try:
        yield
    finally:
        limit.cancel()


@contextlib.contextmanager
def closed_on_failure(transport: paramiko.Transport | None) -> Iterator[None]:
    """Close a connection, if there is one, if there is an error."""
    try:
        yield
    except BaseException:
        if transport:
            transport.close()
        raise


@contextlib.contextmanager
def ended_soon_after(deadline: Deadline, transport: paramiko.Transport | None) -> Iterator[None]:
    """Close a connection, if there is one, shortly after a deadline."""
    with ended_at(Deadline(deadline.at + GRACE_SECONDS), transport) if transport else contextlib.nullcontext():
        yield
