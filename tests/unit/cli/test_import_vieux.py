# SPDX-License-Identifier: MIT
"""docker-volume-sshfs import-vieux and alias: what somebody reads who comes from another plugin, and what is left."""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.administrator import Administrator
from support.driver import FakeHost, slow_slots
from support.programs import Programs
from support.serving import serving
from support.ssh_keys import make_key, write_key

from sshfs_plugin import errors, options
from sshfs_plugin.discovery.aliases import Aliases
from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.http import api
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh import sshfs
from sshfs_plugin.state.records import VolumeRecords
from sshfs_plugin.volume import VolumeName

PLUGINS = "var/lib/docker/plugins"
SPECS = "etc/docker/plugins"


@pytest.fixture(autouse=True)
def systemctl(programs: Programs) -> None:
    """Run a systemd that knows no socket, whatever this machine has."""
    programs.add("systemctl")


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """Give the settings of a host whose Docker is in the test's directory, too."""
    (tmp_path / PLUGINS).mkdir(parents=True)
    (tmp_path / SPECS).mkdir(parents=True)
    (tmp_path / SPECS / "sshfs.spec").symlink_to(settings.spec)
    return replace(settings, root=tmp_path)


@pytest.fixture
def service(host: FakeHost, settings: Settings) -> Iterator[FakeHost]:
    """Serve a driver that keeps its records on disk where the command looks for both."""
    settings.runtime.mkdir(parents=True)
    settings.volumes.mkdir(parents=True)
    driver = Driver(
        volumes=VolumeRecords(settings.volumes),
        holder_records=host.holder_store,
        preflight=host.real_preflight,
        supervisor=host.real_supervisor,
    )
    settings.spec.write_text(f"unix://{settings.socket}\n")
    with serving(api.create_app(driver, slow_slots=slow_slots(), tell=lambda _: None), settings.socket):
        yield host


def leave(settings: Settings, **volumes: Any) -> Path:
    """Write vieux's state file; a volume is what differs from an ordinary one."""
    ordinary = {"Password": "", "Sshcmd": "me@nas:/photos", "Port": "", "Options": None, "Mountpoint": "/mnt/volumes/0"}
    file = settings.root / PLUGINS / "sshfs-state.json"
    file.write_text(json.dumps({name.replace("__", " "): ordinary | given for name, given in volumes.items()}))
    return file


def install(settings: Settings, name: str = "vieux/sshfs:latest", keys: str = "") -> None:
    """Let Docker have the other plugin."""
    mounts = [
        {"Destination": "/mnt/state", "Source": str(settings.root / PLUGINS)},
        {"Destination": "/root/.ssh", "Source": keys},
    ]
    config = settings.root / PLUGINS / "0123abc/config.json"
    config.parent.mkdir()
    interface = {"Socket": "sshfs.sock"}
    described = {"Name": name, "Config": {"Interface": interface, "Env": []}, "Settings": {"Mounts": mounts}}
    config.write_text(json.dumps({"plugin": described}))


def recorded(settings: Settings, name: str) -> dict[str, str]:
    """Return the options with which a volume is on record."""
    return dict(VolumeRecords(settings.volumes).load(VolumeName(name)).options)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Give the directory that was the other plugin's sshkey.source."""
    directory = tmp_path / "keys"
    directory.mkdir()
    write_key(directory / "nas", "ed25519")
    return directory


def test_each_volume_is_made_with_the_options_that_it_had(
    administrator: Administrator, service: FakeHost, settings: Settings, keys: Path
) -> None:
    state = leave(
        settings,
        photos={"Options": ["IdentityFile=/root/.ssh/nas", "allow_other,uid=1000"], "Port": "2222"},
        music={"Password": "hunter2", "Options": ["nonempty"]},
    )
    before = state.read_bytes()
    said = administrator("import-vieux", "--keys", str(keys))
    assert (said.code, said.err) == (0, "")
    assert said.lines == [
        "✓ photos made",
        "✓ music made; option 'nonempty' is ignored: fuse 3 does it anyway, or has no such thing",
    ]
    assert recorded(settings, "photos") == {
        "sshcmd": "me@nas:/photos",
        "port": "2222",
        "IdentityFile": str(keys / "nas"),
        "allow_other": "yes",
        "uid": "1000",
    }
    assert recorded(settings, "music") == {"sshcmd": "me@nas:/photos", "password": "hunter2"}
    assert service.preflight.created == ["photos", "music"]
    assert min(service.preflight.seconds) > 60, "servers get the time that Docker would give them"
    assert state.read_bytes() == before


