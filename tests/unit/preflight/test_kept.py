# SPDX-License-Identifier: MIT
"""Connections that a preflight leaves to the next: what is saved, and that nothing is believed that no longer holds."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import paramiko
import pytest
from support.ssh_client import Client, public, shown
from support.ssh_keys import host_key, write_key
from support.ssh_server import KEY, PASSWORD, Account, Server, serving
from support.waiting import LIMIT_SECONDS, Background, await_that, soon

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.preflight import preflight
from sshfs_plugin.preflight.checks import Check, Note
from sshfs_plugin.preflight.kept import ALTOGETHER, PER_LOGIN, KeptConnection, KeptConnections
from sshfs_plugin.preflight.preflight import Preflight
from sshfs_plugin.ssh.known_hosts import line
from sshfs_plugin.volume import VolumeName

FIRST = ["none", PASSWORD, "subsystem sftp", "stat /photos", "list /photos"]
AGAIN = ["stat /photos", "list /photos"]


@dataclass(frozen=True)
class Keeper(Client):
    """A host whose preflights leave their connections to the next."""

    creates = True

    connections: KeptConnections

    @property
    def preflight(self) -> Preflight:
        """The preflight, with what was kept."""
        return replace(super().preflight, kept=self.connections)


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy host have time for the answers of a kept connection."""
    monkeypatch.setattr(preflight, "KEPT_ANSWERS_SECONDS", LIMIT_SECONDS)


@pytest.fixture
def keeper(client: Client) -> Keeper:
    return Keeper(client.directory, KeptConnections())


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    file.chmod(0o600)
    return file


def test_further_volume_is_checked_over_the_same_connection_from_the_directory_on(
    keeper: Keeper, files: Path, server: Server
) -> None:
    (files / "films").mkdir()
    keeper.run(server, password="hunter2")
    keeper.run(server, "/films", password="hunter2")
    keeper.run(server, password="hunter2", check="mount", uid="1000")
    assert server.seen == [*FIRST, "stat /films", "list /films", *AGAIN]
    assert server.connections == 1


def test_preflight_before_a_mount_logs_in_anew_and_leaves_no_connection(keeper: Keeper, server: Server) -> None:
    """A server may allow only one, and have changed its mind about the login."""
    keeper.run(server, password="hunter2")
    keeper.preflight.run(keeper.volume(server, password="hunter2"), soon())
    assert server.connections == 2
    await_that(lambda: server.open_connections == 0, lambda: "one is kept")


def is_connected(server: Server) -> bool:
    """Tell whether the kernel has a connection to a server of which neither end has been closed."""
    established = "01"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return any((to.rpartition(":")[2], state) == (f"{server.port:04X}", established) for _, _, to, state, *_ in lines)


def test_connection_is_closed_before_there_can_be_another(keeper: Keeper, server: Server) -> None:
    """A server that allows only one would refuse the other while paramiko's thread still reads the first."""
    for _ in range(5):
        keeper.run(server, password="hunter2")
        assert is_connected(server)
        keeper.preflight.run(keeper.volume(server, password="hunter2"), Deadline.after(60))
        assert not is_connected(server)


def test_observer_sees_the_checks_that_are_made(keeper: Keeper, server: Server) -> None:
    seen: list[Check] = []

    @contextlib.contextmanager
    def observer(check: Check) -> Iterator[Note]:
        yield lambda _: None
        seen.append(check)

    observed = replace(keeper.preflight, observer=observer)
    for _ in range(2):
        observed.run(keeper.volume(server, password="hunter2"), soon(), creating=True)
    assert seen[-3:] == [Check.CREDENTIALS, Check.OPTIONS, Check.DIRECTORY]
    assert Check.LOGIN in seen[:-3]


