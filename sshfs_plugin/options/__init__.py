# SPDX-License-Identifier: MIT
"""Makes a volume of the options that a user has typed after ``-o``, or an error that names the wrong one."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from sshfs_plugin import errors
from sshfs_plugin.options.remotes import PACKAGED, Remotes
from sshfs_plugin.options.table import (
    CREDENTIALS,
    TABLE,
    TRUST,
    Destination,
    Shape,
    Value,
    can_begin,
    lookup,
    negates,
    why_ignored,
)
from sshfs_plugin.options.table.files import DEFAULT, PROFILES, STRICT
from sshfs_plugin.options.values import NO, NO_PLACE, NONE, YES, flag
from sshfs_plugin.volume import SSH_PORT, Access, CheckAt, Credentials, HostKeyCheck, Remote, Volume, VolumeName

log = logging.getLogger(__name__)

MOST_JUMPS = 3
"""Each is a login of its own at each connection."""

LONGEST_VALUE = 4096
"""Characters: as long as a path can be."""

LONGEST_LIST = 4 * LONGEST_VALUE
"""Characters after one ``-o``."""

_IS_EMPTY = "is empty: is it a variable that is not set? without the option"

_COMMA = re.compile(r"(?<!\\),")
"""A comma between options, or between the items of a value."""


def split(opts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the single options of a Create, where the text after one ``-o`` may be a list, as for sshfs.

    ``-o allow_other,uid=1000`` arrives as the key ``allow_other,uid`` with the value ``1000``, and ``-o
    uid=1000,gid=1000`` as the key ``uid`` with the value ``1000,gid=1000``. The value of ``o`` is such a list as well.
    A comma too many is passed over, as mount(8) and sshfs do.

    Raises:
        UnknownOption, RefusedOption: A list begins with something that a volume can't have.
        InvalidOption: A list is too long.
    """
    # type comes first: if it names another file system, that is the mistake to report
    for key, value in sorted(opts.items(), key=lambda item: item[0].casefold() != "type"):
        names, rest = key, value
        if len(key) + len(value) > LONGEST_LIST:
            first = key.partition(",")[0][: errors.LONGEST_QUOTE]
            raise errors.InvalidOption(first, f"begins a text of more than {LONGEST_LIST} characters")
        while True:
            *flags, name = (part.strip() for part in names.split(","))
            yield from ((flag, "") for flag in flags if flag)
            if name.casefold() == "o":
                others = rest
            else:
                first, others = _first_value(name, rest)
                if name or first or not key:
                    yield name, first
            if not others:
                break
            names, _, rest = others.partition("=")


def _first_value(name: str, text: str) -> tuple[str, str]:
    r"""Split what follows ``name=`` at the comma before the next option; ``\,`` is part of the value, as for sshfs."""
    if "," not in text:
        return text, ""
    shape = Shape.LIST if why_ignored(name, text.partition(",")[0]) else lookup(name).shape
    if shape is Shape.FREE:
        return text, ""
    end = 0
    while comma := _COMMA.search(text, end):
        end = comma.end()
        if shape is Shape.PLAIN or can_begin(_COMMA.split(text[end:], maxsplit=1)[0]):
            return text[: comma.start()].replace("\\,", ","), text[end:]
    return text.replace("\\,", ","), ""


def _canonical(singles: Iterable[tuple[str, str]]) -> dict[str, Value]:
    """Map each option's name to its canonical value, leaving out what has no effect at all."""
    canonical: dict[str, Value] = {}
    spelled: dict[str, str] = {}
    for name, value in singles:
        if why := why_ignored(name, value):
            log.warning("option '%s' is ignored: %s", name, why)
            continue
        option = lookup(name)
        if len(value) > LONGEST_VALUE:
            raise errors.InvalidOption(option.name, f"has a value of more than {LONGEST_VALUE} characters")
        try:
            meant = option.canonical(value)
        except ValueError as reason:
            raise errors.InvalidOption(option.name, str(reason)) from None
        if negates(name):
            meant = NO if meant == YES else YES
        other = spelled.setdefault(option.name, name)
        if canonical.setdefault(option.name, meant) != meant:
            if negates(name) is not negates(other):
                raise errors.InvalidOption(name, f"contradicts '{other}': leave one of them out")
            raise errors.InvalidOption(option.name, "is given twice with different values")
    return canonical


