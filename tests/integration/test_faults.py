# SPDX-License-Identifier: MIT
"""Programs are killed at random moments; what was acknowledged is there afterwards, and nothing else is left."""

import contextlib
import errno
import os
import random
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import pytest
from support.long import normally

from integration.mountpoints import error_of
from integration.plugin import Plugin, Refused, await_that
from integration.sshd import Server, start_server
from sshfs_plugin.mounts import mountinfo

CUT_OFF = (OSError, HTTPException)
"""What a client sees of a service that is killed."""

LONGEST_VERB_SECONDS = 1.0


class Life:
    """One volume, and what was acknowledged of it.

    Attributes:
        name: Its name.
        exists: Whether it must exist; None if the answer was cut off.
        held: The mount IDs whose Mount was answered and whose Unmount was not.
    """

    def __init__(self, plugin: Plugin, server: Server, name: str) -> None:
        self.name = name
        self.exists: bool | None = False
        self.held: list[str] = []
        self._plugin = plugin
        self._options = server.options(server.make(name))
        self._serial = 0

    def step(self) -> None:
        """Do what comes next: create, mount and write, unmount, remove."""
        if self.exists is not True:
            self.exists = None
            self._plugin.create(self.name, self._options)
            self.exists = True
        elif not self.held:
            self._serial += 1
            mount_id = f"{self.name}-{self._serial}"
            mountpoint = self._plugin.mount(self.name, mount_id)
            self.held.append(mount_id)
            (mountpoint / mount_id).write_text(mount_id)
        elif self._serial % 3:
            self._plugin.unmount(self.name, self.held.pop())
        else:
            self._plugin.unmount(self.name, self.held.pop())
            self.exists = None
            self._plugin.call("Remove", Name=self.name)
            self.exists = False

    def verify(self) -> None:
        """Check that everything acknowledged is there."""
        listed = {volume["Name"] for volume in self._plugin.call("List")["Volumes"]}
        if self.exists is not None:
            assert (self.name in listed) is self.exists, f"{self.name} was acknowledged"
        for mount_id in self.held:
            written = self._plugin.settings.mounts / self.name / mount_id
            assert written.read_text() == mount_id, f"{self.name} is mounted for {mount_id}"

    def end(self) -> None:
        """Give everything back and remove the volume."""
        while self.held:
            self._plugin.unmount(self.name, self.held.pop())
        await_that(self._is_removed, f"{self.name} is removed")

    def _is_removed(self) -> bool:
        """Remove the volume; a Mount that a kill has cut off may go on for a moment, which counts as use."""
        try:
            self._plugin.call("Remove", Name=self.name)
        except Refused as refusal:
            return str(refusal).startswith(f"volume '{self.name}' not found")
        return True


