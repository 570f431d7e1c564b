# SPDX-License-Identifier: MIT
"""What programs see of a lost connection: with the relay, which is the default, and where reads do not survive."""

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from integration.mountpoints import error_of, is_back, mounted, opened, waits
from integration.plugin import Plugin, Refused, await_that
from integration.sshd import Server, end, start_server

T = TypeVar("T")

MOST_SECONDS_OF_A_FAILURE = 2.0
"""Far more than the 0.1 seconds that it takes on a machine that does nothing else, and far less than ssh would take."""


@pytest.fixture(scope="module")
def shaky(server: Server) -> Iterator[Server]:
    """A server that may be cut and switched off without harm to other tests."""
    with start_server(model=server) as own:
        yield own


@contextmanager
def beside(act: Callable[[], T]) -> Iterator[Future[T]]:
    """Do something in a thread; it waits for the server when this returns."""
    thread: list[int] = []

    def run() -> T:
        thread.append(threading.get_native_id())
        return act()

    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(run)
        await_that(lambda: bool(thread) and waits(thread[0]), "it waits for the server")
        yield future


def cut_amid(server: Server, act: Callable[[], T]) -> T:
    """Do something that waits for the server, and cut the connection amid it."""
    with server.frozen_connections() as processes, beside(act) as future:
        end(processes)
        return future.result(300)


def test_reads_that_are_cut_get_their_data(plugin: Plugin, shaky: Server) -> None:
    """Without the relay each of them ends with no data and no error."""
    data = {size: os.urandom(size) for size in (4 << 10, 100 << 10, 20 << 20)}
    with mounted(plugin, shaky, "cut") as (mountpoint, directory), ExitStack() as stack:
        for size, content in data.items():
            (directory / f"{size}").write_bytes(content)
        files = {size: stack.enter_context(opened(mountpoint / f"{size}")) for size in data}
        with shaky.frozen_connections() as processes, ExitStack() as reading:
            got = {size: reading.enter_context(beside(partial(os.read, file, size))) for size, file in files.items()}
            end(processes)
            assert {size: future.result(300) for size, future in got.items()} == data


def test_a_file_that_is_read_while_a_connection_is_cut_comes_whole(plugin: Plugin, shaky: Server) -> None:
    data = os.urandom(40 << 20)
    with mounted(plugin, shaky, "stream") as (mountpoint, directory):
        (directory / "file").write_bytes(data)
        got = b""
        with opened(mountpoint / "file") as file:
            while piece := os.read(file, 1 << 20):
                got += piece
                if len(got) == 5 << 20:
                    shaky.cut_connections()
        assert got == data


def test_where_the_relay_is_off_a_read_that_is_cut_may_look_like_the_end(plugin: Plugin, shaky: Server) -> None:
    """What sshfs does by itself, and what the pages say of it; the day that this fails the relay may go."""
    with mounted(plugin, shaky, "bare", relay="no") as (mountpoint, directory):
        (directory / "file").write_bytes(os.urandom(100 << 10))
        with pytest.raises(OSError, match="Input/output error"), opened(mountpoint / "file") as file:
            assert cut_amid(shaky, lambda: os.read(file, 64 << 10)) == b""


def test_while_the_server_is_away_all_but_reads_fails_at_once_and_comes_back_by_itself(
    plugin: Plugin, shaky: Server
) -> None:
    with mounted(plugin, shaky, "away") as (mountpoint, directory):
        (directory / "file").write_text("still here")
        with opened(mountpoint / "file") as file, ExitStack() as stack:
            with shaky.away():
                await_that(lambda: not is_back(mountpoint), "the loss is seen")
                await_that(lambda: plugin.status("away")["state"] == "unresponsive", "the state is told")
                await_that(lambda: "Connection refused" in plugin.status("away")["lastError"], "the cause is told")
                assert plugin.status("away")["lastError"].endswith("it is tried again every 4 seconds")

                def fails(number: int) -> float:
                    started = time.monotonic()
                    assert error_of((mountpoint / f"other {number}").stat) == errno.EIO
                    return time.monotonic() - started

                with ThreadPoolExecutor(8) as threads:
                    assert max(threads.map(fails, range(8))) < MOST_SECONDS_OF_A_FAILURE
                assert error_of(lambda: (mountpoint / "new").write_text("x")) == errno.EIO
                reading = stack.enter_context(beside(lambda: os.read(file, 100)))
                assert not reading.done()
            assert reading.result(300) == b"still here"
            await_that(lambda: is_back(mountpoint), "the connection is back")
        await_that(lambda: plugin.status("away")["state"] == "mounted", "the state is well again")
        assert "lastError" not in plugin.status("away")


