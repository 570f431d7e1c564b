# SPDX-License-Identifier: MIT
"""Programs that stand in for those of the distribution."""

import textwrap
from dataclasses import dataclass
from pathlib import Path

from sshfs_plugin.settings import Settings
from support.kernel import FakeKernel


@dataclass
class Programs:
    """Executables that come first in PATH and note how they were called.

    Attributes:
        directory: Where they are.
    """

    directory: Path

    def add(self, name: str, script: str = "") -> None:
        """Make an executable out of a shell script, which sees the directory as ``$HERE``."""
        program = self.directory / name
        program.write_text(
            f"#!/bin/sh\nHERE='{self.directory}'\n"
            f'printf \'%s\\n\' "$*" >>"$HERE/{name}.calls"\n{textwrap.dedent(script)}\n'
        )
        program.chmod(0o755)

    def calls(self, name: str) -> list[str]:
        """Return the arguments of each call, in order."""
        noted = self.directory / f"{name}.calls"
        return noted.read_text().splitlines() if noted.exists() else []


STAT_ANSWERED = "echo \"stat: cannot statx '$2': No such file or directory\" >&2; exit 1"
"""What stat does when a mount answers that it has no such name."""


STAT_UNANSWERED = "echo \"stat: cannot statx '$2': Input/output error\" >&2; exit 1"
"""What stat does when sshfs has nobody to ask."""


def answering_releases(settings: Settings, unused: "FakeKernel | None" = None) -> str:
    """Return a systemctl whose release unit answers every request, and unmounts what a kernel has mounted."""
    unmount = f": >{unused.mountinfo}" if unused else ":"
    return (
        f'case "$1 $3" in "start docker-volume-sshfs-release.service") rm -f {settings.releases}/*; {unmount} ;; esac'
    )
