# SPDX-License-Identifier: MIT
"""What a program does at a mountpoint, and what it sees there."""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from integration.plugin import Plugin
from integration.sshd import Server


@contextmanager
def mounted(plugin: Plugin, server: Server, name: str, **options: str) -> Iterator[tuple[Path, Path]]:
    """Mount a new directory of the server; give the mountpoint and the directory."""
    directory = server.make(name)
    plugin.create(name, server.options(directory, **options))
    yield plugin.mount(name), directory
    plugin.unmount(name)
    plugin.call("Remove", Name=name)


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Open a file."""
    file = os.open(path, flags)
    try:
        yield file
    finally:
        os.close(file)


def error_of(act: Callable[[], object]) -> int:
    """Return the number of the error that something fails with; 0 if it does not."""
    try:
        act()
    except OSError as error:
        return error.errno or -1
    return 0


def is_back(mountpoint: Path) -> bool:
    """Tell whether the server answers for a name that nothing can have remembered."""
    return error_of((mountpoint / secrets.token_hex(8)).stat) == errno.ENOENT


def waits(thread: int) -> bool:
    """Tell whether a thread of this process waits in the kernel, and not for its turn with the interpreter."""
    task = Path(f"/proc/self/task/{thread}")
    state = (task / "stat").read_text().rpartition(")")[2].split()[0]
    return state != "R" and "futex" not in (task / "wchan").read_text()
