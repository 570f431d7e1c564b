# SPDX-License-Identifier: MIT
"""``alias``: the names of another plugin, under which Docker is to find this one."""

from sshfs_plugin.cli import terminal
from sshfs_plugin.discovery.aliases import Aliases, spellings
from sshfs_plugin.settings import Settings


def add(settings: Settings, name: str) -> None:
    """Let Docker find this plugin under a name, too.

    Raises:
        InvalidAlias: No plugin can have that name.
        AliasTaken: Docker would find another plugin; the error says what to do.
        StateError: A link can't be made.
    """
    Aliases.of(settings).add(*spellings(name))
    terminal.say(f"Docker finds this plugin as {' and '.join(spellings(name))} from now on.", colour="green")
    if not settings.spec.exists():
        terminal.say(
            f"But not before {settings.spec} is there: the socket is closed, or it is one of the ways in that have no "
            "spec.",
            colour="yellow",
            error=True,
        )


def remove(settings: Settings, name: str) -> None:
    """Remove an alias.

    Raises:
        InvalidAlias: No plugin can have that name.
        StateError: A link can't be removed.
    """
    aliases = Aliases.of(settings)
    there = [spelling for spelling in spellings(name) if spelling in aliases.names()]
    for spelling in there:
        aliases.remove(spelling)
        terminal.say(f"{spelling} is no name of this plugin any more.")
    if not there:
        terminal.say(f"{name} was no name of this plugin.")


def show(settings: Settings) -> None:
    """Show the aliases; ``sshfs`` itself is not among them."""
    names = Aliases.of(settings).names()
    for name in names:
        terminal.say(name)
    if not names:
        terminal.say("Docker finds this plugin under no other name than sshfs.", error=True)
