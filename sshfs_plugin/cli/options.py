# SPDX-License-Identifier: MIT
"""``options``: the one table of options, on the terminal."""

from collections.abc import Mapping

from sshfs_plugin.cli import terminal
from sshfs_plugin.options.table import IGNORED, REFUSED, TOPICS, lookup, why_ignored


def show_all() -> None:
    """Show every option by topic, and those that are refused or ignored with the reason."""
    for topic in TOPICS:
        terminal.heading(topic.title)
        terminal.pairs([(option.form, option.explained("")) for option in topic.rows])
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
    terminal.pairs([(option.form, option.explained(""))])


def _list_by_reason(options: Mapping[str, str]) -> None:
    for reason in dict.fromkeys(options.values()):
        names = [name for name, why in options.items() if why == reason]
        terminal.paragraph(f"{', '.join(names)}: {reason}.")
