# SPDX-License-Identifier: MIT
"""The plugin's own files: a record for each volume, and one for its holders.

A file is written under another name, synced and renamed, so that a crash leaves the old one or the new one.

A volume's record that can't be understood stays as it is, for somebody to mend, and its volume is listed as unusable:
if its name were unknown, ``docker run -v NAME:...`` would make a local volume.
"""

import json
import logging
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sshfs_plugin import errors, options
from sshfs_plugin.holders import Client, Holder, Holders
from sshfs_plugin.options.remotes import PACKAGED, Remotes
from sshfs_plugin.settings import Settings
from sshfs_plugin.volume import MountID, Record, Unresolved, Unusable, Volume, VolumeName, usable, volume_name

log = logging.getLogger(__name__)

VERSION = 1
_SUFFIX, _UNFINISHED, _DOCKER, _TOLD = ".json", ".unfinished-", "docker", "told"
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, errors.PluginError)


@dataclass(frozen=True, slots=True)
class VolumeRecords:
    """The volume records in a directory, readable by root alone since they may hold passwords.

    Attributes:
        directory: The directory.
        remotes: The remotes that volumes may name. A record never holds what a remote's file says.
    """

    directory: Path
    remotes: Remotes = PACKAGED

    @classmethod
    def of(cls, settings: Settings) -> "VolumeRecords":
        """Return the records of a host with these settings."""
        return cls(settings.volumes, Remotes.of(settings))

    def load_all(self) -> dict[VolumeName, Record]:
        """Return every volume on record.

        Raises:
            StateError: The directory can't be read.
        """
        return {name: self.read(name) for name in _names(self.directory)}

    def names(self) -> list[str]:
        """Return the names of the records, for shell completion; none if the directory can't be read."""
        try:
            return sorted(path.stem for path in self.directory.iterdir() if path.suffix == _SUFFIX)
        except OSError:
            return []

    def load(self, name: VolumeName) -> Volume:
        """Read one volume, which is to be used.

        Raises:
            VolumeNotFound: There is no such record.
            RecordUnusable: There is one that can't be read or understood.
            RemoteUnusable: The file of its remote can't be used.
        """
        if not os.path.lexists(_path(self.directory, name)):
            raise errors.VolumeNotFound(name)
        return usable(self.read(name))

    def read(self, name: VolumeName) -> Record:
        """Read one volume, and its remote's file; if these can't be used, return why."""
        record = _path(self.directory, name)
        try:
            return _volume_from(name, _read(record), self.remotes)
        except _BROKEN as error:
            return Unusable(name=name, record=record, complaint=_complaint(error))

    def save(self, volume: Volume) -> None:
        """Write a volume's record. On return it is on disk.

        Raises:
            StateError: It could not be written.
        """
        _save(
            _path(self.directory, volume.name),
            {"created_at": volume.created_at.isoformat(), "options": dict(volume.given)},
        )

    def remove(self, name: VolumeName) -> None:
        """Remove a volume's record.

        Raises:
            StateError: Its record could not be removed.
        """
        _remove(_path(self.directory, name))


@dataclass(frozen=True, slots=True)
class HolderRecords:
    """The holders of each volume, in a directory that does not outlive a reboot, and beside it what a restart needs.

    That is the process of Docker, and what was logged of volumes.
    """

    directory: Path

    def load_all(self) -> dict[VolumeName, Holders]:
        """Return the holders of every volume that has any.

        Raises:
            StateError: The directory can't be read.
        """
        return dict(self._load_each())

    def read(self, name: VolumeName) -> Holders:
        """Return the holders of one volume, and touch nothing, as must be beside the service; none if unknown."""
        try:
            return _holders_from(_read(_path(self.directory, name)))
        except _BROKEN:
            return Holders()

    def docker_process(self) -> str:
        """Return the process of the last Docker that called; empty if it is not on record."""
        try:
            return str(_read(self.directory.with_name(_DOCKER))["process"])
        except _BROKEN:
            return ""

    def save_docker_process(self, process: str) -> None:
        """Record the process of the Docker that calls. Raises StateError."""
        _save(self.directory.with_name(_DOCKER), {"process": process})

    def told(self) -> dict[str, str]:
        """Return the conditions that were logged, by the volume that each is of; none if they are not on record."""
        try:
            conditions = _read(self.directory.with_name(_TOLD))["conditions"].items()
            return {str(name): str(condition) for name, condition in conditions}
        except _BROKEN:
            return {}

    def save_told(self, conditions: Mapping[str, str]) -> None:
        """Record the conditions that were logged and last. Raises StateError."""
        _save(self.directory.with_name(_TOLD), {"conditions": dict(conditions)})

    def _load_each(self) -> Iterator[tuple[VolumeName, Holders]]:
        for name in _names(self.directory):
            record = _path(self.directory, name)
            try:
                yield name, _holders_from(_read(record))
            except _BROKEN as error:
                # no mount depends on it: a release leaves one that is in use, whatever its holders
                log.error("the holders of %s are forgotten, since %s %s", name, record, _complaint(error))

    def save(self, name: VolumeName, holders: Holders) -> None:
        """Record a volume's confirmed holders.

        Raises:
            StateError: They could not be written.
        """
        recorded = holders.recorded()
        if not recorded.by_id:
            _remove(_path(self.directory, name))
            return
        _save(
            _path(self.directory, name),
            {
                "holders": {
                    mount_id: {
                        "client": holder.client.value,
                        "count": holder.count,
                        "device": holder.device,
                        "inherited": holder.inherited,
                    }
                    for mount_id, holder in recorded.by_id.items()
                }
            },
        )


