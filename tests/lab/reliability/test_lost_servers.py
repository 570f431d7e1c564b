# SPDX-License-Identifier: MIT
"""What containers see while their server is away, and once it is back."""

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import pytest

from lab.host import MOUNTS, PACKAGE, STAY, Host
from lab.ssh_server import SshServer, another_ssh_server

from .containers import ECHO, Record, await_state, in_container, logging, reading, seconds_up

AT_ONCE = """\
for number in 1 2 3 4; do
    ls /data/directory-$number & stat /data/file-$number & touch /data/new-$number &
done
wait
"""
"""What needs the server, and has not been asked for before."""

MAKE_UNASKED = "cd $1; for number in 1 2 3 4; do mkdir directory-$number; touch file-$number; done; chown -R alice: ."
"""Makes that on the server."""


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
