# SPDX-License-Identifier: MIT
"""Random schedules of requests, replies, losses and changes on the server, against a model of what sshfs may see."""

import random
import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from os.path import commonprefix

import pytest
from support.long import normally
from support.relayed import (
    FSYNC,
    INIT,
    VERSION,
    Clock,
    Content,
    Disk,
    Relayed,
    Servers,
    Start,
    closing,
    code_of,
    id_of,
    kind_of,
    looking,
    opening,
    reading,
    renaming,
    setting,
    syncing,
    writing,
)
from support.waiting import LIMIT_SECONDS

from sshfs_plugin.relay import packets, relay
from sshfs_plugin.relay.relay import CannotGoOn

ROUNDS = normally(3, 400)
STEPS = 400
CHANGING = (packets.WRITE, packets.RENAME, packets.EXTENDED, packets.REMOVE, packets.SETSTAT)
FIRST_OWN_ID = 2**31


@dataclass(eq=False)
class Opened:
    """A file that sshfs has open.

    Attributes:
        path: Its path as far as sshfs knows.
        content: What the server has opened.
        connection: In which connection.
        look: The id of the request that looks at it for the first time.
        may_be: What a read may show.
        was_read: Whether one has shown anything.
        is_changed: Whether anybody has changed it, or what its path shows.
        moves: The renames of it that the server has made and sshfs does not know of.
    """

    path: bytes
    content: Content
    connection: int
    look: int
    may_be: list[Content]
    was_read: bool = False
    is_changed: bool = False
    moves: set[int] = field(default_factory=set)


