# SPDX-License-Identifier: MIT
"""What the exit codes of the command mean; the manual page lists them."""

import enum

from sshfs_plugin import errors


class Exit(enum.IntEnum):
    """How the command ends."""

    FINE = 0
    BROKEN = 1
    USAGE = 2
    UNREACHABLE = 3
    INTERRUPTED = 130


def exit_for(error: errors.PluginError) -> Exit:
    """Return how the command ends with an error."""
    match error:
        case errors.ServiceError():
            return Exit.UNREACHABLE
        case errors.RequestError() | errors.VolumeNotFound():
            return Exit.USAGE
        case _:
            return Exit.BROKEN