def programs_of(plugin: Plugin) -> dict[int, str]:
    """Return the programs of volumes that run below a plugin's directory, and what was not reaped of them."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_text(errors="replace").replace("\0", " ")
            if f"{plugin.directory}/" in words and "gunicorn" not in words:
                found[int(process.name)] = words
    return found


@contextlib.contextmanager
def stopping() -> Iterator[threading.Event]:
    """Give what tells threads to stop, so that none goes on after a failure."""
    stop = threading.Event()
    try:
        yield stop
    finally:
        stop.set()


def _answers(plugin: Plugin) -> bool:
    try:
        plugin.call("List")
    except CUT_OFF:
        return False
    return True


def assert_nothing_is_left(plugin: Plugin) -> None:
    """Check that there is no mount, record, holder or process any more, once idle connections are ended."""
    await_that(lambda: not mountinfo.sshfs_below(plugin.settings.mounts), "all is unmounted")
    plugin.end_connections()
    await_that(lambda: not programs_of(plugin), "all programs of volumes have ended")
    assert list(plugin.settings.volumes.glob("*")) == []
    assert list(plugin.settings.holders.glob("*")) == []
    assert list(plugin.settings.mounts.glob("*")) == []
    assert plugin.call("List")["Volumes"] == []


def test_kills_of_the_service_at_any_moment_lose_nothing_that_was_acknowledged(plugin: Plugin, server: Server) -> None:
    chance = random.Random(11)  # noqa: S311 (the same moments each time)
    lives = [Life(plugin, server, f"killed{number}") for number in range(3)]

    def live(life: Life, stop: threading.Event) -> None:
        with contextlib.suppress(*CUT_OFF):
            while not stop.is_set():
                life.step()

    with ThreadPoolExecutor(len(lives)) as threads:
        for _ in range(normally(8, 300)):
            with stopping() as stop:
                living = [threads.submit(live, life, stop) for life in lives]
                time.sleep(chance.uniform(0, LONGEST_VERB_SECONDS))  # the moment of the kill is what is tried
                how = chance.choice((plugin.kill_worker, plugin.kill_master, plugin.kill))
                how()
                if how != plugin.kill_worker:
                    plugin.kill()
            for future in living:
                future.result(300)
            if how != plugin.kill_worker:
                plugin.start()
            await_that(lambda: _answers(plugin), "the service is back")
            for life in lives:
                life.verify()
    for life in lives:
        life.end()
    assert_nothing_is_left(plugin)


@pytest.mark.parametrize("volumes", [normally(6, 50)])
def test_kills_of_the_programs_of_volumes_leave_the_others_alone(plugin: Plugin, server: Server, volumes: int) -> None:
    """Some volumes are used while the sshfs, relay, ssh or connection of others is killed."""
    chance = random.Random(12)  # noqa: S311 (the same moments each time)
    with start_server(model=server) as shaky:
        steady = [(f"steady{number}", server) for number in range(volumes // 2)]
        shaken = [(f"shaken{number}", shaky) for number in range(volumes - len(steady))]
        for name, where in steady + shaken:
            plugin.create(name, where.options(where.make(name)))
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda volume: plugin.mount(volume[0]), steady + shaken))
        with ThreadPoolExecutor(len(steady)) as threads, stopping() as stop:

            def use(volume: tuple[str, Server]) -> int:
                times = 0
                while not stop.is_set():
                    path = plugin.settings.mounts / volume[0] / "file"
                    path.write_text(str(times))
                    assert path.read_text() == str(times)
                    times += 1
                return times

            using = [threads.submit(use, volume) for volume in steady]
            limit, took = time.monotonic() + normally(6, 120), []
            while time.monotonic() < limit:
                _kill_one(plugin, shaky, chance.choice(shaken)[0], chance)
                asked = time.monotonic()
                plugin.call("List")
                took.append(time.monotonic() - asked)
            # a single one may wait for a processor
            assert statistics.median(took) < LONGEST_VERB_SECONDS
            stop.set()
            assert all(future.result(300) > 0 for future in using)
        for name, _ in steady + shaken:
            plugin.unmount(name)
            plugin.call("Remove", Name=name)
    assert_nothing_is_left(plugin)


def _kill_one(plugin: Plugin, server: Server, name: str, chance: random.Random) -> None:
    kinds: tuple[Callable[[], object], ...] = (
        lambda: os.kill(plugin.sshfs_process(name), signal.SIGKILL),
        lambda: os.kill(plugin.program_of(name, "relay"), signal.SIGKILL),
        lambda: os.kill(plugin.program_of(name, "/usr/bin/ssh"), signal.SIGKILL),
        server.cut_connections,
    )
    with contextlib.suppress(AssertionError, ProcessLookupError):  # it was killed just before
        chance.choice(kinds)()


def test_one_volume_is_mounted_once_however_many_ask_for_it(plugin: Plugin, server: Server) -> None:
    plugin.create("popular", server.options(server.make("popular")))
    mount_ids = [f"id{number}" for number in range(32)]

    def come_and_go(mount_id: str) -> None:
        for _ in range(normally(2, 40)):
            mountpoint = plugin.mount("popular", mount_id)
            (mountpoint / mount_id).write_text(mount_id)
            assert (mountpoint / mount_id).read_text() == mount_id
            plugin.unmount("popular", mount_id)

    with ThreadPoolExecutor(len(mount_ids)) as threads:
        list(threads.map(come_and_go, mount_ids))
    plugin.call("Remove", Name="popular")
    assert_nothing_is_left(plugin)


@pytest.mark.long
@pytest.mark.parametrize("is_lost", [False, True], ids=["connected", "cut off"])
def test_a_host_that_was_suspended_goes_on_where_it_was(plugin: Plugin, server: Server, is_lost: bool) -> None:
    data = os.urandom(5 << 20)
    with start_server(model=server) as shaky:
        directory = shaky.make("photos")
        (directory / "file").write_bytes(data)
        plugin.create("photos", shaky.options(directory))
        mountpoint = plugin.mount("photos")
        with (mountpoint / "file").open("rb") as file, (mountpoint / "log").open("ab", buffering=0) as log:
            log.write(b"before\n")
            os.fsync(log.fileno())
            assert file.read(1 << 20) == data[: 1 << 20]
            programs = [*plugin.processes(), *programs_of(plugin)]
            for program in programs:
                os.kill(program, signal.SIGSTOP)
            if is_lost:
                shaky.cut_connections()
            time.sleep(70)  # that no time seems to have passed is what is tried
            for program in programs:
                os.kill(program, signal.SIGCONT)
            assert file.read() == data[1 << 20 :]

            def write() -> None:
                log.write(b"after\n")
                os.fsync(log.fileno())

            assert error_of(write) == (errno.EIO if is_lost else 0)
        assert (directory / "log").read_text() == ("before\n" if is_lost else "before\nafter\n")
        await_that(lambda: plugin.status("photos")["state"] == "mounted", "the volume is well")
        plugin.create("music", shaky.options(shaky.make("music")))
        assert plugin.mount("music").is_dir()
        for name in ("photos", "music"):
            plugin.unmount(name)
            plugin.call("Remove", Name=name)
    assert_nothing_is_left(plugin)
