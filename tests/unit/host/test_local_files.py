# SPDX-License-Identifier: MIT
"""Files that somebody named; those that really hang are in the integration tier."""

import os
import stat
from pathlib import Path

import pytest

from sshfs_plugin import errors
from sshfs_plugin.host import file_reader, local_files


@pytest.mark.parametrize("name", ["key", "-key", "a: key", "a\nkey", "schlüssel", "\udcff"])
def test_a_file_is_read_whatever_its_name(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"\xff\r\n\0")
    file.chmod(0o640)
    assert local_files.read(file).content == b"\xff\r\n\0"
    assert (local_files.read(file).mode, local_files.read(file).owner) == (stat.S_IFREG | 0o640, os.geteuid())
    assert local_files.exists(file)
    assert local_files.is_file(file)


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")
    (tmp_path / "link").symlink_to("key")
    assert local_files.read(tmp_path / "link").content == b"secret"


def test_no_more_than_a_mebibyte_is_read(tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(bytes(3 << 20))
    assert len(local_files.read(tmp_path / "film").content) == 1 << 20


def test_what_is_not_there_is_told_from_what_can_not_be_read(tmp_path: Path) -> None:
    for missing in (tmp_path / "none", tmp_path / "none/key"):
        with pytest.raises(FileNotFoundError, match="No such file or directory"):
            local_files.read(missing)
        assert not local_files.exists(missing)
        assert not local_files.is_file(missing)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        local_files.read(tmp_path / "file/key")
    with pytest.raises(OSError, match="it is not a regular file"):
        local_files.read(tmp_path)
    assert local_files.exists(tmp_path)
    assert not local_files.is_file(tmp_path)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (Path("/nonexistent/file"), "No such file or directory"),
        (Path("/dev/null/file"), "Not a directory"),
        (Path("/", "x" * 256), "File name too long"),
    ],
)
def test_what_cannot_be_seen_has_a_reason(path: Path, why: str) -> None:
    assert local_files.why_absent(path) == why
    assert not local_files.exists(path)
    assert not local_files.is_file(path)


@pytest.mark.usefixtures("started")
def test_a_directory_that_may_not_be_searched_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    tmp_path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        assert local_files.why_absent(tmp_path / "file") == "Permission denied"
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o700)


@pytest.mark.usefixtures("started")
def test_a_file_system_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "hangs").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(file_reader, "__file__", str(tmp_path / "hangs"))
    monkeypatch.setattr(local_files, "ANSWER_SECONDS", 0.5)
    with pytest.raises(errors.FileStuck, match=rf"cannot read {tmp_path}/key, its file system did not answer within"):
        local_files.read(tmp_path / "key")
