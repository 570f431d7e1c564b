# SPDX-License-Identifier: MIT
"""What containers see when the server, the network or a program fails: the table of docs/reliability.md, row by row.

The figures of the table are properties that the tests record: ``--junitxml FILE -o junit_family=xunit1`` shows them.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

import pytest

from .documents import script
from .host import KEY, MOUNTS, PACKAGE, STAY, Host
from .machines.commands import Result
from .machines.machine import IMAGE
from .ssh_server import SshServer, another_ssh_server

Record = Callable[[str, object], None]

PAGE = "docs/reliability.md"

MEBIBYTES = 64
"""The size of a large file: enough to catch a program that copies it in the middle."""

NUMBERS = (
    "trap exit TERM; i=$(cat /written /failed 2>/dev/null | wc -l); "
    "while true; do i=$((i+1)); read -r now rest </proc/uptime; "
    "if echo $i | dd of=/data/log oflag=append conv=notrunc,fsync 2>/dev/null; then echo $i $now >>/written; "
    "else echo $i $now >>/failed; fi; sleep 0.05; done"
)
"""What a container runs that writes a numbered log, asks for each line whether it is on the disk, and goes on."""

ECHO = (
    "trap exit TERM; i=0; while true; do i=$((i+1)); read -r now rest </proc/uptime; "
    "if echo $i >>/data/log; then echo $i $now >>/written; else echo $i $now >>/failed; sleep 0.05; fi; done"
)
"""What a container runs that writes such a log as fast as it can, and looks at errors of the write alone."""

IN = ("docker", "exec")


@pytest.fixture
def server(host: Host) -> SshServer:
    """Return the machine's own SSH server."""
    return SshServer(host.machine)


def large_file(host: Host, directory: str) -> str:
    """Make a large file on the server, and return its sum."""
    host.machine.sh(f"head -c {MEBIBYTES}M /dev/urandom >{directory}/large; chown alice: {directory}/large")
    return checksum(host, f"{directory}/large")


def checksum(host: Host, path: str) -> str:
    """Return the sum of a file of the machine."""
    return host.machine.run("md5sum", path).stdout.split()[0]


def in_container(host: Host, container: str, text: str, *, check: bool = True) -> Result:
    """Run a script in a container, for a minute at most, since its files may hang."""
    return host.machine.run(*IN, container, "sh", "-c", text, check=check, timeout=60)


def seconds_up(host: Host) -> float:
    """Return the time, as the containers see it."""
    return float(host.machine.read("/proc/uptime").split()[0])


class Log:
    """The numbered log of a container, and what became of each number."""

    def __init__(self, host: Host, container: str, directory: str) -> None:
        self._host, self._container, self._directory = host, container, directory

    def _noted(self, file: str) -> dict[int, float]:
        said = in_container(self._host, self._container, f"cat /{file} 2>/dev/null", check=False).stdout
        return {int(number): float(when) for number, when in (line.split() for line in said.splitlines())}

    @property
    def written(self) -> dict[int, float]:
        """The numbers that are on the server's disk, as the container was told, and when each was begun."""
        return self._noted("written")

    @property
    def failed(self) -> dict[int, float]:
        """The numbers for which it had an error."""
        return self._noted("failed")

    def await_failure(self, before: int = 0) -> None:
        """Wait until the container has had an error, or more than before."""
        self._host.machine.until(lambda: len(self.failed) > before)

    def await_progress(self) -> None:
        """Wait until more numbers are written."""
        before = len(self.written)
        self._host.machine.until(lambda: len(self.written) > before + 5)

    def await_recovery(self) -> float:
        """Wait until numbers are written again, see that there is no error any more, and return how long it took."""
        last = max(self.written)
        self._host.machine.until(lambda: max(self.written) > last + 5)
        failed = self.failed
        self.await_progress()
        assert self.failed == failed, "there are errors after the server's return"
        written = self.written
        times = list(failed.values())
        return min(when for when in written.values() if when > times[-1]) - times[0] if times else 0.0

    def check(self) -> None:
        """Check that nothing of what the container was told to be written is lost, and nothing is there twice."""
        written, failed = self.written, self.failed
        numbers = [int(number) for number in self._host.machine.read(f"{self._directory}/log").split()]
        assert set(written) - set(numbers) == set(), "what was acknowledged is lost"
        assert numbers == sorted(set(numbers)), "something was written twice, or later"
        known = {**written, **failed}
        assert {number for number in numbers if number <= max(known)} <= set(known)


@contextmanager
def logging(host: Host, volume: str, directory: str, program: str = NUMBERS) -> Iterator[Log]:
    """Let a container write a numbered log meanwhile, and check at the end that nothing is lost."""
    container = f"logger-{volume}"
    host.start(container, volume, program)
    log = Log(host, container, directory)
    try:
        log.await_progress()
        yield log
        log.await_progress()
        log.check()
    finally:
        host.machine.run("docker", "rm", "-f", container)


# Reads of a server that freezes and is then cut off


class Reading(NamedTuple):
    """What became of a program that read a file: its exit status, the sum of what it had, and how long it waited."""

    status: int
    checksum: str
    seconds: float


