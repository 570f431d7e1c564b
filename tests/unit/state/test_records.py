# SPDX-License-Identifier: MIT
"""Records on disk: what a crash, a full disk or a careless hand may leave, and what is made of it."""

import errno
import json
import os
import random
import re
import stat
import string
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import pytest
from support.long import normally

from sshfs_plugin import errors, options
from sshfs_plugin.driver.registry import Entry, Registry
from sshfs_plugin.holders import Client, Holder, Holders
from sshfs_plugin.host import uptime
from sshfs_plugin.options import table
from sshfs_plugin.state.records import HolderRecords, VolumeRecords
from sshfs_plugin.volume import MountID, Unusable, Volume, VolumeName, usable, volume_name

PHOTOS, MUSIC = VolumeName("photos"), VolumeName("music")
WEB = MountID("a" * 64)
ROUNDS = normally(50, 1000)
"""How many random volumes and kinds of damage are tried."""


def volume(name: VolumeName = PHOTOS, **opts: str) -> Volume:
    created_at = datetime(2024, 5, 17, 12, 30, 15, 250, tzinfo=UTC)
    return options.parse(name, {"sshcmd": "bob@nas:/größe, b", **opts}, created_at)


@pytest.fixture
def volumes(tmp_path: Path) -> VolumeRecords:
    store = VolumeRecords(tmp_path / "state/volumes")
    assert store.load_all() == {}
    return store


@pytest.fixture
def holder_records(tmp_path: Path) -> HolderRecords:
    store = HolderRecords(tmp_path / "run/holders")
    assert store.load_all() == {}
    return store


Synced: TypeAlias = list[tuple[Path, list[str]]]
"""What was synced, and which records there were by then."""


@pytest.fixture
def synced(volumes: VolumeRecords, monkeypatch: pytest.MonkeyPatch) -> Synced:
    synced: Synced = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        assert path.is_dir() or json.loads(path.read_text("utf-8")), "all of it was written before"
        synced.append((path, volumes.names()))

    monkeypatch.setattr(os, "fsync", note)
    return synced


def test_load_all_when_run_for_the_first_time_makes_a_directory_for_root_alone(volumes: VolumeRecords) -> None:
    assert stat.S_IMODE(volumes.directory.stat().st_mode) == 0o700


def test_volumes_when_saved_are_found_by_the_next_process(volumes: VolumeRecords) -> None:
    saved = {PHOTOS: volume(port="2222", ro=""), MUSIC: volume(MUSIC, password="häns'\"el\\")}
    for each in saved.values():
        volumes.save(each)
    assert VolumeRecords(volumes.directory).load_all() == saved
    assert volumes.load(MUSIC) == saved[MUSIC]


def test_record_may_hold_a_password_and_so_is_readable_by_its_owner_alone(volumes: VolumeRecords) -> None:
    volumes.save(volume(password="hunter2"))
    [record] = volumes.directory.iterdir()
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert json.loads(record.read_text())["options"]["password"] == "hunter2"


def test_save_has_the_record_on_disk_and_then_its_name(volumes: VolumeRecords, synced: Synced) -> None:
    volumes.save(volume())
    (file, before), (directory, after) = synced
    assert file.name.startswith(".unfinished-"), "the next start removes it after a crash"
    assert (file.parent, before) == (volumes.directory, []), "a crash in between must leave no record without content"
    assert (directory, after) == (volumes.directory, ["photos"])


def test_save_and_remove_leave_no_file_open(volumes: VolumeRecords) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    volumes.save(volume())
    volumes.remove(PHOTOS)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("zone", "usable"),
    [("Z", True), ("+02:00", True), ("-03:30", True), ("", False), ("+01:00:30", False), ("+01:00:00.5", False)],
)
def test_record_has_a_time_that_docker_takes(volumes: VolumeRecords, zone: str, usable: bool) -> None:
    options_said = {"sshcmd": "bob@nas:/photos"}
    record = {"version": 1, "created_at": f"2024-05-17T12:30:15{zone}", "options": options_said}
    (volumes.directory / "photos.json").write_text(json.dumps(record))
    assert isinstance(volumes.load_all()[PHOTOS], Volume) is usable