def test_a_volume_renames_onto_existing_files_as_it_did_with_a_password_unless_its_options_said_otherwise(
    administrator: Administrator, service: FakeHost, settings: Settings
) -> None:
    """The other plugin gave sshfs the workaround beside a password, and the options after it; the last one counts."""
    leave(
        settings,
        photos={"Password": "hunter2"},
        music={"Password": "hunter2", "Options": ["workaround=truncate"]},
        films={"Password": "hunter2", "Options": ["workaround=rename:truncate"]},
    )
    assert administrator("import-vieux").lines == ["✓ photos made", "✓ music made", "✓ films made"]
    for name, workarounds in (("photos", "rename"), ("music", "truncate"), ("films", "rename:truncate")):
        made = VolumeRecords(settings.volumes).load(VolumeName(name))
        told = [word for word in sshfs.options(made, Path("/relay")).split(",") if "workaround" in word]
        assert told == [f"workaround={workarounds}"]


def test_a_dry_run_shows_it_and_does_nothing(administrator: Administrator, settings: Settings, keys: Path) -> None:
    leave(
        settings,
        photos={"Options": ["IdentityFile=/root/.ssh/nas", "big_writes"]},
        music={"Password": "hunter2", "Port": "2222"},
        x={},
    )
    said = administrator("import-vieux", "--dry-run", "--keys", str(keys))
    assert said.code == 1
    assert said.err == "1 of 3 volumes can't be made: x\n"
    assert said.lines == [
        "NAME REMOTE OPTIONS WOULD BE REMARKS",
        f"photos me@nas:/photos port 22 IdentityFile={keys}/nas made option 'big_writes' is ignored: fuse 3 does it "
        "anyway, or has no such thing",
        "music me@nas:/photos port 2222 password=(not shown) made",
        "x left out 'x' can't be the name of a volume: use at least two letters, digits, '_', '.' and '-', and begin "
        "with a letter or digit; make it under another name, and its containers anew",
    ]
    assert not settings.state.exists()


def test_it_can_be_run_again_and_does_what_is_left(
    administrator: Administrator, service: FakeHost, settings: Settings
) -> None:
    leave(settings, photos={}, music={})
    service.preflight.problems["photos"] = errors.HostUnreachable("connection refused by nas", "is it on?")
    said = administrator("import-vieux")
    assert (said.code, said.err) == (1, "1 of 2 volumes are missing: photos\n")
    assert said.lines == ["✗ photos connection refused by nas: is it on?", "✓ music made"]
    assert administrator("import-vieux", "--dry-run").lines[1:] == [
        "photos me@nas:/photos port 22 made",
        "music me@nas:/photos port 22 there already",
    ]
    service.preflight.problems.clear()
    said = administrator("import-vieux")
    assert (said.code, said.lines) == (0, ["✓ photos made", "✓ music there already"])


def test_a_server_that_is_away_is_no_obstacle_without_the_check(
    administrator: Administrator, service: FakeHost, settings: Settings
) -> None:
    leave(settings, photos={})
    service.preflight.problems["photos"] = errors.HostUnreachable("connection refused by nas", "is it on?")
    assert administrator("import-vieux", "--no-check").lines[0].startswith("✓ photos made")
    assert recorded(settings, "photos")["check"] == "mount"
    assert administrator("import-vieux").lines == ["✓ photos there already"]


def test_a_volume_of_the_same_name_with_other_options_is_left_alone(
    administrator: Administrator, service: FakeHost, settings: Settings
) -> None:
    leave(settings, photos={"Options": ["uid=1000"]})
    VolumeRecords(settings.volumes).save(
        options.parse(VolumeName("photos"), {"sshcmd": "me@nas:/photos"}, datetime.now(UTC))
    )
    expected = "volume 'photos' exists already and differs in 'uid': to change it, docker volume rm photos first"
    for words in (["import-vieux"], ["import-vieux", "--dry-run"]):
        said = administrator(*words)
        assert said.code == 1
        assert expected in said.out
    assert recorded(settings, "photos") == {"sshcmd": "me@nas:/photos"}