def read_while_the_server_freezes(host: Host, server: SshServer, volume: str, program: str) -> Reading:
    """Let a container copy or sum up a file, freeze the server amid that, and cut it off."""
    machine, out = host.machine, f"/root/out-{volume}"
    machine.sh(f"rm -rf {out}; mkdir {out}")
    scripts = {
        "cp": "until test -e /out/go; do sleep 0.05; done; exec cp /data/large /out/copy",
        "dd": "until test -e /out/go; do sleep 0.05; done; exec dd if=/data/large of=/out/copy bs=64k",
        # the file is open before the server freezes
        "md5sum": "exec </data/large; echo >/out/copy; until test -e /out/frozen; do sleep 0.05; done; "
        "/bin/busybox md5sum >/out/sum",
    }
    host.start("reader", volume, scripts[program], "-v", f"{out}:/out")
    reader = machine.run("docker", "inspect", "-f", "{{.State.Pid}}", "reader").stdout.strip()
    # it would be done before the server is frozen
    machine.sh(f"touch {out}/go; until test -s {out}/copy; do :; done; kill -STOP {reader}")
    server.freeze()
    size = int(machine.run("stat", "-c", "%s", f"{out}/copy").stdout)
    assert size < MEBIBYTES << 20, "it was faster than we were"
    machine.sh(f"touch {out}/frozen; kill -CONT {reader}")
    if program == "md5sum":
        machine.until("docker top reader | grep -q md5sum")
    server.cut()
    cut = seconds_up(host)
    status = int(machine.run("docker", "wait", "reader", timeout=120).stdout)
    waited = seconds_up(host) - cut
    machine.run("docker", "rm", "-f", "reader")
    copied = machine.read(f"{out}/sum")[:32] if program == "md5sum" else checksum(host, f"{out}/copy")
    machine.run("rm", "-r", out)
    return Reading(status, copied, waited)


@pytest.mark.parametrize("program", ["cp", "md5sum"])
def test_a_file_is_read_whole_although_its_server_freezes_and_is_cut_off(
    host: Host, server: SshServer, program: str, record_property: Record
) -> None:
    directory = host.directory("whole")
    expected = large_file(host, directory)
    host.create("whole", directory)
    read = read_while_the_server_freezes(host, server, "whole", program)
    assert (read.status, read.checksum) == (0, expected)
    record_property("waited for", read.seconds)


@pytest.mark.parametrize("program", ["cp", "md5sum"])
def test_without_the_relay_a_part_passes_for_the_whole(host: Host, server: SshServer, program: str) -> None:
    """Which shows that the way of these tests brings the fault about."""
    directory = host.directory("part")
    expected = large_file(host, directory)
    host.create("part", directory, relay="no")
    read = read_while_the_server_freezes(host, server, "part", program)
    assert read.status == 0
    assert read.checksum != expected


def test_the_commands_of_the_page_make_a_volume_whose_reads_fail_rather(host: Host, server: SshServer) -> None:
    machine, directory = host.machine, "/srv/files"
    machine.run("install", "-d", "-o", "alice", directory)
    large_file(host, directory)
    machine.sh("install -m 600 $1 /etc/docker-volume-sshfs/id_ed25519", KEY)
    create, remove = script(PAGE).removeprefix("set -eux\n").strip().splitlines()
    try:
        machine.sh(create)
        # cp of busybox lets the kernel copy, and may see no error here either
        for program in ("dd", "md5sum"):
            assert read_while_the_server_freezes(host, server, "careful", program).status != 0
        machine.sh(remove)
    finally:
        machine.run("rm", "-r", directory)


# Servers and networks that are away


AT_ONCE = """\
for number in 1 2 3 4; do
    ls /data/directory-$number & stat /data/file-$number & touch /data/new-$number &
done
wait
"""
"""What needs the server, and has not been asked for before."""

MAKE_UNASKED = "cd $1; for number in 1 2 3 4; do mkdir directory-$number; touch file-$number; done; chown -R alice: ."
"""Makes that on the server."""

CALL = "curl -sS --max-time 20 --unix-socket /run/docker-volume-sshfs/sshfs.sock -o /root/answer -w %{time_total}"


def fails_at_once(host: Host, container: str) -> None:
    """See that whatever needs the server fails in a container."""
    asked = in_container(host, container, AT_ONCE, check=False)
    assert asked.stderr.count("Input/output error") == 12, asked


TRIES = 9

ONE_OR_EIGHT = f"""\
ask() {{
    read -r before rest </proc/uptime
    for one in $(seq $1); do
        names=$((names + 1))
        stat $2/unknown-$names &
    done
    wait
    read -r after rest </proc/uptime
    echo $1 $2 $before $after
}}
for try in $(seq {TRIES}); do ask 1 /; ask 1 /data; ask 8 /; ask 8 /data; done
"""
"""Asks for what is nowhere, one or eight at once, in the container itself and on the volume; tells when."""


def fails_soon(host: Host, container: str, record_property: Record) -> None:
    """See that what needs the server fails within 100 ms, and eight at once as fast as one.

    What it takes to start the programs, which is much on a busy host, does not count.
    """
    asked = in_container(host, container, ONE_OR_EIGHT, check=False)
    assert asked.stderr.count("Input/output error") == TRIES * (1 + 8), asked
    taken: dict[tuple[str, str], list[float]] = {}
    for number, place, before, after in map(str.split, asked.stdout.splitlines()):
        taken.setdefault((number, place), []).append(float(after) - float(before))
    for number in ("1", "8"):
        on_volume, elsewhere = (median(taken[number, place]) for place in ("/data", "/"))
        record_property(f"{number} at once", on_volume)
        assert on_volume - elsewhere < 0.1, taken


SAMPLER = """\
import http.client, json, os, socket, sys, time

def call(verb, body):
    connection = http.client.HTTPConnection("plugin", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect("/run/docker-volume-sshfs/sshfs.sock")
    connection.request("POST", "/VolumeDriver." + verb, body)
    json.load(connection.getresponse())
    connection.close()

volume, neighbour, file = sys.argv[1:]
asks = {
    "List": lambda number: call("List", "{}"),
    "Get": lambda number: call("Get", '{"Name": "%s"}' % volume),
    "stat": lambda number: os.path.exists(f"{neighbour}/unknown-{number}"),
}
for number in range(10**9):
    for what, ask in asks.items():
        before = time.monotonic()
        ask(number)
        with open(file, "a") as samples:
            print(what, before, time.monotonic() - before, file=samples)
    time.sleep(0.05)
"""
"""Asks the service for all volumes and for one, and the server of another for what is nowhere, all the time."""


