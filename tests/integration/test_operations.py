# SPDX-License-Identifier: MIT
"""Operations by chance on mounted volumes: with the relay they do what they do without it, and nothing comes late."""

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from support.long import normally

from integration.mountpoints import error_of, is_back, mounted
from integration.plugin import Plugin, await_that
from integration.sshd import Server, start_server

MOST_BYTES = 300_000
"""Of a write, a read or a file: more than a packet of SFTP, and less than is read ahead."""


class Program:
    """A program that does by chance whatever can be done with files.

    Two of them that are given the same number do the same, as long as they see the same.
    """

    def __init__(self, root: Path, number: int) -> None:
        self._root, self._chance = root, random.Random(number)  # noqa: S311 (no secret)
        self._files: list[int] = []
        self._operations: tuple[Callable[[], object], ...] = (
            *(self._read, self._write, self._append) * 3,
            *(self._open, self._close, self._sync, self._size, self._truncate_open, self._truncate, self._stat) * 2,
            *(self._list, self._make, self._remove, self._rename, self._unlink, self._link, self._symlink),
            *(self._follow, self._chmod, self._touch),
        )

    def step(self) -> tuple[str, object]:
        """Do something; return what, and what came of it."""
        operation = self._chance.choice(self._operations)
        name = operation.__name__.strip("_")
        try:
            return name, operation()
        except OSError as error:
            return name, errno.errorcode[error.errno or 0]

    def end(self) -> None:
        """Close all files."""
        while self._files:
            os.close(self._files.pop())

    def _path(self) -> Path:
        directory = self._chance.choice(("", "", "a", "b", "a/c"))
        return self._root / directory / self._chance.choice("abcdef")

    def _bytes(self) -> bytes:
        return self._chance.randbytes(self._chance.choice((1, 100, 5000, MOST_BYTES)))

    def _file(self) -> int:
        if not self._files:
            self._open()
        return self._chance.choice(self._files)

    def _open(self) -> None:
        path = self._path()
        flags = self._chance.choice((os.O_RDONLY, os.O_WRONLY, os.O_RDWR))
        flags |= self._chance.choice((0, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_CREAT | os.O_TRUNC))
        if len(self._files) > 3:
            self._close()
        self._files.append(os.open(path, flags, 0o644))

    def _close(self) -> None:
        if self._files:
            os.close(self._files.pop(self._chance.randrange(len(self._files))))

    def _read(self) -> bytes:
        place, most = self._chance.randrange(MOST_BYTES), self._chance.randrange(MOST_BYTES)
        return os.pread(self._file(), most, place)

    def _write(self) -> int:
        place, data = self._chance.randrange(MOST_BYTES), self._bytes()
        return os.pwrite(self._file(), data, place)

    def _append(self) -> bytes:
        path, data = self._path(), self._bytes()
        with path.open("ab") as file:
            file.write(data)
        return path.read_bytes()

    def _sync(self) -> None:
        os.fsync(self._file())

    def _size(self) -> int:
        return os.fstat(self._file()).st_size

    def _truncate_open(self) -> None:
        size = self._chance.randrange(MOST_BYTES)
        os.ftruncate(self._file(), size)

    def _truncate(self) -> None:
        path, size = self._path(), self._chance.randrange(MOST_BYTES)
        os.truncate(path, size)

    def _stat(self) -> tuple[int, int]:
        found = self._path().lstat()
        return found.st_mode, found.st_size if not self._is_directory(found.st_mode) else 0

    def _list(self) -> list[str]:
        return sorted(os.listdir(self._path().parent))

    def _make(self) -> None:
        self._path().mkdir()

    def _remove(self) -> None:
        self._path().rmdir()

    def _rename(self) -> None:
        self._path().rename(self._path())

    def _unlink(self) -> None:
        self._path().unlink()

    def _link(self) -> None:
        self._path().hardlink_to(self._path())

    def _symlink(self) -> None:
        self._path().symlink_to(self._chance.choice("abcdef"))

    def _follow(self) -> Path:
        return self._path().readlink()

    def _chmod(self) -> None:
        self._path().chmod(self._chance.choice((0o600, 0o644, 0o755)))

    def _touch(self) -> int:
        path, moment = self._path(), self._chance.randrange(2**31)
        os.utime(path, (moment, moment))
        return int(path.stat().st_mtime)

    @staticmethod
    def _is_directory(mode: int) -> bool:
        return mode & 0o170000 == 0o040000


def content(directory: Path) -> dict[str, tuple[int, object]]:
    """Return all that is below a directory."""
    found: dict[str, tuple[int, object]] = {}
    for path in sorted(directory.rglob("*")):
        mode = path.lstat().st_mode
        what = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        found[str(path.relative_to(directory))] = mode, what
    return found