def test_preflight_that_keeps_nothing_makes_every_check_and_leaves_no_connection(
    client: Client, server: Server
) -> None:
    for _ in range(2):
        client.run(server, password="hunter2")
    assert server.seen == FIRST * 2
    await_that(lambda: server.open_connections == 0, lambda: "a connection is left")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/music", "the directory /music does not exist on 127.0.0.1 for bob: make it first, or say"),
        ("/private", "the directory /private on 127.0.0.1 is not readable for bob: give it the right to read"),
        ("/photos/a.jpg", "/photos/a.jpg on 127.0.0.1 is not a directory: a volume is a whole directory"),
    ],
)
def test_refusal_over_a_kept_connection_counts_if_a_new_one_has_it_too(
    keeper: Keeper, files: Path, path: str, says: str
) -> None:
    answers = {"stat /private": paramiko.SFTP_PERMISSION_DENIED}
    with serving(Account(directory=files, password="hunter2", answers=answers)) as server:
        keeper.run(server, password="hunter2")
        assert str(keeper.refusal(server, path, password="hunter2")).startswith(says)
        assert server.seen.count(PASSWORD) == 2
        await_that(lambda: server.open_connections == 0, lambda: "a failure leaves its connection")


def test_refusal_over_a_kept_connection_that_a_new_one_does_not_have_is_none(keeper: Keeper, server: Server) -> None:
    """A login that was made before its user was put into a group does not have that group."""
    keeper.run(server, password="hunter2")
    allowed, server.account = server.account, replace(server.account, answers={"stat /photos": paramiko.SFTP_FAILURE})
    server.tune = lambda _: setattr(server, "account", allowed)
    keeper.run(server, password="hunter2")
    assert server.seen == [*FIRST, *AGAIN, "stat /photos", *FIRST]


def test_failure_over_a_kept_connection_ends_all_of_that_login(
    keeper: Keeper, server: Server, in_background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "KEPT_SECONDS", 3600)
    server.account = replace(server.account, stalls_at="list /photos")
    runs = [in_background(keeper.run, server, password="hunter2") for _ in range(2)]
    await_that(lambda: server.seen.count("list /photos") == len(runs), lambda: f"{server.seen}")
    server.account = replace(server.account, stalls_at="")
    server.go_on()
    for run in runs:
        run.result()
    assert server.open_connections == 2
    keeper.refusal(server, "/music", password="hunter2")
    await_that(lambda: server.open_connections == 0, lambda: "one is left")