class Samples:
    """How long the service and another server took to answer, from before a fault on."""

    def __init__(self, host: Host, file: str) -> None:
        self._host, self._file, self._fault = host, file, 0.0

    def taken(self, *, before_the_fault: bool) -> dict[str, list[float]]:
        """Return how long each question took that was asked before the fault, or since it."""
        taken: dict[str, list[float]] = {"List": [], "Get": [], "stat": []}
        for line in self._host.machine.read(self._file).splitlines(keepends=True):
            if line.endswith("\n"):
                what, when, seconds = line.split()
                if (float(when) < self._fault) is before_the_fault:
                    taken[what].append(float(seconds))
        return taken

    def begin(self) -> None:
        """Note that the fault begins now, when there are enough samples."""
        self._fault = float("inf")
        self._host.machine.until(lambda: len(self.taken(before_the_fault=True)["stat"]) > 20)
        self._fault = seconds_up(self._host)

    def check(self, record_property: Record) -> None:
        """See that all was answered within 50 ms during the fault: as a rule, since the host may be busy."""
        self._host.machine.until(lambda: len(self.taken(before_the_fault=False)["stat"]) > 20)
        usual, now = (self.taken(before_the_fault=before) for before in (True, False))
        for what, taken in now.items():
            record_property(f"{what}, median and slowest of {len(taken)}", (median(taken), max(taken)))
            assert median(taken) < max(0.05, 2 * median(usual[what])), (what, usual, now)
            assert max(taken) < 5, (what, taken)


@contextmanager
def sampling(host: Host, volume: str, neighbour: str) -> Iterator[Samples]:
    """Ask for a volume, and use another, all the time."""
    machine, unit = host.machine, "sampler"
    machine.write("/root/sampler.py", SAMPLER)
    words = ("/root/sampler.py", volume, f"{MOUNTS}/{neighbour}", "/root/samples")
    machine.run("systemd-run", "--quiet", "--collect", f"--unit={unit}", "/usr/bin/python3", *words)
    try:
        machine.until("test -s /root/samples")
        yield Samples(host, "/root/samples")
        assert host.property(unit, "ActiveState") == "active", "a question had no answer"
    finally:
        machine.sh("systemctl stop sampler; rm /root/samples /root/sampler.py", check=False)


def await_state(host: Host, volume: str, state: str, reason: str = "") -> str:
    """Wait until a volume is in a state, for a reason that its error names, and return the error."""

    def error() -> str:
        return str(host.status(volume).get("lastError", ""))

    # five minutes is what a server may take to write a file to its disk
    host.machine.until(lambda: host.status(volume)["state"] == state and reason in error(), timeout=400)
    return error()


@contextmanager
def reading(host: Host, volume: str, directory: str) -> Iterator[str]:
    """Let a container have a file open that it goes on to read when /go is there, and sum up into /sum."""
    expected, container = large_file(host, directory), f"reader-{volume}"
    paced = (
        "exec 3</data/large; dd bs=64k count=1 <&3 >/first 2>/dev/null; touch /opened; "
        f"until test -e /go; do sleep 0.05; done; cat /first - <&3 | /bin/busybox md5sum >/sum; touch /done; {STAY}"
    )
    host.start(container, volume, paced)
    host.machine.until(lambda: in_container(host, container, "test -e /opened"))
    try:
        yield container
        host.machine.until(lambda: in_container(host, container, "test -e /done"))
        assert in_container(host, container, "cat /sum").stdout.split()[0] == expected
    finally:
        host.machine.run("docker", "rm", "-f", container)


HOLDS = (
    "trap exit TERM; i=0; while true; do "
    "{ while echo $i >&4 && sync /data/held; do i=$((i+1)); sleep 0.05; done; } 4>>/data/held; "
    "echo $i >>/failed; sleep 0.2; done"
)
"""What a container runs that keeps its file open, and opens it anew after an error."""


def test_while_the_server_is_away_reads_wait_and_all_else_fails_at_once(
    host: Host, server: SshServer, record_property: Record
) -> None:
    machine, directory, near = host.machine, host.directory("away"), host.directory("near")
    machine.sh(MAKE_UNASKED, directory)
    host.create("away", directory)
    with another_ssh_server(machine) as other:
        host.create("near", near, port=str(other.port))
        with (
            host.writing("near", near),
            reading(host, "away", directory) as reader,
            logging(host, "away", directory) as log,
            sampling(host, "away", "near") as samples,
        ):
            host.start("holder", "away", HOLDS)
            machine.until(lambda: in_container(host, "holder", "test -s /data/held"))
            sshfs = host.sshfs("away")
            samples.begin()
            with server.away():
                await_state(host, "away", "unresponsive")
                log.await_failure()
                in_container(host, reader, "touch /go")
                fails_at_once(host, reader)
                fails_soon(host, reader, record_property)
                reason = await_state(host, "away", "unresponsive", "Connection refused")
                assert "it is tried again every 4 seconds" in reason
                asked = machine.run(PACKAGE, "status", "away", check=False)
                assert asked.returncode == 1
                assert "mounted, but the server does not answer" in asked.stdout
                assert host.status("near")["state"] == "mounted"
                assert machine.run("docker", "volume", "ls", "-q").stdout == "away\nnear\n"
                assert in_container(host, "holder", "cat /failed", check=False)
                assert not in_container(host, reader, "test -e /done", check=False)
                samples.check(record_property)
                began = seconds_up(host)
            record_property("lines failed for", log.await_recovery())
            await_state(host, "away", "mounted")
            record_property("well again after", back := seconds_up(host) - began)
            assert back < 15
            before = int(machine.sh(f"wc -l <{directory}/held").stdout)
            machine.until(lambda: int(machine.sh(f"wc -l <{directory}/held").stdout) > before + 2)
            assert host.sshfs("away") == sshfs
            machine.run("docker", "rm", "-f", "holder")


# Programs that wait for a read, and are ended


WAITS = (
    "exec 3</data/large; dd bs=64k count=1 <&3 >/first 2>/dev/null; touch /opened; "
    "until test -e /go; do sleep 0.05; done; exec cat <&3 >/dev/null"
)
"""What a container runs that goes on to read an open file when /go is there. TERM is nothing to its first process."""


