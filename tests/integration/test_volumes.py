# SPDX-License-Identifier: MIT
"""Volumes from Create to Remove, through the real programs."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support.impostors import silent_port

from integration.mountpoints import error_of, waits
from integration.plugin import DOCKER, PODMAN, Plugin, Refused, await_that
from integration.sshd import Server
from sshfs_plugin.driver.locks import CONNECTS_PER_SERVER
from sshfs_plugin.mounts import mountinfo


def as_user(user: int, *argv: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command as somebody who is not root."""
    words = ["timeout", "-s", "KILL", "300", "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *argv]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_a_volume_shows_the_servers_directory_and_rm_leaves_it_alone(plugin: Plugin, server: Server) -> None:
    photos = server.make("story")
    (photos / "old.txt").write_text("from the server")
    plugin.create("photos", server.options(photos))
    mountpoint = plugin.mount("photos")
    assert (mountpoint / "old.txt").read_text() == "from the server"
    (mountpoint / "new.txt").write_text("from the container")
    assert (photos / "new.txt").read_text() == "from the container"
    assert plugin.status("photos")["state"] == "mounted"
    plugin.unmount("photos")
    assert not mountpoint.exists()
    assert plugin.status("photos")["state"] == "unmounted"
    plugin.call("Remove", Name="photos")
    assert sorted(path.name for path in photos.iterdir()) == ["new.txt", "old.txt"]
    assert plugin.call("List")["Volumes"] == []


def test_remove_of_one_of_two_volumes_on_a_directory_erases_nothing(plugin: Plugin, server: Server) -> None:
    """What vieux/sshfs did: an unused volume's rm went through the other one's live mount."""
    shared = server.make("shared")
    (shared / "precious").write_text("kept")
    for name in ("aa", "bb"):
        plugin.create(name, server.options(shared))
    mountpoint = plugin.mount("aa")
    plugin.call("Remove", Name="bb")
    assert (shared / "precious").read_text() == "kept"
    assert (mountpoint / "precious").read_text() == "kept"
    plugin.unmount("aa")


def test_a_mounted_volume_survives_restart_and_kill_of_the_service(plugin: Plugin, server: Server) -> None:
    directory = server.make("survivor")
    plugin.create("survivor", server.options(directory))
    mountpoint = plugin.mount("survivor")
    process = plugin.sshfs_process("survivor")
    with (mountpoint / "log").open("w") as log:
        for how in (signal.SIGTERM, signal.SIGKILL):
            plugin.restart(how)
            log.write(f"{how.name}\n")
            log.flush()
    assert (directory / "log").read_text() == "SIGTERM\nSIGKILL\n"
    assert plugin.sshfs_process("survivor") == process
    assert plugin.status("survivor")["holders"] == 1
    assert plugin.mount("survivor", "two") == mountpoint
    plugin.unmount("survivor", "one")
    assert (mountpoint / "log").exists()
    plugin.unmount("survivor", "two")
    assert not mountpoint.exists()


def test_a_killed_sshfs_is_brought_back_and_nothing_is_written_locally_meanwhile(
    plugin: Plugin, server: Server
) -> None:
    directory = server.make("killed")
    plugin.create("killed", server.options(directory))
    mountpoint = plugin.mount("killed")
    killed = plugin.sshfs_process("killed")
    os.kill(killed, signal.SIGKILL)
    attempts: list[str] = []

    def try_to_write() -> bool:
        try:
            (mountpoint / "after").write_text("x")
        except OSError as error:
            attempts.append(str(error.strerror))
            return False
        return True

    await_that(try_to_write, "the volume is mounted again")
    assert (directory / "after").read_text() == "x", "a lost mount must not take files for the local disk"
    assert attempts
    assert plugin.sshfs_process("killed") != killed
    assert plugin.mount("killed", "two") == mountpoint
    plugin.unmount("killed", "one")
    plugin.unmount("killed", "two")


def test_a_lost_connection_is_made_again(plugin: Plugin, server: Server) -> None:
    directory = server.make("reconnect")
    plugin.create("reconnect", server.options(directory))
    mountpoint = plugin.mount("reconnect")
    server.cut_connections()
    await_that(lambda: _written(mountpoint / "file"), "the connection is back")
    assert (directory / "file").read_text() == "again"
    plugin.unmount("reconnect")


def _written(path: Path) -> bool:
    try:
        path.write_text("again")
    except OSError:
        return False
    return True


def test_a_read_that_is_cut_is_an_error_where_nothing_is_remembered(plugin: Plugin, server: Server) -> None:
    """As the pages say; with anything less, sshfs tells the reader that the file has ended."""
    directory = server.make("cut")
    (directory / "file").write_bytes(os.urandom(100 << 10))
    plugin.create("cut", server.options(directory, relay="no", dir_cache="no", attr_timeout="0"))
    file = plugin.mount("cut") / "file"
    opened = os.open(file, os.O_RDONLY)
    with server.frozen_connections() as processes:
        reader: list[int] = []

        def read() -> bytes:
            reader.append(threading.get_native_id())
            return os.read(opened, 64 << 10)

        with ThreadPoolExecutor(1) as threads:
            reading = threads.submit(read)
            await_that(lambda: reader and waits(reader[0]), "the read waits for the server")
            for process in processes:
                os.kill(process, signal.SIGKILL)
            with pytest.raises(OSError, match="Input/output error"):
                reading.result(300)
    # before sshfs has another connection it takes the file for open
    await_that(lambda: not error_of(file.stat), "it is connected again")
    with pytest.raises(OSError, match="Input/output error"):
        os.close(opened)
    plugin.unmount("cut")
    plugin.call("Remove", Name="cut")


def test_what_another_mount_namespace_uses_is_not_taken_away(plugin: Plugin, server: Server) -> None:
    """A container that Docker has lost count of keeps its files."""
    directory = server.make("container")
    (directory / "file").write_text("still here")
    plugin.create("container", server.options(directory))
    mountpoint = plugin.mount("container")
    # volumes of other tests are not to be in use here
    others = f"findmnt -rn -t fuse.sshfs -o TARGET | grep -vxF {mountpoint} | xargs -r umount -l"
    script = f"{others}; mount --bind {mountpoint} {mountpoint} && echo ready && read line && cat {mountpoint}/file"
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation=private", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as container:
        assert container.stdin
        assert container.stdout
        assert container.stdout.readline() == "ready\n"
        plugin.unmount("container")
        assert mountpoint.exists(), "it stays mounted"
        with pytest.raises(Refused, match=r"volume 'container' is still in use by a running container.*stop it"):
            plugin.call("Remove", Name="container")
        assert plugin.mount("container", "two") == mountpoint, "the next Mount adopts it"
        plugin.unmount("container", "two")
        container.stdin.write("go\n")
        container.stdin.flush()
        assert container.stdout.read() == "still here"
    plugin.call("Remove", Name="container")
    assert not mountpoint.exists()


def test_what_a_process_on_the_host_uses_is_not_taken_away(plugin: Plugin, server: Server) -> None:
    plugin.create("busy", server.options(server.make("busy")))
    mountpoint = plugin.mount("busy")
    with (mountpoint / "open").open("w"):
        plugin.unmount("busy")
        assert mountpoint.exists()
    plugin.call("Remove", Name="busy")
    assert not mountpoint.exists()


def test_without_a_word_other_users_are_held_to_owner_and_mode(plugin: Plugin, server: Server) -> None:
    directory = server.make("modes")
    for name, mode in (("open", 0o644), ("secret", 0o600)):
        (directory / name).write_text(name)
        (directory / name).chmod(mode)
        shutil.chown(directory / name, server.user)
    plugin.create("default", server.options(directory))
    plugin.create("everyone", server.options(directory, allow_other=""))
    plugin.create("root-only", server.options(directory, allow_other="no"))
    with _reachable_by_others({name: plugin.mount(name) for name in ("default", "everyone", "root-only")}) as inside:
        read = {
            (name, file): as_user(4711, "cat", path / file).returncode == 0
            for name, path in inside.items()
            for file in ("open", "secret")
        }
    assert read == {
        ("default", "open"): True,
        ("default", "secret"): False,
        ("everyone", "open"): True,
        ("everyone", "secret"): True,
        ("root-only", "open"): False,
        ("root-only", "secret"): False,
    }
    assert plugin.status("everyone")["access"].startswith("everyone, unchecked")
    assert plugin.status("default")["access"] == "as owner, group and mode allow"
    assert plugin.status("root-only")["access"] == "root only"
    for name in inside:
        plugin.unmount(name)


@contextmanager
def _reachable_by_others(mountpoints: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    """Bind mounts to where every user can go, as a container's are."""
    top = Path(tempfile.mkdtemp(prefix="sshfs-test-", dir="/var/tmp"))
    top.chmod(0o755)
    inside = {name: top / name for name in mountpoints}
    for name, path in inside.items():
        path.mkdir()
        subprocess.run(["mount", "--bind", mountpoints[name], path], check=True)
    try:
        yield inside
    finally:
        for path in inside.values():
            subprocess.run(["umount", path], check=True)
            path.rmdir()
        top.rmdir()


def test_uid_gid_umask_and_ro_show_in_the_mount(plugin: Plugin, server: Server) -> None:
    directory = server.make("shown")
    (directory / "file").write_text("x")
    plugin.create("shown", server.options(directory, **{"uid": "1000,gid=1001", "umask": "027", "ro": ""}))
    mountpoint = plugin.mount("shown")
    file = (mountpoint / "file").stat()
    assert (file.st_uid, file.st_gid, file.st_mode & 0o777) == (1000, 1001, 0o750)
    with pytest.raises(OSError, match="Read-only"):
        (mountpoint / "new").touch()
    plugin.unmount("shown")


@pytest.mark.parametrize(
    "name", ["with blank", "comma,comma", "quote'\"quote", "back\\slash", "per%cent %h", "ünïcödé ✓", "$HOME", "co:lon"]
)
def test_directories_of_any_name_work(plugin: Plugin, server: Server, name: str) -> None:
    directory = server.make(name)
    plugin.create("named", server.options(directory))
    (plugin.mount("named") / "file").write_text("x")
    assert (directory / "file").exists()
    plugin.unmount("named")


def test_twenty_volumes_mount_at_once_while_get_answers(plugin: Plugin, server: Server) -> None:
    names = [f"many-{number}" for number in range(20)]
    for name in names:
        plugin.create(name, server.options(server.make(name), check="mount"))
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            plugin.mount(name)
        except BaseException as error:  # noqa: BLE001 (a thread's failure is shown below)
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        plugin.call("Get", Name=names[0])
        assert len(plugin.call("List")["Volumes"]) == len(names)
    assert not failures
    assert set(mountinfo.sshfs_below(plugin.settings.mounts)) == set(names)
    for name in names:
        plugin.unmount(name)


def test_a_dead_port_keeps_no_volume_waiting_on_another_port_of_the_same_host(plugin: Plugin, server: Server) -> None:
    """As at the start of a Docker that mounts all volumes at once, and tries none again."""
    with ExitStack() as listening, ThreadPoolExecutor(24) as calls:
        port = listening.enter_context(silent_port())
        dead, well = [f"dead-{number}" for number in range(20)], [f"well-{number}" for number in range(3)]
        for name in dead:
            patient = {"port": str(port), "check": "mount", "ConnectTimeout": "60"}
            plugin.create(name, server.options(server.make(name), **patient))
        for name in well:
            plugin.create(name, server.options(server.make(name), check="mount"))
        failing = [calls.submit(plugin.mount, name) for name in dead]
        await_that(lambda: _connecting(port) == CONNECTS_PER_SERVER, "as many connect to the dead port as may at once")
        plugin.create("new", server.options(server.make("new")))
        for mounting in [calls.submit(plugin.mount, name) for name in (*well, "new")]:
            mounting.result()
        assert not any(mounting.done() for mounting in failing)
        listening.close()  # from now on the kernel refuses
        for mounting in failing:
            with pytest.raises(Refused, match=f"cannot connect to 127.0.0.1 port {port}, connection refused"):
                mounting.result()
    for name in (*well, "new"):
        plugin.unmount(name)


def _connecting(port: int) -> int:
    """Count the connections to a port of this host that are still asked for."""
    asked_for = f" 0100007F:{port:04X} 02 "
    return Path("/proc/net/tcp").read_text().count(asked_for)


def test_a_client_that_went_before_it_had_its_reply_holds_nothing(plugin: Plugin, server: Server) -> None:
    plugin.create("unheard", server.options(server.make("unheard")))
    connection = plugin.connect()
    with connection.sock as client:
        client.shutdown(socket.SHUT_RD)  # from here on nothing can be sent to it
        connection.request("POST", "/VolumeDriver.Mount", '{"Name": "unheard", "ID": "one"}', DOCKER)
        await_that(lambda: plugin.status("unheard")["state"] == "mounted", "it is mounted")
    await_that(lambda: plugin.status("unheard")["holders"] == 0, "nobody holds it")
    assert not list(plugin.settings.holders.iterdir())
    plugin.mount("unheard", "two")
    plugin.unmount("unheard", "two")
    await_that(lambda: plugin.status("unheard")["state"] == "unmounted", "it is unmounted, at the next look if need be")


def test_podman_is_told_before_it_gives_up(plugin: Plugin) -> None:
    """A server that accepts connections and never speaks must not use up Podman's five seconds."""
    with _silent_server() as port:
        options = {"sshcmd": "a@127.0.0.1:/x", "port": str(port), "check": "mount", "password": "x"}
        plugin.create("silent", {**options, "ConnectTimeout": "100"})
        # far more than Podman's time, which a busy host may exceed, and far less than the server's
        with pytest.raises(Refused, match="has not spoken SSH in time"):
            plugin.call("Mount", seconds=50, headers=PODMAN, Name="silent", ID="2f73")


class _silent_server:
    def __enter__(self) -> int:
        self._socket = socket.create_server(("127.0.0.1", 0))
        port: int = self._socket.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._socket.close()
