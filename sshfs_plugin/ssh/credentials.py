# SPDX-License-Identifier: MIT
"""The keys and passwords of volumes: the files that options name, read when needed and checked as ssh checks them."""

import contextlib
import functools
import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.host import command, local_files
from sshfs_plugin.settings import Settings
from sshfs_plugin.volume import Credentials

KEYS_AT_HOME = ("id_rsa", "id_ecdsa", "id_ed25519")
"""What ssh tries below ``~/.ssh`` when no key is named, in its order."""

_KEYGEN_SECONDS = 10.0
_KEYS_REMEMBERED = 256
UNSEEN = "the service does not see what is below /tmp: move it elsewhere"

_NO_PRIVATE_KEY = (
    "it is not a private key that ssh can read",
    "it must be complete, with its BEGIN and END lines, unix line ends and a final newline",
)
_PUBLIC_KEY = re.compile(rb"\s*(ssh-|ecdsa-|sk-)[\w@.-]+ AAAA")


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """The keys or the password of a volume, already read from their files.

    Attributes:
        password: Empty if there is none.
        password_file: The file that holds the password; None if it is on record, or if there is none.
        identity_files: Private keys that ssh can use, in the order in which to try them.
        certificate_file: The certificate that an option names for the only key; None if none does.
        contents: The content of each key, of the named certificate, or of the certificates beside the keys.
        kept_digest: The digest of all of it, where the contents are not kept.
    """

    password: str = field(default="", repr=False)
    password_file: Path | None = None
    identity_files: tuple[Path, ...] = ()
    certificate_file: Path | None = None
    contents: Mapping[Path, bytes] = field(default_factory=dict, repr=False)
    kept_digest: bytes = field(default=b"", repr=False)

    @property
    def without_contents(self) -> "Login":
        """The same login without the content of files, to be kept in memory: for a mount ssh reads them itself."""
        return replace(self, contents={}, kept_digest=self.digest)

    @property
    def digest(self) -> bytes:
        """Of all that is given to a server, contents included: two logins that differ in anything differ in this."""
        if self.kept_digest:
            return self.kept_digest
        given = (self.password, self.identity_files, self.certificate_file, sorted(self.contents.items()))
        return hashlib.sha256(repr(given).encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """The keys and passwords of this host.

    Attributes:
        default_key: Used when a volume names neither key nor password, if it exists.
        home: The directory that ``~`` stands for; keys in its ``.ssh`` are used if there is no default key.
    """

    default_key: Path
    home: Path

    @classmethod
    def of(cls, settings: Settings) -> "Keyring":
        """Return the keyring of a host with these settings."""
        return cls(default_key=settings.default_key, home=settings.home)

    def login(self, credentials: Credentials) -> Login:
        """Read the keys, certificates or password that a volume's options name.

        Raises:
            PasswordFileUnusable, IdentityFileUnusable: A named file can't be used; the error says why.
            FileStuck: The file system of one of them does not answer.
        """
        contents: dict[Path, bytes] = {}
        certificate_file = None
        if credentials.certificate_file:
            certificate_file = self._expand(credentials.certificate_file)
            contents[certificate_file] = require_certificate(certificate_file)
        if credentials.identity_file:
            identity_file = self._expand(credentials.identity_file)
            keys = {identity_file: require_usable(identity_file)}
        elif credentials.password or credentials.password_file:
            keys = {}
        else:
            keys = self._default_keys()
        if not certificate_file:
            contents |= _certificates_beside(keys)
        password_file = self._expand(credentials.password_file) if credentials.password_file else None
        return Login(
            password=_read_password(password_file) if password_file else credentials.password,
            password_file=password_file,
            identity_files=tuple(keys),
            certificate_file=certificate_file,
            contents=contents | keys,
        )

    def _default_keys(self) -> dict[Path, bytes]:
        if local_files.exists(self.default_key):
            return {self.default_key: require_usable(self.default_key)}
        keys = {}
        for name in KEYS_AT_HOME:
            with contextlib.suppress(errors.IdentityFileUnusable):
                path = self.home / ".ssh" / name
                keys[path] = require_usable(path)
        return keys

    def _expand(self, path: str) -> Path:
        return self.home / path[2:] if path.startswith("~/") else Path(path)


def _read_password(path: Path) -> str:
    subject = f"cannot use the password file {path}"
    try:
        file = local_files.read(path)
        text = file.content.decode("utf-8-sig")
    except FileNotFoundError:
        raise errors.PasswordFileUnusable(f"{subject}, it does not exist", _where_is(path, "password_file")) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise errors.PasswordFileUnusable(f"{subject}, {reason}", "it must be a text file that root can read") from None
    if file.mode & 0o007:
        raise errors.PasswordFileUnusable(f"{subject}, every user can read it", f"chmod 600 {shlex.quote(str(path))}")
    password = text.partition("\n")[0].rstrip("\r")
    if not password:
        raise errors.PasswordFileUnusable(f"{subject}, its first line is empty", "write the password there")
    return password


def _certificates_beside(keys: Iterable[Path]) -> dict[Path, bytes]:
    """Read the certificates that ssh would find beside the keys."""
    found = {}
    for key in keys:
        with contextlib.suppress(OSError):
            path = certificate_beside(key)
            found[path] = local_files.read(path).content
    return found


def certificate_beside(key: Path) -> Path:
    """Return where ssh looks for a key's certificate if none is named."""
    return key.with_name(f"{key.name}-cert.pub")


def require_usable(identity_file: Path) -> bytes:
    """Return the content of an identity file, if ssh can use it as a private key.

    Raises:
        IdentityFileUnusable: ssh can't; the error says why and what to do.
        FileStuck: Its file system does not answer.
    """
    subject = f"cannot use the identity file {identity_file}"
    try:
        file = local_files.read(identity_file)
    except FileNotFoundError:
        hint = _where_is(identity_file, "IdentityFile")
        raise errors.IdentityFileUnusable(f"{subject}, it does not exist", hint) from None
    except OSError as error:
        hint = "it must be a private key file that root can read"
        raise errors.IdentityFileUnusable(f"{subject}, {error.strerror}", hint) from None
    if problem := _verdict(identity_file, file):
        what, hint = problem
        raise errors.IdentityFileUnusable(f"{subject}, {what}", hint)
    return file.content


def require_certificate(certificate_file: Path) -> bytes:
    """Return the content of a file, if it holds a certificate of a key.

    Raises:
        IdentityFileUnusable: It does not; the error says why and what to do.
        FileStuck: Its file system does not answer.
    """
    subject = f"cannot use the certificate {certificate_file}"
    try:
        content = local_files.read(certificate_file).content
    except OSError as error:
        raise errors.IdentityFileUnusable(
            f"{subject}, {error.strerror}", _where_is(certificate_file, "CertificateFile")
        ) from None
    if b"-cert-v01@openssh.com " not in content:
        raise errors.IdentityFileUnusable(f"{subject}, it is not a certificate", "ssh-keygen -s makes one")
    return content


def _verdict(path: Path, file: local_files.File) -> tuple[str, str] | None:
    """Return what keeps ssh from using a file as a private key, and what to do about it; None if nothing does."""
    if b"PRIVATE KEY" not in file.content:
        return _what_it_is(path, file.content)
    try:
        _require_verdict_of_ssh(path, file.mode, file.owner, hashlib.sha256(file.content).digest())
    except _Refused as refused:
        return refused.what, refused.hint
    return None


class _Refused(Exception):
    """ssh-keygen could not use a key."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


@functools.lru_cache(maxsize=_KEYS_REMEMBERED)
def _require_verdict_of_ssh(path: Path, _mode: int, _owner: int, _digest: bytes) -> None:
    """Ask ssh-keygen, once for each good key as it is: a hundred volumes that are mounted at once may share one.

    Raises:
        _Refused: ssh can't use it now. That is not remembered, since somebody may just be writing the file.
    """
    judged = command.run(["ssh-keygen", "-y", "-P", "", "-f", path], seconds=_KEYGEN_SECONDS)
    if judged.returncode == 0:
        return
    complaint = judged.stderr.replace(str(path), "")
    if "UNPROTECTED" in complaint or "bad permissions" in complaint:
        raise _Refused("ssh refuses it because other users can read it", f"chmod 600 {shlex.quote(str(path))}")
    if "passphrase" in complaint:
        raise _Refused(
            "it needs a passphrase, which nobody could type when the volume is mounted",
            "use a key without one, for this purpose alone (ssh-keygen -N '')",
        )
    raise _Refused(*_NO_PRIVATE_KEY)


def is_below_tmp(path: Path) -> bool:
    """Tell whether a path is below /tmp or /var/tmp, which the service does not see (``PrivateTmp=`` of its unit)."""
    return path.is_relative_to("/tmp") or path.is_relative_to("/var/tmp")  # noqa: S108 (to warn of it)


def _where_is(path: Path, option: str) -> str:
    """Return a hint on where a missing file may be."""
    if is_below_tmp(path):
        return UNSEEN
    return f"is '{option}' a path on this host? (~ is root's home)"


def _what_it_is(path: Path, content: bytes) -> tuple[str, str]:
    """Return what a file is that is not a private key, and what to do about it."""
    if _PUBLIC_KEY.match(content):
        private = path.with_suffix("") if path.suffix == ".pub" else "the file without .pub"
        return "it is a public key", f"name the private key, {private}"
    if content.startswith(b"PuTTY-User-Key-File"):
        return "it is a PuTTY key", "convert it with puttygen KEY -O private-openssh -o NEW"
    return _NO_PRIVATE_KEY