@contextmanager
def fault(host: Host, server: SshServer, kind: str) -> Iterator[None]:
    """Let the server be gone meanwhile, with its connections, or let its SFTP hang while its ssh lives on."""
    if kind == "gone":
        with server.away():
            yield
        return
    host.machine.run("pkill", "-STOP", "-u", "alice", "-x", "sftp-server")
    try:
        yield
    finally:
        host.machine.run("pkill", "-CONT", "-u", "alice", "-x", "sftp-server", check=False)


def start_reader(host: Host, container: str, volume: str) -> None:
    """Start a container that has the large file of a volume open."""
    host.start(container, volume, WAITS)
    host.machine.until(lambda: in_container(host, container, "test -e /opened"))


def let_wait(host: Host, container: str) -> None:
    """Let a container go on to read, and wait until the kernel does not let it go on."""
    in_container(host, container, "touch /go")
    process = host.machine.run("docker", "inspect", "-f", "{{.State.Pid}}", container).stdout.strip()
    host.machine.until(f"grep -q cat /proc/{process}/comm && grep -q '^State:.D' /proc/{process}/status")


@pytest.mark.parametrize("kind", ["gone", "hung"])
def test_a_container_whose_read_waits_is_stopped_and_removed_like_any_other(
    host: Host, server: SshServer, kind: str, record_property: Record
) -> None:
    machine, directory = host.machine, host.directory("waited-for")
    large_file(host, directory)
    host.create("waited-for", directory, read_timeout="600")
    for container in ("stopped", "removed"):
        start_reader(host, container, "waited-for")
    host.start("idle", "waited-for", STAY)
    with fault(host, server, kind):
        for container in ("stopped", "removed"):
            let_wait(host, container)
        refused = machine.run("docker", "volume", "rm", "waited-for", check=False)
        assert "remove waited-for: volume is in use - [" in refused.stderr
        refused = machine.run(PACKAGE, "release", "waited-for", check=False)
        assert refused.returncode == 1
        assert "docker-volume-sshfs release --force waited-for takes it away from them" in refused.stderr
        stopped = machine.run("docker", "stop", "-t", "1", "stopped")
        record_property("stopped after", stopped.seconds)
        assert machine.run("docker", "wait", "stopped").stdout == "137\n", "it was killed"
        record_property("removed after", machine.run("docker", "rm", "-f", "removed").seconds)
        assert host.status("waited-for")["holders"] == 1
    await_state(host, "waited-for", "mounted")
    in_container(host, "idle", "touch /data/on")
    machine.run("docker", "rm", "-f", "stopped", "idle")
    machine.until(lambda: not host.is_mounted("waited-for"))
    machine.run("docker", "volume", "rm", "waited-for")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["gone", "hung"])
def test_the_last_container_whose_read_waits_can_be_removed_and_then_its_volume(
    host: Host, server: SshServer, kind: str, record_property: Record
) -> None:
    machine, directory = host.machine, host.directory("last")
    large_file(host, directory)
    host.create("last", directory, read_timeout="600")
    start_reader(host, "reader", "last")
    with fault(host, server, kind):
        let_wait(host, "reader")
        began = seconds_up(host)
        machine.run("docker", "rm", "-f", "reader", timeout=120)
        record_property("container removed after", seconds_up(host) - began)

        def is_removed() -> bool:
            removed = machine.run("docker", "volume", "rm", "last", check=False)
            in_use = "volume 'last' is still in use by a running container or a process on this host: stop it"
            assert removed or in_use in removed.stderr, removed
            return bool(removed)

        machine.until(is_removed)
        record_property("volume removed after", seconds_up(host) - began)
        assert not host.is_mounted("last")
        assert machine.run("docker", "volume", "ls", "-q").stdout == ""


@pytest.mark.long
@pytest.mark.parametrize("kind", ["gone", "hung"])
def test_a_release_by_force_lets_a_read_that_waits_fail_at_once(
    host: Host, server: SshServer, kind: str, record_property: Record
) -> None:
    machine, directory = host.machine, host.directory("forced")
    large_file(host, directory)
    host.create("forced", directory, read_timeout="600")
    start_reader(host, "reader", "forced")
    with fault(host, server, kind):
        let_wait(host, "reader")
        began = seconds_up(host)
        release = ("systemd-run", "--quiet", "--collect", "--unit=forced", PACKAGE, "release", "--force", "forced")
        machine.run(*release)
        assert machine.run("docker", "wait", "reader").stdout == "1\n"
        record_property("read failed after", seconds_up(host) - began)
        machine.until("! systemctl is-active --quiet forced")
        record_property("released after", seconds_up(host) - began)
        record_property("the reader's error", machine.run("docker", "logs", "reader").stderr)
        assert not host.is_mounted("forced")
        machine.run("docker", "rm", "reader")
        machine.run("docker", "volume", "rm", "forced")


# Killed processes


RELAY = "^/usr/bin/python3 -S /usr/libexec/docker-volume-sshfs/relay .*/mounts/{0}/ssh_config"
SSH = "^/usr/bin/ssh .*/mounts/{0}/ssh_config"


@pytest.mark.parametrize("killed", ["relay", "ssh", "sshd's child", "sshd"])
def test_a_killed_process_costs_a_log_only_the_lines_meanwhile(
    host: Host, server: SshServer, killed: str, record_property: Record
) -> None:
    machine, directory = host.machine, host.directory("killed")
    # those that share a connection have no ssh of their own
    host.create("killed", directory, own_connection="yes" if killed == "ssh" else "no")
    with logging(host, "killed", directory) as log:
        sshfs = host.sshfs("killed")
        match killed:
            case "relay":
                machine.run("pkill", "-KILL", "-f", RELAY.format("killed"))
            case "ssh":
                machine.run("pkill", "-KILL", "-f", SSH.format("killed"))
            case "sshd's child":
                machine.run("pkill", "-KILL", "-u", "alice", "-x", "sftp-server")
            case "sshd":
                machine.run("systemctl", "restart", "ssh")
                server.cut()
        record_property("lines failed for", log.await_recovery())
        record_property("lines failed", len(log.failed))
        assert host.status("killed")["state"] == "mounted"
        assert host.sshfs("killed") == sshfs, "containers need no restart"


