# SPDX-License-Identifier: MIT
"""The mounts by which a sandboxed service sees the host's file systems, and keeps as they were when it started."""

import os
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.host import command

FINDMNT_SECONDS = 5.0


class OwnMount:
    """Our mount of the file system of a directory: read-only ever after if that was so when we started."""

    def __init__(self, directory: Path) -> None:
        """Note whether the file system is read-only; not whether the mount alone is, which somebody wants so."""
        self._directory = directory
        self._was_read_only = _is_read_only(directory)

    @property
    def is_outdated(self) -> bool:
        """Whether the file system can be written to by now, but not by our mount (docs/facts.md)."""
        return self._was_read_only and not _is_read_only(self._directory)


def _is_read_only(directory: Path) -> bool:
    """Return whether the file system itself is read-only; False where nobody can tell."""
    words = ["findmnt", "--noheadings", "--output", "FS-OPTIONS", "--target", str(directory)]
    try:
        if not os.statvfs(directory).f_flag & os.ST_RDONLY:
            return False
        shown = command.run(words, seconds=FINDMNT_SECONDS).stdout
    except (OSError, errors.ProgramError):
        return False
    return "ro" in shown.strip().split(",")
