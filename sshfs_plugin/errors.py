# SPDX-License-Identifier: MIT
"""The errors of the plugin, worded as the user reads them.

Each has a sentence, which says what failed and on what, and a hint, which says what to do about it. Docker shows both
to the user as they are, so they never hold a password, the content of a private key or a traceback. This module imports
nothing of the project.
"""

import difflib
import errno
import re
from collections.abc import Iterable
from pathlib import Path

LONGEST_QUOTE = 300
"""Characters that an error quotes at most of what a client, a server or another program has sent."""

LONGEST_PART = 5000
"""Characters of a sentence or hint: any path fits, and what a server puts there is cut."""


class PluginError(Exception):
    """The base class of all errors that a user is told.

    Attributes:
        sentence: What failed, and on what.
        hint: What to do about it; may be empty where the sentence says it all.
        volume: The name of the volume that it is about, where the client does not tell it; else empty. The text begins
            with it unless the sentence has it already.
        check: The name of the preflight's check that has failed, for programs; else empty.
    """

    def __init__(self, sentence: str, hint: str = "") -> None:
        super().__init__(sentence, hint)
        self.sentence = printable(_bounded(sentence))
        self.hint = printable(_bounded(hint))
        self.volume = self.check = ""

    def __str__(self) -> str:
        volume = f"volume {self.volume!r}"
        about = "" if not self.volume or volume in self.sentence else f"{volume}: "
        return f"{about}{self.sentence}: {self.hint}" if self.hint else f"{about}{self.sentence}"


def _bounded(text: str) -> str:
    return text if len(text) <= LONGEST_PART else f"{text[:LONGEST_PART]}..."


def printable(text: str) -> str:
    """Replace each unprintable character by ``?``: errors quote servers, and terminals obey escape sequences."""
    return "".join(character if character.isprintable() else "?" for character in text)


def last_words(lines: Iterable[str]) -> str:
    """Return the end of another program's output as one line, short enough to be quoted in an error."""
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
    """A volume name that can't be used as a file name and a unit name."""


class InvalidOption(RequestError):
    """A known option with a value that it can't have, or options that contradict each other."""

    def __init__(self, option: str, reason: str) -> None:
        super().__init__(f"option '{option}' {reason[:LONGEST_QUOTE]}")


_CALLED_ELSEWHERE = {
    **dict.fromkeys(("readonly", "read_only"), "ro"),
    **dict.fromkeys(("key", "keyfile", "sshkey", "ssh_key", "private_key"), "IdentityFile"),
    **dict.fromkeys(("pass", "passwd", "pwd"), "password"),
    **dict.fromkeys(("server", "address"), "host"),
    **dict.fromkeys(("path", "dir", "folder"), "directory"),
    **dict.fromkeys(("mode", "file_mode", "dir_mode"), "umask"),
    **dict.fromkeys(("mkdir", "create", "create_dir"), "create_directory"),
    **dict.fromkeys(("username", "login"), "user"),
    "timeout": "ConnectTimeout",
}
"""Names of options in other programs, case-folded, and what the option is called here."""


class UnknownOption(RequestError):
    """An option that the table does not know.

    Attributes:
        is_misspelt: Whether it resembles one that the table knows.
    """

    def __init__(self, option: str, known: Iterable[str], page: str) -> None:
        spelling = {name.casefold(): name for name in known} | _CALLED_ELSEWHERE
        nearest = difflib.get_close_matches(option.casefold(), spelling, n=1, cutoff=0.7)
        self.is_misspelt = bool(nearest)
        if nearest:
            hint = f"did you mean '{spelling[nearest[0]]}'?"
        elif ":" in option:
            hint = "if it is the remote directory, say -o sshcmd=user@host:/dir"
        else:
            hint = f"{page} lists the options that a volume can have"
        super().__init__(f"unknown option {_without_password(option)[:LONGEST_QUOTE]!r}", hint)


_BEFORE_A_PASSWORD = re.compile(r"(?is)^((?:pass\w*|pwd)[^\w-]|[^@/:\[]*:(?!/)|(?:[^@/:]*:)?//).+")


def _without_password(option: str) -> str:
    """Cut what is no option where a password may begin: ``password:PW``, ``user:PW@host:/dir``, ``sftp://user:PW@host``."""
    return without_login_password(_BEFORE_A_PASSWORD.sub(r"\1...", option))


def without_login_password(text: str) -> str:
    """Return what an error may quote of ``user:password@host``."""
    return re.sub("(?s):.*@", ":...@", text)


