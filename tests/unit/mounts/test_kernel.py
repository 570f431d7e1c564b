# SPDX-License-Identifier: MIT
"""What the kernel is told about mounts: a fake one, and as root a real one."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kernel import FakeKernel
from support.programs import STAT_ANSWERED, Programs
from support.waiting import LIMIT_SECONDS

from sshfs_plugin.host import command
from sshfs_plugin.mounts import kernel, mountinfo

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")

MOUNTS = Path("/var/lib/dvs/mounts")

# Being mounted anywhere


def test_device_is_mounted_nowhere_once_the_kernel_has_no_connection_to_its_program(
    fake_kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kernel, "FUSE_CONNECTIONS", tmp_path)
    assert not kernel.is_mounted_nowhere("0:41"), "where fusectl is not mounted there is no directory of any"
    fake_kernel.mount(tmp_path, kind="fusectl")
    (tmp_path / "40").mkdir()
    assert not kernel.is_mounted_nowhere("0:40")
    assert kernel.is_mounted_nowhere("0:41")
    assert not kernel.is_mounted_nowhere(""), "which one is not known"


# Unmounting


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "photos"
    directory.mkdir()
    return directory


def test_unmount_does_not_follow_links_and_forces_nothing(fake_kernel: FakeKernel, mountpoint: Path) -> None:
    fake_kernel.mount(mountpoint)
    assert kernel.unmount(mountpoint)
    assert fake_kernel.unmounted == [(mountpoint, kernel.UMOUNT_NOFOLLOW)]
    assert mountinfo.mounted_at(mountpoint) is None


def test_unmount_of_a_busy_mount_says_so(fake_kernel: FakeKernel, mountpoint: Path) -> None:
    fake_kernel.mount(mountpoint)
    fake_kernel.busy.add(mountpoint)
    assert not kernel.unmount(mountpoint)
    assert mountinfo.mounted_at(mountpoint)


def test_unmount_of_what_is_not_mounted_is_done(fake_kernel: FakeKernel, mountpoint: Path) -> None:
    assert kernel.unmount(mountpoint)
    assert kernel.unmount(mountpoint / "missing")
    assert len(fake_kernel.unmounted) == 2


def test_unmount_that_is_not_allowed_fails_with_the_path(fake_kernel: FakeKernel, mountpoint: Path) -> None:
    fake_kernel.forbidden = True
    with pytest.raises(PermissionError) as refusal:
        kernel.unmount(mountpoint)
    assert refusal.value.filename == str(mountpoint)


def test_all_mounts_on_one_another_are_detached(fake_kernel: FakeKernel, mountpoint: Path) -> None:
    for _ in range(3):
        fake_kernel.mount(mountpoint)
    kernel.detach_all(mountpoint)
    assert mountinfo.mounted_at(mountpoint) is None
    forced = kernel.MNT_FORCE | kernel.MNT_DETACH | kernel.UMOUNT_NOFOLLOW
    assert fake_kernel.unmounted == [(mountpoint, forced)] * 3, "else whoever hangs in one of them would go on to hang"


@pytest.fixture
def tmpfs(mountpoint: Path) -> Iterator[Path]:
    if command.run(["mount", "-t", "tmpfs", "none", mountpoint], seconds=LIMIT_SECONDS).returncode:
        pytest.skip("nothing can be mounted here")
    yield mountpoint
    kernel.detach_all(mountpoint)


@AS_ROOT
def test_a_real_mount_is_seen_and_unmounted(tmpfs: Path) -> None:
    mount = mountinfo.mounted_at(tmpfs)
    assert mount
    assert mount.kind == "tmpfs"
    assert kernel.unmount(tmpfs)
    assert mountinfo.mounted_at(tmpfs) is None
    assert kernel.unmount(tmpfs)


@AS_ROOT
def test_a_real_mount_with_an_open_file_is_busy_until_it_is_detached(tmpfs: Path) -> None:
    with (tmpfs / "file").open("w"):
        assert not kernel.unmount(tmpfs)
        kernel.detach_all(tmpfs)
        assert mountinfo.mounted_at(tmpfs) is None


@AS_ROOT
def test_a_real_symbolic_link_to_a_mount_is_not_followed(tmpfs: Path) -> None:
    link = tmpfs.parent / "link"
    link.symlink_to(tmpfs)
    kernel.unmount(link)
    assert mountinfo.mounted_at(tmpfs)


# The rest


@pytest.fixture
def sshfs(fake_kernel: FakeKernel) -> Path:
    """Give the mountpoint of an sshfs."""
    fake_kernel.mount(MOUNTS / "photos")
    return MOUNTS / "photos"


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("", True),
        ("No such file or directory", True),
        ("Permission denied", True),
        ("Operation not permitted", True),
        ("Operation not supported", True),
        ("Bad message", True),
        ("Input/output error", False),
        ("Transport endpoint is not connected", False),
        ("Software caused connection abort", False),
        ("Connection timed out", False),
    ],
)
def test_an_error_is_an_answer_if_the_server_has_sent_it(
    sshfs: Path, programs: Programs, said: str, answer: bool
) -> None:
    failure = f"echo \"stat: cannot statx '$2': {said}\" >&2; exit 1"
    programs.add("stat", failure if said else "")
    assert kernel.answers(sshfs, LIMIT_SECONDS) is answer


def test_each_question_is_a_new_one(sshfs: Path, programs: Programs) -> None:
    programs.add("stat", STAT_ANSWERED)
    assert kernel.answers(sshfs, LIMIT_SECONDS)
    assert kernel.answers(sshfs, LIMIT_SECONDS)
    first, second = programs.calls("stat")
    assert first != second
    assert first.startswith(f"--printf= {sshfs}/.docker-volume-sshfs-")


@pytest.mark.parametrize("kind", ["", "tmpfs"])
def test_where_no_sshfs_is_mounted_nobody_is_asked(fake_kernel: FakeKernel, programs: Programs, kind: str) -> None:
    programs.add("stat", STAT_ANSWERED)
    if kind:
        fake_kernel.mount(MOUNTS / "photos", kind=kind)
    assert not kernel.answers(MOUNTS / "photos", LIMIT_SECONDS)
    assert programs.calls("stat") == []


def test_a_mount_that_goes_meanwhile_has_not_answered(sshfs: Path, programs: Programs, fake_kernel: FakeKernel) -> None:
    programs.add("stat", f": >{fake_kernel.mountinfo}\n{STAT_ANSWERED}")
    assert not kernel.answers(sshfs, LIMIT_SECONDS)


def test_a_mount_that_hangs_does_not_answer(sshfs: Path, programs: Programs) -> None:
    programs.add("stat", "exec sleep 60")
    assert not kernel.answers(sshfs, 0.05)


def test_a_mountpoint_can_be_made_mutable_where_it_never_was_otherwise(programs: Programs) -> None:
    programs.add("chattr", "echo 'Operation not supported' >&2; exit 1")
    kernel.make_mutable(MOUNTS / "photos")
    assert programs.calls("chattr") == ["-i /var/lib/dvs/mounts/photos"]


def test_waiting_ends_as_soon_as_the_path_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "mountpoint"
    path.mkdir()
    remover = threading.Timer(0.02, path.rmdir)
    remover.start()
    assert kernel.await_absence(path, LIMIT_SECONDS)
    remover.join()
