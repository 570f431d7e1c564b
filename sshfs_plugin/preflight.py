# SPDX-License-Identifier: MIT
"""The ladder: whether a server can serve a volume, climbed rung by rung with paramiko before sshfs is started.

Resolve the name, connect, exchange keys, verify the host key, log in, open SFTP, look at the directory. Each rung has
its own error with its own cure, where sshfs would say "read: Connection reset by peer" to nearly all of them (sshfs
facts, section 6). It writes nothing on the server. Only algorithms that Debian's ssh accepts by default are offered,
so that what passes here passes there.
"""

import contextlib
import functools
import io
import logging
import socket
import stat
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from sshfs_plugin import errors
from sshfs_plugin.credentials import Keyring, Login
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.known_hosts import SSH_PORT, HostKey, KnownHosts, pattern
from sshfs_plugin.volume import HostKeyCheck, Remote, Volume, VolumeName

with warnings.catch_warnings():
    # paramiko 2.12 names ciphers that its cryptography deprecates; they are not offered below
    warnings.simplefilter("ignore")
    import paramiko  # noqa: TID251 (this is the place)

log = logging.getLogger(__name__)
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

HOST_KEY_KINDS = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256"),
)
"""Families of host keys, in the order in which they are asked for; ssh-rsa with SHA-1 is refused by ssh as well."""

_NOT_IN_SSH = {
    "keys": ["ssh-rsa", "ssh-dss"],
    "pubkeys": ["ssh-rsa", "ssh-dss"],
    "kex": [
        "diffie-hellman-group-exchange-sha1",
        "diffie-hellman-group14-sha1",
        "diffie-hellman-group1-sha1",
    ],
    "ciphers": ["aes128-cbc", "aes192-cbc", "aes256-cbc", "3des-cbc"],
    "macs": ["hmac-md5", "hmac-sha1-96", "hmac-md5-96"],
}

_ANSWER_SECONDS = 20.0

_SFTP_FAILURES = (paramiko.SSHException, paramiko.SFTPError, OSError, EOFError)

_BY_KEY, _BY_PASSWORD = {"publickey"}, {"password", "keyboard-interactive"}

