# SPDX-License-Identifier: MIT
"""Operations by chance on mounted volumes: with the relay they do what they do without it, and nothing comes late."""

import errno
import hashlib
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from support.delay import delayed
from support.long import normally

from integration.mountpoints import Log, error_of, is_back, mounted
from integration.plugin import Plugin, await_that, stopping
from integration.sshd import Server, start_server
from sshfs_plugin.relay.outage import EVERY_SECONDS

MOST_BYTES = 300_000
"""Of a write, a read or a file: more than a packet of SFTP, and less than is read ahead."""

ROUND_TRIP_SECONDS = 0.02
"""To a server whose connections are cut, so that at any moment requests and replies are on their way."""

WRITERS, LOGS = 8, 2


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
        # not for longer: sshfs and the kernel remember each of two names of one file by itself, so what is read by one
        # after a change by the other depends on how long ago that was
        path = self._path()
        path.hardlink_to(self._path())
        path.unlink()

    def _symlink(self) -> None:
        self._path().symlink_to(self._chance.choice("abcdef"))

    def _follow(self) -> Path:
        return self._path().readlink()

    def _chmod(self) -> None:
        path, mode = self._path(), self._chance.choice((0o600, 0o644, 0o755))
        # what is in a directory that can't be entered is seen for as long as it is remembered, so by chance
        path.chmod(mode | 0o100 if path.is_dir() else mode)

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


class Change(NamedTuple):
    """Something that a program does with names in a directory.

    Attributes:
        kind: What it does.
        act: Does it, in whatever directory, and returns what comes of it.
        data: What it writes, if it does.
        place: From which byte on; None to begin a new file.
        names: With which names.
    """

    kind: str
    act: Callable[[Path], object]
    data: bytes = b""
    place: int | None = 0
    names: tuple[str, str] = ("", "")

    @property
    def what(self) -> str:
        """What it does, for the reader of a failure."""
        return f"{self.kind} of {len(self.data)} bytes at {self.place}, {self.names}"

    def part(self, before: bytes, after: bytes, found: bytes) -> bool:
        """Tell whether a file is as if the first part of the data had been written, and no more."""
        same = next((n for n, pair in enumerate(zip(found, after, strict=False)) if pair[0] != pair[1]), len(found))
        base = b"" if self.place is None else before
        place = self.place or 0
        written = self.data[: max(min(same, len(after)) - place, 0)]
        return found in (base, base[:place].ljust(place, b"\0") + written + base[place + len(written) :])


class Writer:
    """A program that does by chance what leaves something, on two volumes, of which one loses its connections.

    It does it there first. What succeeds is on the server then. What fails for want of a connection was done, once, or
    was not. What fails otherwise fails on the other volume, too. After a failure of the first kind it goes on in new
    directories, since what sshfs remembers of the old ones for a while may be wrong.

    Attributes:
        unsure: How often something failed for want of a connection.
        happened: How often it had happened all the same.
    """

    def __init__(self, name: str, here: tuple[Path, Path], there: tuple[Path, Path], cutting: threading.Lock) -> None:
        """Choose the name, the mountpoints of both volumes and what is behind them, and what is held during a cut."""
        self.unsure = self.happened = self.steps = 0
        self._chance = random.Random(name)  # noqa: S311 (no secret)
        self._name, self._cutting = name, cutting
        self._here, self._there = self._volumes = here, there
        self._directories: list[str] = []

    def run(self, stop: threading.Event) -> None:
        """Go on until told to stop."""
        self._begin()
        while not stop.is_set():
            self.steps += 1
            self._step()

    def verify(self) -> None:
        """Check that nothing has changed since."""
        for name in self._directories:
            self._compare(name, "all: something came late")

    def _begin(self) -> None:
        """Make new directories."""
        for number in itertools.count(len(self._directories)):
            name = f"{self._name}-{number}"
            if error_of((self._here[0] / name).mkdir) == 0:
                break
            await_that(lambda: is_back(self._here[0]), "the connection is back")
        (self._there[0] / name).mkdir()
        self._directories.append(name)

    def _step(self) -> None:
        change, name = self._change(), self._directories[-1]
        got = _outcome(change, self._here[0] / name)
        if got == "EIO":
            self.unsure += 1
            self._resolve(change, name)
            self._begin()
            return
        expected = _outcome(change, self._there[0] / name)
        assert _brief(got) == _brief(expected), f"step {self.steps} of {name}: {change.what}"
        self._compare(name, f"step {self.steps}: {change.what}")

    def _compare(self, name: str, when: str) -> None:
        here, there = ({path: _brief(what) for path, what in content(each[1] / name).items()} for each in self._volumes)
        assert here == there, f"{name} after {when}"

    def _resolve(self, change: Change, name: str) -> None:
        """Find out whether something that failed was done; do it on the other volume as far as it was."""
        with self._cutting:  # until then it may go on
            found = content(self._here[1] / name)
        before = content(self._there[1] / name)
        if found == before:
            return
        self.happened += 1
        _outcome(change, self._there[0] / name)
        after = content(self._there[1] / name)
        assert found.keys() == after.keys(), f"step {self.steps} of {name}: {change.what}"
        for path, (mode, what) in found.items():
            if what != after[path][1]:
                _, earlier = before.get(path, (0, b""))
                assert isinstance(what, bytes)
                assert isinstance(earlier, bytes)
                assert isinstance(whole := after[path][1], bytes)
                assert change.part(earlier, whole, what), f"step {self.steps} of {name}: {change.what}"
                (self._there[1] / name / path).write_bytes(what)
            assert mode == after[path][0], f"step {self.steps} of {name}: {change.what}"

    def _change(self) -> Change:
        chance = self._chance
        names = os.listdir(self._there[1] / self._directories[-1])
        # no hard links: what is written to one name is seen under the other after a while only
        old, new = chance.choice(sorted(names) or "abcd"), chance.choice("abcdef")
        size, data = chance.randrange(MOST_BYTES), chance.randbytes(chance.choice((1, 100, 5000, MOST_BYTES)))
        mode = chance.choice((0o600, 0o644, 0o755))
        return chance.choice(
            (
                Change("put", lambda root: _write(root / new, os.O_CREAT | os.O_TRUNC, data), data, None),
                Change("create", lambda root: _write(root / new, os.O_CREAT | os.O_EXCL, data), data, None),
                Change("amend", lambda root: _write(root / old, 0, data, size), data, size),
                Change("truncate", lambda root: os.truncate(root / old, size)),
                *[Change("mkdir", lambda root: (root / new).mkdir())] * 2,
                *[Change("rmdir", lambda root: (root / old).rmdir())] * 2,
                Change("unlink", lambda root: (root / old).unlink()),
                *[Change("rename", lambda root: (root / old).rename(root / new) and None)] * 2,
                Change("symlink", lambda root: (root / new).symlink_to(old)),
                Change("chmod", lambda root: (root / old).chmod(mode)),
                Change("list", lambda root: sorted(os.listdir(root))),
                Change("read", lambda root: (root / old).read_bytes()),
            )
        )._replace(names=(old, new))


