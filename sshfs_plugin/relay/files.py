# SPDX-License-Identifier: MIT
"""The files that sshfs has open, and which of them may be opened again after a connection was lost."""

TAIL_BYTES = 64
"""How much of the end of the last read is remembered, to know a file by it that has grown."""

LONGEST_HANDLE = 256
"""The protocol's own limit."""


class File:
    """A file or directory that sshfs has open.

    Attributes:
        path: Its path on the server; None for a directory, and once another file has that path.
        name: The handle by which sshfs knows it.
        handle: The handle by which the server knows it; empty if it could not be opened again.
        readable: Whether it may be read from; False for a directory.
        writable: Whether it may be changed through this handle; never again once it was opened anew.
        written: Whether it was.
        look: Its size and modification time when they were seen last; None if they were not.
        end: Up to where the last read reached; -1 if nothing was read.
        tail: The last bytes of that read.
    """

    __slots__ = ("end", "handle", "look", "name", "path", "readable", "tail", "writable", "written")

    def __init__(self, path: bytes | None = None, *, readable: bool = False, writable: bool = False) -> None:
        self.path, self.readable, self.writable, self.written = path, readable, writable, False
        self.name = self.handle = self.tail = b""
        self.look: tuple[int, int] | None = None
        self.end = -1

    @property
    def survives(self) -> bool:
        """Whether it may be opened again, for reading: what was written to it may be lost with the server."""
        return self.readable and not self.written and self.path is not None

    def is_same(self, look: tuple[int, int] | None) -> bool:
        """Tell whether a file that looks like that is this one. Where nothing was read yet, any file will do."""
        return self.end < 0 or (look is not None and look == self.look)

    def may_have_grown(self, look: tuple[int, int] | None) -> bool:
        """Tell whether a file that looks like that may be this one with more in it; its tail then proves it."""
        return bool(self.tail) and self.look is not None and look is not None and look[0] > self.look[0]


class OpenFiles:
    """The open files by handle and by path.

    Attributes:
        by_name: They, by the handle by which sshfs knows them.
    """

    def __init__(self) -> None:
        self.by_name: dict[bytes, File] = {}
        self._by_path: dict[bytes, list[File]] = {}
        self._serial = 0

    def opening(self, file: File) -> None:
        """Note a file that is asked for: what its path shows from now on is seen of it."""
        if file.path is not None and file.readable:
            self._by_path.setdefault(file.path, []).append(file)

    def opened(self, file: File, handle: bytes) -> None:
        """Note the server's handle. Sshfs gets another name for it where it knows another file by that."""
        name = handle
        while name in self.by_name:
            self._serial += 1
            name = b"relay-%d" % self._serial
        file.name, file.handle = name, handle
        self.by_name[name] = file

    def closed(self, file: File) -> None:
        """Forget a file that was closed, or could not be opened."""
        if self.by_name.get(file.name) is file:
            del self.by_name[file.name]
        if file.path is not None and file in (files := self._by_path.get(file.path, [])):
            files.remove(file)
            if not files:
                del self._by_path[file.path]

    def seen(self, path: bytes, look: tuple[int, int] | None) -> None:
        """Note what a path shows."""
        if look:
            for file in self._by_path.get(path, ()):
                file.look = look

    def renamed(self, old: bytes, new: bytes) -> None:
        """Follow a file, or what is in a directory, to its new name; what had that name before has none any more."""
        for file in self._by_path.pop(new, ()):
            file.path = None
        for path in [path for path in self._by_path if path == old or path.startswith(old + b"/")]:
            moved = new + path[len(old) :]
            files = self._by_path.pop(path)
            for file in files:
                file.path = moved
            self._by_path[moved] = files

    def lost(self) -> None:
        """Forget all files but those that survive, and let these be read alone."""
        self.by_name = {name: file for name, file in self.by_name.items() if file.survives}
        self._by_path = {}
        for file in self.by_name.values():
            file.writable = False
            self.opening(file)
