# SPDX-License-Identifier: MIT
"""The processes that read files for this one, by ``host/file_reader.py``: each is used again, unless it hangs."""

import errno
import os
import select
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from sshfs_plugin.deadline import Deadline
from sshfs_plugin.host import command, file_reader

FEW = 2
"""As many as are worth having: each answers thousands of requests in a second."""

_SLOW_SECONDS = 0.1
"""How long a request waits for an idle reader before one more is started, since all may hang. If a reader has been
asked for the same path for longer, the request waits for its answer.
"""

STARVED_SECONDS = 25.0
"""How long a reader has in addition that this host has no processor for: no file system keeps it from its answer."""

Answer: TypeAlias = tuple[int, int, int, bytes]
"""The number of an error or 0, mode and owner of a file, and its content."""


class _Ended(Exception):
    """A reader ended before it had answered."""


class _Reader:
    """A process that one thread at a time may ask.

    Attributes:
        has_answered: Whether it ever has.
        is_idle: Whether it has answered all that it was asked.
    """

    def __init__(self) -> None:
        self.has_answered, self.is_idle = False, True
        self._process = command.start([sys.executable, "-I", "-S", file_reader.__file__])
        assert self._process.stdin and self._process.stdout  # noqa: S101 (command.start has seen to it)
        self._asks, self._answers = self._process.stdin.fileno(), self._process.stdout.fileno()
        # at the latest when this process ends
        self._end = weakref.finalize(self, command.end, self._process)
        # it ends by itself when it was idle for long, and somebody must have waited for that
        threading.Thread(target=self._process.wait, name="file reader", daemon=True).start()

    @property
    def has_ended(self) -> bool:
        """Whether its process is no more."""
        return self._process.poll() is not None

    def ask(self, path: Path, wanted: int, seconds: float) -> Answer:
        """Return what it finds at a path.

        Raises:
            _Ended: It has ended.
            TimeoutError: It did not answer in time.
        """
        self.is_idle = False
        name, ends = os.fsencode(path), time.monotonic() + seconds
        request = file_reader.REQUEST.pack(wanted, len(name)) + name
        try:
            while request:
                request = request[os.write(self._asks, request) :]
        except BrokenPipeError:
            raise _Ended from None
        error, mode, owner, length = file_reader.ANSWER.unpack(self._read(file_reader.ANSWER.size, ends))
        content = self._read(length, ends)
        self.has_answered = self.is_idle = True
        return error, mode, owner, content

    def _read(self, length: int, ends: float) -> bytes:
        data = b""
        ready = select.poll()
        ready.register(self._answers, select.POLLIN)
        while len(data) < length:
            in_time = ready.poll(max(0.0, ends - time.monotonic()) * 1000)
            if not in_time and not (self._lacks_processor and ready.poll(STARVED_SECONDS * 1000)):
                raise TimeoutError
            if not (part := os.read(self._answers, length - len(data))):
                raise _Ended
            data += part
        return data

    @property
    def _lacks_processor(self) -> bool:
        """Whether it waits for nothing but a processor."""
        try:
            state = Path(f"/proc/{self._process.pid}/stat").read_bytes().rpartition(b") ")[2][:1]
        except OSError:
            return False
        return state == b"R"

    def end(self) -> None:
        """End it; if it hangs in the kernel, that takes until its file system answers."""
        self._end()


class Readers:
    """The readers of this process: few, unless some hang."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # of the many that may wait for a reader, each that is free wakes one
        self._free, self._answered = threading.Condition(self._lock), threading.Condition(self._lock)
        self._idle: list[_Reader] = []
        self._asked: list[tuple[Path, float]] = []
        self._hung: dict[Path, _Reader] = {}

    def ask(self, path: Path, wanted: int, seconds: float) -> Answer:
        """Return what a reader finds at a path.

        Args:
            path: The file.
            wanted: How many bytes of its content to read at most; none of what is no regular file.
            seconds: How long the file system may take.

        Raises:
            TimeoutError: The file system did not answer in time, or has not answered an earlier call yet.
        """
        deadline = Deadline.after(seconds + STARVED_SECONDS)
        while True:
            with self._one_for(path, deadline) as reader:
                try:
                    return reader.ask(path, wanted, deadline.left(seconds))
                except _Ended:
                    if not reader.has_answered:
                        raise OSError(errno.EIO, "no program can be started that reads files", str(path)) from None
                except TimeoutError:
                    with self._lock:
                        self._hung[path] = reader
                    raise

    @contextmanager
    def _one_for(self, path: Path, deadline: Deadline) -> Iterator[_Reader]:
        """Take a reader to be asked for a path, which is put back if it is of use still. Raises TimeoutError."""
        with self._lock:
            self._await_reader(path, deadline)
            reader = self._idle.pop() if self._idle else None
            asked = path, time.monotonic()
            self._asked.append(asked)
        try:
            reader = reader or _Reader()
            yield reader
        finally:
            with self._lock:
                self._asked.remove(asked)
                if reader and reader.is_idle and len(self._idle) < FEW:
                    self._idle.append(reader)
                    reader = None
                self._free.notify()
                self._answered.notify_all()
            if reader:
                reader.end()

    def _await_reader(self, path: Path, deadline: Deadline) -> None:
        """Wait until a reader may be asked for a path, be it a new one. Raises TimeoutError."""
        while True:
            if not self._answered.wait_for(lambda: not self._is_slow(path), deadline.left()):
                raise TimeoutError
            self._hung = {where: reader for where, reader in self._hung.items() if not reader.has_ended}
            if path in self._hung:
                raise TimeoutError
            if self._idle or sum(not self._is_slow(asked) for asked, _ in self._asked) < FEW:
                return
            self._free.wait(_SLOW_SECONDS)

    def _is_slow(self, path: Path) -> bool:
        """Tell whether a reader has been asked for a path for long."""
        long_ago = time.monotonic() - _SLOW_SECONDS
        return any(asked == path and since <= long_ago for asked, since in self._asked)
