# SPDX-License-Identifier: MIT
"""What is said where a volume's directory begins with what may be meant as the port."""

from collections.abc import Iterator
from contextlib import contextmanager

from sshfs_plugin import errors
from sshfs_plugin.volume import SSH_PORT, Remote, Volume


def port_meant(volume: Volume) -> Remote | None:
    """Return the remote that may be meant where the directory begins with what may be the port; else None."""
    meant = volume.remote.with_port_from_directory
    # the port of a remote is in its file, whatever the directory begins with
    if volume.remote_name or not meant or volume.remote.port not in (SSH_PORT, meant.port):
        return None
    return meant


@contextmanager
def asking_for_port(volume: Volume) -> Iterator[None]:
    """Add a hint to an error where the directory begins with what may be meant as the port."""
    try:
        yield
    except errors.PreflightError as error:
        meant = port_meant(volume)
        if meant and not isinstance(error, errors.HostUnresolved):
            cure = f"if {meant.port} is meant to be the port, say -o port={meant.port} -o sshcmd={meant.source}"
            if isinstance(error, errors.DirectoryMissing):  # to make it would be to make the mistake last
                cure += f"; a directory that is called so is ./{volume.remote.directory}"
            elif not isinstance(error, errors.HostUnreachable):  # without a connection its own hint leads nowhere
                cure += f"; {error.hint}"
            error.hint = cure
        raise