@pytest.mark.parametrize("number", range(normally(2, 20)))
def test_whatever_programs_do_the_relay_changes_nothing_of_it(plugin: Plugin, server: Server, number: int) -> None:
    steps = normally(1000, 5000)
    with (
        mounted(plugin, server, f"with-{number}") as (relayed, here),
        mounted(plugin, server, f"without-{number}", relay="no") as (bare, there),
    ):
        programs = Program(relayed, number), Program(bare, number)
        try:
            for step in range(steps):
                got, expected = (program.step() for program in programs)
                assert got == expected, f"step {step} of program {number}"
        finally:
            for program in programs:
                program.end()
    # a file that was removed while it was open is there until then
    assert content(here) == content(there)


def test_changes_amid_lost_connections_are_made_at_once_or_never(plugin: Plugin, server: Server) -> None:
    """What succeeds is on the server then, and what fails does not come about later."""
    chance = random.Random(1)  # noqa: S311 (no secret)
    with start_server(model=server) as shaky, mounted(plugin, shaky, "storm") as (mountpoint, directory):
        logged: list[bytes] = []

        def log() -> None:
            line = chance.randbytes(8).hex().encode()
            with (mountpoint / "log").open("ab", buffering=0) as file:
                file.write(b"\n" + line + b"\n")
                os.fsync(file.fileno())
            logged.append(line)

        def path() -> Path:
            return mountpoint / chance.choice("abcd")

        def rename() -> None:
            old, new = path(), path()
            old.rename(new)
            assert old == new or not (directory / old.name).exists()
            assert (directory / new.name).exists()

        def make() -> None:
            new = path()
            new.mkdir()
            assert (directory / new.name).is_dir()

        def remove() -> None:
            old = path()
            old.rmdir()
            assert not (directory / old.name).exists()

        acts, failed = (log, log, rename, make, remove), 0
        for turn in range(normally(12, 300)):
            before = content(directory)
            if turn % 3 == 1:
                shaky.cut_connections()
            if turn % 6 != 1:
                await_that(lambda: is_back(mountpoint), "the connection is back")
            assert content(directory) == before, "something came late"
            failed += error_of(chance.choice(acts)) == errno.EIO
            lines = (directory / "log").read_bytes().split() if (directory / "log").exists() else []
            assert [line for line in lines if line in logged] == logged
        assert failed, "no connection was lost amid anything"
        await_that(lambda: is_back(mountpoint), "the connection is back")


def test_what_was_changed_just_now_looks_as_it_does_on_the_server(plugin: Plugin, server: Server) -> None:
    """The relay answers some looks from what it has seen before."""
    chance = random.Random(2)  # noqa: S311 (no secret)
    with mounted(plugin, server, "seen") as (here, there):
        for name in ("a", "b", "a/c"):
            (here / name).mkdir()
        for step in range(1, normally(300, 3000)):
            directory, other = (here / chance.choice(("", "a", "b", "a/c")) for _ in range(2))
            for each in (directory, other):
                os.utime(each, (step, step))  # so that a change of it can be told
            _change(directory / f"{step}", other, chance)
            for each in (directory, other):
                assert _looks(each) == _looks(there / each.relative_to(here)), f"step {step}"


def _change(path: Path, other: Path, chance: random.Random) -> None:
    """Make something at a path, and change it."""
    if chance.random() < 0.2:
        path.mkdir()
        path.rmdir()
    else:
        flags = os.O_RDWR | os.O_CREAT | chance.choice((os.O_EXCL, os.O_EXCL, os.O_TRUNC))
        file = os.open(path, flags, chance.choice((0o600, 0o644)))
        if chance.random() < 0.3:
            os.utime(path.parent, (1, 1))
        if chance.random() < 0.5:
            assert os.fstat(file).st_size == 0
        if chance.random() < 0.5:
            os.write(file, b"content")
            assert os.fstat(file).st_size == len(b"content")
        if chance.random() < 0.3:
            path.chmod(0o640)
            assert os.fstat(file).st_mode & 0o777 == 0o640
        os.close(file)
    if path.exists() and chance.random() < 0.3:
        path.rename(other / "moved")
    elif path.exists() and chance.random() < 0.3:
        path.unlink()
    elif chance.random() < 0.2:
        path.with_name(f"{path.name}-link").symlink_to("a")
    elif chance.random() < 0.2:
        path.parent.chmod(chance.choice((0o700, 0o755)))


def _looks(directory: Path) -> tuple[int, int]:
    status = directory.stat()
    return status.st_mode, int(status.st_mtime)
