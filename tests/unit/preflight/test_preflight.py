# SPDX-License-Identifier: MIT
"""The preflight, check by check, against real servers and impostors on loopback."""

import base64
import os
import shlex
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa
from support import fakes, ssh_server
from support.ssh_server import KEY, PASSWORD, TYPED, Account, Server, host_key, public_key, serving, write_key

from sshfs_plugin import errors, options
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.host import command
from sshfs_plugin.preflight import Preflight, sftp
from sshfs_plugin.ssh import sshfs
from sshfs_plugin.ssh.credentials import Keyring
from sshfs_plugin.ssh.known_hosts import HostKey, KnownHosts, line
from sshfs_plugin.volume import Volume, VolumeName

HOST = ssh_server.LOOPBACK
ANY_KIND = ("ed25519", "ecdsa", "rsa")
FORMS = (*ANY_KIND, "ecdsa-PEM", "rsa-PEM", "ecdsa-PKCS8", "rsa-PKCS8")


def shown(kind: str = "ed25519", number: int = 1) -> HostKey:
    """Return a server's host key as known_hosts has it."""
    key = host_key(kind, number)
    return HostKey(kind=key.get_name(), blob=key.asbytes())


@dataclass(frozen=True, slots=True)
class Client:
    """A host of its own: with keys, known hosts and nothing else."""

    directory: Path

    @property
    def preflight(self) -> Preflight:
        return Preflight(
            keyring=Keyring(default_key=self.directory / "id_ed25519", home=self.directory),
            known_hosts=KnownHosts(
                own=self.directory / "known_hosts",
                others=(self.directory / ".ssh/known_hosts",),
                pinned=self.directory / "pinned",
            ),
        )

    @property
    def known(self) -> str:
        """What the plugin has written down about servers."""
        file = self.preflight.known_hosts.own
        return file.read_text() if file.exists() else ""

    @property
    def pinned(self) -> list[str]:
        directory = self.preflight.known_hosts.pinned
        return sorted(path.name for path in directory.iterdir()) if directory.exists() else []

    def volume(self, to: Server | int, path: str = "/photos", host: str = HOST, **opts: str) -> Volume:
        port = to if isinstance(to, int) else to.port
        return options.parse(
            VolumeName("photos"), {"sshcmd": f"bob@{host}:{path}", "port": str(port), **opts}, datetime.now(UTC)
        )

    def run(self, to: Server | int, path: str = "/photos", seconds: float = 5, **opts: str) -> None:
        self.preflight.run(self.volume(to, path, **opts), Deadline.after(seconds))

    def refusal(self, to: Server | int, path: str = "/photos", seconds: float = 5, **opts: str) -> errors.PluginError:
        """Make the checks and return the error of the one that fails."""
        with pytest.raises(errors.PluginError) as refused:
            self.run(to, path, seconds, **opts)
        return refused.value


@pytest.fixture
def client(tmp_path: Path) -> Client:
    (tmp_path / "client/.ssh").mkdir(parents=True)
    return Client(tmp_path / "client")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return what the accounts are locked into."""
    directory = tmp_path / "server"
    (directory / "photos").mkdir(parents=True)
    (directory / "photos/a.jpg").write_text("a photo")
    return directory


@pytest.fixture
def server(files: Path) -> Iterator[Server]:
    """Run a server that takes a password."""
    with serving(Account(directory=files, password="hunter2")) as running:
        yield running


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Make private keys of every kind and form, each with its public key beside it."""
    directory = tmp_path_factory.mktemp("keys")
    return {form: write_key(directory / form, form, 2) for form in FORMS}


def public(key: Path) -> str:
    return public_key(key).read_text()


# The name and the connection


def test_host_when_its_name_does_not_resolve_says_which(client: Client) -> None:
    error = client.refusal(22, host="no-such-host.invalid", password="hunter2")
    assert isinstance(error, errors.HostUnresolved)
    assert str(error) == (
        "the host name no-such-host.invalid does not resolve to an address: is it spelled right, and does this host's "
        "DNS or /etc/hosts know it? (names of containers are not known here, and ~/.ssh/config is not read: "
        "ssh -G no-such-host.invalid shows the hostname, port, user and identityfile to say as options)"
    )


@pytest.mark.parametrize("host", ["nas..lan", "n" * 64])
def test_host_when_its_name_can_not_be_one_does_not_resolve(client: Client, host: str) -> None:
    error = client.refusal(22, host=host, password="hunter2")
    assert isinstance(error, errors.HostUnresolved)
    assert f"the host name {host} does not resolve" in str(error)


def test_host_when_nobody_resolves_its_name_gives_up_at_the_deadline(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [over.wait(10)])
    started = time.monotonic()
    error = client.refusal(22, seconds=0.3)
    over.set()
    assert time.monotonic() - started < 2
    assert isinstance(error, errors.HostUnresolved)
    assert str(error) == "the host name 127.0.0.1 was not resolved in time: can this host reach its DNS server?"


def test_connection_when_refused_asks_for_server_and_port(client: Client) -> None:
    port = ssh_server.closed_port()
    error = client.refusal(port, password="hunter2")
    assert isinstance(error, errors.HostUnreachable)
    assert str(error) == (
        f"cannot connect to 127.0.0.1 port {port}, connection refused: "
        "is an SSH server running there, and is 'port' right?"
    )


def reached_at(port: int) -> Callable[..., list[Any]]:
    """Stand for a name server by which every host and port is one on loopback."""
    return lambda *_: [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (HOST, port))]


def test_connection_when_the_directory_begins_with_what_may_be_the_port_asks_for_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", reached_at(ssh_server.closed_port()))
    error = client.refusal(22, "3300/photos", host="nas", password="hunter2")
    assert isinstance(error, errors.HostUnreachable)
    assert str(error) == (
        "cannot connect to nas port 22, connection refused: if 3300 is meant to be the port, say -o port=3300 "
        "-o sshcmd=bob@nas:/photos"
    )


