# SPDX-License-Identifier: MIT
"""docker-volume-sshfs release, on a fake kernel, with a stand-in for systemctl."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.administrator import Administrator
from support.clients import SSHCMD
from support.kernel import FakeKernel
from support.programs import Programs

from sshfs_plugin import options
from sshfs_plugin.events import Event
from sshfs_plugin.host import journal
from sshfs_plugin.mounts import kernel
from sshfs_plugin.mounts.unit_files import UnitFiles
from sshfs_plugin.settings import Settings
from sshfs_plugin.state.records import VolumeRecords
from sshfs_plugin.volume import VolumeName

PHOTOS = VolumeName("photos")
UNIT = "docker-volume-sshfs@photos.service"
BY_FORCE = [f"stop --job-mode=ignore-dependencies {UNIT}", f"reset-failed {UNIT}"]


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Let systemd keep the volumes, of which there is one."""
    monkeypatch.setattr("sshfs_plugin.mounts.supervisors.ProcessSupervisor", None)
    systemd = Settings.from_environment({**settings.environment(), "SSHFS_PLUGIN_SUPERVISOR": "systemd"})
    systemd.volumes.mkdir(parents=True)
    VolumeRecords(systemd.volumes).save(options.parse(PHOTOS, {"sshcmd": SSHCMD}, datetime.now(UTC)))
    return systemd


@pytest.fixture(autouse=True)
def systemctl(settings: Settings, programs: Programs, fake_kernel: FakeKernel) -> Programs:
    """Run a systemd, and a release that finds everything unused."""
    programs.add("systemctl")
    settings.libexec.mkdir()
    programs.add("release", f": >{fake_kernel.mountinfo}")
    (settings.libexec / "release").symlink_to(programs.directory / "release")
    return programs


@pytest.fixture
def mounted(settings: Settings, fake_kernel: FakeKernel) -> Path:
    """Let the volume be mounted."""
    mountpoint = settings.mounts / PHOTOS
    mountpoint.mkdir(parents=True)
    fake_kernel.mount(mountpoint)
    return mountpoint


@pytest.fixture(autouse=True)
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Give what the journal is told."""
    told: list[dict[str, str]] = []
    monkeypatch.setattr(journal, "JOURNAL", tmp_path)
    monkeypatch.setattr("systemd.journal.send", lambda text, **fields: told.append({"MESSAGE": text, **fields}))
    return told


@pytest.mark.usefixtures("mounted")
def test_release_unmounts_what_nobody_uses_and_leaves_units_to_the_service(
    administrator: Administrator, systemctl: Programs
) -> None:
    said = administrator("release", "photos")
    assert (said.code, said.lines) == (0, ["photos is unmounted; the next container that uses it mounts it again."])
    assert (systemctl.calls("release"), systemctl.calls("systemctl")) == (["photos"], [])


def test_release_says_how_to_find_who_uses_it(administrator: Administrator, systemctl: Programs, mounted: Path) -> None:
    systemctl.add("release")
    said = administrator("release", "photos")
    assert said.code == 1
    assert said.err == (
        "docker-volume-sshfs: volume 'photos' is still in use by a running container or a process on this host: "
        f"docker ps --filter volume=photos shows containers, fuser -vm {mounted} processes; "
        "docker-volume-sshfs release --force photos takes it away from them\n"
    )
    assert UNIT not in str(systemctl.calls("systemctl"))


@pytest.mark.usefixtures("mounted")
def test_release_that_takes_nothing_away_is_not_in_the_journal(
    administrator: Administrator, noted: list[dict[str, str]]
) -> None:
    administrator("release", "photos")
    administrator("release", "--force", "photos")
    assert noted == []


@pytest.mark.usefixtures("mounted")
def test_release_by_force_is_in_the_journal(administrator: Administrator, noted: list[dict[str, str]]) -> None:
    administrator("release", "--force", "photos")
    assert noted == [
        {
            "MESSAGE": "release --force photos: unmounted",
            "MESSAGE_ID": Event.RELEASED_BY_FORCE,
            "VOLUME": "photos",
            "SYSLOG_IDENTIFIER": "docker-volume-sshfs",
        }
    ]


def test_release_by_force_asks_nobody_and_says_what_it_costs(
    administrator: Administrator, systemctl: Programs, mounted: Path, fake_kernel: FakeKernel
) -> None:
    fake_kernel.busy.add(mounted)
    said = administrator("release", "--force", "photos")
    assert (said.code, said.lines) == (
        0,
        [
            "photos is unmounted.",
            "Containers that had it have lost it until they are restarted: docker ps -a --filter volume=photos",
        ],
    )
    force = kernel.MNT_FORCE | kernel.MNT_DETACH | kernel.UMOUNT_NOFOLLOW
    assert fake_kernel.unmounted == [(mounted, force)]
    assert systemctl.calls("systemctl") == BY_FORCE


@pytest.mark.parametrize("words", [[], ["--force"]])
def test_release_of_what_is_not_mounted_does_nothing(
    administrator: Administrator, systemctl: Programs, words: list[str]
) -> None:
    assert administrator("release", *words, "photos").lines == ["photos is not mounted."]
    assert systemctl.calls("systemctl") == []


def test_release_by_force_ends_a_unit_whose_mount_was_detached(
    administrator: Administrator, systemctl: Programs, settings: Settings
) -> None:
    environment = UnitFiles.of(settings, PHOTOS).environment
    environment.parent.mkdir(parents=True)
    environment.touch()
    systemctl.add("systemctl", "echo active")
    assert administrator("release", "--force", "photos").lines[0] == "photos is unmounted."
    assert systemctl.calls("systemctl")[-2:] == BY_FORCE


def test_release_when_the_kernel_refuses_says_so(
    administrator: Administrator, mounted: Path, fake_kernel: FakeKernel
) -> None:
    fake_kernel.forbidden = True
    said = administrator("release", "--force", mounted.name)
    assert said.code == 1
    assert "volume 'photos' could not be unmounted (Operation not permitted)" in said.err


@pytest.mark.parametrize(("name", "sentence"), [("films", "volume 'films' not found"), ("../x", "can't be the name")])
def test_release_of_what_is_no_volume_says_so(administrator: Administrator, name: str, sentence: str) -> None:
    said = administrator("release", "--force", name)
    assert said.code == 2
    assert sentence in said.err


@pytest.mark.usefixtures("mounted")
def test_release_that_fails_says_why(administrator: Administrator, systemctl: Programs) -> None:
    systemctl.add("release", "echo 'Operation not permitted' >&2; exit 1")
    said = administrator("release", "photos")
    assert said.code == 1
    assert "volume 'photos' could not be unmounted (Operation not permitted): journalctl -u" in said.err
