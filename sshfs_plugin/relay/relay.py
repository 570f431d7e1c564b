# SPDX-License-Identifier: MIT
"""Passing packets on between sshfs and ssh, and what is done when the connection is lost (docs/reliability.md)."""

import os
from select import select
from time import monotonic

from sshfs_plugin.relay import outage, packets, requests
from sshfs_plugin.relay.files import LONGEST_HANDLE, TAIL_BYTES, OpenFiles
from sshfs_plugin.relay.outage import Outage
from sshfs_plugin.relay.packets import Malformed
from sshfs_plugin.relay.reopening import reopen
from sshfs_plugin.relay.requests import Request
from sshfs_plugin.relay.ssh import Ssh
from sshfs_plugin.relay.streams import Inbox, Outbox

TYPE_CHECKING = False  # for mypy; the module "typing" is too large for the relay
if TYPE_CHECKING:
    from sshfs_plugin.relay.reopening import Conversation

HOLD_SECONDS = 1.0
"""For how long after a loss requests wait, since most connections are back by then; after it they fail at once."""

UNANSWERED_SECONDS, UNSYNCED_SECONDS = 60.0, 300.0
"""How long a server may answer nothing before the connection counts as lost: the second if it is to sync a file."""

ATTEMPT_SECONDS = 60.0
"""How long an attempt may take from ssh's start until the server has answered."""

REOPEN_SECONDS = 10.0
"""How long it may take to open the files again, while all requests wait."""

TICK_SECONDS = 5.0
END_SECONDS = 2.0

LAST_OWN_ID = 0xFFFFFFFF
"""The first id for requests of our own; sshfs counts upwards from 0."""


class CannotGoOn(Exception):
    """There is no answer to a read that sshfs would not take for the end of the file."""