@pytest.mark.parametrize("live_restored", [False, True], ids=["", "live-restore"])
def test_a_killed_docker_amid_a_copy_leaves_nothing_mounted(
    host: Host, live_restored: bool, request: pytest.FixtureRequest
) -> None:
    if live_restored:
        request.getfixturevalue("live_restore")
    machine, directory = host.machine, host.directory("crash")
    large_file(host, directory)
    host.create("crash", directory)
    host.create("quiet", directory)
    host.start("always", "crash", STAY, "--restart=always")
    host.start("never", "crash", STAY)
    host.start("idle", "quiet", STAY)
    # nobody reads the copy, so it can't end
    machine.run(
        *("systemd-run", "--quiet", "--collect", "--unit=copy"),
        *("sh", "-c", "docker cp always:/data/large - | { head -c 1 >/root/copying; exec sleep 1000; }"),
    )
    machine.until("test -s /root/copying")
    machine.run("systemctl", "kill", "-s", "KILL", "docker")
    machine.until(lambda: machine.run("docker", "exec", "always", "touch", "/data/back"))

    def holders(volume: str) -> int:
        return int(host.status(volume)["holders"])

    running = machine.run("docker", "ps", "--format", "{{.Names}}").stdout.split()
    assert sorted(running) == (["always", "idle", "never"] if live_restored else ["always"])
    # it never gives back what ended with it, which counts unless the volume was unmounted before the restart mounted it
    counted = holders("crash")
    assert counted == 2 or (counted == 1 and not live_restored)
    assert holders("quiet") <= 1
    machine.run("docker", "cp", "always:/data/large", "/root/large")
    # after live-restore Docker takes the end of the copy for that of the container, and does not tell of the real one
    assert holders("crash") == (1 if live_restored else counted)
    machine.sh("systemctl stop copy; rm /root/large /root/copying")
    machine.run("docker", "exec", "always", "touch", "/data/back")
    machine.run("docker", "rm", "-f", "never", "idle")
    assert holders("crash") == (0 if live_restored else counted)
    assert (host.status("crash")["state"], host.is_mounted("crash")) == ("mounted", True)
    machine.run("docker", "exec", "always", "touch", "/data/still")
    machine.run("docker", "rm", "-f", "always")
    if not live_restored:
        machine.until(lambda: not host.is_mounted("crash"))
    assert holders("crash") == 0
    machine.run("docker", "volume", "rm", "crash", "quiet")
    machine.until(f'test -z "$(ls -A {MOUNTS})"')
    assert machine.run("pgrep", "-x", "sshfs", check=False).stdout == ""


# Servers that refuse


def create_with_password(host: Host, name: str) -> str:
    """Create a volume that logs in with alice's password, and return its directory on the server."""
    machine, directory = host.machine, host.directory(name)
    machine.write("/root/nas.password", "correct horse battery\n", mode=0o600)
    options = ("-o", f"sshcmd=alice@localhost:{directory}", "-o", "password_file=/root/nas.password")
    machine.run("docker", "volume", "create", "-d", "sshfs", *options, name)
    return directory


def test_after_a_change_of_the_password_the_server_is_asked_a_few_times_only(
    host: Host, server: SshServer, record_property: Record
) -> None:
    machine, directory = host.machine, create_with_password(host, "password")
    with logging(host, "password", directory) as log:
        since = host.from_here()
        with host.password("another one"):
            server.cut()
            log.await_failure()
            reason = await_state(host, "password", "unresponsive", "Permission denied")
            assert "the login is tried again 1 minute later" in reason
            # each container that is started meanwhile costs a login of its own
            refused = host.run("password", "true", check=False)
            assert not refused
            in_container(host, "logger-password", "for i in $(seq 100); do ls /data/$i; done", check=False)
            failed = machine.journal("-u", "ssh", since).count("Failed password for alice")
            record_property("failed logins", failed)
            assert 1 <= failed <= 3
        machine.run("docker", "restart", "-t", "0", "logger-password")
        await_state(host, "password", "mounted")


def test_after_a_change_of_the_host_key_the_reason_is_said_once(
    host: Host, server: SshServer, record_property: Record
) -> None:
    machine, directory = host.machine, host.directory("another")
    host.create("another", directory)
    with logging(host, "another", directory) as log:
        since = host.from_here()
        machine.sh("cp -a /etc/ssh /root/ssh; rm /etc/ssh/ssh_host_*; ssh-keygen -A; systemctl restart ssh")
        try:
            server.cut()
            log.await_failure()
            await_state(host, "another", "unresponsive", "Host key verification failed")
            in_container(host, "logger-another", "for i in $(seq 100); do ls /data/$i; done", check=False)
            said = machine.journal("-u", f"{PACKAGE}@another", since).splitlines()
            record_property("lines in the journal", len(said))
            assert len(said) < 5, said
        finally:
            machine.sh("cp -a /root/ssh/ssh_host_* /etc/ssh; rm -r /root/ssh; systemctl restart ssh")
        machine.run("docker", "restart", "-t", "0", "logger-another")
        await_state(host, "another", "mounted")


# Servers that get stuck


NAMED = {
    "silent": "localhost port {} accepts the connection but has not spoken SSH in time",
    "rubbish": "what answers at localhost port {} is not an SSH server, it says '",
    "rubbish after its version": "what answers at localhost port {} is not an SSH server, it sends a packet of",
    "key exchange": "the SSH server at localhost port {} stopped answering",
    "login": "localhost did not answer the login of alice in time",
    "SFTP": "alice@localhost port {} lets the login in but did not start SFTP in time",
    "directory": "the directory /files on localhost can't be listed (no answer in time)",
}
"""What a Create says of each kind of bad server."""


