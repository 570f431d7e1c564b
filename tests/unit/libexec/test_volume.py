# SPDX-License-Identifier: MIT
"""The steps of a volume's unit, with stand-ins for the programs that ask the kernel."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.programs import Programs
from support.waiting import LIMIT_SECONDS

from sshfs_plugin.host import command

STEPS = Path(__file__).parents[3] / "libexec/volume"
MOUNTED = 'grep -m1 . "$HERE/mounted" 2>/dev/null'

Step = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    return tmp_path / "mounts/photos"


@pytest.fixture
def mounted(programs: Programs) -> Path:
    """Give the file that lists the devices of what is mounted at the mountpoint, the uppermost first."""
    return programs.directory / "mounted"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Give the directory with what the service has written for the mount."""
    directory = tmp_path / "run/mounts/photos"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def told(files: Path) -> Iterator[Callable[[], str]]:
    """Listen to what the steps tell."""
    os.mkfifo(files / "told")
    descriptor = os.open(files / "told", os.O_RDONLY | os.O_NONBLOCK)
    yield lambda: os.read(descriptor, 100).decode()
    os.close(descriptor)


@pytest.fixture
def step(programs: Programs, mountpoint: Path, mounted: Path, files: Path, tmp_path: Path) -> Step:
    """Carry out a step of the volume photos, on a kernel that mounts and unmounts as the test says."""
    programs.add("findmnt", MOUNTED)
    programs.add("umount", f"sed -i 1d {mounted}")
    programs.add("chattr")
    programs.add("stat", "echo 8:1 4096 8:1 4096")
    programs.add("sshfs")
    del files
    environment = {
        "SOURCE": "bob@nas:",
        "MOUNTPOINT": str(mountpoint),
        "SSH_CONFIG": "/run/ssh_config",
        "OPTIONS": "reconnect,idmap=user",
        "SSHFS_PLUGIN_RUNTIME": str(tmp_path / "run"),
    }

    def carry_out(name: str, **more: str) -> subprocess.CompletedProcess[str]:
        return command.run([STEPS, name, "photos"], seconds=LIMIT_SECONDS, environment={**environment, **more})

    return carry_out


@pytest.fixture
def sshfs(programs: Programs) -> Iterator[str]:
    """Give the process of an sshfs that runs."""
    programs.add("sshfs", "read until_the_end")
    with subprocess.Popen([programs.directory / "sshfs"], stdin=subprocess.PIPE) as process:
        yield str(process.pid)
        process.kill()


# mount and clean


def test_mount_becomes_sshfs(step: Step, mountpoint: Path, programs: Programs) -> None:
    programs.add("sshfs", "exit 3")
    assert step("mount").returncode == 3
    assert programs.calls("sshfs") == [f"-f bob@nas: {mountpoint} -F /run/ssh_config -o reconnect,idmap=user"]


def test_mount_makes_an_immutable_mountpoint_for_root_alone(step: Step, mountpoint: Path, programs: Programs) -> None:
    assert step("mount").returncode == step("mount").returncode == 0
    assert [path.stat().st_mode & 0o777 for path in (mountpoint, mountpoint.parent)] == [0o700, 0o700]
    assert programs.calls("chattr") == [f"+i {mountpoint}"] * 2


def test_mount_where_the_file_system_knows_no_immutable_directory_goes_on(step: Step, programs: Programs) -> None:
    programs.add("chattr", "echo 'Operation not supported' >&2; exit 1")
    mounted = step("mount")
    assert (mounted.returncode, mounted.stderr) == (0, "")
    assert programs.calls("sshfs")


@pytest.mark.parametrize("name", ["mount", "clean"])
def test_what_is_left_of_earlier_mounts_is_taken_away_by_force(
    step: Step, mountpoint: Path, mounted: Path, programs: Programs, name: str
) -> None:
    mountpoint.mkdir(parents=True)
    mounted.write_text("0:53\n0:52\n")
    assert step(name).returncode == 0
    options = "--force --lazy --no-canonicalize --internal-only"
    assert programs.calls("umount") == [f"{options} {mountpoint}"] * 2