def test_a_read_that_begins_while_the_server_is_away_gets_its_data(plugin: Plugin, shaky: Server) -> None:
    """Of a volume that remembers nothing, each read asks first how the file looks."""
    with mounted(plugin, shaky, "asked", profile="strict") as (mountpoint, directory):
        (directory / "file").write_text("still here")
        with opened(mountpoint / "file") as file, ExitStack() as stack:
            with shaky.away():
                await_that(lambda: not is_back(mountpoint), "the loss is seen")
                reading = stack.enter_context(beside(lambda: os.read(file, 100)))
                await_that(lambda: error_of((mountpoint / "file").stat) == errno.EIO, "it fails at once")
                assert not reading.done()
            assert reading.result(300) == b"still here"


def test_writes_over_a_lost_connection_are_errors_and_nothing_is_written_later(plugin: Plugin, shaky: Server) -> None:
    with mounted(plugin, shaky, "writes") as (mountpoint, directory):
        with opened(mountpoint / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND) as file:
            os.write(file, b"first\n")
            os.fsync(file)
            shaky.cut_connections()
            await_that(lambda: is_back(mountpoint), "the connection is back")
            assert errno.EIO in (error_of(lambda: os.write(file, b"second\n")), error_of(lambda: os.fsync(file)))
            assert error_of(lambda: os.fsync(file)) == errno.EIO, "for ever: the file is to be opened again"
        assert (directory / "log").read_text() == "first\n"
        with opened(mountpoint / "log", os.O_WRONLY | os.O_APPEND) as file:
            os.write(file, b"third\n")
            os.fsync(file)
        assert (directory / "log").read_text() == "first\nthird\n"


CHANGES: Mapping[str, Callable[[Path], object]] = {
    "mkdir": lambda path: (path / "dir").mkdir(),
    "rename": lambda path: (path / "old").rename(path / "new"),
    "unlink": lambda path: (path / "old").unlink(),
    "chmod": lambda path: (path / "old").chmod(0o600),
    "symlink": lambda path: (path / "link").symlink_to("old"),
    "link": lambda path: (path / "hard").hardlink_to(path / "old"),
    "truncate": lambda path: os.truncate(path / "old", 1),
    "create": lambda path: (path / "empty").touch(),
}
"""What can be changed, each in a directory of its own, since the kernel makes the changes of one in turn."""


def test_changes_that_are_cut_are_errors_and_are_not_made_later(plugin: Plugin, shaky: Server) -> None:
    with mounted(plugin, shaky, "changes") as (mountpoint, directory):
        for name in CHANGES:
            path = shaky.make(f"changes/{name}")
            (path / "old").write_text("old")
            assert (mountpoint / name / "old").read_text() == "old"
        before = sorted((path, path.stat().st_mode, path.stat().st_size) for path in directory.glob("*/*"))
        with ExitStack() as stack, shaky.frozen_connections() as processes:
            made = {
                name: stack.enter_context(beside(partial(error_of, partial(act, mountpoint / name))))
                for name, act in CHANGES.items()
            }
            end(processes)
            assert {name: future.result(300) for name, future in made.items()} == dict.fromkeys(CHANGES, errno.EIO)
        await_that(lambda: is_back(mountpoint), "the connection is back")
        after = sorted((path, path.stat().st_mode, path.stat().st_size) for path in directory.glob("*/*"))
        assert after == before


def test_a_file_that_was_replaced_meanwhile_is_an_error_to_its_reader(plugin: Plugin, shaky: Server) -> None:
    """What sshfs can't tell the reader its end tells, and the mount is made anew."""
    with mounted(plugin, shaky, "replaced") as (mountpoint, directory):
        (directory / "file").write_bytes(os.urandom(2 << 20))
        with pytest.raises(OSError, match="not connected"), opened(mountpoint / "file") as file:
            assert len(os.read(file, 4096)) == 4096

            def replace_amid() -> bytes:
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                return os.pread(file, 4096, 1 << 20)

            with shaky.frozen_connections() as processes, beside(replace_amid) as reading:
                (directory / "other").write_bytes(b"other")
                (directory / "other").replace(directory / "file")
                end(processes)
                reading.result(300)
        await_that(lambda: not error_of((mountpoint / "file").stat), "it is mounted anew")
        assert (mountpoint / "file").read_bytes() == b"other"


