# SPDX-License-Identifier: MIT
"""The one place that runs the programs of the distribution: bounded, without a shell, in a small environment."""

import logging
import os
import shlex
import subprocess  # noqa: TID251 (this is the place)
from collections.abc import Mapping, Sequence
from pathlib import Path

from sshfs_plugin import errors

log = logging.getLogger(__name__)

_ENVIRONMENT = {
    "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    "LC_ALL": "C.UTF-8",
    "HOME": os.environ.get("HOME", "/root"),
}


_left_behind: list[subprocess.Popen[str]] = []


def run(
    argv: Sequence[str | Path], *, seconds: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its exit status and what it printed.

    Args:
        argv: The program and its arguments.
        seconds: How long it may take.
        environment: Variables beyond the few that every program gets.

    Raises:
        ProgramStuck: It did not end in time and was killed.
        OSError: It could not be started.
    """
    words = [os.fspath(word) for word in argv]
    log.debug("running %s", shlex.join(words))
    try:
        return subprocess.run(  # noqa: S603 (never a shell; each caller gives a list of its own words)
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env={**_ENVIRONMENT, **(environment or {})},
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise errors.ProgramStuck(Path(words[0]).name, seconds) from None


def output_within(argv: Sequence[str | Path], *, seconds: float) -> str | None:
    """Run a program that may hang beyond the reach of SIGKILL, and return what it printed, or None.

    A process whose request sshfs has read can't be killed until the request is answered (docs/facts.md), so
    it is left behind after the limit instead of being waited for, and reaped by a later call. The same program with the
    same arguments is not started again before.
    """
    words = [os.fspath(word) for word in argv]
    _left_behind[:] = [one for one in _left_behind if one.poll() is None]
    if words in (one.args for one in _left_behind):
        return None
    process = subprocess.Popen(  # noqa: S603 (as above)
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=_ENVIRONMENT,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        if process.stdout:
            process.stdout.close()
        _left_behind.append(process)
        return None
    return output if process.returncode == 0 else None