@pytest.mark.parametrize(
    ("path", "password"), [("3300/photos", "wrong"), ("3300:photos", "hunter2"), ("3300", "hunter2")]
)
def test_any_check_when_the_directory_begins_with_what_may_be_the_port_asks_for_it(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch, path: str, password: str
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", reached_at(server.port))
    error = client.refusal(22, path, password=password)
    assert isinstance(error, errors.LoginRefused if password == "wrong" else errors.DirectoryUnusable)
    there = path.removeprefix("3300").lstrip(":")
    assert error.hint.startswith(f"if 3300 is meant to be the port, say -o port=3300 -o sshcmd=bob@127.0.0.1:{there}; ")


def test_any_check_when_the_port_is_said_and_said_again_in_the_directory_says_what_was_meant(
    client: Client, server: Server
) -> None:
    error = client.refusal(server, f"{server.port}/photos", password="hunter2")
    assert isinstance(error, errors.DirectoryUnusable)
    said = f"-o port={server.port} -o sshcmd=bob@127.0.0.1:/photos"
    assert error.hint.startswith(f"if {server.port} is meant to be the port, say {said}; make it first")


@pytest.mark.parametrize("path", ["2024/photos", "/3300/photos"])
def test_any_check_when_the_directory_has_a_number_and_the_port_is_said_asks_for_none(
    client: Client, server: Server, path: str
) -> None:
    assert "the port" not in client.refusal(server, path, password="hunter2").hint


def test_connection_when_nobody_answers_gives_up_at_the_deadline(client: Client) -> None:
    started = time.monotonic()
    with ssh_server.deaf() as port:
        error = client.refusal(port, seconds=0.2, password="hunter2")
    assert time.monotonic() - started < 2
    assert isinstance(error, errors.HostUnreachable)
    assert str(error) == (
        f"cannot connect to 127.0.0.1 port {port}, no answer in time: "
        "is the server on, and does a firewall let this host in?"
    )


def test_connection_when_there_is_no_route_says_so(client: Client) -> None:
    # TCP to a multicast address has no route anywhere
    error = client.refusal(22, host="224.0.0.1", password="hunter2")
    assert isinstance(error, errors.HostUnreachable)
    assert str(error) == "cannot connect to 224.0.0.1 port 22, network is unreachable: is there a route to it?"


def test_connection_when_a_name_has_several_addresses_takes_the_first_that_works(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, alive = (HOST, ssh_server.closed_port()), (HOST, server.port)
    # a family that this kernel lacks, as IPv6 on a host that was booted without it
    lacking = (socket.AF_APPLETALK, socket.SOCK_STREAM, 0, "", dead)
    addresses = [lacking, *((socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in (dead, alive))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    client.run(server, host="nas", password="hunter2")
    assert server.seen


def test_connection_when_no_address_answers_gives_all_of_them_together_the_time_of_one(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ssh_server.deaf() as port:
        addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (HOST, port))] * 4
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        started = time.monotonic()
        error = client.refusal(port, host="nas", password="hunter2", ConnectTimeout="1")
    assert "no answer in time" in str(error)
    assert time.monotonic() - started < 3, "and not four seconds"


def test_connection_when_a_name_has_no_address_at_all_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    error = client.refusal(22, host="nas", password="hunter2")
    assert str(error) == "cannot connect to nas port 22, no address: is there a route to it?"


# What answers there


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "HTTP/1.1 400 Bad Request; Connection: close"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "??????F"),
        (b"220 smtp\r\n" * 150, "220 smtp"),
        (b"Not allowed at this time of day, said the web server\r\n", "Not allowed at this time of day, said the web"),
    ],
    ids=["web", "TLS", "a long greeting", "words like those of sshd"],
)
def test_server_when_it_speaks_something_else_and_hangs_up_is_none(client: Client, says: bytes, words: str) -> None:
    with ssh_server.impostor(says, hangs_up=True) as port:
        error = client.refusal(port, password="hunter2")
    assert isinstance(error, errors.NotAnSSHServer)
    assert str(error).startswith(f"what answers at 127.0.0.1 port {port} is not an SSH server, it says '{words}")
    assert str(error).endswith("': is 'port' right?")


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (b"", ""),
        (b"Exceeded MaxStartups\r\n", " with the words 'Exceeded MaxStartups'"),
        (b"Not allowed at this time\r\n", " with the words 'Not allowed at this time'"),
    ],
)
def test_server_when_it_turns_the_connection_away_says_what_is_likely(client: Client, says: bytes, words: str) -> None:
    with ssh_server.impostor(says, hangs_up=True) as port:
        error = client.refusal(port, password="hunter2")
    assert isinstance(error, errors.TurnedAway)
    assert str(error) == (
        f"127.0.0.1 port {port} closed the connection at once{words}: it may let only so many connections in at a "
        "time, be overloaded or have banned this host; if no SSH server is meant to be there, 'port' is wrong"
    )


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (b"SSH-2.0-x\r\n" + b"\x7f\xff\xff\xf4" * 4, "it sends a packet of 2147483632 bytes"),
        (b"x" * 300_000, "it says '... xxx"),
        (b"\r\n" * 100_000, "it says ''"),
    ],
    ids=["packet", "line", "lines"],
)
def test_server_when_it_sends_more_than_ssh_has_is_not_read_to_the_end(client: Client, says: bytes, why: str) -> None:
    started = time.monotonic()
    with ssh_server.impostor(says) as port:
        error = client.refusal(port, password="hunter2")
    assert time.monotonic() - started < 3
    assert isinstance(error, errors.NotAnSSHServer)
    assert str(error).startswith(f"what answers at 127.0.0.1 port {port} is not an SSH server, {why}")


@pytest.mark.parametrize("says", [b"", b"220 mail.example.org ESMTP\r\n"], ids=["nothing", "a greeting"])
def test_server_when_it_waits_for_ever_is_named(client: Client, says: bytes) -> None:
    started = time.monotonic()
    with ssh_server.impostor(says) as port:
        error = client.refusal(port, seconds=0.2, password="hunter2")
    assert time.monotonic() - started < 2
    assert isinstance(error, errors.ServerSilent)
    assert str(error) == (
        f"127.0.0.1 port {port} accepts the connection but has not spoken SSH in time: "
        "is the server overloaded or frozen? if it is no SSH server, 'port' is wrong"
    )


def test_server_when_it_stops_answering_after_its_banner_says_so(client: Client) -> None:
    with ssh_server.impostor(b"SSH-2.0-OpenSSH_9.2\r\n") as port:
        error = client.refusal(port, seconds=0.2, password="hunter2")
    assert isinstance(error, errors.ServerSilent)
    assert str(error) == (
        f"the SSH server at 127.0.0.1 port {port} stopped answering: "
        "it may be overloaded, or large packets get lost on the way (MTU)"
    )


def test_server_when_it_hangs_up_after_its_banner_says_so(client: Client) -> None:
    with ssh_server.impostor(b"SSH-2.0-OpenSSH_9.2\r\n", hangs_up=True) as port:
        error = client.refusal(port, password="hunter2")
    assert isinstance(error, errors.NegotiationFailed)
    assert str(error).startswith(f"the SSH server at 127.0.0.1 port {port} broke the connection off (")
    assert "()" not in str(error)
    assert str(error).endswith("its log tells why; it may be overloaded or have banned this host")


def only(what: str, *algorithms: str) -> Callable[[Any], None]:
    return lambda transport: setattr(transport.get_security_options(), what, algorithms)


@pytest.mark.parametrize(
    "tune",
    [
        only("kex", "diffie-hellman-group14-sha1"),
        only("key_types", "ssh-rsa"),
        only("ciphers", "aes128-cbc"),
        only("digests", "hmac-md5"),
    ],
    ids=["key exchange", "host key", "cipher", "digest"],
)
def test_server_when_it_has_only_algorithms_that_ssh_has_given_up_is_refused(
    client: Client, files: Path, tune: Callable[[Any], None]
) -> None:
    with serving(Account(directory=files, password="hunter2"), [host_key("rsa")], tune) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.NegotiationFailed)
    assert f"the SSH server at 127.0.0.1 port {server.port} shares no algorithm with the check (" in str(error)
    assert str(error).endswith(": if ssh itself can log in there, say -o check=never")


@pytest.mark.parametrize(
    ("tune", "option"),
    [
        (only("kex", "diffie-hellman-group14-sha1"), {"KexAlgorithms": "+diffie-hellman-group14-sha1"}),
        (only("key_types", "ssh-rsa"), {"HostKeyAlgorithms": "+ssh-rsa"}),
        (only("ciphers", "aes128-cbc"), {"Ciphers": "aes128-cbc,aes256-cbc"}),
        (only("digests", "hmac-md5"), {"MACs": "^hmac-md5"}),
    ],
    ids=["key exchange", "host key", "cipher", "digest"],
)
def test_server_when_it_has_only_old_algorithms_and_the_volume_lets_them_in_passes(
    client: Client, files: Path, tune: Callable[[Any], None], option: Any
) -> None:
    with serving(Account(directory=files, password="hunter2"), [host_key("rsa")], tune) as server:
        client.run(server, password="hunter2", **option)
    assert client.known == line(HOST, server.port, shown("rsa"))