def test_remove_has_the_name_gone_from_disk(volumes: VolumeRecords, synced: Synced) -> None:
    volumes.save(volume())
    synced.clear()
    volumes.remove(PHOTOS)
    assert synced == [(volumes.directory, [])], "a crash must not bring back a volume that was removed"


def test_save_when_there_is_one_replaces_it(volumes: VolumeRecords) -> None:
    volumes.save(volume(port="1"))
    volumes.save(volume(port="2"))
    assert volumes.load(PHOTOS).remote.port == 2
    assert [path.name for path in volumes.directory.iterdir()] == ["photos.json"]


def test_names_when_they_look_like_suffixes_are_kept_apart(volumes: VolumeRecords) -> None:
    names = [VolumeName(name) for name in ("aa", "aa.json", "aa.json.json", "aa.broken-1")]
    for name in names:
        volumes.save(volume(name))
    assert sorted(volumes.load_all()) == sorted(names)


def test_remove_forgets_one_volume_and_is_content_when_there_is_none(volumes: VolumeRecords) -> None:
    volumes.save(volume())
    volumes.save(volume(MUSIC))
    volumes.remove(PHOTOS)
    volumes.remove(PHOTOS)
    assert list(volumes.load_all()) == [MUSIC]


def test_load_when_there_is_none_says_so(volumes: VolumeRecords) -> None:
    with pytest.raises(errors.VolumeNotFound) as missing:
        volumes.load(PHOTOS)
    assert str(missing.value) == "volume 'photos' not found"


CREATED = b'"version": 1, "created_at": "2024-05-17T12:30:00+00:00"'

BROKEN_RECORDS = [
    (b"", "can't be understood (Expecting value: line 1 column 1 (char 0))"),
    (
        b"{",
        "can't be understood (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))",
    ),
    (b"[]", "does not have the form of a record"),
    (b'"text"', "does not have the form of a record"),
    (b"null", "does not have the form of a record"),
    (b"{}", "lacks 'version'"),
    (b"\xff\xfe", "can't be understood ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte)"),
    (
        b'{"version": 2, "created_at": "2024-05-17T12:30:00+00:00", "options": {"sshcmd": "nas:"}}',
        "can't be understood (its version is 2, and this plugin knows version 1)",
    ),
    (
        b'{"version": 1, "created_at": "yesterday", "options": {"sshcmd": "nas:"}}',
        "can't be understood (Invalid isoformat string: 'yesterday')",
    ),
    (
        b'{"version": 1, "created_at": "2024-05-17T12:30:00", "options": {"sshcmd": "nas:"}}',
        "can't be understood (created_at has no time zone that Docker takes, and it would forget the volume)",
    ),
    (
        b'{"version": 1, "created_at": 7, "options": {"sshcmd": "nas:"}}',
        "does not have the form of a record",
    ),
    (b"{%s}" % CREATED, "lacks 'options'"),
    (b'{%s, "options": {}}' % CREATED, "is not valid (option 'sshcmd' is missing: say -o sshcmd=user@host:/dir)"),
    (b'{%s, "options": []}' % CREATED, "does not have the form of a record"),
    (b'{%s, "options": {"sshcmd": 7}}' % CREATED, "does not have the form of a record"),
    (
        b'{%s, "options": {"sshcmd": "nas:", "ProxyCommand": "id"}}' % CREATED,
        "is not valid (option 'ProxyCommand' is refused: it would run a command of the volume's creator as "
        "root on this host)",
    ),
]


def unusable(record: Path, complaint: str) -> Unusable:
    return Unusable(name=VolumeName(record.stem), record=record, complaint=complaint)


