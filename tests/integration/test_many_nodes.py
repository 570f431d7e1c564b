# SPDX-License-Identifier: MIT
"""A cluster that starts: 200 nodes with ten volumes each, and one sshd with the limits that it has by default.

A node is its own settings, checks and shared connection, as the service uses them. Its volumes come one after another,
as sessions for files on that connection. What is left out is sshfs: 2,000 of them would take 12 GB. A node that was
turned away tries again after five seconds, as Swarm does with a task.
"""

import logging
import random
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import chain, repeat
from multiprocessing import get_context

import pytest

from integration.sshd import Server, start_server
from sshfs_plugin import errors, options
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.mounts.connections import SESSIONS, SharedConnection, SharedConnections
from sshfs_plugin.preflight.preflight import Preflight
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.credentials import Keyring
from sshfs_plugin.ssh.known_hosts import KnownHosts
from sshfs_plugin.volume import Volume, VolumeName

NODES, PROCESSES, AGAIN_SECONDS = 200, 4, 5.0
DEFAULTS = ("MaxStartups 10:30:100", "MaxSessions 10", "LogLevel VERBOSE")
GREETING = bytes((0, 0, 0, 5, 1, 0, 0, 0, 3))
"""The first packet of SFTP."""


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("within", [60.0, 0.0])
def test_cluster_that_starts_is_let_in_by_a_server_with_default_limits(within: float) -> None:
    with start_server(*DEFAULTS) as server:
        shares = [range(first, NODES, PROCESSES) for first in range(PROCESSES)]
        began = time.monotonic()
        with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as processes:
            tries = list(chain.from_iterable(processes.map(start_nodes, repeat(server), repeat(within), shares)))
        seconds = time.monotonic() - began
        log = (server.directory / "log").read_text()
    logins = log.count("Accepted publickey")
    again = sum(tries) - NODES
    logging.info("%.0f s, %d logins, at most %d at once, %d tries again", seconds, logins, most_at_once(log), again)
    assert len(tries) == NODES
    assert logins <= 2 * sum(tries), "a check and a shared connection for all volumes of a node"
    assert most_at_once(log) <= 100


def start_nodes(server: Server, within: float, numbers: range) -> list[int]:
    """Start some of the nodes within so many seconds, and return how often each had to try."""
    with ThreadPoolExecutor(len(numbers)) as threads:
        return list(threads.map(start_node, repeat(server), repeat(within), numbers))


def start_node(server: Server, within: float, number: int) -> int:
    """Start a node at some moment, and return how often it had to try."""
    time.sleep(random.Random(number).uniform(0, within))  # noqa: S311 (no secret)
    place = server.directory / f"n{number}"
    settings = Settings(runtime=place, state=place)
    given = server.options(server.data, check="mount")
    names = [VolumeName(f"v{volume}") for volume in range(SESSIONS)]
    volumes = [options.parse(name, given, datetime.now(UTC)) for name in names]
    tries = 1
    while True:
        try:
            use(settings, volumes)
        # the last because nodes share a process here, whose threads keep each other from reading an answer
        except (errors.PreflightError, subprocess.CalledProcessError, errors.FileStuck):
            tries += 1
            time.sleep(AGAIN_SECONDS)
        else:
            return tries


def use(settings: Settings, volumes: list[Volume]) -> None:
    """Check the server for the first volume, make the connection, and let the others join it."""
    keyring, connections = Keyring.of(settings), SharedConnections(settings)
    Preflight(keyring=keyring, known_hosts=KnownHosts.of(settings)).run(volumes[0], Deadline.after(110))
    login = keyring.login(volumes[0].credentials)
    with ExitStack() as sessions:
        for volume in volumes:
            connection, is_new = connections.join(volume, login)
            assert connection
            if is_new:
                make(connection, volume.remote.login)
            sessions.enter_context(session(connection, volume.remote.login))
        for volume in volumes:
            connections.leave(volume.name)
    connections.end_idle()


def make(connection: SharedConnection, login: str) -> None:
    """Make a connection as its unit does."""
    words = ["ssh", "-F", str(connection.ssh_config), "-S", str(connection.socket), "-N", "-f", login]
    try:
        subprocess.run(words, check=True, stderr=subprocess.DEVNULL, timeout=120)
        connection.making.unlink()
    except subprocess.CalledProcessError:
        connection.remove()
        raise


@contextmanager
def session(connection: SharedConnection, login: str) -> Iterator[None]:
    """Have a session for files meanwhile, as a volume's relay does."""
    words = ["ssh", "-F", str(connection.ssh_config), "-S", str(connection.socket), "-oControlMaster=no"]
    words += ["-oProxyCommand=false", "-s", login, "sftp"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ssh:
        assert ssh.stdin and ssh.stdout and ssh.stderr
        ssh.stdin.write(GREETING)
        ssh.stdin.flush()
        answer = ssh.stdout.read(5)
        try:
            assert answer[4:] == b"\2", answer or ssh.stderr.read()
            yield
        finally:
            ssh.terminate()


def most_at_once(log: str) -> int:
    """Return how many clients were logging in at once at most, by the order of a server's log."""
    under_way: set[str] = set()
    most = 0
    for line in log.splitlines():
        if began := re.match(r"Connection from \S+ port (\d+)", line):
            under_way.add(began[1])
            most = max(most, len(under_way))
        elif ended := re.search(r"(?:Accepted|[Cc]losed|reset|[Dd]isconnect).* port (\d+)", line):
            under_way.discard(ended[1])
    return most