def test_server_when_the_volume_wants_what_the_check_does_not_know_is_checked_all_the_same(
    client: Client, server: Server
) -> None:
    client.run(server, password="hunter2", Ciphers="chacha20-poly1305@openssh.com")


def test_server_when_the_volume_leaves_no_kind_of_host_key_says_which_option_to_leave_out(
    client: Client, server: Server
) -> None:
    only_certificates: Any = {"HostKeyAlgorithms": "-*", "host_key": shown().fingerprint}
    client.run(server, password="hunter2", **only_certificates)
    no_ed25519: Any = {"HostKeyAlgorithms": "rsa-sha2-512", "host_key": shown().fingerprint}
    error = client.refusal(server, password="hunter2", **no_ed25519)
    assert isinstance(error, errors.NegotiationFailed)
    assert str(error) == (
        f"HostKeyAlgorithms leaves no kind of host key that 127.0.0.1 port {server.port} could show: "
        "leave that option out"
    )


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"AddressFamily": "inet6"}, "the host name 127.0.0.1 does not resolve to an address"),
        ({"BindAddress": "192.0.2.1"}, "cannot connect to 127.0.0.1 port"),
    ],
)
def test_server_when_the_volume_says_how_to_get_there_is_looked_for_there_alone(
    client: Client, server: Server, option: Any, said: str
) -> None:
    assert said in str(client.refusal(server, password="hunter2", **option))


def test_server_when_the_volume_says_a_way_that_works_is_found(client: Client, server: Server) -> None:
    client.run(server, password="hunter2", AddressFamily="inet", BindAddress="127.0.0.2")


def test_server_when_it_speaks_the_first_ssh_protocol_is_refused(client: Client) -> None:
    with ssh_server.impostor(b"SSH-1.5-OpenSSH_2.0\r\n", hangs_up=True) as port:
        error = client.refusal(port, password="hunter2")
    assert "Incompatible version (1.5 instead of 2.0)" in str(error)


# Its host key


def test_host_key_when_new_is_trusted_and_written_down_once(client: Client, server: Server) -> None:
    client.run(server, password="hunter2")
    client.run(server, password="hunter2")
    assert client.known == line(HOST, server.port, shown())
    assert client.pinned == []


def test_host_key_when_new_and_the_login_fails_is_not_written_down(client: Client, server: Server) -> None:
    client.refusal(server, password="wrong")
    client.refusal(server, "/missing", password="hunter2")
    assert client.known == ""


def test_host_key_when_unknown_and_check_is_yes_says_its_fingerprint_and_sends_nothing(
    client: Client, server: Server
) -> None:
    error = client.refusal(server, password="hunter2", host_key_check="yes")
    assert isinstance(error, errors.HostKeyUnknown)
    assert str(error) == (
        f"the host key of 127.0.0.1 port {server.port} is not known, it is {shown().fingerprint}: verify it on the "
        "server (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) and say "
        f"-o host_key={shown().fingerprint}, or leave host_key_check=yes out to trust it"
    )
    assert server.seen == []
    assert client.known == ""


@pytest.mark.parametrize("name", ["[127.0.0.1]:PORT", "[127.0.0.*]:PORT", "other,[127.0.0.1]:PORT", "*"])
def test_host_key_when_the_administrator_has_verified_it_is_known_and_not_written_again(
    client: Client, server: Server, name: str
) -> None:
    verified = line("HERE", 22, shown()).replace("here", name.replace("PORT", str(server.port)))
    (client.directory / ".ssh/known_hosts").write_text(verified)
    client.run(server, password="hunter2", host_key_check="yes")
    assert client.known == ""


def test_host_key_when_known_under_a_hashed_name_is_known(client: Client, server: Server) -> None:
    file = client.directory / ".ssh/known_hosts"
    file.write_text(line(HOST, server.port, shown()))
    command.run(["ssh-keygen", "-H", "-f", file], seconds=5)
    assert HOST not in file.read_text()
    client.run(server, password="hunter2", host_key_check="yes")


@pytest.mark.parametrize("check", ["accept-new", "yes"])
def test_host_key_when_changed_says_both_and_a_cure_that_works(client: Client, server: Server, check: str) -> None:
    file = client.directory / ".ssh/known_hosts"
    file.write_text(line(HOST, server.port, shown(number=2)))
    error = client.refusal(server, password="hunter2", host_key_check=check)
    assert isinstance(error, errors.HostKeyChanged)
    assert str(error) == (
        f"the host key of 127.0.0.1 port {server.port} has changed from {shown(number=2).fingerprint} to "
        f"{shown().fingerprint}: somebody may be in between; if the server was set up anew, remove its old key: "
        f"ssh-keygen -R '[127.0.0.1]:{server.port}' -f {file}"
    )
    assert server.seen == []
    assert client.known == ""
    cure = error.hint.partition("remove its old key: ")[2]
    command.run(shlex.split(cure), seconds=5).check_returncode()
    client.run(server, password="hunter2")


def test_host_key_when_revoked_is_refused_although_it_is_known(client: Client, server: Server) -> None:
    known = line(HOST, server.port, shown())
    (client.directory / ".ssh/known_hosts").write_text(f"{known}@revoked * {known.partition(' ')[2]}")
    error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.HostKeyChanged)
    assert str(error) == (
        f"the host key of 127.0.0.1 port {server.port}, {shown().fingerprint}, is marked as revoked: "
        "do not trust this server before its administrator has explained it"
    )
    assert server.seen == []


def test_host_key_when_another_one_was_revoked_is_judged_by_itself(client: Client, server: Server) -> None:
    (client.directory / ".ssh/known_hosts").write_text(f"@revoked {line(HOST, server.port, shown(number=2))}")
    client.run(server, password="hunter2")
    assert client.known == line(HOST, server.port, shown())


@pytest.mark.parametrize("known", ANY_KIND)
def test_host_key_when_the_server_has_several_kinds_and_one_is_known_is_asked_for_that_one(
    client: Client, files: Path, known: str
) -> None:
    with serving(Account(directory=files, password="hunter2"), [host_key(kind) for kind in ANY_KIND]) as server:
        (client.directory / ".ssh/known_hosts").write_text(line(HOST, server.port, shown(known)))
        client.run(server, password="hunter2")
    assert client.known == ""


@pytest.mark.parametrize("check", ["accept-new", "yes"])
def test_host_key_when_only_one_of_another_kind_is_known_has_changed(
    client: Client, server: Server, check: str
) -> None:
    known = line(HOST, server.port, shown("rsa"))
    (client.directory / "known_hosts").write_text(known)
    error = client.refusal(server, password="hunter2", host_key_check=check)
    assert isinstance(error, errors.HostKeyChanged)
    assert f"has changed from {shown('rsa').fingerprint} to {shown().fingerprint}" in str(error)
    assert server.seen == []
    assert client.known == known


@pytest.mark.parametrize("mark", ["", "@revoked "])
def test_host_key_when_checks_are_off_is_not_looked_at_and_not_written(
    client: Client, server: Server, mark: str
) -> None:
    known = f"{mark}{line(HOST, server.port, shown(number=1 if mark else 2))}"
    (client.directory / "known_hosts").write_text(known)
    client.run(server, password="hunter2", host_key_check="no")
    assert client.known == known
    assert client.pinned == []


