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
        """Note whether the file system is read-only. A mount that alone is so does not count: somebody wants that."""
        self._directory = directory
        self._was_read_only = _mode(directory) == "ro"

    @property
    def is_outdated(self) -> bool:
        """Whether the file system can be written to by now, but not by our mount (docs/facts.md)."""
        return self._was_read_only and _mode(self._directory) == "rw"


def _mode(directory: Path) -> str:
    """Return the mode of a file system, ro or rw, if our mount of it is read-only; else empty, or if none can tell."""
    words = ["findmnt", "--noheadings", "--output", "FS-OPTIONS", "--target", str(directory)]
    try:
        if not os.statvfs(directory).f_flag & os.ST_RDONLY:
            return ""
        options = command.run(words, seconds=FINDMNT_SECONDS).stdout.strip().split(",")
    except (OSError, errors.ProgramError):
        return ""
    return options[0] if options[0] in ("ro", "rw") else ""
