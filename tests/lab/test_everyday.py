# SPDX-License-Identifier: MIT
"""What people do with volumes on the first days, and what Docker says; docs/everyday.md tells it in their words."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .documents import block, script
from .host import KEY, MOUNTS, STAY, Host
from .machines.commands import Result
from .machines.machine import CONTENT_IMAGE, IMAGE

ROOT = Path(__file__).resolve().parents[2]

TAKE = {
    "looks first": r"find /data \! -user app -exec chown app {} + || exit 1",
    "insists": "chown -R app /data || exit 1",
    "goes on": "chown -R app /data || true",
}
"""How entrypoints make a data directory theirs: postgres, mysql and redis look first, others insist or go on."""

START = "su app -c 'id -u >/data/started && mkdir -m 700 /data/own && echo 1 >/data/own/file && cat /data/started'"


def entrypoint(take: str, user: int = 999) -> str:
    """Return what an image does that starts as root, makes /data its own and goes on as another user."""
    return f"echo app:x:{user}:{user}::/:/bin/sh >>/etc/passwd; {take}; {START}"


def said(result: Result) -> str:
    """Return what the user reads of a command that failed."""
    assert result.returncode != 0
    return result.stderr


@contextmanager
def sleeping(host: Host, volume: str) -> Iterator[str]:
    """Keep a container that has the volume at /data."""
    name = f"sleeper-{volume}"
    host.start(name, volume, STAY)
    try:
        yield name
    finally:
        host.machine.run("docker", "rm", "-f", name)


# ------------------------------------------------------------------------------------------------
# Links


def test_links_are_followed_below_their_own_directory_only(host: Host) -> None:
    directory = host.directory("links")
    host.machine.sh(
        "cd $1; mkdir -p pkg/tool .bin; echo runs >pkg/tool/main; ln -s pkg/tool/main down; "
        "ln -s ../pkg/tool/main .bin/up; ln -s /etc/hostname absolute",
        directory,
    )
    host.create("links", directory)
    assert host.run("links", "cat /data/down").stdout == "runs\n"
    for link in (".bin/up", "absolute"):
        assert f"'/data/{link}': Operation not permitted" in said(host.run("links", f"cat /data/{link}", check=False))
    with sleeping(host, "links") as container:
        refused = host.machine.run("docker", "cp", f"{container}:/data/absolute", "/root/copied", check=False)
        assert "operation not permitted" in said(refused)


def test_links_that_are_not_contained_mean_what_they_mean_in_the_container(host: Host) -> None:
    machine, directory = host.machine, host.directory("loose")
    machine.sh(
        "cd $1; mkdir pkg .bin; echo runs >pkg/main; ln -s ../pkg/main .bin/up; ln -s /etc/shadow shadow", directory
    )
    host.create("loose", directory, no_contain_symlinks="")
    own = "echo own >/etc/shadow; cat /data/.bin/up /data/shadow; ln -s ../pkg /data/new; readlink /data/new"
    assert host.run("loose", own).stdout.split() == ["runs", "own", "../pkg"]
    with sleeping(host, "loose") as container:
        refused = machine.run("docker", "cp", "-L", f"{container}:/data/shadow", "/root/stolen", check=False)
        assert "/etc/shadow" in said(refused), "docker cp looks in the container, which has no such file"
        assert not machine.run("test", "-e", "/root/stolen", check=False)


def test_a_link_on_the_server_does_not_lead_dockers_copy_of_an_images_files_onto_the_host(host: Host) -> None:
    """Docker takes a volume for empty by a listing that is remembered, and opens each file a moment later."""
    machine, directory = host.machine, host.directory("trap")
    machine.write("/etc/precious", "precious\n")
    host.create("trap", directory, uid="0", gid="0", dcache_timeout="60")
    with sleeping(host, "trap") as container:
        assert machine.run("docker", "exec", container, "ls", "/data").stdout == ""
        machine.sh("ln -s /etc/precious $1/file", directory)
        trapped = machine.run("docker", "create", "-v", "trap:/data", CONTENT_IMAGE, check=False)
        assert f"open {MOUNTS}/trap/file: operation not permitted" in said(trapped)
    assert machine.read("/etc/precious") == "precious\n"


def test_transformed_links_reach_what_the_server_has_in_the_volume(host: Host) -> None:
    directory = host.directory("transformed")
    host.machine.sh("mkdir $1/target; echo hello >$1/target/file; ln -s $1/target $1/link", directory)
    host.create("transformed", directory, transform_symlinks="")
    assert host.run("transformed", "readlink /data/link; cat /data/link/file").stdout == "target\nhello\n"


def test_links_that_are_followed_on_the_server_are_what_they_lead_to(host: Host) -> None:
    directory, elsewhere = host.directory("followed"), host.directory("elsewhere")
    host.machine.sh("echo hello >$2/file; ln -s $2 $1/link; ln -s ../elsewhere/file $1/up", directory, elsewhere)
    host.create("followed", directory, follow_symlinks="")
    assert host.run("followed", "cat /data/up /data/link/file").stdout == "hello\nhello\n"
    # what the page warns of
    assert host.run("followed", "rm -r /data/link", check=False).returncode != 0
    assert host.machine.run("ls", elsewhere).stdout == ""


def test_an_archive_of_a_volume_lacks_links_that_can_not_be_read_and_unpacking_makes_them(host: Host) -> None:
    machine, directory = host.machine, host.directory("packed")
    machine.sh("echo hello >$1/file; ln -s file $1/down; ln -s ../up $1/up; ln -s /etc/hostname $1/absolute", directory)
    host.create("packed", directory)
    with sleeping(host, "packed"):
        mount = f"{MOUNTS}/packed"
        missed = machine.run("tar", "-C", mount, "-cf", "/root/packed.tar", ".", check=False)
        assert missed.returncode == 2
        assert "./up: Cannot readlink: Operation not permitted" in missed.stderr
        machine.sh("tar -C $1 -cf /root/packed.tar up absolute && mkdir $2/back $2/touched", directory, mount)
        unpack = ("tar", "--no-same-owner", "-xf", "/root/packed.tar", "-C")
        assert "up: Cannot utime: No such file or directory" in said(machine.run(*unpack, f"{mount}/back", check=False))
        machine.run(*unpack, f"{mount}/touched", "--touch")
    links = machine.run("find", f"{directory}/back", f"{directory}/touched", "-type", "l", "-printf", "%l\n").stdout
    assert sorted(links.split()) == ["../up", "../up", "/etc/hostname", "/etc/hostname"]


# ------------------------------------------------------------------------------------------------
# What SFTP has no words for

WITHOUT_WORDS = {
    "mkfifo pipe": "Operation not permitted",
    "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'": "Operation not permitted",
    "mknod device c 1 3": "Operation not permitted",
    "fallocate -l 1M file": "Operation not supported",
    "cp --reflink=always file copy": "Operation not supported",
    "python3 -c 'import os; os.open(\".\", os.O_TMPFILE | os.O_RDWR)'": "Operation not supported",
    'python3 -c \'import os; os.setxattr("file", "user.a", b"b")\'': "Operation not supported",
    "chattr +i file": "Operation not supported",
}


def test_what_sftp_has_no_words_for_is_an_error_at_once(host: Host) -> None:
    directory = host.directory("wordless")
    host.create("wordless", directory)
    with sleeping(host, "wordless"):
        tries = "".join(f"{command} || true\n" for command in WITHOUT_WORDS)
        heard = host.machine.sh(f"cd {MOUNTS}/wordless; exec 2>&1; touch file\n{tries}").stdout
        assert re.findall("Operation not (?:permitted|supported)", heard) == list(WITHOUT_WORDS.values())
        host.machine.sh(f"touch -d @1700000000.5 {MOUNTS}/wordless/file; truncate -s 1M {MOUNTS}/wordless/hole")
        shown = host.machine.sh(f"cd {MOUNTS}/wordless; ln file hard; stat -c '%.1Y %h' file; stat -c %b hole").stdout
        assert shown == "1700000000.0 1\n2048\n"


# ------------------------------------------------------------------------------------------------
# Changes made on the server


def test_a_file_changed_on_the_server_is_read_as_it_is_now(host: Host) -> None:
    directory = host.directory("changed")
    host.machine.sh("echo old >$1/file", directory)
    host.create("changed", directory)
    with sleeping(host, "changed") as container:
        exec_ = ("docker", "exec", container, "sh", "-c")
        assert host.machine.run(*exec_, "ls -l /data >/dev/null; cat /data/file").stdout == "old\n"
        host.machine.sh("echo newer >$1/file; echo new >$1/new", directory)
        # a name that is asked for is looked up; only listings and sizes are remembered for a while
        assert host.machine.run(*exec_, "cat /data/new").stdout == "new\n"
        host.machine.until(lambda: host.machine.run(*exec_, "cat /data/file").stdout == "newer\n")


def test_files_added_and_removed_on_the_server_are_so_in_the_next_listing(host: Host) -> None:
    directory = host.directory("added")
    host.machine.sh("echo old >$1/file; touch $1/gone", directory)
    host.create("added", directory)
    with sleeping(host, "added") as container:
        ls = ("docker", "exec", container, "ls", "-l", "/data")
        assert "gone" in host.machine.run(*ls).stdout
        host.machine.sh("echo newer >$1/file; touch $1/new; rm $1/gone", directory)

        def listed() -> bool:
            text = host.machine.run(*ls).stdout
            return "new\n" in text and "gone" not in text and " 6 " in text

        host.machine.until(listed)


def test_a_followed_log_grows_as_fast_as_dcache_timeout_says(host: Host) -> None:
    directory = host.directory("followed-log")
    host.machine.sh("echo one >$1/log", directory)
    host.create("followed-log", directory, dcache_timeout="1")
    host.start("tail", "followed-log", "tail -f /data/log")
    logs = ("docker", "logs", "tail")
    host.machine.until(lambda: host.machine.run(*logs).stdout == "one\n")
    host.machine.sh("echo two >>$1/log", directory)
    host.machine.until(lambda: host.machine.run(*logs).stdout == "one\ntwo\n")


# ------------------------------------------------------------------------------------------------
# Owners


@pytest.mark.parametrize("options", [{"uid": "0", "gid": "0"}, {"idmap": "user"}, {"uid": "33", "gid": "33"}])
def test_an_images_files_are_copied_into_an_empty_volume_if_they_seem_to_be_its_owners(
    host: Host, options: dict[str, str]
) -> None:
    directory = host.directory("_".join(("copy", *options.values())))
    host.create("copy", directory, check=True, **options)
    run = ("docker", "run", "--rm", "-v", "copy:/data", CONTENT_IMAGE)
    assert host.machine.run(*run, "cat", "/data/file", "/data/sub/file").stdout == "content\ncontent below\n"
    assert host.machine.read(f"{directory}/sub/file") == "content below\n"
    assert host.machine.run("stat", "-c", "%U", f"{directory}/sub/file").stdout == "alice\n"


@pytest.mark.parametrize("take", ["looks first", "goes on"])
def test_an_entrypoint_that_makes_the_directory_its_own_finds_that_it_is_so_with_uid(host: Host, take: str) -> None:
    directory = host.directory(f"entry-{take.replace(' ', '-')}")
    host.create("entry", directory, uid="999", gid="999")
    assert host.run("entry", entrypoint(TAKE[take])).stdout == "999\n"
    assert host.machine.run("stat", "-c", "%U %a", f"{directory}/own").stdout == "alice 700\n"


@pytest.mark.parametrize("take", ["looks first", "insists"])
def test_an_entrypoint_that_can_not_chown_says_so(host: Host, take: str) -> None:
    directory = host.directory(f"refused-{take.replace(' ', '-')}")
    mapped = {"uid": "999", "gid": "999"} if take == "insists" else {}
    host.create("entry", directory, check=True, **mapped)
    assert "chown: /data: Permission denied" in said(host.run("entry", entrypoint(TAKE[take]), check=False))
    assert host.machine.run("ls", directory).stdout == ""


def test_an_entrypoint_that_insists_on_chown_has_its_way_with_a_map_of_users(host: Host) -> None:
    directory = host.directory("mapped")
    for path in ("/root/users", "/root/groups"):
        host.machine.write(path, "root:1000\nwww-data:1000\n")
    files = {"idmap": "file", "uidfile": "/root/users", "gidfile": "/root/groups"}
    host.create("mapped", directory, uid="33", gid="33", check=True, **files)
    assert host.run("mapped", entrypoint(TAKE["insists"], user=33)).stdout == "33\n"
    assert host.machine.run("stat", "-c", "%U", f"{directory}/own").stdout == "alice\n"
    with sleeping(host, "mapped") as container:
        host.machine.run("docker", "cp", "/etc/apt", f"{container}:/data/")


def test_users_of_two_containers_are_told_apart_by_what_the_server_says(host: Host) -> None:
    """A new file belongs to the login, whoever made it: as any other user one can't take it back."""
    directory = host.directory("users")
    host.machine.run("chmod", "0777", directory)
    host.create("users", directory)
    host.run("users", "echo 33 >/data/by-33", "--user", "33:33")
    denied = host.run("users", "echo x >>/data/by-33", "--user", "33:33", check=False)
    assert "Permission denied" in said(denied)
    host.run("users", "echo 1000 >>/data/by-33", "--user", "1000:1000")
    assert host.machine.read(f"{directory}/by-33") == "33\n1000\n"


