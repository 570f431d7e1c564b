# SPDX-License-Identifier: MIT
"""What a check of ``doctor`` finds."""

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sshfs_plugin import errors


class Level(enum.StrEnum):
    """How bad a finding is."""

    FINE = "fine"
    WARNING = "warning"
    """Volumes work, but not as well, as safely or as surely as they could."""
    ERROR = "error"
    """Some volume, or any, can't be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is as it should be, or is not.

    Attributes:
        code: What kind of finding it is, for programs.
        level: How bad it is.
        what: What there is.
        cure: What to do about it; empty if it is fine.
    """

    code: str
    level: Level
    what: str
    cure: str = ""

    @classmethod
    def fine(cls, code: str, what: str) -> "Finding":
        """Return one that is as it should be."""
        return cls(code=code, level=Level.FINE, what=what)

    @classmethod
    def warning(cls, code: str, what: str, cure: str) -> "Finding":
        """Return one that deserves a look."""
        return cls(code=code, level=Level.WARNING, what=what, cure=cure)

    @classmethod
    def error(cls, code: str, what: str, cure: str) -> "Finding":
        """Return one that keeps volumes from being used."""
        return cls(code=code, level=Level.ERROR, what=what, cure=cure)

    @classmethod
    def of(cls, code: str, error: errors.PluginError) -> "Finding":
        """Return an error as a finding."""
        return cls.error(code, error.sentence, error.hint)

    @property
    def facts(self) -> dict[str, str]:
        """The finding as in JSON."""
        return {"code": self.code, "level": self.level.value, "what": self.what, "cure": self.cure}


def unless_fine(findings: Iterable[Finding], code: str, what: str) -> Iterator[Finding]:
    """Yield findings, or if there are none that all is well."""
    are_any = False
    for finding in findings:
        are_any = True
        yield finding
    if not are_any:
        yield Finding.fine(code, what)
