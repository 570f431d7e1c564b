# SPDX-License-Identifier: MIT
"""The type of a row of the table of options."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from sshfs_plugin.options.values import NO, flag
from sshfs_plugin.volume import Remote

Value: TypeAlias = str | Remote


class Destination(enum.Enum):
    """The program that an option is for."""

    PLUGIN = "the plugin"
    SSHFS = "sshfs"
    SSH = "ssh"


class Shape(enum.Enum):
    """What a comma in a value means."""

    PLAIN = "the next option begins"
    LIST = "the next item of the value, unless the name of an option follows"
    FREE = "a part of the value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One row of the table.

    Attributes:
        name: What users type, and what records hold.
        aliases: Other spellings that mean the same.
        negations: Switches that mean that this one is off, as ``rw`` does for ``ro``.
        value: What to write after the ``=``, for the documentation; empty for a switch.
        meaning: One or two sentences for the documentation.
        default: The canonical value without the option; empty if there is none, or if sshfs or ssh has its own.
        imposed: Whether the default is passed to sshfs or ssh, since theirs is another.
        destination: The program that the option is for.
        canonical: Checks what was typed and returns the value in its one canonical spelling, a remote for ``sshcmd``;
            raises ValueError with the reason.
        shape: What a comma in the value means.
    """

    name: str
    aliases: tuple[str, ...] = ()
    negations: tuple[str, ...] = ()
    value: str = ""
    meaning: str
    default: str = ""
    imposed: bool = False
    destination: Destination = Destination.PLUGIN
    canonical: Callable[[str], Value]
    shape: Shape = Shape.PLAIN

    @property
    def form(self) -> str:
        """How users type it."""
        return f"{self.name}={self.value}" if self.value else self.name

    def explained(self, mark: str = "`") -> str:
        """Return its meaning, default and other spellings as text, with a mark around what is to be typed."""
        default = f" Default: `{self.default}`." if self.default and self.value else ""
        also = f" Also: {', '.join(f'`{name}`' for name in self.aliases)}." if self.aliases else ""
        against = f" Its opposite: {', '.join(f'`{name}`' for name in self.negations)}." if self.negations else ""
        return f"{self.meaning}{default}{also}{against}".replace("`", mark)

    @property
    def spellings(self) -> tuple[str, ...]:
        """All names under which users know it."""
        return (self.name, *self.aliases, *self.negations)


sshfs_option = partial(Option, destination=Destination.SSHFS)
sshfs_switch = partial(sshfs_option, default=NO, canonical=flag)
ssh_option = partial(Option, destination=Destination.SSH)


@dataclass(frozen=True, slots=True)
class Topic:
    """Rows that are explained together.

    Attributes:
        title: The heading above them.
        rows: The options, in the order in which to explain them.
    """

    title: str
    rows: tuple[Option, ...]
