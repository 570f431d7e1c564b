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


class Log:
    """A file to which lines are appended as a careful program does it: it is synced and closed after each.

    Attributes:
        acknowledged: The lines that were appended without an error.
    """

    def __init__(self, path: Path) -> None:
        self.acknowledged: list[bytes] = []
        self._path, self._serial = path, 0

    def append(self) -> None:
        """Append the next line. Raises OSError; it may be there then, but is not acknowledged."""
        self._serial += 1
        line = b"%d" % self._serial
        with self._path.open("ab", buffering=0) as file:
            file.write(b"\n" + line + b"\n")  # so that what is left of another spoils no line
            os.fsync(file.fileno())
        self.acknowledged.append(line)

    def verify(self, kept: Path) -> None:
        """Check that a file, where the server keeps it, has all acknowledged lines in order, and no line twice."""
        expected = list(self.acknowledged)  # before the look: it may be appended to meanwhile
        lines, acknowledged = kept.read_bytes().split(), set(expected)
        assert [line for line in lines if line in acknowledged] == expected, f"{kept} lacks lines"
        assert len(set(lines)) == len(lines), f"{kept} has lines twice"


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