def test_clean_asks_for_the_mount_by_the_kernels_own_name_for_it_where_nobody_says_where_it_is(
    step: Step, mountpoint: Path, mounted: Path, programs: Programs, tmp_path: Path
) -> None:
    """The kernel lists no mount by a path with a symbolic link in it."""
    mountpoint.mkdir(parents=True)
    (tmp_path / "link").symlink_to("mounts")
    programs.add("findmnt", f'case "$*" in *" {mountpoint}") {MOUNTED} ;; *) exit 1 ;; esac')
    mounted.write_text("0:52\n")
    assert step("clean", MOUNTPOINT="", SSHFS_PLUGIN_MOUNTS=str(tmp_path / "link")).returncode == 0
    assert mounted.read_text() == ""
    assert not mountpoint.exists()


def test_mount_when_nobody_has_said_what_to_mount_says_who_would(
    step: Step, mountpoint: Path, programs: Programs
) -> None:
    refusal = step("mount", SOURCE="")
    assert refusal.returncode == 1
    assert refusal.stderr == (
        "there is nothing that says what to mount: use the volume (photos) with Docker, which asks for its mount\n"
    )
    assert not mountpoint.exists()
    assert not programs.calls("sshfs")


def test_mount_without_a_mountpoint_says_why(step: Step, mountpoint: Path, programs: Programs) -> None:
    mountpoint.parent.write_text("a file in its place")
    refusal = step("mount")
    assert refusal.returncode != 0
    assert "Not a directory" in refusal.stderr
    assert not programs.calls("sshfs")


def test_the_step_of_an_older_unit_makes_the_mountpoint(step: Step, mountpoint: Path, programs: Programs) -> None:
    assert step("prepare").returncode == 0
    assert mountpoint.is_dir()
    assert not programs.calls("sshfs")


def test_clean_removes_the_mountpoint(step: Step, mountpoint: Path, programs: Programs) -> None:
    mountpoint.mkdir(parents=True)
    assert step("clean").returncode == step("clean").returncode == 0
    assert not mountpoint.exists()
    assert programs.calls("chattr") == [f"-i {mountpoint}"]


def test_clean_never_removes_what_is_in_a_mountpoint(step: Step, mountpoint: Path) -> None:
    mountpoint.mkdir(parents=True)
    (mountpoint / "holiday.jpg").write_text("")
    cleaned = step("clean")
    assert (mountpoint / "holiday.jpg").exists()
    assert f"{mountpoint} stays: look what is in it" in cleaned.stderr


def test_clean_removes_what_the_service_has_written_for_the_mount_and_tells(
    step: Step, files: Path, told: Callable[[], str]
) -> None:
    (files / "key-1").write_text("a key")
    step("mount")
    step("clean", SERVICE_RESULT="exit-code")
    assert not files.exists()
    assert told() == "ended\n"


def test_clean_leaves_what_the_service_has_written_since_for_the_next_mount(
    step: Step, files: Path, told: Callable[[], str]
) -> None:
    step("mount")
    (files / "taken").unlink()
    (files / "password").write_text("hunter2")
    step("clean")
    assert (files / "password").exists()
    assert told() == "", "the next mount has not ended"


@pytest.mark.parametrize("result", ["signal", "core-dump"])
def test_clean_leaves_what_an_sshfs_that_was_killed_is_started_again_with(
    step: Step, files: Path, told: Callable[[], str], mountpoint: Path, result: str
) -> None:
    (files / "key").write_text("a key")
    step("mount")
    step("clean", SERVICE_RESULT=result)
    assert (files / "key").exists()
    assert not mountpoint.exists()
    assert told() == ""


def test_clean_when_nobody_says_where_finds_the_mountpoint_by_the_volumes_name(step: Step, mountpoint: Path) -> None:
    """As of a volume that version 1.1 has mounted."""
    mountpoint.mkdir(parents=True)
    step("clean", MOUNTPOINT="", SSHFS_PLUGIN_MOUNTS=str(mountpoint.parent))
    assert not mountpoint.exists()


# ready


def test_ready_waits_for_the_mount_and_for_its_server(
    step: Step, sshfs: str, mountpoint: Path, told: Callable[[], str], programs: Programs
) -> None:
    """Before the mount, the mountpoint is on the device of the directory that it is in."""
    script = """
        case $(wc -l <"$HERE/stat.calls") in
        1) echo 8:1 4096 8:1 4096 ;;
        2) echo 8:1 4096; exit 1 ;;
        *) echo 8:1 4096 0:52 4096 ;;
        esac
    """
    programs.add("stat", script)
    assert step("ready", MAINPID=sshfs).returncode == 0
    assert told() == "answered\n"
    assert programs.calls("stat") == [f"--cached=never --printf=%Hd:%Ld %s  {mountpoint.parent} {mountpoint}"] * 3


