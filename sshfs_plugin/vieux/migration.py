# SPDX-License-Identifier: MIT
"""Makes our volumes of those of vieux/sshfs: the options stay, except for paths inside the other plugin."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sshfs_plugin import errors, options
from sshfs_plugin.host import local_files
from sshfs_plugin.options.remotes import Remotes
from sshfs_plugin.options.table import FILES, lookup, why_ignored
from sshfs_plugin.options.values import plain_text
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.credentials import KEYS_AT_HOME
from sshfs_plugin.ssh.key_files import require_usable
from sshfs_plugin.volume import CheckAt, Volume, VolumeName, volume_name

_INSIDE = ("/root/.ssh/", "~/.ssh/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """The plan for one volume.

    Attributes:
        name: Its name, which this plugin may not allow.
        names: The options that it had, without their values.
        volumes: The volume, and after it the same with each other key that ssh would have tried; none if its options
            are wrong.
        problem: Why none of these can be made, and what to do; else empty.
        remarks: What its owner should know.
    """

    name: str
    names: tuple[str, ...]
    volumes: tuple[Volume, ...] = ()
    problem: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mover:
    """Makes plans for volumes of the other plugin.

    Attributes:
        settings: This host's.
        keys: The directory on this host that the other plugin saw as ``/root/.ssh``; None if that is not known.
        checked: Whether the preflight is made when the volumes are made, rather than before they are mounted.
    """

    settings: Settings
    keys: Path | None = None
    checked: bool = True

    def plan(self, name: str, given: Mapping[str, str]) -> Move:
        """Return the plan for a volume; no server is asked, but files on this host are looked up."""
        draft = _Draft(self.settings.home, self.keys)
        volumes: tuple[Volume, ...] = ()
        problem = ""
        try:
            draft.take(given)
            if not self.checked:
                draft.kept["check"] = CheckAt.MOUNT.value
            checked = volume_name(name)
            volumes = tuple(self._volume(checked, kept) for kept in draft.choices())
            if len(volumes) > 1 and not self.checked:
                raise errors.KeyUndecided(draft.found)
            if draft.found:
                draft.remarks.append(f"no key was named: it is to log in with {' or '.join(map(str, draft.found))}")
            elif draft.names_no_key and not self.checked:
                draft.remarks.append(self._without_key())
        except errors.InvalidVolumeName as error:
            problem = f"{error}; make it under another name, and its containers anew"
        except errors.PluginError as error:  # whatever it is, the other volumes can still be moved
            problem = str(error)
        return Move(name=name, names=tuple(given), volumes=volumes, problem=problem, remarks=tuple(draft.remarks))

    def _without_key(self) -> str:
        """Return what is to be known of a volume whose key is not found, if no server tells whether it can log in."""
        if self.keys:
            why = f"there is none in {self.keys} ({', '.join(KEYS_AT_HOME)})"
        else:
            why = "the directory of the other plugin's keys is not known"
        return f"no key was named, and {why}: say --keys DIR, or it is to log in with the keys of this host"

    def _volume(self, name: VolumeName, kept: Mapping[str, str]) -> Volume:
        """Make a volume as the service will, which refuses options that a record might have."""
        return options.parse(name, options.typed(kept), datetime.now(UTC), Remotes.of(self.settings))


@dataclass(slots=True)
class _Draft:
    home: Path
    keys: Path | None
    kept: dict[str, str] = field(default_factory=dict)
    names_no_key: bool = False
    found: list[Path] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def take(self, given: Mapping[str, str]) -> None:
        for name, value in options.split(given):
            if why := why_ignored(name, value):
                self.remarks.append(f"option '{name}' is ignored: {why}")
            else:
                option = lookup(name)
                self.kept[name] = self._on_this_host(option.name, value) if option.name in FILES else value
        names = {lookup(name).name for name in self.kept}
        if not names & {"IdentityFile", "IdentityAgent", "password", "password_file"}:
            self.names_no_key = True
            self.found = self._keys_that_ssh_found()

    def choices(self) -> list[dict[str, str]]:
        """Return the options of the volume, once for each key that may be the one."""
        return [{**self.kept, "IdentityFile": str(key)} for key in self.found] or [self.kept]

    def _on_this_host(self, name: str, value: str) -> str:
        try:
            plain_text(value)  # no file can be looked up whose name is no text
        except ValueError as reason:
            raise errors.InvalidOption(name, str(reason)) from None
        inside = next((value.removeprefix(start) for start in _INSIDE if value.startswith(start)), "")
        kept = str(self.keys / inside) if inside and self.keys else value
        there = local_files.expanded(kept, self.home)
        # what is no path, such as "none" for a file, is judged with the other values
        if there.is_absolute() and (why := local_files.why_absent(there)):
            raise errors.InvalidOption(
                name,
                f"is {value} inside of the other plugin, but {there} can't be seen on this host ({why}): say "
                "--keys DIR, its sshkey.source, or copy the file and make the volume by hand",
            )
        return kept

    def _keys_that_ssh_found(self) -> list[Path]:
        """Return the keys that ssh tried where none was named, without those that it could only pass over."""
        usable, refusals = [], []
        for key in [self.keys / name for name in KEYS_AT_HOME] if self.keys else []:
            if local_files.exists(key):
                try:
                    require_usable(key)
                    usable.append(key)
                except errors.IdentityFileUnusable as refusal:
                    refusals.append(refusal)
        if refusals and not usable:
            raise refusals[0]
        return usable
