# SPDX-License-Identifier: MIT
"""The check of the login: keys and then the password are tried, as ssh would."""

import functools
import io
import logging
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline, time_limit
from sshfs_plugin.preflight import signatures
from sshfs_plugin.preflight.connection import NO_KEYWORDS
from sshfs_plugin.preflight.ssh import ANSWER_SECONDS, FAILURES, paramiko, reason
from sshfs_plugin.preflight.transport import Transport, by_hand
from sshfs_plugin.ssh.agent import Agent
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.ssh.key_files import certificate_beside
from sshfs_plugin.ssh.known_hosts import fingerprint
from sshfs_plugin.volume import Remote

log = logging.getLogger(__name__)

_WANTS_NEW_PASSWORD = re.compile(r"new password|retype |repeat ", re.IGNORECASE)
"""A question to which libexec/askpass gives ssh no answer either."""

_BY_KEY, _BY_PASSWORD = {"publickey"}, {"password", "keyboard-interactive"}

_SIGN_FLAGS = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}
"""How an ssh-agent is told which algorithm to use; without a flag it uses the only one, or SHA-1."""

_CERTIFICATE = "-cert-v01@openssh.com"

_WAYS_IN = {"publickey": "a key", "password": "a password", "keyboard-interactive": "a typed password"}