def test_with_allow_other_all_users_share_all_files(host: Host) -> None:
    directory = host.directory("shared")
    host.create("shared", directory, allow_other="")
    for user in ("0", "33", "1000"):
        host.run("shared", "echo hi >>/data/file; chmod 600 /data/file", "--user", f"{user}:{user}")
    assert host.machine.read(f"{directory}/file") == "hi\nhi\nhi\n"


def test_docker_cp_into_a_volume_wants_to_give_files_to_root(host: Host) -> None:
    directory, machine = host.directory("copied-in"), host.machine
    machine.sh("mkdir -p /root/tree/sub; echo leaf >/root/tree/sub/leaf; chown -R 0:0 /root/tree")
    host.create("copied-in", directory)
    with sleeping(host, "copied-in") as container:
        one = machine.run("docker", "cp", "/root/tree/sub/leaf", f"{container}:/data/leaf", check=False)
        assert "lchown /data/leaf: permission denied" in said(one)
        assert machine.read(f"{directory}/leaf") == "leaf\n"
        tree = machine.run("docker", "cp", "/root/tree", f"{container}:/data/", check=False)
        assert "lchown /data/tree: permission denied" in said(tree)
        assert machine.run("find", f"{directory}/tree").stdout == f"{directory}/tree\n", "it stops at the first"
        # -a keeps the numbers, and the login may give files to itself
        machine.run("chown", "-R", "1000:1000", "/root/tree")
        machine.run("docker", "cp", "-a", "/root/tree", f"{container}:/data/given")
        assert machine.read(f"{directory}/given/sub/leaf") == "leaf\n"


