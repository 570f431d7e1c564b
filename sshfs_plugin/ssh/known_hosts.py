# SPDX-License-Identifier: MIT
"""The host keys that this host knows, looked up by OpenSSH's own rules.

``ssh-keygen -F`` does the matching, so that hashed names, wildcards, ports and markers mean what they mean to ssh. Only
the plugin's own file is written, under a lock that the service and the administrator's command share.
"""

import base64
import dataclasses
import errno
import fcntl
import functools
import hashlib
import os
import secrets
import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.host import command, local_files
from sshfs_plugin.settings import Settings
from sshfs_plugin.volume import SSH_PORT, Volume

_SEARCH_SECONDS = 10.0

LOCK_SECONDS = 10.0
"""How long to wait for another process that writes to the plugin's own file, which takes moments."""

_PAUSE_SECONDS = 0.02
_NOT_FOUND = 1
_SEARCHES_REMEMBERED = 256

_NOT_A_FILE_FOR_SSH = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.EACCES, errno.EPERM)
)
"""Errors of a file in which ssh as well finds no keys; EINVAL is that of a pipe or a device (``local_files.read``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKey:
    """A server's public key.

    Attributes:
        kind: As in known_hosts, ``ssh-ed25519`` for example.
        blob: The key in SSH's wire format.
        revoked: Whether known_hosts marks it ``@revoked``.
        file: Where it was found, None for one that a server has shown.
    """

    kind: str
    blob: bytes
    revoked: bool = False
    file: Path | None = None

    @property
    def fingerprint(self) -> str:
        """The fingerprint as ``ssh-keygen -l`` prints it."""
        return fingerprint(self.blob)


def fingerprint(blob: bytes) -> str:
    """Return the fingerprint of a public key in SSH's wire format, as ``ssh-keygen -l`` prints it."""
    digest = hashlib.sha256(blob).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def pattern(host: str, port: int) -> str:
    """Return a server's name in known_hosts: ``host``, or ``[host]:port`` if the port is not 22."""
    return host.lower() if port == SSH_PORT else f"[{host.lower()}]:{port}"


