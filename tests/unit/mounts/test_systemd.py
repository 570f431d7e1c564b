# SPDX-License-Identifier: MIT
"""Volumes as units, with stand-ins for systemctl and journalctl that note what they were asked."""

import errno
import fcntl
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.kernel import FakeKernel
from support.preflight import LOGIN
from support.programs import STAT_ANSWERED, STAT_UNANSWERED, Programs, answering_releases
from support.system_bus import bus_at
from support.waiting import LIMIT_SECONDS, Background, await_that, soon

from sshfs_plugin import errors, options
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.host import command, system_bus
from sshfs_plugin.mounts import kernel, systemd
from sshfs_plugin.mounts.systemd import SystemdSupervisor
from sshfs_plugin.settings import Settings
from sshfs_plugin.volume import HostKeyCheck, VolumeName

PHOTOS = VolumeName("photos")
UNIT = "docker-volume-sshfs@photos.service"
RELEASE = "docker-volume-sshfs-release.service"
OPTIONS = {"sshcmd": "bob@nas:/photos", "password": "hunter2"}
SHARING = options.parse(PHOTOS, OPTIONS, datetime.now(UTC))
VOLUME = options.parse(PHOTOS, {**OPTIONS, "own_connection": "yes"}, datetime.now(UTC))
IGNORING = "--job-mode=ignore-dependencies"
ASKED = f"show -P ActiveState {UNIT}"
ENDED = '[ "$1 $2" != "show -P" ] || echo inactive'
"""What systemctl shows of a unit whose start has failed."""


def telling(keeping: SystemdSupervisor, *words: str, name: VolumeName = PHOTOS) -> str:
    """Return a systemctl that starts a unit, whose steps tell something a moment later."""
    lines = "".join(f"{word}\\n" for word in words)
    tell = f"(sleep 0.1; printf '{lines}' 1<>{keeping.files(name).told}) >/dev/null 2>&1 &"
    return f"""[ "$1" != start ] || {tell}\n{ENDED}"""


def showing(state: str, substate: str = "x") -> str:
    """Return a systemctl that shows the state of the unit, and starts nothing."""
    shown = f"Id={UNIT}\nActiveState={state}\nSubState={substate}\nLoadState=loaded"
    return f"""case "$1 $2" in "show -P") echo {state} ;; show*) echo '{shown}' ;; esac"""


UNANSWERED = "exit 75"
"""What systemctl does for a start that the system bus does not answer."""


def started_by_systemctl(unit: str, mode: str) -> str | None:
    """Start a unit by the stand-in for systemctl, which knows what the test wants."""
    asked = ["systemctl", "start", f"--job-mode={mode}", "--no-block", unit]
    job = subprocess.run(asked, check=False, capture_output=True, text=True)
    return None if job.returncode == 75 else job.stderr or "it fails" * (job.returncode != 0)