class Schedule:
    """One of them."""

    def __init__(self, rng: random.Random, relayed: Relayed, servers: Servers, clock: Clock, *, calm: bool) -> None:
        self._rng, self._relayed, self._servers, self._clock, self._calm = rng, relayed, servers, clock, calm
        self._disk = Disk(at_once=rng.choice([60, 1000]) if calm else 1000)  # who writes meanwhile is seen in parts
        for path in (b"d/a", b"d/b", b"c", b"w"):
            self._disk.files[path] = self._new()
        self._were_at = {path: [content] for path, content in self._disk.files.items()}
        self._server, self._connection = relayed.connected(servers), 1
        self._replies = b""
        self._unsent: list[bytes] = []  # whole replies, in no order
        self._asked: dict[int, tuple[bytes, Opened | None]] = {}
        self._open: dict[bytes, Opened] = {}
        self._executed: dict[int, tuple[bytes, Content | None, int]] = {}
        self._changed_since: set[int] = set()  # of them, what was opened and changed or moved before the reply
        self._all: list[Opened] = []
        self._next = 0
        self._looks: list[bytes] = []  # they belong to opens that were sent, and are yet to be

    def _new(self) -> Content:
        return Content([self._rng.randbytes(self._rng.choice([100, 400, 700]))], modified=self._rng.randrange(2**31))

    # sshfs

    def ask(self) -> None:
        rng, identity, opened = self._rng, self._next, None
        self._next += 1
        path = rng.choice([b"d/a", b"d/b", b"c", b"w", b"e/a", b"new"])
        kinds = ["open", "open", "read", "read", "read", "read", "look", "look", "write", "write", "close", "close"]
        kinds += ["sync", "set"]
        if not self._calm:
            kinds += ["rename", "rename", "remove", "remove"] if rng.random() < 0.3 else []
        kind = rng.choice(kinds)
        ready = [name for name, opened in self._open.items() if opened.look not in self._asked]
        name = rng.choice(ready) if ready else b""
        if kind == "open" or not name:
            look = looking(self._next, path)  # as sshfs does: it lets nobody read before that is answered
            self._looks.append(look)
            self._asked[self._next] = look, None
            self._next += 1
            request = opening(identity, path, 2 if path == b"w" else rng.choice([1, 1, 1, 3]))
        elif kind == "look":
            request = looking(identity, path)
        elif kind == "rename":
            old, new = rng.choice([(path, b"new"), (b"d", b"e"), (b"e", b"d"), (path, b"c"), (b"new", path)])
            request = renaming(identity, old, new, posix=rng.random() < 0.5)
        elif kind == "set":
            request = setting(identity, path, rng.randrange(2**31))
        elif kind == "remove":
            request = looking(identity, path, packets.REMOVE)
        else:
            opened = self._open[name]
            if kind == "close":
                del self._open[name]
                request = closing(identity, name)
            elif kind == "write" and (opened.path == b"w" or not self._calm):
                opened.is_changed = True
                request = writing(identity, name, rng.randrange(500), rng.randbytes(rng.randint(1, 50)))
            elif kind == "sync":
                request = syncing(identity, name)
            elif opened.path == b"w":
                return
            else:
                request = reading(identity, name, rng.randrange(500), rng.randint(1, 200))
        self._asked[identity] = request, opened
        self._relayed.sshfs.send_if_it_can(request)

    def _look(self) -> None:
        """Send what is asked of the files that are just being opened."""
        self._relayed.sshfs.send_if_it_can(*self._looks)
        self._looks.clear()

    def take(self) -> None:
        while (reply := self._relayed.sshfs.take_now()) is not None:
            request, opened = self._asked.pop(id_of(reply))  # it was asked, and has had no reply
            kind = kind_of(request)
            if kind == packets.OPEN and kind_of(reply) == packets.HANDLE:
                self._note_open(reply)
            elif kind == packets.READ and opened:
                self._check_read(request, opened, reply)
            elif kind == packets.CLOSE:
                assert code_of(reply) == packets.OK
            elif kind in CHANGING and code_of(reply) == packets.OK:
                assert id_of(reply) in self._executed
                if _is_rename(request):
                    self._follow(request)

    def _note_open(self, reply: bytes) -> None:
        name = packets.text(reply, 9)[0]
        assert name not in self._open
        path, content, connection = self._executed[id_of(reply)]
        assert content
        self._open[name] = opened = Opened(path, content, connection, id_of(reply) + 1, [content])
        opened.is_changed = id_of(reply) in self._changed_since or self._disk.files.get(path) is not content
        self._all.append(opened)

    def _check_read(self, request: bytes, opened: Opened, reply: bytes) -> None:
        offset, length = packets.number(request, len(request) - 12, ">Q"), packets.number(request, len(request) - 4)
        if kind_of(reply) == packets.STATUS:
            if code_of(reply) == packets.END_OF_FILE:
                contents = opened.may_be if opened.was_read else self._anything_at(opened)
                assert any(len(version) <= offset for content in contents for version in content.versions)
            elif code_of(reply) == packets.UNAVAILABLE:
                assert opened not in self._open.values()
            else:
                pytest.fail(f"no honest server has sent {reply!r}")
            return
        got = packets.text(reply, 9)[0]
        if opened not in self._open.values():  # nobody reads it any more, and the server can't be asked for the rest
            length = len(got)
        contents = opened.may_be if opened.was_read else self._anything_at(opened)
        fitting = [
            content
            for content in contents
            if _may_be_read(got, [text[offset : offset + length] for text in content.versions])
        ]
        assert fitting, "other data than the file's"
        opened.may_be, opened.was_read = fitting, True

    def _anything_at(self, opened: Opened) -> list[Content]:
        return [opened.content, *(content for contents in self._were_at.values() for content in contents)]

    def _follow(self, request: bytes) -> None:
        old, new = _names(request)
        for opened in self._all:
            if id_of(request) in opened.moves:
                opened.moves.remove(id_of(request))
                opened.path = new + opened.path[len(old) :]

    # The server

    def serve(self) -> bool:
        """Do what one request says; return whether there was one."""
        request = self._server.take_now()
        if request is None:
            return False
        if request == INIT:
            self._replies += VERSION
            return True
        kind, identity = kind_of(request), id_of(request)
        first, end = packets.text(request, 9)
        _, opened = self._asked.get(identity, (b"", None))
        if identity < FIRST_OWN_ID and kind in (packets.READ, packets.WRITE, packets.CLOSE):
            self._check_handle(kind, first, opened)
        if kind in CHANGING:
            assert identity not in self._executed, "it is executed for the second time"
            self._executed[identity] = first, None, self._connection
            self._disturb(request, kind, first)
        reply = self._disk.answer(request)
        if kind == packets.OPEN:
            content = self._disk.handles.get(reply[13:]) if kind_of(reply) == packets.HANDLE else None
            if identity >= FIRST_OWN_ID:
                assert packets.number(request, end) == packets.TO_READ
            else:
                self._executed[identity] = first, content, self._connection
        for path, content in self._disk.files.items():
            if content not in self._were_at.setdefault(path, []):
                self._were_at[path].append(content)
        self._unsent.append(reply)
        return True

    def _check_handle(self, kind: int, name: bytes, opened: Opened | None) -> None:
        assert opened, "no such file is open"
        assert name in self._disk.handles, "a handle of another connection"
        content = self._disk.handles[name]
        if kind == packets.WRITE:
            assert (content, self._connection) == (opened.content, opened.connection)
        assert content in (opened.may_be if opened.was_read else self._anything_at(opened))

    def _disturb(self, request: bytes, kind: int, first: bytes) -> None:
        """Note the open files that a request changes, or of which it changes the path."""
        if kind == packets.WRITE:
            content = self._disk.handles[first]
            self._changed(lambda other: other.content is content)
        elif kind == packets.REMOVE:
            self._changed(lambda other: other.path == first)
            self._move_unknown(first)
        elif _is_rename(request):
            old, new = _names(request)
            for other in self._all:
                if other.path == old or other.path.startswith(old + b"/"):
                    other.moves.add(id_of(request))
            self._changed(lambda other: other.path == new or other.path.startswith(new + b"/"))
            self._move_unknown(old, new)

    def _move_unknown(self, *paths: bytes) -> None:
        """Note what the server has opened and sshfs does not know of yet: the replies may come in another order."""
        for identity in self._asked:
            path = self._executed.get(identity, (b"", None))[0]
            if any(path == changed or path.startswith(changed + b"/") for changed in paths):
                self._changed_since.add(identity)

    def _changed(self, which: Callable[[Opened], bool]) -> None:
        for opened in self._all:
            if which(opened):
                opened.is_changed = True

    def _gather(self) -> None:
        """Let the replies that are there follow one another, as they were made or in another order."""
        if self._rng.random() < 0.5:
            self._rng.shuffle(self._unsent)
        self._replies += b"".join(self._unsent)
        self._unsent.clear()

    def hide(self) -> None:
        """Let a file, or one less, be there to be opened."""
        self._disk.absent ^= {self._rng.choice([b"d/a", b"d/b", b"c", b"w", b"e/a", b"new"])}

    def deliver(self) -> None:
        """Send some of the replies, not always whole ones."""
        self._gather()
        count = self._rng.choice([len(self._replies), self._rng.randint(0, len(self._replies))])
        part, self._replies = self._replies[:count], self._replies[count:]
        self._server.send_if_it_can(part)

    def lose(self) -> None:
        """Cut the connection, and await the next."""
        self._server.die()
        self._await_next()

    def _await_next(self) -> None:
        self._replies = b""
        self._unsent.clear()
        self._connection += 1
        self._disk.connected()
        limit = time.monotonic() + LIMIT_SECONDS
        while not self._servers.is_called and not self._relayed.has_ended:
            assert time.monotonic() < limit
            self.take()
            select.select([self._relayed.sshfs.stream], [], [], 0.001)
        if self._servers.is_called:
            self._server = self._servers.next()

    def change(self) -> None:
        """Let somebody else change a file."""
        path = self._rng.choice(list(self._disk.files) or [b"c"])
        content = self._disk.files.get(path, self._new())
        how = self._rng.choice(["replace", "grow", "change", "remove"])
        if how == "replace":
            self._disk.files[path] = self._new()
            self._were_at.setdefault(path, []).append(self._disk.files[path])
        elif how == "grow":
            content.become(content.now + self._rng.randbytes(40))
        elif how == "change":
            content.become(self._rng.randbytes(400))
        else:
            self._disk.files.pop(path, None)
        self._changed(lambda other: other.path == path or other.content is content)
        # the relay may have seen it as it was
        self._changed_since |= {
            identity for identity in self._asked if self._executed.get(identity, (b"", None))[1] is content
        }

    # All

    def run(self) -> None:
        """Play it, and then let everything be answered."""
        for _ in range(STEPS):
            if self._relayed.has_ended:
                break
            chance = self._rng.random()
            if chance < 0.4 and len(self._asked) < 10:
                self.ask()
            elif chance < 0.75:
                self.serve()
            elif chance < 0.93:
                self.deliver()
            elif chance < 0.95:
                self.lose()
            elif chance < 0.96 and not self._calm:
                self.change()
            elif chance < 0.97:
                self.hide()
            elif chance < 0.98:
                self._clock.forward(relay.RETRY_SECONDS)
            if chance < 0.6:  # else another thread's requests are between
                self._look()
            self.take()
        self._finish()
        failure = self._relayed.failure
        if failure:
            assert isinstance(failure, CannotGoOn), failure
            assert not self._calm
            waiting = [
                opened for request, opened in self._asked.values() if kind_of(request) == packets.READ and opened
            ]
            assert any(opened.is_changed or opened.moves for opened in waiting), failure
            self._check_reason(str(failure))
        else:
            assert all(self._may_wait(request, opened) for request, opened in self._asked.values())

    def _may_wait(self, request: bytes, opened: Opened | None) -> bool:
        """Tell whether a read may wait for ever: its file was removed, and no limit is set."""
        gone = opened is not None and (opened.is_changed or bool(opened.moves))
        return kind_of(request) == packets.READ and gone and not self._calm

    def _check_reason(self, failure: str) -> None:
        """Only a file that looks different, that was written, or that has no path any more ends sshfs."""
        words = ("another file than it was", "was written to", "can't be opened again")
        assert any(word in failure for word in words), failure

    def _finish(self) -> None:
        self._disk.absent.clear()
        self._look()
        limit, tries = time.monotonic() + LIMIT_SECONDS, 10
        while self._asked and not self._relayed.has_ended and tries:
            assert time.monotonic() < limit, f"there is no reply to {self._asked}"
            if self._server.is_cut:  # on a busy host the clock may have gone ahead of it
                self._await_next()
            if not self.serve() and not self._replies and not self._unsent:
                ready = select.select([self._relayed.sshfs.stream, self._server.stream], [], [], 0.02)[0]
                self._clock.forward(0 if ready else relay.RETRY_SECONDS)
                tries -= not ready and all(self._may_wait(*asked) for asked in self._asked.values())
            self._gather()
            self._server.send_if_it_can(self._replies)
            self._replies = b""
            self.take()


