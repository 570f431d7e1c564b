# SPDX-License-Identifier: MIT
"""Volumes as detached processes, with a stand-in for their steps that does what the test says."""

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.kernel import FakeKernel
from support.preflight import LOGIN
from support.processes import has_ended
from support.programs import STAT_ANSWERED, STAT_UNANSWERED, Programs
from support.waiting import LIMIT_SECONDS, Background, DeadlineOnce, await_that, now, soon

from sshfs_plugin import errors, options
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.mounts.processes import ProcessSupervisor
from sshfs_plugin.settings import Settings
from sshfs_plugin.volume import Volume, VolumeName

PHOTOS = VolumeName("photos")
OPTIONS = {"sshcmd": "bob@nas:/photos", "password": "hunter2"}


def volume(name: str) -> Volume:
    return options.parse(VolumeName(name), {**OPTIONS, "own_connection": "yes"}, datetime.now(UTC))


PHOTOS_VOLUME = volume(PHOTOS)


# the keeper is left behind on purpose: it outlives the service
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")

STAND_IN = """#!{python} -IS
import fcntl, os, pathlib, signal, sys

verb, name = sys.argv[1:] or ("release", "")
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as calls:
    print(*filter(None, (verb, name)), file=calls)
plan = here / (verb + ".plan")
words = plan.read_text().split() if plan.exists() else []
if verb == "keep":
    with (here / "keepers").open("a") as keepers:
        print(os.getpid(), file=keepers)
    locks = pathlib.Path(os.environ["SSHFS_PLUGIN_RUNTIME"], "locks")
    locks.mkdir(exist_ok=True)
    lock = (locks / name).open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
if "connect" in words and not os.fork():
    os.setpgid(0, 0)  # as the ssh of a relay
    with (here / "keepers").open("a") as keepers:
        print(os.getpid(), file=keepers)
if "fail" in words:
    sys.exit("read: Connection reset by peer\\nPermission denied (publickey).")
if "mount" in words:
    with (here / "mountinfo").open("a") as mountinfo:
        mountpoint = pathlib.Path(os.environ["SSHFS_PLUGIN_MOUNTS"], name)
        print(f"36 35 0:99 / {{mountpoint}} rw - fuse.sshfs me@nas:/photos rw", file=mountinfo)
if "tell" in words:
    pathlib.Path(os.environ["SSHFS_PLUGIN_RUNTIME"], "mounts", name, "told").write_text("answered\\n")
if "over" in words:
    pathlib.Path(os.environ["SSHFS_PLUGIN_RUNTIME"], "mounts", name, "told").write_text("ended\\n")
if "stay" in words:
    signal.pause()
if verb == "release":
    for request in pathlib.Path(os.environ["SSHFS_PLUGIN_RUNTIME"], "releases").iterdir():
        request.unlink()
if "unmount" in words:
    (here / "mountinfo").resolve().write_text("")
if "end" in words:
    os.kill(int((here / "keepers").read_text().split()[-1]), signal.SIGKILL)
"""


class Steps:
    """The stand-in in its place, and the plans for what its verbs do."""

    def __init__(self, settings: Settings, mountinfo: Path) -> None:
        self.directory = settings.libexec
        self.directory.mkdir()
        for name in ("volume", "release"):
            program = self.directory / name
            program.write_text(STAND_IN.format(python=sys.executable))
            program.chmod(0o755)
        (self.directory / "mountinfo").symlink_to(mountinfo)

    def plan(self, verb: str, words: str) -> None:
        """Say what a verb does."""
        (self.directory / f"{verb}.plan").write_text(words)

    @property
    def calls(self) -> list[str]:
        """What it was called with, in order."""
        return (self.directory / "calls").read_text().splitlines()

    @property
    def keepers(self) -> list[int]:
        """The processes that keep volumes, or did."""
        noted = self.directory / "keepers"
        return [int(line) for line in noted.read_text().split()] if noted.exists() else []

    @property
    def keeper(self) -> int:
        """The only one of them."""
        (keeper,) = self.keepers
        return keeper

    def end_keepers(self) -> None:
        """Leave none behind, nor touch a process that has got the number of one that has ended."""
        for keeper in self.keepers:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if str(self.directory).encode() in Path(f"/proc/{keeper}/cmdline").read_bytes():
                    os.kill(keeper, signal.SIGKILL)


