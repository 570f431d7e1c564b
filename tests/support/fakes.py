# SPDX-License-Identifier: MIT
"""Stand-ins for what is around the plugin: below the driver, in the kernel, in PATH and at the other end of the socket.

Those below the driver satisfy its protocols. All of them answer at once unless a test closes a gate, and nothing here
waits for a length of time.
"""

import ctypes
import errno
import json
import os
import socket
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from werkzeug.serving import WSGIRequestHandler, make_server

from sshfs_plugin.deadline import Deadline
from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.driver.locks import Slots
from sshfs_plugin.driver.values import Caller
from sshfs_plugin.errors import MountError, PluginError, StateError
from sshfs_plugin.holders import Client, Holders
from sshfs_plugin.mounts import kernel
from sshfs_plugin.mounts.mountinfo import SSHFS
from sshfs_plugin.mounts.supervisor import Supervisor
from sshfs_plugin.preflight import Preflight
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.state.records import HolderRecords, VolumeRecords
from sshfs_plugin.volume import Unusable, Volume, VolumeName

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

_P = ParamSpec("_P")
_T = TypeVar("_T")

PATIENCE = 60.0
"""How long a test waits for what must happen; it is used up by failures only."""

SSHCMD = "me@nas:/photos"
ID, OTHER_ID = "4f61b677" * 8, "9c0e5d12" * 8
PODMAN_ID = "2f73349cfc4630255319c6c8dfc1b46a8996ace9d14d8e07563b165915918ec2"


def caller(client: Client = Client.DOCKER, *, process: int = 100, gone: bool = False) -> Caller:
    """Return somebody who sends requests, dockerd unless said otherwise."""
    return Caller(client=client, process=process, has_gone=lambda: gone)


def soon() -> Deadline:
    """Return a deadline that no test reaches."""
    return Deadline.after(PATIENCE)


def now() -> Deadline:
    """Return a deadline that has come already: whoever has to wait gives up at once."""
    return Deadline.after(0)


