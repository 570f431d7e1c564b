# SPDX-License-Identifier: MIT
"""Directories that are made once, for all later runs."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from .commands import on_host

CACHE = Path(os.environ.get("SSHFS_LAB_CACHE", "/var/cache/docker-volume-sshfs-lab"))


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock on a file, and say whether it was got; the kernel frees it when we die."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def cached(name: str, make: Callable[[Path, Path], None]) -> Path:
    """Return a directory of the cache; on the first call it is made, by a function that gets it and its log."""
    made = CACHE / name
    making = CACHE / f"{name}.making"
    with locked(CACHE / f"{name}.lock"):
        if not made.is_dir():
            delete(making)
            try:
                making.mkdir()
                make(making, CACHE / f"{name}.log")
                making.rename(made)
            finally:
                delete(making)
    return made


def delete(directory: Path) -> None:
    """Remove a directory with what is immutable in it, and nothing that is mounted there."""
    if directory.exists():
        on_host("chattr", "-R", "-f", "-i", directory, check=False)
        on_host("rm", "-rf", "--one-file-system", directory)
