# SPDX-License-Identifier: MIT
"""What ssh is told when it asks for a password."""

import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support import ssh_server

from sshfs_plugin import askpass, command, options, sshfs
from sshfs_plugin.credentials import Keyring
from sshfs_plugin.known_hosts import HostKey, KnownHosts
from sshfs_plugin.settings import Settings
from sshfs_plugin.store import VolumeStore
from sshfs_plugin.volume import Volume, VolumeName

ROOT = Path(__file__).parents[2]
PROMPT = "bob@nas's password: "


def record(settings: Settings, opts: Mapping[str, str]) -> Volume:
    volume = options.parse(VolumeName("photos"), {"sshcmd": "bob@nas:", **opts}, datetime.now(UTC))
    volumes = VolumeStore(settings.volumes)
    volumes.load_all()
    volumes.save(volume)
    return volume


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path / "state", home=tmp_path / "root")


@pytest.fixture
def ask(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """Ask as ssh does for the volume photos, and return what is printed."""
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SSHFS_PLUGIN_PASSWORD_OF", "photos")

    def asking(prompt: str) -> str:
        monkeypatch.setattr(sys, "argv", ["askpass", prompt])
        askpass.main()
        return capsys.readouterr().out

    return asking


def test_answer_when_the_password_was_typed_as_an_option_is_that(settings: Settings, ask: Callable[[str], str]) -> None:
    record(settings, {"password": " hünter,2 "})
    assert ask(PROMPT) == " hünter,2 \n"


def test_answer_when_the_password_is_in_a_file_is_what_is_in_it_now(
    settings: Settings, ask: Callable[[str], str]
) -> None:
    record(settings, {"password_file": "~/nas"})
    settings.home.mkdir()
    file = settings.home / "nas"
    file.write_text("old")
    file.chmod(0o600)
    assert ask(PROMPT) == "old\n"
    file.write_text("new\nsecond line\n")
    assert ask("(bob@nas) Verification code: ") == "new\n"


def test_answer_when_a_keys_passphrase_is_wanted_is_none(settings: Settings, ask: Callable[[str], str]) -> None:
    record(settings, {"password": "hunter2"})
    with pytest.raises(SystemExit) as end:
        ask("Enter passphrase for key '/root/.ssh/id_rsa': ")
    assert end.value.code == 1


def test_answer_when_the_password_file_has_gone_is_why(settings: Settings, ask: Callable[[str], str]) -> None:
    record(settings, {"password_file": "/gone"})
    with pytest.raises(SystemExit) as end:
        ask(PROMPT)
    assert str(end.value.code).startswith("cannot use the password file /gone, it does not exist")


def test_answer_when_the_volume_is_not_known_is_why(settings: Settings, ask: Callable[[str], str]) -> None:
    with pytest.raises(SystemExit) as end:
        ask(PROMPT)
    assert end.value.code == "volume 'photos' not found"


def test_answer_when_no_volume_is_named_is_why(ask: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSHFS_PLUGIN_PASSWORD_OF")
    with pytest.raises(SystemExit) as end:
        ask(PROMPT)
    assert "'' can't be the name of a volume" in str(end.value.code)


@pytest.mark.parametrize("method", [ssh_server.PASSWORD, ssh_server.TYPED])
def test_ssh_when_it_asks_the_program_logs_in_by_password(tmp_path: Path, settings: Settings, method: str) -> None:
    account = ssh_server.Account(directory=tmp_path, password="hünter 2", ways=[(method,)])
    with ssh_server.serving(account) as server:
        volume = record(settings, {"password": "hünter 2", "port": str(server.port)})
        login = Keyring.of(settings).login(volume.credentials)
        host_key = ssh_server.host_key("ed25519")
        known_hosts = KnownHosts.of(settings)
        known_hosts.add(volume.remote.host, server.port, HostKey(kind=host_key.get_name(), blob=host_key.asbytes()))
        config = tmp_path / "ssh_config"
        config.write_text(sshfs.ssh_config(volume, login, known_hosts))
        said = command.run(
            ["ssh", "-F", config, "-s", f"bob@{ssh_server.LOOPBACK}", "sftp"],
            seconds=5,
            environment={
                **settings.environment(),
                **sshfs.environment(volume, login, ROOT / "libexec/askpass"),
                "PYTHONPATH": str(ROOT),
            },
        )
    assert (said.returncode, said.stderr) == (0, "")
    assert method in server.seen
