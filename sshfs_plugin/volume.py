# SPDX-License-Identifier: MIT
"""A volume, its directory on the server, its credentials and its access rights, as frozen values.

They know nothing of HTTP, files or processes.
"""

import enum
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import NewType, TypeAlias

from sshfs_plugin import errors

VolumeName = NewType("VolumeName", str)
"""A name that was checked: safe as a file name and as the instance of a systemd unit."""

MountID = NewType("MountID", str)
"""The ID under which a client holds a mounted volume: 64 hex digits from Docker, one constant from Podman."""

LONGEST_NAME = 200
LONGEST_PASSWORD = 1023
"""Bytes of a password or passphrase. ssh reads no more from the program that it asks for one."""

SSH_PORT, LARGEST_PORT = 22, 65535
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_PORT_FIRST = re.compile(r"(?P<port>[1-9][0-9]{0,4})(:|(?=/)|$)(?P<directory>.*)")


def volume_name(text: str) -> VolumeName:
    """Check a volume name, which Docker passes on unchecked for plugin drivers (``../../etc``, newlines and all).

    Raises:
        InvalidVolumeName: It can't be used as a file name, in the name of a unit, or with the docker command.
    """
    if not _NAME.fullmatch(text):
        raise errors.InvalidVolumeName(
            f"{text[:LONGEST_NAME]!r} can't be the name of a volume",
            "use at least two letters, digits, '_', '.' and '-', and begin with a letter or digit",
        )
    if len(text) > LONGEST_NAME:
        raise errors.InvalidVolumeName(
            f"a volume name of {len(text)} characters is too long", f"use at most {LONGEST_NAME}"
        )
    return VolumeName(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A directory on an SSH server.

    Attributes:
        user: The login name on the server; empty until it is known.
        host: A name or address, an IPv6 address without its brackets.
        port: The TCP port.
        directory: The path on the server; a relative one starts at the login directory, an empty one is that directory.
    """

    user: str
    host: str
    port: int
    directory: str

    @property
    def source(self) -> str:
        """The remote as sshfs takes it and as ``findmnt`` shows it: ``user@host:/dir``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}:{self.directory}" if self.user else f"{host}:{self.directory}"

    @property
    def with_port_from_directory(self) -> "Remote | None":
        """The remote that ``nas:2222/dir`` means if ``2222`` is the port; None if no number comes first."""
        begins = _PORT_FIRST.fullmatch(self.directory)
        if begins and int(begins["port"]) <= LARGEST_PORT:
            return replace(self, port=int(begins["port"]), directory=begins["directory"])
        return None

    @property
    def login(self) -> str:
        """The login as ssh takes it: ``user@host``."""
        return f"{self.user}@{self.host}" if self.user else self.host

    @property
    def arguments(self) -> str:
        """The login as a shell gives it to ssh and ssh-copy-id: ``-p 2222 user@host``."""
        return ("" if self.port == SSH_PORT else f"-p {self.port} ") + shlex.quote(self.login)

    @property
    def account(self) -> str:
        """The login and the server, for messages: ``user@host port 22``."""
        return f"{self.login} port {self.port}"

    @property
    def server(self) -> str:
        """The server alone, for messages: ``host port 22``."""
        return f"{self.host} port {self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The options that say how to log in; if all are empty, the default key does.

    Attributes:
        password: A password that was given as an option, and is kept in the volume's record.
        password_file: The path of a file whose first line is the password.
        identity_file: The path of a private key.
        certificate_file: The path of that key's certificate.
        secret: The name of a secret, which is a private key or a password.
        passphrase_secret: The name of the secret that is the passphrase of the private key.
        identity_agent: The path of the socket of an ssh-agent, whose keys are used.
    """

    password: str = field(default="", repr=False)
    password_file: str = ""
    identity_file: str = ""
    certificate_file: str = ""
    secret: str = ""
    passphrase_secret: str = ""
    identity_agent: str = ""


class HostKeyCheck(enum.Enum):
    """What to do about a server's host key, in OpenSSH's words."""

    ACCEPT_NEW = "accept-new"
    YES = "yes"
    NO = "no"


class CheckAt(enum.Enum):
    """When the preflight is made."""

    CREATE = "create"
    MOUNT = "mount"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who on this host may use the mounted volume.

    Attributes:
        allow_other: Whether users other than root may use it at all.
        default_permissions: Whether the kernel checks owner, group and mode.
    """

    allow_other: bool
    default_permissions: bool

    @property
    def everyone(self) -> bool:
        """Whether nothing is checked: sshfs then lets anybody read even root's 0600 files."""
        return self.allow_other and not self.default_permissions

    @property
    def summary(self) -> str:
        """Who may use the volume, in a few words for people."""
        if self.everyone:
            return "everyone, unchecked (allow_other)"
        return "as owner, group and mode allow" if self.allow_other else "root only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A directory on an SSH server under the name that Docker knows.

    Attributes:
        name: Its name.
        given: The options that it was created with, with their canonical values; they are recorded, and compared when
            a volume is created again.
        options: The options that hold, given ones and those of its remote's file, without those that equal the default.
        remote: The directory on the server.
        credentials: How to log in.
        host_key_check: What to do about the server's host key.
        pinned_host_key: The fingerprint (``SHA256:...``) that the host key must have; empty if any will do.
        known_hosts: A file that is read in place of the administrator's known hosts; empty if none is.
        check: When the preflight is made.
        create_directory: Whether a missing directory is made when the volume is created.
        access: Who on this host may use it.
        read_seconds: How long a read may wait for a lost server; None if no read survives the loss of a connection.
        shares_connection: Whether it may share its connection with other volumes.
        sshfs_options: Further options for sshfs, each with its value or None.
        ssh_options: Further keywords for ssh_config.
        created_at: When it was created, with a time zone.
        jump: The host through which its server is reached, as the volume that the remote ``ProxyJump`` names would be;
            None if it is reached from here.
    """

    name: VolumeName
    given: Mapping[str, str] = field(repr=False)
    options: Mapping[str, str] = field(repr=False)
    remote: Remote
    credentials: Credentials
    host_key_check: HostKeyCheck
    pinned_host_key: str
    known_hosts: str
    check: CheckAt
    create_directory: bool
    access: Access
    read_seconds: int | None
    shares_connection: bool
    sshfs_options: tuple[tuple[str, str | None], ...]
    ssh_options: tuple[tuple[str, str], ...]
    created_at: datetime
    jump: "Volume | None" = None

    @property
    def jumps(self) -> tuple["Volume", ...]:
        """All hosts through which its server is reached, in the order in which they are connected to."""
        return (*self.jump.jumps, self.jump) if self.jump else ()

    @property
    def remote_name(self) -> str:
        """The name of the remote whose file says where the server is; empty if the given options say it."""
        return self.given.get("remote", "")

    @property
    def keywords(self) -> dict[str, str]:
        """The keywords for ssh_config by name."""
        return dict(self.ssh_options)

    @property
    def connect_seconds(self) -> int:
        """How long ssh may take to connect to its server, jump hosts left aside."""
        return int(self.keywords["ConnectTimeout"])

    @property
    def read_only(self) -> bool:
        """Whether nobody can write to it."""
        return ("ro", None) in self.sshfs_options

    @property
    def renames_in_steps(self) -> bool:
        """Whether sshfs moves a file away before another takes its place, where the server can't do it in one step."""
        words = (dict(self.sshfs_options).get("workaround") or "").split(":")
        decisive = [word for word in words if word in ("rename", "norename", "none")]
        return decisive[-1:] == ["rename"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unresolved:
    """A volume whose remote can't be used at the moment: it can be shown and removed, and stays mounted if it is.

    Attributes:
        name: Its name.
        given: As of a volume.
        created_at: As of a volume.
        remote: The name of the remote that can't be used: its own, or a jump host.
        file: The remote's file.
        complaint: What is wrong with that, as the end of a sentence about it.
        hint: What to do about it.
    """

    name: VolumeName
    given: Mapping[str, str] = field(repr=False)
    created_at: datetime
    remote: str
    file: str
    complaint: str
    hint: str

    @property
    def remote_name(self) -> str:
        """The name of its remote; empty if the given options say where the server is."""
        return self.given.get("remote", "")

    @property
    def error(self) -> errors.RemoteUnusable:
        """The error for a call that needs the volume itself."""
        return errors.RemoteUnusable(self.remote, self.file, self.complaint, self.hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """A volume whose record can't be read or understood: it can be shown and removed, and its name stays taken.

    Attributes:
        name: Its name.
        record: The file.
        complaint: What is wrong with it, as the end of a sentence about it.
    """

    name: VolumeName
    record: Path
    complaint: str

    @property
    def error(self) -> errors.RecordUnusable:
        """The error for a call that needs the volume itself."""
        return errors.RecordUnusable(self.name, self.record, self.complaint)


@contextmanager
def at_jump_host(jump: Volume) -> Iterator[None]:
    """Let an error say at which jump host it was."""
    try:
        yield
    except errors.PluginError as error:
        error.sentence = f"the jump host {jump.remote_name} ({jump.remote.login}): {error.sentence}"
        raise


Record: TypeAlias = Volume | Unresolved | Unusable
"""What is made of a volume's record."""


def known(record: Record) -> Volume | Unresolved:
    """Return a volume of which is known what it was created with.

    Raises:
        RecordUnusable: Its record can't be read or understood.
    """
    if isinstance(record, Unusable):
        raise record.error
    return record


def usable(record: Record) -> Volume:
    """Return a volume that can be mounted, as far as this host knows.

    Raises:
        RecordUnusable: Its record can't be read or understood.
        RemoteUnusable: The file of its remote can't be used.
    """
    if not isinstance(record, Volume):
        raise record.error
    return record
