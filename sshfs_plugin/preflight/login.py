# SPDX-License-Identifier: MIT
"""The check of the login: keys and then the password are tried, as ssh would."""

import functools
import io
import logging
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline, time_limit
from sshfs_plugin.preflight import algorithms
from sshfs_plugin.preflight.connection import NO_KEYWORDS
from sshfs_plugin.preflight.ssh import ANSWER_SECONDS, FAILURES, paramiko, reason
from sshfs_plugin.ssh.agent import Agent
from sshfs_plugin.ssh.credentials import Login, certificate_beside
from sshfs_plugin.ssh.known_hosts import fingerprint
from sshfs_plugin.volume import SSH_PORT, Remote

log = logging.getLogger(__name__)

_BY_KEY, _BY_PASSWORD = {"publickey"}, {"password", "keyboard-interactive"}

_SIGN_FLAGS = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}
"""How an ssh-agent is told which algorithm to use; without a flag it uses the only one, or SHA-1."""

_CERTIFICATE = "-cert-v01@openssh.com"

_WAYS_IN = {"publickey": "a key", "password": "a password", "keyboard-interactive": "a typed password"}


def log_in(
    transport: paramiko.Transport,
    remote: Remote,
    login: Login,
    deadline: Deadline,
    keywords: Mapping[str, str] = NO_KEYWORDS,
) -> str:
    """Log in with the keys and then the password, as ssh would, each if the server takes it; it may require both.

    Args:
        transport: The connection, with keys exchanged.
        remote: The server.
        login: The keys and the password.
        deadline: When the caller gives up.
        keywords: The volume's keywords of ssh_config, with their values.

    Returns:
        What the server accepted last, in words.

    Raises:
        LoginRefused: The server let none of them in; the error names what was tried and the methods that it offers.
        LoginUnfinished: The server broke the login off, or did not answer in time.
        IdentityFileUnusable: A key is of a kind that the preflight does not know.
        AgentUnusable: The ssh-agent does not sign with a key that the server takes.
    """
    proofs: list[tuple[str, set[str], Callable[[list[str]], list[str]]]] = [
        (
            f"the key {path}",
            _BY_KEY,
            functools.partial(_try_key, transport, remote, keywords, _private_keys(login, path)),
        )
        for path in login.identity_files
    ]
    if login.agent:
        proofs += [
            (
                f"the ssh-agent's key {fingerprint(blob)}",
                _BY_KEY,
                functools.partial(_try_agent, transport, remote, keywords, key),
            )
            for blob, key in ((blob, _AgentKey(login.agent, blob)) for blob in login.agent_keys)
        ]
    if login.password:
        give_password = functools.partial(_try_password, transport, remote, login.password)
        proofs.append(("the password", _BY_PASSWORD, give_password))
    tried: list[str] = []
    transport.auth_timeout = time_limit(deadline.left(ANSWER_SECONDS))
    offered = _attempt(transport, remote, [], lambda: transport.auth_none(remote.user))
    while wanted := [proof for proof in proofs if proof[1] & set(offered)]:
        name, _, give = wanted[0]
        proofs.remove(wanted[0])
        tried.append(name)
        transport.auth_timeout = time_limit(deadline.left(ANSWER_SECONDS))
        offered = give(offered)
    if transport.is_authenticated():
        return tried[-1] if tried else "nothing, the server asks for no proof"
    ways = ", ".join(_WAYS_IN.get(method, method) for method in sorted(offered))
    given = f" with {' and '.join(tried)}" if tried else ", nothing that it takes was given"
    raise errors.LoginRefused(
        f"{remote.host} refused to let {remote.user} in{given} (it takes {ways or 'nothing more'})",
        _login_hint(login, offered, remote, keywords),
    )


def _login_hint(login: Login, offered: list[str], remote: Remote, keywords: Mapping[str, str]) -> str:
    """Return what to do about the methods that a server still offers after all keys and the password were tried."""
    if _BY_KEY & set(offered) and login.identity_files:
        left_out = [
            {_left_out_by(keywords, key) for key in _private_keys(login, path)} for path in login.identity_files
        ]
        if "" not in set.union(*left_out):
            return f"{left_out[0].pop()} leaves out the key {login.identity_files[0]}, change that option or the key"
    if not login.identity_files and not login.agent and not login.password:
        return "make a key with ssh-keygen as the README says, or give IdentityFile or password_file"
    if _BY_KEY & set(offered) and login.identity_files:
        port = "" if remote.port == SSH_PORT else f"-p {remote.port} "
        account = shlex.quote(f"{remote.user}@{remote.host}")
        key = shlex.quote(str(login.identity_files[0]))
        copy = f"sudo ssh-copy-id -i {key} {port}{account}"
        how = f"sudo ssh-keygen -y -f {key} prints it" if login.copied_key else copy
        return f"is the public key in the authorized_keys of {remote.user} there ({how}), {_is_user_right(remote)}"
    if _BY_KEY & set(offered) and login.agent:
        listing = f"SSH_AUTH_SOCK={shlex.quote(str(login.agent.path))} ssh-add -L prints them"
        return f"is one of them in the authorized_keys of {remote.user} there ({listing}), {_is_user_right(remote)}"
    if _BY_PASSWORD & set(offered):
        if login.password:
            return f"are the password and the login name {remote.user} right?"
        return "give a password with password_file"
    if _BY_KEY & set(offered):
        return "give a key with IdentityFile"
    return "a volume can log in with keys and passwords only, let the server take one of them"


def _is_user_right(remote: Remote) -> str:
    without = " (who logs in where nobody is named)" if remote.user == "root" else ""
    return f"and is that the right user{without}?"


