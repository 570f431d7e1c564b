# SPDX-License-Identifier: MIT
"""The options of ``docker volume create -o``: one table, from which everything else about them is made.

A row says what an option is called, what it means, which values it can have and where it goes; :func:`parse` turns
what a user typed into a :class:`~sshfs_plugin.volume.Volume` or names the option that is wrong. A value that no row
knows never reaches a command line or a configuration file.
"""

import base64
import enum
import hashlib
import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from sshfs_plugin import errors
from sshfs_plugin.volume import (
    Access,
    Check,
    Credentials,
    HostKeyCheck,
    Remote,
    Volume,
    VolumeName,
)

YES, NO = "yes", "no"
_TRUE = {"", "yes", "true", "on", "1"}
_FALSE = {"no", "false", "off", "0"}

_FORBIDDEN = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode's control characters, surrogates and line ends; unusual blanks and joiners do occur in names of files."""

RUNS_A_COMMAND = "it would run a command of the volume's creator as root on this host"

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "KnownHostsCommand",
            "LocalCommand",
            "Match",
            "PermitLocalCommand",
            "PKCS11Provider",
            "ProxyCommand",
            "SecurityKeyProvider",
            "ssh_command",
            "XAuthLocation",
        ),
        RUNS_A_COMMAND,
    ),
    **dict.fromkeys(("RemoteCommand", "sftp_server"), "it would run a command on the server"),
    **dict.fromkeys(("directport", "passive", "slave"), "the connection would bypass ssh and its checks"),
    **dict.fromkeys(("F", "Include"), "it would bring in settings that this plugin has not checked"),
}
"""Options of sshfs and ssh that a volume must not use, each with the reason that the user is given."""


