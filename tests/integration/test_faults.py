# SPDX-License-Identifier: MIT
"""Programs are killed at random moments; what was acknowledged is there afterwards, and nothing else is left."""

import contextlib
import errno
import itertools
import json
import os
import random
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from support.long import normally

from integration.mountpoints import Log, error_of, is_back
from integration.plugin import Plugin, Refused, await_that, stopping
from integration.sshd import Server, start_server
from sshfs_plugin.mounts import mountinfo

CUT_OFF = (OSError, HTTPException)
"""What a client sees of a service that is killed."""

LONGEST_VERB_SECONDS = 1.0

LOG_EVERY_SECONDS = 0.05

USES = 20
"""How often a mounted volume is used before it is given back, so that many kills come while it is held."""


class Life:
    """One volume, and what was acknowledged of it.

    Attributes:
        name: Its name.
        exists: Whether it must exist; None if the answer was cut off.
        is_mounted: Whether it must be mounted; None if the answer was cut off.
        held: The mount ID whose Mount was answered and for which no Unmount was asked; empty if there is none.
        times_held: After how many kills it was still held, and on record as that.
    """

    def __init__(self, plugin: Plugin, server: Server, name: str) -> None:
        self.name = name
        self.exists: bool | None = False
        self.is_mounted: bool | None = False
        self.held = ""
        self._plugin = plugin
        self._options = server.options(server.make(name))
        self._serial = self._uses = 0
        self._was_on_record = False
        self._cut_off: set[str] = set()
        self._may_be_lost: set[str] = set()
        self.times_held = 0

    def step(self) -> None:
        """Do what comes next: create, mount, use, unmount, remove."""
        if self.exists is not True:
            self.exists = None
            self._plugin.create(self.name, self._options)
            self.exists = True
        elif not self.held:
            self._serial, self._uses = self._serial + 1, USES
            mount_id = f"{self.name}-{self._serial}"
            self.is_mounted = None
            self._plugin.mount(self.name, mount_id)
            self.held, self.is_mounted = mount_id, True
        elif self._uses:
            self._uses -= 1
            self._use()
        else:
            self._unmount()
            if self._serial % 3 == 0:
                self.exists, self._may_be_lost = None, set(self._cut_off)
                self._plugin.call("Remove", Name=self.name)
                self.exists = False
                self._cut_off.clear()

    def verify(self) -> None:
        """Check that all that was acknowledged is there, and that answers, records and the kernel agree."""
        listed = {volume["Name"] for volume in self._plugin.call("List")["Volumes"]}
        if self.exists is not None:
            assert (self.name in listed) is self.exists, f"{self.name} was acknowledged"
        device = mountinfo.sshfs_below(self._plugin.settings.mounts).get(self.name)
        if self.is_mounted is not None:
            assert bool(device) is self.is_mounted, f"{self.name} was acknowledged"
        holders = self._holders()
        assert holders.keys() <= self._cut_off | {self.held}, f"nobody else was told that they hold {self.name}"
        for mount_id, holder in holders.items():
            assert holder["count"] == 1, f"{mount_id} has mounted once"
            # a Remove unmounts, whoever holds it, and forgets its holders after that
            assert holder["device"] == device or mount_id in self._may_be_lost, f"{mount_id} holds what is mounted"
        if self._was_on_record:
            assert self.held in holders, f"{self.held} still holds it"
            self.times_held += 1
        if self.name in listed:
            assert self._plugin.status(self.name)["holders"] == len(holders)
        if self.held:
            self._use()

    def end(self) -> None:
        """Give everything back and remove the volume."""
        if self.held:
            self._unmount()
        await_that(self._is_removed, f"{self.name} is removed")

    def _use(self) -> None:
        """Use the volume as the container does that has it, be there a service or not."""
        file = self._plugin.settings.mounts / self.name / self.held
        file.write_text(self.held)
        assert file.read_text() == self.held
        # it comes after the answer: a kill may be between the two
        self._was_on_record = self._was_on_record or self.held in self._holders()

    def _unmount(self) -> None:
        """Give back what is held."""
        mount_id, self.held, self.is_mounted, self._was_on_record = self.held, "", None, False
        self._cut_off.add(mount_id)
        self._plugin.unmount(self.name, mount_id)
        self._cut_off.remove(mount_id)
        if not self._cut_off:  # else one of them may hold it
            self.is_mounted = False

    def _holders(self) -> dict[str, dict[str, Any]]:
        """Return the holders that are on record."""
        try:
            holders: dict[str, dict[str, Any]] = json.loads(
                (self._plugin.settings.holders / f"{self.name}.json").read_text()
            )["holders"]
        except FileNotFoundError:
            return {}
        return holders

    def _is_removed(self) -> bool:
        """Remove the volume; a Mount that a kill has cut off may go on for a moment, which counts as use."""
        try:
            self._plugin.call("Remove", Name=self.name)
        except Refused as refusal:
            return str(refusal).startswith(f"volume '{self.name}' not found")
        return True