def test_a_volume_of_the_same_name_with_a_broken_record_is_left_alone(
    administrator: Administrator, service: FakeHost, settings: Settings
) -> None:
    leave(settings, photos={}, music={})
    settings.volumes.mkdir(parents=True, exist_ok=True)
    record = settings.volumes / "photos.json"
    record.write_text("{")
    said = administrator("import-vieux")
    assert said.code == 1
    assert f"volume 'photos' is unusable, its record {record} can't be understood" in said.out
    assert record.read_text() == "{"
    assert recorded(settings, "music"), "the others are made"


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("ProxyCommand=nc %h 22", "option 'ProxyCommand' is refused: it would run a command"),
        ("passwd=hunter2", "unknown option 'passwd': did you mean 'password'?"),
        ("uid=me", "option 'uid' must be a number from 0 to"),
        (
            "IdentityFile=/root/.ssh/elsewhere",
            # as an ordinary user one does not even see whether it exists
            "option 'IdentityFile' is /root/.ssh/elsewhere inside of the other plugin, but /root/.ssh/elsewhere can't "
            "be seen on this host (",
        ),
        ("IdentityFile=/mnt/volumes/photos_id_rsa", "but /mnt/volumes/photos_id_rsa can't be seen on this host (No"),
        ("IdentityFile=/root/.ssh/\ud800", "option 'IdentityFile' must not hold line breaks or control characters"),
        ("known_hosts=/k\0", "option 'known_hosts' must not hold line breaks or control characters"),
        (f"IdentityFile=/{'k' * 256}", " inside of the other plugin, but /kkk"),
    ],
)
def test_an_option_that_a_volume_cannot_have_is_named_and_the_others_go_on(
    administrator: Administrator, service: FakeHost, settings: Settings, option: str, problem: str
) -> None:
    leave(settings, photos={"Options": [option]}, music={})
    dry = administrator("import-vieux", "--dry-run")
    said = administrator("import-vieux")
    assert (dry.code, said.code) == (1, 1)
    assert problem in dry.out
    assert problem in said.out
    assert "hunter2" not in dry.out + said.out
    assert said.lines[1] == "✓ music made"


FILES = [
    ("UserKnownHostsFile=/root/.ssh/known_hosts", "known_hosts"),
    ("known_hosts=~/.ssh/known_hosts", "known_hosts"),
    ("CertificateFile=/root/.ssh/nas-cert.pub", "CertificateFile"),
    ("password_file=/root/.ssh/password", "password_file"),
    ("IdentityAgent=/root/.ssh/agent", "IdentityAgent"),
    ("IdentityAgent=~/.ssh/agent", "IdentityAgent"),
    ("idmap=file,uidfile=/root/.ssh/uids", "uidfile"),
    ("idmap=file,gidfile=/root/.ssh/gids", "gidfile"),
]


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(("option", "name"), FILES)
def test_each_file_of_the_other_plugin_is_found_on_this_host(
    administrator: Administrator, settings: Settings, keys: Path, option: str, name: str
) -> None:
    write_key(keys / "id_ed25519", "ed25519")
    file = keys / option.rpartition("/")[2]
    file.touch()
    leave(settings, photos={"Options": [option]})
    said = administrator("import-vieux", "--keys", str(keys))
    assert (said.code, said.err) == (0, "")
    made = recorded(settings, "photos")
    assert made[name] == str(file)
    is_alone = name in ("password_file", "IdentityAgent")
    assert made.get("IdentityFile", "") == (
        "" if is_alone else str(keys / "id_ed25519")
    ), "an agent is named for its keys"


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(("option", "name"), FILES)
def test_a_file_that_is_not_on_this_host_leaves_its_volume_out(
    administrator: Administrator, settings: Settings, keys: Path, option: str, name: str
) -> None:
    leave(settings, photos={"Options": [option]}, music={})
    path = option.rpartition("=")[2]
    there = keys / Path(path).name
    problem = f"option '{name}' is {path} inside of the other plugin, but {there} can't be seen on this host (No such"
    dry = administrator("import-vieux", "--dry-run", "--keys", str(keys))
    said = administrator("import-vieux", "--keys", str(keys))
    assert (dry.code, said.code) == (1, 1)
    assert f"left out {problem}" in dry.lines[1]
    assert said.lines[0].startswith(f"✗ photos {problem}")
    assert said.lines[1:] == ["✓ music made"]


