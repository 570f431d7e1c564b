# SPDX-License-Identifier: MIT
"""The keys and passwords of volumes: the files that options name, read when needed and checked as ssh checks them."""

import contextlib
import hashlib
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.host import local_files
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.agent import Agent
from sshfs_plugin.ssh.key_files import (
    MOST_ROUNDS,
    SlowLock,
    UnknownLock,
    WrongPassphrase,
    certificate_beside,
    is_beside_another,
    read_usable,
    require_certificate,
    unlocked,
    where_is,
)
from sshfs_plugin.ssh.known_hosts import pattern
from sshfs_plugin.ssh.secrets import Secret, Secrets, read_in_part
from sshfs_plugin.volume import Credentials, Remote, Volume, at_jump_host

KEYS_AT_HOME = ("id_rsa", "id_ecdsa", "id_ed25519")
"""What ssh tries below ``~/.ssh`` when no key is named, in its order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """The keys or the password of a volume, already read from their files.

    Attributes:
        password: Empty if there is none.
        password_file: The file that holds the password; None if it is on record, or if there is none.
        identity_files: Private keys that ssh can use, in the order in which to try them.
        copied_key: The content of the only key if ssh must be given a copy of it, without its passphrase; else empty.
        certificate_file: The certificate of the only key, where ssh would not find it by itself; else None.
        agent: The ssh-agent whose keys are used; None if none is.
        agent_keys: Its public keys.
        contents: The content of each key, of the named certificate, or of the certificates beside the keys.
        kept_digest: The digest of all of it, where the contents are not kept.
        jumps: What the volume's jump hosts are logged in to with.
        lacks: Why there is nothing, although root has a key, and what to do about that; else empty.
    """

    password: str = field(default="", repr=False)
    password_file: Path | None = None
    identity_files: tuple[Path, ...] = ()
    copied_key: str = field(default="", repr=False)
    certificate_file: Path | None = None
    agent: Agent | None = None
    agent_keys: tuple[bytes, ...] = ()
    contents: Mapping[Path, bytes] = field(default_factory=dict, repr=False)
    kept_digest: bytes = field(default=b"", repr=False)
    jumps: tuple["Login", ...] = ()
    lacks: str = ""

    @property
    def without_contents(self) -> "Login":
        """The same login without the content of files that ssh reads itself for a mount, to be kept in memory."""
        jumps = tuple(jump.without_contents for jump in self.jumps)
        return replace(self, contents={}, kept_digest=self.digest, jumps=jumps)

    @property
    def digest(self) -> bytes:
        """Of all that is given to a server, contents included: two logins that differ in anything differ in this."""
        if self.kept_digest:
            return self.kept_digest
        agent = self.agent and (self.agent.path, self.agent_keys)
        jumps = [jump.digest for jump in self.jumps]
        given = (self.password, self.identity_files, self.certificate_file, agent, sorted(self.contents.items()), jumps)
        return hashlib.sha256(repr(given).encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """The keys and passwords of this host.

    Attributes:
        default_key: Used when a volume names neither key nor password, if it exists.
        home: The directory that ``~`` stands for; keys in its ``.ssh`` are used if there is no default key.
        secrets: Keys, passwords and passphrases that volumes name.
    """

    default_key: Path
    home: Path
    secrets: Secrets

    @classmethod
    def of(cls, settings: Settings) -> "Keyring":
        """Return the keyring of a host with these settings."""
        return cls(default_key=settings.default_key, home=settings.home, secrets=Secrets.of(settings))

    def login_of(self, volume: Volume) -> Login:
        """Read what a volume and its jump hosts log in with.

        Raises:
            LoginsAlike: A host on the way could be given the password of another.
            CredentialsError, InvalidOption: As :meth:`login` does.
        """
        jumps = []
        for jump in volume.jumps:
            with at_jump_host(jump):
                jumps.append(self.login(jump.credentials))
        login = replace(self.login(volume.credentials), jumps=tuple(jumps))
        _require_passwords_apart(volume, login)
        return login

    def login(self, credentials: Credentials) -> Login:
        """Read the keys, certificates or password that a volume's options name.

        Raises:
            PasswordFileUnusable, IdentityFileUnusable, SecretUnusable, AgentUnusable: What is named can't be used; the
                error says why.
            InvalidOption: What a secret holds contradicts another option.
            FileStuck: The file system of one of them does not answer.
        """
        secret = self.secrets.read(credentials.secret) if credentials.secret else None
        if secret:
            _require_consistency(credentials, secret)
        if secret and secret.is_key:
            login = self._with_key(credentials, secret.file, secret)
        elif credentials.identity_file:
            login = self._with_key(credentials, local_files.expanded(credentials.identity_file, self.home))
        elif credentials.identity_agent:
            agent = Agent(Path(credentials.identity_agent))
            login = Login(agent=agent, agent_keys=agent.keys())
        elif secret or credentials.password or credentials.password_file:
            login = Login()
        else:
            login = self._with_default_keys(credentials)
        return self._with_password(login, credentials, secret)

    def _with_key(self, credentials: Credentials, file: Path, secret: Secret | None = None) -> Login:
        """Return the login with one key, of which ssh is given a copy if it could not use the file itself."""
        key, must_be_copied = self._read_key(credentials, file, secret)
        is_copied = must_be_copied or bool(secret and secret.is_credential)
        named = local_files.expanded(credentials.certificate_file, self.home) if credentials.certificate_file else None
        if named:
            certificates = {named: require_certificate(named)}
        else:
            certificates = {} if secret and secret.is_credential else _certificates_beside([file])
        # beside a copy ssh would find none
        beside = next(iter(certificates), None) if is_copied else None
        return Login(
            identity_files=(file,),
            copied_key=key.decode() if is_copied else "",
            certificate_file=named or beside,
            contents={**certificates, file: key},
        )

    def _read_key(self, credentials: Credentials, file: Path, secret: Secret | None) -> tuple[bytes, bool]:
        """Return a private key without its passphrase, and whether it is of use to ssh only as a copy."""
        subject = secret.subject if secret else f"cannot use the identity file {file}"
        try:
            key, public = read_usable(file, subject)
            return key, is_beside_another(file, public)
        except errors.IdentityFileLocked:
            if not credentials.passphrase_secret:
                raise
        passphrase = self.secrets.passphrase(credentials.passphrase_secret)
        try:
            return unlocked(local_files.read(file).content, passphrase), True
        except SlowLock as lock:
            raise errors.IdentityFileUnusable(
                f"{subject}, its passphrase is hashed {lock.rounds} times, which would take too long",
                f"let it be hashed {MOST_ROUNDS} times at most: ssh-keygen -p -a 100 -f {shlex.quote(str(file))}",
            ) from None
        except WrongPassphrase:
            raise errors.IdentityFileUnusable(
                f"{subject}, the secret '{credentials.passphrase_secret}' is not its passphrase",
                f"ssh-keygen -y -f {shlex.quote(str(file))} tries one",
            ) from None
        except (OSError, UnknownLock):
            raise errors.IdentityFileUnusable(
                f"{subject}, it is a key on a token, or has a passphrase in a form that is not known here",
                f"ssh-keygen -p -f {shlex.quote(str(file))} puts that into the usual one",
            ) from None

    def _with_password(self, login: Login, credentials: Credentials, secret: Secret | None) -> Login:
        if credentials.password_file:
            file = local_files.expanded(credentials.password_file, self.home)
            return replace(login, password=_read_password(file), password_file=file)
        if secret and not secret.is_key:
            return replace(login, password=secret.text, password_file=None if secret.is_credential else secret.file)
        return replace(login, password=credentials.password)

    def _with_default_keys(self, credentials: Credentials) -> Login:
        """Return the login with the default key, else with those at home, of which only a single one can be copied."""
        if local_files.exists(self.default_key):
            return self._with_key(credentials, self.default_key)
        keys, problems = {}, []
        for path in filter(local_files.exists, (self.home / ".ssh" / name for name in KEYS_AT_HOME)):
            try:
                keys[path] = read_usable(path)
            except errors.IdentityFileUnusable as problem:
                problems.append(problem)
        if len(keys) > 1:
            keys = {path: found for path, found in keys.items() if not is_beside_another(path, found[1])}
        if len(keys) == 1:
            return self._with_key(credentials, next(iter(keys)))
        if not keys and problems:
            return Login(lacks=str(problems[0]))
        contents = {path: content for path, (content, _) in keys.items()}
        return Login(identity_files=tuple(keys), contents=_certificates_beside(keys) | contents)


def account(remote: Remote) -> str:
    """Return who logs in where as ssh writes it before a question: the server's name there is its HostKeyAlias."""
    return f"{remote.user}@{pattern(remote.host, remote.port)}"


