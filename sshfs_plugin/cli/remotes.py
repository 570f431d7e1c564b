# SPDX-License-Identifier: MIT
"""``remote``: the servers that files on this host describe, and the volumes that use them."""

from datetime import UTC, datetime

from sshfs_plugin import errors, options
from sshfs_plugin.cli import terminal
from sshfs_plugin.cli.check import check as check_volume
from sshfs_plugin.cli.exits import Exit
from sshfs_plugin.options.remotes import Remotes
from sshfs_plugin.options.values import NONE
from sshfs_plugin.settings import Settings
from sshfs_plugin.state.records import VolumeRecords
from sshfs_plugin.volume import Unresolved, Unusable, Volume, VolumeName

_NO_VOLUME = VolumeName("remote")
"""The name of a volume that is never recorded."""

_FOR_A_JUMP_HOST = (
    "a remote that is a jump host alone needs the login, which has succeeded, and forwarding, but not this"
)


def show_all(settings: Settings) -> Exit:
    """Show every remote with its server and its volumes, and those that volumes name and that are not there.

    Returns:
        FINE if the files of all can be used.
    """
    users: dict[str, list[str]] = {name: [] for name in Remotes.of(settings).names()}
    behind: dict[str, list[str]] = {}
    for volume in _volumes(settings):
        if volume.remote_name:
            users.setdefault(volume.remote_name, []).append(volume.name)
        for name in _jump_hosts(volume):
            users.setdefault(name, [])
            behind.setdefault(name, []).append(f"{volume.name} (through it)")
    rows: list[tuple[str, ...]] = []
    problems: list[errors.PluginError] = []
    for name, volumes in sorted(users.items()):
        try:
            server = volume_of(settings, name).remote.account
        except errors.PluginError as error:
            problems.append(error)
            server = "unusable"
        rows.append((name, server, ", ".join((*volumes, *behind.get(name, ())))))
    if rows:
        terminal.table(("NAME", "SERVER", "VOLUMES"), rows)
    else:
        terminal.say(f"There are no remotes in {settings.remotes}.")
    problems += Remotes.of(settings).misnamed()
    for problem in problems:
        terminal.say(str(problem), colour="red", error=True)
    return Exit.BROKEN if problems else Exit.FINE


def show(settings: Settings, name: str) -> None:
    """Show what the file of a remote says, without the password, and which volumes use it.

    Raises:
        InvalidOption: No remote can have that name.
        RemoteUnusable: The file can't be used.
    """
    volume = volume_of(settings, name)
    shown = options.shown(volume.options)
    others = (f"{option}={text}" for option, text in shown.items() if option not in ("remote", "sshcmd", "port"))
    lines = {
        "file": str(Remotes.of(settings).file(name)),
        "server": volume.remote.account,
        "directory": volume.remote.directory or "as each volume says, else the login directory",
        "options": ", ".join(others),
        "volumes": ", ".join(volume.name for volume in _volumes(settings) if volume.remote_name == name),
        "behind it": ", ".join(volume.name for volume in _volumes(settings) if name in _jump_hosts(volume)),
    }
    for line, text in lines.items():
        terminal.say(f"{line + ':':<12}{text or 'none'}")


def check(settings: Settings, name: str) -> Exit:
    """See whether the file of a remote goes with the options of its volumes, and make the preflight for it.

    Returns:
        FINE if it does with those of all.

    Raises:
        InvalidOption: No remote can have that name, or the file names one that the service does not see.
        RemoteUnusable: The file can't be used.
        CredentialsError, PreflightError: The first check that has failed.
    """
    remote = volume_of(settings, name)
    volumes = [volume for volume in _volumes(settings) if name in (volume.remote_name, *_jump_hosts(volume))]
    problems = [volume for volume in volumes if isinstance(volume, Unresolved)]
    for volume in problems:  # before the server is asked, which may fail
        terminal.say(f"volume '{volume.name}': {volume.error}", colour="red", error=True)
    try:
        check_volume(settings, remote, writes=False)
    except (errors.SFTPUnavailable, errors.DirectoryUnusable) as error:
        if all(volume.remote_name != name for volume in volumes):
            error.hint += f"; {_FOR_A_JUMP_HOST}"
        raise
    return Exit.BROKEN if problems else Exit.FINE


def volume_of(settings: Settings, name: str) -> Volume:
    """Return the volume that a remote makes if nothing else is given.

    Raises:
        InvalidOption: No remote can have that name.
        RemoteUnusable: The file can't be used.
    """
    return options.parse(_NO_VOLUME, {"remote": name}, datetime.now(UTC), Remotes.of(settings))


def _volumes(settings: Settings) -> list[Volume | Unresolved]:
    """Return the volumes of which is known what they were created with."""
    records = VolumeRecords.of(settings)
    volumes = [records.read(VolumeName(name)) for name in records.names()]
    return [volume for volume in volumes if not isinstance(volume, Unusable)]


def _jump_hosts(volume: Volume | Unresolved) -> tuple[str, ...]:
    """Return the names of the remotes that are jump hosts of a volume; of one that can't be used, those that it tells.

    That is the one that is given, and the one by whose file the volume can't be used.
    """
    if isinstance(volume, Volume):
        return tuple(jump.remote_name for jump in volume.jumps)
    told = {volume.given.get("ProxyJump", ""), volume.remote}
    return tuple(sorted(told - {"", NONE, volume.remote_name}))