def test_a_file_in_root_s_home_is_looked_for_in_that_of_this_host_where_the_directory_of_the_keys_is_not_known(
    administrator: Administrator, settings: Settings
) -> None:
    leave(settings, photos={"Options": ["IdentityFile=~/.ssh/nas"]})
    said = administrator("import-vieux", "--dry-run")
    assert said.code == 1
    assert f"is ~/.ssh/nas inside of the other plugin, but {settings.home}/.ssh/nas can't be seen on this" in said.out
    write_key(settings.home / ".ssh/nas", "ed25519")
    assert administrator("import-vieux", "--dry-run").lines[1:] == [
        "photos me@nas:/photos port 22 IdentityFile=~/.ssh/nas made"
    ]


@pytest.mark.parametrize("file", ["/dev/null", "none"])
def test_a_volume_that_read_no_host_keys_reads_none_here(
    administrator: Administrator, service: FakeHost, settings: Settings, keys: Path, file: str
) -> None:
    leave(settings, photos={"Options": [f"UserKnownHostsFile={file}"]})
    assert administrator("import-vieux", "--keys", str(keys)).lines == ["✓ photos made"]
    assert recorded(settings, "photos")["known_hosts"] == "/dev/null"


def test_a_port_in_the_directory_is_refused_before_the_service_would(
    administrator: Administrator, service: FakeHost, settings: Settings
) -> None:
    leave(settings, photos={"Sshcmd": "me@nas:2222:/x"}, music={"Sshcmd": "me@nas:2222:/x", "Port": "23"})
    problem = (
        "option 'sshcmd' has no place for a port, say -o port=2222 -o sshcmd=me@nas:/x; a directory that is called so "
        "is ./2222:/x"
    )
    dry = administrator("import-vieux", "--dry-run")
    assert dry.lines[1:] == [f"photos left out {problem}", "music me@nas:2222:/x port 23 made"]
    said = administrator("import-vieux")
    assert said.lines == [f"✗ photos {problem}", "✓ music made"]
    assert (dry.code, said.code) == (1, 1)


def test_what_has_commas_is_planned_and_made_as_one_value(
    administrator: Administrator, service: FakeHost, settings: Settings, keys: Path
) -> None:
    write_key(keys / "a,ro", "ed25519")
    leave(settings, photos={"Sshcmd": "me@nas:/a,b", "Options": [r"IdentityFile=/root/.ssh/a\,ro"]})
    dry = administrator("import-vieux", "--dry-run", "--keys", str(keys))
    assert dry.lines[1:] == [f"photos me@nas:/a,b port 22 IdentityFile={keys}/a,ro made"]
    assert administrator("import-vieux", "--keys", str(keys)).lines == ["✓ photos made"]
    assert recorded(settings, "photos") == {"sshcmd": "me@nas:/a,b", "IdentityFile": f"{keys}/a,ro"}


def test_a_jump_host_is_looked_up_where_this_host_has_its_remotes(
    administrator: Administrator, settings: Settings
) -> None:
    leave(settings, photos={"Options": ["ProxyJump=bastion"], "Password": "hunter2"}, music={})
    said = administrator("import-vieux", "--dry-run")
    assert (said.code, said.err) == (1, "1 of 2 volumes can't be made: photos\n")
    file = settings.remotes / "bastion.conf"
    assert said.lines[1:] == [
        f"photos password, ProxyJump left out remote 'bastion' can't be used, {file} does not exist: "
        "docker-volume-sshfs remote list shows which there are",
        "music me@nas:/photos port 22 made",
    ]
    file.parent.mkdir(parents=True)
    file.touch(0o600)
    file.write_text("[remote]\nhost = bastion\npassword = correct\n")
    said = administrator("import-vieux", "--dry-run")
    assert said.lines[1] == "photos me@nas:/photos port 22 password=(not shown), ProxyJump=bastion made"


