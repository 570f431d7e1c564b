# SPDX-License-Identifier: MIT
"""What can go wrong, as the sentences that a user reads.

Every error is one sentence that says what failed and on what, followed by a hint that says what to do about it. The
text travels unchanged from where it is raised to the terminal of whoever typed ``docker``, so it never holds a
password, the content of a private key or a traceback. This module imports nothing of the project.
"""

import difflib
import errno
from collections.abc import Iterable

LONGEST_QUOTE = 300
"""Characters; what a client has sent is not shown at any length."""


LONGEST_PART = 5000
"""Characters of a sentence or hint: room for a path of any length, and no more for what a server may put there."""


class PluginError(Exception):
    """The base of everything that this plugin reports on purpose.

    Attributes:
        sentence: What failed, and on what.
        hint: What to do about it; may be empty where the sentence says it all.
        volume: The volume that it is about, for readers who would not know; the text names it once.
    """

    def __init__(self, sentence: str, hint: str = "") -> None:
        super().__init__(sentence, hint)
        self.sentence = tamed(_bounded(sentence))
        self.hint = tamed(_bounded(hint))
        self.volume = ""

    def __str__(self) -> str:
        volume = f"volume {self.volume!r}"
        about = "" if not self.volume or volume in self.sentence else f"{volume}: "
        return f"{about}{self.sentence}: {self.hint}" if self.hint else f"{about}{self.sentence}"


def _bounded(text: str) -> str:
    return text if len(text) <= LONGEST_PART else f"{text[:LONGEST_PART]}..."


def tamed(text: str) -> str:
    """Take out what is no printable character: servers have a say in errors, and terminals obey escape sequences."""
    return "".join(character if character.isprintable() else "?" for character in text)


def last_words(lines: Iterable[str]) -> str:
    """Return what another program has said last, as one line of a length that fits into an error."""
    said = "; ".join(line.strip() for line in lines if line.strip())
    if len(said) <= LONGEST_QUOTE:
        return said
    end = said[-LONGEST_QUOTE:]
    return f"... {end.partition('; ')[2] or end}"


class RequestError(PluginError):
    """The request itself is wrong; nothing was tried."""


class InvalidRequest(RequestError):
    """The body of the request is not what the volume plugin protocol asks for."""


class InvalidVolumeName(RequestError):
    """A volume name that could not be used as a file and unit name."""


class InvalidOption(RequestError):
    """A known option with a value that it can't have, or options that contradict each other."""

    def __init__(self, option: str, reason: str) -> None:
        super().__init__(f"option '{option}' {reason[:LONGEST_QUOTE]}")
        self.option = option


_CALLED_ELSEWHERE = {
    **dict.fromkeys(("readonly", "read_only"), "ro"),
    **dict.fromkeys(("key", "keyfile", "sshkey", "ssh_key", "private_key"), "IdentityFile"),
    **dict.fromkeys(("pass", "passwd", "pwd"), "password"),
    **dict.fromkeys(("server", "address", "remote"), "host"),
    **dict.fromkeys(("path", "dir", "folder"), "directory"),
    **dict.fromkeys(("mode", "file_mode", "dir_mode"), "umask"),
}
"""What other programs call it, folded, and what it is here."""


class UnknownOption(RequestError):
    """An option that the table does not know."""

    def __init__(self, option: str, known: Iterable[str]) -> None:
        spelling = {name.casefold(): name for name in known} | _CALLED_ELSEWHERE
        nearest = difflib.get_close_matches(option.casefold(), spelling, n=1, cutoff=0.7)
        if nearest:
            hint = f"did you mean '{spelling[nearest[0]]}'?"
        elif ":" in option:
            hint = "if it is the remote directory, say -o sshcmd=user@host:/dir"
        else:
            hint = "man docker-volume-sshfs lists the options that a volume can have"
        super().__init__(f"unknown option {option[:LONGEST_QUOTE]!r}", hint)
        self.option = option


class RefusedOption(RequestError):
    """An option that sshfs or ssh has, but that a volume must not use."""

    def __init__(self, option: str, reason: str) -> None:
        super().__init__(f"option '{option}' is refused", reason)
        self.option = option


class VolumeError(PluginError):
    """The request is fine, but the volume is not in a state for it."""


IS_IT_LOCAL = "docker volume ls shows whether another driver has a volume of that name"


class VolumeNotFound(VolumeError):
    """No volume has that name."""

    def __init__(self, name: str, hint: str = "") -> None:
        super().__init__(f"volume {name!r} not found", hint)


class VolumeExists(VolumeError):
    """A volume of that name exists with other options."""

    def __init__(self, name: str, differing: Iterable[str]) -> None:
        options = ", ".join(f"'{option}'" for option in differing)
        super().__init__(
            f"volume '{name}' exists already and differs in {options}",
            f"to change it, docker volume rm {name} first: files on the server stay as they are",
        )


class VolumeInUse(VolumeError):
    """A container or a process still uses the mounted volume."""

    def __init__(self, name: str, hint: str = "stop it and try again") -> None:
        super().__init__(f"volume '{name}' is still in use by a running container or a process on this host", hint)


class VolumeBusy(VolumeError):
    """Another call on the same volume did not finish in time."""

    def __init__(self, name: str) -> None:
        super().__init__(f"volume '{name}' is busy with another call that has not finished", "try again in a moment")


