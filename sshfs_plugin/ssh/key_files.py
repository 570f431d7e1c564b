# SPDX-License-Identifier: MIT
"""Private keys and certificates in files: read, judged as ssh judges them, and unlocked by a passphrase."""

import base64
import functools
import hashlib
import re
import shlex
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.host import command, local_files
from sshfs_plugin.ssh.agent import take_string

_KEYGEN_SECONDS = 10.0
_KEYS_REMEMBERED = 256

MOST_ROUNDS = 1000
"""How often a passphrase may be hashed before it unlocks a key: some seconds. ssh-keygen itself says 16 or 24."""

_NO_PRIVATE_KEY = (
    "it is not a private key that ssh can read",
    "it must be complete, with its BEGIN and END lines, unix line ends and a final newline",
)
_BEGIN_OPENSSH = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_PUBLIC_KEY = re.compile(rb"\s*(ssh-|ecdsa-|sk-)[\w@.-]+ AAAA")


def certificate_beside(key: Path) -> Path:
    """Return where ssh looks for a key's certificate if none is named."""
    return key.with_name(f"{key.name}-cert.pub")


def require_usable(identity_file: Path, subject: str = "") -> bytes:
    """Return the content of an identity file, if ssh can use it as a private key.

    Args:
        identity_file: The file.
        subject: How an error begins.

    Raises:
        IdentityFileLocked: It needs a passphrase.
        IdentityFileUnusable: ssh can't use it; the error says why and what to do.
        FileStuck: Its file system does not answer.
    """
    return read_usable(identity_file, subject)[0]


def read_usable(identity_file: Path, subject: str = "") -> tuple[bytes, list[str]]:
    """Return the content of an identity file, and its public key as two words. Raises what require_usable does."""
    subject = subject or f"cannot use the identity file {identity_file}"
    try:
        file = local_files.read(identity_file)
    except FileNotFoundError:
        what, hint = local_files.absence(identity_file, where_is("IdentityFile"))
        raise errors.IdentityFileUnusable(f"{subject}, it {what}", hint) from None
    except OSError as error:
        hint = "it must be a private key file that root can read"
        raise errors.IdentityFileUnusable(f"{subject}, {error.strerror}", hint) from None
    if b"PRIVATE KEY" not in file.content:
        what, hint = _what_it_is(identity_file, file.content)
        raise errors.IdentityFileUnusable(f"{subject}, {what}", hint)
    try:
        public = _public_by_ssh(identity_file, file.mode, file.owner, hashlib.sha256(file.content).digest())
    except _Refused as refused:
        kind = errors.IdentityFileLocked if refused.is_locked else errors.IdentityFileUnusable
        raise kind(f"{subject}, {refused.what}", refused.hint) from None
    return file.content, public.split()[:2]


def is_beside_another(identity_file: Path, public: list[str]) -> bool:
    """Tell whether ssh would offer a server another key, since KEY.pub is not that of the private key in KEY."""
    try:
        beside = local_files.read(identity_file.with_name(f"{identity_file.name}.pub")).content
    except OSError:
        return False
    offered = next(filter(_PUBLIC_KEY.match, beside.splitlines()), b"")
    return offered.decode(errors="replace").split()[:2] not in ([], public)


def require_certificate(certificate_file: Path) -> bytes:
    """Return the content of a file, if it holds a certificate of a key.

    Raises:
        IdentityFileUnusable: It does not; the error says why and what to do.
        FileStuck: Its file system does not answer.
    """
    subject = f"cannot use the certificate {certificate_file}"
    try:
        content = local_files.read(certificate_file).content
    except FileNotFoundError:
        what, hint = local_files.absence(certificate_file, where_is("CertificateFile"))
        raise errors.IdentityFileUnusable(f"{subject}, it {what}", hint) from None
    except OSError as error:
        raise errors.IdentityFileUnusable(f"{subject}, {error.strerror}", where_is("CertificateFile")) from None
    if b"-cert-v01@openssh.com " not in content:
        raise errors.IdentityFileUnusable(f"{subject}, it is not a certificate", "ssh-keygen -s makes one")
    return content


class _Refused(Exception):
    """ssh-keygen could not use a key."""

    def __init__(self, what: str, hint: str, *, is_locked: bool = False) -> None:
        super().__init__(what)
        self.what, self.hint, self.is_locked = what, hint, is_locked


