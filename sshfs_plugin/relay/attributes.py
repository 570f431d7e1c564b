# SPDX-License-Identifier: MIT
"""Answers that are there before sshfs asks, so that it need not wait for the server (docs/facts.md, "Small files")."""

from sshfs_plugin.relay import packets, requests
from sshfs_plugin.relay.requests import Request

TYPE_CHECKING = False  # for mypy; the module "typing" is too large for the relay
if TYPE_CHECKING:
    from collections.abc import Generator

MOST, LONGEST = 64, 256
"""How many answers are kept, and how many bytes of each, at most: OpenSSH's have 32."""


class KeptAttributes:
    """The attributes that the server has sent of a file or directory, kept for the next requests for them.

    Attributes:
        answer: What its ATTRS reply says after the id; empty if there is none.
        ends: Until when it counts, on the monotonic clock.
        times: How often it may be given.
    """

    __slots__ = ("answer", "ends", "times")

    def __init__(self, ends: float, times: int = 1) -> None:
        self.answer, self.ends, self.times = b"", ends, times

    def note(self, reply: bytes | memoryview) -> None:
        """Note a reply."""
        answer = bytes(reply[9:])
        self.answer = answer if len(answer) <= LONGEST else b""

    def given(self, now: float) -> bytes:
        """Give the answer; empty if there is none that counts."""
        self.times -= 1
        return self.answer if self.times >= 0 and now < self.ends else b""


class AttributeCache:
    """The attributes that sshfs is about to ask for.

    - Those of the volume's directory: sshfs asks for them when it starts, and the kernel asks for the same at once. So
      what answers the first request answers the next as well.
    - Those of a file that was just made: sshfs asks for them by its path, and is then asked for those of the open file.
    - Those of the directory of that file: the kernel asks for them when something else is done in it, and so it does
      after anything else was made, renamed or removed there.
    - Those of what is changed by its path, or of a directory or link that was made: sshfs asks for them after that.

    An answer is given once, or twice if it is to serve the kernel as well, and not after a change that sshfs has asked
    for by the same path. What is changed by another name, such as a hard link, may be shown as before meanwhile.

    Attributes:
        in_order: Whether the server carries out one request after the other.
    """

    __slots__ = ("_begins", "_by_question", "_seconds", "in_order")

    def __init__(self, seconds: float) -> None:
        """Keep answers for so long."""
        self._seconds, self._begins, self.in_order = seconds, True, False
        self._by_question: dict[bytes, KeptAttributes] = {}

    def begin(self, request: Request, reply: memoryview, now: float) -> None:
        """Keep the reply to the first LSTAT, which shows a directory: a STAT before it is not repeated."""
        if self._begins and request.kind == packets.LSTAT:
            self._begins = False
            self._expect(request.question, now).note(reply)

    def of_file(self, reply: memoryview, now: float) -> KeptAttributes:
        """Return the attributes of a file whose path has just shown them."""
        kept = KeptAttributes(now + self._seconds)
        kept.note(reply)
        return kept

    def prefetch(
        self, path: bytes, now: float, times: int = 1
    ) -> "Generator[bytes, tuple[int, bytes], tuple[int, int] | None]":
        """Ask for the attributes of what is at a path before sshfs does, so many times; return the stamp of a file."""
        question = _question(path)
        kept = self._expect(question, now, times)
        kind, reply = yield question
        if kind != packets.ATTRS:
            return None
        stamp = packets.size_and_time(reply)  # what is malformed must not be found out later
        kept.note(reply)
        return stamp

    def answer(self, request: Request, now: float) -> bytes:
        """Return what answers a request, empty if the server is to be asked."""
        kept = self._by_question.pop(request.question, None) if request.asks_attributes else None
        if not kept:
            return b""
        if kept.times > 1 and kept.answer and now < kept.ends:
            self._begins = False
            self._by_question[request.question] = kept
        return kept.given(now)

    def invalidate(self, request: Request) -> None:
        """Drop the answers that a request makes untrue."""
        if request.kind == packets.OPEN:
            self.drop(request.path)  # even if only to read: what the path shows by now is to be noted of the file
        if request.packet or request.kind in requests.OF_HANDLES:
            return
        if request.kind == packets.OPEN:
            self.drop(requests.parent(request.path))
        elif request.kind == packets.SETSTAT:
            self.drop(request.path)
        else:
            self.clear()

    def invalidate_late(self, request: Request) -> None:
        """Drop the answers that a request may have made untrue that was answered just now.

        A server that carries out several at once may have given these before it made the change.
        """
        if not self.in_order:
            self.invalidate(request)

    def drop(self, path: bytes) -> None:
        """Drop the answer of what is at a path, which changes."""
        self._by_question.pop(_question(path), None)

    def clear(self) -> None:
        """Drop all answers."""
        self._begins = False
        self._by_question.clear()

    def _expect(self, question: bytes, now: float, times: int = 1) -> KeptAttributes:
        if len(self._by_question) >= MOST:
            self.clear()
        self._by_question[question] = kept = KeptAttributes(now + self._seconds, times)
        return kept


def _question(path: bytes) -> bytes:
    return bytes((packets.LSTAT,)) + packets.string(path)
