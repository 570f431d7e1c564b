# SPDX-License-Identifier: MIT
"""The rows of the benchmark: each measures one kind of work, by every side that can do it, in turns."""

import io
import os
import statistics
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from integration.sshd import Server, start_server
from support.delay import delayed

from .figures import Figure
from .sides import RCLONE_PAUSE, Bare, Rclone, Service, Side, Volumes, memory, numbers, processes_with, rclone, service

NEAR, FAR = 0, 20
"""Round-trip times in milliseconds: the server on this same host, and one that is some hundred kilometres away."""
DISTANCES = (NEAR, 5, 10, FAR, 40)
"""For the plot."""
CROWDS = (1, 10, 30, 100)
"""How many volumes are mounted at once."""
BARE_AT_ONCE = 8
"""How many bare mounts are made at once, since sshd drops connections beyond that."""
LARGE_FILE = 512 * 2**20
PIECE = 2**20
TRANSFER_SECONDS = 2.0
"""A transfer is ended after that, so that slow ones do not take all the time."""
SMALL_FILE = 4096
VOLUMES = 1000
"""How many the service has while its own cost is measured."""

ROUNDS = 9
FEW_ROUNDS = 3
"""For what takes seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where is measured.

    Attributes:
        service: The service.
        server: An SSH server on this host, with the limits of sshd's defaults.
        ports: Where it is reached, by round-trip time.
        volumes: Volumes of the service.
        bare: sshfs mounts by hand.
        rclone: Volumes of rclone, if it is installed.
    """

    service: Service
    server: Server
    ports: Mapping[int, int]
    volumes: Volumes
    bare: Bare
    rclone: Rclone | None

    @property
    def sides(self) -> dict[str, Side]:
        """All that can be compared."""
        sides: dict[str, Side] = {"volume": self.volumes, "bare sshfs": self.bare}
        return {**sides, "rclone": self.rclone} if self.rclone else sides

    @contextmanager
    def mounted(self, port: int, directory: Path) -> Iterator[dict[str, Path]]:
        """Mount a directory of the server by each side, and give the mountpoints."""
        name = f"mounted-{next(numbers)}"
        for side in self.sides.values():
            side.create(name, directory, port)
        yield {which: side.mount(name) for which, side in self.sides.items()}
        for side in self.sides.values():
            side.unmount(name)
            side.remove(name)


