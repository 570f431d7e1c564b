# SPDX-License-Identifier: MIT
"""From what a user typed after ``-o`` to a volume, or to the name of the option that is wrong."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from sshfs_plugin import errors
from sshfs_plugin.option_table import TABLE, Destination, lookup
from sshfs_plugin.option_values import NO, YES, flag, parse_sshcmd
from sshfs_plugin.volume import Access, Check, Credentials, HostKeyCheck, Remote, Volume, VolumeName


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
            if "," not in rest or lookup(name).free_text:
                yield name, rest
                break
            first, _, others = rest.partition(",")
            yield name, first
            names, _, rest = others.partition("=")


def _canonical(opts: Mapping[str, str]) -> dict[str, str]:
    """Map each option's name to its canonical value, leaving out what is the default anyway."""
    canonical: dict[str, str] = {}
    for name, value in _split(opts):
        option = lookup(name)
        try:
            text = option.canonical(value)
        except ValueError as reason:
            raise errors.InvalidOption(option.name, str(reason)) from None
        if canonical.setdefault(option.name, text) != text:
            raise errors.InvalidOption(option.name, "is given twice with different values")
    return {name: text for name, text in canonical.items() if text != lookup(name).default}


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
            yield option.name, None if option.canonical is flag else values[option.name]


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
    user, host, directory = parse_sshcmd(values["sshcmd"])
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