def _try_agent(
    transport: paramiko.Transport, remote: Remote, keywords: Mapping[str, str], key: "_AgentKey", offered: list[str]
) -> list[str]:
    """Offer a key of an ssh-agent, and return the methods that are left to try."""
    if not _can_sign(transport, keywords, key):
        return offered
    try:
        return _attempt(transport, remote, offered, functools.partial(transport.auth_publickey, remote.user, key))
    except errors.LoginUnfinished:
        if key.problem:
            raise key.problem from None
        raise


class _AgentKey(paramiko.PKey):  # type: ignore[misc]  # Debian's paramiko carries no types
    """A key, or a certificate, that an ssh-agent keeps.

    Attributes:
        problem: Why the agent did not sign; None if it did or was not asked.
    """

    public_blob = None

    def __init__(self, agent: Agent, blob: bytes) -> None:
        self._agent, self._blob = agent, blob
        self.problem: errors.PluginError | None = None

    def get_name(self) -> str:
        """Return its kind, as known_hosts has it."""
        kind: str = paramiko.Message(self._blob).get_text()
        return kind

    def asbytes(self) -> bytes:
        return self._blob

    def can_sign(self) -> bool:
        return True

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> bytes:
        """Let the agent sign. This is called in paramiko's thread, where an error has no way to the caller."""
        try:
            return self._agent.sign(self._blob, data, _SIGN_FLAGS.get((algorithm or "").removesuffix(_CERTIFICATE), 0))
        except errors.PluginError as error:
            self.problem = error
            raise paramiko.SSHException(str(error)) from error


def _broke_off(remote: Remote, error: Exception) -> errors.LoginUnfinished:
    if "timeout" in str(error):
        return errors.LoginUnfinished(
            f"{remote.host} did not answer the login of {remote.user} in time",
            "its log tells why; it may be busy, or wait for a name service or directory that does not answer",
        )
    return errors.LoginUnfinished(
        f"{remote.host} broke the login of {remote.user} off ({reason(error)})",
        "its log tells why; it may allow too few attempts or have banned this host",
    )


def _try_key(
    transport: paramiko.Transport,
    remote: Remote,
    keywords: Mapping[str, str],
    forms: Iterator[paramiko.PKey],
    offered: list[str],
) -> list[str]:
    """Offer a key in its forms, as :func:`_private_keys` has them, and return the methods that are left to try."""
    for key in forms:
        if not _can_sign(transport, keywords, key):
            continue
        left = _attempt(transport, remote, offered, functools.partial(transport.auth_publickey, remote.user, key))
        if left != offered:
            return left
    return offered


def _left_out_by(keywords: Mapping[str, str], key: paramiko.PKey) -> str:
    """Return the option by which ssh leaves a key out; empty if none does. RSA keys have several algorithms."""
    kind = key.public_blob.key_type if key.public_blob else key.get_name()
    if "rsa" not in kind:
        taken = algorithms.takes(keywords.get("PubkeyAcceptedAlgorithms", ""), kind)
        return "" if taken else "PubkeyAcceptedAlgorithms"
    plain = key if isinstance(key, paramiko.RSAKey) or kind != "ssh-rsa" else paramiko.RSAKey(data=key.asbytes())
    is_short = isinstance(plain, paramiko.RSAKey) and plain.get_bits() < int(keywords.get("RequiredRSASize", 0))
    return "RequiredRSASize" if is_short else ""


def _can_sign(transport: paramiko.Transport, keywords: Mapping[str, str], key: paramiko.PKey) -> bool:
    """Tell whether both sides take a signature algorithm of a key; paramiko ends the connection if there is none.

    Only RSA keys have several algorithms, some or all of which servers and volumes may exclude.
    """
    if _left_out_by(keywords, key):
        return False
    if "rsa" not in key.get_name():
        return True
    ours = {name for name in transport.preferred_pubkeys if "rsa" in name}
    theirs = transport.server_extensions.get("server-sig-algs", b"")
    return bool(ours & set(theirs.decode("ascii", "replace").split(",")) if theirs else ours)


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
    """Try one method and return the methods that are left: all after a failure, fewer or none after a success."""
    try:
        return list(log_in())
    except paramiko.BadAuthenticationType as refusal:
        return list(refusal.allowed_types)
    except paramiko.AuthenticationException as error:
        if not transport.is_active() or "timeout" in str(error):
            raise _broke_off(remote, error) from error
        return offered
    except FAILURES as error:
        raise _broke_off(remote, error) from error


def _private_keys(login: Login, path: Path) -> Iterator[paramiko.PKey]:
    """Yield what ssh offers for an identity file: the key with its certificate, if there is one, and the key alone."""
    certificate, content = login.certificate_file or certificate_beside(path), login.contents[path]
    if certificate in login.contents:
        certified = _private_key(path, content)
        try:
            certified.load_certificate(login.contents[certificate].decode("ascii", "replace"))
        except (ValueError, paramiko.SSHException) as error:
            log.warning("cannot use the certificate %s (%s)", certificate, reason(error))
        else:
            yield certified
    yield _private_key(path, content)


def _private_key(path: Path, content: bytes) -> paramiko.PKey:
    """Load a private key in any format that ssh reads; paramiko 2.12 itself does not read PKCS #8."""
    load = (
        serialization.load_ssh_private_key
        if b"BEGIN OPENSSH PRIVATE KEY" in content
        else serialization.load_pem_private_key
    )
    try:
        return _as_paramiko_key(load(content, None))
    # AttributeError: raised by cryptography of Debian 13 for a key on a token
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm, paramiko.SSHException) as error:
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