class RefusedOption(RequestError):
    """An option that sshfs or ssh has, but that a volume must not use."""

    def __init__(self, option: str, reason: str) -> None:
        super().__init__(f"option '{option}' is refused", reason)


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


class BeingUpgraded(VolumeError):
    """What makes checks was replaced since the service has begun; it is restarted at the end of the upgrade."""

    def __init__(self) -> None:
        super().__init__("the sshfs plugin is just being upgraded and can check no server", "try again in a moment")


class PluginBusy(VolumeError):
    """All slots for slow calls are taken."""

    def __init__(self, log: str) -> None:
        super().__init__(
            "the sshfs plugin is busy with too many slow calls",
            f"try again in a moment; {log} tells which servers are slow",
        )


class RemoteUnusable(PluginError):
    """The file that describes a remote can't be used, or not for this volume; no server was asked.

    Attributes:
        remote: The name of the remote.
        file: The file.
        complaint: What is wrong with it, as the end of a sentence about it.
    """

    def __init__(self, remote: str, file: object, complaint: str, hint: str) -> None:
        super().__init__(f"remote '{remote}' can't be used, {file} {complaint}", hint)
        self.remote, self.file, self.complaint = remote, str(file), complaint


class CredentialsError(PluginError):
    """The key or password can't be used; no server was asked."""


class PasswordFileUnusable(CredentialsError):
    """The password file is missing, unreadable, empty or open to everyone."""


class IdentityFileUnusable(CredentialsError):
    """The identity file is missing, unreadable, not a private key, or one that ssh would not take."""


class IdentityFileLocked(IdentityFileUnusable):
    """The identity file has a passphrase, and none is given."""


class SecretUnusable(CredentialsError):
    """A secret is missing, open to others than root, or nothing to log in with. The error holds nothing of it."""


class SecretMissing(SecretUnusable):
    """There is no secret of that name."""


class AgentUnusable(CredentialsError):
    """The ssh-agent is missing, hung or locked, or has no key."""


class LoginsAlike(CredentialsError):
    """Two hosts on the way to a server ask for passwords, and nothing that ssh writes would tell which one asks."""


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


class ForwardingRefused(PreflightError):
    """A jump host does not let the login connect from there."""


class ServerSilent(PreflightError):
    """The server accepted the connection and did not answer, or stopped answering: it is frozen, or only busy."""


class NotAnSSHServer(PreflightError):
    """What answers is not an SSH server."""


class TurnedAway(PreflightError):
    """The server closed the connection before it had sent its SSH version."""


class NegotiationFailed(PreflightError):
    """The SSH server shares no algorithm with the preflight, or broke off."""


class HostKeyError(PreflightError):
    """The server is not known to be the one that it claims to be."""


class HostKeyUnknown(HostKeyError):
    """No key of the server is known, and ``host_key_check=yes`` demands one."""


class HostKeyChanged(HostKeyError):
    """The server's key differs from the one that is known, or was revoked."""


class HostKeyNotPinned(HostKeyError):
    """The server's key is not the one that ``host_key`` demands."""


class LoginRefused(PreflightError):
    """The server refused every key and password that it was offered."""


class LoginUnfinished(PreflightError):
    """The server broke the login off or did not answer in time, so that it neither accepted nor refused the login."""


class SFTPUnavailable(PreflightError):
    """The login works, but the server has no SFTP for it."""


class DirectoryUnusable(PreflightError):
    """The remote directory is missing, is no directory or can't be read."""


class DirectoryMissing(DirectoryUnusable):
    """The remote directory does not exist."""


class DirectoryNotWritable(PreflightError):
    """No file can be made in the remote directory, or none removed."""


class MountError(PluginError):
    """sshfs or systemd did not do as asked."""


class MountFailed(MountError):
    """sshfs ended; the sentence quotes the end of what it and ssh printed."""


class MountTurnedAway(MountFailed):
    """The server closed the connection before the login, as sshd does beyond MaxStartups; or a jump host did."""


class MountTimedOut(MountError):
    """The mount did not answer in time, after its start or later."""


class UnmountFailed(MountError):
    """The volume could not be unmounted, or its process did not end."""


WAYS_IN = "ways-in.md in /usr/share/doc/docker-volume-sshfs"
"""Where the page is on a host with the package that tells how Docker finds the plugin."""


class UnsuitableSocket(PluginError):
    """The plugin can't be served at a socket with these settings."""


