# SPDX-License-Identifier: MIT
"""The checks before the login: resolve the name, connect, exchange keys. Nothing secret is sent yet."""

import queue
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeAlias

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline, time_limit
from sshfs_plugin.host import interfaces
from sshfs_plugin.preflight import algorithms
from sshfs_plugin.preflight.ssh import (
    FAILURES,
    GRACE_SECONDS,
    closed_on_failure,
    ended_at,
    fell_silent,
    paramiko,
    reason,
)
from sshfs_plugin.preflight.transport import TooLong, Transport
from sshfs_plugin.volume import Remote, Volume

Address: TypeAlias = tuple[int, int, int, str, Any]
"""What :func:`socket.getaddrinfo` returns: family, kind, protocol, canonical name and the address itself."""

NO_KEYWORDS: Mapping[str, str] = MappingProxyType({})

_TURNED_AWAY = ("Exceeded MaxStartups", "Not allowed at this time")
"""What sshd sends instead of its version, if anything, to clients beyond MaxStartups or with a penalty."""

_PROHIBITED = 1
"""SSH_OPEN_ADMINISTRATIVELY_PROHIBITED of RFC 4254."""

_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}


def resolve(remote: Remote, seconds: float, keywords: Mapping[str, str] = NO_KEYWORDS) -> list[Address]:
    """Return the addresses that a server's name stands for, in the order in which to try them.

    The C library's resolver takes no time limit, and may need half a minute or more. So it is called in a thread, which
    is left behind if it takes too long.

    Args:
        remote: The server.
        seconds: How long it may take.
        keywords: The volume's keywords of ssh_config, with their values.

    Raises:
        HostUnresolved: There is no such name, or it was not resolved in time.
    """
    family = _FAMILIES.get(keywords.get("AddressFamily", ""), socket.AF_UNSPEC)
    answer: queue.SimpleQueue[list[Address] | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(list(socket.getaddrinfo(remote.host, remote.port, family, socket.SOCK_STREAM)))
        except (socket.gaierror, UnicodeError):
            answer.put(None)

    threading.Thread(target=ask, name=f"resolve {remote.host}", daemon=True).start()
    try:
        addresses = answer.get(timeout=time_limit(seconds))
    except queue.Empty:
        raise errors.HostUnresolved(
            f"the host name {remote.host} was not resolved in time", "can this host reach its DNS server?"
        ) from None
    if addresses is None:
        raise errors.HostUnresolved(
            f"the host name {remote.host} does not resolve to an address",
            "is it spelled right, and does this host's DNS or /etc/hosts know it? (names of containers are not known "
            f"here, and ~/.ssh/config is not read: ssh -G {remote.host} shows the hostname, port, user and "
            "identityfile to say as options)",
        )
    return addresses


def connect(
    remote: Remote, addresses: list[Address], seconds: float, keywords: Mapping[str, str] = NO_KEYWORDS
) -> socket.socket:
    """Return a connection to the first address that takes one.

    Args:
        remote: The server.
        addresses: As :func:`resolve` returns them.
        seconds: How long all of them may take together; those to which there is no route take no share of it, and
            one that fails at once leaves its own to the others.
        keywords: The volume's keywords of ssh_config, with their values.

    Raises:
        HostUnresolved: The source that the volume names does not stand for an address.
        HostUnreachable: None of the addresses takes a connection, or has the family of that source.
    """
    limit, refused = Deadline.after(seconds), None
    sources = _sources(remote, addresses, seconds, keywords)
    addresses = [each for each in addresses if sources is None or each[0] in sources]
    may_answer = [_has_route(each) for each in addresses]
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        try:
            connection = socket.socket(family, kind, protocol)
        except OSError as error:  # a name may have IPv6 addresses where the kernel has no IPv6
            refused = refused or error
            continue
        connection.settimeout(time_limit(limit.left() / max(1, sum(may_answer[number:]))))
        try:
            if sources is not None:
                connection.bind(sources[family])
            connection.connect(address)
        except OSError as error:
            connection.close()
            refused = refused or error
        else:
            # as ssh does; else each small packet waits until the one before is acknowledged, up to 40 ms
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
    raise _unreachable(remote, refused) from None


def _has_route(address: Address) -> bool:
    """Tell whether packets to an address would leave this host; none does. IPv6 addresses may be of no use here."""
    family, _, _, _, there = address
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(there)
    except OSError:
        return False
    return True


def _sources(
    remote: Remote, addresses: list[Address], seconds: float, keywords: Mapping[str, str]
) -> dict[int, Any] | None:
    """Return the address of each family from which a volume wants to connect; None if it does not mind.

    Raises:
        HostUnresolved: The name that the volume gives does not stand for an address.
        HostUnreachable: It stands for none from which one of the server's addresses could be reached.
    """
    if named := keywords.get("BindAddress"):
        # bind() itself would resolve a name, without a limit
        option, sources = "BindAddress", _by_family(resolve(replace(remote, host=named, port=0), seconds, keywords))
    elif interface := keywords.get("BindInterface"):
        option, sources = "BindInterface", interfaces.addresses(interface)
        if not sources:
            raise errors.HostUnreachable(
                f"cannot connect to {remote.server}, the interface '{interface}' of 'BindInterface' has no address",
                f"is it up? ip address show {interface} tells",
            )
    else:
        return None
    if not any(family in sources for family, *_ in addresses):
        raise errors.HostUnreachable(
            f"cannot connect to {remote.server}, '{option}' names no address of the same family (IPv4 or IPv6)",
            f"leave that option{' or AddressFamily' if 'AddressFamily' in keywords else ''} out",
        )
    return sources


def _by_family(addresses: list[Address]) -> dict[int, Any]:
    """Return the first address of each family."""
    return {family: address for family, *_, address in reversed(addresses)}


def connect_through(jump: Transport, name: str, remote: Remote, seconds: float) -> paramiko.Channel:
    """Return a connection that a jump host makes; there the server's name is resolved.

    Args:
        jump: The connection to the jump host, logged in.
        name: The jump host's name.
        remote: The server.
        seconds: How long it may take.

    Raises:
        ForwardingRefused: The jump host lets the login connect nowhere, or not there.
        HostUnreachable: It can't connect.
    """
    subject = f"the jump host {name} cannot connect to {remote.server}"
    there = (remote.host, remote.port)
    seconds = time_limit(seconds)
    limit = Deadline.after(seconds + GRACE_SECONDS)
    try:
        with ended_at(limit, jump):  # paramiko's own limit begins when the jump host has taken the question
            return jump.open_channel("direct-tcpip", there, ("127.0.0.1", 0), timeout=seconds)
    except paramiko.ChannelException as refusal:
        if refusal.code == _PROHIBITED:
            raise errors.ForwardingRefused(
                f"the jump host {name} does not let the login connect to {remote.server}",
                "its sshd_config needs AllowTcpForwarding yes or local, PermitOpen must not leave that server out, nor "
                "must what stands before the key in authorized_keys",
            ) from None
        said = errors.last_words([refusal.text]) or "connection refused"
        hint = "does the jump host know that name, is an SSH server running there, and is 'port' right?"
        raise errors.HostUnreachable(f"{subject}, {said[0].lower()}{said[1:]}", hint) from None
    except FAILURES:
        if jump.has_gone():
            raise _gone(name, remote) from None
        raise errors.HostUnreachable(
            f"{subject}, no answer in time", "is there a route to it, and does a firewall let it in?"
        ) from None


@contextmanager
def naming_jump_hosts(volume: Volume, jump: Transport | None) -> Iterator[None]:
    """Raise an error that names a jump host if the connection to it has ended, and with it that to the server.

    Args:
        volume: The volume that is checked.
        jump: The connection to the last of its jump hosts, if it has any.
    """
    try:
        yield
    except (errors.TurnedAway, errors.NegotiationFailed, errors.LoginUnfinished, errors.SFTPUnavailable) as error:
        gone = ""
        for host in reversed(volume.jumps):
            if not (jump and jump.has_gone()):
                break
            gone, jump = host.remote_name, jump.beneath
        if gone:
            raise _gone(gone, volume.remote) from error
        raise


def _gone(name: str, remote: Remote) -> errors.HostUnreachable:
    return errors.HostUnreachable(
        f"the jump host {name} has closed the connection to {remote.server}",
        "its log tells why; it may be overloaded or have been restarted",
    )


def _unreachable(remote: Remote, error: OSError | None) -> errors.HostUnreachable:
    subject = f"cannot connect to {remote.server}"
    if isinstance(error, ConnectionRefusedError):
        return errors.HostUnreachable(
            f"{subject}, connection refused", "is an SSH server running there, and is 'port' right?"
        )
    if isinstance(error, TimeoutError):
        return errors.HostUnreachable(
            f"{subject}, no answer in time", "is the server on, and does a firewall let this host in?"
        )
    reason = (error.strerror if error else None) or "no address"
    return errors.HostUnreachable(f"{subject}, {reason[0].lower()}{reason[1:]}", "is there a route to it?")


def exchange_keys(
    remote: Remote,
    connection: "socket.socket | paramiko.Channel",
    kinds: tuple[str, ...],
    seconds: float,
    keywords: Mapping[str, str] = NO_KEYWORDS,
) -> Transport:
    """Exchange keys with whatever answers, and so see its host key; nothing secret is sent yet.

    Args:
        remote: The server, for errors.
        connection: The connected socket, which belongs to the transport from now on.
        kinds: Which kinds of host key are asked for, the preferred one first unless the volume says another order.
        seconds: How long it may take.
        keywords: The volume's keywords of ssh_config, with their values.

    Raises:
        NotAnSSHServer: Something else answers.
        TurnedAway: The connection is closed at once.
        NegotiationFailed: The server has no host key of these kinds, nothing else in common, or broke off.
        ServerSilent: It does not answer in time.
    """
    transport = algorithms.transport(connection, keywords)
    seconds = time_limit(seconds)
    transport.banner_timeout = transport.handshake_timeout = seconds + 1  # so that start_client's own limit ends first
    offered = transport.get_security_options()
    wanted = _kinds_to_ask_for(offered.key_types, kinds, keywords)
    if not wanted:
        connection.close()
        raise _no_kind_of_host_key_left(remote)
    offered.key_types = wanted
    try:
        transport.start_client(timeout=seconds)
    except FAILURES as error:
        transport.close()
        # a list that begins with a plus leaves none out
        if keywords.get("HostKeyAlgorithms", "+")[0] != "+" and "no acceptable host key" in str(error):
            raise _no_kind_of_host_key_left(remote) from error
        raise _negotiation_failed(remote, transport, error) from error
    if not transport.initial_kex_done:  # paramiko raises no error when the time is up
        transport.close()
        raise fell_silent(remote) if transport.remote_version else _greets_too_late(remote)
    with closed_on_failure(transport):
        _require_long_enough(remote, transport, keywords)
    return transport


def _kinds_to_ask_for(offered: Sequence[str], kinds: tuple[str, ...], keywords: Mapping[str, str]) -> list[str]:
    """Return those of some kinds of host key that a volume lets in, in the order in which ssh would ask for them."""
    if algorithms.is_in_order(keywords.get("HostKeyAlgorithms", "")):
        return [kind for kind in offered if kind in kinds]
    return [kind for kind in kinds if kind in offered]


def _require_long_enough(remote: Remote, transport: Transport, keywords: Mapping[str, str]) -> None:
    """Raise NegotiationFailed if the host key that was shown is an RSA key and shorter than RequiredRSASize."""
    shown, least = transport.shown_key, int(keywords.get("RequiredRSASize", 0))
    if isinstance(shown, paramiko.RSAKey) and shown.get_bits() < least:
        raise errors.NegotiationFailed(
            f"the host key of {remote.server} is an RSA key of {shown.get_bits()} bits, "
            f"and RequiredRSASize wants {least}",
            "let the server have a longer one, or leave that option out",
        )


def _negotiation_failed(remote: Remote, transport: Transport, error: Exception) -> errors.PreflightError:
    if isinstance(error, TooLong):
        return _no_ssh(remote, f"it sends {reason(error)}")
    if not transport.remote_version:
        words = errors.last_words(dict.fromkeys(transport.first_words.decode("utf-8", "replace").splitlines()))
        if words in _TURNED_AWAY or not transport.first_words:
            return _turned_away(remote, f" with the words '{words}'" if words else "")
        return _no_ssh(remote, f"it says '{words}'")
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        return errors.NegotiationFailed(
            f"the SSH server at {remote.server} shares no algorithm with the check ({reason(error)})",
            "if ssh itself can log in there, say -o check=never for the volume",
        )
    return errors.NegotiationFailed(
        f"the SSH server at {remote.server} broke the connection off ({reason(error)})",
        "its log tells why; it may be overloaded or have banned this host",
    )


def _no_kind_of_host_key_left(remote: Remote) -> errors.NegotiationFailed:
    return errors.NegotiationFailed(
        f"HostKeyAlgorithms leaves no kind of host key that {remote.server} could show", "leave that option out"
    )


def _greets_too_late(remote: Remote) -> errors.ServerSilent:
    return errors.ServerSilent(
        f"{remote.server} accepts the connection but has not spoken SSH in time",
        "is the server overloaded or frozen? if it is no SSH server, 'port' is wrong",
    )


def _turned_away(remote: Remote, words: str) -> errors.TurnedAway:
    return errors.TurnedAway(
        f"{remote.server} closed the connection at once{words}",
        "it may let only so many connections in at a time, be overloaded or have banned this host; "
        "if no SSH server is meant to be there, 'port' is wrong",
    )


def _no_ssh(remote: Remote, why: str) -> errors.NotAnSSHServer:
    return errors.NotAnSSHServer(f"what answers at {remote.server} is not an SSH server, {why}", "is 'port' right?")