def await_that(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait until a condition holds that nothing tells of."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, f"not within {PATIENCE} s: {what()}"
        time.sleep(0.01)


class Gate:
    """A place at which a slow answer is held back until the test lets it through."""

    def __init__(self) -> None:
        self._reached = threading.Semaphore(0)
        self._open = threading.Event()

    def hold(self) -> None:
        """Stop here, on the side of the fake."""
        self._reached.release()
        assert self._open.wait(PATIENCE), "the test never opened the gate"

    def await_arrival(self) -> None:
        """Wait until somebody stands at the gate, on the side of the test."""
        assert self._reached.acquire(timeout=PATIENCE), "nobody came to the gate"

    def open(self) -> None:
        """Let everybody through from now on."""
        self._open.set()


class Background:
    """Runs calls in threads of their own."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads

    def __call__(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> "Future[_T]":
        """Start a call whose result is asked for later."""
        return self._threads.submit(call, *args, **kwargs)


@dataclass
class MemoryVolumes:
    """Volume records that last as long as the test."""

    records: dict[VolumeName, Volume | Unusable] = field(default_factory=dict)
    problem: StateError | None = None

    def load_all(self) -> dict[VolumeName, Volume | Unusable]:
        """Return every volume on record."""
        return dict(self.records)

    def read(self, name: VolumeName) -> Volume | Unusable:
        """Return a volume that is on record."""
        return self.records[name]

    def save(self, volume: Volume) -> None:
        """Record a volume, or fail as a full disk does."""
        if self.problem:
            raise self.problem
        self.records[volume.name] = volume

    def remove(self, name: VolumeName) -> None:
        """Forget a volume, or fail as a read-only disk does."""
        if self.problem:
            raise self.problem
        del self.records[name]


@dataclass
class MemoryHolders:
    """Holder records that last as long as the test."""

    records: dict[VolumeName, Holders] = field(default_factory=dict)
    problem: StateError | None = None

    def load_all(self) -> dict[VolumeName, Holders]:
        """Return the holders of every volume that has any."""
        return dict(self.records)

    def save(self, name: VolumeName, holders: Holders) -> None:
        """Record what a crash must not lose, or fail as a full disk does."""
        if self.problem:
            raise self.problem
        if recorded := holders.recorded().by_id:
            self.records[name] = Holders(recorded)
        else:
            self.records.pop(name, None)

    def counts(self, name: str) -> dict[str, int]:
        """Return how often each ID holds a volume, on record."""
        held = self.records.get(VolumeName(name), Holders())
        return {str(mount_id): holder.count for mount_id, holder in held.by_id.items()}

    def inherited(self, name: str) -> set[str]:
        """Return the IDs that are on record as left over from an earlier dockerd."""
        held = self.records.get(VolumeName(name), Holders())
        return {str(mount_id) for mount_id, holder in held.by_id.items() if holder.inherited}


LOGIN = Login(password="hunter2", contents={Path("/root/.ssh/id_rsa-cert.pub"): b"signed"})


@dataclass(frozen=True)
class FakePrepared:
    """A preflight whose login is always the same."""

    preflight: "FakePreflight"
    volume: Volume
    login: Login = LOGIN

    def run(self, deadline: Deadline, *, creating: bool = False) -> None:
        """Make the checks."""
        self.preflight.run(self.volume, deadline, creating=creating)


@dataclass
class FakePreflight:
    """A preflight that fails or hangs where the test says so."""

    problems: dict[str, PluginError] = field(default_factory=dict)
    gates: dict[str, Gate] = field(default_factory=dict)
    files: dict[str, Gate] = field(default_factory=dict)
    prepared: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    mends: Callable[[], object] = lambda: None
    seconds: list[float] = field(default_factory=list)

    def prepare(self, volume: Volume) -> FakePrepared:
        """Note that this host's files are read, or break or hang there."""
        self.prepared.append(volume.name)
        if gate := self.files.get(volume.name):
            gate.hold()
        return FakePrepared(self, volume)

    def login(self, volume: Volume) -> Login:
        """Note that this host's files are read."""
        self.prepared.append(volume.name)
        return LOGIN

    def run(self, volume: Volume, deadline: Deadline, *, creating: bool = False) -> None:
        """Pass, unless the test has said otherwise of this volume or its key."""
        if creating:
            self.created.append(volume.name)
        self.seconds.append(deadline.left())
        self.checked.append(volume.name)
        if gate := self.gates.get(volume.name):
            gate.hold()
        if problem := self.problems.get(volume.name) or self.problems.get(volume.credentials.identity_file):
            raise problem
        self.mends()

    def forget(self, name: VolumeName) -> None:
        """Note that a volume is to be forgotten."""
        self.forgotten.append(name)


@dataclass(frozen=True)
class Watched(Deadline):
    """A deadline that tells whenever somebody asks how long to wait.

    Attributes:
        asks: Is released each time.
    """

    asks: threading.Semaphore

    def left(self, at_most: float = float("inf")) -> float:
        """Tell, and answer."""
        self.asks.release()
        return super().left(at_most)


def slow_lane() -> Slots:
    """Return room for a few slow calls at once."""
    return Slots(4, waiting=4)


@dataclass
class FakeSupervisor:
    """Mounts that exist by name alone.

    Attributes:
        root: The directory of the mountpoints.
        live: The volumes that are mounted.
        devices: The device of the latest mount of each.
        silent: Those whose mount does not answer.
        used: Those that a container or process uses.
        start_problems: What a start fails with.
        release_problems: What a release fails with.
        start_gates: Where starts are held back.
        release_gates: Where releases are held back.
        answer_gates: Where the question whether a mount answers is held back.
        started: Every start, in order.
        logins: What each of them logs in with.
        released: Every release that unmounted, in order.
        asked: How often each volume was to be released, used or not.
        seconds: How long each start and release might take.
        answer_seconds: How long each question whether a mount answers might take.
        forgotten: The volumes of which nothing is kept any more, in order.
        unsettled: The volumes of which a release is under way that an earlier process has asked for.
        empty: The mountpoints at which nothing is mounted.
        cleared: Those of them that were to be removed, in order.
        clear_problem: Why they can't be.
    """

    root: Path
    live: set[str] = field(default_factory=set)
    devices: dict[str, str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    start_problems: dict[str, Exception] = field(default_factory=dict)
    release_problems: dict[str, MountError] = field(default_factory=dict)
    start_gates: dict[str, Gate] = field(default_factory=dict)
    release_gates: dict[str, Gate] = field(default_factory=dict)
    answer_gates: dict[str, Gate] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    logins: list[Login] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    answer_seconds: list[float] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    unsettled: set[str] = field(default_factory=set)
    empty: set[str] = field(default_factory=set)
    cleared: list[str] = field(default_factory=list)
    clear_problem: MountError | None = None

    def mountpoint(self, name: VolumeName) -> Path:
        """Return where a volume is mounted when it is."""
        return self.root / name

    def unit(self, name: VolumeName) -> str:
        """Return what systemd would call it."""
        return f"docker-volume-sshfs@{name}.service"

    def mounted(self) -> dict[str, str]:
        """Return the names of the volumes that are mounted, with the device of each."""
        return {name: self.devices.get(name, "") for name in self.live}

    def answers(self, name: VolumeName, seconds: float) -> bool:
        """Tell whether a mount is there and not silent."""
        self.answer_seconds.append(seconds)
        if gate := self.answer_gates.get(name):
            gate.hold()
        return name in self.live and name not in self.silent

    def left_over(self) -> set[str]:
        """Return the mountpoints of which the test says so."""
        return self.empty - self.live

    def clear(self, name: VolumeName, deadline: Deadline) -> None:
        """Note that a mountpoint is to be removed."""
        self.seconds.append(deadline.left())
        self.cleared.append(name)
        if self.clear_problem:
            raise self.clear_problem

    def settle(self) -> None:
        """End all releases that an earlier process has left under way."""
        self.unsettled.clear()

    def start(self, volume: Volume, login: Login, deadline: Deadline) -> None:
        """Mount a volume, unless the test has said otherwise of it."""
        self.logins.append(login)
        name = volume.name
        self.seconds.append(deadline.left())
        self.started.append(name)
        if gate := self.start_gates.get(name):
            gate.hold()
        if problem := self.start_problems.get(name):
            raise problem
        self.silent.discard(name)
        self.live.add(name)
        self.devices[name] = f"0:{len(self.started)}"

    def forget(self, name: VolumeName) -> None:
        """Note that nothing is kept of a volume any more."""
        self.forgotten.append(name)

    def release(self, name: VolumeName, deadline: Deadline) -> bool:
        """Unmount a volume unless it is used."""
        self.seconds.append(deadline.left())
        self.asked.append(name)
        if gate := self.release_gates.get(name):
            gate.hold()
        if problem := self.release_problems.get(name):
            raise problem
        if name in self.used:
            return False
        self.live.discard(name)
        self.released.append(name)
        return True


@dataclass
class Host:
    """All that a driver finds around it, and that outlives it."""

    supervisor: FakeSupervisor
    preflight: FakePreflight = field(default_factory=FakePreflight)
    volumes: MemoryVolumes = field(default_factory=MemoryVolumes)
    holder_records: MemoryHolders = field(default_factory=MemoryHolders)

    @property
    def volume_store(self) -> VolumeRecords:
        """The volume records, to one who asks for a store."""
        return cast(VolumeRecords, self.volumes)

    @property
    def holder_store(self) -> HolderRecords:
        """The holder records, to one who asks for a store."""
        return cast(HolderRecords, self.holder_records)

    @property
    def real_preflight(self) -> Preflight:
        """The preflight, to one who asks for a real one."""
        return cast(Preflight, self.preflight)

    @property
    def real_supervisor(self) -> Supervisor:
        """The supervisor, to one who asks for a real one."""
        return cast(Supervisor, self.supervisor)

    def start_driver(self) -> Driver:
        """Start a driver, as each start of the service does."""
        driver = Driver(
            volumes=self.volume_store,
            holder_records=self.holder_store,
            preflight=self.real_preflight,
            supervisor=self.real_supervisor,
        )
        driver.load()
        return driver


class FakeKernel:
    """A /proc tree to read and a libc whose umount2 changes it."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.busy: set[Path] = set()
        self.forbidden = False
        self.unmounted: list[tuple[Path, int]] = []
        self.process("self", namespace=1)

    def process(self, process: str | int, *, namespace: int, root: str = "/", mountinfo: str | None = "") -> Path:
        """Let a process exist, in a mount namespace; without mountinfo it is one that has just ended."""
        directory = self.proc / str(process)
        (directory / "ns").mkdir(parents=True)
        (directory / "ns/mnt").symlink_to(f"mnt:[{namespace}]")
        (directory / "root").symlink_to(root)
        if mountinfo is not None:
            (directory / "mountinfo").write_text(mountinfo)
        return directory

    @property
    def mountinfo(self) -> Path:
        """The table of our own mounts."""
        return self.proc / "self/mountinfo"

    def mount(self, mountpoint: Path, *, device: str = "0:99", kind: str = SSHFS) -> None:
        """Mount something, on top of what is there."""
        line = f"36 35 {device} / {mountpoint} rw,nosuid shared:7 - {kind} me@nas:/photos rw\n"
        self.mountinfo.write_text(self.mountinfo.read_text() + line)

    def umount2(self, target: bytes, flags: int) -> int:
        """Do what the system call of that name does."""
        mountpoint = Path(os.fsdecode(target))
        self.unmounted.append((mountpoint, flags))
        lines = self.mountinfo.read_text().splitlines(keepends=True)
        on_it = [line for line in lines if line.split(" ")[4] == str(mountpoint)]
        if problem := self._problem(mountpoint, flags, mounted=bool(on_it)):
            ctypes.set_errno(problem)
            return -1
        lines.remove(on_it[-1])
        self.mountinfo.write_text("".join(lines))
        return 0

    def _problem(self, mountpoint: Path, flags: int, *, mounted: bool) -> int:
        if self.forbidden:
            return errno.EPERM
        if not mountpoint.exists():
            return errno.ENOENT
        if not mounted:
            return errno.EINVAL
        return errno.EBUSY if mountpoint in self.busy and not flags & kernel.MNT_DETACH else 0


ANSWER = "echo \"stat: cannot statx '$2': No such file or directory\" >&2; exit 1"
"""What stat does when a mount answers that it has no such name."""

SILENCE = "echo \"stat: cannot statx '$2': Input/output error\" >&2; exit 1"
"""What stat does when sshfs has nobody to ask."""


@dataclass
class Programs:
    """Executables that come first in PATH and note how they were called.

    Attributes:
        directory: Where they are.
    """

    directory: Path

    def add(self, name: str, script: str = "") -> None:
        """Make an executable out of a shell script, which sees the directory as ``$HERE``."""
        program = self.directory / name
        program.write_text(
            f"#!/bin/sh\nHERE='{self.directory}'\n"
            f'printf \'%s\\n\' "$*" >>"$HERE/{name}.calls"\n{textwrap.dedent(script)}\n'
        )
        program.chmod(0o755)

    def calls(self, name: str) -> list[str]:
        """Return the arguments of each call, in order."""
        noted = self.directory / f"{name}.calls"
        return noted.read_text().splitlines() if noted.exists() else []


def answering_releases(settings: Settings, unused: "FakeKernel | None" = None) -> str:
    """Return a systemctl whose release unit answers every request, and unmounts what a kernel has mounted."""
    unmount = f": >{unused.mountinfo}" if unused else ":"
    return (
        f'case "$1 $3" in "start docker-volume-sshfs-release.service") rm -f {settings.releases}/*; {unmount} ;; esac'
    )


@dataclass(frozen=True)
class Reply:
    """What came back over the socket.

    Attributes:
        status: The status code.
        headers: The headers, names in lower case.
        text: The body.
    """

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)

    @property
    def error(self) -> str:
        """What the user reads; empty for a success."""
        error = self.body["Err"]
        assert isinstance(error, str)
        return error


def parse_reply(raw: bytes) -> Reply | None:
    """Read what a server sent until it closed the connection; None if that was nothing."""
    if not raw:
        return None
    head, _, body = raw.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Reply(status=int(status_line.split(" ")[1]), headers=headers, text=body.decode())


def read_all(connection: socket.socket) -> bytes:
    """Read until the other end is closed, be it before it has read all that it was sent."""
    said = b""
    with suppress(ConnectionResetError):
        while more := connection.recv(65536):
            said += more
    return said


@dataclass(frozen=True)
class WireClient:
    """What both clients have in common: one request on one connection, byte by byte as they were recorded.

    Attributes:
        address: The plugin's socket.
    """

    address: Path

    def request(self, call: str, body: Mapping[str, Any] | None) -> bytes:
        """Return the bytes of a request."""
        raise NotImplementedError

    def connect(self) -> socket.socket:
        """Open a connection."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(PATIENCE)
        connection.connect(str(self.address))
        return connection

    def send_bytes(self, raw: bytes) -> Reply | None:
        """Send bytes and read the reply; None if the connection is closed without one."""
        with self.connect() as connection:
            connection.sendall(raw)
            return parse_reply(read_all(connection))

    def send(self, call: str, body: Mapping[str, Any] | None) -> Reply:
        """Make a call that is answered."""
        reply = self.send_bytes(self.request(call, body))
        assert reply is not None, f"{call} was not answered"
        return reply

    def activate(self) -> Reply:
        """Make first contact."""
        return self.send("Plugin.Activate", None)

    def create(self, name: str, opts: Mapping[str, str] | None) -> Reply:
        """Create a volume, as ``docker volume create`` does."""
        return self.send("VolumeDriver.Create", {"Name": name, "Opts": opts})

    def mount(self, name: str, mount_id: str = ID) -> Reply:
        """Mount a volume."""
        return self.send("VolumeDriver.Mount", {"Name": name, "ID": mount_id})

    def unmount(self, name: str, mount_id: str = ID) -> Reply:
        """Give a volume back."""
        return self.send("VolumeDriver.Unmount", {"Name": name, "ID": mount_id})

    def get(self, name: str) -> Reply:
        """Ask for a volume."""
        return self.send("VolumeDriver.Get", {"Name": name})

    def list_names(self) -> list[str]:
        """Ask for all volumes."""
        return [listed["Name"] for listed in self.send("VolumeDriver.List", {}).body["Volumes"]]

    def remove(self, name: str) -> Reply:
        """Remove a volume."""
        return self.send("VolumeDriver.Remove", {"Name": name})


class DockerClient(WireClient):
    """Debian's dockerd 20.10.24."""

    def request(self, call: str, body: Mapping[str, Any] | None) -> bytes:
        """Return a request with an empty Host, no content type and a newline after the body."""
        content = b"" if body is None else json.dumps(body, separators=(",", ":")).encode() + b"\n"
        return (
            f"POST /{call} HTTP/1.1\r\n"
            "Host: \r\n"
            "User-Agent: Go-http-client/1.1\r\n"
            f"Content-Length: {len(content)}\r\n"
            "Accept: application/vnd.docker.plugins.v1.2+json\r\n"
            "\r\n"
        ).encode() + content

    def retry(self, call: str) -> Reply | None:
        """Send what Docker sends after a lost connection: the request without its body (moby#39331)."""
        return self.send_bytes(self.request(call, None))


class PodmanClient(WireClient):
    """Podman 4.3.1, which leaves out what it has nothing to say about and counts its mounts itself."""

    def request(self, call: str, body: Mapping[str, Any] | None) -> bytes:
        """Return a request without Accept and without a newline after the body."""
        said = {key: value for key, value in (body or {}).items() if value}
        content = json.dumps(said, separators=(",", ":")).encode() if said else b""
        return (
            f"POST /{call} HTTP/1.1\r\n"
            "Host: plugin\r\n"
            "User-Agent: Go-http-client/1.1\r\n"
            f"Content-Length: {len(content)}\r\n"
            "Content-Type: application/vnd.docker.plugins.v1.1+json\r\n"
            "\r\n"
        ).encode() + content

    def mount(self, name: str, mount_id: str = PODMAN_ID) -> Reply:
        """Mount a volume under the one ID that Podman uses."""
        return super().mount(name, mount_id)

    def unmount(self, name: str, mount_id: str = PODMAN_ID) -> Reply:
        """Give a volume back."""
        return super().unmount(name, mount_id)


class _GunicornsHandler(WSGIRequestHandler):
    """Hands the client's socket to the application under the name that gunicorn uses for it."""

    def make_environ(self) -> "WSGIEnvironment":
        """Return the request as WSGI has it."""
        return {**super().make_environ(), "gunicorn.socket": self.connection}

    def log(self, type: str, message: str, *args: Any) -> None:
        """Keep quiet about each request."""


@contextmanager
def serving(application: "WSGIApplication", address: Path) -> Iterator[None]:
    """Serve an application on a unix socket, a thread for each connection."""
    server = make_server(f"unix://{address}", 0, application, threaded=True, request_handler=_GunicornsHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