def _without_defaults(canonical: Mapping[str, Value]) -> dict[str, Value]:
    """Leave out what would hold anyway."""
    implied = _implied(canonical)
    return {name: value for name, value in canonical.items() if name in implied or value != lookup(name).default}


def _remote(options: Mapping[str, Value]) -> tuple[Remote, dict[str, str]]:
    """Return the remote, from ``sshcmd`` or from the options that name its parts, and the other options."""
    others = {name: value for name, value in options.items() if isinstance(value, str)}
    parts = {name: others.pop(name) for name in ("host", "user", "directory") if name in others}
    remote = options.get("sshcmd")
    if isinstance(remote, Remote):
        if twice := [name for name in ("host", "directory") if name in parts]:
            raise errors.InvalidOption(twice[0], "contradicts 'sshcmd', which names the same: leave one of them out")
        if remote.user and parts.get("user", remote.user) != remote.user:
            raise errors.InvalidOption("user", "contradicts the user in 'sshcmd': leave one of them out")
    elif "host" in parts:
        remote = Remote(user="", host=parts["host"], port=SSH_PORT, directory=parts.get("directory", ""))
    elif "directory" in parts:
        raise errors.InvalidOption(
            "host", "is missing beside 'directory': say -o host=SERVER, or all of it as -o sshcmd=user@host:/dir"
        )
    else:
        raise errors.InvalidOption("sshcmd", "is missing: say -o sshcmd=user@host:/dir")
    user, port = remote.user or parts.get("user", "root"), int(others.get("port", remote.port))
    return replace(remote, user=user, port=port), others


