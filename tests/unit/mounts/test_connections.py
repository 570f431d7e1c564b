# SPDX-License-Identifier: MIT
"""Which volumes share a connection, and what is written for one that is to be made."""

import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.programs import Programs
from support.remotes import NAS, describe
from support.waiting import LIMIT_SECONDS, Background, await_that

from sshfs_plugin import errors, options
from sshfs_plugin.host import command
from sshfs_plugin.mounts import connections as module
from sshfs_plugin.mounts.connections import SESSIONS, SharedConnection, SharedConnections
from sshfs_plugin.mounts.unit_files import UnitFiles
from sshfs_plugin.options.remotes import Remotes
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.agent import Agent
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.ssh.known_hosts import HostKey, KnownHosts, line
from sshfs_plugin.volume import Volume, VolumeName

KEY = Path("/root/.ssh/id_rsa")
LOGIN = Login(identity_files=(KEY,), contents={KEY: b"as it is"})
SHOWN = HostKey(kind="ssh-ed25519", blob=b"\0\0\0\x0bssh-ed25519")
PINNED, OTHER = SHOWN.fingerprint, "SHA256:" + "m" * 42 + "A"


@pytest.fixture
def connections(settings: Settings) -> SharedConnections:
    return SharedConnections(settings)


def volume(name: str, **opts: str) -> Volume:
    return options.parse(VolumeName(name), {"sshcmd": f"bob@nas:/{name}", **opts}, datetime.now(UTC))


@contextmanager
def made(connection: SharedConnection, backlog: int = 100) -> Iterator[None]:
    """Let a connection take sessions meanwhile."""
    connection.making.unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(connection.socket))
        listening.listen(backlog)
        yield


def joined(connections: SharedConnections, photos: Volume, login: Login) -> SharedConnection:
    """Let a volume share a connection, and return that."""
    connection, _ = connections.join(photos, login)
    assert connection
    return connection


def test_first_volume_has_the_connection_made_and_a_second_waits_for_it(connections: SharedConnections) -> None:
    connection, is_new = connections.join(volume("photos"), LOGIN)
    assert connection
    assert is_new
    assert connections.join(volume("music"), LOGIN) == (connection, False)
    assert connection.shared_by == {"photos", "music"}


def test_login_needs_no_check_while_there_is_a_connection_that_takes_the_volume(connections: SharedConnections) -> None:
    assert not connections.can_be_joined(volume("photos"), LOGIN)
    connection = joined(connections, volume("photos"), LOGIN)
    assert connections.can_be_joined(volume("music"), LOGIN), "it is being made"
    with made(connection):
        assert connections.can_be_joined(volume("music"), LOGIN)
        assert not connections.can_be_joined(volume("music", own_connection="yes"), LOGIN)
    assert not connections.can_be_joined(volume("music"), LOGIN)


@pytest.mark.parametrize(
    ("opts", "login"),
    [
        ({"port": "2222"}, LOGIN),
        ({"sshcmd": "ann@nas:/music"}, LOGIN),
        ({"sshcmd": "bob@other:/music"}, LOGIN),
        ({"Ciphers": "aes128-ctr"}, LOGIN),
        ({"ConnectTimeout": "3"}, LOGIN),
        ({"host_key": PINNED}, LOGIN),
        ({"host_key_check": "no"}, LOGIN),
        ({"known_hosts": "/root/other"}, LOGIN),
        ({}, replace(LOGIN, contents={KEY: b"another"})),
        ({}, replace(LOGIN, identity_files=())),
        ({}, replace(LOGIN, password="hunter2")),
        ({}, replace(LOGIN, contents={KEY: b"a key"}, copied_key="a key")),
        ({}, replace(LOGIN, agent=Agent(Path("/agent")), agent_keys=(b"a key",))),
    ],
)
def test_volumes_that_log_in_otherwise_share_nothing(
    connections: SharedConnections, settings: Settings, opts: Mapping[str, str], login: Login
) -> None:
    pin(settings, "music")
    one = joined(connections, volume("photos"), LOGIN)
    other, is_new = connections.join(volume("music", **opts), login)
    assert is_new
    assert other != one


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (NAS + "port = 2222\n", NAS),
        (NAS + "Compression = yes\n", NAS),
        (NAS + "ProxyJump = behind\n", NAS),
    ],
)
def test_volumes_behind_jump_hosts_that_differ_share_nothing(
    connections: SharedConnections, settings: Settings, one: str, other: str
) -> None:
    remotes = Remotes.of(settings)
    describe(remotes, "host = behind\n", name="behind")
    made: list[SharedConnection] = []
    for text in (one, other, other):
        describe(remotes, text, name="bastion")
        given = {"sshcmd": "bob@nas:/photos", "ProxyJump": "bastion"}
        behind = options.parse(VolumeName(f"v{len(made)}"), given, datetime.now(UTC), remotes)
        made.append(joined(connections, behind, replace(LOGIN, jumps=(Login(),) * len(behind.jumps))))
    assert made[0] != made[1]
    assert made[1] == made[2]


