# SPDX-License-Identifier: MIT
"""Passing packets on between sshfs and ssh, and what is done when the connection is lost (docs/reliability.md)."""

import os
from select import select
from time import monotonic

from sshfs_plugin.relay import outage, packets, reopening, requests
from sshfs_plugin.relay.attributes import AttributeCache
from sshfs_plugin.relay.files import File, OpenFiles, shown
from sshfs_plugin.relay.guard import Guard
from sshfs_plugin.relay.outage import Outage, OutageFiles
from sshfs_plugin.relay.packets import Malformed, TooLong
from sshfs_plugin.relay.requests import Pending, Request
from sshfs_plugin.relay.ssh import Connection, Ssh
from sshfs_plugin.relay.streams import NOTHING, Closed, Inbox, Outbox

TYPE_CHECKING = False  # for mypy; the module "typing" is too large for the relay
if TYPE_CHECKING:
    from collections.abc import Iterable

    from sshfs_plugin.relay.reopening import Conversation

UNANSWERED_SECONDS, UNSYNCED_SECONDS = 60.0, 300.0
"""How long a server may answer nothing before the connection counts as lost: the second if it is to sync a file."""

ATTEMPT_SECONDS = 60.0
"""How long an attempt may take from ssh's start until the server has answered."""

REOPEN_SECONDS = 10.0
"""How long the server may answer nothing while the files are opened again and all requests wait."""

RETRY_SECONDS = 5.0
"""How often to try again to open a file that is read from, and that the server could not open at once."""

CLOCK_SECONDS = 5.0
"""How often to look at the clock while something is waited for."""

RETRY_LOOK_SECONDS = 1.0
"""How often to look, between attempts, whether one is wished for: Podman waits for a Mount for 4.5 seconds."""

END_SECONDS = 2.0
"""How long ssh may take to send what it still has, when sshfs has ended."""

MOST_OWN, MOST_AHEAD = 1000, 64
"""How many requests of our own may be without a reply before no further file, or no directory, is asked about."""

MOST_ASKED = 2**20
"""After how many requests of our own their ids may be used anew: many more than are ever without a reply."""


class CannotGoOn(Exception):
    """There is no answer to a read that sshfs would not take for the end of the file."""


class SshfsEnded(Exception):
    """Sshfs has closed its socket."""


