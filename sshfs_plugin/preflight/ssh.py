# SPDX-License-Identifier: MIT
"""What all rungs share of paramiko, imported here alone."""

import logging
import warnings

from sshfs_plugin import errors
from sshfs_plugin.volume import Remote

with warnings.catch_warnings():
    # paramiko 2.12 names ciphers that its cryptography deprecates; they are not offered
    warnings.simplefilter("ignore")
    import paramiko  # noqa: TID251 (this is the place)

ANSWER_SECONDS = 20.0
"""How long a server may take for one answer."""

__all__ = ["ANSWER_SECONDS", "fell_silent", "paramiko", "reason"]

logging.getLogger("paramiko").setLevel(logging.CRITICAL)


def fell_silent(remote: Remote) -> errors.HostUnreachable:
    """Make an error of a server that was heard, and then no more."""
    return errors.HostUnreachable(
        f"the SSH server at {remote.server} stopped answering",
        "it may be overloaded, or large packets get lost on the way (MTU)",
    )


def reason(error: Exception) -> str:
    """Say in words what a library's exception means."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or ("connection closed" if isinstance(error, EOFError) else type(error).__name__)