class ServerBusy(VolumeError):
    """Too many volumes are connecting to the same server at once."""

    def __init__(self, server: str) -> None:
        super().__init__(f"too many volumes are connecting to {server} at once", "try again in a moment")


class PluginBusy(VolumeError):
    """Every thread that may do slow work is doing it."""

    def __init__(self) -> None:
        super().__init__(
            "the sshfs plugin is busy with too many slow calls",
            "try again in a moment; journalctl -u docker-volume-sshfs tells which servers are slow",
        )


class CredentialsError(PluginError):
    """What is to log in can't be used; no server was asked."""


class PasswordFileUnusable(CredentialsError):
    """The password file is missing, unreadable, empty or open to everyone."""


class IdentityFileUnusable(CredentialsError):
    """The identity file is missing, unreadable, not a private key, or one that ssh would not take."""


class FileStuck(CredentialsError):
    """The file system of a key, or of another file that an option names, does not answer."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__(
            f"cannot read {path}, its file system did not answer within {seconds:.0f} seconds",
            "is it on a server that is away (NFS, sshfs)? keep what a volume needs on a disk of this host",
        )


class PreflightError(PluginError):
    """A check has failed: the server can't serve the volume as asked."""


class HostUnresolved(PreflightError):
    """The name of the server does not resolve to an address."""


class HostUnreachable(PreflightError):
    """No TCP connection: refused, timed out or no route."""


class ServerSilent(PreflightError):
    """The server took the connection and then said nothing, or nothing more: frozen, or only busy."""


class NotAnSSHServer(PreflightError):
    """Something answered, but it does not speak SSH."""


class TurnedAway(PreflightError):
    """The server closed the connection before it had said that it speaks SSH."""


class NegotiationFailed(PreflightError):
    """An SSH server that shares no algorithm with the check, or that broke off."""


class HostKeyError(PreflightError):
    """The server is not known to be the one that it claims to be."""


class HostKeyUnknown(HostKeyError):
    """``host_key_check=yes`` and nobody has verified this server's key."""


class HostKeyChanged(HostKeyError):
    """The server's key differs from the one that is known, or was revoked."""


class HostKeyNotPinned(HostKeyError):
    """The server's key is not the one that ``host_key`` demands."""


class LoginRefused(PreflightError):
    """The server refused every key and password that it was offered."""


class LoginUnfinished(PreflightError):
    """The server broke the login off or did not answer it in time, so whether it would let us in is not known."""


class SFTPUnavailable(PreflightError):
    """The login works, but the server has no SFTP for it."""


class DirectoryUnusable(PreflightError):
    """The remote directory is missing, is no directory or can't be read."""


class DirectoryNotWritable(PreflightError):
    """No file can be made in the remote directory, or none removed."""


class MountError(PluginError):
    """sshfs or systemd did not do as asked."""


class MountFailed(MountError):
    """sshfs ended; the sentence carries ssh's own last words."""


class MountTimedOut(MountError):
    """sshfs was started but its mount did not answer in time."""


class UnmountFailed(MountError):
    """The volume's unit could not be stopped."""


class ExposedSocket(PluginError):
    """The plugin would be served to other hosts without asking them who they are."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"the plugin will not be served at {address}, where other hosts could act as root on this one",
            "listen on 127.0.0.1, or ask for certificates with SSHFS_PLUGIN_TLS as docs/ways-in.md says",
        )


class StateError(PluginError):
    """The plugin's own files can't be read or written."""


_ROOM = "make room on its file system"
_UNWRITABLE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: "once it can be written to, systemctl restart docker-volume-sshfs",
}
"""What to do about it; a service started meanwhile sees a file system as read-only ever after (docs/facts.md)."""


class StateUnwritable(StateError):
    """One of the plugin's own files can't be written or removed."""

    def __init__(self, act: str, file: object, error: OSError) -> None:
        hint = _UNWRITABLE.get(error.errno or 0, "what is there, and does the disk work?")
        super().__init__(f"cannot {act} {file}, {error.strerror}", hint)


class RecordUnusable(StateError):
    """A volume's record can't be read or understood, so that nobody knows what to mount."""

    def __init__(self, name: str, record: object, complaint: str) -> None:
        super().__init__(
            f"volume '{name}' is unusable, its record {record} {complaint[:LONGEST_QUOTE]}",
            f"mend it, or install the version that wrote it; docker volume rm {name} gives the volume up, "
            "and files on the server stay as they are",
        )


class ProgramStuck(PluginError):
    """A program of this host did not come to an end."""

    def __init__(self, program: str, seconds: float) -> None:
        super().__init__(f"{program} did not end within {seconds:.0f} seconds", "is this host overloaded? try again")


class ServiceError(PluginError):
    """The plugin's own service can't be asked."""


class ServiceRefusal(ServiceError):
    """The plugin's own service was asked and says no.

    Attributes:
        said: Its own sentence, as Docker would show it.
    """

    def __init__(self, said: str) -> None:
        super().__init__(f"the plugin's service says: {said}")
        self.said = said


class LegacyStateUnusable(RequestError):
    """The state file of another plugin can't be read or is none."""


class InvalidAlias(RequestError):
    """A name under which Docker could not find a plugin."""


class AliasTaken(VolumeError):
    """Docker finds something else under a name that is to become ours."""


class NotRoot(RequestError):
    """What was asked for takes root."""

    def __init__(self) -> None:
        super().__init__("keys, records and the plugin's socket are for root alone", "say sudo before the command")