CREATE = f"docker volume create -d sshfs -o sshcmd=alice@localhost:/files -o IdentityFile={KEY}"


@pytest.fixture
def bad_servers(host: Host) -> Iterator[dict[str, int]]:
    """Run one of each kind in the machine, and give their ports."""
    machine, tree = host.machine, host.checkout()
    program = f"cd {tree}; PYTHONPATH={tree}:{tree}/tests exec python3 -m support.bad_servers {KEY}.pub >/root/bad"
    machine.run("systemd-run", "--quiet", "--collect", "--unit=bad", "sh", "-c", program)
    try:
        machine.until("test -s /root/bad")
        yield json.loads(machine.read("/root/bad"))
    finally:
        machine.run("systemctl", "stop", "bad")
        host.clear()


class Answer(NamedTuple):
    """What a command said on stderr, and how long it took."""

    said: str
    seconds: float


def all_at_once(host: Host, commands: dict[str, str]) -> dict[str, Answer]:
    """Run commands at once, by their names; return what each says on stderr, and how long it takes."""
    machine = host.machine
    machine.run("rm -rf /root/at-once; mkdir /root/at-once")
    for name, command in commands.items():
        machine.write(f"/root/at-once/{name}.sh", command)
    machine.sh(
        "cd /root/at-once; for file in *.sh; do "
        '{ read -r before rest </proc/uptime; timeout 300 sh "$file" >/dev/null 2>"$file.said" || true; '
        'read -r after rest </proc/uptime; echo "$before $after" >"$file.when"; } & done; wait'
    )

    def answer(name: str) -> Answer:
        before, after = map(float, machine.read(f"/root/at-once/{name}.sh.when").split())
        return Answer(machine.read(f"/root/at-once/{name}.sh.said"), after - before)

    return {name: answer(name) for name in commands}


def test_a_server_that_gets_stuck_or_sends_rubbish_is_named_with_the_step(
    host: Host, bad_servers: dict[str, int], record_property: Record
) -> None:
    creates = {kind: f"{CREATE} -o port={port} bad-{number}" for number, (kind, port) in enumerate(bad_servers.items())}
    answers = all_at_once(host, creates)
    for kind, (said, seconds) in answers.items():
        assert NAMED[kind].format(bad_servers[kind]) in said, (kind, said)
        record_property(f"{kind}: Create failed after", seconds)
        # ours are 10 seconds for each of connection and key exchange, 20 for what follows; Docker's are 120
        assert seconds < 60, (kind, seconds)
    assert host.machine.run("docker", "volume", "ls", "-q").stdout == ""


MOUNT_SAYS = {
    "silent": "last words: Connection timed out during banner exchange",
    "rubbish": "invalid format",
    "rubbish after its version": "Bad packet length",
    "key exchange": "timed out",
    "login": "timed out",
    "SFTP": "was not usable after 55 seconds and was given up: is the server slow or overloaded?",
}
"""What a Mount says that no check went before, in words of ssh for the most part."""


@pytest.mark.long
def test_a_server_that_gets_stuck_or_sends_rubbish_fails_the_mount_of_a_volume_that_is_not_checked(
    host: Host, bad_servers: dict[str, int], record_property: Record
) -> None:
    machine, starts = host.machine, {}
    volumes = {kind: f"bad-{number}" for number, kind in enumerate(MOUNT_SAYS)}
    for kind, volume in volumes.items():
        machine.sh(f"{CREATE} -o port={bad_servers[kind]} -o check=never {volume}")
        starts[kind] = f"docker run --rm --network=none -v {volume}:/data {IMAGE} true"
    for kind, (said, seconds) in all_at_once(host, starts).items():
        assert "VolumeDriver.Mount: " in said, (kind, said)
        assert MOUNT_SAYS[kind] in said, (kind, said)
        record_property(f"{kind}: Mount failed after", seconds)
        assert seconds < 110, (kind, seconds)
        assert host.status(volumes[kind])["state"] == "unmounted"
    machine.until(f'test -z "$(ls -A {MOUNTS})"')
    assert machine.run("pgrep", "-x", "sshfs", check=False).stdout == ""


# The server's disk


def said(result: Result) -> str:
    """Return how the message of a command ends that has failed."""
    assert result.returncode != 0, result
    return result.stderr.splitlines()[0].rpartition(": ")[2]


def is_well(host: Host, volume: str) -> bool:
    """Tell whether the plugin has nothing to say against a volume."""
    return bool(host.machine.run(PACKAGE, "status", volume, check=False))


def test_a_full_disk_of_the_server_is_an_error_of_the_write(host: Host) -> None:
    machine, directory = host.machine, host.directory("full")
    machine.run("mount", "-t", "tmpfs", "-o", "size=1m,uid=1000", "none", directory)
    try:
        host.create("full", directory)
        host.start("user", "full", STAY)
        for act in ("dd if=/dev/zero of=/data/big bs=64k count=64", "dd if=/dev/zero of=/data/big bs=64k conv=fsync"):
            assert said(in_container(host, "user", act, check=False)) == "Input/output error"
        assert is_well(host, "full")
        in_container(host, "user", "rm /data/big; echo more >/data/small; sync; cat /data/small")
        assert machine.read(f"{directory}/small") == "more\n"
        host.machine.run("docker", "rm", "-f", "user")
        machine.until(lambda: not host.is_mounted("full"))
    finally:
        machine.run("umount", "--lazy", directory)