def line(host: str, port: int, key: HostKey) -> str:
    """Return the line of known_hosts for a server and its key."""
    return f"{pattern(host, port)} {key.kind} {base64.b64encode(key.blob).decode()}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHosts:
    """The files in which host keys are looked up.

    Attributes:
        own: The plugin's own file, to which accepted keys are added.
        others: The administrator's files, which are only read.
        pinned: A directory with a file for each volume that pins its host key.
        home: The directory that ``~`` stands for.
    """

    own: Path
    others: tuple[Path, ...]
    pinned: Path
    home: Path = Path("/root")

    @classmethod
    def of(cls, settings: Settings) -> "KnownHosts":
        """Return the known hosts of a host with these settings."""
        return cls(
            own=settings.known_hosts,
            others=(settings.home / ".ssh/known_hosts", Path("/etc/ssh/ssh_known_hosts")),
            pinned=settings.pinned,
            home=settings.home,
        )

    def reading(self, file: str) -> "KnownHosts":
        """Return the same known hosts with a file in place of the administrator's; an empty name changes nothing."""
        if not file:
            return self
        return dataclasses.replace(self, others=(local_files.expanded(file, self.home),))

    def lookup(self, host: str, port: int) -> tuple[HostKey, ...]:
        """Return the keys that are known of a server, revoked ones included.

        Raises:
            FileStuck: The file system of a file does not answer.
        """
        return self.accepted(host, port) + self.verified(host, port)

    def of_server(self, volume: Volume) -> tuple[HostKey, ...]:
        """Return the keys that are known of a volume's server, in the files that count for the volume.

        Raises:
            FileStuck: The file system of a file does not answer.
        """
        return self.reading(volume.known_hosts).lookup(volume.remote.host, volume.remote.port)

    def accepted(self, host: str, port: int) -> tuple[HostKey, ...]:
        """Return a server's keys in the plugin's own file."""
        return _find(self.own, pattern(host, port), Path.read_bytes)

    def verified(self, host: str, port: int) -> tuple[HostKey, ...]:
        """Return a server's keys in the administrator's files.

        Raises:
            FileStuck: The file system of a file does not answer.
        """
        return tuple(key for file in self.others for key in _find(file, pattern(host, port), _read_slowly))

    def names(self) -> list[str]:
        """Return the servers in the plugin's own file, for shell completion; none if it can't be read."""
        try:
            lines = self.own.read_text(errors="replace").splitlines()
        except OSError:
            return []
        named = {name for entry in lines for name in entry.partition(" ")[0].split(",")}
        return sorted(name for name in named if name and not name.startswith(("|", "@", "#", "!")))

    def faulty_lines(self) -> list[int]:
        """Return the numbers of the lines in the plugin's own file that hold no key; none if there is no file.

        Raises:
            OSError: It can't be read.
        """
        # a line ends where ssh and sed say so, which know nothing of other line breaks
        lines = self.own.read_bytes().split(b"\n") if self.own.exists() else []
        entries = ((number, line.decode(errors="replace").strip()) for number, line in enumerate(lines, 1))
        return [
            number
            for number, entry in entries
            if entry and not entry.startswith(("#", "@cert-authority")) and not _keys_in(entry, self.own)
        ]

    def add(self, host: str, port: int, key: HostKey) -> None:
        """Add a server's key to the plugin's own file unless it is known already. On return it is on disk.

        Raises:
            StateError: It could not be written, or another process keeps it locked.
            FileStuck: The file system of an administrator's file does not answer.
        """
        # before the lock is taken, since the file system of these files may hang
        verified = self.verified(host, port)
        with _writing(self.own), self._locked() as file:
            if any(known.blob == key.blob for known in (*self.accepted(host, port), *verified)):
                return
            file.seek(0)
            before = file.read()
            unfinished = before and not before.endswith(b"\n")  # an editor left the last line without its end
            left = (b"\n" if unfinished else b"") + line(host, port, key).encode()
            try:
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except OSError:  # half a line on a full disk would keep ssh-keygen from removing any key
                file.truncate(len(before))
                raise

    def forget(self, host: str, port: int) -> None:
        """Remove a server's keys from the plugin's own file.

        Raises:
            StateError: They could not be removed, or one is marked as revoked, and so is kept.
        """
        name, before = pattern(host, port), self.own.with_name(f"{self.own.name}.old")
        with _writing(self.own), self._locked():
            removal = command.run(["ssh-keygen", "-R", name, "-f", self.own], seconds=_SEARCH_SECONDS)
            before.unlink(missing_ok=True)
        kept = self.accepted(host, port)
        if any(key.revoked for key in kept):
            raise errors.StateError(
                f"{self.own} still knows {name}, by a key that is marked as revoked",
                "if it is not revoked after all, remove the line by hand",
            )
        if kept:
            said = errors.last_words(removal.stderr.splitlines())
            raise errors.StateError(f"ssh-keygen could not remove {name} from {self.own}", f"it says: {said}")

    def removal(self, host: str, port: int, key: HostKey) -> str:
        """Return the shell command that removes a known key of a server from the file that has it."""
        name = shlex.quote(pattern(host, port))
        if key.file == self.own:
            return f"docker-volume-sshfs host-key forget {name}"
        return f"ssh-keygen -R {name} -f {shlex.quote(str(key.file))}"

    @contextmanager
    def _locked(self) -> Iterator[FileIO]:
        """Open the plugin's own file, without a buffer, and lock it.

        ssh-keygen may replace the file while the lock is waited for (docs/facts.md); then the new file is opened.
        """
        self.own.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            with self.own.open("ab+", buffering=0) as file:
                self._lock(file)
                if self.own.exists() and os.path.samestat(os.fstat(file.fileno()), self.own.stat()):
                    yield file
                    return

    def _lock(self, file: FileIO) -> None:
        limit = Deadline.after(LOCK_SECONDS)
        while True:
            try:
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not limit.left():
                    raise errors.StateError(
                        f"another process has locked {self.own} and does not end", "end it; lslocks tells which it is"
                    ) from None
            time.sleep(_PAUSE_SECONDS)

    def pinned_file(self, volume: str) -> Path:
        """Return the file of one volume's pinned key, which may not be there."""
        return self.pinned / volume

    def pin(self, volume: str, host: str, port: int, key: HostKey) -> None:
        """Write the file of one volume's pinned key, the only one that ssh will accept for it.

        Raises:
            StateError: It could not be written.
        """
        file = self.pinned_file(volume)
        with _writing(file):
            self.pinned.mkdir(mode=0o700, exist_ok=True)
            new = self.pinned / f".{volume}-{secrets.token_hex(4)}"  # a jump host may be pinned by several at once
            try:
                new.write_text(line(host, port, key))
                new.replace(file)
            finally:
                new.unlink(missing_ok=True)

    def has_pinned(self, volume: Volume) -> bool:
        """Tell whether the file of a volume's pinned key is as :meth:`pin` would write it, if the volume pins one.

        It is not after an edit of the volume's remote.
        """
        if not volume.pinned_host_key:
            return True
        file = self.pinned_file(volume.name)
        try:
            entry = file.read_text()
        except OSError:
            return False
        is_named = entry.startswith(f"{pattern(volume.remote.host, volume.remote.port)} ")
        return is_named and [key.fingerprint for key in _keys_in(entry, file)] == [volume.pinned_host_key]

    def with_copies(self, volumes: Iterable[Volume], directory: Path) -> "KnownHosts":
        """Return the same known hosts with copies, in a directory, of the pinned keys of volumes.

        Raises:
            OSError: They could not be written.
        """
        for volume in volumes:
            if volume.pinned_host_key:
                directory.mkdir(mode=0o700, exist_ok=True)
                with suppress(FileNotFoundError):  # then ssh says that it does not know the key
                    shutil.copy(self.pinned_file(volume.name), directory / volume.name)
        return dataclasses.replace(self, pinned=directory)

    def unpin(self, volume: str) -> None:
        """Remove a volume's pinned key.

        Raises:
            StateError: It could not be removed.
        """
        file = self.pinned_file(volume)
        with _writing(file):
            file.unlink(missing_ok=True)


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise errors.StateUnwritable("write", file, error) from error