def test_a_file_system_that_does_not_answer_leaves_out_one_volume_alone(
    administrator: Administrator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def why_absent(path: Path) -> str:
        raise errors.FileStuck(str(path), 5)

    monkeypatch.setattr("sshfs_plugin.host.local_files.why_absent", why_absent)
    leave(settings, photos={"Options": ["IdentityFile=/root/.ssh/nas"]}, music={"Password": "hunter2"})
    said = administrator("import-vieux", "--dry-run")
    assert said.lines[1].startswith("photos IdentityFile left out cannot read /root/.ssh/nas, its file system did not")
    assert said.lines[2:] == ["music me@nas:/photos port 22 password=(not shown) made"]


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        (
            "IdentityFile=/root/.ssh/open",
            "cannot use the identity file {keys}/open, ssh refuses it because other users can",
        ),
        (
            "password_file=/root/.ssh/empty",
            "cannot use the password file {keys}/empty, its first line is empty: write the",
        ),
        ("IdentityAgent=/root/.ssh/empty", "cannot use the ssh-agent at {keys}/empty, it is not a socket: name what"),
        ("UserKnownHostsFile=/root/.ssh/directory", "option 'known_hosts' names {keys}/directory, which is not a file"),
        ("BindInterface=nowhere0", "option 'BindInterface' names a network interface that this host does not have"),
    ],
)
def test_a_dry_run_looks_at_this_host_as_the_service_will(
    administrator: Administrator, settings: Settings, keys: Path, option: str, problem: str
) -> None:
    write_key(keys / "open", "ed25519").chmod(0o644)
    (keys / "empty").touch(0o600)
    (keys / "directory").mkdir()
    leave(settings, photos={"Options": [option]}, music={"Password": "hunter2"})
    said = administrator("import-vieux", "--dry-run", "--keys", str(keys))
    assert (said.code, said.err) == (1, "1 of 2 volumes can't be made: photos\n")
    assert f" left out {problem.format(keys=keys)}" in said.lines[1]
    assert said.lines[2].endswith(" made")
    unchecked = administrator("import-vieux", "--dry-run", "--no-check", "--keys", str(keys))
    assert unchecked.code == 0, "the service will look when the volume is to be mounted"
    assert not settings.state.exists()


def test_a_dry_run_tells_of_what_the_service_does_not_see(administrator: Administrator, settings: Settings) -> None:
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        leave(settings, photos={"Options": [f"known_hosts={file.name}"]})
        said = Administrator(replace(settings, supervisor="systemd"))("import-vieux", "--dry-run")
    assert said.code == 1
    assert (
        f"names {file.name}, which is below /var/tmp, where the service can't see it: move it elsewhere"
        in said.lines[1]
    )


def test_the_installed_plugin_tells_where_its_keys_are_and_how_to_go_on(
    administrator: Administrator, service: FakeHost, settings: Settings, keys: Path
) -> None:
    install(settings, keys=str(keys))
    (keys / "config").touch()
    leave(settings, photos={"Options": ["IdentityFile=~/.ssh/nas"]})
    said = administrator("import-vieux")
    assert recorded(settings, "photos")["IdentityFile"] == str(keys / "nas")
    assert said.lines[1:] == [
        f"{keys}/config was read by the other plugin and is not by this one: say its settings as options.",
        "Next, with the containers stopped: docker plugin rm -f vieux/sshfs:latest",
        "and then: docker-volume-sshfs alias add vieux/sshfs",
    ]


def test_a_copy_of_the_state_file_belongs_to_the_plugin_that_is_there(
    administrator: Administrator, settings: Settings, keys: Path, tmp_path: Path
) -> None:
    install(settings, keys=str(keys))
    copy = leave(settings, photos={"Options": ["IdentityFile=/root/.ssh/nas"]}).rename(tmp_path / "copy")
    said = administrator("import-vieux", "--dry-run", "--state", str(copy))
    assert said.lines[1] == f"photos me@nas:/photos port 22 IdentityFile={keys}/nas made"