def once_kept(keeping: ProcessSupervisor, steps: Steps, *, processes: int = 1) -> Deadline:
    """Return a deadline that comes when the keeper of a volume runs, however long that takes to begin."""

    def runs() -> bool:
        if not keeping.files(PHOTOS).directory.exists():
            return False  # it is not asked for yet
        await_that(lambda: len(steps.keepers) == processes, lambda: "it does not run")
        return True

    return DeadlineOnce(Deadline.after(60.4).at, runs)  # which is said as 60 if a busy host has lost some of it


@pytest.fixture
def steps(settings: Settings, fake_kernel: FakeKernel, programs: Programs) -> Iterator[Steps]:
    """Give a host on which mounts come up and answer."""
    programs.add("stat", STAT_ANSWERED)
    settings.runtime.mkdir()
    steps = Steps(settings, fake_kernel.mountinfo)
    steps.plan("keep", "mount tell stay")
    yield steps
    steps.end_keepers()


@pytest.fixture
def keeping(settings: Settings, steps: Steps) -> ProcessSupervisor:
    del steps
    return ProcessSupervisor(settings)


def test_start_leaves_a_keeper_in_a_session_of_its_own(keeping: ProcessSupervisor, steps: Steps) -> None:
    keeping.start(PHOTOS_VOLUME, LOGIN, soon())
    assert steps.calls == ["keep photos"]
    assert os.getsid(steps.keeper) == steps.keeper != os.getsid(0)


def test_start_of_a_volume_that_is_kept_already_starts_nothing(keeping: ProcessSupervisor, steps: Steps) -> None:
    keeping.start(PHOTOS_VOLUME, LOGIN, soon())
    keeping.start(PHOTOS_VOLUME, LOGIN, soon())
    assert steps.calls == ["keep photos"]


def test_start_of_a_volume_that_is_kept_is_no_success_while_its_mount_does_not_answer(
    keeping: ProcessSupervisor, programs: Programs
) -> None:
    keeping.start(PHOTOS_VOLUME, LOGIN, soon())
    programs.add("stat", STAT_UNANSWERED)
    with pytest.raises(errors.MountTimedOut, match="its server does not answer"):
        keeping.start(PHOTOS_VOLUME, LOGIN, Deadline.after(2))


def test_start_of_a_volume_whose_keeper_is_about_to_end_waits_for_that(
    keeping: ProcessSupervisor, steps: Steps, fake_kernel: FakeKernel, in_background: Background
) -> None:
    """A service that was killed amid an Unmount has left it so."""
    keeping.start(PHOTOS_VOLUME, LOGIN, soon())
    fake_kernel.mountinfo.write_text("")
    starting = in_background(keeping.start, PHOTOS_VOLUME, LOGIN, soon())
    steps.end_keepers()
    starting.result(LIMIT_SECONDS)
    assert steps.calls == ["keep photos", "keep photos"]


def test_volumes_with_the_longest_of_names_can_be_started(keeping: ProcessSupervisor, steps: Steps) -> None:
    name = VolumeName("x" * 200)
    keeping.start(volume(name), LOGIN, soon())
    assert steps.calls == [f"keep {name}"]


def test_failed_start_speaks_in_the_last_words_of_ssh(keeping: ProcessSupervisor, steps: Steps) -> None:
    steps.plan("keep", "fail")
    with pytest.raises(errors.MountFailed) as refusal:
        keeping.start(PHOTOS_VOLUME, LOGIN, soon())
    assert str(refusal.value) == (
        "sshfs could not mount volume 'photos', its last words: Permission denied (publickey)."
    )
    steps.plan("keep", "mount tell stay")
    keeping.start(PHOTOS_VOLUME, LOGIN, soon())