_WAYS_IN = {"publickey": "a key", "password": "a password", "keyboard-interactive": "a typed password"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Climbs the ladder for volumes.

    Attributes:
        keyring: Where this host keeps what volumes log in with.
        known_hosts: The host keys that it knows.
    """

    keyring: Keyring
    known_hosts: KnownHosts

    def climb(self, volume: Volume, deadline: Deadline) -> None:
        """Pass if the server can serve the volume as asked, and remember its host key if it is new.

        Raises:
            CredentialsError: What to log in with can't be used; the server was not asked.
            PreflightError: The first rung that broke.
        """
        login = self.keyring.login(volume.credentials)
        with self._verified(volume, deadline) as (transport, host_key):
            _log_in(transport, volume.remote, login, deadline)
            _look_at_directory(transport, volume.remote, deadline)
            self._remember(volume, host_key)

    def forget(self, name: VolumeName) -> None:
        """Drop what is remembered for a volume alone: its pinned host key."""
        self.known_hosts.unpin(name)

    @contextlib.contextmanager
    def _verified(self, volume: Volume, deadline: Deadline) -> Iterator[tuple[paramiko.Transport, HostKey]]:
        """Connect, and go on only if the server is the one that it claims to be.

        A server has keys of several kinds and shows one: the known or pinned one may be of a kind that is not asked
        for first, so the others are asked for before the key counts as wrong.
        """
        known = self.known_hosts.lookup(volume.remote.host, volume.remote.port)
        families = sorted(HOST_KEY_KINDS, key=lambda kinds: not _any_known(known, kinds))
        problems: list[errors.PreflightError] = []
        for kinds in families if volume.pinned_host_key else (tuple(sum(families, ())),):
            try:
                transport = _exchange_keys(volume, deadline, kinds)
            except errors.NegotiationFailed as error:
                problems.append(error)
                continue
            try:
                shown = transport.get_remote_server_key()
                host_key = HostKey(kind=shown.get_name(), blob=shown.asbytes())
                if refusal := _refusal(volume, host_key, known):
                    problems.append(refusal)
                    continue
                yield transport, host_key
                return
            finally:
                transport.close()
        # a key that was shown and refused says more than a kind of key that the server lacks
        raise next((problem for problem in problems if isinstance(problem, errors.HostKeyError)), problems[0])

    def _remember(self, volume: Volume, host_key: HostKey) -> None:
        host, port = volume.remote.host, volume.remote.port
        if volume.pinned_host_key:
            self.known_hosts.pin(volume.name, host, port, host_key)
        elif volume.host_key_check is HostKeyCheck.ACCEPT_NEW:
            self.known_hosts.add(host, port, host_key)


def _any_known(known: tuple[HostKey, ...], kinds: tuple[str, ...]) -> bool:
    return any(key.kind in kinds or (key.kind == "ssh-rsa" and "rsa-sha2-512" in kinds) for key in known)


def _refusal(volume: Volume, shown: HostKey, known: tuple[HostKey, ...]) -> errors.HostKeyError | None:
    """Judge a host key as ssh would, but take none of another kind than those that are known.

    To ssh such a key is new, so with accept-new a stranger need only show a kind that was never seen before.
    """
    remote = volume.remote
    if volume.pinned_host_key:
        if shown.fingerprint == volume.pinned_host_key:
            return None
        return errors.HostKeyNotPinned(
            f"the host key of {remote.server} is {shown.fingerprint}, not the pinned {volume.pinned_host_key}",
            "either this is another server, or the option 'host_key' is out of date",
        )
    if volume.host_key_check is HostKeyCheck.NO:
        return None
    same = [key for key in known if key.blob == shown.blob]
    if any(key.revoked for key in same):
        return errors.HostKeyChanged(
            f"the host key of {remote.server}, {shown.fingerprint}, is marked as revoked",
            "do not trust this server before its administrator has explained it",
        )
    if same:
        return None
    valid = [key for key in known if not key.revoked]
    if other := min(valid, key=lambda key: key.kind != shown.kind, default=None):
        return errors.HostKeyChanged(
            f"the host key of {remote.server} has changed from {other.fingerprint} to {shown.fingerprint}",
            f"somebody may be in between; if the server was set up anew, remove its old key: {_forget(remote, other)}",
        )
    if volume.host_key_check is HostKeyCheck.YES:
        return errors.HostKeyUnknown(
            f"the host key of {remote.server} is not known, it is {shown.fingerprint}",
            "verify it on the server (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) and say "
            f"-o host_key={shown.fingerprint}, or leave host_key_check=yes out to trust it",
        )
    return None


def _forget(remote: Remote, key: HostKey) -> str:
    return f"ssh-keygen -R '{pattern(remote.host, remote.port)}' -f {key.file}"


def _connect(remote: Remote, seconds: float) -> socket.socket:
    try:
        addresses = socket.getaddrinfo(remote.host, remote.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise errors.HostUnresolved(
            f"the host name {remote.host} does not resolve to an address",
            "is it spelled right, and does this host's DNS or /etc/hosts know it? "
            "(container names are not known here)",
        ) from None
    refused: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        try:
            connection = socket.socket(family, kind, protocol)
        except OSError as error:  # a name may have IPv6 addresses where the kernel has no IPv6
            refused = refused or error
            continue
        connection.settimeout(max(0.1, seconds / len(addresses)))
        try:
            connection.connect(address)
        except OSError as error:
            connection.close()
            refused = refused or error
        else:
            # as ssh does; else each small packet waits for the one before to be acknowledged, up to 40 ms
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
    raise _unreachable(remote, refused) from None


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


def _exchange_keys(volume: Volume, deadline: Deadline, kinds: tuple[str, ...]) -> paramiko.Transport:
    """Make an encrypted connection to whoever answers; nothing secret is sent yet."""
    remote = volume.remote
    connection = _connect(remote, deadline.left(_connect_timeout(volume)))
    transport = paramiko.Transport(connection, disabled_algorithms=_NOT_IN_SSH)
    seconds = max(0.1, deadline.left(_connect_timeout(volume)))
    transport.banner_timeout = transport.handshake_timeout = seconds + 1  # start_client's limit is to come first
    transport.get_security_options().key_types = [kind for kind in kinds if kind in transport.preferred_keys]
    try:
        transport.start_client(timeout=seconds)
    except (paramiko.SSHException, OSError, EOFError) as error:
        transport.close()
        raise _negotiation_failed(remote, error) from error
    if not transport.initial_kex_done:  # paramiko goes on without a word when the time is up
        transport.close()
        raise _fell_silent(remote) if transport.remote_version else _no_ssh(remote)
    return transport


def _connect_timeout(volume: Volume) -> float:
    return float(dict(volume.ssh_options)["ConnectTimeout"])


def _negotiation_failed(remote: Remote, error: Exception) -> errors.PreflightError:
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        return errors.NegotiationFailed(
            f"the SSH server at {remote.server} shares no algorithm with the check ({error})",
            "if ssh itself can log in there, say -o check=never",
        )
    if "banner" in str(error) or "protocol version" in str(error):
        return _no_ssh(remote)
    return errors.NegotiationFailed(
        f"the SSH server at {remote.server} broke the connection off ({_reason(error)})",
        "its log tells why; it may be overloaded or have banned this host",
    )


def _no_ssh(remote: Remote) -> errors.NotAnSSHServer:
    return errors.NotAnSSHServer(
        f"what answers at {remote.server} is not an SSH server",
        "is 'port' right? (an SSH server that is overloaded or has banned this host may hang up like this, too)",
    )


def _fell_silent(remote: Remote) -> errors.HostUnreachable:
    return errors.HostUnreachable(
        f"the SSH server at {remote.server} stopped answering",
        "it may be overloaded, or large packets get lost on the way (MTU)",
    )


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or ("connection closed" if isinstance(error, EOFError) else type(error).__name__)


def _log_in(transport: paramiko.Transport, remote: Remote, login: Login, deadline: Deadline) -> None:
    """Try keys, then the password, as ssh would, each when the server asks for it; it may ask for both in turn.

    Raises:
        LoginRefused: With the methods that the server offers and those that were tried.
    """
    proofs: list[tuple[str, set[str], Callable[[list[str]], list[str]]]] = [
        (f"the key {path}", _BY_KEY, functools.partial(_try_key, transport, remote, path))
        for path in login.identity_files
    ]
    if login.password:
        give_password = functools.partial(_try_password, transport, remote, login.password)
        proofs.append(("the password", _BY_PASSWORD, give_password))
    tried: list[str] = []
    transport.auth_timeout = max(0.1, deadline.left(_ANSWER_SECONDS))
    offered = _attempt(transport, remote, [], lambda: transport.auth_none(remote.user))
    while wanted := [proof for proof in proofs if proof[1] & set(offered)]:
        name, _, give = wanted[0]
        proofs.remove(wanted[0])
        tried.append(name)
        transport.auth_timeout = max(0.1, deadline.left(_ANSWER_SECONDS))
        offered = give(offered)
    if transport.is_authenticated():
        return
    ways = ", ".join(_WAYS_IN.get(method, method) for method in sorted(offered))
    given = f" with {' and '.join(tried)}" if tried else ", nothing that it takes was given"
    raise errors.LoginRefused(
        f"{remote.host} refused to let {remote.user} in{given} (it takes {ways or 'nothing more'})",
        _login_hint(login, offered, remote),
    )


def _login_hint(login: Login, offered: list[str], remote: Remote) -> str:
    """Say what to do about the methods that a server still offers after all that there is was tried."""
    if not login.identity_files and not login.password:
        return "make a key with ssh-keygen as the README says, or give IdentityFile or password_file"
    if _BY_KEY & set(offered) and login.identity_files:
        port = "" if remote.port == SSH_PORT else f"-p {remote.port} "
        return (
            f"is the public key in the authorized_keys of {remote.user} there "
            f"(ssh-copy-id -i {login.identity_files[0]} {port}{remote.user}@{remote.host}), and is that the right user?"
        )
    if _BY_PASSWORD & set(offered):
        if login.password:
            return f"are the password and the login name {remote.user} right?"
        return "give a password with password_file"
    if _BY_KEY & set(offered):
        return "give a key with IdentityFile"
    return "a volume can log in with keys and passwords only, let the server take one of them"


def _broke_off(remote: Remote, error: Exception) -> errors.LoginRefused:
    if "timeout" in str(error):
        return errors.LoginRefused(
            f"{remote.host} did not answer the login of {remote.user} in time",
            "its log tells why; it may be busy, or wait for a name service or directory that does not answer",
        )
    return errors.LoginRefused(
        f"{remote.host} broke the login of {remote.user} off ({_reason(error)})",
        "its log tells why; it may allow too few attempts or have banned this host",
    )


def _try_key(transport: paramiko.Transport, remote: Remote, path: Path, offered: list[str]) -> list[str]:
    """Offer a key, under its certificate first, and return the methods that are left to try."""
    for key in _private_keys(path):
        left = _attempt(transport, remote, offered, functools.partial(transport.auth_publickey, remote.user, key))
        if left != offered:
            return left
    return offered


def _try_password(transport: paramiko.Transport, remote: Remote, password: str, offered: list[str]) -> list[str]:
    """Offer the password in the form that the server takes and return the methods that are left to try."""

    def answer(_title: str, _instructions: str, prompts: Sequence[object]) -> list[str]:
        return [password for _ in prompts]

    if "password" in offered:
        return _attempt(
            transport,
            remote,
            offered,
            lambda: transport.auth_password(remote.user, password, fallback=False),
        )
    return _attempt(transport, remote, offered, lambda: transport.auth_interactive(remote.user, answer))


def _attempt(transport: paramiko.Transport, remote: Remote, offered: list[str], log_in: Callable[[], Any]) -> list[str]:
    """Try one method; what is left afterwards is the same as before, less after a partial success, or nothing."""
    try:
        return list(log_in())
    except paramiko.BadAuthenticationType as refusal:
        return list(refusal.allowed_types)
    except paramiko.AuthenticationException as error:
        if not transport.is_active() or "timeout" in str(error):
            raise _broke_off(remote, error) from error
        return offered
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise _broke_off(remote, error) from error


def _private_keys(path: Path) -> Iterator[paramiko.PKey]:
    """Yield what ssh makes of an identity file: the key with the certificate beside it, if there is one, and alone."""
    certificate = path.with_name(path.name + "-cert.pub")
    if certificate.exists():
        certified = _private_key(path)
        try:
            certified.load_certificate(str(certificate))
        except (ValueError, paramiko.SSHException) as error:
            log.warning("cannot use the certificate %s (%s)", certificate, _reason(error))
        else:
            yield certified
    yield _private_key(path)


def _private_key(path: Path) -> paramiko.PKey:
    """Load a key that ssh-keygen has found good, in every form that ssh reads (paramiko 2.12 lacks PKCS #8)."""
    content = path.read_bytes()
    load = (
        serialization.load_ssh_private_key
        if b"BEGIN OPENSSH PRIVATE KEY" in content
        else serialization.load_pem_private_key
    )
    try:
        return _as_paramiko_key(load(content, None))
    except (ValueError, TypeError, UnsupportedAlgorithm, paramiko.SSHException) as error:
        raise errors.IdentityFileUnusable(
            f"cannot check the identity file {path}, the check does not know this kind of key",
            "use ed25519, ecdsa or rsa, or say -o check=never",
        ) from error


def _as_paramiko_key(key: Any) -> paramiko.PKey:
    match key:
        case ed25519.Ed25519PrivateKey():
            kind, form = paramiko.Ed25519Key, serialization.PrivateFormat.OpenSSH
        case ec.EllipticCurvePrivateKey():
            kind, form = paramiko.ECDSAKey, serialization.PrivateFormat.TraditionalOpenSSL
        case rsa.RSAPrivateKey():
            kind, form = paramiko.RSAKey, serialization.PrivateFormat.TraditionalOpenSSL
        case _:
            raise TypeError(type(key).__name__)
    text = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    return kind.from_private_key(io.StringIO(text))


def _look_at_directory(transport: paramiko.Transport, remote: Remote, deadline: Deadline) -> None:
    """Open SFTP and find the directory there, readable.

    Raises:
        SFTPUnavailable: The server has no SFTP for this login.
        DirectoryUnusable: The directory is missing, is none, or can't be read.
    """
    seconds = max(0.1, deadline.left(_ANSWER_SECONDS))
    try:
        channel = transport.open_session(timeout=seconds)
        channel.settimeout(seconds)
        _invoke_sftp(transport, channel, seconds)
        sftp = paramiko.SFTPClient(channel)
    except _SFTP_FAILURES as error:
        raise errors.SFTPUnavailable(
            f"{remote.account} lets the login in but has no SFTP for it ({_reason(error)})",
            "the server needs the line 'Subsystem sftp internal-sftp' in its sshd_config, and nothing in the "
            "login's start-up files may print",
        ) from error
    with sftp:
        _require_readable_directory(sftp, remote)


def _invoke_sftp(transport: paramiko.Transport, channel: paramiko.Channel, seconds: float) -> None:
    """Ask for SFTP; paramiko would wait without limit for the answer, unless the connection ends."""
    limit = threading.Timer(seconds, transport.close)
    limit.start()
    try:
        channel.invoke_subsystem("sftp")
    finally:
        limit.cancel()


def _require_readable_directory(sftp: paramiko.SFTPClient, remote: Remote) -> None:
    path, subject = remote.directory or ".", f"the directory {remote.directory or '(login directory)'}"
    where = f"on {remote.host}"
    try:
        mode = sftp.stat(path).st_mode or 0
        if not stat.S_ISDIR(mode):
            raise errors.DirectoryUnusable(
                f"{remote.directory} {where} is not a directory", "a volume is a whole directory"
            )
        with contextlib.suppress(UnicodeDecodeError):  # at names that are not UTF-8, which have been listed then
            next(sftp.listdir_iter(path, read_aheads=1), None)
    except FileNotFoundError:
        raise errors.DirectoryUnusable(
            f"{subject} does not exist {where} for {remote.user}", _missing_hint(sftp, remote)
        ) from None
    except PermissionError:
        raise errors.DirectoryUnusable(
            f"{subject} {where} is not readable for {remote.user}",
            "give it the right to read and enter the directory and those above it, or log in as its owner",
        ) from None
    except _SFTP_FAILURES as error:
        raise errors.DirectoryUnusable(
            f"{subject} {where} can't be listed ({_reason(error)})",
            "try sftp to that server by hand",
        ) from error


def _missing_hint(sftp: paramiko.SFTPClient, remote: Remote) -> str:
    """Say where the directory may be: an account that is locked into a directory sees shorter paths than its owner."""
    parts = PurePosixPath(remote.directory).parts
    if remote.directory.startswith("/"):
        for start in range(2, len(parts)):
            shorter = "/" + "/".join(parts[start:])
            if _is_directory(sftp, shorter):
                return f"{shorter} exists, and if this login is locked into a directory of the server, that may be it"
    return f"make it first (it is not made for you), starting from {_login_directory(sftp)} for relative paths"


def _is_directory(sftp: paramiko.SFTPClient, path: str) -> bool:
    try:
        return stat.S_ISDIR(sftp.stat(path).st_mode or 0)
    except _SFTP_FAILURES:
        return False


def _login_directory(sftp: paramiko.SFTPClient) -> str:
    try:
        return str(sftp.normalize("."))
    except _SFTP_FAILURES:
        return "the login directory"