def test_the_directory_of_the_keys_may_be_typed_relative_to_the_current_one(
    administrator: Administrator, settings: Settings, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(settings, photos={"Options": ["IdentityFile=/root/.ssh/nas"]})
    monkeypatch.chdir(keys.parent)
    said = administrator("import-vieux", "--dry-run", "--keys", "keys")
    assert f"IdentityFile={keys}/nas" in said.lines[1]


def test_a_volume_that_named_no_key_gets_the_one_that_ssh_found(
    administrator: Administrator, service: FakeHost, settings: Settings, keys: Path
) -> None:
    write_key(keys / "id_ed25519", "ed25519")
    leave(settings, photos={}, music={"Password": "hunter2"})
    said = administrator("import-vieux", "--keys", str(keys))
    assert said.lines[0] == f"✓ photos made; no key was named: it is to log in with {keys}/id_ed25519"
    assert recorded(settings, "photos")["IdentityFile"] == f"{keys}/id_ed25519"
    assert "IdentityFile" not in recorded(settings, "music")


def test_a_volume_that_named_no_key_gets_the_one_that_the_server_takes(
    administrator: Administrator, service: FakeHost, settings: Settings, keys: Path
) -> None:
    for name in ("id_rsa", "id_ed25519"):
        write_key(keys / name, name.removeprefix("id_"))
    leave(settings, photos={})
    refused = errors.LoginRefused("nas refused to let me in", "try another key")
    service.preflight.problems[str(keys / "id_rsa")] = refused
    said = administrator("import-vieux", "--keys", str(keys))
    assert said.lines[0] == f"✓ photos made; no key was named: it is to log in with {keys}/id_rsa or {keys}/id_ed25519"
    assert recorded(settings, "photos")["IdentityFile"] == f"{keys}/id_ed25519"
    assert "there already" in administrator("import-vieux", "--keys", str(keys)).lines[0]
    service.preflight.problems["music"] = refused
    leave(settings, music={})
    said = administrator("import-vieux", "--keys", str(keys))
    assert said.code == 1
    assert said.lines[0].startswith("✗ music nas refused to let me in: try another key; no key was named")


def test_a_volume_that_the_server_takes_with_no_key_tells_why_not_with_each(
    administrator: Administrator, service: FakeHost, settings: Settings, keys: Path
) -> None:
    for name in ("id_rsa", "id_ed25519"):
        write_key(keys / name, name.removeprefix("id_"))
    leave(settings, photos={})
    service.preflight.problems |= {
        str(keys / "id_rsa"): errors.LoginRefused("nas refused to let me in", "try another key"),
        str(keys / "id_ed25519"): errors.DirectoryMissing("nas has no directory /photos", "make it there"),
    }
    said = administrator("import-vieux", "--keys", str(keys))
    assert said.code == 1
    assert said.lines[0] == (
        f"✗ photos with {keys}/id_rsa: nas refused to let me in: try another key; with {keys}/id_ed25519: nas has no "
        f"directory /photos: make it there; no key was named: it is to log in with {keys}/id_rsa or {keys}/id_ed25519"
    )


def test_a_key_that_ssh_could_not_use_is_none_that_the_server_may_take(
    administrator: Administrator, service: FakeHost, settings: Settings, keys: Path
) -> None:
    make_key(keys / "id_rsa", passphrase="correct horse")
    (keys / "id_ecdsa").touch()
    write_key(keys / "id_ed25519", "ed25519")
    leave(settings, photos={}, music={})
    made = f"made; no key was named: it is to log in with {keys}/id_ed25519"
    assert administrator("import-vieux", "--no-check", "--keys", str(keys)).lines == [
        f"✓ photos {made}",
        f"✓ music {made}",
    ]
    assert recorded(settings, "photos")["IdentityFile"] == f"{keys}/id_ed25519"


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("has_directory", "why"),
    [
        (False, "the directory of the other plugin's keys is not known"),
        (True, "there is none in {keys} (id_rsa, id_ecdsa, id_ed25519)"),
    ],
)
def test_without_the_check_a_volume_whose_key_is_not_found_is_made_and_that_is_said(
    administrator: Administrator, settings: Settings, keys: Path, has_directory: bool, why: str
) -> None:
    leave(settings, photos={}, music={"Password": "hunter2"})
    words = ["--no-check", *(["--keys", str(keys)] if has_directory else [])]
    remark = (
        f"no key was named, and {why.format(keys=keys)}: say --keys DIR, or it is to log in with the keys of this host"
    )
    assert administrator("import-vieux", "--dry-run", *words).lines[1:] == [
        f"photos me@nas:/photos port 22 check=mount made {remark}",
        "music me@nas:/photos port 22 password=(not shown), check=mount made",
    ]
    said = administrator("import-vieux", *words)
    assert (said.code, said.lines) == (0, [f"✓ photos made; {remark}", "✓ music made"])