class ExposedSocket(UnsuitableSocket):
    """Other hosts could call the plugin without a client certificate."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"the plugin will not be served at {address}, where other hosts could act as root on this one",
            f"listen on 127.0.0.1, or ask for certificates with SSHFS_PLUGIN_TLS as {WAYS_IN} says",
        )


class PlainPort(UnsuitableSocket):
    """Docker was told to use TLS at this address, and no setting says so: every user of this host could call there."""

    def __init__(self, address: str, file: Path) -> None:
        super().__init__(
            f"the plugin will not be served at {address} without TLS, which {file} tells Docker to use there",
            f"ask for certificates with SSHFS_PLUGIN_TLS as {WAYS_IN} says, or remove that file if every user of this "
            "host may act as root",
        )


class UnixSocketWithTLS(UnsuitableSocket):
    """Certificates are asked for at every socket, and the callers of a unix socket have none."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"the plugin will not be served at {address} with TLS, which nobody speaks at a unix socket",
            f"let the socket unit listen at a port alone, as {WAYS_IN} says, or remove SSHFS_PLUGIN_TLS",
        )


class CertificatesUnusable(UnsuitableSocket):
    """What the service needs for TLS is missing or spoilt, so that it could let nobody in."""

    def __init__(self, complaint: str) -> None:
        super().__init__(
            f"the plugin cannot be served with TLS, {complaint}",
            f"mend what SSHFS_PLUGIN_TLS names, as {WAYS_IN} says",
        )


class StateError(PluginError):
    """The plugin's own files can't be read or written."""


_ROOM = "make room on its file system"
_UNWRITABLE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: "once its file system can be written to, try again half a minute later",
}
"""What to do about it. A service that was started while a file system was read-only sees it so ever after, but is
started anew when it can be written to.
"""


class StateUnwritable(StateError):
    """One of the plugin's own files can't be written or removed."""

    def __init__(self, act: str, file: object, error: OSError) -> None:
        hint = _UNWRITABLE.get(error.errno or 0, "what is there, and does the disk work?")
        super().__init__(f"cannot {act} {file}, {error.strerror}", hint)


class RecordUnusable(StateError):
    """A volume's record can't be read or understood, so what to mount is not known."""

    def __init__(self, name: str, record: object, complaint: str) -> None:
        super().__init__(
            f"volume '{name}' is unusable, its record {record} {complaint[:LONGEST_QUOTE]}",
            f"mend it, or install the version that wrote it; docker volume rm {name} gives the volume up, "
            "and files on the server stay as they are",
        )


class ProgramError(PluginError):
    """A program of this host could not do what it is for."""


class ProgramNotStarted(ProgramError):
    """A program of this host could not be started."""

    def __init__(self, program: str, problem: OSError) -> None:
        super().__init__(
            f"cannot start {program}, {problem.strerror}",
            "is it installed, and has this host processes and memory left?",
        )


class ProgramStuck(ProgramError):
    """A program of this host did not end in time."""

    def __init__(self, program: str, seconds: float) -> None:
        super().__init__(f"{program} did not end within {seconds:.0f} seconds", "is this host overloaded? try again")


class ServiceError(PluginError):
    """The plugin's own service can't be asked."""


class ServiceRefusal(ServiceError):
    """The plugin's own service answered with an error.

    Attributes:
        said: The error of the service, as Docker would show it.
    """

    def __init__(self, said: str) -> None:
        super().__init__(f"the plugin's service says: {said}")
        self.said = said


class PackageMissing(PluginError):
    """A package that one command alone needs is not installed."""

    def __init__(self, what: str, package: str) -> None:
        super().__init__(f"{what} need the package {package}, which is not installed", f"apt install {package}")


class Unanswered(PluginError):
    """A question of the command has found nobody to answer it."""


class OutputUnwritable(PluginError):
    """A file that an administrator wants can't be written."""

    def __init__(
        self, file: object, reason: str, hint: str = "is its directory there, and on a disk with room?"
    ) -> None:
        super().__init__(f"cannot write {file}, {reason}", hint)


class LegacyStateUnusable(RequestError):
    """The state file of vieux/sshfs can't be read, or is something else."""


class KeyUndecided(RequestError):
    """A volume of vieux/sshfs names no key, ssh could use several, and no server is to be asked which one it takes."""

    def __init__(self, keys: Iterable[object]) -> None:
        super().__init__(
            f"no key was named, and the server alone can tell whether it takes {' or '.join(map(str, keys))}",
            "import it without --no-check, or make it by hand with -o IdentityFile=KEY",
        )


class InvalidAlias(RequestError):
    """A name that no Docker plugin can have."""


class AliasTaken(VolumeError):
    """Docker already finds another plugin under the name of an alias."""


class NotRoot(RequestError):
    """The command must be run as root."""

    def __init__(self) -> None:
        super().__init__("keys, records and the plugin's socket are for root alone", "say sudo before the command")
