# SPDX-License-Identifier: MIT
"""``doctor``: looks at all that volumes need on this host, and says of each fault how to cure it.

It changes nothing. Each check is a function that yields findings and waits for nothing without limit; ``service.py``,
``engines.py``, ``files.py`` and ``host.py`` have those of one topic each.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from sshfs_plugin import errors
from sshfs_plugin.cli import terminal
from sshfs_plugin.cli.doctor import engines, files, host, service
from sshfs_plugin.cli.doctor.finding import Finding, Level
from sshfs_plugin.cli.exits import Exit
from sshfs_plugin.cli.status import SYSTEMD_SECONDS
from sshfs_plugin.mounts import systemd
from sshfs_plugin.settings import Settings

_Check: TypeAlias = Callable[[], Iterator[Finding]]

_COLOURS = {Level.FINE: "green", Level.WARNING: "yellow", Level.ERROR: "red"}


def doctor(settings: Settings, *, as_json: bool) -> Exit:
    """Make all checks and print what they find; return FINE if no error is among it."""
    findings = []
    for name, check in _checks(settings).items():
        for finding in _found(name, check):
            findings.append(finding)
            if not as_json:
                _show(finding)
    wrong = {level: sum(finding.level is level for finding in findings) for level in (Level.ERROR, Level.WARNING)}
    if as_json:
        terminal.say_json({"findings": [finding.facts for finding in findings]})
    elif any(wrong.values()):
        terminal.say(", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in wrong.items() if count))
    else:
        terminal.say("Nothing is wrong.")
    return Exit.BROKEN if wrong[Level.ERROR] else Exit.FINE


def _checks(settings: Settings) -> Mapping[str, _Check]:
    """Return the checks by their names, in the order in which they are made."""
    socket = systemd.socket_unit(systemd.SOCKET, seconds=SYSTEMD_SECONDS)
    of_engines: Mapping[str, _Check] = {
        "docker": engines.docker,
        "podman": lambda: engines.podman(settings, socket),
        "vieux": lambda: engines.vieux(settings),
    }
    return {
        "socket": lambda: service.socket(settings, socket),
        "service": lambda: service.service(settings, socket),
        "units": lambda: service.units(settings),
        "spec": lambda: service.spec(settings, socket),
        # a container, such as that of the managed plugin, does not see the engine that runs it
        **(of_engines if service.has_systemd(settings) else {}),
        "fuse": host.fuse,
        "programs": host.programs,
        "versions": host.versions,
        "clock": host.clock,
        "keys": lambda: files.keys(settings),
        "remotes": lambda: files.remotes(settings),
        "records": lambda: files.records(settings),
        "relay": lambda: files.relay(settings),
        "known-hosts": lambda: files.known_hosts(settings),
        "left-overs": lambda: files.left_overs(settings),
    }


def _found(name: str, check: _Check) -> Iterator[Finding]:
    """Make a check; if it can't be made to its end, that is a finding, and the others are made."""
    try:
        yield from check()
    except errors.PluginError as error:
        yield Finding.warning(name, f"{name} can't be looked at, {error.sentence}", error.hint)
    except OSError as error:
        yield Finding.warning(name, f"{name} can't be looked at, {error}", "is this host short of anything?")
    except Exception as error:  # noqa: BLE001 (one odd file must not hide what else is wrong)
        what = f"{name} can't be looked at to its end, {type(error).__name__}: {error}"
        yield Finding.warning(name, what, "a mistake of this command: please report this line")


def _show(finding: Finding) -> None:
    terminal.judged(finding.what, finding.level, colour=_COLOURS[finding.level])
    if finding.cure:
        terminal.say(f"        {finding.cure}")