def _require_consistency(values: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Raise InvalidOption if options contradict each other, or if one lacks another that it needs."""
    for name, needed, value in (
        ("uidfile", "idmap", "file"),
        ("gidfile", "idmap", "file"),
        ("from_code", "modules", "iconv"),
        ("to_code", "modules", "iconv"),
    ):
        if name in values and values.get(needed) != value:
            raise errors.InvalidOption(name, f"needs {needed}={value}")
    if "read_timeout" in given and not _has_relay(values):
        raise errors.InvalidOption("read_timeout", "needs the relay: leave relay=no and reconnect=no out")
    if values["profile"] == STRICT and given.get("dir_cache") != YES:
        for name in ("dcache_timeout", "dcache_dir_timeout", "dcache_stat_timeout", "dcache_link_timeout"):
            if given.get(name, "0") != "0":
                raise errors.InvalidOption(
                    name, "contradicts profile=strict, which remembers nothing: leave one of them out"
                )
    if values.get("idmap") == "file" and not {"uidfile", "gidfile"} & set(values):
        raise errors.InvalidOption("idmap", "is 'file' and needs a uidfile or a gidfile")
    _require_one_login(values)
    if "host_key" in values and values["check"] == CheckAt.NEVER.value:
        raise errors.InvalidOption("host_key", "needs the check: leave check=never out")
    if "host_key" in values and values["host_key_check"] == HostKeyCheck.NO.value:
        raise errors.InvalidOption("host_key", "contradicts host_key_check=no: leave one of them out")
    if values["create_directory"] == YES and values["check"] != CheckAt.CREATE.value:
        raise errors.InvalidOption("create_directory", f"needs the check: leave check={values['check']} out")


def _require_one_login(values: Mapping[str, str]) -> None:
    """Raise InvalidOption if two options say the same about the login; what a secret holds is not known yet."""
    has_key = bool({"IdentityFile", "secret"} & set(values))
    if "CertificateFile" in values and not has_key:
        raise errors.InvalidOption("CertificateFile", "needs the IdentityFile to which it belongs")
    if "passphrase_secret" in values and not has_key:
        raise errors.InvalidOption("passphrase_secret", "needs the IdentityFile or the secret that is the private key")
    for name, other in (
        ("password_file", "password"),
        ("secret", "password"),
        ("secret", "password_file"),
        ("IdentityAgent", "IdentityFile"),
    ):
        if values.get(name) and values.get(other):
            raise errors.InvalidOption(name, f"contradicts '{other}': give one of them")


def _require_no_port_in_directory(remote: Remote, options: Mapping[str, str]) -> None:
    """Refuse ``nas:2222:/dir``, where 2222 must be meant as the port; in ``nas:2222/dir`` it may be a directory."""
    meant, directory = remote.with_port_from_directory, remote.directory
    if meant and re.match("[0-9]+:(/|$)", directory) and "port" not in options:
        raise errors.InvalidOption(
            "sshcmd",
            f"has no place for a port, say -o port={meant.port} -o sshcmd={meant.source}; a directory that is called "
            f"so is ./{directory}",
        )


def _require_no_login_in_directory(remote: Remote) -> None:
    """Refuse ``alice@corp:PASSWORD@nas:/dir``; volumes on record are left alone, where it was taken for a directory."""
    if re.match(r"[^/]*@(\[|[^/:@]+:)", remote.directory):
        raise errors.InvalidOption("sshcmd", f"{NO_PLACE}; a directory that is called so is ./NAME")


def _has_relay(values: Mapping[str, str]) -> bool:
    """Tell whether reads survive the loss of a connection, which must then be made again."""
    return values["relay"] == values["reconnect"] == YES


def _access(flags: Mapping[str, str]) -> Access:
    """Return who may use the volume; a given ``allow_other`` checks no permissions, as with sshfs and vieux/sshfs."""
    is_given = flags.get("allow_other") == YES
    return Access(
        allow_other=flags.get("allow_other", YES) == YES,
        default_permissions=flags.get("default_permissions", NO if is_given else YES) == YES,
    )


def _implied(options: Mapping[str, Value]) -> dict[str, str]:
    """Return the options whose default depends on the other options, with that default."""
    implied = dict(PROFILES[str(options.get("profile", DEFAULT))])
    if "dcache_timeout" not in implied and "dcache_timeout" not in options:
        implied["dcache_dir_timeout"] = "2"  # docs/facts.md, "What is remembered"
    if "uid" in options or "gid" in options:
        implied["idmap"] = "user"  # docs/facts.md, "Who may be given files"
    if options.get("idmap") == "file":
        implied["nomap"] = "ignore"
    return implied


def _options_for(destination: Destination, options: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """Yield the options for sshfs or ssh: those that are given, and defaults of this plugin that differ from theirs."""
    for option in TABLE:
        if option.destination is not destination or not (option.imposed or option.name in options):
            continue
        value = options.get(option.name, option.default)
        if destination is Destination.SSH or option.canonical is not flag:
            yield option.name, value
        elif value == YES:
            yield option.name, None
        elif option.negations:
            yield option.negations[0], None


def parse(name: VolumeName, opts: Mapping[str, str], created_at: datetime, remotes: Remotes = PACKAGED) -> Volume:
    """Make a volume of the options of a Create; those without effect are logged and left out.

    Args:
        name: The volume's name, checked already.
        opts: As the client sent them: all values are text.
        created_at: The time of the Create, with a time zone.
        remotes: Where a remote is looked up.

    Raises:
        UnknownOption, RefusedOption, InvalidOption: An option is wrong; the error names it and says why.
        RemoteUnusable: The file of the volume's remote is wrong, or does not go with the options.
    """
    return volume_of(name, given(opts), created_at, remotes)


def given(opts: Mapping[str, str]) -> dict[str, str]:
    """Return the options of a Create as they are recorded: as in :attr:`Volume.given`. No file is read.

    Raises:
        UnknownOption, RefusedOption, InvalidOption: An option is wrong.
    """
    canonical = _canonical(split(opts))
    if canonical.get("password") == "":
        raise errors.InvalidOption("password", f"{_IS_EMPTY} a key is used")
    if "remote" in canonical:
        for name, value in split(opts):
            if not value and name.casefold() in ("port", "directory"):
                raise errors.InvalidOption(name.casefold(), f"{_IS_EMPTY} what the remote's file says counts")
        # with another user or port it may be a server that only its own host reaches
        if canonical.get("ProxyJump") == canonical["remote"] and not {"user", "port"} & set(canonical):
            raise errors.InvalidOption(
                "ProxyJump",
                "names the volume's own remote, whose server would be reached through itself: leave it out",
            )
        return _beside_remote(canonical)
    remote, others = _remote(_without_defaults(canonical))
    _require_no_port_in_directory(remote, others)
    _require_no_login_in_directory(remote)
    return {"sshcmd": remote.source, **others}


def volume_of(
    name: VolumeName, recorded: Mapping[str, str], created_at: datetime, remotes: Remotes = PACKAGED
) -> Volume:
    """Make a volume of recorded options: as in :attr:`Volume.given`, none of their values is a list of options.

    Raises:
        UnknownOption, RefusedOption, InvalidOption, RemoteUnusable: As :func:`parse` does.
    """
    canonical = _canonical(recorded.items())
    if "remote" not in canonical:
        remote, others = _remote(_without_defaults(canonical))
        options = {"sshcmd": remote.source, **others}
        return _with_jump(_volume(name, options, options, remote, created_at), remotes)
    own = _beside_remote(canonical)
    remote_name, layer = own["remote"], _layer(own["remote"], remotes)
    if misled := _misleading(own, layer):
        raise remotes.unusable(
            remote_name,
            f"says what to log in with, beside which a volume can't say '{misled}', since that decides who gets it",
            "leave it out there, or write it into the file",
        )
    try:
        remote, others = _remote(_without_defaults({**layer, **own}))
        volume = _volume(name, own, {"sshcmd": remote.source, **others}, remote, created_at)
    except errors.InvalidOption as error:
        raise remotes.unusable(remote_name, f"is not valid for this volume ({error})") from None
    return _with_jump(volume, remotes)


def _beside_remote(canonical: Mapping[str, Value]) -> dict[str, str]:
    """Return the options of a volume that has a remote. Those that equal the default count before the remote's."""
    for name in ("sshcmd", "host"):
        if name in canonical:
            raise errors.InvalidOption(
                name,
                "contradicts 'remote', whose file says where the server is: say remote=NAME and directory=/dir alone",
            )
    return {name: value for name, value in canonical.items() if isinstance(value, str) and name != "type"}


def _misleading(own: Mapping[str, str], layer: Mapping[str, Value]) -> str:
    """Return an option of a volume by which the credentials in its remote's file would go elsewhere; empty if none is.

    Who wrote the volume may not be who may read the file.
    """
    if not CREDENTIALS & set(layer):
        return ""
    changed = (name for name, value in own.items() if value != layer.get(name, lookup(name).default))
    never = {"check"} if own.get("check") == CheckAt.NEVER.value else set()
    return min((name for name in changed if name in TRUST | never), default="")


def _layer(name: str, remotes: Remotes) -> dict[str, Value]:
    """Return the options in a remote's file."""
    try:
        layer = _canonical(remotes.read(name).items())
    except errors.UnknownOption as error:
        # a password that has slipped into a line of its own looks like one, and whoever asks for the volume sees this
        what = str(error) if error.is_misspelt else "a line of it begins with no option that a volume can have"
        raise remotes.unusable(name, f"is not valid ({what})") from None
    except errors.RequestError as error:
        raise remotes.unusable(name, f"is not valid ({error})") from None
    for option in ("sshcmd", "remote", "o"):
        if option in layer:
            raise remotes.unusable(name, f"can't have the option '{option}'", "say host, user and port there")
    if layer.get("password") == "":
        raise remotes.unusable(name, "has an empty 'password'", "write it, or leave the line out, and a key is used")
    if "host" not in layer:
        raise remotes.unusable(name, "lacks the option 'host'", "write host = NAME there")
    return layer


def _with_jump(volume: Volume, remotes: Remotes, through: tuple[str, ...] = ()) -> Volume:
    """Return a volume with its jump host, which is checked and trusted when the volume is.

    Args:
        volume: The volume, or a jump host.
        remotes: Where jump hosts are looked up.
        through: The jump hosts that lie behind it, itself included.

    Raises:
        RemoteUnusable: The file of a jump host is wrong, or there are too many.
    """
    name = volume.options.get("ProxyJump", "")
    if not name:
        return volume
    if name in through:
        way = " behind ".join((name, *through))
        raise remotes.unusable(name, f"makes it a jump host for itself ({way})", "leave one ProxyJump out")
    if len(through) == MOST_JUMPS:
        raise remotes.unusable(
            name, f"makes it one more than {MOST_JUMPS} jump hosts in a row", "leave one ProxyJump out"
        )
    layer: dict[str, Value] = {**_layer(name, remotes), "check": volume.check.value, "create_directory": NO}
    try:
        remote, others = _remote(_without_defaults(layer))
        if {"%", "$"} & set(remote.user):
            raise errors.InvalidOption("user", "must not hold '%' or '$' for a jump host: ssh would replace it")
        options = {"sshcmd": remote.source, **others}
        # no volume can have that name
        jump = _volume(VolumeName(f"jump:{name}"), {"remote": name}, options, remote, volume.created_at)
    except errors.InvalidOption as error:
        raise remotes.unusable(name, f"is not valid for a jump host ({error})") from None
    return replace(volume, jump=_with_jump(jump, remotes, (name, *through)))


def _volume(
    name: VolumeName, given: Mapping[str, str], options: dict[str, str], remote: Remote, created_at: datetime
) -> Volume:
    # none is no value: it counts only before what the file of a remote says
    values = {option.name: option.default for option in TABLE if option.default not in ("", NONE)} | options
    _require_consistency(values, options)
    in_force = _implied(options) | options
    return Volume(
        name=name,
        given=given,
        options=options,
        remote=remote,
        credentials=Credentials(
            password=values.get("password", ""),
            password_file=values.get("password_file", ""),
            identity_file=values.get("IdentityFile", ""),
            certificate_file=values.get("CertificateFile", ""),
            secret=values.get("secret", ""),
            passphrase_secret=values.get("passphrase_secret", ""),
            identity_agent=values.get("IdentityAgent", ""),
        ),
        host_key_check=HostKeyCheck(values["host_key_check"]),
        pinned_host_key=values.get("host_key", ""),
        known_hosts=values.get("known_hosts", ""),
        check=CheckAt(values["check"]),
        create_directory=values["create_directory"] == YES,
        access=_access(values),
        read_seconds=int(values["read_timeout"]) if _has_relay(values) else None,
        shares_connection=_has_relay(values) and values["own_connection"] == NO and values["max_conns"] == "1",
        sshfs_options=tuple(_options_for(Destination.SSHFS, in_force)),
        ssh_options=tuple((keyword, value or "") for keyword, value in _options_for(Destination.SSH, in_force)),
        created_at=created_at,
    )


def shown(options: Mapping[str, str]) -> dict[str, str]:
    """Return options as they may be shown to people: without the password."""
    return {name: "(not shown)" if name == "password" else text for name, text in options.items()}


def typed(options: Mapping[str, str]) -> dict[str, str]:
    """Escape the commas in values, so that :func:`parse` reads the same options."""
    return {
        name: text if lookup(name).shape is Shape.FREE else text.replace(",", "\\,") for name, text in options.items()
    }


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> tuple[str, ...]:
    """Name the options in which two volumes differ, by those that were given, in the order of the table."""
    return tuple(option.name for option in TABLE if one.get(option.name) != other.get(option.name))
