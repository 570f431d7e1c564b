# SPDX-License-Identifier: MIT
"""What the kernel's tables say about mounts, in real texts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.kernel import FakeKernel

from sshfs_plugin.mounts import mountinfo

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


def test_volumes_are_the_sshfs_mounts_right_below_the_directory(fake_kernel: FakeKernel) -> None:
    fake_kernel.mountinfo.write_text(HOST)
    assert set(mountinfo.sshfs_below(MOUNTS)) == {"photos", ".hidden"}
    assert mountinfo.sshfs_below(Path("/nowhere")) == {}


def test_a_mount_is_found_with_its_device_and_kind(fake_kernel: FakeKernel) -> None:
    fake_kernel.mountinfo.write_text(HOST)
    mount = mountinfo.mounted_at(MOUNTS / "photos")
    assert mount
    assert (mount.device, mount.kind) == ("0:52", "fuse.sshfs")
    assert mountinfo.mounted_at(MOUNTS / "music") is None


def test_names_with_blanks_and_backslashes_are_read_as_they_are(fake_kernel: FakeKernel) -> None:
    fake_kernel.mountinfo.write_text(HOST)
    assert set(mountinfo.sshfs_below(Path("/home/me"))) == {"my photos\tand\\films"}


def test_names_that_are_not_utf_8_are_those_that_python_has_for_them(fake_kernel: FakeKernel) -> None:
    line = b"95 28 0:52 / /home/me/caf\xe9\\040au\xffx rw - fuse.sshfs me@nas:/photos rw\n"
    fake_kernel.mountinfo.write_bytes(line)
    assert set(mountinfo.sshfs_below(Path("/home/me"))) == {os.fsdecode(b"caf\xe9 au\xffx")}


@pytest.mark.parametrize(
    "strange", ["a\rb", "a\x0bb", "a\x0cb", "a\x1cb", "a\x85b", "a\N{LINE SEPARATOR}b", "a\udcffb"]
)
def test_no_name_that_a_user_mounts_something_at_can_confuse(fake_kernel: FakeKernel, strange: str) -> None:
    line = f"99 28 0:57 / /home/me/{strange} rw - fuse.sshfs me@nas:/c rw\n"
    fake_kernel.mountinfo.write_bytes((line + HOST).encode("utf-8", "surrogateescape"))
    assert set(mountinfo.sshfs_below(MOUNTS)) == {"photos", ".hidden"}
    assert mountinfo.mounted_at(Path("/home/me") / strange)


def test_the_uppermost_of_stacked_mounts_counts(fake_kernel: FakeKernel) -> None:
    fake_kernel.mount(MOUNTS / "photos", device="0:1")
    fake_kernel.mount(MOUNTS / "photos", device="0:2")
    mount = mountinfo.mounted_at(MOUNTS / "photos")
    assert mount
    assert mount.device == "0:2"


def test_mounts_are_found_through_a_symbolic_link_in_the_path(fake_kernel: FakeKernel, tmp_path: Path) -> None:
    (tmp_path / "disk/mounts").mkdir(parents=True)
    (tmp_path / "state").symlink_to("disk")
    fake_kernel.mount(tmp_path / "disk/mounts/photos")
    assert set(mountinfo.sshfs_below(tmp_path / "state/mounts")) == {"photos"}
    assert mountinfo.mounted_at(tmp_path / "state/mounts/photos")


def test_a_process_without_mounts_has_none(fake_kernel: FakeKernel) -> None:
    assert mountinfo.mounts() == ()
    assert fake_kernel.mountinfo.exists()


def test_own_mounts_are_really_readable() -> None:
    assert any(mount.mountpoint == Path("/") for mount in mountinfo.mounts())


# Who uses a mount


@pytest.fixture
def photos(fake_kernel: FakeKernel) -> mountinfo.Mount:
    """Give the mount of a volume on a host."""
    fake_kernel.mountinfo.write_text(HOST)
    mount = mountinfo.mounted_at(MOUNTS / "photos")
    assert mount
    return mount


@pytest.mark.parametrize(
    "table", [CONTAINER, CONTAINER_WITH_A_SLAVE, CONTAINER_WITH_THE_VOLUME_IN_THE_HOSTS_TREE, PRIVATE_COPY]
)
def test_a_mount_is_used_where_it_would_outlast_ours(
    photos: mountinfo.Mount, fake_kernel: FakeKernel, table: str
) -> None:
    fake_kernel.process(612, namespace=2, mountinfo=table)
    assert mountinfo.used_elsewhere([photos])


@pytest.mark.parametrize("table", [SANDBOX, SANDBOX_WITH_A_BIND, CONTAINER_THAT_SEES_THE_HOST, ""])
def test_a_copy_of_our_tree_uses_nothing_since_its_mounts_go_when_ours_go(
    photos: mountinfo.Mount, fake_kernel: FakeKernel, table: str
) -> None:
    fake_kernel.process(700, namespace=3, mountinfo=table)
    assert not mountinfo.used_elsewhere([photos])


def test_a_container_started_by_a_sandboxed_service_is_still_found(
    photos: mountinfo.Mount, fake_kernel: FakeKernel
) -> None:
    fake_kernel.process(700, namespace=3, mountinfo=SANDBOX + CONTAINER)
    assert mountinfo.used_elsewhere([photos])


def test_our_own_mount_namespace_is_not_elsewhere(photos: mountinfo.Mount, fake_kernel: FakeKernel) -> None:
    fake_kernel.process(1, namespace=1, mountinfo=PRIVATE_COPY)
    assert not mountinfo.used_elsewhere([photos])


def test_a_bind_of_the_volume_on_this_host_uses_it(fake_kernel: FakeKernel) -> None:
    fake_kernel.mountinfo.write_text(HOST + "98 28 0:52 / /srv/photos rw shared:9 - fuse.sshfs me@nas:/photos rw\n")
    photos = mountinfo.mounted_at(MOUNTS / "photos")
    assert photos
    assert mountinfo.used_elsewhere([photos])


def test_a_thread_that_has_a_namespace_of_its_own_uses_the_volume_in_it(
    photos: mountinfo.Mount, fake_kernel: FakeKernel
) -> None:
    """As dockerd's has while docker cp reads from a container that does not run."""
    fake_kernel.process(400, namespace=1, mountinfo=HOST)
    fake_kernel.process("400/task/417", namespace=2, mountinfo=CONTAINER)
    assert mountinfo.used_elsewhere([photos])


