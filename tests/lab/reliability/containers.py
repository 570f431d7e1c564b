# SPDX-License-Identifier: MIT
"""What runs in containers while something fails: logs and readers that tell what became of each line and byte."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lab.host import STAY, Host
from lab.machines.commands import Result

Record = Callable[[str, object], None]
"""pytest's record_property."""

MEBIBYTES = 64
"""The size of a large file: enough to catch a program that copies it in the middle."""

NUMBERS = (
    "trap exit TERM; i=$(cat /written /failed 2>/dev/null | wc -l); "
    "while true; do i=$((i+1)); read -r now rest </proc/uptime; "
    "if echo $i | dd of=/data/log oflag=append conv=notrunc,fsync 2>/dev/null; then echo $i $now >>/written; "
    "else echo $i $now >>/failed; fi; sleep 0.05; done"
)
"""What a container runs that writes a numbered log, asks for each line whether it is on the disk, and goes on."""

ECHO = (
    "trap exit TERM; i=0; while true; do i=$((i+1)); read -r now rest </proc/uptime; "
    "if echo $i >>/data/log; then echo $i $now >>/written; else echo $i $now >>/failed; sleep 0.05; fi; done"
)
"""What a container runs that writes such a log as fast as it can, and looks at errors of the write alone."""

IN = ("docker", "exec")


def large_file(host: Host, directory: str) -> str:
    """Make a large file on the server, and return its sum."""
    host.machine.sh(f"head -c {MEBIBYTES}M /dev/urandom >{directory}/large; chown alice: {directory}/large")
    return checksum(host, f"{directory}/large")


def checksum(host: Host, path: str) -> str:
    """Return the sum of a file of the machine."""
    return host.machine.run("md5sum", path).stdout.split()[0]


def in_container(host: Host, container: str, text: str, *, check: bool = True) -> Result:
    """Run a script in a container, for a minute at most, since its files may hang."""
    return host.machine.run(*IN, container, "sh", "-c", text, check=check, timeout=60)


def seconds_up(host: Host) -> float:
    """Return the time, as the containers see it."""
    return float(host.machine.read("/proc/uptime").split()[0])


class Log:
    """The numbered log of a container, and what became of each number."""

    def __init__(self, host: Host, container: str, directory: str) -> None:
        self._host, self._container, self._directory = host, container, directory

    def _noted(self, file: str) -> dict[int, float]:
        said = in_container(self._host, self._container, f"cat /{file} 2>/dev/null", check=False).stdout
        return {int(number): float(when) for number, when in (line.split() for line in said.splitlines())}

    @property
    def written(self) -> dict[int, float]:
        """The numbers that are on the server's disk, as the container was told, and when each was begun."""
        return self._noted("written")

    @property
    def failed(self) -> dict[int, float]:
        """The numbers for which it had an error."""
        return self._noted("failed")

    def await_failure(self, before: int = 0) -> None:
        """Wait until the container has had an error, or more than before."""
        self._host.machine.until(lambda: len(self.failed) > before)

    def await_progress(self) -> None:
        """Wait until more numbers are written."""
        before = len(self.written)
        self._host.machine.until(lambda: len(self.written) > before + 5)

    def await_recovery(self) -> float:
        """Wait until numbers are written again, see that there is no error any more, and return how long it took."""
        last = max(self.written)
        self._host.machine.until(lambda: max(self.written) > last + 5)
        failed = self.failed
        self.await_progress()
        assert self.failed == failed, "there are errors after the server's return"
        written = self.written
        times = list(failed.values())
        return min(when for when in written.values() if when > times[-1]) - times[0] if times else 0.0

    def check(self) -> None:
        """Check that nothing of what the container was told to be written is lost, and nothing is there twice."""
        written, failed = self.written, self.failed
        numbers = [int(number) for number in self._host.machine.read(f"{self._directory}/log").split()]
        assert set(written) - set(numbers) == set(), "what was acknowledged is lost"
        assert numbers == sorted(set(numbers)), "something was written twice, or later"
        known = {**written, **failed}
        assert {number for number in numbers if number <= max(known)} <= set(known)


@contextmanager
def logging(host: Host, volume: str, directory: str, program: str = NUMBERS) -> Iterator[Log]:
    """Let a container write a numbered log meanwhile, and check at the end that nothing is lost."""
    container = f"logger-{volume}"
    host.start(container, volume, program)
    log = Log(host, container, directory)
    try:
        log.await_progress()
        yield log
        log.await_progress()
        log.check()
    finally:
        host.machine.run("docker", "rm", "-f", container)


def await_state(host: Host, volume: str, state: str, reason: str = "") -> str:
    """Wait until a volume is in a state, for a reason that its error names, and return the error."""

    def error() -> str:
        return str(host.status(volume).get("lastError", ""))

    # five minutes is what a server may take to write a file to its disk
    host.machine.until(lambda: host.status(volume)["state"] == state and reason in error(), timeout=400)
    return error()


@contextmanager
def reading(host: Host, volume: str, directory: str) -> Iterator[str]:
    """Let a container have a file open that it goes on to read when /go is there, and sum up into /sum."""
    expected, container = large_file(host, directory), f"reader-{volume}"
    paced = (
        "exec 3</data/large; dd bs=64k count=1 <&3 >/first 2>/dev/null; touch /opened; "
        f"until test -e /go; do sleep 0.05; done; cat /first - <&3 | /bin/busybox md5sum >/sum; touch /done; {STAY}"
    )
    host.start(container, volume, paced)
    host.machine.until(lambda: in_container(host, container, "test -e /opened"))
    try:
        yield container
        host.machine.until(lambda: in_container(host, container, "test -e /done"))
        assert in_container(host, container, "cat /sum").stdout.split()[0] == expected
    finally:
        host.machine.run("docker", "rm", "-f", container)
