# SPDX-License-Identifier: MIT
"""Records on disk: what a crash, a full disk or a careless hand may leave, and what is made of it."""

import errno
import json
import logging
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sshfs_plugin import errors, options
from sshfs_plugin.holders import Client, Holder, Holders
from sshfs_plugin.store import HolderStore, VolumeStore
from sshfs_plugin.volume import MountID, Volume, VolumeName

PHOTOS, MUSIC = VolumeName("photos"), VolumeName("music")
WEB = MountID("a" * 64)


def volume(name: VolumeName = PHOTOS, **opts: str) -> Volume:
    created_at = datetime(2024, 5, 17, 12, 30, 15, 250, tzinfo=UTC)
    return options.parse(name, {"sshcmd": "bob@nas:/größe, b", **opts}, created_at)


@pytest.fixture
def volumes(tmp_path: Path) -> VolumeStore:
    store = VolumeStore(tmp_path / "state/volumes")
    assert store.load_all() == {}
    return store


@pytest.fixture
def holder_records(tmp_path: Path) -> HolderStore:
    store = HolderStore(tmp_path / "run/holders")
    assert store.load_all() == {}
    return store


def broken(directory: Path) -> list[str]:
    return sorted(path.name.partition(".broken-")[0] for path in directory.iterdir() if ".broken-" in path.name)


def test_load_all_when_run_for_the_first_time_makes_a_directory_for_root_alone(volumes: VolumeStore) -> None:
    assert stat.S_IMODE(volumes.directory.stat().st_mode) == 0o700


def test_volumes_when_saved_are_found_by_the_next_process(volumes: VolumeStore) -> None:
    saved = {PHOTOS: volume(port="2222", ro=""), MUSIC: volume(MUSIC, password="häns'\"el\\")}
    for each in saved.values():
        volumes.save(each)
    assert VolumeStore(volumes.directory).load_all() == saved
    assert volumes.load(MUSIC) == saved[MUSIC]


def test_record_may_hold_a_password_and_so_is_readable_by_its_owner_alone(volumes: VolumeStore) -> None:
    volumes.save(volume(password="hunter2"))
    [record] = volumes.directory.iterdir()
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert json.loads(record.read_text())["options"]["password"] == "hunter2"


def test_save_when_there_is_one_replaces_it(volumes: VolumeStore) -> None:
    volumes.save(volume(port="1"))
    volumes.save(volume(port="2"))
    assert volumes.load(PHOTOS).remote.port == 2
    assert [path.name for path in volumes.directory.iterdir()] == ["photos.json"]


def test_names_when_they_look_like_suffixes_are_kept_apart(volumes: VolumeStore) -> None:
    names = [VolumeName(name) for name in ("aa", "aa.json", "aa.json.json", "aa.broken-1")]
    for name in names:
        volumes.save(volume(name))
    assert sorted(volumes.load_all()) == sorted(names)


def test_remove_forgets_one_volume_and_is_content_when_there_is_none(volumes: VolumeStore) -> None:
    volumes.save(volume())
    volumes.save(volume(MUSIC))
    volumes.remove(PHOTOS)
    volumes.remove(PHOTOS)
    assert list(volumes.load_all()) == [MUSIC]


def test_load_when_there_is_none_says_so(volumes: VolumeStore) -> None:
    with pytest.raises(errors.VolumeNotFound) as missing:
        volumes.load(PHOTOS)
    assert str(missing.value) == "volume 'photos' not found"


BROKEN_RECORDS = [
    b"",
    b"{",
    b"[]",
    b'"text"',
    b"null",
    b"{}",
    b"\xff\xfe",
    b'{"version": 2, "created_at": "2024-05-17T12:30:00+00:00", "options": {"sshcmd": "nas:"}}',
    b'{"version": 1, "created_at": "yesterday", "options": {"sshcmd": "nas:"}}',
    b'{"version": 1, "created_at": "2024-05-17T12:30:00", "options": {"sshcmd": "nas:"}}',
    b'{"version": 1, "created_at": 7, "options": {"sshcmd": "nas:"}}',
    b'{"version": 1, "created_at": "2024-05-17T12:30:00+00:00", "options": {}}',
    b'{"version": 1, "created_at": "2024-05-17T12:30:00+00:00", "options": []}',
    b'{"version": 1, "created_at": "2024-05-17T12:30:00+00:00", "options": {"sshcmd": 7}}',
    b'{"version": 1, "created_at": "2024-05-17T12:30:00+00:00", "options": {"sshcmd": "nas:", "ProxyCommand": "id"}}',
]