class Destination(enum.Enum):
    """Who acts on an option."""

    PLUGIN = "the plugin"
    SSHFS = "sshfs"
    SSH = "ssh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One row of the table.

    Attributes:
        name: What users type, and what records hold.
        aliases: Other spellings that mean the same.
        value: What to write after the ``=``, for the documentation; empty for a flag.
        meaning: One sentence for the documentation.
        default: What holds without the option, as canonical text; empty if nothing does.
        destination: Who acts on it.
        canonical: Checks a value and returns its one canonical spelling; raises ValueError with the reason.
        free_text: Whether a comma is part of the value rather than the start of the next option.
        secret: Whether the value must never be shown.
    """

    name: str
    aliases: tuple[str, ...] = ()
    value: str
    meaning: str
    default: str = ""
    destination: Destination = Destination.PLUGIN
    canonical: Callable[[str], str]
    free_text: bool = False
    secret: bool = False


def _flag(text: str) -> str:
    if text.casefold() in _TRUE:
        return YES
    if text.casefold() in _FALSE:
        return NO
    raise ValueError("is a switch: give it no value, or yes or no")


def _number(lowest: int, highest: int) -> Callable[[str], str]:
    def canonical(text: str) -> str:
        if not re.fullmatch(r"[0-9]{1,10}", text) or not lowest <= int(text) <= highest:
            raise ValueError(f"must be a number from {lowest} to {highest}, not {text!r}")
        return str(int(text))

    return canonical


def _one_of(*choices: str, **spellings: str) -> Callable[[str], str]:
    def canonical(text: str) -> str:
        chosen = spellings.get(text.casefold(), text.casefold())
        if chosen not in choices:
            raise ValueError(f"must be {', '.join(choices[:-1])} or {choices[-1]}, not {text!r}")
        return chosen

    return canonical


def _text(text: str) -> str:
    if any(unicodedata.category(character) in _FORBIDDEN for character in text):
        raise ValueError("must not hold line breaks or control characters")
    return text


def _path(text: str) -> str:
    if not _text(text).startswith(("/", "~/")):
        raise ValueError(f"must be an absolute path or begin with ~/ (root's home), not {text!r}")
    if "${" in text:
        raise ValueError("must not hold '${', which ssh would replace")
    return text


def _umask(text: str) -> str:
    if not re.fullmatch(r"[0-7]{1,4}", text):
        raise ValueError(f"must be an octal number such as 022, not {text!r}")
    return f"{int(text, 8):03o}"


def _fingerprint(text: str) -> str:
    """Check a fingerprint in the form that ``ssh-keygen -l`` prints."""
    digest = text.removeprefix("SHA256:").rstrip("=")
    try:
        decoded = base64.b64decode(digest + "=", validate=True)
    except ValueError:
        decoded = b""
    if not text.startswith("SHA256:") or len(decoded) != hashlib.sha256().digest_size:
        raise ValueError(f"must be a fingerprint such as ssh-keygen -l prints, SHA256:..., not {text!r}")
    return f"SHA256:{digest}"


_SSHCMD = re.compile(r"(?:(?P<user>[^:/]*)@)?(?:\[(?P<address>[^\]]*)\]|(?P<host>[^:@/\[\]]*)):(?P<directory>.*)")
_HOST = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]*")


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _parse_sshcmd(text: str) -> tuple[str, str, str]:
    """Take ``user@host:/dir`` apart, in the forms that sshfs itself takes.

    Only what :class:`ipaddress.IPv6Address` accepts may stand in brackets: sshfs once took options from there
    (CVE-2026-48711).

    Raises:
        ValueError: It is none of those forms.
    """
    form = "must look like user@host:/dir"
    if "://" in _text(text):
        raise ValueError(f"{form}, not like the URL {text!r}; a port goes into the option 'port'")
    parts = _SSHCMD.fullmatch(text)
    if not parts:
        raise ValueError(f"{form}, with a colon between host and directory, not {text!r}")
    user, address, host = parts["user"], parts["address"], parts["host"]
    if user is not None and (not user or user.startswith("-") or re.search(r"\s", user)):
        raise ValueError(f"{form}; {user!r} can't be a login name")
    if address is not None:
        if not _is_ipv6(address):
            raise ValueError(f"may have an IPv6 address in brackets, but {address!r} is none")
        host = str(ipaddress.IPv6Address(address))  # the form under which ssh looks its host key up
    elif _is_ipv6(bare := text.rpartition("@")[2].rpartition(":")[0]):
        raise ValueError(f"{form}; an IPv6 address goes in brackets, [{bare}]:/dir")
    elif not _HOST.fullmatch(host):
        raise ValueError(f"{form}; {host!r} can't be the name of a host")
    directory = parts["directory"]
    if directory == "~" or directory.startswith("~/"):
        directory = directory[2:]
    if directory.strip("/"):
        directory = directory.rstrip("/")
    elif directory:
        directory = "/"
    return user or "root", host, directory


def _sshcmd(text: str) -> str:
    user, host, directory = _parse_sshcmd(text)
    return f"{user}@[{host}]:{directory}" if ":" in host else f"{user}@{host}:{directory}"


TABLE: tuple[Option, ...] = (
    Option(
        name="sshcmd",
        value="user@host:/dir",
        meaning="The directory on the server, as sshfs takes it; `user@host:` is the login directory, and an IPv6 "
        "address goes in brackets. Without `user@`, root logs in.",
        canonical=_sshcmd,
        free_text=True,
    ),
    Option(
        name="port",
        value="number",
        meaning="The port of the SSH server.",
        default="22",
        canonical=_number(1, 65535),
    ),
    Option(
        name="password",
        value="text",
        meaning="The password. Docker keeps it readable in `docker volume inspect`: better ways are a key and "
        "`password_file`.",
        canonical=_text,
        free_text=True,
        secret=True,
    ),
    Option(
        name="password_file",
        value="path",
        meaning="A file on this host whose first line is the password; it is read at each connection.",
        canonical=_path,
        free_text=True,
    ),
    Option(
        name="IdentityFile",
        aliases=("identity_file",),
        value="path",
        meaning="The private key on this host; `~` is root's home. Without it and without a password: "
        "`/etc/docker-volume-sshfs/id_ed25519` if it exists, else root's `~/.ssh/id_*`.",
        canonical=_path,
        free_text=True,
    ),
    Option(
        name="ro",
        value="",
        meaning="Nobody can write to the volume.",
        default=NO,
        destination=Destination.SSHFS,
        canonical=_flag,
    ),
    Option(
        name="uid",
        value="number",
        meaning="Every file appears to belong to this user.",
        destination=Destination.SSHFS,
        canonical=_number(0, 2**32 - 2),
    ),
    Option(
        name="gid",
        value="number",
        meaning="Every file appears to belong to this group.",
        destination=Destination.SSHFS,
        canonical=_number(0, 2**32 - 2),
    ),
    Option(
        name="umask",
        value="octal",
        meaning="Permissions are shown as all but these; it hides the real ones.",
        destination=Destination.SSHFS,
        canonical=_umask,
    ),
    Option(
        name="idmap",
        value="none|user",
        meaning="`user` shows the files of the login user as root's.",
        default="none",
        destination=Destination.SSHFS,
        canonical=_one_of("none", "user"),
    ),
    Option(
        name="allow_other",
        value="",
        meaning="Given alone it lets every user read and write every file, as it does with sshfs. Without a word, "
        "others than root are let in as owner, group and mode allow.",
        canonical=_flag,
    ),
    Option(
        name="default_permissions",
        value="",
        meaning="Owner, group and mode are checked. On, unless `allow_other` is given without it.",
        canonical=_flag,
    ),
    Option(
        name="reconnect",
        value="",
        meaning="A lost connection is made again.",
        default=YES,
        canonical=_flag,
    ),
    Option(
        name="ServerAliveInterval",
        value="seconds",
        meaning="How often an idle connection is probed.",
        default="15",
        destination=Destination.SSH,
        canonical=_number(1, 3600),
    ),
    Option(
        name="ServerAliveCountMax",
        value="number",
        meaning="After how many unanswered probes the connection counts as lost.",
        default="3",
        destination=Destination.SSH,
        canonical=_number(1, 100),
    ),
    Option(
        name="ConnectTimeout",
        value="seconds",
        meaning="How long to wait for the server at each connection.",
        default="10",
        destination=Destination.SSH,
        canonical=_number(1, 60),
    ),
    Option(
        name="host_key_check",
        aliases=("StrictHostKeyChecking",),
        value="accept-new|yes|no",
        meaning="`accept-new` trusts a server at the first contact and insists on the same host key from then on; "
        "`yes` takes only servers in `known_hosts`; `no` trusts anybody.",
        default=HostKeyCheck.ACCEPT_NEW.value,
        canonical=_one_of("accept-new", "yes", "no", ask="yes", off="no"),
    ),
    Option(
        name="host_key",
        value="SHA256:...",
        meaning="Only the server whose host key has this fingerprint is let in (`ssh-keygen -lf` prints it).",
        canonical=_fingerprint,
    ),
    Option(
        name="check",
        value="create|mount|never",
        meaning="When the server, the login and the directory are checked: at `docker volume create` and before "
        "mounting, only before mounting, or never.",
        default=Check.CREATE.value,
        canonical=_one_of("create", "mount", "never"),
    ),
)

NAMES: tuple[str, ...] = tuple(name for option in TABLE for name in (option.name, *option.aliases))
_BY_NAME = {name.casefold(): option for option in TABLE for name in (option.name, *option.aliases)}
_REFUSED_BY_NAME = {name.casefold(): (name, reason) for name, reason in REFUSED.items()}


def _lookup(name: str) -> Option:
    """Find an option by any of its spellings; upper and lower case are the same, as in ssh_config."""
    folded = name.casefold()
    if folded in _REFUSED_BY_NAME:
        raise errors.RefusedOption(*_REFUSED_BY_NAME[folded])
    if folded not in _BY_NAME:
        raise errors.UnknownOption(name, NAMES)
    return _BY_NAME[folded]


def _split(opts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield single options out of what was typed, where one ``-o`` may hold a list as sshfs takes it.

    ``-o allow_other,uid=1000`` arrives as the key ``allow_other,uid`` with the value ``1000``, and ``-o
    uid=1000,gid=1000`` as the key ``uid`` with the value ``1000,gid=1000``.
    """
    for key, value in opts.items():
        names, rest = key, value
        while True:
            *flags, name = (part.strip() for part in names.split(","))
            yield from ((flag, "") for flag in flags)
            if "," not in rest or _lookup(name).free_text:
                yield name, rest
                break
            first, _, others = rest.partition(",")
            yield name, first
            names, _, rest = others.partition("=")