@contextmanager
def place(scratch: Path) -> Iterator[Place]:
    """Start all that is needed."""
    with ExitStack() as stack:
        # not below /tmp, of which the service has one of its own
        server = stack.enter_context(start_server("MaxStartups 10:30:100", below="/srv"))
        far = {
            distance: stack.enter_context(delayed(server.port, distance / 1000)) for distance in DISTANCES if distance
        }
        running = stack.enter_context(service(scratch))
        volumes, bare = Volumes(running, server), Bare(server, scratch / "bare")
        stack.callback(volumes.clear)
        stack.callback(bare.clear)
        yield Place(
            service=running,
            server=server,
            ports={NEAR: server.port, **far},
            volumes=volumes,
            bare=bare,
            rclone=stack.enter_context(rclone(server, scratch)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A part of the benchmark that can be run alone.

    Attributes:
        about: What it measures.
        seconds: About how long it takes.
        measure: Measures, and yields each figure when it is there.
    """

    about: str
    seconds: int
    measure: Callable[[Place], Iterator[Figure]] = field(repr=False)


def seconds(act: Callable[[], object]) -> float:
    """Return how long something takes."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def milliseconds(act: Callable[[], object]) -> float:
    """Return how long something takes."""
    return seconds(act) * 1000


def in_turns(sides: Mapping[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, tuple[float, ...]]:
    """Let each side be measured once in each round, and return what each has given."""
    taken = [{side: measure() for side, measure in sides.items()} for _ in range(rounds)]
    return {side: tuple(one[side] for one in taken) for side in sides}


# What the service takes of its host


def first_answer(service: Service) -> float:
    """Return how many milliseconds the first call waits for a service that is started for it."""
    service.stop()
    service.listen()
    return milliseconds(lambda: service.call("Plugin.Activate"))


def synced(directory: Path) -> float:
    """Return how many milliseconds it takes to write, sync and rename a file, as a record is: no Create is faster."""
    new, path = directory / "benchmark-new", directory / "benchmark-file"

    def act() -> None:
        with new.open("wb") as file:
            file.write(bytes(200))
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
        descriptor = os.open(directory, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    taken = milliseconds(act)
    path.unlink()
    return taken


def measure_service(place: Place) -> Iterator[Figure]:
    """Measure the service without a server: what its calls cost, and what it takes of its host."""
    plugin = place.service
    few, calls = 5, 200

    def figure(work: str, measure: Callable[[], float], unit: str = "ms", rounds: int = few) -> Figure:
        samples = in_turns({"service": measure}, rounds)
        return Figure(row="service", table="service", work=work, unit=unit, samples=samples)

    def create(number: int) -> float:
        options = {"sshcmd": "me@localhost:/photos", "check": "never"}
        return milliseconds(lambda: plugin.create(f"benchmark-{number:04}", options))

    def remove(number: int) -> None:
        plugin.call("Remove", Name=f"benchmark-{number:04}")

    def creates() -> float:
        taken = []
        for number in range(VOLUMES, VOLUMES + calls):
            taken.append(create(number))
            remove(number)
        return statistics.mean(taken)

    def own_memory() -> float:
        plugin.call("List")
        return memory(plugin.processes()) / 2**20

    yield figure("first answer", lambda: first_answer(plugin))
    yield figure("memory (PSS) when it has just started", own_memory, "MiB", 1)
    yield figure("Create, unchecked, without other volumes", creates)
    for number in range(VOLUMES):
        create(number)
    yield figure("Create, unchecked, with 1,000 volumes", creates)
    yield figure(
        "(a file written and synced as a record is, for comparison)",
        lambda: statistics.mean(synced(plugin.settings.state) for _ in range(calls)),
    )
    lists = [[milliseconds(lambda: plugin.call("List")) for _ in range(calls)] for _ in range(few)]
    for work, percent in (("List of 1,000 volumes, p50", 50), ("List of 1,000 volumes, p99", 99)):
        taken = iter([statistics.quantiles(one, n=100)[percent - 1] for one in lists])
        yield figure(work, lambda taken=taken: next(taken))  # type: ignore[misc]
    yield figure("first answer, with 1,000 volumes", lambda: first_answer(plugin))
    yield figure("memory (PSS) with 1,000 volumes", own_memory, "MiB", 1)
    for number in range(VOLUMES):
        remove(number)


# The verbs


def measure_create(place: Place) -> Iterator[Figure]:
    """Measure Creates: the first on a server, and further ones."""
    data, timeouts = place.server.data, iter(range(100, 1000))

    def create(side: Side, port: int) -> float:
        name = f"create-{next(numbers)}"
        taken = milliseconds(lambda: side.create(name, data, port))
        side.remove(name)
        return taken

    def first(port: int) -> float:
        # with another option of ssh no login of before will do
        name = f"create-{next(numbers)}"
        taken = milliseconds(lambda: place.volumes.create(name, data, port, ConnectTimeout=str(next(timeouts))))
        place.volumes.remove(name)
        return taken

    for distance in (NEAR, FAR):
        port = place.ports[distance]
        of_rclone = {"rclone": partial(create, place.rclone, port)} if place.rclone else {}
        first(port)
        create(place.volumes, port)
        for work, ours in (
            ("Create, first on a server", partial(first, port)),
            ("Create, a further volume", partial(create, place.volumes, port)),
        ):
            samples = in_turns({"volume": ours, **of_rclone})
            yield Figure(row="create", table="volumes", work=work, unit="ms", samples=samples, round_trip=distance)


def measure_creates(place: Place) -> Iterator[Figure]:
    """Measure many Creates one after the other."""
    count = 200

    def creates(side: Side) -> float:
        names = [f"creates-{next(numbers)}" for _ in range(count)]

        def act() -> None:
            for name in names:
                side.create(name, place.server.data, place.server.port)

        taken = seconds(act)
        for name in names:
            side.remove(name)
        return taken

    sides = {which: partial(creates, side) for which, side in place.sides.items() if side is not place.bare}
    yield Figure(
        row="creates",
        table="volumes",
        work="Creates, one after the other",
        unit="s",
        samples=in_turns(sides, 2),
        round_trip=NEAR,
        volumes=count,
    )


def measure_mount(place: Place) -> Iterator[Figure]:
    """Measure Mounts of a further volume, where another one of the same server and login is mounted."""

    def mount(side: Side, name: str) -> float:
        taken = milliseconds(lambda: side.mount(name))
        side.unmount(name)
        return taken

    for distance in (NEAR, FAR):
        with place.mounted(place.ports[distance], place.server.data):
            name = f"mount-{next(numbers)}"
            for side in place.sides.values():
                side.create(name, place.server.data, place.ports[distance])
                mount(side, name)
            yield Figure(
                row="mount",
                table="volumes",
                work="Mount, a further volume of a server",
                unit="ms",
                samples=in_turns({which: partial(mount, side, name) for which, side in place.sides.items()}),
                round_trip=distance,
            )
            for side in place.sides.values():
                side.remove(name)


def measure_first_mount(place: Place) -> Iterator[Figure]:
    """Measure Mounts that log in: where no connection is shared yet, and with a connection of the volume's own."""

    def mount(distance: int, **options: str) -> float:
        place.service.end_connections()
        name = f"first-mount-{next(numbers)}"
        place.volumes.create(name, place.server.data, place.ports[distance], **options)  # which remembers the check
        taken = milliseconds(lambda: place.volumes.mount(name))
        place.volumes.unmount(name)
        place.volumes.remove(name)
        return taken

    def mount_bare(distance: int) -> float:
        name = f"first-mount-{next(numbers)}"
        place.bare.create(name, place.server.data, place.ports[distance])
        taken = milliseconds(lambda: place.bare.mount(name))
        place.bare.unmount(name)
        place.bare.remove(name)
        return taken

    for distance in (NEAR, FAR):
        for work, ours in (
            ("Mount, first volume of a server", partial(mount, distance)),
            ("Mount, with a connection of its own", partial(mount, distance, own_connection="yes")),
        ):
            samples = in_turns({"volume": ours, "bare sshfs": partial(mount_bare, distance)}, 15)
            yield Figure(row="first-mount", table="volumes", work=work, unit="ms", samples=samples, round_trip=distance)


def together(side: Side, names: Sequence[str], at_once: int) -> tuple[float, float]:
    """Return how many seconds it takes to mount and to unmount volumes, so many at once."""
    with ThreadPoolExecutor(at_once) as threads:
        mounting = seconds(lambda: list(threads.map(side.mount, names)))
        return mounting, seconds(lambda: list(threads.map(side.unmount, names)))


def one_by_one(side: Rclone, names: Sequence[str]) -> float:
    """Return how many seconds it takes to mount volumes of rclone, without the pauses that it needs."""
    mounting = 0.0
    for name in names:
        mounting += seconds(partial(side.mount, name))
        time.sleep(RCLONE_PAUSE)
    for name in names:
        side.unmount(name)
    return mounting


def measure_crowd(place: Place) -> Iterator[Figure]:
    """Measure Mounts and Unmounts of many volumes at once, where none is connected."""
    names = [f"crowd-{number}" for number in range(CROWDS[-1])]
    for name in names:
        place.volumes.create(name, place.server.data, place.server.port, check="never")
        place.bare.create(name, place.server.data, place.server.port)
        if place.rclone:
            place.rclone.create(name, place.server.data, place.server.port)
    for count in CROWDS:
        some = names[:count]
        mounts: dict[str, list[float]] = {}
        unmounts: dict[str, list[float]] = {}
        for _ in range(2):
            place.service.end_connections()
            crowds: tuple[tuple[str, Side, int], ...] = (
                ("volume", place.volumes, count),
                ("bare sshfs", place.bare, BARE_AT_ONCE),
            )
            for which, side, at_once in crowds:
                mounting, unmounting = together(side, some, at_once)
                mounts.setdefault(which, []).append(mounting)
                unmounts.setdefault(which, []).append(unmounting)
            if place.rclone:
                mounts.setdefault("rclone", []).append(one_by_one(place.rclone, some))
        for work, taken in (("Mounts at once", mounts), ("Unmounts at once", unmounts)):
            yield Figure(
                row="crowd",
                table="volumes",
                work=work,
                unit="s",
                samples={which: tuple(each) for which, each in taken.items()},
                round_trip=NEAR,
                volumes=count,
                only_plotted=count != CROWDS[-1],
            )
    for name in names:
        for side in place.sides.values():
            side.remove(name)


# Files


def megabytes_a_second(transfer: Callable[[float], int]) -> float:
    """Return how fast a transfer is, that is told when to end and returns how many bytes it has moved."""
    started = time.perf_counter()
    moved = transfer(started + TRANSFER_SECONDS)
    return moved / (time.perf_counter() - started) / 1e6


def read(mountpoint: Path) -> float:
    """Return how fast the large file is read, in MB/s."""

    def transfer(until: float) -> int:
        moved = 0
        while time.perf_counter() < until and (piece := file.readinto(buffer)):
            moved += piece
        return moved

    buffer = bytearray(PIECE)
    with (mountpoint / "large").open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return megabytes_a_second(transfer)


def write(mountpoint: Path) -> float:
    """Return how fast a large file is written and synced, in MB/s."""

    def transfer(until: float) -> int:
        moved = 0
        while time.perf_counter() < until and moved < LARGE_FILE:
            moved += file.write(piece)
        os.fsync(file.fileno())
        return moved

    piece, path = bytes(PIECE), mountpoint / f"written-{next(numbers)}"
    with path.open("wb", buffering=0) as file:
        speed = megabytes_a_second(transfer)
    path.unlink()
    return speed


@contextmanager
def large_file(server: Server) -> Iterator[Path]:
    """Give a directory of the server that has a large file and may be written."""
    directory = server.make(f"files-{next(numbers)}")
    file = directory / "large"
    with file.open("wb") as large:
        large.truncate(LARGE_FILE)
    yield directory
    file.unlink()


def measure_read(place: Place) -> Iterator[Figure]:
    """Measure reading a large file."""
    with large_file(place.server) as directory:
        for distance in DISTANCES:
            with place.mounted(place.ports[distance], directory) as mounted:
                yield Figure(
                    row="read",
                    table="volumes",
                    work="sequential read",
                    unit="MB/s",
                    samples=in_turns({side: partial(read, there) for side, there in mounted.items()}, FEW_ROUNDS),
                    round_trip=distance,
                    only_plotted=distance not in (NEAR, FAR),
                )


def measure_write(place: Place) -> Iterator[Figure]:
    """Measure writing a large file."""
    directory = place.server.make(f"files-{next(numbers)}")
    for distance in (NEAR, FAR):
        with place.mounted(place.ports[distance], directory) as mounted:
            yield Figure(
                row="write",
                table="volumes",
                work="sequential write, with fsync",
                unit="MB/s",
                samples=in_turns({side: partial(write, there) for side, there in mounted.items()}, FEW_ROUNDS),
                round_trip=distance,
            )


def make_archive(archive: Path, files: int) -> None:
    """Write an archive of small files, ten in a directory."""
    with tarfile.open(archive, "w") as packed:
        for number in range(files):
            if number % 10 == 0:
                directory = tarfile.TarInfo(f"{number // 10}")
                directory.type, directory.mode = tarfile.DIRTYPE, 0o755
                packed.addfile(directory)
            file = tarfile.TarInfo(f"{number // 10}/{number}")
            file.size = SMALL_FILE
            packed.addfile(file, io.BytesIO(bytes(SMALL_FILE)))


def untar_and_tar(side: Side, directory: Path, port: int, archive: Path) -> tuple[float, float]:
    """Return how many seconds it takes to make the files of an archive in a directory, and to read them all."""
    name = directory.name
    side.create(name, directory, port)
    unpack = ("tar", "-xf", archive, "--no-same-owner", "-C", side.mount(name))
    made = seconds(lambda: subprocess.run(unpack, check=True))
    side.unmount(name)
    # what is mounted again remembers nothing
    there = side.mount(name)
    # without the other program tar would see that nobody wants the content
    pack = ("sh", "-c", 'tar -c -C "$1" . | cat >/dev/null', "sh", there)
    read_again = seconds(lambda: subprocess.run(pack, check=True))
    side.unmount(name)
    side.remove(name)
    return made, read_again


def measure_small(place: Place) -> Iterator[Figure]:
    """Measure making and reading many small files."""
    archive = place.bare.directory / "small-files.tar"
    archive.parent.mkdir(exist_ok=True)
    for distance, files, rounds in ((NEAR, 500, FEW_ROUNDS), (FAR, 50, 2)):
        make_archive(archive, files)
        taken: dict[str, dict[str, list[float]]] = {"small files made (untar)": {}, "small files read (tar)": {}}
        for _ in range(rounds):
            for which, side in place.sides.items():
                directory = place.server.make(f"small-{next(numbers)}")
                times = untar_and_tar(side, directory, place.ports[distance], archive)
                for samples, time_taken in zip(taken.values(), times, strict=True):
                    samples.setdefault(which, []).append(files / time_taken)
        for work, by_side in taken.items():
            yield Figure(
                row="small-files",
                table="volumes",
                work=work,
                unit="files/s",
                samples={which: tuple(each) for which, each in by_side.items()},
                round_trip=distance,
            )


# What mounted volumes take, and take from each other


def measure_memory(place: Place) -> Iterator[Figure]:
    """Measure the memory of mounted volumes: all their processes on this host, but not the service."""
    count, settings = 10, place.service.settings

    def each(create: Callable[[str, Path, int], None], side: Side, *texts: Path) -> float:
        place.service.end_connections()
        names = [f"memory-{next(numbers)}" for _ in range(count)]
        for name in names:
            create(name, place.server.data, place.server.port)
            os.listdir(side.mount(name))
        taken = memory(processes_with(*texts)) / count / 2**20
        for name in names:
            side.unmount(name)
            side.remove(name)
        return taken

    ours = (settings.mounts, settings.unit_files, settings.connections)
    bare = each(place.bare.create, place.bare, place.bare.directory, place.server.key)
    creates: tuple[tuple[str, Callable[[str, Path, int], None]], ...] = (
        ("memory (PSS) of each of ten mounted volumes", place.volumes.create),
        ("memory (PSS) of each, with connections of their own", partial(place.volumes.create, own_connection="yes")),
    )
    for work, create in creates:
        samples = {"volume": (each(create, place.volumes, *ours),), "bare sshfs": (bare,)}
        yield Figure(row="memory", table="volumes", work=work, unit="MiB", samples=samples)


def look_up(directory: Path, count: int) -> float:
    """Return how many milliseconds it takes to ask the server for a name that it does not have: the median of many."""
    names = [directory / f"none-{next(numbers)}" for _ in range(count)]
    return statistics.median(milliseconds(name.exists) for name in names)


def look_up_beside(directory: Path, busy: Path, count: int) -> float:
    """Return what ``look_up`` does, while a large file elsewhere is read as fast as it can be."""
    file = busy / "large"
    with file.open("rb") as cached:
        os.posix_fadvise(cached.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with subprocess.Popen(["dd", f"if={file}", "of=/dev/null", "bs=1M", "status=none"]) as reading:
        time.sleep(0.3)  # until it reads ahead as far as it does
        taken = look_up(directory, count)
        assert reading.poll() is None, "the large file is too small"
        reading.kill()
    return taken


def measure_beside(place: Place) -> Iterator[Figure]:
    """Measure small operations on a volume while another one is read as fast as it can be."""
    sides = {"shared connection": "no", "own connection": "yes"}
    for distance, count in ((NEAR, 100), (FAR, 25)):
        with large_file(place.server) as directory:
            names = [f"beside-{distance}-{own}-{what}" for own in sides.values() for what in ("asked", "read")]
            for name in names:
                own = "yes" if "-yes-" in name else "no"
                place.volumes.create(name, directory, place.ports[distance], own_connection=own)
            there = iter([place.volumes.mount(name) for name in names])
            pairs = dict(zip(sides, zip(there, there, strict=True), strict=True))
            quiet = {side: partial(look_up, asked, count) for side, (asked, _) in pairs.items()}
            beside = {side: partial(look_up_beside, asked, busy, count) for side, (asked, busy) in pairs.items()}
            for work, measures in (
                ("a name is looked up", quiet),
                ("a name is looked up while another volume is read", beside),
            ):
                yield Figure(
                    row="beside",
                    table="connections",
                    work=work,
                    unit="ms",
                    samples=in_turns(measures, 5),
                    round_trip=distance,
                )
            for name in names:
                place.volumes.unmount(name)
                place.volumes.remove(name)


def measure_relay(place: Place) -> Iterator[Figure]:
    """Measure what the relay costs, with connections of the volumes' own, since one without it has no other."""
    sides = {"with the relay": "yes", "without": "no"}
    with large_file(place.server) as directory:

        def mount(relay: str) -> float:
            taken = milliseconds(lambda: place.volumes.mount(f"relay-{relay}"))
            place.volumes.unmount(f"relay-{relay}")
            return taken

        def figure(work: str, unit: str, measure: Callable[[str], float], rounds: int = 5) -> Figure:
            samples = in_turns({side: partial(measure, relay) for side, relay in sides.items()}, rounds)
            return Figure(row="relay", table="relay", work=work, unit=unit, samples=samples, round_trip=NEAR)

        for relay in sides.values():
            place.volumes.create(f"relay-{relay}", directory, place.server.port, relay=relay, own_connection="yes")
        yield figure("Mount", "ms", mount)
        mounted = {relay: place.volumes.mount(f"relay-{relay}") for relay in sides.values()}
        yield figure("sequential read", "MB/s", lambda relay: read(mounted[relay]))
        yield figure("sequential write, with fsync", "MB/s", lambda relay: write(mounted[relay]), FEW_ROUNDS)
        yield figure("a name is looked up", "ms", lambda relay: look_up(mounted[relay], 200))
        for relay in sides.values():
            place.volumes.unmount(f"relay-{relay}")
            place.volumes.remove(f"relay-{relay}")


ROWS: Mapping[str, Row] = {
    "create": Row(about="Create: first on a server, further", seconds=10, measure=measure_create),
    "creates": Row(about="200 Creates, one after the other", seconds=50, measure=measure_creates),
    "mount": Row(about="Mount: a further volume of a server", seconds=20, measure=measure_mount),
    "first-mount": Row(about="Mount: with a login", seconds=75, measure=measure_first_mount),
    "crowd": Row(about="1 to 100 Mounts and Unmounts at once", seconds=70, measure=measure_crowd),
    "read": Row(about="reading a large file, by round-trip time", seconds=100, measure=measure_read),
    "write": Row(about="writing a large file", seconds=45, measure=measure_write),
    "small-files": Row(about="making and reading small files", seconds=80, measure=measure_small),
    "memory": Row(about="memory of mounted volumes", seconds=15, measure=measure_memory),
    "service": Row(about="the service: calls, start, memory", seconds=60, measure=measure_service),
    "beside": Row(about="small operations beside a busy volume", seconds=40, measure=measure_beside),
    "relay": Row(about="with and without the relay", seconds=50, measure=measure_relay),
}
"""Each row by its name, in the order of the table."""
