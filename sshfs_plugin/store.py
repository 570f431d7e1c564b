# SPDX-License-Identifier: MIT
"""The plugin's own files: a record for each volume, and one for its holders.

A file is written beside its place, synced and renamed, so that a crash leaves the old one or the new one. One that
can't be understood is set aside under another name, never overwritten: it may be all that is left of a volume.
"""

import errno
import json
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from sshfs_plugin import errors, options
from sshfs_plugin.holders import Client, Holder, Holders
from sshfs_plugin.volume import MountID, Volume, VolumeName, volume_name

log = logging.getLogger(__name__)

VERSION = 1
_SUFFIX, _UNFINISHED = ".json", ".unfinished-"
_Record = TypeVar("_Record")
_PASSING = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""Failures that say nothing of the record itself."""
_NOT_UNDERSTOOD = (ValueError, KeyError, TypeError, AttributeError, RecursionError, errors.PluginError)


@dataclass(frozen=True, slots=True)
class VolumeStore:
    """The volume records in a directory, readable by root alone since they may hold passwords."""

    directory: Path

    def load_all(self) -> dict[VolumeName, Volume]:
        """Return every volume on record.

        Raises:
            StateError: The directory can't be read.
        """
        return dict(_load_all(self.directory, _volume_from))

    def names(self) -> list[str]:
        """Return the names on record, for suggestions: nothing is read or set aside, and nobody is refused."""
        try:
            return sorted(path.stem for path in self.directory.iterdir() if path.suffix == _SUFFIX)
        except OSError:
            return []

    def load(self, name: VolumeName) -> Volume:
        """Return one volume.

        Raises:
            VolumeNotFound: There is no such record, or none that can be understood.
        """
        try:
            return _volume_from(name, _read(_path(self.directory, name)))
        except (OSError, *_NOT_UNDERSTOOD):
            raise errors.VolumeNotFound(name) from None

    def save(self, volume: Volume) -> None:
        """Have the volume on disk when this returns.

        Raises:
            StateError: It could not be written.
        """
        _save(
            _path(self.directory, volume.name),
            {"created_at": volume.created_at.isoformat(), "options": dict(volume.options)},
        )

    def remove(self, name: VolumeName) -> None:
        """Forget a volume.

        Raises:
            StateError: Its record could not be removed.
        """
        _remove(_path(self.directory, name))


@dataclass(frozen=True, slots=True)
class HolderStore:
    """The holders of each volume, in a directory that does not outlive a reboot."""

    directory: Path

    def load_all(self) -> dict[VolumeName, Holders]:
        """Return the holders of every volume that has any.

        Raises:
            StateError: The directory can't be read.
        """
        return dict(_load_all(self.directory, _holders_from))

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


def _volume_from(name: VolumeName, record: Any) -> Volume:
    created_at = datetime.fromisoformat(record["created_at"])
    offset = created_at.utcoffset()
    if offset is None or offset.seconds % 60:
        raise ValueError("created_at has no time zone that Docker takes, and it would forget the volume")
    return options.restore(name, record["options"], created_at)


def _holders_from(_name: VolumeName, record: Any) -> Holders:
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
        raise ValueError("a pipe or device would keep its reader waiting")
    record = json.loads(path.read_text("utf-8"))
    if record["version"] != VERSION:
        raise ValueError(f"version {record['version']} is not known")
    return record


def _load_all(
    directory: Path, understand: Callable[[VolumeName, Any], _Record]
) -> Iterator[tuple[VolumeName, _Record]]:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths = sorted(path for path in directory.iterdir() if path.suffix == _SUFFIX)
    except OSError as error:
        raise errors.StateError(
            f"cannot read {directory}, {error.strerror}", "is it there and owned by root?"
        ) from error
    for unfinished in directory.glob(f"{_UNFINISHED}*"):  # by a crash; a password may be in it
        with suppress(OSError):
            unfinished.unlink()
    for path in paths:
        try:
            name = volume_name(path.stem)
            yield name, understand(name, _read(path))
        except (OSError, *_NOT_UNDERSTOOD) as error:
            if isinstance(error, OSError) and error.errno in _PASSING:
                log.error("%s can't be read (%s): restart the service to try again", path, error.strerror)
            else:
                _set_aside(path, error)


def _set_aside(path: Path, error: Exception) -> None:
    try:
        aside = path.with_name(f"{path.name}.broken-{path.lstat().st_mtime_ns}")
        path.rename(aside)
    except OSError as refused:
        log.error(
            "%s can't be understood (%s), nor be set aside (%s): mend it and restart the service",
            path,
            type(error).__name__,
            refused.strerror,
        )
        return
    log.error(
        "%s can't be understood (%s): it is kept as %s; mend it, move it back and restart the service",
        path,
        type(error).__name__,
        aside,
    )


def _save(path: Path, record: dict[str, Any]) -> None:
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
        _sync(path.parent)
    except OSError as error:
        raise errors.StateUnwritable("write", path, error) from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as error:
        raise errors.StateUnwritable("remove", path, error) from error


def _sync(directory: Path) -> None:
    """Have a rename or removal on disk, which syncing the file alone does not."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