def _canonical(opts: Mapping[str, str]) -> dict[str, str]:
    """Map each option's name to its canonical value, leaving out what is the default anyway."""
    canonical: dict[str, str] = {}
    for name, value in _split(opts):
        option = _lookup(name)
        try:
            text = option.canonical(value)
        except ValueError as reason:
            raise errors.InvalidOption(option.name, str(reason)) from None
        if canonical.setdefault(option.name, text) != text:
            raise errors.InvalidOption(option.name, "is given twice with different values")
    return {name: text for name, text in canonical.items() if text != _lookup(name).default}


def _access(flags: Mapping[str, str]) -> Access:
    """Say who may use the volume; ``allow_other`` said aloud means what it means to sshfs (vieux/sshfs did so)."""
    said_aloud = flags.get("allow_other") == YES
    return Access(
        allow_other=flags.get("allow_other", YES) == YES,
        default_permissions=flags.get("default_permissions", NO if said_aloud else YES) == YES,
    )


def _credentials(values: Mapping[str, str]) -> Credentials:
    if values.get("password") and values.get("password_file"):
        raise errors.InvalidOption("password_file", "contradicts 'password': give one of them")
    return Credentials(
        password=values.get("password", ""),
        password_file=values.get("password_file", ""),
        identity_file=values.get("IdentityFile", ""),
    )


