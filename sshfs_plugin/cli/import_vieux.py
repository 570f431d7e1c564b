# SPDX-License-Identifier: MIT
"""``import-vieux``: the volumes of vieux/sshfs, or of a fork of it, made anew through the running service."""

import enum
import time
from collections.abc import Sequence
from pathlib import Path

from sshfs_plugin import errors, options
from sshfs_plugin.cli import terminal
from sshfs_plugin.cli.check import require_seen_by_the_service
from sshfs_plugin.cli.exits import Exit
from sshfs_plugin.cli.status import SYSTEMD_SECONDS
from sshfs_plugin.discovery.client import Service
from sshfs_plugin.host import local_files
from sshfs_plugin.mounts import systemd
from sshfs_plugin.preflight.preflight import Preflight
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.credentials import Keyring
from sshfs_plugin.ssh.known_hosts import KnownHosts
from sshfs_plugin.state.records import VolumeRecords
from sshfs_plugin.vieux import legacy
from sshfs_plugin.vieux.migration import Move, Mover
from sshfs_plugin.volume import CheckAt, Volume

CREATE_SECONDS = 120.0
"""Each volume gets the time that Docker would give it."""


class _Verdict(enum.StrEnum):
    """What is to be done about a volume."""

    MADE = "made"
    THERE = "there already"
    LEFT_OUT = "left out"


def import_vieux(settings: Settings, state: Path | None, keys: Path | None, *, checked: bool, dry_run: bool) -> Exit:
    """Make the volumes of a state file, or show what would be done; return FINE if none is missing in the end.

    Args:
        settings: This host's.
        state: The state file; None for that of the plugin that is installed, or the usual one.
        keys: The directory that the plugin saw as ``/root/.ssh``; None to ask the plugin that is installed.
        checked: Whether the preflight is made now rather than before mounting.
        dry_run: Whether to show only what would be done; then no server is asked and nothing is written.

    Raises:
        LegacyStateUnusable: The state file can't be read, or is something else.
        ServiceError: The service can't be asked.
    """
    state = state or legacy.state_file(settings.root)
    installed = legacy.installed(settings.root)
    # a state file that no plugin has is a copy, and may be that of any installed plugin
    plugins = [plugin for plugin in installed if plugin.state == state] or installed
    keys = keys or next((plugin.keys for plugin in plugins if plugin.keys), None)
    mover = Mover(settings=settings, keys=keys, checked=checked)
    moves = [mover.plan(name, given) for name, given in legacy.volumes(state).items()]
    if not moves:
        terminal.say(f"There are no volumes in {state}.")
        return Exit.FINE
    missing = (_show if dry_run else _make)(settings, moves)
    _show_ssh_config(keys)
    if missing:
        what = "can't be made" if dry_run else "are missing"
        terminal.say(f"{len(missing)} of {len(moves)} volumes {what}: {', '.join(missing)}", error=True)
        return Exit.BROKEN
    if not dry_run:
        _show_next_steps([plugin.name for plugin in plugins])
    return Exit.FINE


def _show(settings: Settings, moves: Sequence[Move]) -> list[str]:
    """Show what would be done; return the names of those that can't be made."""
    judged = [(move, *_foreseen(settings, move)) for move in moves]
    terminal.table(("NAME", "REMOTE", "OPTIONS", "WOULD BE", "REMARKS"), [_row(*judgement) for judgement in judged])
    return [move.name for move, verdict, _ in judged if verdict is _Verdict.LEFT_OUT]


def _foreseen(settings: Settings, move: Move) -> tuple[_Verdict, str]:
    """Return what will come of a volume, and why it is left out, as far as that does not depend on its server."""
    verdict, problem = _judge(settings, move)
    # with another key that ssh can use, the same would be said
    if verdict is _Verdict.MADE and (refusal := _refusal(settings, move.volumes[0])):
        return _Verdict.LEFT_OUT, refusal
    return verdict, problem


