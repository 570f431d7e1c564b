# SPDX-License-Identifier: MIT
"""Aliases: further names under which Docker finds this plugin, such as that of the plugin that it replaces.

Each is a link to our own spec, which exists while the socket is open. Docker passes over a link that leads nowhere,
while a spec without a socket would cost it 15 seconds.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.discovery import docker
from sshfs_plugin.settings import Settings

_PART = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.:-]*")


def spellings(name: str) -> tuple[str, ...]:
    """Return the names that mean the same plugin to Docker: without a tag, ``latest`` is meant.

    Raises:
        InvalidAlias: No plugin can have that name.
    """
    if not all(_PART.fullmatch(part) for part in name.split("/")):
        raise errors.InvalidAlias(f"{name!r} can't be the name of a plugin", "say vieux/sshfs or vieux/sshfs:latest")
    return (name,) if ":" in name.rpartition("/")[2] else (name, f"{name}:latest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Aliases:
    """The aliases on a host.

    Attributes:
        root: The directory below which Docker's own directories are.
        spec: Our own spec, to which the links lead.
    """

    root: Path
    spec: Path

    @classmethod
    def of(cls, settings: Settings) -> "Aliases":
        """Return the aliases on a host with these settings."""
        return cls(root=settings.root, spec=settings.spec)

    def names(self) -> list[str]:
        """Return the aliases by name; ``sshfs`` is not among them."""
        links = (self.root / docker.SPECS).rglob("*.spec")
        ours = (link.relative_to(self.root / docker.SPECS) for link in links if self._is_ours(link))
        names = (str(link).removesuffix(".spec") for link in ours)
        return sorted(name for name in names if name != docker.NAME)

    def hiding(self, addresses: Sequence[str]) -> list[docker.Hiding]:
        """Return what Docker finds under our names instead of these addresses.

        It is empty if nothing hides this plugin, or no address is given.
        """
        return docker.hiding(addresses, [docker.NAME, *self.names()], self.root) if addresses else []

    def add(self, *names: str) -> None:
        """Make all of these names aliases, or none if one of them is taken.

        Raises:
            AliasTaken: Docker would find something else first; the error says what to do.
            StateError: A link can't be made.
        """
        for name in names:
            self._require_free(name)
        for link in (self._link(name) for name in names):
            try:
                link.parent.mkdir(parents=True, exist_ok=True)
                if not self._is_ours(link):
                    link.symlink_to(self.spec)
            except OSError as error:
                raise errors.StateError(f"cannot make the link {link}, {error.strerror}", "what is there?") from error

    def remove(self, name: str) -> None:
        """Remove an alias, with the directories that were made for it.

        Raises:
            StateError: The link can't be removed.
        """
        link = self._link(name)
        try:
            link.unlink(missing_ok=True)
            for directory in link.relative_to(self.root / docker.SPECS).parents[:-1]:
                if not any((self.root / docker.SPECS / directory).iterdir()):
                    (self.root / docker.SPECS / directory).rmdir()
        except OSError as error:
            raise errors.StateUnwritable("remove the link", link, error) from error

    def _link(self, name: str) -> Path:
        return self.root / docker.SPECS / f"{name}.spec"

    def _is_ours(self, link: Path) -> bool:
        return link.is_symlink() and link.readlink() == self.spec

    def _require_free(self, name: str) -> None:
        found = docker.find(self.root, name)
        if found and found.managed:
            raise errors.AliasTaken(
                f"the plugin {name} is still installed, and Docker would go on asking it",
                f"stop its containers, then docker plugin rm -f {name}",
            )
        if found and not self._is_ours(found.file):
            raise errors.AliasTaken(f"Docker finds {found.file} under the name {name}", "remove that first")
