# SPDX-License-Identifier: MIT
"""The files that sshfs has open, and which of them may be opened again after a connection was lost."""

from sshfs_plugin.relay.packets import NO_TIME, Malformed

TYPE_CHECKING = False  # for mypy; the module "typing" is too large for the relay
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sshfs_plugin.relay.attributes import KeptAttributes

PART_BYTES = 64
"""How much is remembered of what was read first and of what was read last, to know a file by it that has grown or was
written to.
"""


class File:
    """A file or directory that sshfs has open.

    Attributes:
        path: Its path on the server; empty for a directory, and once another file has that path.
        other_path: A second path at which it may be, since it was being renamed when the connection was lost.
        handle: The handle by which sshfs knows it.
        server_handle: The handle by which the server knows it; empty if it is not open there.
        readable: Whether it may be read from; False for a directory.
        renewed: Whether it was open when a connection was lost; then it can't be changed through this handle any more.
        writes: How many changes were made through this handle.
        synced: How many of them the server has written to its disk.
        attributes: Those that its path has shown since it was made, for the first time that sshfs asks for those of
            the open file.
        stamp: Its size and modification time (or NO_TIME) when they were seen last; None if they were not.
        listed: How many bytes the server has sent of what is in a directory.
        names: What it has sent of these at once and is still to be given to sshfs, as contents of NAME replies.
        is_listed: Whether sshfs was told that there are no more, or that there is an error.
        listing_fails: Whether some of its names were lost, so that it must not be taken for listed.
        asked: How many changes sshfs had asked for when it asked for the file.
        changes: The number of the last change of the file that sshfs has asked for, through any handle.
        stamped: That of the last change of any file at the time of the stamp.
        closed: Whether sshfs has closed it.
        differs: Whether another file was found at its path, or one that may be another.
        may_differ: Whether that is so only since the server tells no times.
        reopens: Whether the server is being asked to open it again.
        hangs: Whether a server did not answer that; then others are not to wait for it.
        stamps_wanted: How often its stamp is yet to be asked for.
        is_unsure: Whether its path has shown a stamp before it was open, which may be that of another file.
        is_new: Whether it can only be open if there was nothing at its path before.
        error_told: Whether the journal was told that the server can't read it.
        wait_told: Whether it was told that the server can't open it again.
        end: Up to where the last read of it, or of another open at its path, reached; -1 if nothing was read.
        tail: The last bytes of that read.
        begin: From where on the first of these reads was since sshfs has changed the file.
        head: The first bytes of that read.
    """

    __slots__ = (
        "asked",
        "attributes",
        "begin",
        "changes",
        "closed",
        "differs",
        "end",
        "error_told",
        "handle",
        "hangs",
        "head",
        "is_listed",
        "is_new",
        "is_unsure",
        "listed",
        "listing_fails",
        "may_differ",
        "names",
        "other_path",
        "path",
        "readable",
        "renewed",
        "reopens",
        "server_handle",
        "stamp",
        "stamped",
        "stamps_wanted",
        "synced",
        "tail",
        "wait_told",
        "writes",
    )

    def __init__(self, path: bytes = b"", *, readable: bool = False, is_new: bool = False) -> None:
        self.path, self.readable, self.is_new = path, readable, is_new
        self.other_path = self.handle = self.server_handle = self.head = self.tail = b""
        self.renewed = self.closed = self.differs = self.reopens = self.hangs = self.is_unsure = False
        self.may_differ = False
        self.error_told = self.wait_told = self.is_listed = self.listing_fails = False
        self.writes = self.synced = self.asked = self.changes = self.stamped = self.stamps_wanted = self.listed = 0
        self.stamp: tuple[int, int] | None = None
        self.attributes: KeptAttributes | None = None
        self.names: list[bytes] = []
        self.begin, self.end = 0, -1

    @property
    def survives(self) -> bool:
        """Whether it may be opened again, to be read: not if the server may have lost what was written to it."""
        return self.readable and self.path != b"" and self.writes == self.synced and not self.differs

    def note_stamp(self, stamp: tuple[int, int] | None, changes: int) -> None:
        """Note a stamp that was asked for after that change."""
        if stamp is not None:
            self.stamp, self.stamped = stamp, changes

    def is_same(self, stamp: tuple[int, int] | None) -> bool:
        """Tell whether a file with that stamp is this one: it looks as before, or nobody knows anything of it.

        Even if nothing was read of it, sshfs knows its size, and a reader would take as much of another for the whole.
        If something was, its size says too little: another version of a file is often as long.
        """
        if stamp is not None and stamp == self.stamp and (stamp[1] != NO_TIME or self.end < 0):
            return True
        is_unknown = self.stamp is None or self.stamp[0] == 0 or self.changes > self.stamped
        return is_unknown and self.end < 0 and not self.writes

    def may_be_longer_than(self, size: int) -> bool:
        """Tell whether it may have more bytes than a short answer has reached.

        It has not if its size was just that when it was seen last. Where the answer goes beyond, it has grown since.
        """
        return self.stamp is None or self.stamp[0] != size or self.changes > self.stamped

    def may_be_same(self, stamp: tuple[int, int] | None) -> bool:
        """Tell whether a file with that stamp is this one if it has the known parts: it has grown, or we changed it."""
        if stamp is None or self.stamp is None or not self.tail:
            return False
        return stamp[0] > self.stamp[0] or self.changes > self.stamped

    @property
    def known_parts(self) -> "list[tuple[int, bytes]]":
        """What was read of it, by which it is known again: position and bytes of each part."""
        tail = self.end - len(self.tail), self.tail
        return [tail, (self.begin, self.head)] if self.head else [tail]

    def note_read(self, begin: int, content: memoryview, tail: bytes) -> None:
        """Note a read of it, which has that tail; what is known of the first one stays."""
        self.end, self.tail = begin + len(content), tail
        if not self.head:
            self.begin, self.head = begin, bytes(content[:PART_BYTES])


