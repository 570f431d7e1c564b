# SPDX-License-Identifier: MIT
"""Debian's own check of what a package leaves behind, on the smallest Debian that there is."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .machines.bootstrap import debootstrap, in_root, let_fetch
from .machines.cache import cached
from .machines.disk import keep_in_memory


def _base(release: str) -> Path:
    """Return a root with nothing but the base system, which can fetch packages."""

    def make(root: Path, log: Path) -> None:
        # on Debian 13 e2fsprogs may not be removed again, so it has to be there before
        debootstrap(log, root, release, "--include=e2fsprogs")
        let_fetch(root, release)
        in_root(log, root, "apt-get update && apt-get --yes dist-upgrade && apt-get clean")

    return cached(f"base-{release}", make)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """Give a directory in which much can be written and removed soon."""
    keep_in_memory(tmp_path)
    yield tmp_path
    if tmp_path.is_mount():
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.long
def test_piuparts_finds_nothing_to_object_to(package: Path, release: str, memory: Path) -> None:
    """Installed, removed, installed again, removed and purged, it leaves no file and no process."""
    assert shutil.which("piuparts"), "this test needs piuparts (apt install piuparts)"
    root = ("-d", release, "--existing-chroot", _base(release), "--keep-sources-list", "--no-eatmydata", "-t", memory)
    # there is no version of it in the archive; debconf sometimes leaves the directory in which it unpacks questions
    tests = ("--install-remove-install", "--no-upgrade-test", "--ignore-regex", "/var/cache/debconf/tmp.ci.*")
    checked = subprocess.run(["piuparts", *root, *tests, package], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout[-5000:] + checked.stderr
    assert "PASS: Installation and purging test." in checked.stdout
