# SPDX-License-Identifier: MIT
"""Runs the programs of the distribution: with a time limit, without a shell, in a small environment."""

import contextlib
import logging
import os
import select
import shlex
import subprocess  # noqa: TID251 (this is the place)
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sshfs_plugin import errors

log = logging.getLogger(__name__)

_ENVIRONMENT = {
    "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    "LC_ALL": "C.UTF-8",
    "HOME": os.environ.get("HOME", "/root"),
}


_END_SECONDS = 0.2
"""How long to wait for a killed program to end: a moment will do, unless it hangs in the kernel."""


class _Process(subprocess.Popen[bytes]):
    """A process whose end is noticed at once; Popen looks again after pauses of up to 50 ms."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, as Popen does."""
        if timeout is not None and self.returncode is None:
            ends = time.monotonic() + timeout
            with contextlib.suppress(OSError), _pidfd(self.pid) as descriptor:
                ended = select.poll()
                ended.register(descriptor, select.POLLIN)
                ended.poll(max(0.0, timeout) * 1000)
            timeout = max(0.0, ends - time.monotonic())
        return super().wait(timeout)


_left_behind: list[subprocess.Popen[bytes]] = []
_left_behind_lock = threading.Lock()


def run(
    argv: Sequence[str | Path], *, seconds: float, environment: Mapping[str, str] | None = None, reads: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its exit status and its output, as text.

    Args:
        argv: The program and its arguments.
        seconds: How long it may take.
        environment: Variables beyond the few that every program gets.
        reads: What it finds in its standard input.

    Raises:
        ProgramStuck: It did not end in time and was killed, or hangs since an earlier call and was not started again.
        ProgramNotStarted: It could not be started.
    """
    job = run_for_bytes(argv, seconds=seconds, environment=environment, reads=reads)
    return subprocess.CompletedProcess(job.args, job.returncode, _text(job.stdout), _text(job.stderr))


def run_for_bytes(
    argv: Sequence[str | Path], *, seconds: float, environment: Mapping[str, str] | None = None, reads: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """Run a program as ``run`` does and return its output as bytes.

    A process whose request a FUSE file system has read can't be killed until the request is answered (docs/facts.md).
    Such a process is left behind, and a later call reaps it. Until it has ended, the same program is not started again
    with the same arguments.

    Raises:
        ProgramStuck, ProgramNotStarted: As ``run`` does.
    """
    words = [os.fspath(word) for word in argv]
    log.debug("running %s", shlex.join(words))
    program = Path(words[0]).name
    stuck = errors.ProgramStuck(program, seconds)
    if _is_left_behind(words):
        raise stuck
    try:
        process = _Process(  # never a shell; each caller gives a list of its own words
            words,
            stdin=subprocess.PIPE if reads else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**_ENVIRONMENT, **(environment or {})},
        )
    except OSError as problem:
        raise errors.ProgramNotStarted(program, problem) from problem
    try:
        stdout, stderr = process.communicate(reads.encode() or None, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise stuck from None
    finally:
        if process.returncode is None:
            end(process)
    return subprocess.CompletedProcess(words, process.wait(), stdout, stderr)


def start(argv: Sequence[str | Path]) -> subprocess.Popen[bytes]:
    """Start a program that is spoken to through pipes, to which stdin and stdout lead; ``end`` ends it.

    Raises:
        OSError: It could not be started.
    """
    words = [os.fspath(word) for word in argv]
    log.debug("starting %s", shlex.join(words))
    return _Process(  # as above
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_ENVIRONMENT, bufsize=0
    )


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_left_behind(words: list[str]) -> bool:
    """Reap the processes that have ended, and tell whether one with these words has not."""
    with _left_behind_lock:
        _left_behind[:] = [process for process in _left_behind if process.poll() is None]
        return any(process.args == words for process in _left_behind)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program, and leave it behind if it does not end."""
    process.kill()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            pipe.close()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        with _left_behind_lock:
            _left_behind.append(process)


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace")
