# SPDX-License-Identifier: MIT
"""What another plugin has left: its state file in both forms, and what Docker knows of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from sshfs_plugin import errors
from sshfs_plugin.vieux import legacy

VIEUX = {
    "photos": {
        "Password": "",
        "Sshcmd": "alice@nas:/photos",
        "Port": "2222",
        "Options": ["IdentityFile=/root/.ssh/id", "allow_other", "Ciphers=a=b"],
        "Mountpoint": "/mnt/volumes/0123",
    },
    "music": {
        "Password": "hunter2",
        "Sshcmd": "nas:/music",
        "Port": "",
        "Options": None,
        "Mountpoint": "/mnt/volumes/4567",
    },
}
FORK = {
    "photos": {
        "Name": "photos",
        "MountPoint": "/mnt/volumes/photos",
        "CreatedAt": "2026-01-01T00:00:00Z",
        "RefCount": 1,
        "Options": ["reconnect"],
        "SSHCmd": "alice@nas:/photos",
        "IdentityFile": "/root/.ssh/id",
        "Ephemeral": False,
        "Password": "",
        "Port": "2222",
    }
}


def write(file: Path, state: Any) -> Path:
    file.write_text(state if isinstance(state, str) else json.dumps(state))
    return file


def install(root: Path, name: str, *, socket: str = "sshfs.sock", env: str = "DEBUG", **sources: str) -> None:
    """Write down a plugin as Docker does."""
    inside = {"state": "/mnt/state", "sshkey": "/root/.ssh", "usr": "/usr"}
    mounts = [{"Destination": inside[kind], "Source": source} for kind, source in sources.items()]
    config = root / "var/lib/docker/plugins" / name.replace("/", "-") / "config.json"
    config.parent.mkdir(parents=True)
    own = {"Interface": {"Socket": socket}, "Env": [{"Name": env}]}
    config.write_text(json.dumps({"plugin": {"Name": name, "Config": own, "Settings": {"Mounts": mounts}}}))


def test_volumes_of_vieux_have_the_options_that_were_typed(tmp_path: Path) -> None:
    assert legacy.volumes(write(tmp_path / "state", VIEUX)) == {
        "photos": {
            "sshcmd": "alice@nas:/photos",
            "port": "2222",
            "IdentityFile": "/root/.ssh/id",
            "allow_other": "",
            "Ciphers": "a=b",
        },
        "music": {"sshcmd": "nas:/music", "password": "hunter2"},
    }


def test_volumes_of_the_fork_have_them_too(tmp_path: Path) -> None:
    assert legacy.volumes(write(tmp_path / "state", FORK)) == {
        "photos": {
            "sshcmd": "alice@nas:/photos",
            "port": "2222",
            "IdentityFile": "/root/.ssh/id",
            "reconnect": "",
        }
    }


def test_a_file_without_volumes_is_fine(tmp_path: Path) -> None:
    assert legacy.volumes(write(tmp_path / "state", {})) == {}


@pytest.mark.parametrize(
    "state",
    [
        [],
        "null",
        {"photos": "alice@nas:/photos"},
        {"photos": {"Mountpoint": "/mnt"}},
        {"photos": {"Sshcmd": "nas:/a", "SSHCmd": "nas:/b"}},
        {"photos": {"Sshcmd": "nas:/a", "Options": [{"uid": 1}]}},
        {"photos": {"Sshcmd": "nas:/a", "Port": 22}},
    ],
)
def test_another_kind_of_file_is_named_as_such(tmp_path: Path, state: Any) -> None:
    file = write(tmp_path / "state", state)
    with pytest.raises(errors.LegacyStateUnusable) as raised:
        legacy.volumes(file)
    assert str(raised.value) == (
        f"{file} is no state file of vieux/sshfs or of a fork of it: "
        "say --state FILE with the one that the plugin wrote"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"photos": {', "the state file {} is not JSON: it may be torn: mend a copy of it and say --state COPY"),
        (None, "there is no state file {}: say --state FILE if the plugin's state.source was another directory"),
    ],
)
def test_a_file_that_is_torn_or_missing_gets_a_cure(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "state"
    if text:
        file.write_text(text)
    with pytest.raises(errors.LegacyStateUnusable) as raised:
        legacy.volumes(file)
    assert str(raised.value) == said.format(file)


def test_a_directory_is_no_state_file(tmp_path: Path) -> None:
    with pytest.raises(errors.LegacyStateUnusable, match=r"cannot read the state file .*, Is a directory: "):
        legacy.volumes(tmp_path)


def test_an_installed_plugin_tells_where_its_state_and_its_keys_are(tmp_path: Path) -> None:
    assert legacy.installed(tmp_path) == []
    assert legacy.state_file(tmp_path) == tmp_path / "var/lib/docker/plugins/sshfs-state.json"
    install(tmp_path, "another/driver:latest", usr="/usr")
    install(tmp_path, "fentas/davfs:latest", socket="davfs.sock", state="/var/lib/docker/plugins/")
    install(tmp_path, "sshfs:latest", env="SSHFS_PLUGIN_STATE", state="/var/lib/docker/plugins/", sshkey="/root/.ssh")
    install(tmp_path, "vieux/sshfs:latest", state="/srv/state/", sshkey="/home/alice/.ssh")
    assert legacy.installed(tmp_path) == [
        legacy.Installed(
            name="vieux/sshfs:latest", state=Path("/srv/state/sshfs-state.json"), keys=Path("/home/alice/.ssh")
        )
    ]
    assert legacy.state_file(tmp_path) == Path("/srv/state/sshfs-state.json")


def test_a_plugin_to_which_no_keys_were_given_has_none(tmp_path: Path) -> None:
    install(tmp_path, "vieux/sshfs:next", state="/var/lib/docker/plugins/", sshkey="")
    (plugin,) = legacy.installed(tmp_path)
    assert (plugin.name, plugin.keys) == ("vieux/sshfs:next", None)