def test_directory_is_made_over_a_kept_connection(keeper: Keeper, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", changes=("mkdir",))) as server:
        for name in ("a", "b"):
            volume = keeper.volume(server, f"/made/{name}", password="hunter2", create_directory="")
            keeper.preflight.run(volume, soon(), creating=True)
        assert server.connections == 1
    assert sorted(path.name for path in (files / "made").iterdir()) == ["a", "b"]


def test_each_volume_over_a_kept_connection_has_its_own_pin(keeper: Keeper, server: Server) -> None:
    for name in ("photos", "films"):
        volume = keeper.volume(server, password="hunter2", host_key=shown().fingerprint)
        keeper.preflight.run(replace(volume, name=VolumeName(name)), soon(), creating=True)
    assert server.connections == 1
    assert keeper.pinned == ["films", "photos"]
    assert keeper.known == ""


# What is no longer so on this host


def test_password_file_when_changed_to_a_wrong_password_is_refused_at_once(
    keeper: Keeper, server: Server, password_file: Path
) -> None:
    keeper.run(server, password_file=str(password_file))
    password_file.write_text("hunter3\n")
    error = keeper.refusal(server, password_file=str(password_file))
    assert isinstance(error, errors.LoginRefused)
    password_file.write_text("hunter2\n")
    keeper.run(server, password_file=str(password_file))
    assert server.connections == 2, "what the right password has logged in is still there"


def test_identity_file_when_replaced_is_tried(keeper: Keeper, files: Path, tmp_path: Path) -> None:
    key = write_key(tmp_path / "key", "ed25519", 1)
    with serving(Account(directory=files, keys=[public(key)], ways=[(KEY,)])) as server:
        keeper.run(server, IdentityFile=str(key))
        key.write_bytes(write_key(tmp_path / "other", "ed25519", 2).read_bytes())
        assert isinstance(keeper.refusal(server, IdentityFile=str(key)), errors.LoginRefused)


@pytest.mark.parametrize(
    "other",
    [
        {"password": "hunter3"},
        {"Ciphers": "aes256-ctr"},
        {"ConnectTimeout": "7"},
        {"host_key_check": "no"},
        {"host_key": shown().fingerprint},
        {"known_hosts": "/dev/null"},
        {"sshcmd": "alice@127.0.0.1:/photos"},
        {"sshcmd": "bob@localhost:/photos"},
    ],
    ids=lambda other: str(next(iter(other))),
)
def test_volume_that_would_log_in_otherwise_does_so(keeper: Keeper, server: Server, other: Any) -> None:
    keeper.run(server, password="hunter2")
    opts: Any = {"password": "hunter2", **other}
    with contextlib.suppress(errors.LoginRefused):
        keeper.run(server, **opts)
    assert server.connections == 2
    keeper.run(server, password="hunter2")
    assert server.connections == 2


def test_volume_on_another_server_with_the_same_key_logs_in_there(keeper: Keeper, server: Server) -> None:
    for number, host in enumerate(("127.0.0.1", "localhost"), 1):
        keeper.run(server, host=host, password="hunter2", host_key=shown().fingerprint)
        assert server.connections == number


def test_host_key_when_forgotten_is_asked_for_and_recorded_anew(keeper: Keeper, server: Server) -> None:
    keeper.run(server, password="hunter2")
    recorded = keeper.known
    keeper.preflight.known_hosts.own.unlink()
    keeper.run(server, password="hunter2")
    assert server.connections == 2
    assert keeper.known == recorded != ""


def test_host_key_when_forgotten_is_unknown_to_who_demands_it(keeper: Keeper, server: Server) -> None:
    keeper.run(server, password="hunter2")
    keeper.run(server, password="hunter2", host_key_check="yes")
    keeper.preflight.known_hosts.own.unlink()
    error = keeper.refusal(server, password="hunter2", host_key_check="yes")
    assert isinstance(error, errors.HostKeyUnknown)


@pytest.mark.parametrize("marker", ["", "@revoked "])
@pytest.mark.parametrize("where", ["known_hosts", ".ssh/known_hosts"])
def test_host_key_when_another_is_known_or_it_is_revoked_is_refused_at_once(
    keeper: Keeper, server: Server, where: str, marker: str
) -> None:
    keeper.run(server, password="hunter2")
    (keeper.directory / where).write_text(marker + line("127.0.0.1", server.port, shown(number=1 if marker else 2)))
    if not marker:
        keeper.preflight.known_hosts.own.write_text(
            "" if where.startswith(".") else (keeper.directory / where).read_text()
        )
    error = keeper.refusal(server, password="hunter2")
    assert isinstance(error, errors.HostKeyChanged)


# Connections that are of no use any more


def test_connection_when_the_server_has_ended_it_costs_a_new_one(keeper: Keeper, server: Server) -> None:
    for _ in range(3):
        keeper.run(server, password="hunter2")
        server.hang_up()
    assert server.seen == FIRST * 3


def test_connection_whose_sftp_has_ended_costs_a_new_one(keeper: Keeper, server: Server) -> None:
    keeper.run(server, password="hunter2")
    server.end_sftp()  # it may still see what the client sends before that knows
    keeper.run(server, password="hunter2")
    assert (server.connections, server.seen[-len(FIRST) :]) == (2, FIRST)


def test_connection_that_breaks_just_when_it_is_used_costs_a_new_one(
    keeper: Keeper, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.run(server, password="hunter2")
    monkeypatch.setattr(KeptConnection, "is_open", True)
    server.hang_up()
    keeper.run(server, password="hunter2")
    assert server.seen == FIRST * 2


def test_connections_that_have_fallen_silent_cost_a_new_one_after_a_moment(
    keeper: Keeper, server: Server, monkeypatch: pytest.MonkeyPatch, in_background: Background
) -> None:
    keeper.run(server, password="hunter2")
    awake, server.account = server.account, replace(server.account, stalls_at="stat /photos")
    with monkeypatch.context() as patched:  # no longer, since a busy host may need more for an answer
        patched.setattr(preflight, "KEPT_ANSWERS_SECONDS", 2.0)
        run = in_background(keeper.run, server, password="hunter2")
        await_that(lambda: server.seen == [*FIRST, "stat /photos"], lambda: f"{server.seen}")
        server.account = awake
        run.result()
    assert server.seen == [*FIRST, "stat /photos", *FIRST]
    keeper.run(server, password="hunter2")
    assert server.connections == 2, "the one that has fallen silent is used no more"


def test_deadline_when_a_kept_connection_is_silent_leaves_time_for_a_new_one(
    keeper: Keeper, server: Server, in_background: Background
) -> None:
    keeper.run(server, password="hunter2")
    awake, server.account = server.account, replace(server.account, stalls_at="stat /photos")
    deadline = Deadline.after(8)
    run = in_background(keeper.preflight.run, keeper.volume(server, password="hunter2"), deadline, creating=True)
    await_that(lambda: server.seen == [*FIRST, "stat /photos"], lambda: f"{server.seen}")
    server.account = awake
    run.result()
    assert deadline.left() > 0.3


def test_server_that_is_broken_is_in_no_other_server_s_way(keeper: Keeper, files: Path, server: Server) -> None:
    account = Account(directory=files, password="hunter2")
    with serving(account, [host_key("ed25519", 2)]) as other:
        keeper.run(server, password="hunter2")
        keeper.run(other, password="hunter2")
        other.account = replace(account, stalls_at="stat /photos")
        keeper.refusal_of_silence(other, password="hunter2")
        keeper.run(server, password="hunter2")
    assert server.seen == [*FIRST, *AGAIN]


# How long, and how many


def test_connection_is_closed_in_time_and_nothing_waits_for_it_any_more(
    keeper: Keeper, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "KEPT_SECONDS", 0.5)
    keeper.run(server, password="hunter2")
    timer = keeper.connections._timer
    await_that(lambda: server.open_connections == 0, lambda: "it is still open")
    await_that(lambda: not (timer and timer.is_alive()) and not keeper.connections._timer, lambda: "a thread is left")
    keeper.run(server, password="hunter2")
    assert server.seen == FIRST * 2


def test_connection_however_often_used_is_used_no_longer(keeper: Keeper, server: Server) -> None:
    keeper.run(server, password="hunter2")
    (connection,) = keeper.connections._kept
    for _ in range(3):
        keeper.run(server, password="hunter2")
    assert [each.until for each in keeper.connections._kept] == [connection.until]


def test_preflights_at_once_have_a_connection_each_and_leave_few(
    keeper: Keeper, files: Path, in_background: Background
) -> None:
    account = Account(directory=files, password="hunter2", stalls_at="list /photos")
    with serving(account) as server:
        runs = [in_background(keeper.run, server, seconds=60, password="hunter2") for _ in range(PER_LOGIN + 2)]
        await_that(lambda: server.seen.count("list /photos") == len(runs), lambda: f"{server.seen}")
        server.account = replace(account, stalls_at="")
        server.go_on()
        for run in runs:
            run.result()
        assert server.connections == PER_LOGIN + 2
        await_that(lambda: server.open_connections == PER_LOGIN, lambda: f"{server.open_connections} are open")


def made(until: float) -> Any:
    """Return what stands for a connection."""
    return StandIn(until)


class StandIn:
    """A connection to nowhere."""

    def __init__(self, until: float) -> None:
        self.until, self.is_open = until, True

    def close(self) -> None:
        """Note it."""
        self.is_open = False


def test_of_too_many_connections_the_one_with_the_oldest_login_is_closed() -> None:
    connections, far = KeptConnections(), Deadline.after(100).at
    same = [made(far - number) for number in range(PER_LOGIN + 1)]
    for connection in same:
        connections.keep("bob", connection)
    assert [connection.is_open for connection in same] == [True] * PER_LOGIN + [False]
    others = [made(far + number) for number in range(ALTOGETHER)]
    for number, connection in enumerate(others):
        connections.keep(number, connection)
    assert [connection.is_open for connection in [*same, *others]] == [False] * len(same) + [True] * ALTOGETHER
    assert connections.take("bob") is None
    assert [connections.take(number) for number in range(ALTOGETHER)] == others