@functools.lru_cache(maxsize=_KEYS_REMEMBERED)
def _public_by_ssh(path: Path, _mode: int, _owner: int, _digest: bytes) -> str:
    """Ask ssh-keygen, once for each good key as it is: a hundred volumes that are mounted at once may share one.

    Returns:
        The public key, in a line.

    Raises:
        _Refused: ssh can't use it now. That is not remembered, since somebody may just be writing the file.
    """
    judged = command.run(["ssh-keygen", "-y", "-P", "", "-f", path], seconds=_KEYGEN_SECONDS)
    if judged.returncode == 0:
        return judged.stdout
    complaint = judged.stderr.replace(str(path), "")
    if "UNPROTECTED" in complaint or "bad permissions" in complaint:
        raise _Refused("ssh refuses it because other users can read it", f"chmod 600 {shlex.quote(str(path))}")
    if "passphrase" in complaint:
        raise _Refused(
            "it needs a passphrase, which nobody could type when the volume is mounted",
            "put it into a secret and say passphrase_secret=NAME, or use a key without one (ssh-keygen -N '')",
            is_locked=True,
        )
    raise _Refused(*_NO_PRIVATE_KEY)


class WrongPassphrase(Exception):
    """A passphrase is not that of a key."""


class UnknownLock(Exception):
    """A key, or how it is encrypted, is of a kind that only ssh itself knows."""


class SlowLock(Exception):
    """To try a passphrase would take too long.

    Attributes:
        rounds: How often it would be hashed.
    """

    def __init__(self, rounds: int) -> None:
        super().__init__(rounds)
        self.rounds = rounds


def unlocked(key: bytes, passphrase: str) -> bytes:
    """Return a private key without its passphrase, in OpenSSH's own form.

    ssh-keygen would take the passphrase on its command line, or want it in a file.

    Raises:
        WrongPassphrase: It is not the key's.
        UnknownLock: The key can't be decrypted here.
        SlowLock: It could, but not in a reasonable time.
    """
    # imported here for the few volumes that need it: a service starts in the time of a call
    from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    is_openssh = _BEGIN_OPENSSH in key
    # ssh-keygen has tried the empty passphrase with keys in other forms, and has a limit
    cipher, rounds = _encryption(key) if is_openssh else (b"", 0)
    if rounds > MOST_ROUNDS:
        raise SlowLock(rounds)
    load = serialization.load_ssh_private_key if is_openssh else serialization.load_pem_private_key
    form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    try:
        return load(key, passphrase.encode()).private_bytes(*form)
    # AttributeError: raised by cryptography of Debian 13 for a key on a token
    except (UnsupportedAlgorithm, AttributeError, TypeError):
        raise UnknownLock from None
    except InvalidTag:
        raise WrongPassphrase from None
    except ValueError:
        # Debian 12's cryptography does not know these ciphers, and gets stuck after the encrypted part
        raise (UnknownLock if b"@openssh.com" in cipher else WrongPassphrase) from None


def _encryption(key: bytes) -> tuple[bytes, int]:
    """Return the cipher of a key in OpenSSH's own form, and how often its passphrase is hashed.

    Raises:
        UnknownLock: It has none, or it is malformed.
    """
    encoded, _, _ = key.partition(_BEGIN_OPENSSH)[2].partition(b"-----END")
    try:
        cipher, rest = take_string(base64.b64decode(encoded).removeprefix(b"openssh-key-v1\0"))
        _, rest = take_string(rest)
        how, _ = take_string(rest)
        _, rounds = take_string(how)
    except ValueError:
        raise UnknownLock from None
    return cipher, int.from_bytes(rounds, "big")


def where_is(option: str) -> str:
    """Return a hint on where a missing file may be."""
    return f"is '{option}' a path on this host? (~ is root's home)"


def _what_it_is(path: Path, content: bytes) -> tuple[str, str]:
    """Return what a file is that is not a private key, and what to do about it."""
    if _PUBLIC_KEY.match(content):
        private = path.with_suffix("") if path.suffix == ".pub" else "the file without .pub"
        return "it is a public key", f"name the private key, {private}"
    if content.startswith(b"PuTTY-User-Key-File"):
        return "it is a PuTTY key", "convert it with puttygen KEY -O private-openssh -o NEW"
    return _NO_PRIVATE_KEY