@pytest.fixture
def keeping(
    settings: Settings, programs: Programs, fake_kernel: FakeKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SystemdSupervisor]:
    """Give units on a host on which everything works and nothing is mounted."""
    del fake_kernel
    programs.add("systemctl")
    programs.add("journalctl")
    programs.add("stat", STAT_ANSWERED)
    monkeypatch.setattr(system_bus, "ADDRESS", str(tmp_path / "bus"))
    for limit in ("ASK_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(systemd, limit, LIMIT_SECONDS)
    with bus_at(tmp_path / "bus", started_by_systemctl):
        yield SystemdSupervisor(settings)


def test_start_waits_for_no_other_job_but_until_the_steps_tell_that_the_mount_answers(
    keeping: SystemdSupervisor, programs: Programs
) -> None:
    programs.add("systemctl", telling(keeping, "answered"))
    keeping.start(VOLUME, LOGIN, soon())
    assert programs.calls("systemctl") == [f"start {IGNORING} --no-block {UNIT}"]
    assert programs.calls("stat") == [], "the step has asked the mount already"


def test_start_of_an_active_unit_asks_its_mount(
    keeping: SystemdSupervisor, programs: Programs, fake_kernel: FakeKernel
) -> None:
    keeping.files(PHOTOS).write(VOLUME, LOGIN, keeping.settings)
    programs.add("systemctl", showing("active"))
    fake_kernel.mount(keeping.mountpoint(PHOTOS))
    keeping.start(VOLUME, LOGIN, soon())
    (question,) = programs.calls("stat")
    assert question.startswith(f"--printf= {keeping.mountpoint(PHOTOS)}/.docker-volume-sshfs-")
    programs.add("stat", STAT_UNANSWERED)
    with pytest.raises(errors.MountTimedOut, match="its server does not answer"):
        keeping.start(VOLUME, LOGIN, Deadline.after(2))
    fake_kernel.mountinfo.write_text("")
    with pytest.raises(errors.MountFailed, match="was unmounted by hand"):
        keeping.start(VOLUME, LOGIN, soon())
    assert {call.split()[0] for call in programs.calls("systemctl")} == {"show"}


def test_unit_that_is_ending_is_waited_for_since_it_removes_the_files(
    keeping: SystemdSupervisor, programs: Programs
) -> None:
    """Its volume was unmounted by hand just as a container starts."""
    files = keeping.files(PHOTOS)
    files.write(VOLUME, LOGIN, keeping.settings)
    ending = f'echo deactivating; [ ! -e "$HERE/asked" ] || rm -rf {files.directory}; touch "$HERE/asked"'
    programs.add("systemctl", f'if [ "$1" = show ]; then {ending}; exit; fi; {telling(keeping, "answered")}')
    keeping.start(VOLUME, LOGIN, soon())
    assert programs.calls("systemctl") == [ASKED, ASKED, f"start {IGNORING} --no-block {UNIT}"]
    assert files.environment.exists()


def test_unit_whose_steps_were_killed_before_they_could_tell_is_looked_at(
    keeping: SystemdSupervisor, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(systemd, "LAST_WORDS_SECONDS", 0.0)
    programs.add("systemctl", showing("active"))
    keeping.start(VOLUME, LOGIN, soon())
    # the last is that of a unit whose sshfs was killed: it will be started again, perhaps for ever
    for state in ("inactive", "failed", "activating"):
        programs.add("systemctl", showing(state, "auto-restart"))
        with pytest.raises(errors.MountFailed, match="did not say why: .*; journalctl VOLUME=photos tells more"):
            keeping.start(VOLUME, LOGIN, soon())


def test_start_has_the_shared_connection_made_meanwhile_unless_somebody_else_does(
    keeping: SystemdSupervisor, programs: Programs, settings: Settings
) -> None:
    programs.add("systemctl", telling(keeping, "answered"))
    keeping.start(SHARING, LOGIN, soon())
    (connection,) = (path for path in settings.connections.iterdir() if path.is_dir())
    music = VolumeName("music")
    programs.add("systemctl", telling(keeping, "answered", name=music))
    keeping.start(replace(SHARING, name=music), LOGIN, soon())
    made = f"docker-volume-sshfs-connection@{connection.name}.service"
    starts = [call for call in programs.calls("systemctl") if call.startswith("start")]
    assert starts == [
        f"start {IGNORING} --no-block {made}",
        f"start {IGNORING} --no-block {UNIT}",
        f"start {IGNORING} --no-block docker-volume-sshfs@music.service",
    ]
    for name in (PHOTOS, music):
        environment = keeping.files(name).environment.read_text()
        assert f'SSHFS_PLUGIN_CONNECTION="{connection}"\n' in environment
        assert f'SSHFS_PLUGIN_LOGIN="{settings.logins / connection.name.partition("-")[0]}"\n' in environment
    keeping.discard_files(music)
    assert {path.name for path in (connection / "volumes").iterdir()} == {PHOTOS}


@pytest.mark.parametrize("trouble", ["exit 1", UNANSWERED])
def test_connection_that_nothing_begins_to_make_is_waited_for_by_nobody(
    keeping: SystemdSupervisor, programs: Programs, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "LAST_WORDS_SECONDS", 0.0)
    programs.add("systemctl", f'[ "$3" != --no-block ] || {trouble}')
    with pytest.raises(errors.MountError):
        keeping.start(SHARING, LOGIN, Deadline.after(1) if trouble == UNANSWERED else soon())
    assert keeping.connections.all() == []


def test_connection_of_a_volume_whose_own_files_cannot_be_written_is_waited_for_by_nobody(
    keeping: SystemdSupervisor, settings: Settings
) -> None:
    settings.unit_files.parent.mkdir(parents=True, exist_ok=True)
    settings.unit_files.touch()
    with pytest.raises(errors.StateError):
        keeping.start(SHARING, LOGIN, soon())
    assert keeping.connections.all() == []


def test_nothing_is_left_of_a_start_that_cannot_hear_the_steps_of_its_unit(
    keeping: SystemdSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "mkfifo", lambda *_: None)  # and so its end can't be opened
    with pytest.raises(errors.StateError, match="cannot read"):
        keeping.start(SHARING, LOGIN, soon())
    assert keeping.connections.all() == [], "others would wait for it"
    assert not keeping.files(PHOTOS).directory.exists(), "a password is among them"


def test_nothing_is_left_of_a_start_for_which_the_bus_has_an_answer_that_nobody_expects(
    keeping: SystemdSupervisor, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_unit(*_: str, **_limits: object) -> str:
        raise ValueError("no message")

    programs.add("systemctl", ENDED)
    monkeypatch.setattr(system_bus, "start_unit", start_unit)
    with pytest.raises(ValueError, match="no message"):
        keeping.start(SHARING, LOGIN, soon())
    assert keeping.connections.all() == []
    assert not keeping.files(PHOTOS).directory.exists()
    assert programs.calls("systemctl") == [ASKED, f"stop {IGNORING} {UNIT}", f"reset-failed {UNIT}"]


def test_connection_that_a_killed_service_has_not_had_made_is_waited_for_by_nobody(
    keeping: SystemdSupervisor, programs: Programs
) -> None:
    begun, unbegun = (
        keeping.connections.join(replace(SHARING, name=VolumeName(name), host_key_check=check), LOGIN)[0]
        for name, check in (("aa", HostKeyCheck.NO), ("bb", HostKeyCheck.YES))
    )
    assert begun and unbegun
    programs.add(
        "systemctl",
        f"""for unit in "$@"; do case $unit in
            *{begun.name}*) printf 'Id=%s\nActiveState=activating\nSubState=start\nLoadState=loaded\n\n' "$unit" ;;
            *@*) printf 'Id=%s\nActiveState=inactive\nSubState=dead\nLoadState=loaded\n\n' "$unit" ;;
        esac; done""",
    )
    keeping.settle()
    assert keeping.connections.all() == [begun]
    programs.add("systemctl", "exit 1")
    keeping.settle()
    assert keeping.connections.all() == [begun], "systemd can't be asked"


def test_failed_start_speaks_in_the_words_of_the_units_journal_and_leaves_nothing(
    keeping: SystemdSupervisor, programs: Programs
) -> None:
    programs.add("systemctl", telling(keeping, "ended"))
    programs.add("journalctl", '[ "$1" = --sync ] || echo "Permission denied (publickey)."')
    with pytest.raises(errors.MountFailed) as refusal:
        keeping.start(VOLUME, LOGIN, soon())
    assert str(refusal.value) == (
        "sshfs could not mount volume 'photos', its last words: Permission denied (publickey)."
    )
    assert programs.calls("systemctl") == [
        f"start {IGNORING} --no-block {UNIT}",
        ASKED,
        f"stop {IGNORING} {UNIT}",
        f"reset-failed {UNIT}",
    ]
    sync, read = programs.calls("journalctl")
    assert sync == "--sync"
    assert f"_SYSTEMD_UNIT={UNIT}" in read
    assert "--since=@" in read


def test_a_volumes_unit_finds_what_it_reads_and_nothing_of_it_outlives_a_start_that_failed(
    keeping: SystemdSupervisor, programs: Programs, settings: Settings
) -> None:
    programs.add("systemctl", f'[ "$1" != start ] || {{ cp -r {settings.unit_files} "$HERE/found"; exit 1; }}; {ENDED}')
    programs.add("journalctl", '[ "$1" = --sync ] || echo "Permission denied (publickey)."')
    with pytest.raises(errors.MountFailed):
        keeping.start(VOLUME, LOGIN, soon())
    found = {path.name for path in (programs.directory / "found/photos").iterdir()}
    assert found == {"environment", "ssh_config", "password", "told"}
    assert list(settings.unit_files.iterdir()) == []


def test_what_a_running_unit_reads_stays_when_another_start_fails(
    keeping: SystemdSupervisor, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "LAST_WORDS_SECONDS", 0.0)
    programs.add("systemctl", 'case "$1" in show) echo active ;; start) exit 1 ;; esac')
    with pytest.raises(errors.MountFailed):
        keeping.start(VOLUME, LOGIN, soon())
    assert keeping.files(PHOTOS).environment.exists()


def test_what_an_active_unit_reads_is_not_written_anew(keeping: SystemdSupervisor, programs: Programs) -> None:
    """Its sshfs would connect to the old server with the new volume's password."""
    programs.add("systemctl", telling(keeping, "answered"))
    keeping.start(VOLUME, LOGIN, soon())
    before = keeping.files(PHOTOS).environment.stat().st_mtime_ns
    programs.add("systemctl", '[ "$1" != show ] || echo active')
    with pytest.raises(errors.MountFailed, match="was unmounted by hand"):
        keeping.start(VOLUME, LOGIN, soon())
    assert keeping.files(PHOTOS).environment.stat().st_mtime_ns == before
    assert keeping.is_kept(PHOTOS)
    assert not keeping.is_kept(VolumeName("films"))


@pytest.mark.parametrize("fault", ["echo inactive; exit 1", "exit 0"])
def test_unit_whose_state_systemd_does_not_tell_is_neither_stopped_nor_are_its_files_written_anew(
    keeping: SystemdSupervisor, programs: Programs, fake_kernel: FakeKernel, fault: str
) -> None:
    keeping.files(PHOTOS).write(VOLUME, LOGIN, keeping.settings)
    before = keeping.files(PHOTOS).environment.stat().st_mtime_ns
    fake_kernel.mount(keeping.mountpoint(PHOTOS))
    programs.add("systemctl", fault)
    keeping.start(VOLUME, LOGIN, soon())
    assert not keeping.end_unless_kept(PHOTOS, soon())
    assert keeping.files(PHOTOS).environment.stat().st_mtime_ns == before
    assert programs.calls("systemctl") == [ASKED, ASKED]


def test_failed_start_after_which_systemctl_cannot_be_started_says_why_it_failed(
    keeping: SystemdSupervisor, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.add("systemctl", telling(keeping, "ended"))
    programs.add("journalctl", '[ "$1" = --sync ] || echo "Permission denied (publickey)."')
    refuse(monkeypatch, "systemctl")
    with pytest.raises(errors.MountFailed, match="its last words: Permission denied"):
        keeping.start(VOLUME, LOGIN, soon())
    assert keeping.files(PHOTOS).environment.exists(), "the unit may be active"


@pytest.mark.parametrize("state", ["active", "activating", "deactivating", "failed", "inactive"])
def test_unit_of_an_unmounted_volume_is_ended_unless_it_is_active(
    keeping: SystemdSupervisor, programs: Programs, state: str
) -> None:
    """Where sshfs was killed, systemd waits for a second before it starts the unit again."""
    keeping.files(PHOTOS).write(VOLUME, LOGIN, keeping.settings)
    programs.add("systemctl", showing(state))
    assert keeping.end_unless_kept(PHOTOS, soon()) == (state != "active")
    ended = [f"stop {IGNORING} {UNIT}", f"reset-failed {UNIT}"] if state not in ("active", "inactive") else []
    assert programs.calls("systemctl") == [ASKED, *ended]


def test_unit_of_a_volume_that_has_none_is_not_asked_for(keeping: SystemdSupervisor, programs: Programs) -> None:
    assert keeping.end_unless_kept(PHOTOS, soon())
    assert programs.calls("systemctl") == []


def test_a_request_that_can_not_be_written_is_a_failed_release(keeping: SystemdSupervisor, settings: Settings) -> None:
    settings.releases.parent.mkdir(parents=True, exist_ok=True)
    settings.releases.write_text("a file in its place")
    with pytest.raises(errors.UnmountFailed, match=f"could not be unmounted .{settings.releases}: "):
        keeping.release(PHOTOS, soon())


def test_time_is_left_to_stop_a_unit_that_does_not_end_by_itself(
    keeping: SystemdSupervisor, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Podman gives us 4.5 seconds for all of it."""
    waited: list[float] = []

    def in_vain(_: Path, seconds: float) -> bool:
        waited.append(seconds)
        return False

    monkeypatch.setattr(systemd, "END_SECONDS", LIMIT_SECONDS)
    monkeypatch.setattr(kernel, "await_absence", in_vain)
    keeping.mountpoint(PHOTOS).mkdir(parents=True)
    programs.add("systemctl", answering_releases(keeping.settings))
    assert keeping.release(PHOTOS, soon())
    assert 0 < waited[0] <= LIMIT_SECONDS / 2
    assert programs.calls("systemctl")[-1] == f"stop {IGNORING} {UNIT}"


def test_words_that_reach_the_journal_late_are_waited_for(
    keeping: SystemdSupervisor, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "LAST_WORDS_SECONDS", LIMIT_SECONDS)
    programs.add("systemctl", '[ "$1" != start ]')
    programs.add("journalctl", '[ $(wc -l <"$HERE/journalctl.calls") -lt 6 ] || echo "Connection refused"')
    with pytest.raises(errors.MountFailed, match="Connection refused"):
        keeping.start(VOLUME, LOGIN, soon())


def test_failed_start_without_words_in_the_journal_says_what_systemd_said(
    keeping: SystemdSupervisor, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "LAST_WORDS_SECONDS", 0.0)
    programs.add("systemctl", '[ "$1" != start ] || { echo "Unit x not found." >&2; exit 5; }')
    with pytest.raises(errors.MountFailed, match="its last words: Unit x not found."):
        keeping.start(VOLUME, LOGIN, soon())


@pytest.fixture
def unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the time be up once systemd has been asked for a start, and not before."""

    def asked(unit: str, *, mode: str, seconds: float) -> str:
        started_by_systemctl(unit, mode)
        raise errors.ProgramStuck("systemd", seconds)

    monkeypatch.setattr(system_bus, "start_unit", asked)


@pytest.mark.usefixtures("unanswered")
def test_start_that_takes_too_long_is_given_up(keeping: SystemdSupervisor, programs: Programs) -> None:
    programs.add("systemctl", ENDED)
    with pytest.raises(errors.MountTimedOut, match="was not usable after 55 seconds and was given up"):
        keeping.start(VOLUME, LOGIN, soon())
    assert [call.split(" ")[0] for call in programs.calls("systemctl")] == ["start", "show", "stop", "reset-failed"]


@pytest.mark.usefixtures("unanswered")
def test_start_that_takes_too_long_takes_no_mount_from_those_who_use_it(
    keeping: SystemdSupervisor, programs: Programs, fake_kernel: FakeKernel
) -> None:
    del fake_kernel  # somebody has unmounted it by hand, and containers have it still
    programs.add("systemctl", '[ "$1" != show ] || echo active')
    with pytest.raises(errors.MountTimedOut):
        keeping.start(VOLUME, LOGIN, soon())
    assert programs.calls("systemctl") == [f"start {IGNORING} --no-block {UNIT}", ASKED]


def test_failed_start_of_a_unit_that_was_active_does_not_stop_it(
    keeping: SystemdSupervisor, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the system bus ends at that moment."""
    monkeypatch.setattr(systemd, "LAST_WORDS_SECONDS", 0.0)
    programs.add("systemctl", 'case "$1" in show) echo active ;; start) exit 1 ;; esac')
    with pytest.raises(errors.MountFailed):
        keeping.start(VOLUME, LOGIN, soon())
    assert programs.calls("systemctl") == [f"start {IGNORING} --no-block {UNIT}", ASKED]


def test_what_an_earlier_process_wanted_to_release_is_not_released_any_more(
    keeping: SystemdSupervisor, programs: Programs, settings: Settings
) -> None:
    settings.releases.mkdir(parents=True)
    (settings.releases / PHOTOS).touch()
    keeping.settle()
    assert list(settings.releases.iterdir()) == []
    assert programs.calls("systemctl") == [f"stop {RELEASE}"]


def test_files_of_units_that_have_ended_while_the_service_was_away_are_removed(
    keeping: SystemdSupervisor, programs: Programs, fake_kernel: FakeKernel
) -> None:
    """A unit is being started, or started again, with those that stay."""
    named = {"inactive": "photos", "failed": "films", "activating": "music", "active": "books", "mounted": "maps"}
    for name in map(VolumeName, named.values()):
        keeping.files(name).write(replace(VOLUME, name=name), LOGIN, keeping.settings)
    fake_kernel.mount(keeping.mountpoint(VolumeName("maps")))
    shown = "\n\n".join(
        f"Id=docker-volume-sshfs@{name}.service\nActiveState={state}\nSubState=x\nLoadState=loaded"
        for state, name in named.items()
        if state != "mounted"
    )
    programs.add("systemctl", f"echo '{shown}'")
    keeping.settle()
    assert {path.name for path in keeping.settings.unit_files.iterdir()} == {"music", "books", "maps"}
    assert "maps" not in programs.calls("systemctl")[0]


def test_start_that_takes_too_long_ends_in_our_words_before_systemd_ends_it(
    keeping: SystemdSupervisor, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = (Path(__file__).parents[3] / "systemd/docker-volume-sshfs@.service").read_text()
    systemds = float(re.findall(r"^TimeoutStartSec=(\d+)$", unit, re.MULTILINE)[0])
    assert systemds > systemd.START_SECONDS
    monkeypatch.setattr(systemd, "START_SECONDS", 0.3)
    programs.add("systemctl", f'[ "$1" != start ] || {UNANSWERED}')
    with pytest.raises(errors.MountTimedOut):
        keeping.start(VOLUME, LOGIN, soon())


@pytest.mark.parametrize("trouble", ["hangs", "cannot be started"])
def test_failed_start_whose_journal_cannot_be_read_leaves_nothing_either(
    keeping: SystemdSupervisor, programs: Programs, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(systemd, "JOURNAL_SECONDS", 0.1)
    programs.add("systemctl", f'[ "$1" != start ] || {{ echo "Unit x not found." >&2; exit 5; }}; {ENDED}')
    programs.add("journalctl", "exec sleep 60")
    if trouble == "cannot be started":
        refuse(monkeypatch, "journalctl")
    with pytest.raises(errors.MountFailed, match="its last words: Unit x not found."):
        keeping.start(VOLUME, LOGIN, soon())
    assert programs.calls("systemctl")[-1] == f"reset-failed {UNIT}"


def test_start_for_which_systemd_cannot_be_asked_says_why(
    keeping: SystemdSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping.files(PHOTOS).write(VOLUME, LOGIN, keeping.settings)
    refuse(monkeypatch, "systemctl")
    with pytest.raises(errors.ProgramNotStarted, match="cannot start systemctl, Resource temporarily unavailable"):
        keeping.start(VOLUME, LOGIN, soon())


def test_unit_that_does_not_even_stop_is_logged(
    keeping: SystemdSupervisor,
    programs: Programs,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(systemd, "CLEAN_UP_SECONDS", 0.05)
    programs.add("systemctl", f'case "$1" in show) echo inactive ;; start) {UNANSWERED} ;; *) exec sleep 60 ;; esac')
    with pytest.raises(errors.MountTimedOut):
        keeping.start(VOLUME, LOGIN, Deadline.after(1))
    assert f"{UNIT} does not stop" in caplog.text


def test_release_asks_the_privileged_unit_and_then_waits_for_the_volumes_own_to_end(
    keeping: SystemdSupervisor, programs: Programs, fake_kernel: FakeKernel, in_background: Background
) -> None:
    fake_kernel.mount(keeping.mountpoint(PHOTOS))
    programs.add("systemctl", answering_releases(keeping.settings, fake_kernel))
    mountpoint = keeping.mountpoint(PHOTOS)
    mountpoint.mkdir(parents=True)
    releasing = in_background(keeping.release, PHOTOS, soon())
    await_that(lambda: not keeping.mounted(), lambda: "it is mounted still")
    assert not releasing.done()
    mountpoint.rmdir()
    assert releasing.result()
    assert programs.calls("systemctl") == [f"start {IGNORING} {RELEASE}"]


def test_volumes_that_are_released_at_once_share_a_run(
    keeping: SystemdSupervisor, programs: Programs, settings: Settings, in_background: Background
) -> None:
    wait = f'until [ "$(ls {settings.releases} | wc -l)" = 20 ]; do sleep 0.01; done'
    answer = answering_releases(settings)
    programs.add("systemctl", f'[ "$(wc -l <"$HERE/systemctl.calls")" -gt 1 ] || {{ {wait}; }}; {answer}')
    releasing = [in_background(keeping.release, VolumeName(f"photos-{number}"), soon()) for number in range(20)]
    assert all(release.result() for release in releasing)
    assert programs.calls("systemctl") == [f"start {IGNORING} {RELEASE}"]


def test_release_of_a_used_volume_touches_its_unit_not(
    keeping: SystemdSupervisor, programs: Programs, fake_kernel: FakeKernel
) -> None:
    fake_kernel.mount(keeping.mountpoint(PHOTOS))
    programs.add("systemctl", answering_releases(keeping.settings))
    assert not keeping.release(PHOTOS, soon())
    assert programs.calls("systemctl") == [f"start {IGNORING} {RELEASE}"]


def test_what_is_left_over_is_cleared_by_the_privileged_unit_alone(
    keeping: SystemdSupervisor, programs: Programs
) -> None:
    programs.add("systemctl", answering_releases(keeping.settings))
    keeping.clear(PHOTOS, soon())
    assert programs.calls("systemctl") == [f"start {IGNORING} {RELEASE}"]


def test_release_that_came_too_late_for_a_run_is_asked_for_again(
    keeping: SystemdSupervisor, programs: Programs, settings: Settings
) -> None:
    """Who starts a unit that is about to end is told of its end, and was not seen by it."""
    again = f'[ "$(wc -l <"$HERE/systemctl.calls")" -lt 2 ] || rm {settings.releases}/*'
    programs.add("systemctl", f'case "$3" in {RELEASE}) {again} ;; esac')
    assert keeping.release(PHOTOS, soon())
    assert programs.calls("systemctl") == [f"start {IGNORING} {RELEASE}"] * 2


def test_failed_release_says_why_and_where_to_look_and_wants_nothing_any_more(
    keeping: SystemdSupervisor, programs: Programs, settings: Settings
) -> None:
    programs.add("systemctl", "echo 'Job for release failed.' >&2; exit 1")
    with pytest.raises(errors.UnmountFailed) as refusal:
        keeping.release(PHOTOS, soon())
    assert str(refusal.value) == (
        "volume 'photos' could not be unmounted (Job for release failed.): "
        "journalctl -u 'docker-volume-sshfs*' tells more"
    )
    assert list(settings.releases.iterdir()) == []
    assert programs.calls("systemctl")[-1] == f"reset-failed {RELEASE}"


def refuse(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """Let no program be started whose words include this one."""
    run = command.run

    def refused(argv: Sequence[str | Path], **limits: Any) -> subprocess.CompletedProcess[str]:
        if word in argv:
            problem = BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
            raise errors.ProgramNotStarted(str(argv[0]), problem)
        return run(argv, **limits)

    monkeypatch.setattr(command, "run", refused)


@pytest.mark.parametrize("at", [RELEASE, UNIT])
def test_failed_release_of_which_systemd_says_nothing_does_not_say_why(
    keeping: SystemdSupervisor, programs: Programs, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    monkeypatch.setattr(systemd, "END_SECONDS", 0.0)
    keeping.mountpoint(PHOTOS).mkdir(parents=True)
    programs.add("systemctl", f'[ "$3" != {at} ] || exit 1; {answering_releases(keeping.settings)}')
    with pytest.raises(errors.UnmountFailed, match=r"could not be unmounted \(it does not say why\): "):
        keeping.release(PHOTOS, soon())


@pytest.mark.parametrize("at", [RELEASE, UNIT])
def test_release_for_which_no_program_can_be_started_says_so(
    keeping: SystemdSupervisor, monkeypatch: pytest.MonkeyPatch, programs: Programs, at: str
) -> None:
    programs.add("systemctl", answering_releases(keeping.settings))
    keeping.mountpoint(PHOTOS).mkdir(parents=True)
    monkeypatch.setattr(systemd, "END_SECONDS", 0.0)
    refuse(monkeypatch, at)
    with pytest.raises(errors.UnmountFailed) as refusal:
        keeping.release(PHOTOS, soon())
    assert str(refusal.value) == (
        "volume 'photos' could not be unmounted (cannot start systemctl, Resource temporarily unavailable): "
        "journalctl -u 'docker-volume-sshfs*' tells more"
    )


@pytest.mark.parametrize("hasty_first", [True, False])
def test_release_for_which_there_was_too_little_time_ends_no_run_that_serves_others(
    keeping: SystemdSupervisor,
    programs: Programs,
    settings: Settings,
    in_background: Background,
    hasty_first: bool,
) -> None:
    """A Podman gives us 4.5 seconds."""
    wait = 'until [ -e "$HERE/go" ]; do sleep 0.01; done'
    programs.add("systemctl", f'case "$1 $3" in "start {RELEASE}") {wait}; rm -f {settings.releases}/* ;; esac')

    def begin(name: str, deadline: Deadline) -> Future[bool]:
        releasing = in_background(keeping.release, VolumeName(name), deadline)
        await_that((settings.releases / name).exists, lambda: "it was not asked for")
        return releasing

    calls = [("hasty", Deadline.after(1.5)), ("patient", soon())]
    releasing = {name: begin(name, deadline) for name, deadline in (calls if hasty_first else calls[::-1])}
    with pytest.raises(errors.UnmountFailed, match="it took too long"):
        releasing["hasty"].result()
    assert [path.name for path in settings.releases.iterdir()] == ["patient"]
    (programs.directory / "go").touch()
    assert releasing["patient"].result()
    assert {call.split()[0] for call in programs.calls("systemctl")} == {"start"}


def test_release_that_hangs_while_it_unmounts_goes_on_no_more_when_that_is_said(
    keeping: SystemdSupervisor, programs: Programs, fake_kernel: FakeKernel, in_background: Background
) -> None:
    """It could unmount what the next Mount has found mounted."""
    fake_kernel.mount(keeping.mountpoint(PHOTOS))
    programs.add("systemctl", '[ "$1" != start ] || exec sleep 60')
    request = keeping.settings.releases / PHOTOS
    releasing = in_background(keeping.release, PHOTOS, Deadline.after(2))
    await_that(request.exists, lambda: "it was not asked for")
    with request.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(errors.UnmountFailed, match="it took too long"):
            releasing.result()
    assert not request.exists()
    assert programs.calls("systemctl") == [
        f"start {IGNORING} {RELEASE}",
        f"stop {IGNORING} {RELEASE}",
        f"reset-failed {RELEASE}",
    ]


def test_release_whose_unit_does_not_end_by_itself_stops_it_or_says_so(
    keeping: SystemdSupervisor, programs: Programs, fake_kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "END_SECONDS", 0.0)
    keeping.mountpoint(PHOTOS).mkdir(parents=True)
    programs.add("systemctl", answering_releases(keeping.settings))
    assert keeping.release(PHOTOS, soon())
    assert programs.calls("systemctl")[-1] == f"stop {IGNORING} {UNIT}"
    programs.add("systemctl", f'{answering_releases(keeping.settings, fake_kernel)}; [ "$1" != stop ] || exec sleep 60')
    with pytest.raises(errors.UnmountFailed) as refusal:
        keeping.release(PHOTOS, Deadline.after(2))
    assert str(refusal.value) == (
        "volume 'photos' could not be unmounted (it took too long): journalctl -u 'docker-volume-sshfs*' tells more"
    )