@pytest.mark.parametrize("opts", [{"ro": ""}, {"uid": "1000"}, {"relay": "yes"}, {"check": "never"}])
def test_volumes_that_differ_in_their_files_share(connections: SharedConnections, opts: Mapping[str, str]) -> None:
    one = joined(connections, volume("photos", check="never"), LOGIN)
    assert connections.join(volume("music", **{"check": "never", **opts}), LOGIN) == (one, False)


@pytest.mark.parametrize("opts", [{"relay": "no"}, {"reconnect": "no"}, {"max_conns": "2"}, {"own_connection": "yes"}])
def test_these_have_a_connection_of_their_own(opts: Mapping[str, str]) -> None:
    assert not volume("photos", **opts).shares_connection


def test_a_host_key_that_was_forgotten_or_added_since_counts(
    connections: SharedConnections, settings: Settings
) -> None:
    one = joined(connections, volume("photos"), LOGIN)
    KnownHosts.of(settings).add("nas", 22, HostKey(kind="ssh-ed25519", blob=b"\0\0\0\x0bssh-ed25519"))
    other, is_new = connections.join(volume("music"), LOGIN)
    assert is_new
    assert other != one


def test_times_of_a_connection_fit_those_of_the_program_that_makes_it() -> None:
    program = (Path(__file__).parents[3] / "libexec/connection").read_text()
    making, told = (
        float(re.findall(rf"^{each}_SECONDS=(\d+)$", program, re.MULTILINE)[0]) for each in ("MAKING", "TOLD")
    )
    assert making == module.MAKING_SECONDS
    assert told < module.TOLD_SECONDS


def test_eleventh_volume_gets_another_connection_until_a_place_is_free(connections: SharedConnections) -> None:
    each = [joined(connections, volume(f"v{number}"), LOGIN) for number in range(SESSIONS + 1)]
    assert len(set(each)) == 2
    assert each[-1].shared_by == {f"v{SESSIONS}"}
    connections.leave(VolumeName("v0"))
    (each[-1].directory / "hung").touch()
    assert connections.join(volume("late"), LOGIN) == (each[0], False)


def test_connection_that_hangs_takes_no_further_volume_until_it_has_ended(connections: SharedConnections) -> None:
    hanging = joined(connections, volume("photos"), LOGIN)
    with made(hanging):
        (hanging.directory / "hung").touch()
        assert not connections.can_be_joined(volume("music"), LOGIN)
        other, is_new = connections.join(volume("music"), LOGIN)
        assert is_new
        assert other != hanging


@pytest.mark.parametrize("was_killed", [True, False])
def test_connection_that_has_ended_and_left_its_files_is_not_used_again(
    connections: SharedConnections, monkeypatch: pytest.MonkeyPatch, was_killed: bool
) -> None:
    connection = joined(connections, volume("photos"), LOGIN)
    if was_killed:
        with made(connection):
            pass
    else:
        monkeypatch.setattr("sshfs_plugin.mounts.connections.MAKING_SECONDS", -1.0)  # of a service that was killed
    other, is_new = connections.join(volume("music"), LOGIN)
    assert is_new
    assert other != connection, "the end of the one could remove the files of the other"
    connections.remove_ended()
    assert not connection.directory.exists()


def test_what_is_left_of_connections_is_removed_and_no_more(connections: SharedConnections, settings: Settings) -> None:
    standing = joined(connections, volume("photos"), LOGIN)
    begun = joined(connections, volume("music", port="2222"), LOGIN)
    half = settings.connections / "0123456789abcdef-0000"
    half.mkdir()
    failed = joined(connections, volume("films", port="2223"), LOGIN)
    words = failed.making.rename(failed.directory / "failed")
    with made(standing):
        connections.remove_ended()
        assert standing.directory.exists()
        assert begun.directory.exists()
        assert failed.directory.exists(), "volumes that wait for it are to be told"
        assert not half.exists()
        os.utime(words, (0, 0))
        connections.remove_ended()
        assert not failed.directory.exists()