def test_log_that_a_server_fills_is_cut_to_its_last_lines_while_the_keeper_writes_on(
    keeping: ProcessSupervisor, settings: Settings
) -> None:
    keeping.start(PHOTOS_VOLUME, LOGIN, soon())
    log = settings.logs / PHOTOS
    with log.open("ab", buffering=0) as keeper_s:
        keeper_s.write(b"short\n")
        keeping.shorten_logs()
        assert log.read_bytes() == b"short\n"
        keeper_s.write(b"a banner without end\n" * 100_000 + b"Connection reset by peer\n")
        keeping.shorten_logs()
        keeper_s.write(b"later\n")
    lines = log.read_text().splitlines()
    assert lines[-2:] == ["Connection reset by peer", "later"]
    assert set(lines[:-2]) == {"a banner without end"}
    assert log.stat().st_size < 100_000


def test_log_without_a_line_break_is_cut_as_well(keeping: ProcessSupervisor, settings: Settings) -> None:
    keeping.start(PHOTOS_VOLUME, LOGIN, soon())
    log = settings.logs / PHOTOS
    with log.open("ab", buffering=0) as keeper_s:
        keeper_s.write(b"x" * 3_000_000)
    keeping.shorten_logs()
    assert 0 < log.stat().st_size < 100_000


def test_log_of_a_volume_that_an_error_names_has_what_its_sshfs_has_said(
    keeping: ProcessSupervisor, settings: Settings
) -> None:
    assert keeping.log(PHOTOS) == str(keeping._log(PHOTOS)) == str(settings.logs / "photos")


def test_a_host_on_which_nothing_was_mounted_has_no_logs_to_cut(keeping: ProcessSupervisor) -> None:
    keeping.shorten_logs()


def test_start_that_takes_too_long_is_ended_and_cleaned_up(
    keeping: ProcessSupervisor, steps: Steps, fake_kernel: FakeKernel
) -> None:
    steps.plan("keep", "stay")
    steps.plan("clean", "unmount")
    keeping.mountpoint(PHOTOS).mkdir(parents=True)
    fake_kernel.mount(keeping.mountpoint(PHOTOS))
    with pytest.raises(errors.MountTimedOut, match="was not usable after 60 seconds and was given up"):
        keeping.start(PHOTOS_VOLUME, LOGIN, once_kept(keeping, steps))
    assert steps.calls == ["keep photos", "clean photos"]
    assert keeping.mounted() == {}
    with pytest.raises(ProcessLookupError):
        os.kill(steps.keeper, 0)


def test_start_that_takes_too_long_leaves_no_ssh_that_waits_for_the_server(
    keeping: ProcessSupervisor, steps: Steps
) -> None:
    """Each has a process group of its own, which its relay ends with it."""
    steps.plan("keep", "connect stay")
    with pytest.raises(errors.MountTimedOut):
        keeping.start(PHOTOS_VOLUME, LOGIN, once_kept(keeping, steps, processes=2))
    await_that(lambda: all(map(has_ended, steps.keepers)), lambda: "both have ended")