def _require_passwords_apart(volume: Volume, login: Login) -> None:
    """Raise LoginsAlike if ssh's helper could not tell for which of two hosts on the way a password is asked for."""
    asked: dict[str, str] = {}
    for each, its_login in zip((*volume.jumps, volume), (*login.jumps, login), strict=True):
        if its_login.password:
            host = "the server" if each is volume else f"the jump host {each.remote_name}"
            before = asked.setdefault(account(each.remote), host)
            if before != host:
                raise errors.LoginsAlike(
                    f"{before} and {host} are both {each.remote.account} and take a password, so that each could be "
                    "given the other's",
                    "log in to one of them with a key, or write its address in another way",
                )


def _require_consistency(credentials: Credentials, secret: Secret) -> None:
    """Raise InvalidOption if what a secret holds contradicts another option, or lacks what that needs."""
    if secret.is_key:
        for name, given in (
            ("IdentityFile", credentials.identity_file),
            ("IdentityAgent", credentials.identity_agent),
        ):
            if given:
                raise errors.InvalidOption(
                    name, f"contradicts the secret '{secret.name}', which is a private key: leave one of them out"
                )
    elif not credentials.identity_file:
        for name, given in (
            ("passphrase_secret", credentials.passphrase_secret),
            ("CertificateFile", credentials.certificate_file),
        ):
            if given:
                raise errors.InvalidOption(name, f"needs a private key, and the secret '{secret.name}' is a password")


def _read_password(path: Path) -> str:
    subject = f"cannot use the password file {path}"
    try:
        file = local_files.read(path)
        text = file.content.decode("utf-8-sig")
    except FileNotFoundError:
        what, hint = local_files.absence(path, where_is("password_file"))
        raise errors.PasswordFileUnusable(f"{subject}, it {what}", hint) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise errors.PasswordFileUnusable(f"{subject}, {reason}", "it must be a text file that root can read") from None
    if file.mode & 0o007:
        raise errors.PasswordFileUnusable(f"{subject}, every user can read it", f"chmod 600 {shlex.quote(str(path))}")
    password = text.partition("\n")[0].rstrip("\r")
    if complaint := read_in_part(password) if password else "is empty":
        raise errors.PasswordFileUnusable(f"{subject}, its first line {complaint}", "write the password there")
    return password


def _certificates_beside(keys: Iterable[Path]) -> dict[Path, bytes]:
    """Read the certificates that ssh would find beside the keys."""
    found = {}
    for key in keys:
        with contextlib.suppress(OSError):
            path = certificate_beside(key)
            found[path] = local_files.read(path).content
    return found
