# SPDX-License-Identifier: MIT
"""What a volume's unit finds when it starts."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.ssh_keys import write_key

from sshfs_plugin import errors, options
from sshfs_plugin.mounts.unit_files import UnitFiles
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.credentials import Keyring
from sshfs_plugin.volume import Volume, VolumeName

PHOTOS = VolumeName("photos")


def volume(opts: Mapping[str, str]) -> Volume:
    return options.parse(PHOTOS, {"sshcmd": "bob@nas:/photos", **opts}, datetime.now(UTC))


def write(files: UnitFiles, photos: Volume, settings: Settings) -> None:
    files.write(photos, Keyring.of(settings).login(photos.credentials), settings)


@pytest.fixture
def files(settings: Settings) -> UnitFiles:
    return UnitFiles.of(settings, PHOTOS)


def test_unit_finds_what_is_mounted_where_and_how(files: UnitFiles, settings: Settings) -> None:
    write(files, volume({}), settings)
    assert files.environment.read_text().splitlines() == [
        'SOURCE="bob@nas:/photos"',
        f'MOUNTPOINT="{settings.mounts}/photos"',
        f'SSH_CONFIG="{settings.runtime}/mounts/photos/ssh_config"',
        'OPTIONS="allow_other,default_permissions,workaround=rename,dcache_dir_timeout=2,reconnect,'
        f'ssh_command={settings.libexec}/relay"',
        'SSHFS_PLUGIN_READ_TIMEOUT="900"',
        f'SSHFS_PLUGIN_OUTAGE="{files.outage}"',
        'SSHFS_PLUGIN_KEPT="1"',
        'SSHFS_PLUGIN_DIRECTORY="/photos"',
    ]
    assert "HostKeyAlias nas\n" in files.ssh_config.read_text()


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({"attr_timeout": "60"}, "1"),
        ({"attr_timeout": "0.5"}, "0.5"),
        ({"attr_timeout": "0"}, "0"),
        ({"profile": "strict"}, "0"),
        ({"max_conns": "2"}, "0"),
        ({"follow_symlinks": "yes"}, "0"),
    ],
)
def test_relay_keeps_attributes_no_longer_than_the_kernel_and_only_if_it_sees_all(
    files: UnitFiles, settings: Settings, options: dict[str, str], seconds: str
) -> None:
    write(files, volume(options), settings)
    assert f'SSHFS_PLUGIN_KEPT="{seconds}"' in files.environment.read_text().splitlines()


@pytest.mark.parametrize("off", ["relay", "reconnect"])
def test_unit_without_the_relay_has_nothing_for_it(files: UnitFiles, settings: Settings, off: str) -> None:
    write(files, volume({off: "no"}), settings)
    environment = files.environment.read_text()
    assert "ssh_command" not in environment
    assert "SSHFS_PLUGIN" not in environment


def test_mountpoint_is_written_as_the_kernel_lists_it(settings: Settings, tmp_path: Path) -> None:
    settings.mounts.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "elsewhere").mkdir()
    settings.mounts.symlink_to(tmp_path / "elsewhere")
    files = UnitFiles.of(settings, PHOTOS)
    write(files, volume({}), settings)
    assert f'MOUNTPOINT="{tmp_path}/elsewhere/photos"\n' in files.environment.read_text()


def test_password_that_is_on_record_is_in_a_file_for_root_alone_and_nowhere_else(
    files: UnitFiles, settings: Settings
) -> None:
    write(files, volume({"password": " hünter,2 "}), settings)
    assert files.password.read_text() == " hünter,2 \n"
    assert files.directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in files.directory.iterdir()} == {0o600}
    environment = files.environment.read_text()
    assert environment.splitlines()[-4:] == [
        f'SSH_ASKPASS="{settings.libexec}/askpass"',
        'SSH_ASKPASS_REQUIRE="force"',
        f'SSHFS_PLUGIN_PASSWORD_FILE="{files.password}"',
        'SSHFS_PLUGIN_PASSWORD_OF="photos"',
    ]
    assert "hünter" not in environment + files.ssh_config.read_text()


def test_key_that_ssh_can_not_use_where_it_is_is_copied_for_root_alone(files: UnitFiles, settings: Settings) -> None:
    settings.credentials.mkdir(parents=True)
    key = write_key(settings.credentials / "nas", "ed25519")
    write(files, volume({"secret": "nas"}), settings)
    assert files.key.read_text() == key.read_text()
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert f'IdentityFile "{files.key}"\n' in files.ssh_config.read_text()
    assert "ASKPASS" not in files.environment.read_text()


def test_copied_key_of_an_earlier_volume_of_the_name_does_not_stay(files: UnitFiles, settings: Settings) -> None:
    settings.credentials.mkdir(parents=True)
    write_key(settings.credentials / "nas", "ed25519")
    write(files, volume({"secret": "nas"}), settings)
    write(files, volume({}), settings)
    assert not files.key.exists()


def test_password_that_is_a_credential_is_in_a_file_for_root_alone(files: UnitFiles, settings: Settings) -> None:
    settings.credentials.mkdir(parents=True)
    credential = settings.credentials / "nas"
    credential.write_text("hunter2\n")
    credential.chmod(0o400)
    write(files, volume({"secret": "nas"}), settings)
    assert files.password.read_text() == "hunter2\n"
    assert f'SSHFS_PLUGIN_PASSWORD_FILE="{files.password}"\n' in files.environment.read_text()


def test_password_file_is_read_where_it_is_so_that_a_new_password_is_found(
    files: UnitFiles, settings: Settings
) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    secret = settings.home / "nas password"
    secret.write_text("hunter2")
    secret.chmod(0o600)
    write(files, volume({"password_file": "~/nas password"}), settings)
    assert f'SSHFS_PLUGIN_PASSWORD_FILE="{secret}"\n' in files.environment.read_text()
    assert not files.password.exists()


def test_password_of_an_earlier_volume_of_the_name_does_not_stay(files: UnitFiles, settings: Settings) -> None:
    write(files, volume({"password": "hunter2"}), settings)
    write(files, volume({}), settings)
    assert not files.password.exists()
    assert "ASKPASS" not in files.environment.read_text()


def test_nothing_is_left_when_they_are_removed(files: UnitFiles, settings: Settings) -> None:
    write(files, volume({"password": "hunter2"}), settings)
    files.remove()
    files.remove()
    assert not files.directory.exists()


def test_a_directory_that_nothing_can_be_written_to_is_named(settings: Settings) -> None:
    settings.runtime.mkdir(parents=True, exist_ok=True)
    settings.unit_files.write_text("a file in its place")
    files = UnitFiles.of(settings, PHOTOS)
    with pytest.raises(errors.StateError) as refusal:
        write(files, volume({}), settings)
    assert str(refusal.value) == (f"cannot write to {files.directory}, Not a directory: is the file system there full?")


def test_nothing_stays_of_a_write_that_failed_or_was_cut_off(
    files: UnitFiles, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_text(path: Path, text: str, encoding: str) -> int:
        if path.name.startswith(".environment-"):
            raise OSError(28, "No space left on device")
        return path.write_bytes(text.encode(encoding))

    with monkeypatch.context() as full:
        full.setattr(Path, "write_text", write_text)
        with pytest.raises(errors.StateError, match="No space left on device: is the file system there full"):
            write(files, volume({"password": "hunter2"}), settings)
    assert not files.directory.exists()
    write(files, volume({"password": "hunter2"}), settings)
    (files.directory / ".password-1234").write_text("hunter2")
    files.remove()
    assert not files.directory.exists()
