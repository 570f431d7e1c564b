# SPDX-License-Identifier: MIT
"""The checks of a volume whose server is behind jump hosts, against real servers on loopback."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.impostors import impostor
from support.remotes import describe
from support.ssh_client import Client, shown
from support.ssh_keys import host_key, write_key
from support.ssh_server import PASSWORD, TYPED, Account, Server, serving
from support.waiting import LIMIT_SECONDS, Background, await_that

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.host import command
from sshfs_plugin.mounts.unit_files import UnitFiles
from sshfs_plugin.preflight.checks import unobserved
from sshfs_plugin.preflight.connection import NO_KEYWORDS, Address, connect_through, exchange_keys, resolve
from sshfs_plugin.preflight.connector import Connector
from sshfs_plugin.preflight.transport import Transport
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.known_hosts import KnownHosts, line
from sshfs_plugin.volume import Remote, Volume

ROOT = Path(__file__).parents[3]
CONNECT = 'set -a; . "$0"; exec ssh -F "$SSH_CONFIG" -s "$1" sftp'
BEHIND_OUTER = {"ProxyJump": "outer"}
LONG = "a login name that ssh would once have cut"


@contextmanager
def jump_host(
    client: Client, name: str, files: Path, more: Mapping[str, str] = NO_KEYWORDS, /, **account: object
) -> Iterator[Server]:
    """Run a jump host with a host key of its own, whose password is its name, and write the file of its remote."""
    served = Account(directory=files, **{"password": name, "forwards": True, **account})  # type: ignore[arg-type]
    with serving(served, host_keys=(host_key("ed25519", 2),)) as server:
        said = {"host": "127.0.0.1", "user": name, "port": server.port, "password": name, **more}
        describe(client.remotes, "".join(f"{option} = {value}\n" for option, value in said.items()), name=name)
        yield server


def test_server_behind_jump_hosts_is_checked_through_all_of_them(client: Client, files: Path, server: Server) -> None:
    with jump_host(client, "outer", files) as outer, jump_host(client, "inner", files, BEHIND_OUTER) as inner:
        client.run(server, password="hunter2", ProxyJump="inner")
        assert outer.seen == ["none", "password", "forward to 127.0.0.1"]
        assert inner.seen == ["none", "password", "forward to 127.0.0.1"]
        known = client.known
        await_that(lambda: not outer.open_connections + inner.open_connections, lambda: "all are closed")
    assert all(f"[127.0.0.1]:{each.port} ssh-ed25519 " in known for each in (outer, inner, server))


def test_connection_is_closed_on_the_whole_way_when_a_check_fails(client: Client, files: Path, server: Server) -> None:
    with jump_host(client, "bastion", files) as bastion:
        error = client.refusal(server, password="wrong", ProxyJump="bastion")
        assert isinstance(error, errors.LoginRefused)
        assert str(error).startswith("127.0.0.1 refused to let bob in with the password")
        assert client.known == ""
        await_that(lambda: not bastion.open_connections + server.open_connections, lambda: "all are closed")


def test_known_hosts_of_jump_hosts_are_read_before_a_server_is_asked(
    client: Client, files: Path, server: Server
) -> None:
    """Their file system may hang, and whoever is checked meanwhile holds a slot of the server."""
    theirs = client.directory / "known_hosts of the bastion"
    with jump_host(client, "bastion", files, {"known_hosts": str(theirs), "host_key_check": "yes"}) as bastion:
        theirs.write_text(line("127.0.0.1", bastion.port, shown(number=2)))
        volume = client.volume(server, password="hunter2", ProxyJump="bastion")
        prepared = client.preflight.prepare(volume)
        theirs.unlink()
        prepared.run(Deadline.after(20))
        assert isinstance(client.refusal(server, password="hunter2", ProxyJump="bastion"), errors.HostKeyUnknown)


def test_host_key_that_is_not_known_behind_a_jump_host_is_not_looked_for_without_it(
    client: Client, files: Path, server: Server
) -> None:
    with jump_host(client, "bastion", files):
        error = client.refusal(server, password="hunter2", ProxyJump="bastion", host_key_check="yes")
    assert isinstance(error, errors.HostKeyUnknown)
    assert "host-key trust" not in error.hint
    assert f"then say -o host_key={shown().fingerprint} for a new volume, or" in error.hint


def test_host_key_of_a_jump_host_that_is_not_known_is_one_for_its_file(
    client: Client, files: Path, server: Server
) -> None:
    """``-o host_key=`` for the volume would pin that of the server."""
    with jump_host(client, "bastion", files, {"host_key_check": "yes"}) as bastion:
        error = client.refusal(server, password="hunter2", ProxyJump="bastion")
        pinned = {"host_key_check": "yes", "host_key": shown(number=2).fingerprint}
    assert str(error) == (
        f"the jump host bastion (bastion@127.0.0.1): the host key of 127.0.0.1 port {bastion.port} is not known, it is "
        f"{shown(number=2).fingerprint}: verify it on the server (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), "
        f"then sudo docker-volume-sshfs host-key trust '[127.0.0.1]:{bastion.port}', or write host_key = "
        f"{shown(number=2).fingerprint} into the file of the remote 'bastion', or leave host_key_check=yes out there "
        "to trust it"
    )
    with jump_host(client, "bastion", files, pinned):
        client.run(server, password="hunter2", ProxyJump="bastion")


@pytest.mark.parametrize(
    ("account", "opts", "advice"),
    [
        ({"expired": True, "ways": [(TYPED,)]}, {"password": "hunter2"}, "log in there by hand once, and give the "),
        (
            {"last_words": b"Password change required but no TTY available.\n"},
            {"password": "hunter2"},
            "log in there by hand once, and choose one",
        ),
        ({}, {"IdentityFile": "KEY"}, "authorized_keys of bob there (sudo ssh-keygen -y -f KEY prints it), and is "),
    ],
    ids=["typed", "SFTP", "key"],
)
def test_advice_about_a_server_behind_a_jump_host_has_no_command_that_goes_there_without_it(
    client: Client, files: Path, account: Any, opts: dict[str, str], advice: str
) -> None:
    key = write_key(client.directory / "key", "ed25519")
    given: Any = {name: value.replace("KEY", str(key)) for name, value in opts.items()}
    with (
        jump_host(client, "bastion", files),
        serving(Account(directory=files, password="hunter2", **account)) as server,
    ):
        error = client.refusal(server, ProxyJump="bastion", **given)
    assert advice.replace("KEY", str(key)) in str(error)
    assert str(server.port) not in error.hint


def test_name_of_the_server_is_not_looked_up_here(client: Client, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []

    def resolving(remote: Remote, *rest: Any) -> list[Address]:
        looked_up.append(remote.host)
        return resolve(remote, *rest)

    monkeypatch.setattr("sshfs_plugin.preflight.connector.resolve", resolving)
    with jump_host(client, "bastion", files):
        error = client.refusal(22, host="nowhere.invalid", ProxyJump="bastion")
    assert str(error) == (
        "the jump host bastion cannot connect to nowhere.invalid port 22, connect failed: does the jump host know that "
        "name, is an SSH server running there, and is 'port' right?"
    )
    assert looked_up == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("account", "sentence"),
    [
        ({"password": "another"}, "127.0.0.1 refused to let bastion in with the password (it takes a password, a key)"),
        ({"hangs_up_at": "password"}, "127.0.0.1 broke the login of bastion off ("),
    ],
)
def test_failure_at_a_jump_host_says_so(
    client: Client, files: Path, server: Server, account: dict[str, str], sentence: str
) -> None:
    with jump_host(client, "bastion", files, **account):
        error = client.refusal(server, password="hunter2", ProxyJump="bastion")
    assert str(error).startswith(f"the jump host bastion (bastion@127.0.0.1): {sentence}")


def test_jump_host_that_forwards_nothing_says_what_it_needs(client: Client, files: Path, server: Server) -> None:
    with jump_host(client, "bastion", files, forwards=False):
        error = client.refusal(server, password="hunter2", ProxyJump="bastion")
    assert isinstance(error, errors.ForwardingRefused)
    assert str(error) == (
        f"the jump host bastion does not let the login connect to 127.0.0.1 port {server.port}: its sshd_config needs "
        "AllowTcpForwarding yes or local, PermitOpen must not leave that server out, nor must what stands before the "
        "key in authorized_keys"
    )


@contextmanager
def stalled_jump(client: Client, files: Path) -> Iterator[Transport]:
    """Give a connection to a jump host that takes nothing more, since it has begun a key exchange and does not end it.

    What waits for it waits for 30 seconds.
    """
    with jump_host(client, "bastion", files):
        volume = client.volume(22, ProxyJump="bastion")
        login = client.preflight.keyring.login_of(volume)
        connector = Connector(client.preflight.known_hosts, unobserved, Deadline.after(20))
        jump = connector.through_jump_hosts(volume, login, [()])
        assert jump
        jump.clear_to_send.clear()
        try:
            yield jump
        finally:
            jump.close()


@pytest.mark.parametrize("has_passed", [True, False])
def test_connection_through_a_jump_host_that_stalls_is_closed_at_once(
    client: Client, files: Path, server: Server, has_passed: bool
) -> None:
    remote = Remote(user="bob", host="127.0.0.1", port=server.port, directory="")
    with stalled_jump(client, files) as jump:
        jump.clear_to_send.set()
        channel = connect_through(jump, "bastion", remote, 20)
        transport = exchange_keys(remote, channel, ("ssh-ed25519",), 20)
        if has_passed:
            transport.beneath = jump
        else:  # another try may follow
            jump.clear_to_send_timeout = 0.1
        jump.clear_to_send.clear()
        began = time.monotonic()
        transport.close()
        assert time.monotonic() - began < 10
        assert jump.is_active() is not has_passed


def test_connection_through_a_jump_host_that_takes_nothing_more_is_closed_without_an_error(
    client: Client, files: Path, server: Server
) -> None:
    """Its own connection may be ended at the same time, by a deadline."""
    remote = Remote(user="bob", host="127.0.0.1", port=server.port, directory="")

    def ended(_: bytes) -> None:
        raise EOFError

    with stalled_jump(client, files) as jump:
        jump.clear_to_send.set()
        transport = exchange_keys(remote, connect_through(jump, "bastion", remote, 20), ("ssh-ed25519",), 20)
        jump.packetizer.write_all = ended
        transport.close()
        assert not transport.is_active()


@pytest.mark.parametrize("step", ["greeting", "none", "subsystem sftp"])
def test_jump_host_that_closes_the_connection_while_the_server_is_checked_is_named(
    client: Client, files: Path, in_background: Background, step: str
) -> None:
    with ExitStack() as servers:
        bastion = servers.enter_context(jump_host(client, "bastion", files))
        if step == "greeting":
            port, seen, wanted = servers.enter_context(impostor()), bastion.seen, "forward to 127.0.0.1"
        else:
            server = servers.enter_context(serving(Account(directory=files, password="hunter2", stalls_at=step)))
            port, seen, wanted = server.port, server.seen, step
        checking = in_background(client.refusal, port, password="hunter2", ProxyJump="bastion")
        await_that(lambda: wanted in seen, lambda: "it has not come so far")
        bastion.hang_up()
        error = checking.result(LIMIT_SECONDS)
    assert isinstance(error, errors.HostUnreachable)
    assert str(error) == (
        f"the jump host bastion has closed the connection to 127.0.0.1 port {port}: its log tells why; it may be "
        "overloaded or have been restarted"
    )


def test_jump_host_that_stalls_is_given_up_when_the_time_is_up(client: Client, files: Path) -> None:
    remote = Remote(user="bob", host="127.0.0.1", port=22, directory="")
    with stalled_jump(client, files) as jump:
        began = time.monotonic()
        with pytest.raises(errors.HostUnreachable) as refused:
            connect_through(jump, "bastion", remote, 0.5)
        assert str(refused.value).startswith(
            "the jump host bastion cannot connect to 127.0.0.1 port 22, no answer in time: "
        )
        assert time.monotonic() - began < 10


def test_changed_host_key_of_a_jump_host_is_refused(client: Client, files: Path, server: Server) -> None:
    with jump_host(client, "bastion", files) as bastion:
        client.preflight.known_hosts.add("127.0.0.1", bastion.port, shown(number=3))
        error = client.refusal(server, password="hunter2", ProxyJump="bastion")
        assert isinstance(error, errors.HostKeyChanged)
        assert str(error).startswith("the jump host bastion (bastion@127.0.0.1): the host key of 127.0.0.1 port ")
        assert bastion.seen == [], "no password is sent"


@pytest.mark.parametrize("way", ["server", "jump host"])
def test_hosts_that_ssh_could_not_tell_apart_do_not_both_take_a_password(client: Client, files: Path, way: str) -> None:
    alike = {"host": "NAS.lan", "user": "bob", "port": "22"}
    with (
        jump_host(client, "outer", files, alike) as outer,
        jump_host(client, "inner", files, {**alike, **BEHIND_OUTER} if way == "jump host" else BEHIND_OUTER),
    ):
        error = client.refusal(22, host="nas.lan", password="hunter2", ProxyJump="inner")
        assert isinstance(error, errors.LoginsAlike)
        names = {"server": "the server are both bob@nas.lan", "jump host": "the jump host inner are both bob@NAS.lan"}
        assert str(error) == (
            f"the jump host outer and {names[way]} port 22 and take a password, so that each could be given the "
            "other's: log in to one of them with a key, or write its address in another way"
        )
        assert outer.connections == 0


def test_hosts_that_ssh_could_not_tell_apart_may_be_where_one_of_them_takes_a_key(
    client: Client, keys: dict[str, Path]
) -> None:
    describe(client.remotes, f"host = nas.lan\nuser = bob\nIdentityFile = {keys['ed25519']}\n", name="outer")
    volume = client.volume(22, host="nas.lan", password="hunter2", ProxyJump="outer")
    login = client.preflight.keyring.login_of(volume)
    assert (login.password, login.jumps[0].password) == ("hunter2", "")


@pytest.mark.parametrize("method", [PASSWORD, TYPED])
@pytest.mark.parametrize(
    "users",
    [
        ("outer", "inner", "bob"),
        ("bob", "bob", "bob"),
        (f"{LONG} 1", f"{LONG} 2", f"{LONG} 3"),
        ("EXAMPLE\\bob smith", "bob@example.org", "böb 100%"),
    ],
)
def test_ssh_gives_each_host_on_the_way_its_own_password(
    client: Client, files: Path, method: str, users: tuple[str, str, str]
) -> None:
    """With the files that a volume's unit reads, the logins of the same name at other ports included."""
    outer_user, inner_user, user = users
    ways = [(method,)]
    with (
        serving(Account(directory=files, password="hunter2", ways=ways)) as server,
        jump_host(client, "outer", files, {"user": outer_user}, ways=ways) as outer,
        jump_host(client, "inner", files, {"user": inner_user, **BEHIND_OUTER}, ways=ways) as inner,
    ):
        photos = client.volume(server, password="hunter2", ProxyJump="inner", sshcmd=f"{user}@LocalHost:/photos")
        ssh_connects(client, photos, outer, inner)
        assert [method in each.seen for each in (outer, inner, server)] == [True] * 3


def test_slow_login_at_a_jump_host_leaves_the_server_its_time(client: Client, files: Path, server: Server) -> None:
    with jump_host(client, "bastion", files, stalls_at="password") as bastion:
        photos = client.volume(server, password="hunter2", ProxyJump="bastion", ConnectTimeout="1")
        slow = threading.Timer(2, bastion.go_on)
        slow.start()
        ssh_connects(client, photos, bastion)
        slow.join()


def ssh_connects(client: Client, volume: Volume, *jumps: Server) -> None:
    """Expect that ssh connects with the files that a volume's unit reads."""
    settings = Settings(runtime=client.directory / "run", state=client.directory, libexec=ROOT / "libexec")
    known_hosts = KnownHosts.of(settings)
    known_hosts.add(volume.remote.host, volume.remote.port, shown())
    for jump in jumps:
        known_hosts.add("127.0.0.1", jump.port, shown(number=2))
    written = UnitFiles.of(settings, volume.name)
    written.write(volume, client.preflight.keyring.login_of(volume), settings)
    said = command.run(["sh", "-c", CONNECT, written.environment, volume.remote.login], seconds=LIMIT_SECONDS)
    assert (said.returncode, said.stderr) == (0, "")