def _sshfs_options(values: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    for option in TABLE:
        if option.destination is Destination.SSHFS and option.name in values:
            # a switch that is here is on: off is its default, which no volume records
            yield option.name, None if option.canonical is _flag else values[option.name]


def parse(name: VolumeName, opts: Mapping[str, str], created_at: datetime) -> Volume:
    """Turn the options of a Create into a volume.

    Args:
        name: The volume's name, checked already.
        opts: As the client sent them: all values are text.
        created_at: When, with a time zone.

    Raises:
        UnknownOption, RefusedOption, InvalidOption: The option that is wrong, and why.
    """
    options = _canonical(opts)
    if "sshcmd" not in options:
        raise errors.InvalidOption("sshcmd", "is missing: say -o sshcmd=user@host:/dir")
    values = {option.name: option.default for option in TABLE if option.default} | options
    user, host, directory = _parse_sshcmd(values["sshcmd"])
    check = Check(values["check"])
    if "host_key" in values and check is Check.NEVER:
        raise errors.InvalidOption("host_key", "needs the check: leave check=never out")
    if "host_key" in values and values["host_key_check"] == HostKeyCheck.NO.value:
        raise errors.InvalidOption("host_key", "contradicts host_key_check=no: leave one of them out")
    return Volume(
        name=name,
        options=options,
        remote=Remote(user=user, host=host, port=int(values["port"]), directory=directory),
        credentials=_credentials(values),
        host_key_check=HostKeyCheck(values["host_key_check"]),
        pinned_host_key=values.get("host_key", ""),
        check=check,
        access=_access(values),
        sshfs_options=(
            *((("reconnect", None),) if values["reconnect"] == YES else ()),
            *_sshfs_options(options),
        ),
        ssh_options=tuple(
            (option.name, values[option.name])
            for option in TABLE
            if option.destination is Destination.SSH and option.name in values
        ),
        created_at=created_at,
    )


def differences(one: Volume, other: Volume) -> tuple[str, ...]:
    """Name the options in which two volumes differ, in the order of the table."""
    return tuple(option.name for option in TABLE if one.options.get(option.name) != other.options.get(option.name))