def test_a_disk_that_has_become_read_only_refuses_changes_only(host: Host) -> None:
    machine, directory = host.machine, host.directory("ro")
    machine.run("mount", "-t", "tmpfs", "-o", "size=1m,uid=1000", "none", directory)
    try:
        host.create("ro", directory)
        host.start("user", "ro", STAY)
        in_container(host, "user", "echo old >/data/file; mkdir /data/dir")
        machine.run("mount", "-o", "remount,ro", directory)
        for act in ("touch /data/new", "echo new >>/data/file", "rm /data/file", "mv /data/dir /data/to"):
            assert said(in_container(host, "user", act, check=False)) == "Operation not permitted", act
        # what sshfs makes of any failure of mkdir for which the server has no name
        assert said(in_container(host, "user", "mkdir /data/other", check=False)) == "File exists"
        assert in_container(host, "user", "cat /data/file").stdout == "old\n"
        assert is_well(host, "ro")
        machine.run("mount", "-o", "remount,rw", directory)
        in_container(host, "user", "echo new >>/data/file")
        assert machine.read(f"{directory}/file") == "old\nnew\n"
        host.machine.run("docker", "rm", "-f", "user")
        machine.until(lambda: not host.is_mounted("ro"))
    finally:
        machine.run("umount", "--lazy", directory)


def test_a_directory_that_is_removed_is_missed_and_one_in_its_place_is_taken(host: Host) -> None:
    machine, directory = host.machine, host.directory("removed")
    host.create("removed", directory)
    host.start("user", "removed", STAY)
    in_container(host, "user", "echo old >/data/file")
    machine.run("rm", "-r", directory)
    for act in ("touch /data/new", "cat /data/file", "mkdir /data/dir"):
        assert said(in_container(host, "user", act, check=False)) == "No such file or directory", act
    # the directory itself may be remembered for 21 seconds
    machine.until(lambda: not in_container(host, "user", "ls /data/", check=False))
    assert said(in_container(host, "user", "ls /data/", check=False)) == "No such file or directory"
    assert is_well(host, "removed")
    host.directory("removed")
    machine.until(lambda: in_container(host, "user", "echo new >/data/file", check=False))
    assert machine.read(f"{directory}/file") == "new\n"
    assert is_well(host, "removed")


# What takes minutes


def await_seconds(host: Host, began: float, seconds: float) -> None:
    """Wait until so many seconds have passed."""
    host.machine.until(lambda: seconds_up(host) > began + seconds, timeout=2 * seconds, pause=1)


@pytest.mark.long
def test_a_server_that_is_away_for_two_minutes_is_read_on_from(
    host: Host, server: SshServer, record_property: Record
) -> None:
    machine, directory = host.machine, host.directory("minutes")
    host.create("minutes", directory)
    with reading(host, "minutes", directory) as reader, logging(host, "minutes", directory) as log:
        sshfs, since = host.sshfs("minutes"), host.from_here()
        with server.away():
            began = seconds_up(host)
            log.await_failure()
            in_container(host, reader, "touch /go")
            await_seconds(host, began, 120)
            assert host.status("minutes")["state"] == "unresponsive"
            assert not in_container(host, reader, "test -e /done", check=False)
            back = seconds_up(host)
        log.await_recovery()
        await_state(host, "minutes", "mounted")
        record_property("well again after", seconds_up(host) - back)
        said = machine.journal("-u", f"{PACKAGE}@minutes", since).splitlines()
        record_property("lines in the journal", len(said))
        assert len(said) < 10, said
        assert host.sshfs("minutes") == sshfs


@pytest.mark.long
def test_an_sftp_server_that_hangs_is_replaced_by_another(host: Host, record_property: Record) -> None:
    """Its ssh lives on, so that only requests without an answer show it."""
    machine, directory = host.machine, host.directory("hangs")
    host.create("hangs", directory)
    with reading(host, "hangs", directory) as reader, logging(host, "hangs", directory) as log:
        sshfs = host.sshfs("hangs")
        machine.run("pkill", "-STOP", "-u", "alice", "-x", "sftp-server")
        began = seconds_up(host)
        in_container(host, reader, "touch /go")
        # of the log nothing need fail: where a look at a file is under way, another server is asked
        log.await_recovery()
        record_property("well again after", seconds_up(host) - began)
        await_state(host, "hangs", "mounted")
        assert host.sshfs("hangs") == sshfs
        # ssh has gone, so sshd ends it, once it can be ended
        machine.run("pkill", "-KILL", "-u", "alice", "-x", "sftp-server", check=False)


@pytest.mark.long
def test_containers_can_be_stopped_although_the_server_s_disk_hangs(
    host: Host, server: SshServer, record_property: Record
) -> None:
    machine, directory = host.machine, host.directory("stuck")
    host.create("stuck", directory)
    with logging(host, "stuck", directory):
        host.start("idle", "stuck", STAY)
        began = seconds_up(host)
        with machine.sshd_with("Match User alice\n ForceCommand sleep 1000\n"):
            machine.run("pkill", "-STOP", "-u", "alice", "-x", "sftp-server")
            reason = await_state(host, "stuck", "unresponsive", "the server answers nothing")
            record_property("counts as lost after", seconds_up(host) - began)
            assert "it is tried again every 5 seconds" in reason
            machine.run("systemctl", "restart", PACKAGE)
            assert host.status("stuck")["state"] == "unresponsive", "also just after a restart of the service"
            before = seconds_up(host)
            for container in ("idle", "logger-stuck"):
                machine.run("docker", "stop", "-t", "5", container, timeout=120)
            record_property("stopped after", stopped := seconds_up(host) - before)
            assert stopped < 30
            machine.run("docker", "rm", "idle")
            machine.run("pkill", "-KILL", "-u", "alice", check=False)
        machine.run("docker", "start", "logger-stuck")
        await_state(host, "stuck", "mounted")


@contextmanager
def partition(host: Host, server: SshServer, kind: str) -> Iterator[None]:
    """Let the network to the server drop all packets meanwhile, or let the server be frozen."""
    if kind == "frozen":
        with server.frozen():
            yield
        return
    drop = "iptables {0} INPUT -p tcp --dport 22 -j DROP; iptables {0} INPUT -p tcp --sport 22 -j DROP"
    host.machine.sh(drop.format("-A"))
    try:
        yield
    finally:
        host.machine.sh(drop.format("-D"))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["dropped packets", "frozen"])