def _may_be_read(got: bytes, parts: list[bytes]) -> bool:
    """Tell whether those are parts of one version of a file, or of two: the end may have been asked for by itself."""
    if got in parts:
        return True
    begin = max(len(commonprefix([got, part])) for part in parts)
    end = max((len(commonprefix([got[::-1], part[::-1]])) for part in parts if len(part) == len(got)), default=0)
    return begin + end >= len(got)


def _is_rename(request: bytes) -> bool:
    return kind_of(request) == packets.RENAME or (
        kind_of(request) == packets.EXTENDED and packets.text(request, 9)[0] != FSYNC
    )


def _names(request: bytes) -> tuple[bytes, bytes]:
    """Return the paths of a rename."""
    first, end = packets.text(request, 9)
    if kind_of(request) == packets.EXTENDED:
        first, end = packets.text(request, end)
    return first, packets.text(request, end)[0]


@pytest.mark.parametrize("seed", range(ROUNDS))
@pytest.mark.parametrize("calm", [True, False], ids=["calm", "wild"])
def test_every_request_gets_one_true_answer_and_changes_are_made_once(
    start: Start, servers: Servers, clock: Clock, seed: int, *, calm: bool
) -> None:
    rng = random.Random(seed)  # noqa: S311 (nothing here is secret)
    Schedule(rng, start(), servers, clock, calm=calm).run()