def test_docker_cp_into_a_volume_works_where_the_login_passes_for_root(host: Host) -> None:
    directory, machine = host.directory("passes"), host.machine
    machine.sh("mkdir -p /root/tree/sub; echo leaf >/root/tree/sub/leaf; chown -R 0:0 /root/tree")
    host.create("passes", directory, idmap="user")
    with sleeping(host, "passes") as container:
        machine.run("docker", "cp", "/root/tree", f"{container}:/data/")
        assert machine.read(f"{directory}/tree/sub/leaf") == "leaf\n"
        machine.run("docker", "cp", f"{container}:/data/tree", "/root/back")
        assert machine.read("/root/back/sub/leaf") == "leaf\n"
    machine.run("rm", "-r", "/root/back")


def test_with_userns_remap_a_containers_user_has_another_number(host: Host) -> None:
    machine, directory, path = host.machine, host.directory("remapped"), "/etc/docker/daemon.json"
    before = machine.read(path)
    machine.write(path, json.dumps({**json.loads(before), "userns-remap": "default"}))
    try:
        machine.run("systemctl", "restart", "docker")
        machine.import_busybox_image()
        host.create("plain", directory)
        assert "Permission denied" in said(host.run("plain", "touch /data/by-root", check=False))
        first = int(machine.sh("sed -n 's/^dockremap:\\([0-9]*\\):.*/\\1/p' /etc/subuid").stdout)
        host.create("remapped", directory, uid=str(first + 33), gid=str(first + 33))
        host.run("remapped", "touch /data/by-33", "--user", "33:33")
        assert machine.run("stat", "-c", "%U", f"{directory}/by-33").stdout == "alice\n"
    finally:
        host.clear()
        machine.write(path, before)
        machine.run("systemctl", "restart", "docker")


