# SPDX-License-Identifier: MIT
"""THE table of options: what each is called, what it means, which values it can have and where it goes.

Validation, the README and the manual page are made from it. A value that no row knows never reaches a command line or
a configuration file.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sshfs_plugin import errors
from sshfs_plugin.option_values import NO, YES, fingerprint, flag, number, one_of, path, plain_text, sshcmd, umask
from sshfs_plugin.volume import Check, HostKeyCheck

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
    """

    name: str
    aliases: tuple[str, ...] = ()
    value: str
    meaning: str
    default: str = ""
    destination: Destination = Destination.PLUGIN
    canonical: Callable[[str], str]
    free_text: bool = False


TABLE: tuple[Option, ...] = (
    Option(
        name="sshcmd",
        value="user@host:/dir",
        meaning="The directory on the server, as sshfs takes it; `user@host:` is the login directory, and an IPv6 "
        "address goes in brackets. Without `user@`, root logs in.",
        canonical=sshcmd,
        free_text=True,
    ),
    Option(
        name="port",
        value="number",
        meaning="The port of the SSH server.",
        default="22",
        canonical=number(1, 65535),
    ),
    Option(
        name="password",
        value="text",
        meaning="The password. Docker keeps it readable in `docker volume inspect`: better ways are a key and "
        "`password_file`.",
        canonical=plain_text,
        free_text=True,
    ),
    Option(
        name="password_file",
        value="path",
        meaning="A file on this host, of mode 600 and not below /tmp, whose first line is the password; it is read at "
        "each connection.",
        canonical=path,
        free_text=True,
    ),
    Option(
        name="IdentityFile",
        aliases=("identity_file",),
        value="path",
        meaning="The private key on this host; `~` is root's home. Without it and without a password: "
        "`/etc/docker-volume-sshfs/id_ed25519` if it exists, else root's `~/.ssh/id_*`.",
        canonical=path,
        free_text=True,
    ),
    Option(
        name="ro",
        value="",
        meaning="Nobody can write to the volume.",
        default=NO,
        destination=Destination.SSHFS,
        canonical=flag,
    ),
    Option(
        name="uid",
        value="number",
        meaning="Every file appears to belong to this user.",
        destination=Destination.SSHFS,
        canonical=number(0, 2**32 - 2),
    ),
    Option(
        name="gid",
        value="number",
        meaning="Every file appears to belong to this group.",
        destination=Destination.SSHFS,
        canonical=number(0, 2**32 - 2),
    ),
    Option(
        name="umask",
        value="octal",
        meaning="Permissions are shown as all but these; it hides the real ones.",
        destination=Destination.SSHFS,
        canonical=umask,
    ),
    Option(
        name="idmap",
        value="none|user",
        meaning="`user` shows the files of the login user as root's.",
        default="none",
        destination=Destination.SSHFS,
        canonical=one_of("none", "user"),
    ),
    Option(
        name="allow_other",
        value="",
        meaning="Every user may read and write every file, unless `default_permissions` is given too. Without this "
        "option, users other than root may do what owner, group and mode allow.",
        canonical=flag,
    ),
    Option(
        name="default_permissions",
        value="",
        meaning="Owner, group and mode are checked. On, unless `allow_other` is given without it.",
        canonical=flag,
    ),
    Option(
        name="reconnect",
        value="",
        meaning="A lost connection is made again. On, unless switched off.",
        default=YES,
        canonical=flag,
    ),
    Option(
        name="ServerAliveInterval",
        value="seconds",
        meaning="How often an idle connection is probed.",
        default="15",
        destination=Destination.SSH,
        canonical=number(1, 3600),
    ),
    Option(
        name="ServerAliveCountMax",
        value="number",
        meaning="After how many unanswered probes the connection counts as lost.",
        default="3",
        destination=Destination.SSH,
        canonical=number(1, 100),
    ),
    Option(
        name="ConnectTimeout",
        value="seconds",
        meaning="How long to wait for the server at each connection.",
        default="10",
        destination=Destination.SSH,
        canonical=number(1, 60),
    ),
    Option(
        name="host_key_check",
        aliases=("StrictHostKeyChecking",),
        value="accept-new|yes|no",
        meaning="`accept-new` trusts a server at the first contact and insists on the same host key from then on; "
        "`yes` takes only servers that are known already, to this plugin, to root's `~/.ssh/known_hosts` or to "
        "`/etc/ssh/ssh_known_hosts`; `no` trusts anybody.",
        default=HostKeyCheck.ACCEPT_NEW.value,
        canonical=one_of("accept-new", "yes", "no", ask="yes", off="no"),
    ),
    Option(
        name="host_key",
        value="SHA256:...",
        meaning="Only the server whose host key has this fingerprint is let in (`ssh-keygen -lf` prints it).",
        canonical=fingerprint,
    ),
    Option(
        name="check",
        value="create|mount|never",
        meaning="When the server, the login and the directory are checked: at `docker volume create` and before "
        "mounting, only before mounting, or never.",
        default=Check.CREATE.value,
        canonical=one_of("create", "mount", "never"),
    ),
)

NAMES: tuple[str, ...] = tuple(name for option in TABLE for name in (option.name, *option.aliases))
_BY_NAME = {name.casefold(): option for option in TABLE for name in (option.name, *option.aliases)}
_REFUSED_BY_NAME = {name.casefold(): (name, reason) for name, reason in REFUSED.items()}


def lookup(name: str) -> Option:
    """Find an option by any of its spellings; upper and lower case are the same, as in ssh_config."""
    folded = name.casefold()
    if folded in _REFUSED_BY_NAME:
        raise errors.RefusedOption(*_REFUSED_BY_NAME[folded])
    if folded not in _BY_NAME:
        raise errors.UnknownOption(name, NAMES)
    return _BY_NAME[folded]