@pytest.mark.parametrize(("content", "complaint"), BROKEN_RECORDS)
def test_record_when_it_can_not_be_understood_stays_as_it_is_and_its_volume_is_unusable(
    volumes: VolumeRecords, content: bytes, complaint: str
) -> None:
    volumes.save(volume(MUSIC))
    record = volumes.directory / "photos.json"
    record.write_bytes(content)
    for _ in range(2):
        assert volumes.load_all() == {MUSIC: volume(MUSIC), PHOTOS: unusable(record, complaint)}
    assert record.read_bytes() == content
    with pytest.raises(errors.RecordUnusable) as refusal:
        volumes.load(PHOTOS)
    assert str(refusal.value) == (
        f"volume 'photos' is unusable, its record {record} {complaint}: "
        "mend it, or install the version that wrote it; docker volume rm photos gives the volume up, "
        "and files on the server stay as they are"
    )


def test_record_when_broken_and_secret_is_not_quoted(volumes: VolumeRecords) -> None:
    record = volumes.directory / "photos.json"
    for content in (
        '{"version": 1, "options": {"password": "hunter2"',
        '{"version": 1, "options": {"password": "\\hunter2"}}',
        '{"version": {"password": "hunter2"}}',
        '{"version": 1, "created_at": "2024-05-17T12:30:00Z", "options": {"password": "hunter2\\n"}}',
    ):
        record.write_text(content)
        with pytest.raises(errors.RecordUnusable) as refusal:
            volumes.load(PHOTOS)
        assert "hunter2" not in str(refusal.value)


def test_record_when_its_name_is_no_volume_name_is_left_alone(
    volumes: VolumeRecords, caplog: pytest.LogCaptureFixture
) -> None:
    record = volumes.directory / "-my photos-.json"
    record.write_text("{}")
    assert volumes.load_all() == {}
    assert record.read_text() == "{}"
    assert f"{record} is left alone: '-my photos-' can't be the name of a volume" in caplog.text


def test_record_when_it_is_no_file_is_as_broken_as_others_and_keeps_nobody_waiting(volumes: VolumeRecords) -> None:
    paths = {name: volumes.directory / f"{name}.json" for name in ("link", "directory", "pipe")}
    paths["link"].symlink_to("nowhere")
    paths["directory"].mkdir()
    os.mkfifo(paths["pipe"])
    assert list(volumes.load_all().values()) == [
        unusable(paths["directory"], "can't be understood (it is no file)"),
        unusable(paths["link"], "can't be read (No such file or directory)"),
        unusable(paths["pipe"], "can't be understood (it is no file)"),
    ]