def log_in(
    transport: Transport,
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
        AgentUnusable: The ssh-agent does not sign with a key that the server takes, and nothing else was let in.
    """
    server = _Server(transport, remote, keywords)
    proofs, tried = list(server.proofs(login)), []
    seconds = max(ANSWER_SECONDS, float(keywords.get("ConnectTimeout", 0)))
    transport.auth_timeout = time_limit(deadline.left(seconds))
    offered = server.attempt([], lambda: transport.auth_none(remote.user))
    while wanted := next((proof for proof in proofs if proof.methods & set(offered)), None):
        proofs.remove(wanted)
        tried.append(wanted.name)
        transport.auth_timeout = time_limit(deadline.left(seconds))
        offered = wanted.give(offered)
    if transport.auth_handler.is_authenticated():  # even if the connection has ended since
        return tried[-1] if tried else "nothing, the server asks for no proof"
    if server.unsigned:
        raise server.unsigned[0]
    ways = ", ".join(_WAYS_IN.get(method, method) for method in sorted(offered))
    given = f" with {' and '.join(tried)}" if tried else ", nothing that it takes was given"
    raise errors.LoginRefused(
        f"{remote.host} refused to let {remote.user} in{given} (it takes {ways or 'nothing more'})",
        _login_hint(login, offered, server),
    )


def _login_hint(login: Login, offered: list[str], server: "_Server") -> str:
    """Return what to do about the methods that a server still offers after all keys and the password were tried."""
    if not login.identity_files and not login.agent and not login.password:
        if login.lacks and _BY_KEY & set(offered):
            return login.lacks
        return "make a key with ssh-keygen as the README says, or give IdentityFile or password_file"
    if _BY_KEY & set(offered) and (login.identity_files or login.agent):
        return _key_hint(login, server)
    if _BY_PASSWORD & set(offered):
        if login.password:
            return f"are the password and the login name {server.remote.user} right?"
        return "give a password with password_file"
    if _BY_KEY & set(offered):
        return "give a key with IdentityFile"
    return "a volume can log in with keys and passwords only, let the server take one of them"


def _key_hint(login: Login, server: "_Server") -> str:
    """Return what to do where a server has taken none of the keys."""
    remote, left_out = server.remote, server.left_out
    if left_out and len(left_out) == len(login.identity_files) + len(login.agent_keys):
        return left_out[0]
    if login.agent:
        listing = f"SSH_AUTH_SOCK={shlex.quote(str(login.agent.path))} ssh-add -L prints them"
        return f"is one of them in the authorized_keys of {remote.user} there ({listing}), {_is_user_right(remote)}"
    key = shlex.quote(str(login.identity_files[0]))
    is_out_of_reach = login.copied_key or server.transport.beneath
    copy = f"sudo ssh-copy-id -i {key} {remote.arguments}"
    how = f"sudo ssh-keygen -y -f {key} prints it" if is_out_of_reach else copy
    return f"is the public key in the authorized_keys of {remote.user} there ({how}), {_is_user_right(remote)}"


def _is_user_right(remote: Remote) -> str:
    without = " (who logs in where nobody is named)" if remote.user == "root" else ""
    return f"and is that the right user{without}?"


@dataclass(frozen=True, slots=True)
class _Proof:
    """What can be given to a server to be let in.

    Attributes:
        name: What it is, in words.
        methods: The methods of SSH with which it is given.
        give: Gives it to the server, which offers some methods, and returns the methods that are left to try.
    """

    name: str
    methods: set[str]
    give: Callable[[list[str]], list[str]]


@dataclass(frozen=True, slots=True)
class _Server:
    """A server that is asked to let somebody in.

    Attributes:
        transport: The connection, with keys exchanged.
        remote: The server.
        keywords: The volume's keywords of ssh_config, with their values.
        left_out: Why keys were left out, each with what to do about that.
        unsigned: Why the ssh-agent did not sign with keys that the server takes.
    """

    transport: Transport
    remote: Remote
    keywords: Mapping[str, str]
    left_out: list[str] = field(default_factory=list)
    unsigned: list[errors.AgentUnusable] = field(default_factory=list)

    def proofs(self, login: Login) -> Iterator[_Proof]:
        """Yield what a login has to give, in the order in which ssh would; no key is read yet."""
        for path in login.identity_files:
            name = f"the key {path}"
            yield _Proof(name, _BY_KEY, functools.partial(self._give_key, name, _private_keys(login, path)))
        if login.agent:
            for blob in login.agent_keys:
                name = f"the ssh-agent's key {fingerprint(blob)}"
                give = functools.partial(self._give_agents_key, name, _AgentKey(login.agent, blob))
                yield _Proof(name, _BY_KEY, give)
        if login.password:
            yield _Proof("the password", _BY_PASSWORD, functools.partial(self._give_password, login.password))

    def attempt(self, offered: list[str], log_in: Callable[[], Any]) -> list[str]:
        """Try one method and return those that are left: all after a failure, fewer or none after a success."""
        try:
            return list(log_in())
        except paramiko.BadAuthenticationType as refusal:
            return list(refusal.allowed_types)
        except paramiko.AuthenticationException as error:
            if not self.transport.is_active() or "timeout" in str(error):
                raise _broke_off(self.remote, error) from error
            return offered
        except FAILURES as error:
            raise _broke_off(self.remote, error) from error

    def _give_key(self, name: str, forms: Iterable[paramiko.PKey], offered: list[str]) -> list[str]:
        """Offer a key in its forms, as :func:`_private_keys` has them, but not in those that ssh leaves out."""
        problem = ""
        for key in forms:
            form = f"the certificate of {name}" if key.public_blob else name
            if why := self._why_left_out(form, key):
                problem = why  # that of the key alone comes last, and counts before that of its certificate
                continue
            left = self._offer(key, offered)
            if left != offered:
                return left
        if problem:
            self.left_out.append(problem)
        return offered

    def _give_agents_key(self, name: str, key: "_AgentKey", offered: list[str]) -> list[str]:
        """Offer a key of an agent; where that does not sign, ssh goes on with what else there is."""
        try:
            return self._give_key(name, [key], offered)
        except errors.AgentUnusable as problem:
            self.unsigned.append(problem)
            return offered

    def _offer(self, key: paramiko.PKey, offered: list[str]) -> list[str]:
        user, algorithm = self.remote.user, signatures.algorithm(_kind(key), self.transport, self._accepted)
        if isinstance(key, _AgentKey):  # the agent may ask a person, so it is to sign only for a key that would do
            left = self.attempt(offered, lambda: self.transport.ask_about_key(user, key, algorithm))
            if left or self.transport.authenticated:
                return left
        return self.attempt(offered, lambda: self.transport.offer_key(user, key, algorithm))

    @property
    def _accepted(self) -> str:
        return self.keywords.get("PubkeyAcceptedAlgorithms", "")

    def _why_left_out(self, name: str, key: paramiko.PKey) -> str:
        """Return why ssh leaves a key out, with what to do about it; empty if it does not."""
        if _is_shorter(key, int(self.keywords.get("RequiredRSASize", 0))):
            return f"RequiredRSASize leaves out {name}, change that option or the key"
        return signatures.why_left_out(name, _kind(key), self.transport, self._accepted)

    def _give_password(self, password: str, offered: list[str]) -> list[str]:
        """Offer the password in the form that the server takes; of two, in the first of the volume's ssh_config.

        A second attempt would fail as well where the password is wrong, and count towards a ban.
        """
        asked: list[str] = []

        def answer(_title: str, _instructions: str, prompts: Sequence[tuple[str, bool]]) -> list[str]:
            asked.extend(prompt for prompt, _ in prompts)
            return ["" if _WANTS_NEW_PASSWORD.search(prompt) else password for prompt, _ in prompts]

        user = self.remote.user
        if "password" in offered:
            return self.attempt(offered, lambda: self.transport.auth_password(user, password, fallback=False))
        left = self.attempt(offered, lambda: self.transport.auth_interactive(user, answer))
        if wanted := next(filter(_WANTS_NEW_PASSWORD.search, asked), ""):
            asks = wanted.strip().rstrip(":")[: errors.LONGEST_QUOTE]
            raise errors.LoginRefused(
                f"{self.remote.host} wants {user} to choose a new password (it asks {asks!r})",
                f"{by_hand(self.remote, self.transport)}, and give the volume the new one",
            )
        return left


def _broke_off(remote: Remote, error: Exception) -> errors.LoginUnfinished:
    if "timeout" in str(error):
        return errors.LoginUnfinished(
            f"{remote.host} did not answer the login of {remote.user} in time",
            "its log tells why; it may be busy, or wait for a name service or directory that does not answer",
        )
    return errors.LoginUnfinished(
        f"{remote.host} broke the login of {remote.user} off ({reason(error)})",
        "its log tells why; it may allow too few attempts, or only so many connections, or have banned this host",
    )


class _AgentKey(paramiko.PKey):  # type: ignore[misc]  # Debian's paramiko carries no types
    """A key, or a certificate, that an ssh-agent keeps."""

    public_blob = None

    def __init__(self, agent: Agent, blob: bytes) -> None:
        self._agent, self._blob = agent, blob

    def get_name(self) -> str:
        """Return its kind, as known_hosts has it."""
        kind: str = paramiko.Message(self._blob).get_text()
        return kind

    def asbytes(self) -> bytes:
        return self._blob

    def can_sign(self) -> bool:
        return True

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> bytes:
        """Let the agent sign. Raises what that raises, in the thread that offers the key."""
        return self._agent.sign(self._blob, data, _SIGN_FLAGS.get((algorithm or "").removesuffix(_CERTIFICATE), 0))


def _kind(key: paramiko.PKey) -> str:
    """Return the kind of a key, or of its certificate, as ssh-keygen writes it."""
    kind: str = key.public_blob.key_type if key.public_blob else key.get_name()
    return kind


def _is_shorter(key: paramiko.PKey, bits: int) -> bool:
    """Tell whether a key is an RSA key, of a file or an agent, and shorter than that."""
    plain = paramiko.RSAKey(data=key.asbytes()) if key.get_name() == signatures.RSA else key
    return isinstance(plain, paramiko.RSAKey) and plain.get_bits() < bits


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
