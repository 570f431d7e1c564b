# SPDX-License-Identifier: MIT
"""``options``: the one table of options, on the terminal."""

from sshfs_plugin.cli import terminal
from sshfs_plugin.option_table import REFUSED, TABLE, Option, lookup


def show_all() -> None:
    """Show every option, and those that are refused with the reason."""
    terminal.pairs([_described(option) for option in TABLE])
    for reason in dict.fromkeys(REFUSED.values()):
        names = ", ".join(name for name, why in REFUSED.items() if why == reason)
        terminal.say()
        terminal.say(f"Refused, since {reason}:")
        terminal.say(f"  {names}")


def show(name: str) -> None:
    """Show one option.

    Raises:
        UnknownOption: There is none of that name; the nearest one is named.
        RefusedOption: A volume must not use it, and why.
    """
    option = lookup(name)
    terminal.pairs([_described(option)])
    if option.aliases:
        terminal.say(f"Also written {', '.join(option.aliases)}.")


def _described(option: Option) -> tuple[str, str]:
    written = f"{option.name}={option.value}" if option.value else option.name
    default = f" Default: {option.default}." if option.default and option.value else ""
    return written, option.meaning.replace("`", "") + default
