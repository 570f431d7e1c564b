# SPDX-License-Identifier: MIT
"""Where things are: what an administrator can change, and what is said about nonsense."""

from pathlib import Path

import pytest

from sshfs_plugin.settings import Settings


def test_settings_when_the_environment_is_empty_are_those_of_the_package() -> None:
    settings = Settings.from_environment({})
    assert settings == Settings()
    assert settings.volumes == Path("/var/lib/docker-volume-sshfs/volumes")
    assert settings.mounts == Path("/var/lib/docker-volume-sshfs/mounts")
    assert settings.known_hosts == Path("/var/lib/docker-volume-sshfs/known_hosts")
    assert settings.pinned == Path("/var/lib/docker-volume-sshfs/pinned")
    assert settings.holders == Path("/run/docker-volume-sshfs/holders")
    assert settings.unit_files == Path("/run/docker-volume-sshfs/mounts")
    assert settings.releases == Path("/run/docker-volume-sshfs/releases")
    assert settings.locks == Path("/run/docker-volume-sshfs/locks")
    assert settings.logs == Path("/run/docker-volume-sshfs/logs")
    assert settings.libexec == Path("/usr/libexec/docker-volume-sshfs")
    assert settings.default_key == Path("/etc/docker-volume-sshfs/id_ed25519")
    assert settings.credentials == Path("/run/credentials/docker-volume-sshfs.service")
    assert settings.secrets == Path("/etc/docker-volume-sshfs/secrets.d")
    assert (settings.supervisor, settings.home) == ("auto", Path("/root"))


def test_settings_when_variables_are_set_follow_them() -> None:
    settings = Settings.from_environment(
        {
            "SSHFS_PLUGIN_STATE": "/srv/state",
            "SSHFS_PLUGIN_MOUNTS": "/mnt/volumes",
            "SSHFS_PLUGIN_RUNTIME": "/srv/run",
            "SSHFS_PLUGIN_SUPERVISOR": "process",
            "SSHFS_PLUGIN_THREADS": "8",
            "STATE": "/not/ours",
        }
    )
    assert settings.volumes == Path("/srv/state/volumes")
    assert settings.mounts == Path("/mnt/volumes")
    assert settings.holders == Path("/srv/run/holders")
    assert settings.supervisor == "process"
    assert settings.threads == 8


def test_settings_when_a_variable_is_empty_keep_the_default() -> None:
    assert Settings.from_environment({"SSHFS_PLUGIN_STATE": "", "SSHFS_PLUGIN_THREADS": ""}) == Settings()


def test_settings_when_handed_to_another_process_are_the_same_there(tmp_path: Path) -> None:
    settings = Settings(
        state=tmp_path / "a state", runtime=tmp_path / "run", home=tmp_path, supervisor="systemd", threads=12
    )
    assert Settings.from_environment(settings.environment()) == settings


def test_settings_when_read_without_arguments_come_from_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSHFS_PLUGIN_HOME", "/home/admin")
    assert Settings.from_environment().home == Path("/home/admin")


def test_supervisor_when_it_is_none_of_the_three_is_refused_by_name() -> None:
    with pytest.raises(ValueError) as refusal:
        Settings.from_environment({"SSHFS_PLUGIN_SUPERVISOR": "runit"})
    assert str(refusal.value) == "SSHFS_PLUGIN_SUPERVISOR must be auto, systemd or process, not 'runit'"


@pytest.mark.parametrize("threads", ["7", "0", "-1", "many", "1.5"])
def test_threads_when_too_few_or_no_number_are_refused_by_name(threads: str) -> None:
    with pytest.raises(ValueError) as refusal:
        Settings.from_environment({"SSHFS_PLUGIN_THREADS": threads})
    assert str(refusal.value) == f"SSHFS_PLUGIN_THREADS must be a number of at least 8, not '{threads}'"