@pytest.mark.parametrize("kind", ANY_KIND)
def test_host_key_when_pinned_is_found_among_all_that_the_server_has(client: Client, files: Path, kind: str) -> None:
    with serving(Account(directory=files, password="hunter2"), [host_key(each) for each in ANY_KIND]) as server:
        client.run(server, password="hunter2", host_key=shown(kind).fingerprint)
    assert (client.directory / "pinned/photos").read_text() == line(HOST, server.port, shown(kind))
    assert client.known == ""


def test_host_key_when_pinned_needs_no_known_hosts_and_overrules_them(client: Client, server: Server) -> None:
    (client.directory / "known_hosts").write_text(line(HOST, server.port, shown(number=2)))
    client.run(server, password="hunter2", host_key=shown().fingerprint, host_key_check="yes")
    assert client.pinned == ["photos"]


def test_host_key_when_it_is_not_the_pinned_one_says_both_and_sends_nothing(client: Client, server: Server) -> None:
    wanted = shown(number=2).fingerprint
    error = client.refusal(server, password="hunter2", host_key=wanted)
    assert isinstance(error, errors.HostKeyNotPinned)
    assert str(error) == (
        f"the host key of 127.0.0.1 port {server.port} is {shown().fingerprint}, not the pinned {wanted}: "
        "either this is another server, or the option 'host_key' is out of date"
    )
    assert server.seen == []
    assert client.pinned == []


def test_host_key_when_none_of_several_is_the_pinned_one_says_the_one_that_ssh_would_show(
    client: Client, files: Path
) -> None:
    with serving(Account(directory=files, password="hunter2"), [host_key(kind) for kind in ANY_KIND]) as server:
        error = client.refusal(server, password="hunter2", host_key=shown(number=2).fingerprint)
    assert f"port {server.port} is {shown().fingerprint}, not the pinned" in str(error)


def test_host_key_when_pinned_and_the_server_only_has_an_old_kind_says_what_is_lacking(
    client: Client, files: Path
) -> None:
    account = Account(directory=files, password="hunter2")
    with serving(account, [host_key("rsa")], only("key_types", "ssh-rsa")) as server:
        error = client.refusal(server, password="hunter2", host_key=shown().fingerprint)
    assert isinstance(error, errors.NegotiationFailed)
    assert "shares no algorithm" in str(error)


def test_host_key_when_the_volume_names_a_file_is_looked_up_there_and_in_our_own_alone(
    client: Client, server: Server, tmp_path: Path
) -> None:
    named, roots = tmp_path / "a known_hosts, of mine", client.directory / ".ssh/known_hosts"
    strict: Any = {"password": "hunter2", "host_key_check": "yes", "known_hosts": str(named)}
    roots.write_text(line(HOST, server.port, shown()))
    named.touch()
    assert isinstance(client.refusal(server, **strict), errors.HostKeyUnknown)
    named.write_text(line(HOST, server.port, shown()))
    client.run(server, **strict)
    named.write_text("")
    client.run(server, password="hunter2", known_hosts="/dev/null")
    client.run(server, **strict)


def test_host_key_when_its_volume_is_removed_is_not_pinned_any_more(client: Client, server: Server) -> None:
    client.run(server, password="hunter2", host_key=shown().fingerprint)
    client.preflight.forget(VolumeName("photos"))
    assert client.pinned == []


# The login


