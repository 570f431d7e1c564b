# SPDX-License-Identifier: MIT
"""Commands that are bounded, since they may touch a FUSE mount that hangs; failures show what was printed."""

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")

LIMIT = 1200
"""Seconds after which a command hangs: limits end what hangs, and do not judge what is slow on a busy host."""

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a command did.

    Attributes:
        argv: The command, as the caller gave it.
        returncode: Its exit status; negative when a signal ended it.
        seconds: How long it took.
        timed_out: It was killed because it reached its limit.
    """

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float
    timed_out: bool

    def __bool__(self) -> bool:
        """Tell whether it succeeded."""
        return self.returncode == 0

    def __str__(self) -> str:
        """Show everything that a reader of a failed test wants to know."""
        end = "was killed at its limit" if self.timed_out else f"ended with {self.returncode}"
        parts = [f"{shlex.join(self.argv)}\n{end} after {self.seconds:.2f} s"]
        parts += [
            f"--- {name} ---\n{text.rstrip()}"
            for name, text in (("stdout", self.stdout), ("stderr", self.stderr))
            if text.strip()
        ]
        return "\n".join(parts)


def limit(seconds: float) -> tuple[str, ...]:
    """Return the words before a command that kill it after a time."""
    return ("timeout", "-s", "KILL", str(seconds))


def bounded(
    argv: Sequence[str],
    *,
    label: Sequence[str],
    timeout: float,
    stdin: IO[bytes] | None = None,
    inside: bool = False,
) -> Result:
    """Run a command that bears its own limit to its end.

    Its output goes through files: a process that hangs in the kernel, or a daemon that it left
    behind, would keep the writing end of a pipe open and so hold us for ever.

    Args:
        argv: The command, with the words of ``limit``.
        label: How it is shown.
        timeout: Its limit in seconds.
        stdin: What it reads; nothing by default.
        inside: It runs in a machine: with a clean environment, and left to its limit when we are
            interrupted. On the host it has our environment, for proxies, and is killed then.
    """
    ours = {**os.environ, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        process = subprocess.Popen(
            argv,
            stdin=stdin or subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=ENVIRONMENT if inside else ours,
            umask=0o022,
            process_group=0,
        )
        try:
            process.wait(timeout + 10)
        except BaseException:
            if not inside and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
            raise
        seconds = time.monotonic() - started
        # timeout(1) ends itself with the group that it kills, or says that it was killed
        killed = process.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        out.seek(0)
        err.seek(0)
        return Result(
            argv=tuple(label),
            returncode=process.returncode,
            stdout=out.read().decode(errors="replace"),
            stderr=err.read().decode(errors="replace"),
            seconds=seconds,
            timed_out=killed and seconds >= timeout,
        )


def on_host(*argv: str | Path, timeout: float = LIMIT, check: bool = True) -> Result:
    """Run a command on this host; unless told otherwise, fail when it fails."""
    words = [os.fspath(word) for word in argv]
    result = bounded((*limit(timeout), *words), label=words, timeout=timeout)
    if check and not result:
        raise AssertionError(str(result))
    return result


def await_true(
    condition: Callable[[], T], *, timeout: float, failure: Callable[[], str], pause: float | None = None
) -> T:
    """Return what a condition gives as soon as that is something true.

    Args:
        condition: What is awaited.
        timeout: Seconds after which it has failed.
        failure: Gives the words for that.
        pause: Seconds between two looks. Normally they grow: what takes long needs no close look, which may take more
            of the processor than what is awaited.

    Raises:
        AssertionError: It did not come true in time.
    """
    began = time.monotonic()
    while not (outcome := condition()):
        waited = time.monotonic() - began
        if waited > timeout:
            raise AssertionError(failure())
        time.sleep(pause or min(0.05 + waited / 10, 1))
    return outcome