# ------------------------------------------------------------------------------------------------
# Read-only


def test_a_read_only_volume_is_read_only_for_all_of_its_containers(host: Host) -> None:
    directory = host.directory("readonly")
    host.machine.sh("echo kept >$1/file", directory)
    host.create("readonly", directory, ro="")
    for change in ("echo x >/data/new", "rm /data/file", "echo x >>/data/file"):
        assert "Read-only file system" in said(host.run("readonly", change, check=False))
    assert host.run("readonly", "cat /data/file").stdout == "kept\n"


def test_a_volume_is_read_only_for_the_container_that_says_so(host: Host) -> None:
    directory = host.directory("once")
    host.create("once", directory)
    assert "Read-only file system" in said(host.run("once", "touch /data/file", at="/data:ro", check=False))
    host.run("once", "touch /data/file")


def test_an_image_with_files_needs_nocopy_on_an_empty_volume_that_is_read_only(host: Host) -> None:
    host.create("bare", host.directory("bare"), ro="")
    run = ("docker", "run", "--rm", "-v")
    refused = host.machine.run(*run, "bare:/data", CONTENT_IMAGE, "ls", "/data", check=False)
    assert "read-only file system" in said(refused)
    assert host.machine.run(*run, "bare:/data:ro,nocopy", CONTENT_IMAGE, "ls", "/data").stdout == ""