@pytest.mark.parametrize("form", FORMS)
def test_login_with_a_key_of_any_kind_and_form_succeeds(
    client: Client, files: Path, keys: dict[str, Path], form: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(Account(directory=files, keys=[public(keys[form])])) as server:
        client.run(server, IdentityFile=str(keys[form]))
    assert caplog.messages == []
    assert server.seen == ["none", KEY, "subsystem sftp", "stat /photos", "list /photos"]


@pytest.mark.parametrize("method", [PASSWORD, TYPED])
def test_login_with_a_password_in_the_form_that_the_server_takes_succeeds(
    client: Client, files: Path, method: str
) -> None:
    with serving(Account(directory=files, password="hünter 2", ways=[(method,)])) as server:
        client.run(server, password="hünter 2")
    assert server.seen[:2] == ["none", method]


@pytest.mark.parametrize(("method", "way"), [(PASSWORD, "a password"), (TYPED, "a typed password")])
def test_login_when_the_password_is_wrong_says_so_without_repeating_it(
    client: Client, files: Path, method: str, way: str
) -> None:
    with serving(Account(directory=files, password="hunter2", ways=[(method,)])) as server:
        error = client.refusal(server, password="wr0ng")
    assert isinstance(error, errors.LoginRefused)
    assert str(error) == (
        f"127.0.0.1 refused to let bob in with the password (it takes {way}): "
        "are the password and the login name bob right?"
    )


def test_login_when_the_key_is_not_authorized_says_how_to_authorize_it(
    client: Client, files: Path, keys: dict[str, Path]
) -> None:
    key = keys["ed25519"]
    with serving(Account(directory=files, keys=[public(keys["ecdsa"])])) as server:
        error = client.refusal(server, IdentityFile=str(key))
    assert isinstance(error, errors.LoginRefused)
    assert str(error) == (
        f"127.0.0.1 refused to let bob in with the key {key} (it takes a password, a key): is the public key in the "
        f"authorized_keys of bob there (sudo ssh-copy-id -i {key} -p {server.port} bob@127.0.0.1), "
        "and is that the right user?"
    )


def test_login_when_the_server_refuses_everything_says_all_that_was_tried(
    client: Client, files: Path, keys: dict[str, Path]
) -> None:
    with serving(Account(directory=files)) as server:
        error = client.refusal(server, IdentityFile=str(keys["ed25519"]), password="hunter2")
    assert (
        f"127.0.0.1 refused to let bob in with the key {keys['ed25519']} and the password (it takes a password, a key)"
    ) in str(error)
    assert server.seen == ["none", KEY, PASSWORD]


def test_login_when_the_server_takes_keys_alone_and_has_got_a_password_says_so(client: Client, files: Path) -> None:
    with serving(Account(directory=files, ways=[(KEY,)])) as server:
        error = client.refusal(server, password="hunter2")
    assert str(error) == (
        "127.0.0.1 refused to let bob in, nothing that it takes was given (it takes a key): "
        "give a key with IdentityFile"
    )
    assert server.seen == ["none"]


@pytest.mark.parametrize("method", [PASSWORD, TYPED])
def test_login_when_the_server_takes_passwords_alone_and_has_got_a_key_says_so(
    client: Client, files: Path, keys: dict[str, Path], method: str
) -> None:
    with serving(Account(directory=files, ways=[(method,)])) as server:
        error = client.refusal(server, IdentityFile=str(keys["ed25519"]))
    assert "127.0.0.1 refused to let bob in, nothing that it takes was given" in str(error)
    assert str(error).endswith(": give a password with password_file")


def test_login_when_there_is_neither_key_nor_password_says_how_to_get_one(client: Client, server: Server) -> None:
    assert str(client.refusal(server)) == (
        "127.0.0.1 refused to let bob in, nothing that it takes was given (it takes a password, a key): "
        "make a key with ssh-keygen as the README says, or give IdentityFile or password_file"
    )


def test_login_when_the_server_takes_neither_keys_nor_passwords_says_what_a_volume_has(
    client: Client, files: Path
) -> None:
    with serving(Account(directory=files, ways=[("gssapi-with-mic",)])) as server:
        error = client.refusal(server, password="hunter2")
    assert "(it takes gssapi-with-mic): " in str(error)
    assert str(error).endswith("a volume can log in with keys and passwords only, let the server take one of them")


def test_login_when_the_server_lets_anybody_in_succeeds(client: Client, files: Path) -> None:
    with serving(Account(directory=files, ways=[("none",)])) as server:
        client.run(server)
    assert server.seen == ["none", "subsystem sftp", "stat /photos", "list /photos"]


def test_login_when_the_default_keys_are_several_succeeds_with_the_one_that_fits(
    client: Client, files: Path, keys: dict[str, Path]
) -> None:
    for kind in ("ecdsa", "ed25519"):
        (client.directory / f".ssh/id_{kind}").write_bytes(keys[kind].read_bytes())
        (client.directory / f".ssh/id_{kind}").chmod(0o600)
    with serving(Account(directory=files, keys=[public(keys["ed25519"])])) as server:
        client.run(server)
    assert server.seen[:4] == ["none", KEY, KEY, "subsystem sftp"]


RSA = ("ssh-rsa", "rsa-sha2-256", "rsa-sha2-512")


@pytest.mark.parametrize("who", ["server", "volume"])
def test_login_when_no_signature_of_an_rsa_key_is_taken_succeeds_with_the_next_key_as_ssh_does(
    client: Client, files: Path, keys: dict[str, Path], who: str
) -> None:
    def choosy(transport: Any) -> None:
        if who == "server":
            transport.disabled_algorithms = {"pubkeys": list(RSA)}

    for kind in ("rsa", "ed25519"):
        (client.directory / f".ssh/id_{kind}").write_bytes(keys[kind].read_bytes())
        (client.directory / f".ssh/id_{kind}").chmod(0o600)
    taken = "ssh-ed25519" if who == "volume" else "+ssh-ed25519"
    with serving(Account(directory=files, keys=[public(keys["ed25519"])]), tune=choosy) as server:
        client.run(server, PubkeyAcceptedAlgorithms=taken)
        assert server.seen[:3] == ["none", KEY, "subsystem sftp"]


@pytest.mark.parametrize("way", [(KEY, PASSWORD), (KEY, TYPED), (PASSWORD, KEY)])
def test_login_when_the_server_wants_key_and_password_gives_both_in_its_order(
    client: Client, files: Path, keys: dict[str, Path], way: tuple[str, ...]
) -> None:
    account = Account(directory=files, keys=[public(keys["ecdsa"])], password="hunter2", ways=[way])
    with serving(account) as server:
        client.run(server, IdentityFile=str(keys["ecdsa"]), password="hunter2")
    assert server.seen[:3] == ["none", *way]


def test_login_when_the_server_wants_a_password_as_well_says_so(
    client: Client, files: Path, keys: dict[str, Path]
) -> None:
    account = Account(directory=files, keys=[public(keys["ecdsa"])], password="hunter2", ways=[(KEY, PASSWORD)])
    with serving(account) as server:
        error = client.refusal(server, IdentityFile=str(keys["ecdsa"]))
        assert str(error) == (
            f"127.0.0.1 refused to let bob in with the key {keys['ecdsa']} (it takes a password): "
            "give a password with password_file"
        )
        error = client.refusal(server, IdentityFile=str(keys["ecdsa"]), password="wrong")
        assert str(error) == (
            f"127.0.0.1 refused to let bob in with the key {keys['ecdsa']} and the password (it takes a password): "
            "are the password and the login name bob right?"
        )


def test_login_when_the_server_wants_a_key_after_the_password_says_so(client: Client, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", ways=[(PASSWORD, KEY)])) as server:
        error = client.refusal(server, password="hunter2")
    assert str(error) == (
        "127.0.0.1 refused to let bob in with the password (it takes a key): give a key with IdentityFile"
    )


@pytest.mark.parametrize("method", ["none", PASSWORD])
def test_login_when_the_server_hangs_up_says_so(client: Client, files: Path, method: str) -> None:
    with serving(Account(directory=files, password="hunter2", hangs_up_at=method)) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.LoginUnfinished)
    assert str(error).startswith("127.0.0.1 broke the login of bob off (")
    assert str(error).endswith("): its log tells why; it may allow too few attempts or have banned this host")


def test_login_when_the_server_hangs_up_while_it_is_typed_says_so(
    client: Client, files: Path, keys: dict[str, Path]
) -> None:
    account = Account(directory=files, password="hunter2", ways=[(TYPED,)], hangs_up_at=TYPED)
    with serving(account) as server:
        assert "broke the login of bob off" in str(client.refusal(server, password="hunter2"))


def test_login_when_the_password_has_expired_fails_instead_of_waiting_for_a_new_one(
    client: Client, files: Path
) -> None:
    with serving(Account(directory=files, password="hunter2", expired=True)) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.LoginUnfinished)
    assert "127.0.0.1 broke the login of bob off (" in str(error)


def test_login_when_the_server_does_not_answer_gives_up_at_the_deadline(client: Client, files: Path) -> None:
    started = time.monotonic()
    with serving(Account(directory=files, password="hunter2", stalls_at=PASSWORD)) as server:
        error = client.refusal(server, seconds=0.4, password="hunter2")
    assert time.monotonic() - started < 2
    assert isinstance(error, errors.LoginUnfinished)
    assert str(error) == (
        "127.0.0.1 did not answer the login of bob in time: "
        "its log tells why; it may be busy, or wait for a name service or directory that does not answer"
    )


def test_login_when_what_to_log_in_with_is_unusable_does_not_bother_the_server(
    client: Client, server: Server, keys: dict[str, Path], tmp_path: Path
) -> None:
    key = tmp_path / "open to all"
    key.write_bytes(keys["ed25519"].read_bytes())
    key.chmod(0o644)
    error = client.refusal(server, IdentityFile=str(key))
    assert isinstance(error, errors.IdentityFileUnusable)
    assert "ssh refuses it because other users can read it" in str(error)
    assert isinstance(client.refusal(server, password_file=str(tmp_path / "gone")), errors.PasswordFileUnusable)
    assert server.connections == 0


