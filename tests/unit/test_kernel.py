# SPDX-License-Identifier: MIT
"""What the kernel says about mounts, in real texts, and what it is told: a fake one, and as root a real one."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import fakes

from sshfs_plugin import command, kernel

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")

HOST = r"""22 28 0:21 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
95 28 0:52 / /var/lib/dvs/mounts/photos rw,nosuid,nodev,relatime shared:51 - fuse.sshfs me@nas:/photos rw,user_id=0
96 28 0:53 / /var/lib/dvs/mounts/.hidden rw - fuse.sshfs me@nas:/a rw
97 28 0:54 / /var/lib/dvs/mounts/films rw - nfs4 nas:/films rw
98 95 0:55 / /var/lib/dvs/mounts/photos/inner rw - fuse.sshfs me@nas:/b rw
99 28 0:56 / /home/me/my\040photos\011and\134films rw,nosuid - fuse.sshfs me@nas:/c rw
"""

CONTAINER = """612 598 0:77 / / rw,relatime master:301 - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/AB
633 612 0:52 / /data rw,nosuid,nodev,relatime - fuse.sshfs me@nas:/photos rw,user_id=0,group_id=0
"""

CONTAINER_WITH_A_SLAVE = CONTAINER.replace("relatime - fuse", "relatime master:51 - fuse")

SANDBOX = """712 700 8:1 / / ro,relatime shared:401 master:1 - ext4 /dev/sda1 rw
733 712 0:52 / /var/lib/dvs/mounts/photos rw,nosuid shared:402 master:51 - fuse.sshfs me@nas:/photos rw
"""

SANDBOX_WITH_A_BIND = """712 700 8:1 / / ro,relatime shared:401 master:1 - ext4 /dev/sda1 rw
720 712 8:1 /var/lib/dvs /var/lib/dvs rw,relatime shared:403 master:1 - ext4 /dev/sda1 rw
733 720 0:52 / /var/lib/dvs/mounts/photos rw,nosuid shared:402 master:51 - fuse.sshfs me@nas:/photos rw
"""

CONTAINER_THAT_SEES_THE_HOST = """912 900 0:77 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/l/AB
920 912 8:1 / /host rw,relatime master:1 - ext4 /dev/sda1 rw
933 920 0:52 / /host/var/lib/dvs/mounts/photos rw,nosuid master:51 - fuse.sshfs me@nas:/photos rw
"""

CONTAINER_WITH_THE_VOLUME_IN_THE_HOSTS_TREE = (
    CONTAINER_THAT_SEES_THE_HOST + "940 920 0:52 / /host/srv/data rw - fuse.sshfs me@nas:/photos rw\n"
)

PRIVATE_COPY = """812 800 8:1 / / rw,relatime - ext4 /dev/sda1 rw
833 812 0:52 / /var/lib/dvs/mounts/photos rw,nosuid - fuse.sshfs me@nas:/photos rw
"""

MOUNTS = Path("/var/lib/dvs/mounts")


def test_volumes_are_the_sshfs_mounts_right_below_the_directory(fake_kernel: fakes.FakeKernel) -> None:
    fake_kernel.mountinfo.write_text(HOST)
    assert kernel.sshfs_below(MOUNTS) == {"photos", ".hidden"}
    assert kernel.sshfs_below(Path("/nowhere")) == frozenset()


def test_a_mount_is_found_with_its_device_and_kind(fake_kernel: fakes.FakeKernel) -> None:
    fake_kernel.mountinfo.write_text(HOST)
    mount = kernel.mounted_at(MOUNTS / "photos")
    assert mount
    assert (mount.device, mount.kind) == ("0:52", "fuse.sshfs")
    assert kernel.mounted_at(MOUNTS / "music") is None


def test_names_with_blanks_and_backslashes_are_read_as_they_are(fake_kernel: fakes.FakeKernel) -> None:
    fake_kernel.mountinfo.write_text(HOST)
    assert kernel.sshfs_below(Path("/home/me")) == {"my photos\tand\\films"}


@pytest.mark.parametrize(
    "strange", ["a\rb", "a\x0bb", "a\x0cb", "a\x1cb", "a\x85b", "a\N{LINE SEPARATOR}b", "a\udcffb"]
)
def test_no_name_that_a_user_mounts_something_at_can_confuse(fake_kernel: fakes.FakeKernel, strange: str) -> None:
    line = f"99 28 0:57 / /home/me/{strange} rw - fuse.sshfs me@nas:/c rw\n"
    fake_kernel.mountinfo.write_bytes((line + HOST).encode("utf-8", "surrogateescape"))
    assert kernel.sshfs_below(MOUNTS) == {"photos", ".hidden"}
    assert kernel.mounted_at(Path("/home/me") / strange)


def test_the_uppermost_of_stacked_mounts_counts(fake_kernel: fakes.FakeKernel) -> None:
    fake_kernel.mount(MOUNTS / "photos", device="0:1")
    fake_kernel.mount(MOUNTS / "photos", device="0:2")
    mount = kernel.mounted_at(MOUNTS / "photos")
    assert mount
    assert mount.device == "0:2"


def test_mounts_are_found_through_a_symbolic_link_in_the_path(fake_kernel: fakes.FakeKernel, tmp_path: Path) -> None:
    (tmp_path / "disk/mounts").mkdir(parents=True)
    (tmp_path / "state").symlink_to("disk")
    fake_kernel.mount(tmp_path / "disk/mounts/photos")
    assert kernel.sshfs_below(tmp_path / "state/mounts") == {"photos"}
    assert kernel.mounted_at(tmp_path / "state/mounts/photos")


def test_a_process_without_mounts_has_none(fake_kernel: fakes.FakeKernel) -> None:
    assert kernel.mounts() == ()
    assert fake_kernel.mountinfo.exists()


def test_own_mounts_are_really_readable() -> None:
    assert any(mount.mountpoint == Path("/") for mount in kernel.mounts())


# Who uses a mount


@pytest.fixture
def photos(fake_kernel: fakes.FakeKernel) -> kernel.Mount:
    """Give the mount of a volume on a host."""
    fake_kernel.mountinfo.write_text(HOST)
    mount = kernel.mounted_at(MOUNTS / "photos")
    assert mount
    return mount


@pytest.mark.parametrize(
    "mountinfo", [CONTAINER, CONTAINER_WITH_A_SLAVE, CONTAINER_WITH_THE_VOLUME_IN_THE_HOSTS_TREE, PRIVATE_COPY]
)
def test_a_mount_is_used_where_it_would_outlast_ours(
    photos: kernel.Mount, fake_kernel: fakes.FakeKernel, mountinfo: str
) -> None:
    fake_kernel.process(612, namespace=2, mountinfo=mountinfo)
    assert kernel.used_elsewhere(photos)


@pytest.mark.parametrize("mountinfo", [SANDBOX, SANDBOX_WITH_A_BIND, CONTAINER_THAT_SEES_THE_HOST, ""])
def test_a_copy_of_our_tree_uses_nothing_since_its_mounts_go_when_ours_go(
    photos: kernel.Mount, fake_kernel: fakes.FakeKernel, mountinfo: str
) -> None:
    fake_kernel.process(700, namespace=3, mountinfo=mountinfo)
    assert not kernel.used_elsewhere(photos)


def test_a_container_started_by_a_sandboxed_service_is_still_found(
    photos: kernel.Mount, fake_kernel: fakes.FakeKernel
) -> None:
    fake_kernel.process(700, namespace=3, mountinfo=SANDBOX + CONTAINER)
    assert kernel.used_elsewhere(photos)


def test_our_own_mount_namespace_is_not_elsewhere(photos: kernel.Mount, fake_kernel: fakes.FakeKernel) -> None:
    fake_kernel.process(1, namespace=1, mountinfo=PRIVATE_COPY)
    assert not kernel.used_elsewhere(photos)


def test_other_devices_in_a_container_do_not_count(photos: kernel.Mount, fake_kernel: fakes.FakeKernel) -> None:
    fake_kernel.process(612, namespace=2, mountinfo=CONTAINER.replace("0:52", "0:5"))
    fake_kernel.process(613, namespace=3, mountinfo=CONTAINER.replace("0:52", "0:521"))
    assert not kernel.used_elsewhere(photos)


def test_a_process_that_ends_meanwhile_does_not_hide_its_container(
    photos: kernel.Mount, fake_kernel: fakes.FakeKernel
) -> None:
    for number in range(10, 20):
        fake_kernel.process(number, namespace=2, mountinfo=None)
    fake_kernel.process(20, namespace=2, mountinfo=CONTAINER)
    for number in range(21, 30):
        fake_kernel.process(number, namespace=2, mountinfo=None)
    assert kernel.used_elsewhere(photos)


def test_processes_without_a_namespace_and_other_entries_are_passed_over(
    photos: kernel.Mount, fake_kernel: fakes.FakeKernel
) -> None:
    (fake_kernel.proc / "4711").mkdir()
    (fake_kernel.proc / "meminfo").write_text("")
    assert not kernel.used_elsewhere(photos)


# Unmounting


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "photos"
    directory.mkdir()
    return directory


def test_unmount_does_not_follow_links_and_forces_nothing(fake_kernel: fakes.FakeKernel, mountpoint: Path) -> None:
    fake_kernel.mount(mountpoint)
    assert kernel.unmount(mountpoint)
    assert fake_kernel.unmounted == [(mountpoint, kernel.UMOUNT_NOFOLLOW)]
    assert kernel.mounted_at(mountpoint) is None


def test_unmount_of_a_busy_mount_says_so(fake_kernel: fakes.FakeKernel, mountpoint: Path) -> None:
    fake_kernel.mount(mountpoint)
    fake_kernel.busy.add(mountpoint)
    assert not kernel.unmount(mountpoint)
    assert kernel.mounted_at(mountpoint)


def test_unmount_of_what_is_not_mounted_is_done(fake_kernel: fakes.FakeKernel, mountpoint: Path) -> None:
    assert kernel.unmount(mountpoint)
    assert kernel.unmount(mountpoint / "missing")
    assert len(fake_kernel.unmounted) == 2


def test_unmount_that_is_not_allowed_fails_with_the_path(fake_kernel: fakes.FakeKernel, mountpoint: Path) -> None:
    fake_kernel.forbidden = True
    with pytest.raises(PermissionError) as refusal:
        kernel.unmount(mountpoint)
    assert refusal.value.filename == str(mountpoint)


def test_a_busy_mount_can_be_detached(fake_kernel: fakes.FakeKernel, mountpoint: Path) -> None:
    fake_kernel.mount(mountpoint)
    fake_kernel.busy.add(mountpoint)
    kernel.detach_lazily(mountpoint)
    assert fake_kernel.unmounted == [(mountpoint, kernel.MNT_DETACH | kernel.UMOUNT_NOFOLLOW)]


def test_all_mounts_on_one_another_are_detached(fake_kernel: fakes.FakeKernel, mountpoint: Path) -> None:
    for _ in range(3):
        fake_kernel.mount(mountpoint)
    kernel.detach_all(mountpoint)
    assert kernel.mounted_at(mountpoint) is None
    assert len(fake_kernel.unmounted) == 3


@pytest.fixture
def tmpfs(mountpoint: Path) -> Iterator[Path]:
    if command.run(["mount", "-t", "tmpfs", "none", mountpoint], seconds=fakes.PATIENCE).returncode:
        pytest.skip("nothing can be mounted here")
    yield mountpoint
    kernel.detach_all(mountpoint)


@AS_ROOT
def test_a_real_mount_is_seen_and_unmounted(tmpfs: Path) -> None:
    mount = kernel.mounted_at(tmpfs)
    assert mount
    assert mount.kind == "tmpfs"
    assert kernel.unmount(tmpfs)
    assert kernel.mounted_at(tmpfs) is None
    assert kernel.unmount(tmpfs)


@AS_ROOT
def test_a_real_mount_with_an_open_file_is_busy_until_it_is_detached(tmpfs: Path) -> None:
    with (tmpfs / "file").open("w"):
        assert not kernel.unmount(tmpfs)
        kernel.detach_all(tmpfs)
        assert kernel.mounted_at(tmpfs) is None


@AS_ROOT
def test_a_real_symbolic_link_to_a_mount_is_not_followed(tmpfs: Path) -> None:
    link = tmpfs.parent / "link"
    link.symlink_to(tmpfs)
    kernel.unmount(link)
    assert kernel.mounted_at(tmpfs)


@AS_ROOT
def test_a_real_mount_of_something_else_than_fuse_does_not_answer(tmpfs: Path) -> None:
    assert not kernel.answers(tmpfs, fakes.PATIENCE)


# The rest


@pytest.mark.parametrize(
    ("script", "answer"), [("echo 65735546", True), ("echo ef53", False), ("echo 65735546; exit 1", False)]
)
def test_only_a_fuse_file_system_that_answers_counts(programs: fakes.Programs, script: str, answer: bool) -> None:
    programs.add("stat", script)
    assert kernel.answers(MOUNTS / "photos", fakes.PATIENCE) is answer
    assert programs.calls("stat") == ["-f -c %t /var/lib/dvs/mounts/photos"]


# the process is left behind on purpose, since a stalled server may keep it for ever
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_a_mount_that_hangs_does_not_answer(programs: fakes.Programs) -> None:
    programs.add("stat", "exec sleep 60")
    assert not kernel.answers(MOUNTS / "photos", 0.05)


@pytest.mark.parametrize(("immutable", "word"), [(True, "+i"), (False, "-i")])
def test_a_mountpoint_is_made_immutable_and_back(programs: fakes.Programs, immutable: bool, word: str) -> None:
    programs.add("chattr", "echo 'Operation not supported' >&2; exit 1")
    kernel.set_immutable(MOUNTS / "photos", immutable=immutable)
    assert programs.calls("chattr") == [f"{word} /var/lib/dvs/mounts/photos"]


def test_read_ahead_is_set_where_the_kernel_lets_it_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_BDI", tmp_path)
    (tmp_path / "0:52").mkdir()
    kernel.set_read_ahead("0:52")
    assert (tmp_path / "0:52/read_ahead_kb").read_text() == "1024"
    kernel.set_read_ahead("0:53")


def test_a_process_is_alive_until_it_is_gone_from_proc(fake_kernel: fakes.FakeKernel) -> None:
    fake_kernel.process(4711, namespace=1)
    assert kernel.is_alive(4711)
    assert not kernel.is_alive(4712)
    assert not kernel.await_end(4711, 0)
    assert kernel.await_end(4712, 0)


def test_waiting_ends_as_soon_as_the_path_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "mountpoint"
    path.mkdir()
    remover = threading.Timer(0.02, path.rmdir)
    remover.start()
    assert kernel.await_absence(path, fakes.PATIENCE)
    remover.join()
