# SPDX-License-Identifier: MIT
"""What volumes with the same login tell each other once they have lost the connection that they shared.

One of them logs in first, and the others wait for what becomes of it: a login that the server refuses is refused for
all, and counts once with the server. They meet in a file: who logs in first has it locked, and writes the time into it
and the words of the refusal, none if the server has let it in.
"""

import fcntl
import os

COUNTS_SECONDS = 10.0
"""For how long the outcome of one volume's login counts for the others, which are all due within five seconds."""

WAIT_SECONDS = 20.0
"""How long to wait for the login of another: longer than ssh takes to find, by default, that it can't connect."""

LOOK_SECONDS = 0.05
"""How often to look meanwhile."""

LONGEST_CONTENT = 4096


class Turn:
    """Whether it is a volume's turn to log in.

    Attributes:
        has_come: Whether it is.
        is_let_in: Whether the server has just let in another.
        refusal: The words with which it has just refused another; empty if it has not, as while another logs in.
    """

    __slots__ = ("has_come", "is_let_in", "refusal")

    def __init__(self, *, has_come: bool, is_let_in: bool = False, refusal: bytes = b"") -> None:
        self.has_come, self.is_let_in, self.refusal = has_come, is_let_in, refusal


class SharedLogin:
    """One volume's share in it."""

    def __init__(self, file: str) -> None:
        """Take part.

        Args:
            file: The file in which they meet; empty if there is none.
        """
        self._file, self._locked, self._waits_since = file, -1, 0.0

    def ask(self, now: float) -> Turn:
        """Tell whether to log in, at a time on the monotonic clock, which all have in common."""
        if not self._file:
            return Turn(has_come=True)
        self.give_up()
        try:
            self._locked = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
            when, _, words = os.read(self._locked, LONGEST_CONTENT).partition(b" ")
            counts = abs(now - float(when or "-inf")) < COUNTS_SECONDS
        except BlockingIOError:
            self.give_up()
            self._waits_since = self._waits_since or now
            if now - self._waits_since <= WAIT_SECONDS:
                return Turn(has_come=False)
            self._waits_since = 0.0
            return Turn(has_come=True)
        except (OSError, ValueError):  # then each by itself
            self.give_up()
            return Turn(has_come=True)
        self._waits_since = 0.0
        if not counts:
            return Turn(has_come=True)
        self.give_up()
        return Turn(has_come=not words, is_let_in=not words, refusal=words)

    def tell(self, now: float, words: bytes) -> None:
        """Tell the others that the server has let us in, or the words with which it has refused us."""
        if self._locked < 0:
            return
        try:
            os.ftruncate(self._locked, 0)
            os.pwrite(self._locked, b"%.3f %s" % (now, words[: LONGEST_CONTENT // 2]), 0)
        except OSError:  # then each by itself
            pass
        self.give_up()

    def give_up(self) -> None:
        """Let another log in first: what has become of ours tells nothing of theirs."""
        if self._locked >= 0:
            os.close(self._locked)
            self._locked = -1