@pytest.mark.parametrize(
    ("root", "mountinfo_there"),
    [("/jail", "650 640 0:78 / / rw - tmpfs tmpfs rw\n"), ("/", "")],
    ids=["chrooted", "chrooted into what was detached, which reads as /"],
)
def test_a_process_that_sees_less_of_its_namespace_does_not_hide_the_rest(
    photos: mountinfo.Mount, fake_kernel: FakeKernel, root: str, mountinfo_there: str
) -> None:
    fake_kernel.process(611, namespace=2, root=root, mountinfo=mountinfo_there)
    fake_kernel.process(612, namespace=2, mountinfo=CONTAINER)
    assert mountinfo.used_elsewhere([photos])


CHROOTED_BESIDE_ANOTHER = """\
import os, sys
ends, holds = os.pipe()
if os.fork():
    os.chroot(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.read()
else:
    os.close(holds)
    os.read(ends, 1)
"""


def test_a_process_that_sees_less_does_not_make_a_copy_of_our_tree_a_use(
    photos: mountinfo.Mount, fake_kernel: FakeKernel
) -> None:
    """It is not shown what the copy is mounted on, but others in its namespace are."""
    _, copy = SANDBOX.splitlines(keepends=True)
    fake_kernel.process(700, namespace=3, root="/var", mountinfo=copy.replace(" /var/", " /"))
    fake_kernel.process(701, namespace=3, mountinfo=SANDBOX)
    assert not mountinfo.used_elsewhere([photos])


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_a_real_chrooted_process_does_not_hide_the_rest_of_its_namespace(tmp_path: Path) -> None:
    mountpoint, jail = tmp_path / "photos", tmp_path / "jail"
    mountpoint.mkdir()
    jail.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", mountpoint], check=True)
    try:
        photos = mountinfo.mounted_at(mountpoint)
        assert photos
        assert not mountinfo.used_elsewhere([photos])
        argv = ["unshare", "--mount", "--propagation=private", sys.executable, "-c", CHROOTED_BESIDE_ANOTHER, str(jail)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as pair:
            assert pair.stdout
            assert pair.stdout.readline() == b"ready\n"
            used = mountinfo.used_elsewhere([photos])
            pair.communicate()
        assert used
    finally:
        subprocess.run(["umount", mountpoint], check=True)


def test_other_devices_in_a_container_do_not_count(photos: mountinfo.Mount, fake_kernel: FakeKernel) -> None:
    fake_kernel.process(612, namespace=2, mountinfo=CONTAINER.replace("0:52", "0:5"))
    fake_kernel.process(613, namespace=3, mountinfo=CONTAINER.replace("0:52", "0:521"))
    assert not mountinfo.used_elsewhere([photos])


def test_a_process_that_ends_meanwhile_does_not_hide_its_container(
    photos: mountinfo.Mount, fake_kernel: FakeKernel
) -> None:
    for number in range(10, 20):
        fake_kernel.process(number, namespace=2, mountinfo=None)
    fake_kernel.process(20, namespace=2, mountinfo=CONTAINER)
    for number in range(21, 30):
        fake_kernel.process(number, namespace=2, mountinfo=None)
    assert mountinfo.used_elsewhere([photos])


def test_processes_without_a_namespace_and_other_entries_are_passed_over(
    photos: mountinfo.Mount, fake_kernel: FakeKernel
) -> None:
    (fake_kernel.proc / "4711").mkdir()
    (fake_kernel.proc / "meminfo").write_text("")
    assert not mountinfo.used_elsewhere([photos])
