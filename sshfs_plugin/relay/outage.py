# SPDX-License-Identifier: MIT
"""When a lost server is tried again, and what is told of it: in the journal, and in files that the service reads."""

import os
from select import select

from sshfs_plugin.relay.logins import LOOK_SECONDS, SharedLogin

HOLD_SECONDS, LET_IN_SECONDS = 1.0, 5.0
"""For how long requests wait for the connection to be back before they fail at once: after a loss, since most are back
by then; and after the server has let in another volume, since it is there, but many logins at once take longer.
"""

EVERY_SECONDS, UNREACHED_SECONDS = 5.0, 4.0
"""How far apart attempts start at least; the second if ssh could not connect, so that the server has seen no login.

With the time of the login itself, a server that is back is used again within five seconds.
"""

LONGEST_PAUSE_SECONDS = 600.0
"""How long to wait at most after an attempt at a server that hangs; it begins with less, and doubles each time."""

REFUSED_MINUTES = (1, 10)
"""How long to wait after each refused login; then none follows. fail2ban bans after five within ten minutes.

What could not connect has not logged in, and is tried again as ever.
"""

EXPIRED = (b"required to change your password", b"Password change required")
"""What sshd says to a login that it lets in to change its password, and for nothing else."""

SAY_EVERY_SECONDS = 60.0

LONGEST_WORDS = 300

LONGEST_WRITE = 4096
"""What a pipe takes without waiting if it takes anything."""


def say(words: str) -> None:
    """Tell the journal, if it listens: nothing waits for it. What a server has sent may be among the words."""
    lines = "\n".join(map(_printable, words.splitlines()))
    try:
        if select((), (2,), (), 0)[1]:
            os.write(2, lines.encode("utf-8", "replace")[: LONGEST_WRITE - 1] + b"\n")
    except OSError:
        pass


class OutageFiles:
    """The files with which a relay tells of outages; their names are empty for none.

    Attributes:
        outage: That says why the connection is lost, as long as it is.
        login: That it has in common with the relays that make the same login.
    """

    def __init__(self, outage: str, login: str) -> None:
        self.outage, self.login = outage, login