@pytest.mark.parametrize("words", [(), ("--no-check",)])
def test_keys_of_which_ssh_could_use_none_leave_their_volume_out(
    administrator: Administrator, service: FakeHost, settings: Settings, keys: Path, words: tuple[str, ...]
) -> None:
    write_key(keys / "id_rsa", "rsa").chmod(0o644)
    (keys / "id_ed25519").touch()
    leave(settings, photos={}, music={"Password": "hunter2"})
    problem = (
        f"cannot use the identity file {keys}/id_rsa, ssh refuses it because other users can read it: chmod 600 {keys}"
    )
    dry = administrator("import-vieux", "--dry-run", "--keys", str(keys), *words)
    said = administrator("import-vieux", "--keys", str(keys), *words)
    assert (dry.code, said.code) == (1, 1)
    assert dry.lines[1] == f"photos left out {problem}/id_rsa"
    assert said.lines == [f"✗ photos {problem}/id_rsa", "✓ music made"]


def test_without_the_check_nobody_tells_which_of_several_keys_a_server_takes(
    administrator: Administrator, service: FakeHost, settings: Settings, keys: Path
) -> None:
    for name in ("id_rsa", "id_ed25519"):
        write_key(keys / name, name.removeprefix("id_"))
    leave(settings, photos={"Options": ["ro"]}, music={"Password": "hunter2"})
    problem = (
        f"no key was named, and the server alone can tell whether it takes {keys}/id_rsa or {keys}/id_ed25519: import "
        "it without --no-check, or make it by hand with -o IdentityFile=KEY"
    )
    dry = administrator("import-vieux", "--dry-run", "--no-check", "--keys", str(keys))
    assert (dry.code, dry.err) == (1, "1 of 2 volumes can't be made: photos\n")
    assert dry.lines[1:] == [
        f"photos ro left out {problem}",
        "music me@nas:/photos port 22 password=(not shown), check=mount made",
    ]
    said = administrator("import-vieux", "--no-check", "--keys", str(keys))
    assert (said.code, said.err) == (1, "1 of 2 volumes are missing: photos\n")
    assert said.lines == [f"✗ photos {problem}", "✓ music made"]
    assert service.preflight.created == []

    service.preflight.problems[str(keys / "id_rsa")] = errors.LoginRefused(
        "nas refused to let me in", "try another key"
    )
    assert administrator("import-vieux", "--keys", str(keys)).code == 0
    said = administrator("import-vieux", "--no-check", "--keys", str(keys))
    assert (said.code, said.lines) == (0, ["✓ photos there already", "✓ music there already"])
    dry = administrator("import-vieux", "--dry-run", "--no-check", "--keys", str(keys))
    assert (dry.code, dry.lines[1].split(" there already")[1:]) == (0, [""])


def test_no_volumes_are_no_error(administrator: Administrator, settings: Settings) -> None:
    file = leave(settings)
    said = administrator("import-vieux")
    assert (said.code, said.out) == (0, f"There are no volumes in {file}.\n")


def test_a_file_that_is_none_is_a_mistake_of_the_command_line(administrator: Administrator, tmp_path: Path) -> None:
    said = administrator("import-vieux", "--state", str(tmp_path / "missing"))
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"docker-volume-sshfs: there is no state file {tmp_path}/missing: say --state FILE")


def test_a_closed_socket_ends_it_with_three(administrator: Administrator, settings: Settings) -> None:
    leave(settings, photos={})
    said = administrator("import-vieux")
    assert said.code == 3
    assert said.err.endswith("is closed: systemctl enable --now docker-volume-sshfs.socket opens it\n")