class Relay:
    """Passes packets on between sshfs and ssh, and outlives ssh."""

    def __init__(self, ssh: Ssh, command: list[str], *, sshfs: int, read_seconds: float, outage_file: str) -> None:
        """Take over an ssh that was started just now.

        Args:
            ssh: It.
            command: How to start the next one.
            sshfs: The descriptor of the socket to sshfs.
            read_seconds: How long a read may wait for a lost server.
            outage_file: The file that says why the connection is lost as long as it is; empty for none.
        """
        self._ssh: Ssh | None = ssh
        self._command, self._sshfs, self._read_seconds, self._file = command, sshfs, read_seconds, outage_file
        self._from_sshfs, self._to_sshfs = Inbox(packets.LONGEST_REQUEST), Outbox()
        self._from_ssh, self._to_ssh = Inbox(packets.LONGEST_REPLY), Outbox()
        self._files = OpenFiles()
        self._pending: dict[int, Request] = {}
        self._own: dict[int, Conversation] = {}
        self._probe = self._probed = b""  # a question for the volume's directory, and its path
        self._greeted = False  # whether sshfs has had the server's version
        self._outage: Outage | None = None
        self._started = self._heard = monotonic()
        self._versions = 0  # of this ssh
        self._holding = False  # whether requests wait
        self._reopening_since = self._reading_since = 0.0  # 0: not
        os.set_blocking(sshfs, False)
        outage.forget(outage_file)

    def run(self) -> int:
        """Pass packets on until sshfs ends, or the first connection fails; return an exit status.

        Raises:
            CannotGoOn: sshfs must be ended before this process ends.
        """
        try:
            while self._step():
                pass
        except BrokenPipeError:  # sshfs has ended
            pass
        if self._outage:
            outage.forget(self._file)
            return self._ssh.end() if self._ssh else 0
        return self._end(self._ssh) if self._ssh else 0

    def _step(self) -> bool:
        """Wait for something and pass it on; return False when there is nothing left to do."""
        if not self._pending:
            self._heard = monotonic()
        readable, writable, _ = select(self._readers(), self._writers(), (), self._wait_seconds())
        ssh, goes_on = self._ssh, True
        if self._sshfs in writable:
            self._to_sshfs.flush(self._sshfs)
        if self._sshfs in readable:
            goes_on = self._take_requests()
        if ssh and ssh.errors in readable:
            self._listen(ssh)
        if ssh and ssh.descriptor in writable:
            self._send()
        if ssh and ssh.descriptor in readable:
            goes_on = self._take_replies(ssh) and goes_on
        if self._outage:
            self._while_lost(self._outage, monotonic())
        elif not readable and self._pending and monotonic() - self._heard > self._patience():
            self._lose("the server answers nothing")
        return goes_on

    def _readers(self) -> list[int]:
        """Return what may be read from: nothing is, before what was read from there has been passed on."""
        ssh, readers = self._ssh, []
        if not (self._holding or self._to_ssh.pieces or self._to_sshfs.pieces):
            readers.append(self._sshfs)
        if ssh and not self._to_sshfs.pieces:
            readers.append(ssh.descriptor)
        if ssh and ssh.errors >= 0:
            readers.append(ssh.errors)
        return readers

    def _writers(self) -> list[int]:
        ssh, writers = self._ssh, []
        if self._to_sshfs.pieces:
            writers.append(self._sshfs)
        if ssh and self._to_ssh.pieces:
            writers.append(ssh.descriptor)
        return writers

    def _wait_seconds(self) -> float | None:
        """Return when to look at the clock again."""
        if not self._outage:
            return TICK_SECONDS if self._pending else None
        now = monotonic()
        times = [now + TICK_SECONDS]
        if self._holding and not self._reopening_since:
            times.append(self._outage.since + HOLD_SECONDS)
        if not self._ssh:
            times.append(self._outage.next_attempt)
        if self._reading_since:
            times.append(self._reading_since + self._read_seconds)
        return max(0.0, min(times) - now)

    def _patience(self) -> float:
        syncs = any(request.path == requests.SYNC for request in self._pending.values())
        return UNSYNCED_SECONDS if syncs else UNANSWERED_SECONDS

    # Requests of sshfs

    def _take_requests(self) -> bool:
        """Pass requests on; return False when sshfs has ended."""
        inbox, pieces = self._from_sshfs, self._to_ssh.pieces
        more = inbox.fill(self._sshfs)
        passed = start = inbox.start
        while True:
            end, kind, identity = inbox.packet(start)
            if not end:
                break
            instead = self._request(kind, identity, inbox.view[start:end])
            if instead is not None:
                if start > passed:
                    pieces.append(inbox.view[passed:start])
                if instead:
                    pieces.append(instead)
                passed = end
            start = end
        if start > passed:
            pieces.append(inbox.view[passed:start])
        inbox.start = start
        self._send()
        self._to_sshfs.flush(self._sshfs)
        return more

    def _request(self, kind: int, identity: int, packet: memoryview) -> bytes | None:
        """Note a request; return what to pass on in its place, None for itself."""
        if kind in requests.OF_HANDLES:
            return self._request_of_handle(kind, identity, packet)
        if kind == packets.INIT:
            return None
        if self._outage:
            self._fail(identity, kind)
            return b""
        self._pending[identity] = request = requests.of_path(kind, packet)
        if kind == packets.OPEN and request.file:
            self._files.opening(request.file)
        elif request.looks and self._probed in (b"", b"."):
            self._probed, self._probe = request.path, request.packet[4:5] + request.packet[9:]
        elif kind == packets.EXTENDED and request.path == requests.SYNC:
            return self._sync(identity, packet)
        return None

    def _request_of_handle(self, kind: int, identity: int, packet: memoryview) -> bytes | None:
        name, _ = packets.text(packet, 9)
        file = self._files.by_name.get(name)
        if kind == packets.READ:
            if file is None or not (file.handle or self._outage):
                raise CannotGoOn("a file that was open when the connection was lost can't be read on")
            self._pending[identity] = Request(kind, bytes(packet), file)
            if self._outage:
                self._reading_since = self._reading_since or monotonic()
                return b""
        elif kind == packets.CLOSE:
            if file:
                self._files.closed(file)
            if self._outage or file is None or not file.handle:
                self._fail(identity, kind)
                return b""
            self._pending[identity] = requests.other(kind)
        elif self._outage or file is None or not file.handle:
            self._fail(identity, kind)
            return b""
        elif kind == packets.FSTAT:
            self._pending[identity] = Request(kind, file=file)
        elif kind == packets.READDIR:
            self._pending[identity] = requests.other(kind)
        elif not file.writable:
            self._fail(identity, kind)
            return b""
        else:
            file.written = True
            self._pending[identity] = requests.other(kind)
        return None if file.handle == name else packets.with_string(packet, 9, file.handle)

    def _sync(self, identity: int, packet: memoryview) -> bytes | None:
        _, position = packets.text(packet, 9)
        name, _ = packets.text(packet, position)
        file = self._files.by_name.get(name)
        if file is None or not file.writable:
            del self._pending[identity]
            self._fail(identity, packets.EXTENDED)
            return b""
        return None if file.handle == name else packets.with_string(packet, position, file.handle)

    def _fail(self, identity: int, kind: int) -> None:
        """Answer in the server's place. A file whose handle is lost is closed as far as sshfs is concerned."""
        code = packets.OK if kind == packets.CLOSE else packets.UNAVAILABLE
        self._to_sshfs.pieces.append(packets.status(identity, code))

    def _send(self) -> None:
        ssh, box = self._ssh, self._to_ssh
        if not box.pieces or ssh is None:
            return
        try:
            if ssh.listens:
                box.flush(ssh.descriptor)
                return
        except (BrokenPipeError, ConnectionResetError):  # what it has sent before is still to be read
            ssh.listens = False
        box.pieces.clear()

    # Replies of the server

    def _take_replies(self, ssh: Ssh) -> bool:
        """Pass replies on; return False if the first connection has failed."""
        inbox, pieces, why = self._from_ssh, self._to_sshfs.pieces, ""
        more = inbox.fill(ssh.descriptor)
        passed = start = inbox.start
        try:
            while True:
                end, kind, identity = inbox.packet(start)
                if not end:
                    break
                instead = self._reply(kind, identity, inbox.view[start:end])
                self._heard = monotonic()
                if instead is not None:
                    if start > passed:
                        pieces.append(inbox.view[passed:start])
                    if instead:
                        pieces.append(instead)
                    passed = end
                start = end
        except Malformed as reason:
            more, why = False, f"the server sends {reason}, which is no SFTP"
        if start > passed:
            pieces.append(inbox.view[passed:start])
        inbox.start = start
        self._to_sshfs.flush(self._sshfs)
        if not more:
            if not self._greeted:
                if why:
                    outage.say(why)
                return False
            self._lose(why)
        return True

    def _reply(self, kind: int, identity: int, packet: memoryview) -> bytes | None:
        """Note a reply; return what to pass on in its place, None for itself. Raises Malformed."""
        if kind == packets.VERSION:
            return self._version()
        request = self._pending.pop(identity, None)
        if request is None:
            return self._own_reply(kind, identity, bytes(packet))
        if kind == packets.STATUS:
            code = packets.number(packet, 9)
            if request.kind == packets.RENAME and code == packets.OK:
                self._files.renamed(request.path, request.new)
            elif request.kind == packets.OPEN and request.file:
                self._files.closed(request.file)
        elif not request.is_answered_by(kind):
            raise Malformed(f"a reply of type {kind} to a request of type {request.kind}")
        elif kind == packets.DATA:
            self._note_read(request, packet)
        elif request.looks:
            self._files.seen(request.path, packets.size_and_time(packet))
        elif kind == packets.ATTRS and request.file:
            request.file.look = packets.size_and_time(packet) or request.file.look
        elif kind == packets.HANDLE and request.file:
            handle, _ = packets.text(packet, 9)
            if len(handle) > LONGEST_HANDLE:
                raise Malformed(f"a handle of {len(handle)} bytes")
            self._files.opened(request.file, handle)
            if request.file.name != handle:
                return packets.with_string(packet, 9, request.file.name)
        return None

    def _note_read(self, request: Request, packet: memoryview) -> None:
        asked, file = request.packet, request.file
        length = packets.number(packet, 9)
        if length != len(packet) - 13 or length > packets.number(asked, len(asked) - 4):
            raise Malformed("other than the data that was asked for")
        if file:
            file.end = packets.number(asked, len(asked) - 12, ">Q") + length
            file.tail = bytes(packet[max(13, len(packet) - TAIL_BYTES) :])

    def _version(self) -> bytes | None:
        self._versions += 1
        if self._versions > 1:
            raise Malformed("its version twice")
        if not self._greeted:
            self._greeted = True
            return None
        self._ask(self._restore())
        self._return_if_restored()
        self._send()
        return b""

    # A lost connection

    def _lose(self, why: str) -> None:
        """Give up a connection, be it the one that was or an attempt to make another."""
        now, ssh, said = monotonic(), self._ssh, b""
        if ssh:
            if not why:
                _await_end(ssh)
            ssh.end()
            said = ssh.said
        why = why or outage.last_line(said) or "it was closed"
        self._ssh, self._versions, self._reopening_since = None, 0, 0.0
        self._from_ssh.clear()
        self._to_ssh.pieces.clear()
        self._own.clear()
        if self._outage is None:
            self._files.lost()
            self._outage, self._holding = Outage(self._file, now, self._started, why), True
            self._fail_pending(but_asking=True)
        else:
            self._outage.failed(now, why, said)
            self._holding = False
            self._fail_pending(but_asking=False)
        self._to_sshfs.flush(self._sshfs)

    def _fail_pending(self, *, but_asking: bool) -> None:
        """Fail the requests that have no reply, but reads, and those that may be repeated if so wished."""
        for identity, request in list(self._pending.items()):
            if request.kind == packets.READ:
                if request.file not in self._files.by_name.values():
                    raise CannotGoOn("a read was cut off, of a file that was opened for writing or has another name")
                self._reading_since = self._reading_since or monotonic()
            elif not (but_asking and request.packet):
                del self._pending[identity]
                if request.kind == packets.OPEN and request.file:
                    self._files.closed(request.file)
                self._fail(identity, request.kind)

    def _while_lost(self, lost: Outage, now: float) -> None:
        if self._reading_since and now - self._reading_since > self._read_seconds:
            raise CannotGoOn(f"a read has waited for {self._read_seconds:.0f} seconds")
        if self._holding and not self._reopening_since and now - lost.since > HOLD_SECONDS:
            self._holding = False
            self._fail_pending(but_asking=False)
            self._to_sshfs.flush(self._sshfs)
        if self._ssh:
            if now - lost.started > ATTEMPT_SECONDS:
                self._lose("the server does not answer in time")
            elif self._reopening_since and now - self._reopening_since > REOPEN_SECONDS:
                self._lose("the server is too slow to open the files again")
        elif now >= lost.next_attempt:
            lost.started = self._started = now
            try:
                self._ssh = Ssh(self._command, quiet=True)
            except OSError as error:
                lost.failed(now, f"ssh can't be started: {error.strerror}", b"")
                return
            self._to_ssh.pieces.append(packets.HEADER.pack(5, packets.INIT, 3))
            self._send()

    def _restore(self) -> "Conversation":
        """Wait until the server has answered for the volume's directory, whose disk may hang; reopen the files."""
        if self._probe:
            yield self._probe
        self._holding, self._reopening_since = True, monotonic()
        for file in self._files.by_name.values():
            self._ask(reopen(file))

    def _ask(self, conversation: "Conversation", reply: tuple[int, bytes] | None = None) -> None:
        """Let requests of our own go on with a reply."""
        try:
            request = conversation.send(reply) if reply else next(conversation)
        except StopIteration:
            return
        identity = LAST_OWN_ID
        while identity in self._own or identity in self._pending:
            identity -= 1
        self._own[identity] = conversation
        self._to_ssh.pieces.append(packets.build(request[0], identity, request[1:]))

    def _own_reply(self, kind: int, identity: int, packet: bytes) -> bytes:
        conversation = self._own.pop(identity, None)
        if conversation is None:
            raise Malformed("a reply that nothing has asked for")
        self._ask(conversation, (kind, packet))
        self._return_if_restored()
        self._send()
        return b""

    def _return_if_restored(self) -> None:
        """Let sshfs go on once all files are open again."""
        if self._own or not self._outage:
            return
        now = monotonic()
        self._outage.over(now, sum(bool(file.handle) for file in self._files.by_name.values()))
        self._outage, self._holding, self._heard = None, False, now
        self._reopening_since = self._reading_since = 0.0
        for request in self._pending.values():
            packet = request.packet
            if request.kind == packets.READ and request.file:
                if not request.file.handle:
                    raise CannotGoOn("a file has changed on the server while a read of it waited")
                packet = packets.with_string(packet, 9, request.file.handle)
            elif request.kind == packets.OPEN and request.file:
                self._files.opening(request.file)
            self._to_ssh.pieces.append(packet)

    def _listen(self, ssh: Ssh) -> None:
        """Pass on what a later ssh says while it is connected; what an attempt says is told by the outage."""
        said = ssh.listen()
        if said and not self._outage:
            os.write(2, said)

    def _end(self, ssh: Ssh) -> int:
        """Let ssh send what it has, and end it; return its exit status."""
        limit = monotonic() + END_SECONDS
        while self._to_ssh.pieces and monotonic() < limit:
            select((), (ssh.descriptor,), (), END_SECONDS)
            self._send()
        ssh.end_input()
        self._from_ssh.clear()
        while monotonic() < limit and select((ssh.descriptor,), (), (), END_SECONDS)[0]:
            if not self._from_ssh.fill(ssh.descriptor):
                _await_end(ssh)
                break
            self._from_ssh.clear()
        return ssh.end()


def _await_end(ssh: Ssh) -> None:
    """Give an ssh that has closed its socket a moment to say why, and to end by itself."""
    for _ in range(25):
        if ssh.has_ended():
            return
        select((), (), (), 0.02)