class Relay:
    """Passes packets on between sshfs and ssh, and outlives ssh."""

    def __init__(
        self, ssh: Connection, command: list[str], *, sshfs: int, read_seconds: float, files: OutageFiles
    ) -> None:
        """Take over an ssh that was started just now.

        Args:
            ssh: The running ssh.
            command: How to start the next one.
            sshfs: The descriptor of the socket to sshfs.
            read_seconds: How long a read may wait for a lost server.
            files: With which it tells of outages.
        """
        self._ssh: Connection | None = ssh
        self._left_behind: Connection | None = None  # an attempt that could not be ended
        self._command, self._sshfs = command, sshfs
        self._read_seconds, self._outage_files = read_seconds, files
        self._from_sshfs, self._to_sshfs = Inbox(packets.LONGEST_REQUEST), Outbox()
        self._from_ssh, self._to_ssh = Inbox(packets.LONGEST_REPLY, packets.LONGEST_NAMES), Outbox()
        self._files = OpenFiles()
        self._pending, self._retry_at = Pending(), 0.0
        self._own: dict[int, Conversation] = {}
        self._last_id = self._asked = 0
        self._probe = self._probed_path = b""
        self._attributes: AttributeCache | None = None
        self._has_version = self._sshfs_has_version = False
        self._outage: Outage | None = None
        self._started = self._heard = monotonic()
        self._holds = False  # whether no request is taken from sshfs
        self._reopens = False
        self._guard = Guard(sshfs)
        os.set_blocking(sshfs, False)
        outage.unlink_if_there(files.outage)

    def keep_attributes(self, seconds: float) -> None:
        """Answer some requests from what the server has shown within so many seconds; sshfs must ask all of it here."""
        self._attributes = AttributeCache(seconds)

    def note_asked_ahead(self, path: bytes) -> None:
        """Note that the server was asked for the attributes of the volume's directory already, as our first request."""
        if self._attributes:
            conversation = self._look_ahead(self._attributes, path, times=2)
            self._probed_path, self._probe = path, next(conversation)
            self._own[packets.FIRST_OWN_ID] = conversation

    def run(self) -> int:
        """Pass packets on until sshfs ends, or the first connection fails; return an exit status.

        Raises:
            CannotGoOn: sshfs must be ended before this process ends.
        """
        try:
            while self._step():
                pass
        except SshfsEnded:
            pass
        finally:
            self._guard.end()
        if self._outage:
            outage.unlink_if_there(self._outage_files.outage)
        status = 0
        if self._ssh:
            status = self._ssh.end() if self._outage else self._end(self._ssh)
        return status if self._sshfs_has_version else max(status, 1)

    def _step(self) -> bool:
        """Wait for something and pass it on; return False when there is nothing left to do."""
        is_idle = len(self._pending) == self._pending.waiting and not self._own and not self._outage
        readers = self._readers()
        readable, writable, _ = select(readers, self._writers(), (), self._wait_seconds())
        if is_idle:  # until now, however long that was
            self._heard = monotonic()
        ssh, goes_on = self._ssh, True
        if self._sshfs in writable:
            self._deliver()
        if self._sshfs in readable:
            goes_on = self._take_requests()
        if ssh and ssh.errors in readable:
            self._listen(ssh)
        if ssh and ssh.descriptor in writable:
            self._send()
        if ssh and ssh.descriptor in readable:
            goes_on = self._take_replies(ssh) and goes_on
        elif ssh and ssh.descriptor in readers and not self._outage and self._is_silent():
            self._lose("the server answers nothing")
        now = monotonic()
        self._look_at_clock(now)
        self._guard.note(reads=bool(self._files.to_read))
        if not self._sshfs_has_version and now - self._started > ATTEMPT_SECONDS:
            outage.say("the server does not answer in time")
            return False
        return goes_on

    def _readers(self) -> list[int]:
        """Return what may be read from: nothing is, before what was read from there has been passed on."""
        ssh, readers = self._ssh, []
        if not (self._holds or self._to_ssh.pieces or self._to_sshfs.pieces):
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
            return CLOCK_SECONDS if self._pending or self._own or not self._has_version else None
        now = monotonic()
        times = [now + CLOCK_SECONDS]
        if self._holds and not self._reopens:
            times.append(self._outage.hold_until)
        if not self._ssh:
            times += [self._outage.next_attempt, now + RETRY_LOOK_SECONDS]
        if self._pending.waiting:
            times.append(self._pending.waiting_since + self._read_seconds)
        return max(0.0, min(times) - now)

    def _is_silent(self) -> bool:
        """Tell whether the server has answered nothing for too long."""
        silence = monotonic() - self._heard
        if silence <= UNANSWERED_SECONDS:
            return False
        syncs = any(request.extension == requests.SYNC for request in self._pending.values())
        return silence > (UNSYNCED_SECONDS if syncs else UNANSWERED_SECONDS)

    def _look_at_clock(self, now: float) -> None:
        if self._pending.waiting and now - self._pending.waiting_since > self._read_seconds:
            self._end_waiting(now)
        if self._outage:
            self._while_lost(self._outage, now)
        elif self._pending.waiting and now >= self._retry_at:
            waited_for = [request.file for request in self._pending.values() if request.waits and request.file]
            if to_try := [file for file in waited_for if not file.reopens]:
                self._retry_at = now + RETRY_SECONDS
                self._reopen(to_try)
                self._go_on()  # one that was removed since is not asked for

    # Requests of sshfs

    def _take_requests(self) -> bool:
        """Pass requests on; return False when sshfs has ended."""
        more = self._from_sshfs.fill(self._sshfs)
        self._from_sshfs.pass_on(self._to_ssh.pieces, self._request)
        self._send()
        self._deliver()
        return more

    def _request(self, kind: int, identity: int, packet: memoryview) -> bytes | None:
        """Note a request; return what to pass on, as :meth:`Inbox.pass_on` is told it."""
        self._last_id = identity
        if kind in requests.OF_HANDLES:
            return self._request_of_handle(kind, identity, packet)
        if kind == packets.INIT:
            return None
        if self._outage:
            return self._fail(identity, kind)
        request = requests.of_path(kind, packet)
        if request.extension == requests.SYNC:
            return self._sync(identity, packet, request)
        if self._attributes:
            if answer := self._attributes.answer(request, monotonic()):
                return self._show(identity, answer)
            self._attributes.invalidate(request)
        self._pending[identity] = request
        if kind == packets.SETSTAT or (kind == packets.OPEN and not request.packet):
            self._files.note_change(request.path)
        if kind == packets.OPEN and request.file:
            self._files.expect(request.file)
            if request.file.readable:
                self._guard.watch()
        if request.kind in (packets.REMOVE, packets.RENAME):
            request.changes = self._files.number_change()
        self._note_files_asked_for(request)
        if request.asks_attributes and self._probed_path in (b"", b"."):  # the first may be the login directory
            self._probed_path, self._probe = request.path, request.question
        if kind != packets.OPEN and request.asked_then:
            return self._with_questions_behind(packet, request)
        return None

    def _with_questions_behind(self, packet: memoryview, request: Request) -> bytes | None:
        """Let the server be asked at once for the attributes that are asked for when a change is done.

        Only where that can't be answered before the change is made, and all that was written before.
        """
        cache, paths = self._attributes, request.asked_then
        if not (cache and cache.in_order) or len(self._own) + len(paths) > MOST_AHEAD:
            return None
        return bytes(packet) + b"".join([self._own_request(self._look_ahead(cache, path)) for path in paths])

    def _look_ahead(self, cache: AttributeCache, path: bytes, times: int = 1) -> "Conversation":
        """Ask for the attributes of what is at a path before sshfs does, and note the stamp if files are open there."""
        stamp = yield from cache.prefetch(path, monotonic(), times)
        for file in self._files.note_stamp(path, stamp):
            self._ask_stamp(file)

    def _note_files_asked_for(self, request: Request) -> None:
        """Note of a request for the attributes at a path what sshfs has asked for before."""
        if request.asks_attributes:
            request.changes, request.asked_for = self._files.changes, self._files.asked_for(request.path)

    def _request_of_handle(self, kind: int, identity: int, packet: memoryview) -> bytes | None:
        handle, _ = packets.text(packet, 9)
        file = self._files.by_handle.get(handle)
        if kind == packets.READ:
            return self._read(identity, packet, file)
        if kind == packets.CLOSE and file:
            self._files.note_closed(file.server_handle)
            self._files.remove(file)
            self._fail_reads_of(file)
        is_open = not self._outage and file is not None and file.server_handle != b""
        if kind == packets.FSTAT and file and file.survives and not is_open:
            self._pending[identity] = request = Request(kind, bytes(packet), file)
            self._wait(request)
            return NOTHING
        if file is None or not is_open:
            return self._fail(identity, kind)
        request = requests.other(kind)
        if kind == packets.FSTAT:
            is_as_made = self._files.changes == file.asked
            if is_as_made and file.attributes and (answer := file.attributes.given(monotonic())):
                return self._show(identity, answer)
            request = Request(kind, bytes(packet), file)
            request.changes = self._files.changes
        elif kind == packets.READDIR:
            request = Request(kind, file=file)
        elif kind in requests.CHANGES:
            if file.renewed:
                return self._fail(identity, kind)
            file.writes += 1
            self._files.note_change(file.path)
            if self._attributes:
                self._attributes.drop(file.path)
        self._pending[identity] = request
        return None if file.server_handle == handle else packets.with_string(packet, 9, file.server_handle)

    def _read(self, identity: int, packet: memoryview, file: File | None) -> bytes | None:
        if file is None or not (file.server_handle or file.survives):
            raise CannotGoOn(_why_lost(file))
        self._pending[identity] = request = Request(packets.READ, bytes(packet), file)
        if self._outage or not file.server_handle:
            self._wait(request)
            return NOTHING
        return None if file.server_handle == file.handle else packets.with_string(packet, 9, file.server_handle)

    def _sync(self, identity: int, packet: memoryview, request: Request) -> bytes | None:
        _, position = packets.text(packet, 9)
        handle, _ = packets.text(packet, position)
        file = self._files.by_handle.get(handle)
        if file is None or file.renewed:  # what was written before may be lost
            return self._fail(identity, packets.EXTENDED)
        request.file, request.writes = file, file.writes
        self._pending[identity] = request
        return None if file.server_handle == handle else packets.with_string(packet, position, file.server_handle)

    def _show(self, identity: int, answer: bytes) -> bytes:
        """Answer with attributes in the server's place, and pass nothing on."""
        self._to_sshfs.pieces.append(packets.build(packets.ATTRS, identity, answer))
        return NOTHING

    def _fail(self, identity: int, kind: int) -> bytes:
        """Answer in the server's place, and pass nothing on. A file that the server has lost is closed by that."""
        code = packets.OK if kind == packets.CLOSE else packets.UNAVAILABLE
        self._to_sshfs.pieces.append(packets.status(identity, code))
        return NOTHING

    def _fail_reads_of(self, closed: File) -> None:
        """Answer the reads that wait for a file that nobody reads any more: sshfs has read ahead."""
        if self._pending.waiting:
            for identity, request in list(self._pending.items()):
                if request.waits and request.file is closed:
                    self._give_up(identity, request)

    def _send(self) -> None:
        ssh, box = self._ssh, self._to_ssh
        if not box.pieces or ssh is None:
            return
        try:
            if ssh.takes_packets:
                box.flush(ssh.descriptor)
                return
        except Closed:  # what it has sent before is still to be read
            ssh.takes_packets = False
        box.pieces.clear()

    def _deliver(self) -> None:
        try:
            self._to_sshfs.flush(self._sshfs)
        except Closed:
            raise SshfsEnded from None

    # Replies of the server

    def _take_replies(self, ssh: Connection) -> bool:
        """Pass replies on; return False if the first connection has failed."""
        inbox, why = self._from_ssh, ""
        more = inbox.fill(ssh.descriptor)
        start = inbox.start
        try:
            inbox.pass_on(self._to_sshfs.pieces, self._reply)
        except Malformed as reason:
            more, why = False, f"the server sends {reason}, which is no SFTP"
        except TooLong as reason:
            more, why = False, f"the server sends {reason}: a directory there is too large for it"
        if inbox.start > start or inbox.is_long:
            self._heard = monotonic()
        self._deliver()
        if not more:
            if not self._sshfs_has_version:
                if why:
                    outage.say(why)
                return False
            self._lose(why)
        return True

    def _reply(self, kind: int, identity: int, packet: memoryview) -> bytes | None:
        """Note a reply; return what to pass on, as :meth:`Inbox.pass_on` is told it. Raises Malformed."""
        if kind == packets.VERSION:
            return self._version(packet)
        request = self._pending.get(identity)
        if request is None or request.waits or self._outage:
            return self._own_reply(kind, identity, bytes(packet))
        handed_on = None
        if kind == packets.STATUS:
            code = packets.number(packet, 9)
            self._note_status(request, code)
            if request.kind == packets.RENAME and code == packets.EXISTS:  # else sshfs would not try in another way
                handed_on = packets.status(identity, packets.FAILURE)
            elif request.kind == packets.READDIR and request.file:
                handed_on = self._note_end_of_names(identity, code, request.file)
        elif not request.is_answered_by(kind):
            raise Malformed(f"a reply of type {kind} to a request of type {request.kind}")
        elif kind == packets.DATA:
            if rest := self._note_read(identity, request, packet):
                self._to_ssh.pieces.append(rest)
                return NOTHING
        elif request.asks_attributes:
            self._note_attributes(request, packet)
        elif len(packet) > 4 + packets.LONGEST_REPLY and request.kind != packets.READDIR:  # one name, of a link
            raise Malformed(f"a packet of {len(packet) - 4} bytes")
        elif request.file:
            handed_on = self._note_of_file(kind, request, request.file, packet)
        del self._pending[identity]
        if request.data and (kind == packets.DATA or packets.number(packet, 9) == packets.END_OF_FILE):
            return packets.build(packets.DATA, identity, packets.string(request.data))
        return handed_on

    def _note_of_file(self, kind: int, request: Request, file: File, packet: memoryview) -> bytes | None:
        """Note a reply about an open file or directory; return what to pass on in its place, None for itself."""
        if kind == packets.ATTRS:
            file.note_stamp(packets.size_and_time(packet), request.changes)
        elif kind == packets.NAME:
            file.listed += len(packet)
            if file.listed > packets.LONGEST_LISTING:
                raise Malformed("names of one directory without end")
            if len(packet) > 4 + packets.LONGEST_REPLY:
                return self._cut_names(packet, file)
        elif kind == packets.HANDLE:
            handle = packets.handle(packet)
            self._files.note_given(handle, request.path)
            self._files.add(file, handle)
            if file.is_unsure:
                self._ask_stamp(file)
            if self._attributes:
                self._note_opened(self._attributes, request)
            if file.handle != handle:
                return packets.with_string(packet, 9, file.handle)
        return None

    def _cut_names(self, packet: memoryview, directory: File) -> bytes:
        """Give sshfs as many of the names as it takes, and keep the others for what it asks next."""
        _, _, identity = packets.HEADER.unpack_from(packet)
        is_room = self._files.kept_names() + len(packet) <= packets.LONGEST_NAMES
        if directory.is_listed or directory.listing_fails or not is_room:
            return self._fail_listing(identity, directory)
        first, *others = packets.cut_names(packet)
        directory.names += others
        return packets.build(packets.NAME, identity, first)

    def _note_end_of_names(self, identity: int, code: int, directory: File) -> bytes | None:
        """Note that there are no more names; return what to pass on in place of that: names if some are kept.

        Sshfs asks for names several times at once, and takes the answers in the order in which it has asked.
        """
        if directory.listing_fails:
            return self._fail_listing(identity, directory)
        if code == packets.END_OF_FILE and directory.names:
            requests = self._pending.items()
            if identity != next(key for key, other in requests if _asks_names(other, directory)):
                return self._fail_listing(identity, directory)
            return packets.build(packets.NAME, identity, directory.names.pop(0))
        directory.is_listed = True
        return None

    def _fail_listing(self, identity: int, directory: File) -> bytes:
        """Fail a listing from here on: without some of the names it would look like that of a smaller directory."""
        directory.listing_fails = True
        directory.names.clear()
        return packets.status(identity, packets.UNAVAILABLE)

    def _note_attributes(self, request: Request, packet: memoryview) -> None:
        stamp = packets.size_and_time(packet)
        if self._attributes:
            self._keep_attributes(self._attributes, request, packet, is_file=stamp is not None)
        for file in self._files.note_stamp(request.path, stamp, request.changes, request.asked_for):
            self._ask_stamp(file)

    def _keep_attributes(self, cache: AttributeCache, request: Request, packet: memoryview, *, is_file: bool) -> None:
        now = monotonic()
        if not is_file:
            cache.begin(request, packet, now)
            return
        for file in request.asked_for:
            if file.is_new:
                file.attributes = cache.of_file(packet, now)

    def _note_opened(self, cache: AttributeCache, request: Request) -> None:
        """Look ahead for the directory of a file that was made: there is time for that until it was written to."""
        cache.invalidate_late(request)
        for path in request.asked_then:
            if len(self._own) < MOST_AHEAD:
                self._ask(self._look_ahead(cache, path))

    def _note_status(self, request: Request, code: int) -> None:
        if self._attributes:
            self._attributes.invalidate_late(request)
        if request.kind == packets.RENAME and code == packets.OK:
            self._files.rename(request.path, request.new, request.changes)
        elif request.kind == packets.REMOVE and code == packets.OK:
            self._files.unlink(request.path, request.changes)
        elif request.kind == packets.OPEN and request.file:
            self._files.remove(request.file)
        elif request.extension == requests.SYNC and request.file and code == packets.OK:
            request.file.synced = request.writes
            if request.file.server_handle:
                self._ask_stamp(request.file)
        elif request.kind == packets.READ and code != packets.END_OF_FILE and request.file:
            self._tell_error(request.file, code)

    def _tell_error(self, file: File, code: int) -> None:
        if not file.error_told:
            file.error_told = True
            what = f"the server can't read {shown(file.path)} (status {code})"
            outage.say(f"{what}, which its reader takes for the end of the file")

    def _note_read(self, identity: int, request: Request, packet: memoryview) -> bytes:
        """Note what was read; return the request for the rest where the server has sent less than there is.

        Sshfs would take that for the end of the file.
        """
        asked, file = request.packet, request.file
        length, wanted = packets.number(packet, 9), packets.number(asked, len(asked) - 4) - len(request.data)
        if length != len(packet) - 13 or length > wanted:
            raise Malformed("other than the data that was asked for")
        end = packets.number(asked, len(asked) - 12, ">Q") + len(request.data) + length
        if request.data:
            request.data += packet[13:]
        if file:
            self._files.note_read(file, end - length, packet[13:])
        if not 0 < length < wanted or file is None or file.closed or not file.may_be_longer_than(end):
            return b""
        request.data = request.data or bytes(packet[13:])
        position = end.to_bytes(8, "big") + (wanted - length).to_bytes(4, "big")
        return packets.build(packets.READ, identity, packets.string(file.server_handle), position)

    def _version(self, packet: memoryview) -> bytes | None:
        if self._has_version:
            raise Malformed("its version twice")
        self._has_version = True
        if self._attributes:
            self._attributes.in_order = packets.OF_OPENSSH in bytes(packet)
        if not self._sshfs_has_version:
            self._sshfs_has_version = True
            return None
        if self._outage:
            self._outage.let_in(monotonic())
        self._ask(self._restore())
        self._go_on()
        return NOTHING

    # A lost connection

    def _lose(self, why: str, *, hangs: bool = False) -> None:
        """Give up a connection, be it the one that was or an attempt to make another.

        Args:
            why: What ended it; empty if ssh says so.
            hangs: Whether it is an attempt at a server that can be reached and then answers nothing.
        """
        now, ssh, said = monotonic(), self._ssh, b""
        if ssh:
            if not why:
                ssh.await_end()  # and say why
            ssh.end()
            said = ssh.said
            self._left_behind = None if ssh.has_ended() else ssh
        why = why or outage.last_line(said) or "it was closed"
        self._ssh, self._has_version, self._reopens = None, False, False
        self._from_ssh.clear()
        self._to_ssh.pieces.clear()
        self._own.clear()
        if self._attributes:
            self._attributes.clear()
        self._files.lose()
        if self._outage is None:
            for request in self._pending.values():
                if request.kind == packets.RENAME:
                    self._files.note_lost_rename(request.path, request.new)
            self._outage, self._holds = Outage(self._outage_files, now, self._started, why), True
            self._fail_pending(but_asking=True)
        else:
            self._outage.failed(now, why, said, hangs=hangs)
            self._holds = False
            self._fail_pending(but_asking=False)
        self._deliver()

    def _fail_pending(self, *, but_asking: bool) -> None:
        """Fail the requests that have no reply, but those of reads, and if so wished those that may be repeated."""
        for identity, request in list(self._pending.items()):
            file = request.file
            if request.is_of_read and file and not file.closed and file.survives:
                if not request.waits:
                    self._wait(request)
            elif request.kind == packets.READ and file and not file.closed:
                raise CannotGoOn(_why_lost(file))
            elif request.is_of_read or not (but_asking and request.may_be_repeated):
                self._give_up(identity, request)
                if request.kind == packets.OPEN and file:
                    self._files.remove(file)

    def _give_up(self, identity: int, request: Request) -> None:
        """Answer a request that has no reply, and may have waited, with an error."""
        if request.waits:
            self._pending.wait_no_more(request)
        del self._pending[identity]
        self._fail(identity, request.kind)

    def _end_waiting(self, now: float) -> None:
        """Give up what has waited for too long. Raises CannotGoOn for a READ, of which any end looks like data."""
        for identity, request in list(self._pending.items()):
            if request.waits and now - request.since > self._read_seconds:
                if request.kind == packets.READ:
                    of = f" of {shown(request.file.path)}" if request.file else ""
                    raise CannotGoOn(f"a read{of} has waited for {self._read_seconds:.0f} seconds")
                self._give_up(identity, request)
        self._deliver()

    def _wait(self, request: Request) -> None:
        """Let a read wait until its file is open again; the first one of a file has that asked for at once."""
        now = monotonic()
        is_tried = any(other.waits and other.file is request.file for other in self._pending.values())
        if not (is_tried or self._outage):  # after which all are tried
            self._retry_at = now
        self._pending.wait(request, now)

    def _while_lost(self, lost: Outage, now: float) -> None:
        if self._holds and not self._reopens and now > lost.hold_until:
            self._holds = False
            self._fail_pending(but_asking=False)
            self._deliver()
        if self._ssh:
            if self._reopens:
                if now - self._heard > REOPEN_SECONDS:
                    self._lose(f"the server is too slow to open {shown(self._files.note_hanging())} again", hangs=True)
            elif now - lost.started > ATTEMPT_SECONDS:
                self._lose("the server does not answer in time", hangs=True)  # ssh itself ends if it can't reach it
        elif lost.is_due(now):
            lost.started = self._started = self._heard = now
            self._connect(lost, now)

    def _connect(self, lost: Outage, now: float) -> None:
        """Begin an attempt to connect, unless the one before could not be ended: this one would not get any further."""
        if self._left_behind and not self._left_behind.has_ended():
            lost.failed(now, "ssh waits for a file system of this host that does not answer", b"")
            return
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
        self._holds = self._reopens = True
        self._reopen(self._files.lost())

    def _reopen(self, files: "Iterable[File]") -> None:
        for file in dict.fromkeys(files):
            self._ask(reopening.reopen(file, self._files))
        self._send()

    def _ask_stamp(self, file: File) -> None:
        """Ask for the stamp of an open file that is read; if that is under way, once more after it."""
        if file.readable and (file.stamps_wanted or len(self._own) < MOST_OWN):
            file.stamps_wanted += 1
            if file.stamps_wanted == 1:
                self._ask(reopening.stamp(file))

    def _ask(self, conversation: "Conversation", reply: tuple[int, bytes] | None = None) -> None:
        """Let requests of our own go on with a reply."""
        if request := self._own_request(conversation, reply):
            self._to_ssh.pieces.append(request)

    def _own_request(self, conversation: "Conversation", reply: tuple[int, bytes] | None = None) -> bytes:
        """Return the next request of a conversation, as a packet; empty if that is over."""
        try:
            request = conversation.send(reply) if reply else next(conversation)
        except StopIteration:
            return b""
        identity = self._new_id()
        self._own[identity] = conversation
        return packets.build(request[0], identity, request[1:])

    def _new_id(self) -> int:
        """Return an id that nobody uses, and that sshfs will not use for long: it has used up half of them before."""
        while True:
            self._asked = (self._asked + 1) % MOST_ASKED
            identity = (self._last_id + packets.IDS // 2 + self._asked) % packets.IDS
            if identity not in self._own and identity not in self._pending:
                return identity

    def _own_reply(self, kind: int, identity: int, packet: bytes) -> bytes:
        conversation = self._own.pop(identity, None)
        if conversation is None:
            raise Malformed("a reply that nothing has asked for")
        self._ask(conversation, (kind, packet))
        self._go_on()
        return NOTHING

    def _go_on(self) -> None:
        """Send what has waited for the files that are open again; let sshfs go on once all are that can be."""
        if self._outage and not self._own:
            now = monotonic()
            self._outage.over(now, len([file for file in self._files.by_handle.values() if file.server_handle]))
            self._outage, self._holds, self._reopens, self._heard = None, False, False, now
            self._retry_at = now + RETRY_SECONDS
            for request in self._pending.values():
                if not request.waits:
                    if request.kind == packets.OPEN and request.file:
                        self._files.expect(request.file, at=request.path)
                    self._note_files_asked_for(request)
                    self._to_ssh.pieces.append(request.packet)
                    request.packet = b""  # if this server hangs over it as well, no other is asked
            self._reopen(request.file for request in self._pending.values() if request.file and request.file.hangs)
        if self._pending.waiting and not self._outage:
            for identity, request in list(self._pending.items()):
                if request.waits and request.file:
                    self._read_if_open(identity, request, request.file)
        self._send()

    def _read_if_open(self, identity: int, request: Request, file: File) -> None:
        if file.server_handle:
            self._pending.wait_no_more(request)
            request.changes = self._files.changes
            self._to_ssh.pieces.append(packets.with_string(request.packet, 9, file.server_handle))
        elif not file.survives:
            if request.kind == packets.READ:
                raise CannotGoOn(_why_lost(file))
            self._give_up(identity, request)
        elif not (file.reopens or file.hangs or file.wait_told):
            file.wait_told = True
            every = f"{RETRY_SECONDS:.0f} seconds"
            outage.say(
                f"the server can't open {shown(file.path)} again: what reads it waits, and it is tried every {every}"
            )

    def _listen(self, ssh: Connection) -> None:
        """Pass on what a later ssh says while it is connected; what an attempt says is told by the outage."""
        said = ssh.read_messages()
        if said and not self._outage:
            outage.say(said.decode("utf-8", "replace"))

    def _end(self, ssh: Connection) -> int:
        """Let ssh send what it has, and end it; return its exit status."""
        limit = monotonic() + END_SECONDS
        while self._to_ssh.pieces and monotonic() < limit:
            select((), (ssh.descriptor,), (), END_SECONDS)
            self._send()
        ssh.end_input()
        self._from_ssh.clear()
        while monotonic() < limit and select((ssh.descriptor,), (), (), END_SECONDS)[0]:
            if not self._from_ssh.fill(ssh.descriptor):
                ssh.await_end()
                break
            self._from_ssh.clear()
        return ssh.end()


def _asks_names(request: Request, directory: File) -> bool:
    return request.kind == packets.READDIR and request.file is directory


def _why_lost(file: File | None) -> str:
    if file and file.differs:
        before = "another file than it was before the connection was lost"
        if file.may_differ:
            return f"{shown(file.path)} may be {before}: the server tells no times, by which that could be seen"
        return f"{shown(file.path)} is {before}"
    if file and file.writes != file.synced:
        return f"{shown(file.path)} was written to, and the server may have lost that"
    return "a file that was open when the connection was lost can't be opened again"
