# SPDX-License-Identifier: MIT
"""The checks of name, connection and SSH server, against real servers and impostors on loopback."""

import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.impostors import closed_port, impostor, silent_port
from support.remotes import describe
from support.ssh_client import HOST, Client, only
from support.ssh_server import Account, Server, serving
from support.waiting import LIMIT_SECONDS, soon

from sshfs_plugin import errors, options
from sshfs_plugin.host import interfaces
from sshfs_plugin.options.remotes import Remotes
from sshfs_plugin.preflight.connection import Address
from sshfs_plugin.volume import VolumeName

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
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [over.wait(LIMIT_SECONDS)])
    started = time.monotonic()
    error = client.refusal(22, seconds=0.3)
    over.set()
    assert time.monotonic() - started < LIMIT_SECONDS / 2
    assert isinstance(error, errors.HostUnresolved)
    assert str(error) == "the host name 127.0.0.1 was not resolved in time: can this host reach its DNS server?"


def test_source_when_nobody_resolves_its_name_gives_up_at_the_deadline(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, known = threading.Event(), socket.getaddrinfo

    def slowly(host: str, *rest: Any) -> list[Any]:
        return [over.wait(LIMIT_SECONDS)] if host == "slow.invalid" else known(host, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    error = client.refusal_in_time(server, "slow.invalid", BindAddress="slow.invalid")
    over.set()
    assert str(error) == "the host name slow.invalid was not resolved in time: can this host reach its DNS server?"


def test_connection_when_refused_asks_for_server_and_port(client: Client) -> None:
    port = closed_port()
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
    monkeypatch.setattr(socket, "getaddrinfo", reached_at(closed_port()))
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
    assert isinstance(error, errors.LoginRefused if password == "wrong" else errors.DirectoryMissing)
    there = path.removeprefix("3300").lstrip(":")
    assert error.hint.startswith(f"if 3300 is meant to be the port, say -o port=3300 -o sshcmd=bob@127.0.0.1:{there}; ")
    # to make a directory there would be the wrong advice
    assert error.hint.endswith(f"; a directory that is called so is ./{path}") is (password == "hunter2")


def test_any_check_when_the_port_is_said_and_said_again_in_the_directory_says_what_was_meant(
    client: Client, server: Server
) -> None:
    error = client.refusal(server, f"{server.port}/photos", password="hunter2")
    assert isinstance(error, errors.DirectoryUnusable)
    said = f"-o port={server.port} -o sshcmd=bob@127.0.0.1:/photos"
    meant = f"a directory that is called so is ./{server.port}/photos"
    assert error.hint == f"if {server.port} is meant to be the port, say {said}; {meant}"


def test_connection_when_a_file_says_the_port_asks_for_none(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", reached_at(closed_port()))
    remotes = Remotes(tmp_path)
    describe(remotes, "host = nas\nuser = bob\npassword = hunter2\n")
    opts = {"remote": "nas", "directory": "3300/photos"}
    volume = options.parse(VolumeName("photos"), opts, datetime.now(UTC), remotes)
    with pytest.raises(errors.HostUnreachable, match="is an SSH server running there, and is 'port' right?"):
        client.preflight.run(volume, soon())


@pytest.mark.parametrize("path", ["2024/photos", "/3300/photos"])
def test_any_check_when_the_directory_has_a_number_and_the_port_is_said_asks_for_none(
    client: Client, server: Server, path: str
) -> None:
    assert "the port" not in client.refusal(server, path, password="hunter2").hint


def test_connection_when_nobody_answers_gives_up_at_the_deadline(client: Client) -> None:
    with silent_port() as port:
        error = client.refusal_in_time(port, "cannot connect", password="hunter2")
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
    dead, alive = (HOST, closed_port()), (HOST, server.port)
    # a family that this kernel lacks, as IPv6 on a host that was booted without it
    lacking = (socket.AF_APPLETALK, socket.SOCK_STREAM, 0, "", dead)
    addresses = [lacking, *((socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in (dead, alive))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    client.run(server, host="nas", password="hunter2")
    assert server.seen


def test_connection_when_no_address_answers_gives_all_of_them_together_the_time_of_one(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent_port() as port:
        addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (HOST, port))] * 8
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        started = time.monotonic()
        error = client.refusal(port, host="nas", password="hunter2", ConnectTimeout="1")
    assert "no answer in time" in str(error)
    assert time.monotonic() - started < 6, "and not eight seconds"


@pytest.mark.parametrize(
    ("why", "is_first"),
    # that an address will refuse the connection is not known before it does
    [("no route", True), ("no route", False), ("not of the family", True), ("refused", False)],
)
def test_connection_when_only_one_address_can_answer_gives_it_the_whole_time(
    client: Client, monkeypatch: pytest.MonkeyPatch, why: str, is_first: bool
) -> None:
    other: Address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", (HOST, closed_port()))
    if why != "refused":  # a link-local address without the link
        other = (socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("fe80::1", 22, 0, 0))
    option: Any = {"BindAddress": HOST} if why == "not of the family" else {}
    known = socket.getaddrinfo
    with silent_port() as port:
        slow = (socket.AF_INET, socket.SOCK_STREAM, 0, "", (HOST, port))
        addresses = [slow, other] if is_first else [other, slow]
        monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_: addresses if host == "nas" else known(host, *_))
        started = time.monotonic()
        client.refusal(port, host="nas", password="hunter2", ConnectTimeout="1", **option)
    assert time.monotonic() - started > 0.9, "and not half a second"


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
    with impostor(says, hangs_up=True) as port:
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
    with impostor(says, hangs_up=True) as port:
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
    with impostor(says) as port:
        error = client.refusal(port, password="hunter2")
    assert time.monotonic() - started < 3
    assert isinstance(error, errors.NotAnSSHServer)
    assert str(error).startswith(f"what answers at 127.0.0.1 port {port} is not an SSH server, {why}")


@pytest.mark.parametrize("says", [b"", b"220 mail.example.org ESMTP\r\n"], ids=["nothing", "a greeting"])
def test_server_when_it_waits_for_ever_is_named(client: Client, says: bytes) -> None:
    with impostor(says) as port:
        error = client.refusal_in_time(port, "accepts the connection", password="hunter2")
    assert isinstance(error, errors.ServerSilent)
    assert str(error) == (
        f"127.0.0.1 port {port} accepts the connection but has not spoken SSH in time: "
        "is the server overloaded or frozen? if it is no SSH server, 'port' is wrong"
    )


def test_server_when_it_stops_answering_after_its_banner_says_so(client: Client) -> None:
    with impostor(b"SSH-2.0-OpenSSH_9.2\r\n") as port:
        error = client.refusal_in_time(port, "stopped answering", password="hunter2")
    assert isinstance(error, errors.ServerSilent)
    assert str(error) == (
        f"the SSH server at 127.0.0.1 port {port} stopped answering: "
        "it may be overloaded, or large packets get lost on the way (MTU)"
    )


def test_server_when_it_hangs_up_after_its_banner_says_so(client: Client) -> None:
    with impostor(b"SSH-2.0-OpenSSH_9.2\r\n", hangs_up=True) as port:
        error = client.refusal(port, password="hunter2")
    assert isinstance(error, errors.NegotiationFailed)
    assert str(error).startswith(f"the SSH server at 127.0.0.1 port {port} broke the connection off (")
    assert "()" not in str(error)
    assert str(error).endswith("its log tells why; it may be overloaded or have banned this host")


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


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ({"BindAddress": "::1"}, "leave that option out"),
        ({"BindInterface": "lo"}, "leave that option out"),
        ({"BindInterface": "lo", "AddressFamily": "inet"}, "leave that option or AddressFamily out"),
    ],
)
def test_server_when_the_volume_names_a_source_of_another_family_says_which_option(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch, option: Any, hint: str
) -> None:
    monkeypatch.setattr(interfaces, "addresses", lambda _name: {socket.AF_INET6: ("::1", 0, 0, 1)})
    error = client.refusal(server, password="hunter2", **option)
    assert isinstance(error, errors.HostUnreachable)
    assert str(error) == (
        f"cannot connect to 127.0.0.1 port {server.port}, '{next(iter(option))}' names no address of the same family "
        f"(IPv4 or IPv6): {hint}"
    )


def test_server_when_the_interface_of_the_volume_has_no_address_says_so(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interfaces, "addresses", lambda _name: {})
    assert str(client.refusal(server, password="hunter2", BindInterface="lo")) == (
        f"cannot connect to 127.0.0.1 port {server.port}, the interface 'lo' of 'BindInterface' has no address: "
        "is it up? ip address show lo tells"
    )


def test_server_when_the_volume_says_a_way_that_works_is_found(client: Client, server: Server) -> None:
    client.run(server, password="hunter2", AddressFamily="inet", BindAddress="127.0.0.2")


def test_server_when_it_speaks_the_first_ssh_protocol_is_refused(client: Client) -> None:
    with impostor(b"SSH-1.5-OpenSSH_2.0\r\n", hangs_up=True) as port:
        error = client.refusal(port, password="hunter2")
    assert "Incompatible version (1.5 instead of 2.0)" in str(error)


@pytest.mark.parametrize("prime", [-(2**2047) - 1, -(2**2047), 2 ** (64 * 1024) + 1], ids=["negative", "zeros", "huge"])
def test_server_whose_prime_is_none_is_refused_at_once(client: Client, files: Path, prime: int) -> None:
    """Numbers with which paramiko would look for another one for ever, or would take long to read."""

    def tune(transport: Any) -> None:
        transport._modulus_pack = SimpleNamespace(get_modulus=lambda *_: (2, prime))
        only("kex", "diffie-hellman-group-exchange-sha256")(transport)

    with serving(Account(directory=files, password="hunter2"), tune=tune) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.NegotiationFailed)
    assert "broke the connection off (a number that no key exchange has)" in str(error)
