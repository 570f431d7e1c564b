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


class SharedLogin:
    """One volume's share in it.

    Attributes:
        is_known_good: Whether the server has just let in another.
    """

    def __init__(self, file: str) -> None:
        """Take part.

        Args:
            file: The file in which they meet; empty if there is none.
        """
        self._file, self._locked, self._waits_since, self.is_known_good = file, -1, 0.0, False

    def ask(self, now: float) -> tuple[bool, bytes]:
        """Tell whether to log in.

        Args:
            now: The time, on the monotonic clock, which all have in common.

        Returns:
            Whether to. If not, the words with which the server has just refused another; none if one is logging in.
        """
        self.is_known_good = False
        if not self._file:
            return True, b""
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
                return False, b""
            self._waits_since = 0.0
            return True, b""
        except (OSError, ValueError):  # then each by itself
            self.give_up()
            return True, b""
        self._waits_since = 0.0
        if not counts:
            return True, b""
        self.give_up()
        self.is_known_good = not words
        return self.is_known_good, words

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