def test_a_server_that_is_cut_off_is_noticed_and_disturbs_no_other_volume(
    host: Host, server: SshServer, kind: str, record_property: Record
) -> None:
    machine, directory, near = host.machine, host.directory("cut-off"), host.directory("near")
    machine.sh(MAKE_UNASKED, directory)
    host.create("cut-off", directory, sshcmd=f"alice@127.0.0.1:{directory}")
    with another_ssh_server(machine) as other:
        host.create("near", near, port=str(other.port))
        with (
            host.writing("near", near),
            reading(host, "cut-off", directory) as reader,
            logging(host, "cut-off", directory) as log,
            sampling(host, "cut-off", "near") as samples,
        ):
            sshfs = host.sshfs("cut-off")
            samples.begin()
            with partition(host, server, kind):
                began = seconds_up(host)
                in_container(host, reader, "touch /go")
                log.await_failure()
                record_property("counts as lost after", seconds_up(host) - began)
                record_property("reason", await_state(host, "cut-off", "unresponsive"))
                fails_at_once(host, reader)
                fails_soon(host, reader, record_property)
                assert host.status("near")["state"] == "mounted"
                samples.check(record_property)
            back = seconds_up(host)
            log.await_recovery()
            record_property("well again after", seconds_up(host) - back)
            await_state(host, "cut-off", "mounted")
            assert host.sshfs("cut-off") == sshfs


@pytest.mark.long
def test_with_sshfs_sync_a_shell_notices_each_line_that_is_lost(host: Host, server: SshServer) -> None:
    """Otherwise a write succeeds before the server has it, and no shell looks at errors of close."""
    directory = host.directory("echo")
    host.create("echo", directory, sshfs_sync="")
    with logging(host, "echo", directory, ECHO) as log:
        for _ in range(4):
            before = len(log.failed)
            server.cut()
            log.await_failure(before)
            log.await_recovery()


@pytest.mark.long
def test_a_password_that_is_put_right_is_found_a_minute_later(
    host: Host, server: SshServer, record_property: Record
) -> None:
    machine, directory = host.machine, create_with_password(host, "righted")
    with logging(host, "righted", directory) as log:
        since = host.from_here()
        with host.password("another one"):
            server.cut()
            log.await_failure()
            await_state(host, "righted", "unresponsive", "Permission denied")
        began = seconds_up(host)
        log.await_recovery()
        record_property("well again after", seconds_up(host) - began)
        await_state(host, "righted", "mounted")
        assert machine.journal("-u", "ssh", since).count("Failed password for alice") == 1


@pytest.mark.long
def test_a_volume_that_is_given_back_while_there_is_no_service_is_unmounted_later(
    host: Host, record_property: Record
) -> None:
    """Docker does not give it back again."""
    machine = host.machine
    host.create("forgotten", host.directory("forgotten"))
    host.start("user", "forgotten", STAY)
    machine.run("systemctl", "stop", f"{PACKAGE}.socket", PACKAGE)
    machine.run("docker", "rm", "-f", "user", check=False, timeout=120)
    assert machine.run("docker", "ps", "-aq").stdout == ""
    machine.run("systemctl", "start", f"{PACKAGE}.socket")
    began = seconds_up(host)
    assert (host.status("forgotten")["state"], host.status("forgotten")["holders"]) == ("mounted", 1)
    machine.until(lambda: not host.is_mounted("forgotten"), timeout=600)
    record_property("unmounted after", seconds_up(host) - began)
    machine.until(lambda: bool(host.status("forgotten")["holders"] == 0))
    assert host.status("forgotten")["state"] == "unmounted"


# Many


@pytest.mark.long
def test_a_hundred_volumes_are_mounted_at_once_within_the_limits_of_a_usual_server(
    host: Host, record_property: Record
) -> None:
    machine, directory = host.machine, host.directory("many")
    names = [f"many-{number}" for number in range(100)]
    with machine.sshd_with("MaxStartups 10:30:100\n"):
        create = f"docker volume create -d sshfs -o sshcmd=alice@nas:{directory} -o IdentityFile={KEY} -o check=never"
        machine.sh(f"for name in $@; do {create} $name; done", *names)
        mount = (
            f"ls /root/names | xargs -P 100 -I % {CALL.replace('/root/answer', '/root/answers/%')} "
            "-d '{\"Name\": \"%\", \"ID\": \"here\"}' --max-time 120 http://plugin/VolumeDriver.Mount"
        )
        machine.sh("cd /root; rm -rf names answers; mkdir names answers; cd names; touch $@", *names)
        began = seconds_up(host)
        machine.sh(mount)
        record_property("mounted after", seconds_up(host) - began)
        refused = 'cd /root/answers; grep -LF \'"Err": ""\' * | xargs -r tail -v -n +1'
        assert machine.sh(refused).stdout == ""
        assert len(machine.run("findmnt", "-n", "-t", "fuse.sshfs").stdout.splitlines()) == 100
        machine.sh(mount.replace("VolumeDriver.Mount", "VolumeDriver.Unmount"))
        machine.until(f'test -z "$(ls -A {MOUNTS})"')
        machine.sh("rm -r /root/names /root/answers")


@pytest.mark.long
def test_a_hundred_and_fifty_containers_are_there_after_a_boot(host: Host, record_property: Record) -> None:
    machine = host.machine
    volumes = [f"boot-{number}" for number in range(30)]
    for volume in volumes:
        host.create(volume, host.directory(volume))
    containers = [f"{volume}-{number}" for volume in volumes for number in range(5)]
    run = f"docker run -d --restart=always --network=none -v ${{name%-*}}:/data --name $name {IMAGE}"
    machine.sh(f"for name in $@; do {run} sh -c '{STAY}'; done", *containers)
    machine.reboot()
    began = seconds_up(host)
    machine.until(lambda: len(machine.run("docker", "ps", "-q").stdout.split()) == len(containers))
    record_property("all run after", seconds_up(host) - began)
    machine.sh("for name in $@; do docker exec $name touch /data/$name; done", *containers)
    for volume in volumes:
        assert host.status(volume)["holders"] == 5
        assert len(machine.run("ls", f"/srv/alice/{volume}").stdout.split()) == 5