def test_record_when_it_can_not_be_read_at_the_moment_keeps_the_name(
    volumes: VolumeRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes.save(volume())
    with monkeypatch.context() as failing_disk:
        failing_disk.setattr(Path, "read_text", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        (found,) = volumes.load_all().values()
    assert found == unusable(volumes.directory / "photos.json", "can't be read (Input/output error)")
    assert volumes.load(PHOTOS) == volume()


def test_load_all_when_a_crash_left_a_half_written_file_removes_it(volumes: VolumeRecords) -> None:
    volumes.save(volume())
    unfinished = volumes.directory / ".unfinished-k3j2h1g0"
    unfinished.write_text('{"version": 1, "options": {"password": "hunter2"')
    assert list(volumes.load_all()) == [PHOTOS]
    assert not unfinished.exists(), "it may hold a password"


def test_load_all_when_the_directory_can_not_be_read_says_which(tmp_path: Path) -> None:
    (tmp_path / "volumes").write_text("a file")
    with pytest.raises(errors.StateError) as failure:
        VolumeRecords(tmp_path / "volumes").load_all()
    assert str(failure.value) == f"cannot read {tmp_path}/volumes, File exists: is it there and owned by root?"


def test_save_when_it_can_not_be_written_says_which_and_leaves_nothing(volumes: VolumeRecords) -> None:
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
        (errno.EROFS, "Read-only file system: once its file system can be written to, try again half a minute later"),
        (errno.ENOSPC, "No space left on device: make room on its file system"),
    ],
)
def test_save_and_remove_when_the_disk_takes_nothing_say_what_to_do(
    volumes: VolumeRecords, monkeypatch: pytest.MonkeyPatch, problem: int, said: str
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


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk take files, and no sync of a directory."""
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)


@pytest.mark.usefixtures("unsynced")
def test_volume_whose_making_failed_since_its_record_was_not_synced_is_not_there_after_a_restart(
    volumes: VolumeRecords, holder_records: HolderRecords
) -> None:
    with pytest.raises(errors.StateUnwritable, match=r"cannot write .*/photos\.json, Input/output error"):
        Registry(volumes, holder_records, uptime.lives).add(Entry(record=volume()))
    assert volumes.load_all() == {}


def test_volume_whose_record_is_removed_and_not_synced_is_there_no_more(
    volumes: VolumeRecords,
    holder_records: HolderRecords,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry, entry = Registry(volumes, holder_records, uptime.lives), Entry(record=volume())
    registry.add(entry)
    request.getfixturevalue("unsynced")
    registry.remove(entry)
    assert (volumes.load_all(), registry.all()) == ({}, [])
    (said,) = caplog.messages
    assert said == (
        f"{volumes.directory}/photos.json was removed, and may be there again after a crash of this host: "
        "[Errno 5] Input/output error"
    )


@pytest.mark.usefixtures("unsynced")
def test_holders_that_were_there_are_kept_when_others_can_not_be_synced(
    holder_records: HolderRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (Holders({WEB: Holder(client=Client.DOCKER, count=count)}) for count in (1, 2))
    with monkeypatch.context() as works:
        works.setattr(os, "fsync", lambda _: None)
        holder_records.save(PHOTOS, one)
    with pytest.raises(errors.StateUnwritable):
        holder_records.save(PHOTOS, two)
    assert holder_records.load_all() == {PHOTOS: two}


def test_save_when_the_directory_has_gone_says_which(tmp_path: Path) -> None:
    with pytest.raises(errors.StateError) as failure:
        VolumeRecords(tmp_path / "gone").save(volume())
    assert str(failure.value).startswith(f"cannot write {tmp_path}/gone/photos.json, No such file or directory")


def test_remove_when_it_can_not_be_removed_says_which(volumes: VolumeRecords) -> None:
    (volumes.directory / "photos.json").mkdir()
    with pytest.raises(errors.StateError) as failure:
        volumes.remove(PHOTOS)
    assert str(failure.value) == (
        f"cannot remove {volumes.directory}/photos.json, Is a directory: what is there, and does the disk work?"
    )


def test_holders_when_saved_are_found_by_the_next_process(holder_records: HolderRecords) -> None:
    holders = Holders(
        {
            WEB: Holder(client=Client.DOCKER, count=2, device="0:52"),
            MountID("b" * 64): Holder(client=Client.DOCKER, count=1, inherited=True),
            MountID("constant"): Holder(client=Client.PODMAN, count=1),
        }
    )
    holder_records.save(PHOTOS, holders)
    assert HolderRecords(holder_records.directory).load_all() == {PHOTOS: holders}


@pytest.mark.parametrize(("word", "client"), [("docker", Client.DOCKER), ("podman", Client.PODMAN)])
def test_holders_when_recorded_by_an_older_version_have_mounts_of_which_nothing_is_known(
    holder_records: HolderRecords, word: str, client: Client
) -> None:
    record = {"version": 1, "holders": {WEB: {"client": word, "count": 1, "inherited": False}}}
    (holder_records.directory / "photos.json").write_text(json.dumps(record))
    assert holder_records.load_all() == {PHOTOS: Holders({WEB: Holder(client=client, count=1)})}


def test_holders_when_not_confirmed_are_not_recorded(holder_records: HolderRecords) -> None:
    confirmed = Holders().mounted(WEB, Client.DOCKER).confirmed(WEB)
    holder_records.save(PHOTOS, confirmed.mounted(WEB, Client.DOCKER).mounted(MountID("new"), Client.DOCKER))
    assert holder_records.load_all() == {PHOTOS: confirmed}


def test_process_of_docker_when_saved_is_found_by_the_next_process_and_is_no_volume(
    holder_records: HolderRecords,
) -> None:
    assert holder_records.docker_process() == ""
    holder_records.save_docker_process("812 10.55")
    restarted = HolderRecords(holder_records.directory)
    assert restarted.docker_process() == "812 10.55"
    assert restarted.load_all() == {}


def test_conditions_that_were_logged_when_saved_are_found_by_the_next_process_and_are_no_volume(
    holder_records: HolderRecords,
) -> None:
    assert holder_records.told() == {}
    holder_records.save_told({"photos": "lost"})
    restarted = HolderRecords(holder_records.directory)
    assert restarted.told() == {"photos": "lost"}
    assert restarted.load_all() == {}
    holder_records.directory.with_name("told").write_text('{"version": 1, "conditions": ["photos"]}')
    assert restarted.told() == {}


def test_holders_when_there_are_none_leave_no_file(holder_records: HolderRecords) -> None:
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
        '{"version": 1, "holders": {"a": {"client": "docker", "count": Infinity, "inherited": false}}}',
    ],
)
def test_holders_when_they_can_not_be_understood_are_forgotten_with_a_word(
    holder_records: HolderRecords, record: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = holder_records.directory / "photos.json"
    file.write_text(record)
    assert holder_records.load_all() == {}
    assert f"the holders of photos are forgotten, since {file} " in caplog.text
    confirmed = Holders().mounted(WEB, Client.DOCKER).confirmed(WEB)
    holder_records.save(PHOTOS, confirmed)
    assert holder_records.load_all() == {PHOTOS: confirmed}


def test_record_when_it_nests_too_deeply_is_unusable(volumes: VolumeRecords) -> None:
    (volumes.directory / "deep.json").write_text("[" * 100_000)
    (found,) = volumes.load_all().values()
    assert isinstance(found, Unusable)


# Whatever is recorded, and whatever becomes of it


def repeatable(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 (nothing here is secret)


TEXTS = (
    *("", "yes", "no", "0", "1", "7", "022", "30", "1m", "0.5", "1G 1h", "65535", "4294967294"),
    *("/etc/hosts", "~/key, or \\ key", "/a b/%h$x", "none", "/größe\N{NO-BREAK SPACE}\N{ROCKET}", "user", "file"),
    *("accept-new", "mount", "never", "create", "auto", "utf-8", "inet6", "af21 cs1", "eth0", "::1", "192.0.2.7"),
    *("iconv", "aes*,chacha20-poly1305@openssh.com", "nas", "bob", "truncate", "rename", "SHA256:" + "m" * 42 + "A"),
)


def some_volume(rng: random.Random, name: VolumeName = PHOTOS) -> Volume:
    """Make a volume of random options of the whole table."""
    created_at = datetime.fromtimestamp(rng.randrange(1 << 32), UTC).replace(microsecond=rng.randrange(10**6))
    volume = options.parse(name, {"sshcmd": f"bob@nas:{rng.choice(TEXTS)}"}, created_at)
    for row in rng.sample(table.TABLE, rng.choice((1, 5, len(table.TABLE)))):
        typed = options.typed({**volume.options, row.name: rng.choice(TEXTS)})
        try:
            volume = options.parse(name, typed, created_at)
        except (errors.RequestError, errors.RemoteUnusable):
            continue  # what does not fit is left out
    return volume


def test_volume_of_any_options_is_the_same_when_it_is_read_again(volumes: VolumeRecords) -> None:
    rng, seen = repeatable(20261126), set[str]()
    for _ in range(ROUNDS):
        made = some_volume(rng)
        volumes.save(made)
        assert volumes.load(PHOTOS) == made
        volumes.save(volumes.load(PHOTOS))
        assert volumes.load(PHOTOS) == made
        seen.update(made.options)
    assert len(seen) > len(table.TABLE) / 2, "most options were tried"


def test_name_of_any_text_is_that_of_its_record_or_refused(volumes: VolumeRecords) -> None:
    rng = repeatable(20261127)
    for _ in range(5 * ROUNDS):
        odd = rng.choice("/\0\n ä\ud800٣%~\u2028@")
        text = "".join(rng.choices(string.ascii_letters + "0019.._--" + odd, k=rng.choice((1, 2, 9))))
        text = text * rng.choice((1, 1, 1, 30))
        try:
            name = volume_name(text)
        except errors.InvalidVolumeName as refusal:
            assert str(refusal).isprintable()
            continue
        volumes.save(volume(name))
        assert [path.name for path in volumes.directory.iterdir()] == [f"{text}.json"]
        assert volumes.load_all() == {name: volume(name)}
        volumes.remove(name)
        assert list(volumes.directory.iterdir()) == []


def truncated(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def flipped(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 5))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwritten(rng: random.Random, content: bytes) -> bytes:
    """What a disk may have in place of a block."""
    start, end = sorted((rng.randrange(len(content)), rng.randrange(len(content))))
    return content[:start] + rng.choice((bytes(end - start), rng.randbytes(end - start))) + content[end:]


def of_wrong_types(rng: random.Random, content: bytes) -> bytes:
    """Put a value of another type in some place."""
    record = json.loads(content)
    place = rng.choice((record, record["options"]))
    odd: tuple[object, ...] = (
        None,
        True,
        -1,
        2**70,
        1.5,
        float("nan"),
        "",
        "\ud800",
        "x\ny",
        [],
        ["yes"],
        {},
        {"sshcmd": "nas:"},
    )
    place[rng.choice(list(place))] = rng.choice(odd)
    return json.dumps(record).encode()


def of_a_newer_version(rng: random.Random, content: bytes) -> bytes:
    record = json.loads(content)
    record["version"] = rng.choice((2, 3, 10**9, 10**400, "2", 1.5))
    record["options"]["from_the_future"] = "yes"
    return json.dumps(record).encode()


def of_times(rng: random.Random, content: bytes) -> bytes:
    record = json.loads(content)
    moment = rng.choice((record["created_at"][:19], "0001-01-01T00:00:00", "9999-12-31T23:59:59", "2024-W20-5"))
    zone = rng.choice(("Z", "+01:00:00.500000", "-23:59", "+24:00", "", "+00:00:01", "+01"))
    record["created_at"] = moment + zone
    return json.dumps(record).encode()


@pytest.mark.parametrize("damage", [truncated, flipped, overwritten, of_wrong_types, of_a_newer_version, of_times])
def test_record_with_any_damage_keeps_its_volume_and_is_never_overwritten(
    volumes: VolumeRecords, holder_records: HolderRecords, damage: Callable[[random.Random, bytes], bytes]
) -> None:
    rng = repeatable(20261128)
    volumes.save(volume(MUSIC))
    record = volumes.directory / "photos.json"
    for _ in range(ROUNDS):
        volumes.save(some_volume(rng))
        content = damage(rng, record.read_bytes())
        record.write_bytes(content)
        registry = Registry(volumes, holder_records, uptime.lives)
        registry.load()
        assert [entry.name for entry in registry.all()] == [MUSIC, PHOTOS]
        found = registry.get(PHOTOS)
        registry.look_again(found)
        assert usable(registry.get(MUSIC).record) == volume(MUSIC)
        assert record.read_bytes() == content
        if not isinstance(found.record, Volume):
            assert str(found.record.error).isprintable()
            assert len(str(found.record.error)) < 2000
        else:  # the damage has left a record that is fine, and is found again as it is
            assert docker_takes(found.record.created_at.isoformat(timespec="seconds"))
            volumes.save(found.record)
            assert volumes.load(PHOTOS) == found.record


def docker_takes(time: str) -> bool:
    """Tell whether a time is one of RFC 3339, of which Docker would forget the volume if it were not."""
    return bool(re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}[+-][0-9]{2}:[0-9]{2}", time))


@pytest.mark.parametrize("damage", [truncated, flipped, overwritten])
def test_holders_with_any_damage_keep_nobody_from_starting(
    holder_records: HolderRecords, damage: Callable[[random.Random, bytes], bytes]
) -> None:
    rng = repeatable(20261129)
    held = Holders({WEB: Holder(client=Client.DOCKER, count=2, device="0:52")})
    for _ in range(ROUNDS):
        holder_records.save(PHOTOS, held)
        holder_records.save(MUSIC, held)
        file = holder_records.directory / "photos.json"
        file.write_bytes(damage(rng, file.read_bytes()))
        found = holder_records.load_all()
        assert found[MUSIC] == held
        holder_records.save(PHOTOS, found.get(PHOTOS, held).unmounted(WEB))