class Outage:
    """The time since a connection was lost.

    Attributes:
        since: When that was, on the monotonic clock.
        hold_until: Until when requests wait for it to be back.
        next_attempt: When to try again.
        started: When the last attempt was started.
    """

    def __init__(self, files: OutageFiles, now: float, started: float, why: str) -> None:
        """Begin it.

        Args:
            files: Those of this relay.
            now: The time.
            started: When the connection that was lost was started.
            why: What ended it.
        """
        self._file, self._why, self._refusals, self._pause = files.outage, why, 0, 0.0
        self._is_unreached, self._login = False, SharedLogin(files.login)
        self._retry = os.path.join(os.path.dirname(files.outage), "retry") if files.outage else ""
        self._has_complained = False
        self.since = self._said = now
        self.hold_until = now + HOLD_SECONDS
        self.started = started
        self.next_attempt = max(now, started + EVERY_SECONDS)
        say(f"the connection is lost ({why}): it is made again, and reads of open files wait for it")
        unlink_if_there(self._retry)
        self._write()

    def is_due(self, now: float) -> bool:
        """Tell whether to try again: a Mount has just shown that the server lets us in, or it is time.

        If the server has just refused another volume with the same login, that counts as an attempt of ours.
        """
        if self._retry:
            try:
                os.unlink(self._retry)
                return True
            except OSError:
                pass
        if now < self.next_attempt:
            return False
        turn = self._login.ask(now)
        if turn.refusal:
            self._is_unreached = False
            self._failed(now, "", turn.refusal.decode("utf-8", "replace"), hangs=False)
        elif not turn.has_come:
            self.next_attempt = now + LOOK_SECONDS
        elif turn.is_let_in:
            self.hold_until = now + LET_IN_SECONDS
        return turn.has_come

    def failed(self, now: float, why: str, said: bytes, *, hangs: bool = False) -> None:
        """Note that an attempt has failed.

        Args:
            now: The time.
            why: What ended it.
            said: What ssh has said.
            hangs: Whether the server could be reached and then has answered nothing.
        """
        refusal = _refusal(said)
        if refusal:
            self._login.tell(now, refusal.encode())
        else:
            self._login.give_up()
        self._is_unreached = _is_unreached(said) and not refusal
        self._failed(now, why, refusal, hangs=hangs)

    def _failed(self, now: float, why: str, refusal: str, *, hangs: bool) -> None:
        self._why = refusal or why
        if refusal:
            self._refusals += 1
        self._pause = min(2 * (self._pause or EVERY_SECONDS), LONGEST_PAUSE_SECONDS) if hangs else 0.0
        if self._is_unreached:
            self.next_attempt = max(now, self.started + UNREACHED_SECONDS)
        elif self._refusals > len(REFUSED_MINUTES):
            self.next_attempt = float("inf")
        elif self._refusals:
            self.next_attempt = now + 60 * REFUSED_MINUTES[self._refusals - 1]
        elif self._pause:
            self.next_attempt = now + self._pause
        else:
            self.next_attempt = max(now, self.started + EVERY_SECONDS)
        if now - self._said > SAY_EVERY_SECONDS or self.next_attempt == float("inf"):
            self._said = now
            say(self._sentence)
        self._write()

    def let_in(self, now: float) -> None:
        """Note that the server has accepted a login; whether its files can be reached is another matter."""
        self._login.tell(now, b"")

    def over(self, now: float, files: int) -> None:
        """Note that the connection is back, and how many files are open again."""
        say(f"connected again after {now - self.since:.1f} seconds; {files} open files can be read on")
        self._count()
        unlink_if_there(self._file)

    def _count(self) -> None:
        """Add a byte to the file whose size is the number of outages that are over."""
        if not self._file:
            return
        counted = os.path.join(os.path.dirname(self._file), "reconnects")
        try:
            with open(counted, "ab") as file:
                file.write(b"\n")
        except OSError as error:
            say(f"this reconnection is not counted in {counted}, {error.strerror}")

    @property
    def _sentence(self) -> str:
        if self._is_unreached:
            then = f"it is tried again every {UNREACHED_SECONDS:.0f} seconds"
        elif self._refusals > len(REFUSED_MINUTES):
            then = "no further login is tried until a container that uses the volume is started"
        elif self._refusals:
            minutes = REFUSED_MINUTES[self._refusals - 1]
            then = f"the login is tried again {minutes} minute{'s' * (minutes > 1)} later"
        elif self._pause:
            then = f"it is tried again {self._pause:.0f} seconds later"
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
            if not self._has_complained:
                say(
                    f"cannot write {self._file}, {error.strerror}: docker-volume-sshfs status does not tell why the "
                    "connection is lost"
                )
            self._has_complained = True


def unlink_if_there(file: str) -> None:
    """Remove a file, if it is there."""
    try:
        os.unlink(file)
    except OSError:
        pass


def last_line(said: bytes) -> str:
    """Return the last line that ssh has said; empty if it has said nothing."""
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    return _printable(lines[-1][-LONGEST_WORDS:]) if lines else ""


def _printable(line: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in line)


def _refusal(said: bytes) -> str:
    """Return the line in which ssh says that a login, or a host key, will not do the next time either; empty if none.

    It need not be the last: where a jump host refuses the login, more lines follow.
    """
    for line in said.splitlines():
        words = line.strip()
        who, is_denied, methods = words.partition(b": Permission denied (")
        is_cut = words.startswith(b"Received disconnect from ") and words.endswith(b"Too many authentication failures")
        is_expired = any(expired in words for expired in EXPIRED)
        # the name of a login may have blanks
        is_refused = is_denied and _is_account(who) and methods.endswith(b").") and b" " not in methods
        if is_cut or is_expired or is_refused or words == b"Host key verification failed.":
            return last_line(words)
    return ""


def _is_account(who: bytes) -> bool:
    """Tell whether it may be the name of a login and that of a server."""
    user, _, host = who.rpartition(b"@")
    return bool(user and host) and b" " not in host


def _is_unreached(said: bytes) -> bool:
    """Tell whether ssh says that it could not connect, be it to the server or to the first jump host."""
    return any(line.startswith(b"ssh: ") for line in said.splitlines())