def test_it_takes_root(administrator: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for words in (["import-vieux"], ["alias", "add"], ["alias", "remove"], ["alias", "list"]):
        said = administrator(*words)
        assert (said.code, said.err.endswith("are for root alone: say sudo before the command\n")) == (2, True)


def specs(settings: Settings) -> dict[str, str]:
    """Return every spec, and where it leads."""
    directory = settings.root / SPECS
    return {str(file.relative_to(directory)): str(file.readlink()) for file in directory.rglob("*.spec")}


@pytest.fixture
def spec(settings: Settings) -> None:
    """Open the socket, as far as its spec goes."""
    settings.runtime.mkdir(parents=True)
    settings.spec.touch()


@pytest.mark.usefixtures("spec")
def test_an_alias_is_added_and_taken_back_without_a_trace(administrator: Administrator, settings: Settings) -> None:
    ours = {"sshfs.spec": str(settings.spec)}
    for _ in range(2):
        said = administrator("alias", "add")
        assert (said.code, said.err) == (0, "")
        assert said.out == "Docker finds this plugin as vieux/sshfs and vieux/sshfs:latest from now on.\n"
    assert specs(settings) == ours | {
        "vieux/sshfs.spec": str(settings.spec),
        "vieux/sshfs:latest.spec": str(settings.spec),
    }
    assert administrator("alias", "list").out == "vieux/sshfs\nvieux/sshfs:latest\n"
    assert administrator("alias", "remove").lines == [
        "vieux/sshfs is no name of this plugin any more.",
        "vieux/sshfs:latest is no name of this plugin any more.",
    ]
    assert specs(settings) == ours
    assert not (settings.root / SPECS / "vieux").exists()
    assert administrator("alias", "remove").out == "vieux/sshfs was no name of this plugin.\n"
    said = administrator("alias", "list")
    assert (said.out, said.err) == ("", "Docker finds this plugin under no other name than sshfs.\n")


def test_an_alias_says_that_it_waits_for_the_spec(administrator: Administrator, settings: Settings) -> None:
    said = administrator("alias", "add")
    assert said.code == 0
    assert said.err == (
        f"But not before {settings.spec} is there: the socket is closed, or it is one of the ways in that have no "
        "spec.\n"
    )


def test_an_alias_may_be_a_tag_and_leaves_its_neighbours_alone(
    administrator: Administrator, settings: Settings
) -> None:
    administrator("alias", "add", "vieux/sshfs:next")
    (settings.root / SPECS / "vieux/other.spec").symlink_to("/run/other.spec")
    assert administrator("alias", "list").out == "vieux/sshfs:next\n"
    administrator("alias", "remove", "vieux/sshfs:next")
    assert specs(settings) == {"sshfs.spec": str(settings.spec), "vieux/other.spec": "/run/other.spec"}
    assert administrator("alias", "remove", "vieux/other").out == "vieux/other was no name of this plugin.\n"


def test_an_alias_of_a_plugin_that_is_still_installed_says_how_to_remove_it(
    administrator: Administrator, settings: Settings
) -> None:
    install(settings)
    said = administrator("alias", "add")
    assert said.code == 1
    assert said.err == (
        "docker-volume-sshfs: the plugin vieux/sshfs is still installed, and Docker would go on asking it: stop its "
        "containers, then docker plugin rm -f vieux/sshfs\n"
    )
    assert list(specs(settings)) == ["sshfs.spec"]


def test_an_alias_does_not_take_the_place_of_another_spec(administrator: Administrator, settings: Settings) -> None:
    other = settings.root / SPECS / "vieux/sshfs.spec"
    other.parent.mkdir()
    other.write_text("unix:///run/other.sock")
    said = administrator("alias", "add")
    assert said.code == 1
    assert said.err == (f"docker-volume-sshfs: Docker finds {other} under the name vieux/sshfs: remove that first\n")
    assert other.read_text() == "unix:///run/other.sock"


def test_an_alias_that_cannot_be_written_down_says_where(administrator: Administrator, settings: Settings) -> None:
    (settings.root / SPECS / "vieux").touch()
    said = administrator("alias", "add")
    link = settings.root / SPECS / "vieux/sshfs.spec"
    assert said.code == 1
    assert said.err.startswith(f"docker-volume-sshfs: cannot make the link {link}, ")


def test_an_alias_that_cannot_be_taken_back_says_what_to_look_at(settings: Settings) -> None:
    link = settings.root / SPECS / "vieux/sshfs.spec"
    link.mkdir(parents=True)
    with pytest.raises(errors.StateError) as refused:
        Aliases.of(settings).remove("vieux/sshfs")
    assert str(refused.value) == (
        f"cannot remove the link {link}, Is a directory: what is there, and does the disk work?"
    )


@pytest.mark.parametrize("name", ["../sshfs", "/etc/passwd", "vieux//sshfs", ""])
def test_an_alias_that_is_no_name_of_a_plugin_is_refused(administrator: Administrator, name: str) -> None:
    for verb in ("add", "remove"):
        said = administrator("alias", verb, name)
        assert said.code == 2
        assert "can't be the name of a plugin: say vieux/sshfs or vieux/sshfs:latest" in said.err