def _refusal(settings: Settings, volume: Volume) -> str:
    """Return why the service will refuse a volume before it asks the server; empty if it will ask."""
    if volume.check is not CheckAt.CREATE:
        return ""
    try:
        require_seen_by_the_service(settings, volume)
        Preflight(keyring=Keyring.of(settings), known_hosts=KnownHosts.of(settings)).prepare(volume)
    except errors.PluginError as error:
        return str(error)
    return ""


def _row(move: Move, verdict: _Verdict, problem: str) -> tuple[str, ...]:
    remarks = "; ".join(filter(None, (problem, *move.remarks)))
    if verdict is _Verdict.LEFT_OUT and move.problem:
        return move.name, "", ", ".join(name for name in move.names if name != "sshcmd"), verdict, remarks
    remote = move.volumes[0].remote
    return move.name, f"{remote.source} port {remote.port}", _shown_options(move.volumes[0]), verdict, remarks


def _shown_options(volume: Volume) -> str:
    shown = options.shown(volume.options)
    return ", ".join(f"{name}={text}" for name, text in shown.items() if name not in ("sshcmd", "port"))


def _judge(settings: Settings, move: Move) -> tuple[_Verdict, str]:
    """Return what is to be done about a volume, and why it is left out; a different ``check`` alone is no reason."""
    if not move.volumes:
        return _Verdict.LEFT_OUT, move.problem
    try:
        existing = VolumeRecords.of(settings).load(move.volumes[0].name)
    except errors.VolumeNotFound:
        return (_Verdict.LEFT_OUT, move.problem) if move.problem else (_Verdict.MADE, "")
    except (errors.RecordUnusable, errors.RemoteUnusable) as error:
        return _Verdict.LEFT_OUT, str(error)
    for volume in move.volumes:
        differing = [name for name in options.differences(existing.given, volume.given) if name != "check"]
        if not differing:
            return _Verdict.THERE, ""
    return _Verdict.LEFT_OUT, str(errors.VolumeExists(move.name, differing))


def _make(settings: Settings, moves: Sequence[Move]) -> list[str]:
    """Make the volumes that are not there; return the names of those that could not be made."""
    return [move.name for move in moves if not _made(settings, move)]


def _made(settings: Settings, move: Move) -> bool:
    """Make a volume unless it is there, and print how that went."""
    started = time.monotonic()
    verdict, problem = _judge(settings, move)
    if verdict is _Verdict.MADE:
        problem = _make_one_of(settings, move.volumes)
    said = "; ".join((problem or verdict, *move.remarks))
    terminal.step(move.name, time.monotonic() - started, said, holds=not problem)
    return not problem


def _make_one_of(settings: Settings, volumes: Sequence[Volume]) -> str:
    """Make the first of these volumes that the service takes; if it takes none, return its errors, each once.

    With another key it may have come further, and then fail for another reason.
    """
    listens = systemd.listening(systemd.SOCKET, seconds=SYSTEMD_SECONDS)
    refusals: dict[str, str] = {}
    for volume in volumes:
        try:
            Service.of(settings, listens, seconds=CREATE_SECONDS).create(volume.name, options.typed(volume.options))
        except errors.ServiceRefusal as error:
            refusals.setdefault(error.said, f"with {volume.credentials.identity_file}: {error.said}")
        else:
            return ""
    return "; ".join(refusals.values() if len(refusals) > 1 else refusals)


def _show_ssh_config(keys: Path | None) -> None:
    if keys and local_files.exists(keys / "config"):
        terminal.say(
            f"{keys / 'config'} was read by the other plugin and is not by this one: say its settings as options.",
            colour="yellow",
        )


def _show_next_steps(plugins: Sequence[str]) -> None:
    """Print the commands by which containers come to use the new volumes, if the other plugin is still installed."""
    for name in plugins:
        terminal.say(f"Next, with the containers stopped: docker plugin rm -f {name}")
        terminal.say(f"and then: docker-volume-sshfs alias add {name.removesuffix(':latest')}")
