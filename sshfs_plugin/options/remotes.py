# SPDX-License-Identifier: MIT
"""Remotes: servers that an administrator has described in files, each with its login and any option of a volume.

The files are read anew whenever a volume is to be connected. They may hold passwords, so only root may read them, and
what is wrong with one is told without its lines.
"""

import configparser
import re
from dataclasses import dataclass
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.host import local_files
from sshfs_plugin.settings import Settings
from sshfs_plugin.volume import volume_name

SECTION = "remote"
_SUFFIX = ".conf"
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_ONE_A_LINE = "write one option a line, NAME = VALUE"
MEND = "mend it, and it counts from the next mount"


@dataclass(frozen=True, slots=True)
class Remotes:
    """The remotes of this host.

    Attributes:
        directory: Where their files are.
    """

    directory: Path

    @classmethod
    def of(cls, settings: Settings) -> "Remotes":
        """Return the remotes of a host with these settings."""
        return cls(settings.remotes)

    def file(self, name: str) -> Path:
        """Return the path of a remote's file."""
        return self.directory / f"{name}{_SUFFIX}"

    def names(self) -> list[str]:
        """Return the names of the remotes; none if the directory can't be read."""
        return [name for name in self._stems() if not _why_no_name(name)]

    def misnamed(self) -> list[errors.RemoteUnusable]:
        """Return an error for each file that no volume can mean by its name; hidden files are left aside."""
        stems = (name for name in self._stems() if not name.startswith("."))
        return [
            self.unusable(name, "has a name that no volume can say", f"give it another, and {why}")
            for name in stems
            if (why := _why_no_name(name))
        ]

    def _stems(self) -> list[str]:
        try:
            return sorted(path.stem for path in self.directory.iterdir() if path.suffix == _SUFFIX)
        except OSError:
            return []

    def stamps(self) -> dict[str, tuple[int, int]]:
        """Return inode and time of change of each file, by which an edit is seen; links are not followed."""
        try:
            states = {path.name: path.lstat() for path in self.directory.iterdir()}
        except OSError:
            return {}
        return {name: (state.st_ino, state.st_ctime_ns) for name, state in states.items()}

    def read(self, name: str) -> dict[str, str]:
        """Read the options of a remote as they are written in its file.

        Raises:
            RemoteUnusable: The file is missing, can't be read or understood, or is not for root alone.
        """
        try:
            text = local_files.read_private(self.file(name)).decode("utf-8-sig")
        except FileNotFoundError:
            hint = "docker-volume-sshfs remote list shows which there are"
            raise self.unusable(name, "does not exist", hint) from None
        except local_files.NotPrivate as why:
            raise self.unusable(name, why.complaint, why.cure or MEND) from None
        except UnicodeDecodeError:
            raise self.unusable(name, "is not UTF-8 text") from None
        return self._parsed(name, text)

    def _parsed(self, name: str, text: str) -> dict[str, str]:
        parser = configparser.ConfigParser(interpolation=None, default_section="", empty_lines_in_values=False)
        parser.optionxform = str  # type: ignore[assignment]  # as configparser documents it
        heading = f"write [{SECTION}] above the options, and no other heading"
        try:
            parser.read_string(text)
        except configparser.MissingSectionHeaderError as error:
            raise self.unusable(name, f"has no heading above line {error.lineno}", heading) from None
        except configparser.DuplicateSectionError as error:
            raise self.unusable(name, f"has a second heading in line {error.lineno}", heading) from None
        except configparser.DuplicateOptionError as error:
            raise self.unusable(name, f"says an option again in line {error.lineno}", "leave one of them out") from None
        except configparser.ParsingError as error:
            lines = ", ".join(str(line) for line, _ in error.errors)
            raise self.unusable(name, f"can't be understood in line {lines}", _ONE_A_LINE) from None
        if parser.sections() != [SECTION]:
            raise self.unusable(name, "has other headings than it should", heading)
        options = dict(parser[SECTION])
        if not all(_NAME.fullmatch(option) for option in options):
            raise self.unusable(name, "has a line that does not begin with the name of an option", _ONE_A_LINE)
        # it would be part of the value above, which errors quote, and it may hold a password
        if continued := [option for option, value in options.items() if "\n" in value]:
            raise self.unusable(name, f"has an indented line after that of '{continued[0]}'", _ONE_A_LINE)
        return options

    def unusable(self, name: str, complaint: str, hint: str = MEND) -> errors.RemoteUnusable:
        """Return the error for a file that can't be used."""
        return errors.RemoteUnusable(name, self.file(name), complaint, hint)


PACKAGED = Remotes.of(Settings())
"""The remotes where the package has them."""


def _why_no_name(text: str) -> str:
    """Return what the name of a remote must be, if a text can't be one; else nothing."""
    try:
        volume_name(text)
    except errors.InvalidVolumeName as error:
        return error.hint
    return ""