def test_what_relays_have_told_of_their_logins_is_removed_when_it_counts_no_more(
    connections: SharedConnections, settings: Settings
) -> None:
    first, other = (joined(connections, volume(name), LOGIN) for name in ("photos", "music"))
    assert first.logins == other.logins
    assert joined(connections, volume("films", port="2222"), LOGIN).logins != first.logins
    for file in (first.logins, settings.logins / "0123456789abcdef"):
        file.write_text("1.000 ")
    os.utime(first.logins, (0, 0))
    connections.remove_ended()
    assert list(settings.logins.iterdir()) == [settings.logins / "0123456789abcdef"]


@pytest.mark.parametrize("stands", [True, False])
def test_secrets_of_a_connection_whose_program_was_killed_while_it_made_it_are_removed(
    connections: SharedConnections, monkeypatch: pytest.MonkeyPatch, stands: bool
) -> None:
    connection = joined(connections, volume("photos"), replace(LOGIN, copied_key="a key\n", password="hunter2"))
    connections.remove_given_up()
    assert connection.key.exists()
    monkeypatch.setattr("sshfs_plugin.mounts.connections.MAKING_SECONDS", -1.0)
    with made(connection) if stands else nullcontext():
        connection.making.touch()
        connections.remove_given_up()
        left = {path.name for path in connection.directory.iterdir()} if connection.directory.exists() else set()
    assert left == ({"environment", "socket", "ssh_config", "volumes"} if stands else set())


