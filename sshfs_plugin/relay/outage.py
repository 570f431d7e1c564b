# SPDX-License-Identifier: MIT
"""When a lost server is tried again, and what is told of it: in the journal, and in files that the service reads."""

import os
from select import select

EVERY_SECONDS = 5.0
"""How far apart attempts start at least."""

REFUSED_MINUTES = (1, 10)
"""How long to wait after each refused login; then none follows. fail2ban bans after five within ten minutes."""

SAY_EVERY_SECONDS = 60.0

_REFUSED = (b": Permission denied (", b"Too many authentication failures", b"Host key verification failed")
"""What ssh says of a login, or of a host key, that will not do the next time either."""

LONGEST_WORDS = 300

LONGEST_WRITE = 4096
"""What a pipe takes without waiting if it takes anything."""


def say(words: str) -> None:
    """Tell the journal, if it listens: nothing waits for it."""
    try:
        if select((), (2,), (), 0)[1]:
            os.write(2, words.encode("utf-8", "replace")[: LONGEST_WRITE - 1] + b"\n")
    except OSError:
        pass


class Outage:
    """The time since a connection was lost.

    Attributes:
        since: When that was, on the monotonic clock.
        next_attempt: When to try again.
        started: When the last attempt was started.
    """

    def __init__(self, file: str, now: float, started: float, why: str) -> None:
        """Begin it.

        Args:
            file: The file to write; empty for none.
            now: The time.
            started: When the connection that was lost was started.
            why: What ended it.
        """
        self._file, self._why, self._refusals = file, why, 0
        self.since = self._said = now
        self.started = started
        self.next_attempt = max(now, started + EVERY_SECONDS)
        say(f"the connection is lost ({why}): it is made again, and reads of open files wait for it")
        self._write()

    def failed(self, now: float, why: str, said: bytes) -> None:
        """Note that an attempt has failed."""
        self._why = why
        if any(words in said for words in _REFUSED):
            self._refusals += 1
        if self._refusals > len(REFUSED_MINUTES):
            self.next_attempt = float("inf")
        elif self._refusals:
            self.next_attempt = now + 60 * REFUSED_MINUTES[self._refusals - 1]
        else:
            self.next_attempt = max(now, self.started + EVERY_SECONDS)
        if now - self._said > SAY_EVERY_SECONDS or self.next_attempt == float("inf"):
            self._said = now
            say(self._sentence)
        self._write()

    def over(self, now: float, files: int) -> None:
        """Note that the connection is back, and how many files are open again."""
        say(f"connected again after {now - self.since:.1f} seconds; {files} open files can be read on")
        self._count()
        forget(self._file)

    def _count(self) -> None:
        """Add a byte to the file whose size is the number of outages that are over."""
        if not self._file:
            return
        try:
            with open(os.path.join(os.path.dirname(self._file), "reconnects"), "ab") as file:
                file.write(b"\n")
        except OSError as error:
            say(f"this is not counted: {error.strerror}")

    @property
    def _sentence(self) -> str:
        if self._refusals > len(REFUSED_MINUTES):
            then = "no further login is tried: mend it, then restart the containers that use the volume"
        elif self._refusals:
            minutes = REFUSED_MINUTES[self._refusals - 1]
            then = f"the login is tried again {minutes} minute{'s' * (minutes > 1)} later"
        else:
            then = f"it is tried again every {EVERY_SECONDS:.0f} seconds"
        return f"the connection to the server is lost ({self._why}); {then}"

    def _write(self) -> None:
        if not self._file:
            return
        new = f"{self._file}.{os.getpid()}"
        try:
            with open(new, "wb") as file:
                file.write(self._sentence.encode("utf-8", "replace"))
            os.replace(new, self._file)
        except OSError as error:
            say(f"{self._file}: {error.strerror}")
            self._file = ""


def forget(file: str) -> None:
    """Remove the file, since there is no outage."""
    try:
        os.unlink(file)
    except OSError:
        pass


def last_line(said: bytes) -> str:
    """Return the last line that ssh has said; empty if it has said nothing."""
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    words = lines[-1][-LONGEST_WORDS:] if lines else ""
    return "".join(letter if letter.isprintable() else " " for letter in words)
