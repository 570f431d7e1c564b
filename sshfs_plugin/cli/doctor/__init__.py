# SPDX-License-Identifier: MIT
"""``doctor``: looks at all that volumes need on this host, and says of each fault how to cure it.

It changes nothing. Each check is a function of this host's settings, which yields findings and waits for nothing
without limit; ``service.py``, ``engines.py``, ``files.py`` and ``host.py`` have those of one topic each.
"""

from collections.abc import Callable, Iterator, Mapping

from sshfs_plugin import errors
from sshfs_plugin.cli import terminal
from sshfs_plugin.cli.doctor import engines, files, host, service
from sshfs_plugin.cli.doctor.finding import Finding, Level
from sshfs_plugin.cli.exits import Exit
from sshfs_plugin.settings import Settings

CHECKS: Mapping[str, Callable[[Settings], Iterator[Finding]]] = {
    "socket": service.socket,
    "service": service.service,
    "units": service.units,
    "spec": service.spec,
    "docker": engines.docker,
    "podman": engines.podman,
    "vieux": engines.vieux,
    "fuse": host.fuse,
    "programs": host.programs,
    "versions": host.versions,
    "clock": host.clock,
    "keys": files.keys,
    "remotes": files.remotes,
    "records": files.records,
    "relay": files.relay,
    "known-hosts": files.known_hosts,
    "left-overs": files.left_overs,
}
"""The checks by their names, in the order in which they are made."""

_COLOURS = {Level.FINE: "green", Level.WARNING: "yellow", Level.ERROR: "red"}


def doctor(settings: Settings, *, as_json: bool) -> Exit:
    """Make all checks and print what they find; return FINE if no error is among it."""
    findings = []
    for name in CHECKS:
        for finding in _found(name, settings):
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


def _found(name: str, settings: Settings) -> Iterator[Finding]:
    """Make a check; if it can't be made to its end, that is a finding, and the others are made."""
    try:
        yield from CHECKS[name](settings)
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