# ------------------------------------------------------------------------------------------------
# What Docker does with volumes


def test_docker_ignores_new_options_for_a_name_that_it_knows(host: Host) -> None:
    directory = host.directory("known")
    host.machine.sh("echo kept >$1/file", directory)
    host.create("known", directory)
    again = host.create("known", "/nothing/here", uid="33")
    assert (again.stdout, again.stderr) == ("known\n", "")
    assert host.inspect("known")["Options"]["sshcmd"].endswith(directory)
    with sleeping(host, "known") as container:
        assert "volume is in use" in said(host.machine.run("docker", "volume", "rm", "known", check=False))
        assert host.machine.run("docker", "ps", "-a", "--filter", "volume=known", "--format", "{{.Names}}").stdout == (
            f"{container}\n"
        )
    host.machine.run("docker", "volume", "rm", "known")
    host.create("known", directory, uid="33")
    assert host.run("known", "stat -c %u /data/file").stdout == "33\n"
    assert host.machine.read(f"{directory}/file") == "kept\n"


@pytest.mark.parametrize("volume", ["/data", "misspelt:/data"])
def test_a_volume_without_a_server_is_refused_with_what_to_say(host: Host, volume: str) -> None:
    run = ("docker", "run", "--rm", "--volume-driver", "sshfs", "-v", volume, IMAGE, "true")
    assert "option 'sshcmd' is missing: say -o sshcmd=user@host:/dir" in said(host.machine.run(*run, check=False))
    assert host.machine.run("docker", "volume", "ls", "-q").stdout == ""


@pytest.mark.parametrize("name", ["", "source=inline,"])
def test_a_volume_can_be_described_where_it_is_used(host: Host, name: str) -> None:
    directory = host.directory("inline")
    host.machine.sh("echo hello >$1/file", directory)
    mount = f"type=volume,{name}target=/data,volume-driver=sshfs,volume-opt=sshcmd=alice@localhost:{directory}"
    run = ("docker", "run", "--rm", "--mount", f"{mount},volume-opt=IdentityFile={KEY}", IMAGE)
    assert host.machine.run(*run, "cat", "/data/file").stdout == "hello\n"
    left = host.machine.run("docker", "volume", "ls", "-q").stdout
    assert left == ("inline\n" if name else ""), "one without a name goes with its container"
    assert host.machine.read(f"{directory}/file") == "hello\n"


def test_volumes_from_gives_the_volumes_of_another_container(host: Host) -> None:
    host.create("lent", host.directory("lent"))
    with sleeping(host, "lent") as container:
        run = ("docker", "run", "--rm", "--volumes-from")
        host.machine.run(*run, container, IMAGE, "touch", "/data/file")
        assert host.machine.run(*run, f"{container}:ro", IMAGE, "ls", "/data").stdout == "file\n"
        refused = host.machine.run(*run, f"{container}:ro", IMAGE, "touch", "/data/new", check=False)
        assert "Read-only file system" in said(refused)
        assert host.status("lent")["holders"] == 1


def test_volumes_are_listed_and_asked_as_others_are(host: Host) -> None:
    machine, directory = host.machine, host.directory("listed")
    machine.run("docker", "volume", "create", "local")
    host.create("listed", directory)
    host.create("idle", directory)
    with sleeping(host, "listed"):
        ls = ("docker", "volume", "ls", "-q", "-f", "driver=sshfs")
        assert machine.run(*ls).stdout == "idle\nlisted\n"
        assert machine.run(*ls, "-f", "dangling=true").stdout == "idle\n"
        form = "{{.Options.sshcmd}} {{.Status.state}} {{.Mountpoint}}"
        assert machine.run("docker", "volume", "inspect", "-f", form, "listed").stdout == (
            f"alice@localhost:{directory} mounted {MOUNTS}/listed\n"
        )