def test_login_with_a_kind_of_key_that_is_given_up_is_refused(client: Client, server: Server, tmp_path: Path) -> None:
    key = tmp_path / "dsa"
    key.write_bytes(
        dsa.generate_private_key(1024).private_bytes(  # noqa: S505 (ssh knew no longer ones)
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    key.chmod(0o600)
    error = client.refusal(server, IdentityFile=str(key))
    assert isinstance(error, errors.IdentityFileUnusable)
    # ssh-keygen of Debian 13 does not know DSA either
    assert "the check does not know this kind of key" in str(error) or "not a private key that ssh can" in str(error)


def token_key() -> str:
    """Return a key as ssh-keygen -t ed25519-sk writes it: of no use without the token, but that can't be seen."""

    def text(*parts: bytes) -> bytes:
        return b"".join(len(part).to_bytes(4, "big") + part for part in parts)

    kind = b"sk-ssh-ed25519@openssh.com"
    public_key = text(kind, shown().blob[-32:], b"ssh:")
    private_key = text(kind, shown().blob[-32:], b"ssh:") + b"\1" + text(b"handle", b"", b"a token")
    numbers = (1234).to_bytes(4, "big") * 2
    padding = bytes(range(1, 9 - len(numbers + private_key) % 8)) if len(numbers + private_key) % 8 else b""
    whole = (
        b"openssh-key-v1\0"
        + text(b"none", b"none", b"")
        + (1).to_bytes(4, "big")
        + text(public_key, numbers + private_key + padding)
    )
    encoded = base64.encodebytes(whole).decode()
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{encoded}-----END OPENSSH PRIVATE KEY-----\n"


def test_login_with_a_key_on_a_token_is_refused_since_nobody_could_touch_it(
    client: Client, server: Server, tmp_path: Path
) -> None:
    key = tmp_path / "token"
    key.write_text(token_key())
    key.chmod(0o600)
    command.run(["ssh-keygen", "-y", "-f", key], seconds=5).check_returncode()
    error = client.refusal(server, IdentityFile=str(key))
    assert isinstance(error, errors.IdentityFileUnusable)
    assert str(error) == (
        f"cannot check the identity file {key}, the check does not know this kind of key: "
        "use ed25519, ecdsa or rsa, or say -o check=never"
    )


@pytest.fixture
def certified(keys: dict[str, Path], tmp_path: Path) -> Path:
    """Make a key that has a certificate beside it."""
    authority, key = write_key(tmp_path / "authority", "ed25519", 3), write_key(tmp_path / "certified", "ed25519", 2)
    signing = ["ssh-keygen", "-q", "-s", str(authority), "-I", "bob", "-n", "bob", str(public_key(key))]
    command.run(signing, seconds=5).check_returncode()
    return key


def test_login_when_a_certificate_lies_beside_the_key_offers_it(client: Client, files: Path, certified: Path) -> None:
    with serving(Account(directory=files, keys=[public(certified)], certificates=True, ways=[(KEY,)])) as server:
        client.run(server, IdentityFile=str(certified))
    assert server.seen[:3] == ["none", KEY, "subsystem sftp"]


def test_login_when_a_certificate_is_named_offers_it(client: Client, files: Path, certified: Path) -> None:
    elsewhere = client.directory / "certificate of bob"
    Path(f"{certified}-cert.pub").rename(elsewhere)
    key: Any = {"IdentityFile": str(certified), "CertificateFile": "~/certificate of bob"}
    with serving(Account(directory=files, keys=[public(certified)], certificates=True, ways=[(KEY,)])) as server:
        client.run(server, **key)
        assert server.seen[:3] == ["none", KEY, "subsystem sftp"]
        volume = client.volume(server, **key)
        assert connect(client, volume).returncode == 0


def test_login_when_no_certificate_could_lie_beside_the_key_uses_the_key(
    client: Client, files: Path, keys: dict[str, Path]
) -> None:
    longest = client.directory / ("k" * 255)
    shutil.copy(keys["ed25519"], longest)
    with serving(Account(directory=files, keys=[public(keys["ed25519"])], ways=[(KEY,)])) as server:
        client.run(server, IdentityFile=str(longest))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory: the service does not see what is below /tmp: move it elsewhere"),
        ("ssh-ed25519 AAAA bob", "it is not a certificate: ssh-keygen -s makes one"),
    ],
)
def test_login_when_the_named_certificate_is_unusable_says_so(
    client: Client, server: Server, certified: Path, content: str | None, said: str
) -> None:
    certificate = client.directory / "certificate"
    if content:
        certificate.write_text(content)
    error = client.refusal(server, IdentityFile=str(certified), CertificateFile=str(certificate))
    assert isinstance(error, errors.IdentityFileUnusable)
    assert str(error) == f"cannot use the certificate {certificate}, {said}"


def test_login_when_the_server_takes_the_key_but_not_its_certificate_succeeds_as_with_ssh(
    client: Client, files: Path, certified: Path
) -> None:
    with serving(Account(directory=files, keys=[public(certified)], ways=[(KEY,)])) as server:
        volume = client.volume(server, IdentityFile=str(certified))
        client.preflight.run(volume, Deadline.after(5))
        assert server.seen[:4] == ["none", KEY, KEY, "subsystem sftp"]
        assert connect(client, volume).returncode == 0


def test_login_when_the_certificate_is_broken_succeeds_with_the_key_and_logs_why(
    client: Client, files: Path, certified: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = Path(f"{certified}-cert.pub")
    certificate.write_text("nonsense")
    with serving(Account(directory=files, keys=[public(certified)], ways=[(KEY,)])) as server:
        client.run(server, IdentityFile=str(certified))
    assert f"cannot use the certificate {certificate}" in caplog.text


# SFTP


def test_sftp_when_the_server_has_none_says_how_to_turn_it_on(client: Client, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", sftp=False)) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.SFTPUnavailable)
    assert str(error) == (
        f"bob@127.0.0.1 port {server.port} lets the login in but has no SFTP for it (Channel closed.): "
        "the server needs the line 'Subsystem sftp internal-sftp' in its sshd_config"
    )


@pytest.mark.parametrize(
    ("greeting", "words"),
    [(b"Welcome to nas!\n", "Welcome to nas!"), (b"\0\0\0\x06\xffhello", "hello"), (b"\0\x0f\xff\xff" * 9, "")],
    ids=["text", "a packet of another kind", "a packet of a megabyte"],
)
def test_sftp_when_the_logins_start_up_files_print_says_so(
    client: Client, files: Path, greeting: bytes, words: str
) -> None:
    with serving(Account(directory=files, password="hunter2", greeting=greeting)) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.SFTPUnavailable)
    assert f"bob@127.0.0.1 port {server.port} lets the login in but prints '{words}" in str(error)
    assert "where SFTP should begin: nothing in the login's start-up files may print" in str(error)


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (b"This account is currently not available.\n", "prints 'This account is currently not available.' where SFTP"),
        (b"", "its SFTP ended at once (sh: 1: sftp-server: not found; exit status 127)"),
    ],
)
def test_sftp_when_its_program_has_ended_before_it_is_spoken_to_says_the_same(
    client: Client, files: Path, monkeypatch: pytest.MonkeyPatch, greeting: bytes, said: str
) -> None:
    send = sftp.Client._send_packet

    def send_late(self: sftp.Client, *words: object) -> None:
        send(self, *words)  # which ends it
        fakes.await_that(lambda: self.sock.closed, lambda: "the program has not ended")
        send(self, *words)

    monkeypatch.setattr(sftp.Client, "_send_packet", send_late)
    account = Account(
        directory=files, password="hunter2", greeting=greeting, last_words=b"sh: 1: sftp-server: not found\n"
    )
    with serving(account) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.SFTPUnavailable)
    assert said in str(error)