def programs_of(plugin: Plugin) -> dict[int, str]:
    """Return the programs of volumes that run below a plugin's directory."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_text(errors="replace").replace("\0", " ")
            if f"{plugin.directory}/" in words and "gunicorn" not in words:
                found[int(process.name)] = words
    return found


def not_reaped(parents: Collection[int]) -> list[str]:
    """Return the names of programs that have ended, and for which those that have started them have not waited.

    Of their words, by which programs of volumes are told, nothing is left.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, _, rest = (process / "stat").read_text().partition("(")[2].rpartition(") ")
            state, parent, *_ = rest.split()
            if state == "Z" and int(parent) in parents:
                found.append(name)
    return found


def _answers(plugin: Plugin) -> bool:
    try:
        plugin.call("List")
    except CUT_OFF:
        return False
    return True


def assert_nothing_is_left(plugin: Plugin) -> None:
    """Check that there is no mount, record, holder, file or process any more, once idle connections are ended."""
    await_that(lambda: not mountinfo.sshfs_below(plugin.settings.mounts), "all is unmounted")
    plugin.ask_connections_to_end()
    await_that(lambda: not plugin.connections(), "all connections have ended and left no file")
    await_that(lambda: not programs_of(plugin), "all programs of volumes have ended")
    # what the service has left to itself it waits for when it starts another program
    plugin.create("last", {"sshcmd": "nobody@127.0.0.1:/", "port": "1", "check": "never", "own_connection": ""})
    with pytest.raises(Refused, match="Connection refused"):
        plugin.mount("last")
    plugin.call("Remove", Name="last")
    settings = plugin.settings
    for directory in (settings.volumes, settings.holders, settings.mounts, settings.unit_files, settings.releases):
        assert list(directory.glob("*")) == []
    assert {path.name for path in settings.connections.glob("*")} <= {"salt"}
    assert plugin.call("List")["Volumes"] == []
    assert not_reaped(plugin.processes()) == []


@pytest.mark.timeout(normally(300, 1200))
def test_kills_of_the_service_at_any_moment_lose_nothing_that_was_acknowledged(plugin: Plugin, server: Server) -> None:
    chance = random.Random(11)  # noqa: S311 (the same moments each time)
    lives = [Life(plugin, server, f"killed{number}") for number in range(3)]
    ways = (plugin.kill_worker, plugin.kill_master, plugin.kill)

    def live(life: Life, stop: threading.Event) -> None:
        with contextlib.suppress(*CUT_OFF):
            while not stop.is_set():
                life.step()

    with ThreadPoolExecutor(len(lives)) as threads:
        turns = normally(9, 300)
        for turn in itertools.count():
            more = turn - turns  # on a busy host each verb may be cut off before any has held a volume
            if more >= 0 and any(life.times_held for life in lives):
                break
            kill = ways[turn % len(ways)]
            with stopping() as stop:
                living = [threads.submit(live, life, stop) for life in lives]
                # the moment of the kill is what is tried
                time.sleep(chance.uniform(0, LONGEST_VERB_SECONDS * max(1, more)))
                kill()
            for future in living:
                future.result(300)
            if kill != plugin.kill_worker:
                plugin.start()
            await_that(lambda: _answers(plugin), "the service is back")
            for life in lives:
                life.verify()
    for life in lives:
        life.end()
    assert_nothing_is_left(plugin)


class Shaken:
    """A volume whose programs are killed, while a log is written on it."""

    def __init__(self, plugin: Plugin, server: Server, name: str, **options: str) -> None:
        self.name, self.mountpoint = name, plugin.settings.mounts / name
        self.log = Log(self.mountpoint / "log")
        self._plugin, self._directory = plugin, server.make(name)
        self._being_mounted = threading.Lock()
        plugin.create(name, server.options(self._directory, **options))

    def write(self, stop: threading.Event) -> None:
        """Write the log, from time to time, whatever happens."""
        while not stop.wait(LOG_EVERY_SECONDS):
            with self._being_mounted, contextlib.suppress(OSError):
                self.log.append()

    @contextlib.contextmanager
    def mounted_anew(self) -> Iterator[None]:
        """Unmount it, and mount it again afterwards: then it shares a connection, even if it has lost one before."""
        with self._being_mounted:  # nobody writes to a volume that is not mounted
            await_that(lambda: is_back(self.mountpoint), f"{self.name} is back")
            self._plugin.unmount(self.name)
            yield
            self._plugin.mount(self.name)

    def verify(self) -> None:
        """Check that it can be written to again, and that nothing was lost."""
        before = len(self.log.acknowledged)
        await_that(lambda: len(self.log.acknowledged) > before, f"{self.name} is written to again")
        self.log.verify(self._directory / "log")


