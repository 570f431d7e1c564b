# SPDX-License-Identifier: MIT
"""SSH keys, made by ssh-keygen once for all tests."""

import base64
import functools
import io
import tempfile
from pathlib import Path

import paramiko

from sshfs_plugin.host import command
from support.waiting import LIMIT_SECONDS


def write_key(file: Path, form: str, number: int = 1) -> Path:
    """Write a private key that ssh-keygen has made, and the public one beside it.

    Args:
        file: Where to.
        form: ``ed25519``, ``ecdsa`` or ``rsa`` for OpenSSH's own form, or with ``-PEM`` or ``-PKCS8`` after it.
        number: Tells keys of the same form apart; those of the same number and kind are made once.
    """
    private, public = _key_pair(form, number)
    file.write_text(private)
    file.chmod(0o600)
    public_key(file).write_text(public)
    return file


def make_key(file: Path, *form: str, passphrase: str = "") -> Path:
    """Make a private key that no other test has, and the public one beside it.

    Args:
        file: Where to.
        form: The options of ssh-keygen that say what it is.
        passphrase: What it is locked with.
    """
    _run("ssh-keygen", "-q", "-N", passphrase, "-f", file, *form)
    return file


def public_key(file: Path) -> Path:
    """Return where the public key of a private key is."""
    return file.with_name(f"{file.name}.pub")


@functools.cache
def _key_pair(form: str, number: int) -> tuple[str, str]:
    kind, _, encoding = form.partition("-")
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "key"
        if encoding:
            write_key(file, kind, number)
            _run("ssh-keygen", "-q", "-p", "-m", encoding, "-P", "", "-N", "", "-f", file)
        else:
            bits = ("-b", "2048") if kind == "rsa" else ()
            _run("ssh-keygen", "-q", "-t", kind, *bits, "-N", "", "-C", "", "-f", file)
        return file.read_text(), public_key(file).read_text()


def _run(*argv: str | Path) -> None:
    command.run(argv, seconds=LIMIT_SECONDS).check_returncode()


@functools.cache
def host_key(kind: str, number: int = 1) -> paramiko.PKey:
    """Return the host key of a kind (ed25519, ecdsa or rsa) that has this number."""
    if kind == "ed25519":
        return paramiko.Ed25519Key.from_private_key(io.StringIO(_key_pair(kind, number)[0]))
    of_kind = paramiko.ECDSAKey if kind == "ecdsa" else paramiko.RSAKey
    return of_kind.from_private_key(io.StringIO(_key_pair(f"{kind}-PEM", number)[0]))


def write_token_key(file: Path) -> Path:
    """Write a key as ssh-keygen -t ed25519-sk does: of no use without the token, but that can't be seen."""

    def text(*parts: bytes) -> bytes:
        return b"".join(len(part).to_bytes(4, "big") + part for part in parts)

    kind = b"sk-ssh-ed25519@openssh.com"
    public = text(kind, host_key("ed25519").asbytes()[-32:], b"ssh:")
    private = public + b"\1" + text(b"handle", b"", b"a token")
    numbers = (1234).to_bytes(4, "big") * 2
    padding = bytes(range(1, 9 - len(numbers + private) % 8)) if len(numbers + private) % 8 else b""
    whole = (
        b"openssh-key-v1\0"
        + text(b"none", b"none", b"")
        + (1).to_bytes(4, "big")
        + text(public, numbers + private + padding)
    )
    encoded = base64.encodebytes(whole).decode()
    file.write_text(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{encoded}-----END OPENSSH PRIVATE KEY-----\n")
    file.chmod(0o600)
    return file
