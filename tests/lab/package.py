# SPDX-License-Identifier: MIT
"""The package that is put on a machine."""

import os
import shutil
import subprocess
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def package_in(directory: Path) -> Path:
    """Return the package of ``$SSHFS_PACKAGE``, or one that is built of this tree, in a directory."""
    if given := os.environ.get("SSHFS_PACKAGE"):
        return Path(given)
    source = directory / "source"
    shutil.copytree(_ROOT, source, symlinks=True, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    subprocess.run(
        ["dpkg-buildpackage", "-us", "-uc", "-b", "-Pnocheck"],
        cwd=source,
        env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return next(directory.glob("docker-volume-sshfs_*.deb"))
