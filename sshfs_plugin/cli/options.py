# SPDX-License-Identifier: MIT
"""``options``: the one table of options, on the terminal."""

from collections.abc import Mapping

from sshfs_plugin.cli import terminal
from sshfs_plugin.option_table import IGNORED, REFUSED, TOPICS, Option, lookup, why_ignored


def show_all() -> None:
    """Show every option by topic, and those that are refused or ignored with the reason."""
    for topic in TOPICS:
        terminal.heading(topic.title)
        terminal.pairs([(_written(option), _explained(option)) for option in topic.rows])
    terminal.heading("Refused")
    _list_by_reason(REFUSED)
    terminal.heading("Ignored")
    _list_by_reason(IGNORED)


def show(name: str) -> None:
    """Show one option.

    Raises:
        UnknownOption: There is none of that name; the nearest one is named.
        RefusedOption: A volume must not use it, and why.
    """
    if why := why_ignored(name):
        terminal.say(f"{name} is accepted and changes nothing about a volume: {why}.")
        return
    option = lookup(name)
    terminal.pairs([(_written(option), _explained(option))])


def _written(option: Option) -> str:
    return f"{option.name}={option.value}" if option.value else option.name


def _explained(option: Option) -> str:
    default = f" Default: {option.default}." if option.default and option.value else ""
    also = f" Also: {', '.join(option.aliases)}." if option.aliases else ""
    against = f" Its opposite: {', '.join(option.negations)}." if option.negations else ""
    return option.meaning.replace("`", "") + default + also + against


def _list_by_reason(options: Mapping[str, str]) -> None:
    for reason in dict.fromkeys(options.values()):
        names = [name for name, why in options.items() if why == reason]
        terminal.paragraph(f"{', '.join(names)}: {reason}.")