def test_prune_leaves_volumes_and_the_server_alone(host: Host) -> None:
    directory = host.directory("pruned")
    host.create("pruned", directory)
    host.run("pruned", "echo kept >/data/file")
    host.machine.run("docker", "volume", "prune", "-f")
    host.machine.run("docker", "system", "prune", "-f", "--volumes")
    host.machine.run("docker", "volume", "prune", "-f", "-a", check=False)  # Docker 20.10 knows no -a here
    assert host.machine.run("docker", "volume", "ls", "-q").stdout == "pruned\n"
    assert host.machine.read(f"{directory}/file") == "kept\n"


@pytest.mark.usefixtures("live_restore")
def test_with_live_restore_a_container_writes_on_while_docker_restarts(host: Host) -> None:
    directory = host.directory("live")
    host.create("live", directory)
    with host.writing("live", directory):
        host.machine.run("systemctl", "restart", "docker")
        host.await_progress(directory)
        assert host.status("live")["holders"] == 1
    host.machine.until(lambda: not host.is_mounted("live"))


@pytest.mark.usefixtures("live_restore")
def test_docker_cp_after_live_restore_takes_no_volume_away(host: Host) -> None:
    """Docker takes the end of the copy for the end of the container, and may not tell of the real one."""
    machine, directory = host.machine, host.directory("outlived")
    host.create("outlived", directory)
    with host.writing("outlived", directory) as container:
        machine.run("systemctl", "restart", "docker")
        machine.run("docker", "cp", f"{container}:/data/log", "/root/copied")
        host.await_progress(directory)
    machine.run("docker", "volume", "rm", "outlived")
    machine.until(lambda: not host.is_mounted("outlived"))


# ------------------------------------------------------------------------------------------------
# The page


def test_a_container_is_started_as_soon_as_its_server_is_there(host: Host) -> None:
    """For which Docker does not care."""
    machine = host.machine
    unit = block("docs/everyday.md", "[Unit]\nDescription=Start the container")
    machine.write("/etc/systemd/system/start-site.service", unit.replace("RestartSec=10", "RestartSec=1"))
    host.create("late", host.directory("late"))
    host.start("site", "late", STAY, "--restart", "always")
    running = ("docker", "inspect", "-f", "{{.State.Running}}", "site")
    try:
        machine.run("systemctl", "stop", "ssh")
        host.cut_connections()  # else the volume could share the one that stands
        machine.run("systemctl", "restart", "docker")
        assert machine.run(*running).stdout == "false\n"
        machine.sh("systemctl daemon-reload && systemctl start --no-block start-site")
        machine.until("systemctl show -P Result start-site | grep exit-code")
        machine.run("systemctl", "start", "ssh")
        machine.until(lambda: machine.run(*running).stdout == "true\n")
    finally:
        machine.sh("systemctl start ssh; systemctl stop start-site; rm /etc/systemd/system/start-site.service")


def test_the_commands_of_the_page_work_as_written(host: Host) -> None:
    machine = host.machine
    machine.sh("for name in web app db files; do install -d -o alice /srv/$name; done")
    machine.sh("docker tag $1 busybox; docker tag $2 my-image", IMAGE, CONTENT_IMAGE)
    machine.sh("install -m 600 $1 /etc/docker-volume-sshfs/id_ed25519", KEY)
    try:
        machine.sh(script("docs/everyday.md"))
        assert machine.run("stat", "-c", "%U", "/srv/web/by-www-data", "/srv/web/two").stdout == "alice\nalice\n"
        assert machine.read("/srv/app/sub/file") == "content below\n"
        assert machine.run("test", "-e", "/srv/files/apt/sources.list")
        assert machine.run("test", "-e", "/srv/web/apt/sources.list")
        assert machine.run("readlink", "/srv/web/back/releases/up").stdout == "../one\n"
        assert machine.run("docker", "volume", "ls", "-q").stdout == ""
    finally:
        machine.sh("cd /etc/docker-volume-sshfs; rm -f id_ed25519 alices-users /root/web.tar")