class OpenFiles:
    """The open files by handle and by path.

    Attributes:
        by_handle: All, by the handles by which sshfs knows them.
        to_read: Those that may be read from, be they open already or only asked for.
        changes: How many changes sshfs has asked for.
    """

    def __init__(self) -> None:
        self.by_handle: dict[bytes, File] = {}
        self.to_read: set[File] = set()
        self._by_path: dict[bytes, list[File]] = {}
        self._given: dict[bytes, tuple[bytes, int]] = {}  # the server's handles: the path of each, and how many opens
        self._serial = self.changes = 0

    def expect(self, file: File, at: bytes = b"") -> None:
        """Note a file that sshfs asks for, since its stamp may be seen before the server has opened it.

        Args:
            file: The file.
            at: Its path if it is asked for once more: it may have been renamed since.
        """
        if at and at != file.path:
            self._unlist(file)
            file.path = at
        file.asked = self.changes
        if file.readable:
            self.to_read.add(file)
        if file.path and file not in self._by_path.setdefault(file.path, []):
            self._by_path[file.path].append(file)

    def note_given(self, handle: bytes, path: bytes) -> None:
        """Note that the server has opened what is at a path by a handle.

        Raises:
            Malformed: It has another path open by the same handle, and so would read and write the one for the other.
        """
        known, opens = self._given.get(handle, (path, 0))
        if known != path:
            raise Malformed(f"one handle for two open files, {shown(known)} and {shown(path)}")
        self._given[handle] = path, opens + 1

    def note_closed(self, handle: bytes) -> None:
        """Note that the server is asked to close a handle, and may give it once more."""
        path, opens = self._given.pop(handle, (b"", 0))
        if opens > 1:
            self._given[handle] = path, opens - 1

    def add(self, file: File, server_handle: bytes) -> None:
        """Note that a file is open. Sshfs gets another handle where it knows another file by the server's."""
        handle = server_handle
        while handle in self.by_handle:
            self._serial += 1
            handle = b"relay-%d" % self._serial
        file.handle, file.server_handle = handle, server_handle
        self.by_handle[handle] = file

    def remove(self, file: File) -> None:
        """Forget a file that was closed, or could not be opened."""
        file.closed = True
        self.to_read.discard(file)
        if self.by_handle.get(file.handle) is file:
            del self.by_handle[file.handle]
        self._unlist(file)

    def asked_for(self, path: bytes) -> list[File]:
        """Return the files at a path that sshfs has asked for and does not have yet.

        It asks for the attributes at the path meanwhile (docs/facts.md, "How sshfs opens a file").
        """
        return [file for file in self._by_path.get(path, ()) if not file.handle]

    def note_stamp(
        self, path: bytes, stamp: tuple[int, int] | None, changes: int = 0, asked_for: "Sequence[File]" = ()
    ) -> list[File]:
        """Note what a path shows; return the open files of which it may not be true, as the path may be another's.

        Args:
            path: The path on the server.
            stamp: What it shows.
            changes: How many changes sshfs had asked for when it asked for that.
            asked_for: The files that it had asked for and did not have: it asks because of these, and if it has
                changed nothing in between the path shows them.
        """
        if stamp is None or path not in self._by_path:
            return []
        unsure = []
        for file in self._by_path[path]:
            if file in asked_for and file.asked == changes and file.stamp is None:
                file.note_stamp(stamp, changes)
            elif stamp != file.stamp and file.server_handle:
                unsure.append(file)
            elif file in asked_for:
                file.is_unsure = True
        return unsure

    def note_read(self, file: File, begin: int, content: memoryview) -> None:
        """Note what was read from a file; the kernel may show it to whoever has opened the same path before.

        Args:
            file: The file.
            begin: From where on it was read.
            content: What was read.
        """
        tail = bytes(content[-PART_BYTES:])
        file.note_read(begin, content, tail)
        for other in self._by_path.get(file.path, ()):
            # another file may have been put there in between, and be longer
            is_as_known = other.stamp == file.stamp or (other.end < 0 and other.changes > other.stamped)
            if other.handle and is_as_known:
                other.note_read(begin, content, tail)

    def note_change(self, path: bytes) -> None:
        """Note that sshfs has asked for a change of what is at a path."""
        self.number_change()
        for file in self._by_path.get(path, ()):
            file.changes, file.head = self.changes, b""

    def number_change(self) -> int:
        """Return the number of a change that sshfs asks for."""
        self.changes += 1
        return self.changes

    def unlink(self, path: bytes, change: int) -> None:
        """Note that a path was removed; what it showed is open still, but has no path any more.

        Args:
            path: The path on the server.
            change: The number of that change: a file that was asked for after it is not meant.
        """
        for file in self._asked_before(change, path):
            self._unlist(file)
            file.path = b""

    def rename(self, old: bytes, new: bytes, change: int) -> None:
        """Follow a file, or what is in a directory, to its new path; what was there before has none any more."""
        self.unlink(new, change)
        for path in self._at_or_below(old):
            moved = new + path[len(old) :]
            for file in self._asked_before(change, path):
                self._move(file, moved)
        for file in self.by_handle.values():
            if file.other_path == old or file.other_path.startswith(old + b"/"):
                file.other_path = new + file.other_path[len(old) :]

    def note_found(self, file: File, path: bytes) -> None:
        """Note at which of its two paths a file was found."""
        if path == file.other_path:
            self._move(file, path)
            file.other_path = b""

    def note_lost_rename(self, old: bytes, new: bytes) -> None:
        """Note a rename whose reply was lost."""
        for path in self._at_or_below(old):
            for file in self._by_path[path]:
                file.other_path = new + path[len(old) :]

    def lose(self) -> None:
        """Note that the server has closed all files."""
        self._given.clear()
        for file in self.by_handle.values():
            file.server_handle, file.renewed, file.stamps_wanted, file.attributes = b"", True, 0, None
            file.names.clear()

    def kept_names(self) -> int:
        """Return how many bytes of names are kept for sshfs."""
        return sum(len(part) for file in self.by_handle.values() for part in file.names)

    def lost(self) -> list[File]:
        """Return the files that are to be opened again before anything else is asked."""
        return [file for file in self.by_handle.values() if file.survives and not (file.server_handle or file.hangs)]

    def note_hanging(self) -> bytes:
        """Note that the server does not answer for the files that it was to open again; return the path of one."""
        hanging = [file for file in self.by_handle.values() if file.reopens]
        for file in hanging:
            file.hangs = True
        return hanging[0].path if hanging else b""

    def _move(self, file: File, path: bytes) -> None:
        self._unlist(file)
        file.path = path
        self._by_path.setdefault(path, []).append(file)

    def _unlist(self, file: File) -> None:
        if file in (files := self._by_path.get(file.path, [])):
            files.remove(file)
            if not files:
                del self._by_path[file.path]

    def _asked_before(self, change: int, path: bytes) -> list[File]:
        return [file for file in self._by_path.get(path, ()) if file.asked < change]

    def _at_or_below(self, old: bytes) -> list[bytes]:
        return [path for path in self._by_path if path == old or path.startswith(old + b"/")]


def shown(path: bytes) -> str:
    """Return a path as people are shown it."""
    return repr(path.decode("utf-8", "replace"))