def test_a_file_that_was_replaced_is_an_error_to_a_reader_who_has_a_part_from_the_kernel(
    plugin: Plugin, shaky: Server
) -> None:
    """The server has answered no read of this descriptor: what it has was read by another."""
    with mounted(plugin, shaky, "cached") as (mountpoint, directory):
        (directory / "file").write_bytes(b"A" * (4 << 20))
        os.utime(directory / "file", (1e9, 1e9))
        with (
            pytest.raises(OSError, match="not connected"),
            opened(mountpoint / "file") as other,
            opened(mountpoint / "file") as file,
        ):
            assert os.pread(other, 1 << 20, 0) == os.pread(file, 1 << 20, 0) == b"A" * (1 << 20)

            def replace_amid() -> bytes:
                return os.pread(file, 4096, 3 << 20)

            with shaky.frozen_connections() as processes, beside(replace_amid) as reading:
                (directory / "other").write_bytes(b"B" * (4 << 20))
                (directory / "other").replace(directory / "file")
                end(processes)
                reading.result(300)
        await_that(lambda: not error_of((mountpoint / "file").stat), "it is mounted anew")


def test_a_file_that_has_only_grown_can_be_read_on(plugin: Plugin, shaky: Server) -> None:
    with mounted(plugin, shaky, "grown", dir_cache="no", attr_timeout="0") as (mountpoint, directory):
        (directory / "log").write_bytes(b"one\n")
        with opened(mountpoint / "log") as file:
            assert os.read(file, 100) == b"one\n"
            with shaky.away(), (directory / "log").open("ab") as log:
                log.write(b"two\n")
            await_that(lambda: is_back(mountpoint), "the connection is back")
            await_that(lambda: os.fstat(file).st_size == 8, "it is seen to have grown")
            assert os.read(file, 100) == b"two\n"


def test_a_read_that_waits_for_too_long_is_an_error(plugin: Plugin, shaky: Server) -> None:
    with mounted(plugin, shaky, "limit", read_timeout="2") as (mountpoint, directory):
        (directory / "file").write_bytes(os.urandom(1 << 20))
        with pytest.raises(OSError, match="not connected"), opened(mountpoint / "file") as file, shaky.away():
            assert os.pread(file, 4096, 0) == b"nothing"
        plugin.unmount("limit")
        plugin.mount("limit")


def test_a_read_amid_which_the_relay_is_killed_is_an_error(plugin: Plugin, shaky: Server) -> None:
    """The end of its connection sshfs would take for the end of the file."""
    with mounted(plugin, shaky, "orphan") as (mountpoint, directory):
        (directory / "file").write_bytes(os.urandom(1 << 20))
        with pytest.raises(OSError, match="not connected"), opened(mountpoint / "file") as file:  # when it is closed
            assert os.pread(file, 10, 0) == (directory / "file").read_bytes()[:10]
            relay = plugin.program_of("orphan", "relay")
            with shaky.frozen_connections(), beside(lambda: os.pread(file, 4096, 512 << 10)) as reading:
                os.kill(relay, signal.SIGKILL)
                with pytest.raises(OSError, match="not connected|connection abort"):
                    reading.result(300)
        plugin.unmount("orphan")
        plugin.mount("orphan")


def test_a_login_that_is_refused_is_not_tried_for_ever(plugin: Plugin, server: Server) -> None:
    with start_server(model=server) as fickle, mounted(plugin, fickle, "fickle") as (mountpoint, _):
        keys = fickle.directory / "authorized_keys"
        held = keys.read_text()
        keys.write_text("")
        fickle.cut_connections()
        await_that(lambda: "Permission denied" in plugin.status("fickle").get("lastError", ""), "the cause is told")
        told = plugin.status("fickle")
        assert told["state"] == "unresponsive"
        assert told["lastError"].endswith("the login is tried again 1 minute later")
        assert error_of((mountpoint / "x").stat) == errno.EIO
        with pytest.raises(Refused, match="refused to let"):
            plugin.mount("fickle", "another")
        assert plugin.status("fickle")["lastError"] == told["lastError"], "that login is not the relay's"
        keys.write_text(held)
        plugin.mount("fickle", "another")
        assert error_of((mountpoint / "x").stat) == errno.ENOENT, "the connection is back for all who use the volume"
        plugin.unmount("fickle", "another")