@pytest.mark.parametrize("content", BROKEN_RECORDS)
def test_record_when_it_can_not_be_understood_is_set_aside_whole_and_the_others_load(
    volumes: VolumeStore, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    volumes.save(volume(MUSIC))
    record = volumes.directory / "photos.json"
    record.write_bytes(content)
    with caplog.at_level(logging.ERROR):
        assert list(volumes.load_all()) == [MUSIC]
    assert not record.exists()
    [aside] = volumes.directory.glob("photos.json.broken-*")
    assert aside.read_bytes() == content
    assert f"{record} can't be understood" in caplog.text
    assert f"it is kept as {aside}; mend it, move it back and restart the service" in caplog.text


@pytest.mark.parametrize("content", BROKEN_RECORDS)
def test_load_when_the_record_can_not_be_understood_finds_no_volume_and_leaves_the_record(
    volumes: VolumeStore, content: bytes
) -> None:
    record = volumes.directory / "photos.json"
    record.write_bytes(content)
    with pytest.raises(errors.VolumeNotFound):
        volumes.load(PHOTOS)
    assert record.read_bytes() == content


def test_record_when_broken_and_secret_is_logged_without_its_content(
    volumes: VolumeStore, caplog: pytest.LogCaptureFixture
) -> None:
    (volumes.directory / "photos.json").write_text('{"version": 1, "options": {"password": "hunter2"')
    with caplog.at_level(logging.DEBUG):
        volumes.load_all()
    assert caplog.text
    assert "hunter2" not in caplog.text


def test_record_when_its_name_is_no_volume_name_is_set_aside(volumes: VolumeStore) -> None:
    volumes.save(volume())
    (volumes.directory / "photos.json").rename(volumes.directory / "-my photos-.json")
    assert volumes.load_all() == {}
    assert broken(volumes.directory) == ["-my photos-.json"]


def test_record_when_it_is_no_file_is_set_aside(volumes: VolumeStore) -> None:
    (volumes.directory / "photos.json").mkdir()
    (volumes.directory / "music.json").symlink_to("nowhere")
    assert volumes.load_all() == {}
    assert broken(volumes.directory) == ["music.json", "photos.json"]


def test_record_when_set_aside_twice_is_kept_twice(volumes: VolumeStore) -> None:
    for content in ("one", "two"):
        (volumes.directory / "photos.json").write_text(content)
        volumes.load_all()
    assert sorted(path.read_text() for path in volumes.directory.iterdir()) == ["one", "two"]


def test_record_when_mended_and_moved_back_is_a_volume_again(volumes: VolumeStore) -> None:
    (volumes.directory / "photos.json").write_text("{")
    volumes.load_all()
    [aside] = volumes.directory.iterdir()
    aside.write_text('{"version": 1, "created_at": "2024-05-17T12:30:00+00:00", "options": {"sshcmd": "nas:"}}')
    aside.rename(volumes.directory / "photos.json")
    assert volumes.load_all()[PHOTOS].remote.host == "nas"


def test_load_all_when_a_record_is_a_pipe_does_not_wait_for_somebody_to_write(volumes: VolumeStore) -> None:
    volumes.save(volume())
    os.mkfifo(volumes.directory / "pipe.json")
    assert list(volumes.load_all()) == [PHOTOS]
    assert len(broken(volumes.directory)) == 1


def test_load_all_when_a_crash_left_a_half_written_file_removes_it(volumes: VolumeStore) -> None:
    volumes.save(volume())
    unfinished = volumes.directory / ".unfinished-k3j2h1g0"
    unfinished.write_text('{"version": 1, "options": {"password": "hunter2"')
    assert list(volumes.load_all()) == [PHOTOS]
    assert broken(volumes.directory) == []
    assert not unfinished.exists(), "it may hold a password"


@pytest.mark.parametrize("name", ["brk", "x" * 245])
def test_record_when_it_can_not_even_be_set_aside_does_not_keep_the_others_from_loading(
    volumes: VolumeStore, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a file system that became read-only after errors, and where the name would get too long."""
    volumes.save(volume())
    (volumes.directory / f"{name}.json").write_text("{")
    if name == "brk":
        monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
    assert list(volumes.load_all()) == [PHOTOS]
    assert f"{name}.json can't be understood (" in caplog.text
    assert "), nor be set aside (" in caplog.text


def test_record_when_it_can_not_be_read_at_the_moment_stays_where_it_is(
    volumes: VolumeStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    volumes.save(volume())
    monkeypatch.setattr(Path, "read_text", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    assert volumes.load_all() == {}
    assert [path.name for path in volumes.directory.iterdir()] == ["photos.json"]
    assert "photos.json can't be read (Input/output error)" in caplog.text


def test_load_all_when_the_directory_can_not_be_read_says_which(tmp_path: Path) -> None:
    (tmp_path / "volumes").write_text("a file")
    with pytest.raises(errors.StateError) as failure:
        VolumeStore(tmp_path / "volumes").load_all()
    assert str(failure.value) == f"cannot read {tmp_path}/volumes, File exists: is it there and owned by root?"


def test_save_when_it_can_not_be_written_says_which_and_leaves_nothing(volumes: VolumeStore) -> None:
    (volumes.directory / "photos.json").mkdir()
    with pytest.raises(errors.StateError) as failure:
        volumes.save(volume(password="hunter2"))
    assert str(failure.value) == (
        f"cannot write {volumes.directory}/photos.json, Is a directory: what is there, and does the disk work?"
    )
    assert [path.name for path in volumes.directory.iterdir()] == ["photos.json"]


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (errno.EROFS, "Read-only file system: once it can be written to, systemctl restart docker-volume-sshfs"),
        (errno.ENOSPC, "No space left on device: make room on its file system"),
    ],
)
def test_save_and_remove_when_the_disk_takes_nothing_say_what_to_do(
    volumes: VolumeStore, monkeypatch: pytest.MonkeyPatch, problem: int, said: str
) -> None:
    volumes.save(volume())

    def refuse(*_: object, **__: object) -> None:
        raise OSError(problem, os.strerror(problem))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(errors.StateUnwritable) as failure:
        volumes.save(volume(port="2222"))
    assert str(failure.value) == f"cannot write {volumes.directory}/photos.json, {said}"
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(errors.StateUnwritable) as failure:
        volumes.remove(PHOTOS)
    assert str(failure.value) == f"cannot remove {volumes.directory}/photos.json, {said}"


def test_save_when_the_directory_has_gone_says_which(tmp_path: Path) -> None:
    with pytest.raises(errors.StateError) as failure:
        VolumeStore(tmp_path / "gone").save(volume())
    assert str(failure.value).startswith(f"cannot write {tmp_path}/gone/photos.json, No such file or directory")


def test_remove_when_it_can_not_be_removed_says_which(volumes: VolumeStore) -> None:
    (volumes.directory / "photos.json").mkdir()
    with pytest.raises(errors.StateError) as failure:
        volumes.remove(PHOTOS)
    assert str(failure.value) == (
        f"cannot remove {volumes.directory}/photos.json, Is a directory: what is there, and does the disk work?"
    )


def test_holders_when_saved_are_found_by_the_next_process(holder_records: HolderStore) -> None:
    holders = Holders(
        {
            WEB: Holder(client=Client.DOCKER, count=2),
            MountID("b" * 64): Holder(client=Client.DOCKER, count=1, inherited=True),
            MountID("constant"): Holder(client=Client.PODMAN, count=1),
        }
    )
    holder_records.save(PHOTOS, holders)
    assert HolderStore(holder_records.directory).load_all() == {PHOTOS: holders}


def test_holders_when_not_confirmed_are_not_recorded(holder_records: HolderStore) -> None:
    confirmed = Holders().mounted(WEB, Client.DOCKER).confirmed(WEB)
    holder_records.save(PHOTOS, confirmed.mounted(WEB, Client.DOCKER).mounted(MountID("new"), Client.DOCKER))
    assert holder_records.load_all() == {PHOTOS: confirmed}


def test_holders_when_there_are_none_leave_no_file(holder_records: HolderStore) -> None:
    confirmed = Holders().mounted(WEB, Client.DOCKER).confirmed(WEB)
    holder_records.save(PHOTOS, confirmed)
    holder_records.save(PHOTOS, confirmed.unmounted(WEB))
    holder_records.save(MUSIC, Holders().mounted(WEB, Client.DOCKER))
    assert list(holder_records.directory.iterdir()) == []


@pytest.mark.parametrize(
    "record",
    [
        '{"version": 1}',
        '{"version": 1, "holders": []}',
        '{"version": 1, "holders": {"a": {"client": "kubernetes", "count": 1, "inherited": false}}}',
        '{"version": 1, "holders": {"a": {"client": "docker", "count": "many", "inherited": false}}}',
        '{"version": 1, "holders": {"a": {"client": "docker", "count": 1}}}',
    ],
)
def test_holders_when_they_can_not_be_understood_are_set_aside(holder_records: HolderStore, record: str) -> None:
    (holder_records.directory / "photos.json").write_text(record)
    assert holder_records.load_all() == {}
    assert broken(holder_records.directory) == ["photos.json"]


def test_load_all_when_a_record_nests_too_deeply_sets_it_aside(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    assert VolumeStore(tmp_path).load_all() == {}
    assert [path.name.partition("-")[0] for path in tmp_path.iterdir()] == ["deep.json.broken"]