def test_connection_that_fails_while_it_is_looked_at_is_not_given_up(
    connections: SharedConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The volumes that wait for it would not be told, and would each be refused for themselves."""
    connection, clock = joined(connections, volume("photos"), LOGIN), time.monotonic

    def after_its_failure() -> float:
        (connection.directory / "failed").touch()
        connection.making.unlink(missing_ok=True)
        return clock()

    monkeypatch.setattr(time, "monotonic", after_its_failure)
    connections.remove_given_up()
    assert connection.failed_just_now


@pytest.mark.parametrize("look", ["remove_ended", "join"])
def test_connection_that_is_made_while_it_is_looked_at_stands(
    connections: SharedConnections, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    connection = joined(connections, volume("photos"), LOGIN)
    stands = vars(SharedConnection)["stands"].fget

    with ExitStack() as making:

        def stands_before(which: SharedConnection) -> bool:
            stood: bool = stands(which)
            if which.making.exists():
                making.enter_context(made(which))
            return stood

        monkeypatch.setattr(SharedConnection, "stands", property(stands_before))
        if look == "join":
            assert joined(connections, volume("music"), LOGIN) == connection
        connections.remove_ended()
        assert connection.ssh_config.exists()


def test_connection_that_a_service_of_version_1_12_has_made_meanwhile_is_not_given_up(
    connections: SharedConnections,
) -> None:
    """An upgrade may come while Docker starts its containers."""
    connection = joined(connections, volume("photos"), LOGIN)
    connection.making.write_text("")
    connections.remove_ended()
    assert connection.ssh_config.exists()
    os.utime(connection.making, (0, 0))
    connections.remove_ended()
    assert not connection.directory.exists()


@pytest.mark.parametrize("seconds", [-86400, 86400])
def test_connection_is_waited_for_as_long_as_ever_when_the_clock_is_set_meanwhile(
    connections: SharedConnections, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """As it is soon after a boot, when many are made."""
    connection = joined(connections, volume("photos"), LOGIN)
    clock, began = time.time, time.monotonic()
    monkeypatch.setattr(time, "time", lambda: clock() + seconds)
    connections.remove_given_up()
    assert connection.is_being_made
    monkeypatch.setattr(time, "monotonic", lambda: began + module.MAKING_SECONDS + 1)
    assert not connection.is_being_made


def test_connection_whose_end_takes_no_more_connections_is_not_taken_for_ended(connections: SharedConnections) -> None:
    """That of a stopped process, once enough have asked whether it is there."""
    connection = joined(connections, volume("photos"), LOGIN)
    with made(connection, backlog=0):
        assert all(connection.stands for _ in range(5))


def test_connections_that_end_are_joined_no_more_and_nobody_waits_for_their_end(
    connections: SharedConnections, programs: Programs, in_background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "END_SECONDS", LIMIT_SECONDS)
    programs.add("ssh", 'until [ -e "$HERE/end" ]; do sleep 0.01; done')
    idle, used = (joined(connections, volume("photos", port=port), LOGIN) for port in ("22", "2222"))
    with made(idle), made(used):
        ending = in_background(connections.end_idle)
        await_that(lambda: programs.calls("ssh"), lambda: "none was to end")
        other, is_new = in_background(connections.join, volume("music"), LOGIN).result(LIMIT_SECONDS / 4)
        assert is_new
        assert other != idle
        assert connections.join(volume("films", port="2222"), LOGIN) == (used, False)
        idle.remove()
        (programs.directory / "end").touch()
        ending.result()
    assert programs.calls("ssh") == [f"-F none -O exit -S {idle.socket} none"]


def test_connections_that_hang_have_a_second_to_end_all_together(
    connections: SharedConnections, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def hanging(words: Sequence[str], *, seconds: float) -> None:
        asked.append(words[-2])
        time.sleep(seconds)
        raise errors.ProgramStuck("ssh", seconds)

    with ExitStack() as standing:
        for port in range(6):
            standing.enter_context(made(joined(connections, volume("photos", port=f"{port + 1}"), LOGIN)))
        connections.leave(VolumeName("photos"))
        for connection in connections.all():  # as a relay notes where the server is slow to begin a session
            (connection.directory / "hung").touch()
        with monkeypatch.context() as patched:
            patched.setattr(command, "run", hanging)
            patched.setattr(module, "END_SECONDS", 2.0)
            connections.end_idle()
        assert len(asked) == 1, "it has taken all the time"
        programs.add("ssh", 'rm -r "${6%/*}"')
        monkeypatch.setattr(module, "END_SECONDS", LIMIT_SECONDS)
        connections.end_idle()
        asked += [call.split()[-2] for call in programs.calls("ssh")]
    assert len(set(asked)) == len(asked) == 6, "it is not waited for again, and the others are"


def test_volume_whose_path_is_too_long_for_a_socket_shares_nothing(settings: Settings, tmp_path: Path) -> None:
    deep = replace(settings, runtime=tmp_path / ("x" * 60))
    deep.runtime.mkdir(parents=True)
    assert SharedConnections(deep).join(volume("photos"), LOGIN) == (None, False)


def test_volume_that_logs_in_otherwise_by_now_leaves_its_connection(connections: SharedConnections) -> None:
    connection = joined(connections, volume("photos"), LOGIN)
    joined(connections, volume("photos"), replace(LOGIN, contents={KEY: b"another"}))
    assert connection.shared_by == set()


def test_service_that_was_restarted_finds_the_connections_again(
    connections: SharedConnections, settings: Settings
) -> None:
    connection = joined(connections, volume("photos"), LOGIN)
    with made(connection):
        assert SharedConnections(settings).can_be_joined(volume("music"), LOGIN)


def test_files_of_a_connection_are_for_root_alone_and_go_with_it(connections: SharedConnections) -> None:
    connection = joined(connections, volume("photos"), Login(password=" hünter,2 "))
    assert connection.directory.stat().st_mode & 0o777 == 0o700
    assert connection.password.read_text() == " hünter,2 \n"
    assert {path.stat().st_mode & 0o077 for path in connection.directory.rglob("*")} == {0}
    environment = connection.environment.read_text()
    assert environment.splitlines()[0] == 'LOGIN="bob@nas"'
    assert f'SSHFS_PLUGIN_PASSWORD_FILE="{connection.password}"' in environment
    assert "hünter" not in environment + connection.ssh_config.read_text()
    connection.remove()
    assert not connection.directory.exists()


def test_copied_key_is_with_the_connection(connections: SharedConnections) -> None:
    login = replace(LOGIN, copied_key="a key\n")
    connection = joined(connections, volume("photos"), login)
    assert (connection.key.read_text(), connection.key.stat().st_mode & 0o777) == ("a key\n", 0o600)
    assert f'IdentityFile "{connection.key}"\n' in connection.ssh_config.read_text()
    with made(connection):
        assert connections.can_be_joined(volume("music"), login)


def test_name_of_a_connection_can_be_seen_by_all_and_tells_no_password(settings: Settings) -> None:
    login = Login(password="hunter2")
    here = joined(SharedConnections(settings), volume("photos"), login)
    other_host = replace(settings, runtime=settings.runtime / "elsewhere")
    elsewhere = joined(SharedConnections(other_host), volume("photos"), login)
    assert here.name.partition("-")[0] != elsewhere.name.partition("-")[0]


def test_pinned_host_key_is_shared_by_the_volumes_that_pin_it(
    connections: SharedConnections, settings: Settings
) -> None:
    for name in ("photos", "music"):
        pin(settings, name)
    connection = joined(connections, volume("photos", host_key=PINNED), LOGIN)
    assert connections.join(volume("music", host_key=PINNED), LOGIN) == (connection, False)
    with made(connection):
        assert connections.can_be_joined(volume("music", host_key=PINNED), LOGIN)
        assert not connections.can_be_joined(volume("unknown", host_key=PINNED), LOGIN), "its key is yet to be found"
    (file,) = re.findall(r'UserKnownHostsFile "(.*)"', connection.ssh_config.read_text())
    assert Path(file).read_text() == line("nas", 22, SHOWN)


def test_pinned_host_keys_stay_those_with_which_a_connection_is_made(
    connections: SharedConnections, settings: Settings
) -> None:
    """A remote may be edited meanwhile, and another volume then pins the key of its new server."""
    describe(Remotes.of(settings), f"host = gate\nuser = gil\nhost_key = {PINNED}\n", name="gate")
    pin(settings, "photos")
    KnownHosts.of(settings).pin("jump:gate", "gate", 22, SHOWN)
    opts = {"sshcmd": "bob@nas:/photos", "host_key": PINNED, "ProxyJump": "gate"}
    photos = options.parse(VolumeName("photos"), opts, datetime.now(UTC), Remotes.of(settings))
    login = replace(LOGIN, jumps=(Login(),))
    connection, unit = joined(connections, photos, login), UnitFiles.of(settings, photos.name)
    unit.write(photos, login, settings)
    for name in ("photos", "jump:gate"):
        KnownHosts.of(settings).pin(name, "elsewhere", 22, replace(SHOWN, blob=b"other"))
    for config in (connection.ssh_config, unit.ssh_config):
        files = re.findall(r'UserKnownHostsFile "(.*)"', config.read_text())
        assert [Path(file).read_text() for file in files] == [line("gate", 22, SHOWN), line("nas", 22, SHOWN)]
    unit.remove()
    assert not unit.directory.exists()


@pytest.mark.parametrize(("port", "pinned"), [("2222", PINNED), ("22", OTHER)])
def test_host_key_that_was_pinned_before_a_remote_was_edited_is_yet_to_be_found(
    connections: SharedConnections, settings: Settings, port: str, pinned: str
) -> None:
    pin(settings, "photos", int(port))
    pin(settings, "music")
    connection = joined(connections, volume("photos", port=port, host_key=pinned), LOGIN)
    with made(connection):
        assert not connections.can_be_joined(volume("music", port=port, host_key=pinned), LOGIN)


def test_nothing_is_left_of_a_connection_whose_files_could_not_all_be_written(
    connections: SharedConnections, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No volume is to wait for it, and a password may be among them."""

    def replace_file(path: Path, text: str) -> None:
        if path.name == "environment":
            raise OSError(28, "No space left on device")
        path.write_text(text)

    monkeypatch.setattr("sshfs_plugin.mounts.connections.replace_file", replace_file)
    assert connections.join(volume("photos"), Login(password="hunter2")) == (None, False)
    assert [path.name for path in settings.connections.iterdir()] == ["salt"]


def test_connection_for_which_its_first_volume_cannot_be_noted_is_waited_for_by_nobody(
    connections: SharedConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch = Path.touch

    def touched(path: Path, mode: int = 0o666, exist_ok: bool = True) -> None:
        if path.name == "photos":
            raise OSError(28, "No space left on device")
        touch(path, mode, exist_ok)

    monkeypatch.setattr(Path, "touch", touched)
    assert connections.join(volume("photos"), LOGIN) == (None, False)
    assert not connections.can_be_joined(volume("music"), LOGIN)
    assert connections.all() == []


def test_volume_shares_nothing_where_nothing_can_be_written(
    connections: SharedConnections, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.connections.parent.mkdir(parents=True, exist_ok=True)
    settings.connections.touch()
    assert connections.join(volume("photos"), LOGIN) == (None, False)
    (said,) = caplog.messages
    assert said.startswith("the volume gets a connection of its own, since [Errno 20] Not a directory: ")


def pin(settings: Settings, name: str, port: int = 22) -> None:
    settings.pinned.mkdir(parents=True, exist_ok=True)
    KnownHosts.of(settings).pin(name, "nas", port, SHOWN)
