# SPDX-License-Identifier: MIT
"""Makes a server, or a volume to check, of the arguments of the command."""

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from sshfs_plugin import errors, options
from sshfs_plugin.options.remotes import Remotes
from sshfs_plugin.options.values import is_ipv6, number, sshcmd
from sshfs_plugin.settings import Settings
from sshfs_plugin.state.records import VolumeRecords
from sshfs_plugin.volume import LARGEST_PORT, LONGEST_NAME, SSH_PORT, Remote, Volume, VolumeName, volume_name

_NO_VOLUME = VolumeName("check")
"""The name of a volume that is only checked; it is never recorded."""

_BRACKETED = re.compile(r"(?:[^@/]*@)?\[(?P<host>[^\[\]]+)\](?::(?P<port>[0-9]+))?")


def settings_for_root() -> Settings:
    """Return this host's settings, for a command that only root may run.

    Raises:
        NotRoot: Another user runs it.
        InvalidRequest: A setting makes no sense.
    """
    if os.geteuid() != 0:
        raise errors.NotRoot
    try:
        return Settings.from_environment()
    except ValueError as error:
        raise errors.InvalidRequest(str(error)) from None


def server(text: str, port: int | None) -> Remote:
    """Return the server that an argument names.

    Args:
        text: ``host``, ``user@host:/dir`` as sshfs takes it, ``[host]:port`` as in known_hosts, or an IPv6 address.
        port: The value of ``-p``, if it is given; it must not contradict the text.

    Raises:
        InvalidRequest: It is none of these.
    """
    try:
        host, said = _host_and_port(text)
        # the form under which a volume's host key is looked up
        host = sshcmd(f"[{host}]:" if ":" in host else f"{host}:").host
        number(1, LARGEST_PORT)(said or str(port or SSH_PORT))
    except ValueError:
        host = said = ""
    if not host or (port and said and int(said) != port):
        raise errors.InvalidRequest(
            f"{errors.without_login_password(text)!r} names no server",
            "say host, user@host:/dir or [host]:port; a port goes into -p, too",
        )
    return Remote(user="root", host=host, port=int(said or port or SSH_PORT), directory="")


def _host_and_port(text: str) -> tuple[str, str]:
    """Split the name of a server into host and port; the port is empty if there is none."""
    if bracketed := _BRACKETED.fullmatch(text):
        return bracketed["host"], bracketed["port"] or ""
    if ":" not in text or is_ipv6(text):
        return text.rpartition("@")[2], ""
    meant = sshcmd(text)
    if meant.directory.isdecimal():
        raise ValueError("host:port, which sshfs would take for a directory")
    return meant.host, ""


def volume(settings: Settings, where: str | None, given: Sequence[str], port: int | None) -> Volume:
    """Return the volume that the arguments mean: one on record, or one that could be created.

    Args:
        settings: This host's, with the directories of the records and of the remotes.
        where: ``user@host:/dir``, the name of a volume, which has no colon, or None if the options tell.
        given: Options as after ``docker volume create -o``.
        port: The value of ``-p``, if it is given; then it must not be among the options as well.

    Raises:
        RequestError: The name or an option is wrong, or they contradict each other.
        VolumeNotFound: There is no volume of that name.
        RecordUnusable: Its record can't be read or understood.
        RemoteUnusable: The file of its remote can't be used.
    """
    opts = {name: value for name, _, value in (option.partition("=") for option in given)}
    if port:
        if "port" in (name.casefold() for name in opts):
            raise errors.InvalidOption("port", "says again what -p says: give one of them")
        opts["port"] = str(port)
    remotes = Remotes.of(settings)
    if where is None:
        return options.parse(_NO_VOLUME, opts, datetime.now(UTC), remotes)
    if ":" in where:
        if "sshcmd" in (name.casefold() for name in opts):
            raise errors.InvalidOption(
                "sshcmd", f"says again what {errors.without_login_password(where)} says: give one of them"
            )
        return options.parse(_NO_VOLUME, {"sshcmd": where, **opts}, datetime.now(UTC), remotes)
    if "@" in where:
        server, slash, directory = where.partition("/")
        cure = f"{server}:{slash}{directory}" if slash else f"{where}:/dir, or {where}: for the login directory"
        raise errors.InvalidRequest(f"{where!r} has no colon between host and directory", f"say {cure}")
    try:
        on_record = VolumeRecords.of(settings).load(volume_name(where))
    except errors.VolumeNotFound:
        hint = f"if it is a server, say user@{where}:/dir; {errors.IS_IT_LOCAL}"
        raise errors.VolumeNotFound(where, hint) from None
    except errors.InvalidVolumeName:
        raise errors.InvalidVolumeName(
            f"{where[:LONGEST_NAME]!r} is no server and can't be the name of a volume",
            "say user@host:/dir, with a colon after the host",
        ) from None
    if opts:
        raise errors.InvalidRequest(
            f"the volume '{where}' has options of its own", "say user@host:/dir to check with others"
        )
    return on_record
