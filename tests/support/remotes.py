# SPDX-License-Identifier: MIT
"""Files that describe remotes, as an administrator writes them."""

from pathlib import Path

from sshfs_plugin.options.remotes import Remotes

NAS = "host = nas.lan\nuser = alice\n"


def describe(remotes: Remotes, text: str = NAS, *, name: str = "nas", heading: str = "[remote]\n") -> Path:
    """Write or edit the file of a remote."""
    remotes.directory.mkdir(parents=True, exist_ok=True)
    file = remotes.file(name)
    file.touch(mode=0o600)
    file.write_text(heading + text, "utf-8")
    return file