def test_sftp_when_its_program_ends_at_once_gives_its_last_words(client: Client, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", last_words=b"sh: 1: sftp-server: not found\n")) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.SFTPUnavailable)
    assert "but its SFTP ended at once (sh: 1: sftp-server: not found; exit status 127): the program" in str(error)


def test_sftp_when_the_server_is_slow_is_not_taken_for_one_without(client: Client, files: Path) -> None:
    started = time.monotonic()
    with serving(Account(directory=files, password="hunter2", stalls_at="subsystem sftp")) as server:
        error = client.refusal(server, seconds=0.4, password="hunter2")
    assert time.monotonic() - started < 2
    assert isinstance(error, errors.SFTPUnavailable)
    assert str(error) == (
        f"bob@127.0.0.1 port {server.port} lets the login in but did not start SFTP in time: it may be busy, or what "
        "runs at a login there waits for something, such as a name service or a home directory on the network; try "
        "again"
    )


def test_sftp_when_the_server_hangs_up_says_so(client: Client, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", hangs_up_at="subsystem sftp")) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.SFTPUnavailable)
    assert f"port {server.port} lets the login in but closed the connection when it asked for SFTP (" in str(error)
    assert "()" not in str(error)


# The directory


@pytest.mark.parametrize(
    ("typed", "asked"),
    [("/photos", "/photos"), ("", "/photos"), ("2024", "/photos/2024"), ("/", "/"), ("/link", "/link")],
)
def test_directory_when_it_is_there_is_looked_into_where_the_login_sees_it(
    client: Client, files: Path, typed: str, asked: str
) -> None:
    (files / "photos/2024").mkdir()
    (files / "link").symlink_to("photos")
    with serving(Account(directory=files, home="/photos", password="hunter2")) as server:
        client.run(server, typed, password="hunter2")
    assert server.seen[3:] == [f"stat {asked}", f"list {asked}"]


def test_directory_when_empty_is_fine(client: Client, files: Path, server: Server) -> None:
    (files / "photos/a.jpg").unlink()
    client.run(server, password="hunter2")


def test_directory_when_it_holds_very_many_files_is_not_read_to_the_end(
    client: Client, files: Path, server: Server
) -> None:
    for number in range(500):
        (files / f"photos/{number}").touch()
    client.run(server, password="hunter2")


def test_directory_when_names_in_it_are_not_utf8_is_fine(client: Client, files: Path, server: Server) -> None:
    (files / "photos/a.jpg").rename(files / "photos" / b"gr\xfc\xdfe".decode(errors="surrogateescape"))
    client.run(server, password="hunter2")


def test_directory_when_missing_says_what_to_do(client: Client, files: Path) -> None:
    with serving(Account(directory=files, home="/photos", password="hunter2")) as server:
        error = client.refusal(server, "/music", password="hunter2")
        assert isinstance(error, errors.DirectoryUnusable)
        assert str(error) == (
            "the directory /music does not exist on 127.0.0.1 for bob: " "make it first, or say -o create_directory"
        )
        assert "the directory music does not exist on 127.0.0.1" in str(
            client.refusal(server, "music", password="hunter2")
        )


@pytest.mark.parametrize(
    ("typed", "seen"),
    [("/volume1/photos", "/photos"), ("/srv/data/bob/photos/2024", "/photos/2024"), ("/home/photos", "/photos")],
)
def test_directory_when_the_account_is_locked_in_names_the_shorter_path(
    client: Client, files: Path, server: Server, typed: str, seen: str
) -> None:
    (files / "photos/2024").mkdir()
    error = client.refusal(server, typed, password="hunter2")
    assert str(error) == (
        f"the directory {typed} does not exist on 127.0.0.1 for bob: "
        f"{seen} exists, and if this login is locked into a directory of the server, that may be it"
    )


@pytest.mark.parametrize("typed", ["/volume1/photos/a.jpg", "volume1/old/photos", "/music"])
def test_directory_when_no_directory_has_the_shorter_path_is_just_missing(
    client: Client, server: Server, typed: str
) -> None:
    assert "make it first" in str(client.refusal(server, typed, password="hunter2"))


@pytest.mark.parametrize("typed", ["/photos/a.jpg", "/link"])
def test_directory_when_it_is_a_file_says_so(client: Client, files: Path, server: Server, typed: str) -> None:
    (files / "link").symlink_to("photos/a.jpg")
    error = client.refusal(server, typed, password="hunter2")
    assert isinstance(error, errors.DirectoryUnusable)
    assert str(error) == f"{typed} on 127.0.0.1 is not a directory: a volume is a whole directory"


@pytest.mark.parametrize("asked", ["stat /photos", "list /photos"])
def test_directory_when_not_readable_says_so(client: Client, files: Path, asked: str) -> None:
    answers = {asked: paramiko.SFTP_PERMISSION_DENIED}
    with serving(Account(directory=files, password="hunter2", answers=answers)) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.DirectoryUnusable)
    assert str(error) == (
        "the directory /photos on 127.0.0.1 is not readable for bob: "
        "give it the right to read and enter the directory and those above it, or log in as its owner"
    )


def test_directory_when_the_login_directory_itself_is_not_readable_calls_it_that(client: Client, files: Path) -> None:
    answers = {"stat /": paramiko.SFTP_PERMISSION_DENIED}
    with serving(Account(directory=files, password="hunter2", answers=answers)) as server:
        error = client.refusal(server, "", password="hunter2")
    assert "the directory (login directory) on 127.0.0.1 is not readable for bob" in str(error)


def test_directory_when_the_server_fails_says_how_to_try_by_hand(client: Client, files: Path) -> None:
    answers = {"list /photos": paramiko.SFTP_FAILURE}
    with serving(Account(directory=files, password="hunter2", answers=answers)) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.DirectoryUnusable)
    assert str(error) == (
        "the directory /photos on 127.0.0.1 can't be listed (Failure): try sftp to that server by hand"
    )


@pytest.mark.parametrize("asked", ["stat /photos", "list /photos"])
def test_directory_when_the_server_hangs_up_says_so(client: Client, files: Path, asked: str) -> None:
    with serving(Account(directory=files, password="hunter2", hangs_up_at=asked)) as server:
        error = client.refusal(server, password="hunter2")
    assert str(error).startswith("the directory /photos on 127.0.0.1 can't be listed (")
    assert "()" not in str(error)


def test_directory_when_the_server_does_not_answer_gives_up_at_the_deadline(client: Client, files: Path) -> None:
    started = time.monotonic()
    with serving(Account(directory=files, password="hunter2", stalls_at="stat /photos")) as server:
        error = client.refusal(server, seconds=0.4, password="hunter2")
    assert time.monotonic() - started < 2
    assert "the directory /photos on 127.0.0.1 can't be listed (no answer in time)" in str(error)


def test_directory_when_each_of_many_answers_is_slow_gives_up_at_the_deadline(client: Client, files: Path) -> None:
    started = time.monotonic()
    with serving(Account(directory=files, password="hunter2", pause=0.2)) as server:
        client.refusal(server, "/a/b/c/d/e/f/g/h/i/j", seconds=1, password="hunter2")
    assert time.monotonic() - started < 1.8


