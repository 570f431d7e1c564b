# SPDX-License-Identifier: MIT
"""What all checks share of paramiko, imported here alone."""

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

FAILURES = (
    *(paramiko.SSHException, paramiko.SFTPError, OSError, EOFError),
    # paramiko trips over what a server should not have sent, and raises for us what its thread has died of
    *(ValueError, IndexError, struct.error),
)
"""What paramiko raises when a server can't or won't do something."""

__all__ = ["ANSWER_SECONDS", "FAILURES", "ended_at", "fell_silent", "paramiko", "reason"]

logging.getLogger("paramiko").setLevel(logging.CRITICAL)


def fell_silent(remote: Remote) -> errors.ServerSilent:
    """Make an error of a server that was heard, and then no more."""
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
    said = errors.last_words(str(error).splitlines()).rstrip(": ")
    return said or ("connection closed" if isinstance(error, EOFError) else type(error).__name__)


@contextlib.contextmanager
def ended_at(deadline: Deadline, transport: paramiko.Transport) -> Iterator[None]:
    """Close a connection at a deadline, by which whoever waits for the server has an error at once.

    Limits of paramiko's own are for single answers, of which a slow server could owe us many, or are missing.
    """
    limit = threading.Timer(deadline.left(), transport.close)
    limit.daemon = True
    limit.start()
    try:
        yield
    finally:
        limit.cancel()