def test_start_that_takes_too_long_leaves_no_password_even_if_its_cleaning_up_does_too(
    keeping: ProcessSupervisor, steps: Steps, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sshfs_plugin.mounts.processes.CLEAN_UP_SECONDS", 1.0)
    steps.plan("keep", "stay")
    steps.plan("clean", "stay")
    with pytest.raises(errors.MountTimedOut):
        keeping.start(PHOTOS_VOLUME, LOGIN, once_kept(keeping, steps))
    assert steps.calls[0] == "keep photos"
    assert "what a failed start has mounted may stay: volume did not end within 1 seconds" in caplog.text
    assert not keeping.files(PHOTOS).directory.exists()


def test_keeper_that_goes_on_after_it_has_told_of_its_end_is_ended_and_cleaned_up(
    keeping: ProcessSupervisor, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sshfs_plugin.mounts.processes.CLEAN_UP_SECONDS", 4.0)  # its program starts within it, too
    steps.plan("keep", "over stay")
    with pytest.raises(errors.MountFailed, match="did not say why: docker-volume-sshfs check photos tries the server$"):
        keeping.start(PHOTOS_VOLUME, LOGIN, soon())
    assert steps.calls == ["keep photos", "clean photos"]
    assert not keeping.files(PHOTOS).directory.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(steps.keeper, 0)


def test_service_with_more_than_a_thousand_open_files_mounts_as_any_other(keeping: ProcessSupervisor) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, before[1]), before[1]))
    try:
        with contextlib.ExitStack() as opened:
            descriptor = 0
            while descriptor < 1024:
                descriptor = os.dup(0)
                opened.callback(os.close, descriptor)
            keeping.start(PHOTOS_VOLUME, LOGIN, soon())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_what_a_keeper_reads_is_there_for_as_long_as_the_volume_is_mounted(
    keeping: ProcessSupervisor, settings: Settings, steps: Steps
) -> None:
    keeping.start(PHOTOS_VOLUME, LOGIN, soon())
    found = {path.name for path in (settings.unit_files / PHOTOS).iterdir()}
    assert found == {"environment", "ssh_config", "password", "told"}
    steps.plan("release", "unmount end")
    keeping.release(PHOTOS, soon())
    steps.plan("keep", "fail")
    with pytest.raises(errors.MountFailed):
        keeping.start(volume("films"), LOGIN, soon())
    assert list(settings.unit_files.iterdir()) == []


def test_files_of_a_volume_that_is_kept_no_more_are_removed_by_the_next_service(
    keeping: ProcessSupervisor, steps: Steps
) -> None:
    steps.plan("keep", "tell stay")
    keeping.start(PHOTOS_VOLUME, LOGIN, soon())
    keeping.files(VolumeName("films")).write(volume("films"), LOGIN, keeping.settings)
    keeping.settle()
    assert keeping.files(PHOTOS).environment.exists()
    assert not keeping.files(VolumeName("films")).directory.exists()
    steps.end_keepers()
    await_that(lambda: not keeping.is_kept(PHOTOS), lambda: "the keeper has ended")
    keeping.settle()
    assert not keeping.files(PHOTOS).directory.exists()


def test_connections_that_nobody_has_begun_to_make_are_removed_by_the_next_service(keeping: ProcessSupervisor) -> None:
    """Else volumes that have joined them would wait for most of a minute."""
    made = {}
    for port in ("22", "2222"):
        sharing = options.parse(PHOTOS, {**OPTIONS, "port": port}, datetime.now(UTC))
        made[port], _ = keeping.connections.join(sharing, LOGIN)
    (begun, forgotten) = made.values()
    assert begun
    assert forgotten
    (begun.directory / "said").touch()
    keeping.settle()
    assert keeping.connections.all() == [begun]


@pytest.mark.parametrize("program", ["connection", "volume"])
def test_start_for_which_no_program_can_be_started_says_so_and_leaves_nothing(
    keeping: ProcessSupervisor, steps: Steps, program: str
) -> None:
    for name in ("connection", "volume"):
        (steps.directory / name).write_text("#!/nowhere/sh\n" if name == program else "#!/bin/sh\n")
        (steps.directory / name).chmod(0o755)
    sharing = options.parse(PHOTOS, OPTIONS, datetime.now(UTC))
    with pytest.raises(errors.ProgramNotStarted) as refusal:
        keeping.start(sharing, LOGIN, soon())
    assert str(refusal.value) == (
        f"cannot start {program}, No such file or directory: "
        "is it installed, and has this host processes and memory left?"
    )
    assert not keeping.files(PHOTOS).directory.exists()
    assert [each.shared_by for each in keeping.connections.all()] == ([] if program == "connection" else [set()])