def test_directory_when_the_server_s_answer_is_in_another_charset_says_so(
    client: Client, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [b"R\xe9pertoire introuvable"] * len(paramiko.sftp.SFTP_DESC)
    monkeypatch.setattr(paramiko.sftp_server, "SFTP_DESC", said)
    with serving(Account(directory=files, password="hunter2")) as server:
        error = client.refusal(server, "/missing", password="hunter2")
    assert str(error) == (
        "the directory /missing on 127.0.0.1 can't be listed (its answer is not in UTF-8): try sftp to that server by "
        "hand"
    )


@pytest.mark.parametrize("fails", ["stat /photo", "canonicalize ."])
def test_directory_when_missing_and_the_server_hangs_up_meanwhile_is_still_missing(
    client: Client, files: Path, fails: str
) -> None:
    with serving(Account(directory=files, password="hunter2", hangs_up_at=fails)) as server:
        error = client.refusal(server, "/volume1/photo", password="hunter2")
    assert str(error) == (
        "the directory /volume1/photo does not exist on 127.0.0.1 for bob: " "make it first, or say -o create_directory"
    )


def test_preflight_writes_nothing_on_the_server(client: Client, files: Path, server: Server) -> None:
    before = sorted((path, path.lstat().st_mtime_ns) for path in [files, *files.rglob("*")])
    client.run(server, password="hunter2")
    client.refusal(server, "/volume1/photo/2024", password="hunter2")
    assert sorted((path, path.lstat().st_mtime_ns) for path in [files, *files.rglob("*")]) == before
    assert {request.split()[0] for request in server.seen} <= {
        "none",
        PASSWORD,
        "subsystem",
        "stat",
        "list",
        "canonicalize",
    }


# What passes here passes with ssh


def test_preflight_proposes_no_algorithm_that_ssh_would_not(client: Client) -> None:
    answer = command.run(["ssh", "-G", "-F", "/dev/null", "nas"], seconds=5).stdout
    ssh = {keyword: values.split(",") for keyword, _, values in (line.partition(" ") for line in answer.splitlines())}
    proposed = ssh_server.proposal(lambda port: client.refusal(port, password="hunter2"))
    exchanges = [name for name in proposed[0] if not name.startswith(("ext-info-", "kex-strict-"))]
    assert set(exchanges) <= set(ssh["kexalgorithms"])
    assert set(proposed[1]) <= set(ssh["hostkeyalgorithms"])
    assert set(proposed[2]) | set(proposed[3]) <= set(ssh["ciphers"])
    assert set(proposed[4]) | set(proposed[5]) <= set(ssh["macs"])
    assert all(proposed[:8])


def connect(client: Client, volume: Volume) -> CompletedProcess[str]:
    """Let ssh do what it does for sshfs."""
    config = client.directory / "ssh_config"
    login = client.preflight.keyring.login(volume.credentials)
    config.write_text(sshfs.ssh_config(volume, login, client.preflight.known_hosts))
    remote = volume.remote
    return command.run(["ssh", "-F", config, "-s", f"{remote.user}@{remote.host}", "sftp"], seconds=5)


@pytest.mark.parametrize(
    ("pin", "opts"),
    [
        ("", {}),
        ("", {"host_key_check": "no"}),
        ("rsa", {}),
        ("ecdsa", {}),
    ],
    ids=["new", "unchecked", "pinned rsa", "pinned ecdsa"],
)
def test_preflight_when_it_has_passed_ssh_gets_in_as_well(
    client: Client, files: Path, keys: dict[str, Path], pin: str, opts: dict[str, str]
) -> None:
    key = keys["ecdsa-PEM" if pin else "ed25519"]  # with RSA keys ssh wants more of a server than paramiko's has
    pinned = {"host_key": shown(pin).fingerprint} if pin else {}
    account = Account(directory=files, keys=[public(key)], ways=[(KEY,)])
    with serving(account, [host_key(kind) for kind in ANY_KIND]) as server:
        volume = client.volume(server, IdentityFile=str(key), **opts, **pinned)
        client.preflight.run(volume, Deadline.after(5))
        ssh = connect(client, volume)
    assert ssh.returncode == 0, ssh.stderr


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this host")
def test_preflight_when_it_has_reached_an_address_in_an_odd_form_ssh_finds_its_host_key(
    client: Client, files: Path, keys: dict[str, Path]
) -> None:
    key = keys["ed25519"]
    with serving(Account(directory=files, keys=[public(key)], ways=[(KEY,)]), address="::1") as server:
        volume = client.volume(server, host="[0:0:0::0:1]", IdentityFile=str(key))
        client.preflight.run(volume, Deadline.after(5))
        assert client.known == line("::1", server.port, shown())
        ssh = connect(client, volume)
    assert (ssh.returncode, ssh.stderr) == (0, "")


# A directory that is made


def make(client: Client, server: Server, path: str) -> None:
    volume = client.volume(server, path, password="hunter2", create_directory="")
    client.preflight.run(volume, Deadline.after(5), creating=True)


def test_directory_when_it_is_to_be_made_is_made_with_those_above_it(client: Client, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", changes=("mkdir",))) as server:
        make(client, server, "/photos/2024/a, b/größe")
        make(client, server, "relative/to/home")
        make(client, server, "/photos")
        make(client, server, "")
    assert (files / "photos/2024/a, b/größe").is_dir()
    assert (files / "relative/to/home").is_dir()
    assert (files / "photos/a.jpg").exists()


def test_directory_when_it_may_not_be_made_says_which_one(client: Client, server: Server) -> None:
    with pytest.raises(errors.DirectoryUnusable) as refused:
        make(client, server, "/photos/2024/may")
    assert str(refused.value) == (
        "cannot make the directory /photos/2024 on 127.0.0.1 for bob, permission denied: "
        "give it the right to write in the directory above, or make it by hand"
    )


def test_directory_when_it_is_missing_later_is_not_made(client: Client, files: Path) -> None:
    """A disk that is not there must not be hidden by an empty directory in its place."""
    with serving(Account(directory=files, password="hunter2", changes=("mkdir",))) as server:
        make(client, server, "/photos/2024")
        (files / "photos/2024").rmdir()
        error = client.refusal(server, "/photos/2024", password="hunter2", create_directory="")
    assert str(error) == (
        "the directory /photos/2024 does not exist on 127.0.0.1 for bob: docker volume create makes it "
        "(create_directory), and nothing else does: if the volume is there already, the directory has gone, or a disk "
        "of the server is missing"
    )
    assert not (files / "photos/2024").exists()


def test_directory_when_missing_and_an_option_was_taken_for_a_part_of_it_says_so(
    client: Client, server: Server
) -> None:
    error = client.refusal(server, "/photos,uid=1000", password="hunter2")
    assert str(error) == (
        "the directory /photos,uid=1000 does not exist on 127.0.0.1 for bob: "
        "a comma is part of the directory; if an option was meant, say -o uid=1000 by itself"
    )


@pytest.mark.parametrize(("path", "there"), [("/link/below", "link"), ("/photos/a.jpg/below", "a file")])
def test_directory_when_something_else_is_in_the_way_says_so(
    client: Client, files: Path, path: str, there: str
) -> None:
    (files / "link").symlink_to("nowhere")
    with (
        serving(Account(directory=files, password="hunter2", changes=("mkdir",))) as server,
        pytest.raises(errors.DirectoryUnusable, match="something that is no directory may be in the way") as refused,
    ):
        make(client, server, path)
    assert "Errno" not in str(refused.value), there


# What this host alone can tell


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        ({"IPQoS": "foo"}, "option 'IPQoS' is not what ssh takes, it says: Bad IPQoS value: foo"),
        ({"RekeyLimit": "1"}, "option 'RekeyLimit' is not what ssh takes, it says: RekeyLimit too small"),
        ({"Ciphers": "+foo"}, "option 'Ciphers' is not what ssh takes, it says: Bad SSH2 cipher spec '+foo'."),
        ({"MACs": "*"}, "option 'MACs' is not what ssh takes, it says: Bad SSH2 MAC spec '*'."),
        ({"BindInterface": "nope"}, "option 'BindInterface' names a network interface that this host does not have"),
        (
            {"idmap": "file", "uidfile": "/nope, or not"},
            "option 'uidfile' names /nope, or not, which can't be seen on this host (No such file or directory): is it",
        ),
        ({"known_hosts": "/nope"}, "option 'known_hosts' names /nope, which can't be seen on this host (No such file"),
        ({"known_hosts": f"/{'k' * 256}"}, "option 'known_hosts' names /kkk"),
        ({"known_hosts": "/etc"}, "option 'known_hosts' names /etc, which is not a file"),
        (
            {"modules": "iconv", "from_code": "NOPE"},
            "option 'from_code' is a character set that iconv does not know, as iconv -l lists them",
        ),
    ],
)
def test_option_when_this_host_can_not_follow_it_is_refused_before_the_server_is_asked(
    client: Client, server: Server, opts: Any, said: str
) -> None:
    error = client.refusal(server, password="hunter2", **opts)
    assert isinstance(error, errors.InvalidOption)
    assert str(error).startswith(said)
    assert server.connections == 0


def test_known_hosts_when_it_would_be_waited_for_is_not_opened(client: Client, server: Server, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    said = str(client.refusal(server, password="hunter2", known_hosts=str(tmp_path / "fifo")))
    assert said == f"option 'known_hosts' names {tmp_path}/fifo, which is not a file"
    os.mkfifo(client.directory / ".ssh/known_hosts")
    client.run(server, password="hunter2")
