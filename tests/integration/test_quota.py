# SPDX-License-Identifier: MIT
"""What programs see of a quota that is used up on the server: one of btrfs, which takes a loop device."""

import errno
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from integration.mountpoints import error_of, mounted
from integration.plugin import Plugin, await_that
from integration.sshd import Server

QUOTA_BYTES = 1 << 20
IMAGE_BYTES = 128 << 20
"""The file system itself never gets full."""

RECORD_CHARACTERS = 16 << 10


def run(*words: str | Path) -> str:
    """Run a command; return what it says if it fails, else nothing."""
    if not shutil.which(words[0]):
        return f"{words[0]} is missing: apt install btrfs-progs"
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    return f"{words[0]} fails: {result.stderr.strip()}" if result.returncode else ""


@contextmanager
def quota(directory: Path, image: Path, owner: str) -> Iterator[None]:
    """Give a directory a file system with a quota, in an image, meanwhile; say so where there can't be one."""
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    if reason := run("mkfs.btrfs", "--quiet", image) or run("mount", "-o", "loop", image, directory):
        if os.environ.get("CI") == "true":
            pytest.fail(f"the tests of a quota can't run: {reason}")
        pytest.skip(f"THE TESTS OF A QUOTA DID NOT RUN: {reason}")
    try:
        shutil.chown(directory, owner)
        assert not run("btrfs", "quota", "enable", directory)
        assert not run("btrfs", "qgroup", "limit", str(QUOTA_BYTES), directory)
        yield
    finally:
        assert not run("umount", "--lazy", directory)


def write_all(file: int, data: bytes) -> None:
    """Write data, as programs do that are told that a part of it is written."""
    while data:
        data = data[os.write(file, data) :]


class Log:
    """A file to which records are appended.

    Attributes:
        acknowledged: The records for which there was no error.
        errors: The calls that had one at the last record, with its number.
    """

    def __init__(self, path: Path, *, syncs: bool) -> None:
        """Choose the file, and whether each record is synced."""
        self.acknowledged: list[str] = []
        self.errors: Mapping[str, int] = {}
        self._path, self._syncs = path, syncs

    def append(self) -> bool:
        """Open the file, append a record and close the file; tell whether none of it had an error."""
        record = secrets.token_hex(RECORD_CHARACTERS // 2)
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        numbers = {"write": error_of(partial(write_all, file, f"\n{record}\n".encode()))}
        if self._syncs:
            numbers["fsync"] = error_of(partial(os.fsync, file))
        numbers["close"] = error_of(partial(os.close, file))
        self.errors = {call: number for call, number in numbers.items() if number}
        if not self.errors:
            self.acknowledged.append(record)
        return not self.errors

    def check(self, on_server: Path) -> None:
        """Check that all that was acknowledged is on the server, once and in its order."""
        records = on_server.read_text().split()
        assert [record for record in records if record in self.acknowledged] == self.acknowledged


@pytest.mark.long
@pytest.mark.parametrize("call", ["write", "fsync", "close"])
def test_a_quota_that_is_used_up_is_an_error_of_the_write(
    plugin: Plugin, server: Server, tmp_path: Path, call: str
) -> None:
    """The call that has the error is the one that waits for the server."""
    name = f"quota-{call}"
    options = {"sshfs_sync": ""} if call == "write" else {}
    with (
        mounted(plugin, server, name, **options) as (mountpoint, directory),
        quota(directory, tmp_path / "image", server.user),
    ):
        (mountpoint / "large").write_bytes(bytes(QUOTA_BYTES // 4))
        log = Log(mountpoint / "log", syncs=call == "fsync")
        while log.append():
            assert len(log.acknowledged) * RECORD_CHARACTERS < QUOTA_BYTES, "more is acknowledged than has room"
        assert log.errors == {call: errno.EIO}
        assert log.acknowledged
        log.check(directory / "log")
        # what takes room as well, with btrfs
        assert error_of((mountpoint / "new").touch) == errno.EPERM
        assert (mountpoint / "log").read_text().split()[0] == log.acknowledged[0]
        status = plugin.status(name)
        assert status["state"] == "mounted"
        assert "lastError" not in status
        (mountpoint / "large").unlink()
        await_that(log.append, "there is room")
        log.check(directory / "log")