@pytest.mark.parametrize("place", ["logs", "told", "said"])
def test_start_for_which_run_has_no_room_says_so_and_leaves_nothing(
    keeping: ProcessSupervisor, settings: Settings, steps: Steps, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    del steps
    if place == "told":
        monkeypatch.setattr(os, "mkfifo", lambda *_: None)  # and so its end can't be opened
    elif place == "said":
        monkeypatch.setattr(Path, "write_bytes", lambda path, _: path.mkdir())  # and so it can't be opened
    else:
        settings.logs.touch()
    with pytest.raises(errors.StateError):
        keeping.start(options.parse(PHOTOS, OPTIONS, datetime.now(UTC)), LOGIN, soon())
    assert keeping.connections.all() == [], "others would wait for it"
    assert not keeping.files(PHOTOS).directory.exists(), "a password is among them"


def test_release_waits_until_the_keeper_has_cleaned_up(keeping: ProcessSupervisor, steps: Steps) -> None:
    keeping.start(PHOTOS_VOLUME, LOGIN, soon())
    steps.plan("release", "unmount end")
    assert keeping.release(PHOTOS, soon())
    assert steps.calls == ["keep photos", "release"]


def test_release_of_a_volume_that_nobody_keeps_is_done_at_once(keeping: ProcessSupervisor, steps: Steps) -> None:
    assert keeping.release(PHOTOS, soon())
    assert steps.calls == ["release"]


def test_release_of_a_used_volume_leaves_its_keeper_alone(
    keeping: ProcessSupervisor, steps: Steps, fake_kernel: FakeKernel
) -> None:
    keeping.start(PHOTOS_VOLUME, LOGIN, soon())
    fake_kernel.mount(keeping.mountpoint(PHOTOS))
    assert not keeping.release(PHOTOS, soon())
    os.kill(steps.keeper, 0)


def test_release_by_force_takes_a_used_volume_away_and_waits_for_its_keeper(
    keeping: ProcessSupervisor, steps: Steps, fake_kernel: FakeKernel, in_background: Background
) -> None:
    keeping.start(PHOTOS_VOLUME, LOGIN, soon())
    keeping.mountpoint(PHOTOS).mkdir(parents=True)
    fake_kernel.mount(keeping.mountpoint(PHOTOS))
    releasing = in_background(keeping.release_by_force, PHOTOS, soon())
    while keeping.mounted():
        assert not releasing.done()
    steps.end_keepers()
    releasing.result()
    fake_kernel.mount(keeping.mountpoint(PHOTOS))
    keeping.start(PHOTOS_VOLUME, LOGIN, soon())
    with pytest.raises(errors.UnmountFailed, match="sshfs does not end"):
        keeping.release_by_force(PHOTOS, now())


def test_failed_release_says_why(keeping: ProcessSupervisor, steps: Steps) -> None:
    steps.plan("release", "fail")
    with pytest.raises(errors.UnmountFailed) as refusal:
        keeping.release(PHOTOS, soon())
    assert "Permission denied" in str(refusal.value)
    assert str(refusal.value).endswith(": findmnt -t fuse.sshfs shows whether it still is")


def test_release_that_comes_to_no_end_says_so(keeping: ProcessSupervisor, steps: Steps) -> None:
    keeping.start(PHOTOS_VOLUME, LOGIN, soon())
    steps.plan("release", "stay")
    with pytest.raises(errors.UnmountFailed, match=r"volume 'photos' could not be unmounted \(it took too long\)"):
        keeping.release(PHOTOS, Deadline.after(2))


def test_release_of_a_volume_whose_keeper_does_not_end_says_so(keeping: ProcessSupervisor, steps: Steps) -> None:
    keeping.start(PHOTOS_VOLUME, LOGIN, soon())
    steps.plan("release", "unmount")
    once_unmounted = DeadlineOnce(soon().at, lambda: not keeping.mounted())
    with pytest.raises(errors.UnmountFailed, match=r"volume 'photos' could not be unmounted \(sshfs does not end\)"):
        keeping.release(PHOTOS, once_unmounted)


def test_keeper_runs_with_the_settings_of_the_service(
    keeping: ProcessSupervisor, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSHFS_PLUGIN_RUNTIME", "/elsewhere")
    keeping.start(PHOTOS_VOLUME, LOGIN, soon())
    assert (settings.locks / PHOTOS).exists()