def test_ready_takes_no_earlier_mount_for_that_of_an_sshfs_that_is_yet_to_start(
    step: Step, told: Callable[[], str], programs: Programs
) -> None:
    programs.add("stat", "echo 8:1 4096 0:52 4096")
    programs.add("sleep", 'kill "$MAINPID"')
    programs.add("volume", "read until_the_end")
    with subprocess.Popen([programs.directory / "volume"], stdin=subprocess.PIPE) as process:
        assert step("ready", MAINPID=str(process.pid)).returncode != 0
    assert told() == ""
    assert not programs.calls("stat")


def test_ready_when_sshfs_ends_meanwhile_has_asked_nobody(
    step: Step, told: Callable[[], str], programs: Programs
) -> None:
    programs.add("stat", "echo 8:1 4096 0:52 4096")
    assert step("ready", MAINPID="0").returncode != 0
    assert told() == ""


def test_ready_ends_with_sshfs_and_tells_nothing(step: Step, told: Callable[[], str]) -> None:
    assert step("ready", MAINPID="0").returncode != 0
    assert told() == ""


def test_ready_when_nobody_listens_any_more_is_done(step: Step, sshfs: str, files: Path, programs: Programs) -> None:
    programs.add("stat", "echo 8:1 4096 0:52 4096")
    assert step("ready", MAINPID=sshfs).returncode == 0
    assert list(files.iterdir()) == []
    os.mkfifo(files / "told")
    assert step("ready", MAINPID=sshfs).returncode == 0


# stop


def test_stop_unmounts_although_it_is_in_use_and_waits_for_sshfs_to_end(
    step: Step, mountpoint: Path, mounted: Path, programs: Programs
) -> None:
    mounted.write_text("0:52\n")
    sshfs = subprocess.Popen(["sleep", "0.3"])
    assert step("stop", MAINPID=str(sshfs.pid)).returncode == 0
    # one that has ended counts as ended, although nobody has asked yet how
    assert sshfs.poll() == 0
    assert programs.calls("umount") == [f"--lazy --no-canonicalize --internal-only {mountpoint}"]


def test_stop_ends_an_sshfs_that_has_lost_its_server_and_leaves_nothing(
    step: Step, files: Path, mounted: Path, told: Callable[[], str]
) -> None:
    """A read that waits keeps it."""
    step("mount")
    mounted.write_text("0:52\n")
    (files / "outage").write_text("the connection to the server is lost")
    (files / "password").write_text("hunter2")
    sshfs = subprocess.Popen(["sleep", "60"])
    assert step("stop", MAINPID=str(sshfs.pid)).returncode == 0
    assert sshfs.wait(LIMIT_SECONDS) == -signal.SIGKILL
    step("clean", SERVICE_RESULT="signal")
    assert not files.exists()
    assert told() == "ended\n"


def test_stop_of_what_is_not_mounted_is_no_failure(step: Step, programs: Programs) -> None:
    programs.add("umount", "echo 'umount: not mounted' >&2; exit 32")
    sshfs = subprocess.Popen(["true"])
    stopped = step("stop", MAINPID=str(sshfs.pid))
    sshfs.wait()
    assert (stopped.returncode, stopped.stderr) == (0, "")


@pytest.mark.parametrize("known", [{}, {"MAINPID": "0"}])
def test_stop_when_sshfs_has_ended_has_nothing_to_do(step: Step, programs: Programs, known: dict[str, str]) -> None:
    assert step("stop", **known).returncode == 0
    assert not programs.calls("umount")


# How it is called


@pytest.mark.parametrize("words", [[], ["mount"], ["mount", "photos", "films"]])
def test_a_call_that_makes_no_sense_shows_the_steps(words: list[str]) -> None:
    said = command.run([STEPS, *words], seconds=LIMIT_SECONDS)
    assert said.returncode == 2
    assert "mount     make an empty mountpoint" in said.stderr
    assert "keep      all of it in turn" in said.stderr


def test_a_step_that_is_none_is_named() -> None:
    said = command.run([STEPS, "unmount", "photos"], seconds=LIMIT_SECONDS)
    assert (said.returncode, said.stderr) == (2, "unmount is no step of this program\n")