def _brief(what: object) -> object:
    """Return something that can be compared, and read where it differs."""
    if isinstance(what, tuple):
        return tuple(map(_brief, what))
    return f"{len(what)} bytes, {hashlib.sha256(what).hexdigest()}" if isinstance(what, bytes) else what


def _outcome(change: Change, root: Path) -> object:
    """Do something; return what comes of it, or the name of its error."""
    try:
        return change.act(root)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def _write(path: Path, flags: int, data: bytes, place: int = 0) -> None:
    """Write to a file as a careful program does it."""
    file = os.open(path, os.O_WRONLY | flags, 0o644)
    try:
        assert os.pwrite(file, data, place) == len(data)
        os.fsync(file)
    finally:
        os.close(file)


def _ssh_of(plugin: Plugin, name: str) -> int:
    """Return the process of a volume's connection, be it its own."""
    with suppress(AssertionError):
        return plugin.program_of(name, "/usr/bin/ssh")
    return plugin.connection_of(name)


@contextmanager
def deaf(ssh: int) -> Iterator[None]:
    """Let a connection bring no reply any more, and end; what is on its way to the server is done there."""
    os.kill(ssh, signal.SIGSTOP)
    try:
        time.sleep(2 * ROUND_TRIP_SECONDS)  # it may be too short on a busy host, which then tries something else
        yield
    finally:
        os.kill(ssh, signal.SIGKILL)  # else it would bring the replies that it has


@pytest.mark.timeout(normally(300, 1800))
def test_what_programs_do_while_connections_are_cut_is_done_once_or_never(plugin: Plugin, server: Server) -> None:
    """Several of them, at random moments: what succeeds is on the server, and what fails does not come about later."""
    chance, cutting = random.Random(1), threading.Lock()  # noqa: S311 (no secret)
    with (
        start_server(model=server) as shaky,
        delayed(shaky.port, ROUND_TRIP_SECONDS) as port,
        mounted(plugin, shaky, "storm", port=str(port)) as here,
        mounted(plugin, server, "calm", relay="no") as there,
        ThreadPoolExecutor(WRITERS + LOGS) as threads,
    ):
        writers = [Writer(f"writer{number}", here, there, cutting) for number in range(WRITERS)]
        logs = [Log(here[0] / f"log{number}") for number in range(LOGS)]
        with stopping() as stop:

            def log(log: Log) -> None:
                while not stop.is_set():
                    error_of(log.append)

            working = [threads.submit(writer.run, stop) for writer in writers]
            working += [threads.submit(log, each) for each in logs]
            for turn in range(normally(3, 60)):
                await_that(lambda: is_back(here[0]), "the connection is back")
                # the moment of the cut is what is tried: a connection that has stood for a while is made again at once
                time.sleep(chance.uniform(0, 0.5) + (EVERY_SECONDS if turn % 3 else 0))
                with cutting, deaf(_ssh_of(plugin, "storm")) if turn % 4 != 3 else nullcontext():
                    shaky.cut_connections()
                for each in working:
                    if each.done():
                        each.result()  # it has failed
        for each in working:
            each.result(300)
        await_that(lambda: is_back(here[0]), "the connection is back")
        for writer in writers:
            writer.verify()
        for number, each_log in enumerate(logs):
            each_log.verify(here[1] / f"log{number}")
        counts = {name: sum(getattr(writer, name) for writer in writers) for name in ("steps", "unsure", "happened")}
        print(counts, [len(each_log.acknowledged) for each_log in logs])  # noqa: T201 (pytest -s shows it)
        assert counts["unsure"], "no connection was lost amid anything"


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