class Shaker:
    """Kills programs of volumes; each way finds something that it kills.

    Attributes:
        killed: How often each way was taken.
    """

    def __init__(self, plugin: Plugin, server: Server, sharing: list[Shaken], apart: list[Shaken]) -> None:
        self.killed: Counter[str] = Counter()
        self._plugin, self._server = plugin, server
        self._sharing, self._apart = sharing, apart
        self._chance = random.Random(12)  # noqa: S311 (the same moments each time)

    def shake(self) -> Iterator[str]:
        """Kill something in each way, by chance one after the other; yield each way."""
        ways = (self._sshfs, self._relay, self._own_ssh, self._shared_ssh, self._hang_shared_ssh, self._all_connections)
        for way in self._chance.sample(ways, len(ways)):
            way()
            self.killed[way.__name__] += 1
            yield way.__name__

    @property
    def _any(self) -> str:
        return self._chance.choice(self._sharing + self._apart).name

    def _sshfs(self) -> None:
        self._kill(self._plugin.sshfs_process, self._any)

    def _relay(self) -> None:
        self._kill(lambda name: self._plugin.program_of(name, "relay"), self._any)

    def _own_ssh(self) -> None:
        self._kill(lambda name: self._plugin.program_of(name, "/usr/bin/ssh"), self._chance.choice(self._apart).name)

    def _shared_ssh(self) -> None:
        volume = self._chance.choice(self._sharing)
        with volume.mounted_anew():
            pass
        self._kill(self._plugin.connection_of, volume.name)

    def _hang_shared_ssh(self) -> None:
        one, other = self._chance.sample(self._sharing, 2)
        with one.mounted_anew():
            pass
        hanging = self._plugin.connection_of(one.name)
        try:
            with other.mounted_anew():  # it finds that the connection hangs
                os.kill(hanging, signal.SIGSTOP)
        finally:
            os.kill(hanging, signal.SIGCONT)

    def _all_connections(self) -> None:
        await_that(self._server.connections, "a volume is connected")
        self._server.cut_connections()

    def _kill(self, find: Callable[[str], int], name: str) -> None:
        """Kill a program of a volume as soon as there is one, which may have been killed just before."""

        def is_killed() -> bool:
            with contextlib.suppress(AssertionError, ProcessLookupError):
                os.kill(find(name), signal.SIGKILL)
                return True
            return False

        await_that(is_killed, f"{name} has something to kill")


@pytest.mark.parametrize("volumes", [normally(8, 50)])
def test_kills_of_the_programs_of_volumes_leave_the_others_alone(plugin: Plugin, server: Server, volumes: int) -> None:
    """Some volumes are used while the sshfs, relay, ssh or connection of others is killed."""
    with start_server(model=server) as shaky:
        steady = [f"steady{number}" for number in range(volumes // 2)]
        for name in steady:
            plugin.create(name, server.options(server.make(name)))
        shaken = [
            Shaken(plugin, shaky, f"shaken{number}", **({"own_connection": ""} if number % 2 else {}))
            for number in range(volumes - len(steady))
        ]
        names = [*steady, *(volume.name for volume in shaken)]
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(plugin.mount, names))
        with ThreadPoolExecutor(len(names)) as threads, stopping() as stop:

            def use(name: str) -> int:
                times = 0
                while not stop.is_set():
                    path = plugin.settings.mounts / name / "file"
                    path.write_text(str(times))
                    assert path.read_text() == str(times)
                    times += 1
                return times

            using = [threads.submit(use, name) for name in steady]
            writing = [threads.submit(volume.write, stop) for volume in shaken]
            shaker = Shaker(plugin, shaky, shaken[::2], shaken[1::2])
            limit, took = time.monotonic() + normally(0, 120), list[float]()
            while not took or time.monotonic() < limit:
                for way in shaker.shake():
                    asked = time.monotonic()
                    plugin.call("List")
                    took.append(time.monotonic() - asked)
                    assert not any(future.done() for future in using), f"a volume of another server noticed {way}"
            # a single one may wait for a processor
            assert statistics.median(took) < LONGEST_VERB_SECONDS
            for volume in shaken:
                volume.verify()
            stop.set()
            assert all(future.result(300) > 0 for future in using)
            for log in writing:
                log.result(300)
        print(shaker.killed)  # noqa: T201 (pytest -s shows it)
        await_that(lambda: not not_reaped(programs_of(plugin)), "nothing is left of what was killed")
        for name in names:
            plugin.unmount(name)
            plugin.call("Remove", Name=name)
    assert_nothing_is_left(plugin)


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