def _volume_from(name: VolumeName, record: Any, remotes: Remotes) -> Volume | Unresolved:
    created_at = datetime.fromisoformat(record["created_at"])
    offset = created_at.utcoffset()
    if offset is None or offset % timedelta(minutes=1):
        raise ValueError("created_at has no time zone that Docker takes, and it would forget the volume")
    given = record["options"]
    try:
        return options.volume_of(name, given, created_at, remotes)
    except errors.RemoteUnusable as error:
        return Unresolved(
            name=name,
            given=given,
            created_at=created_at,
            remote=error.remote,
            file=error.file,
            complaint=error.complaint,
            hint=error.hint,
        )


def _holders_from(record: Any) -> Holders:
    return Holders(
        {
            MountID(mount_id): Holder(
                client=Client(holder["client"]),
                count=int(holder["count"]),
                device=str(holder.get("device", "")),
                inherited=bool(holder["inherited"]),
            )
            for mount_id, holder in record["holders"].items()
        }
    )


def _path(directory: Path, name: VolumeName) -> Path:
    return directory / (name + _SUFFIX)


def _read(path: Path) -> Any:
    if not stat.S_ISREG(path.stat().st_mode):
        # a pipe or device would keep its reader waiting
        raise ValueError("it is no file")
    record = json.loads(path.read_text("utf-8"))
    if record["version"] != VERSION:
        raise ValueError(f"its version is {str(record['version'])[:20]}, and this plugin knows version {VERSION}")
    return record


def _complaint(error: Exception) -> str:
    """Say what is wrong with a record without quoting what may be a password."""
    match error:
        case OSError():
            return f"can't be read ({error.strerror})"
        case errors.PluginError():
            return f"is not valid ({error})"
        case KeyError():
            return f"lacks {error}"
        case ValueError() | RecursionError():
            return f"can't be understood ({error})"
        case _:
            return "does not have the form of a record"


def _names(directory: Path) -> list[VolumeName]:
    """Return the names of a directory's records. The directory is made if missing, and unfinished files are removed."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths = sorted(directory.iterdir())
    except OSError as error:
        raise errors.StateError(
            f"cannot read {directory}, {error.strerror}", "is it there and owned by root?"
        ) from error
    names = []
    for path in paths:
        if path.name.startswith(_UNFINISHED):  # a password may be in it
            with suppress(OSError):
                path.unlink()
        elif path.suffix == _SUFFIX:
            try:
                names.append(volume_name(path.stem))
            except errors.InvalidVolumeName as error:
                log.error("%s is left alone: %s", path, error)
    return names


def _save(path: Path, record: dict[str, Any]) -> None:
    is_new = not os.path.lexists(path)
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=_UNFINISHED, delete=False
        ) as new:
            try:
                json.dump({"version": VERSION, **record}, new, indent=1)
                new.flush()
                os.fsync(new.fileno())
                Path(new.name).replace(path)
            except BaseException:
                Path(new.name).unlink(missing_ok=True)
                raise
        try:
            _sync(path.parent)
        except OSError:
            if is_new:  # else what the caller is told to have failed would be there after a restart
                path.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise errors.StateUnwritable("write", path, error) from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise errors.StateUnwritable("remove", path, error) from error
    try:
        _sync(path.parent)
    except OSError as error:  # it has gone all the same
        log.error("%s was removed, and may be there again after a crash of this host: %s", path, error)


def _sync(directory: Path) -> None:
    """Write a rename or removal to disk: to sync the file alone does not do that."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