def _read_slowly(file: Path) -> bytes:
    """Read a file whose file system may not answer."""
    return local_files.read(file).content


def _find(file: Path, name: str, read: Callable[[Path], bytes]) -> tuple[HostKey, ...]:
    try:
        return _search(file, name, hashlib.sha256(read(file)).digest(), read)
    except _Fleeting as found:
        return found.keys
    except OSError as error:
        if error.errno in _NOT_A_FILE_FOR_SSH:
            return ()
        raise _not_searched(file, name, error.strerror or str(error)) from error


def _not_searched(file: Path, name: str, why: str) -> errors.StateError:
    return errors.StateError(f"ssh-keygen could not look for {name} in {file} ({why})", "try again")


class _Fleeting(Exception):
    """What was found in a file that may have changed meanwhile, so that it is not to be remembered."""

    def __init__(self, keys: tuple[HostKey, ...]) -> None:
        super().__init__()
        self.keys = keys


@functools.lru_cache(maxsize=_SEARCHES_REMEMBERED)
def _search(file: Path, name: str, content: bytes, read: Callable[[Path], bytes]) -> tuple[HostKey, ...]:
    """Let ssh-keygen search a file, once for each content: volumes of a server that are made one by one share it.

    Args:
        file: The file.
        name: A server's name in known_hosts.
        content: The digest of what is in the file.
        read: Reads the file.

    Raises:
        StateError: It could not be searched; that no key is known would let any key pass as a new one.
        ProgramNotStarted: ssh-keygen could not be started.
        OSError: It can't be read any more.
        _Fleeting: It has another content by now, or one that is not read to its end.
    """
    try:
        search = command.run(["ssh-keygen", "-F", name, "-f", file], seconds=_SEARCH_SECONDS)
    except errors.ProgramStuck:
        raise errors.FileStuck(str(file), _SEARCH_SECONDS) from None
    if search.returncode not in (0, _NOT_FOUND):
        said = errors.last_words(search.stderr.splitlines()) or f"exit status {search.returncode}"
        raise _not_searched(file, name, said)
    keys = _keys_in(search.stdout, file)
    now = read(file)
    if hashlib.sha256(now).digest() != content or len(now) >= local_files.LARGEST:
        raise _Fleeting(keys)
    return keys


def _keys_in(found: str, file: Path) -> tuple[HostKey, ...]:
    keys = []
    for entry in found.split("\n"):
        if entry.startswith("#"):
            continue
        fields = entry.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        if marker == "@cert-authority":
            continue
        try:
            _, kind, key, *_ = fields
            blob = base64.b64decode(key, validate=True)
        except ValueError:
            continue
        keys.append(HostKey(kind=kind, blob=blob, revoked=marker == "@revoked", file=file))
    return tuple(keys)
