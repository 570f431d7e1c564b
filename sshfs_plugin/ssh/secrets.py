# SPDX-License-Identifier: MIT
"""Secrets by name: credentials that systemd hands to the service, and files that root has put into one directory."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.host import local_files
from sshfs_plugin.settings import Settings
from sshfs_plugin.volume import LONGEST_PASSWORD

_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_PUBLIC_KEY = re.compile(r"(ssh-|ecdsa-|sk-)[\w@.-]+ AAAA")
_CONTENT = "it must be a private key, or a password in one line"


@dataclass(frozen=True, slots=True)
class Secret:
    """A private key or a line of text.

    Attributes:
        name: Its name.
        file: Where it was found.
        is_credential: Whether it is a credential of the service, and so goes when that stops.
        text: The private key as it is, or the line without its end.
    """

    name: str
    file: Path
    is_credential: bool
    text: str = field(repr=False)

    @property
    def is_key(self) -> bool:
        """Whether it is a private key, be it one that ssh can use or not."""
        return bool(_PRIVATE_KEY.search(self.text))

    @property
    def subject(self) -> str:
        """How an error about it begins."""
        return _subject(self.name, self.file)


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets of this host. They are read anew whenever one is needed.

    Attributes:
        credentials: The directory of the service's credentials.
        directory: The directory of root's files.
    """

    credentials: Path
    directory: Path

    @classmethod
    def of(cls, settings: Settings) -> "Secrets":
        """Return the secrets of a host with these settings."""
        return cls(settings.credentials, settings.secrets)

    def read(self, name: str) -> Secret:
        """Read a secret.

        Raises:
            SecretMissing: There is none of that name.
            SecretUnusable: It is not for root alone, or it is nothing to log in with.
        """
        for directory in (self.credentials, self.directory):
            file = directory / name
            try:
                content = local_files.read_private(file)
            except FileNotFoundError:
                continue
            except local_files.NotPrivate as why:
                raise errors.SecretUnusable(f"{_subject(name, file)}, it {why.complaint}", why.cure) from None
            return Secret(name, file, directory == self.credentials, _text(name, file, content))
        raise errors.SecretMissing(
            f"cannot use the secret '{name}', neither {self.credentials} nor {self.directory} has a file of that name",
            f"put it into {self.directory / name}, or let systemd hand it to the service as credentials.md says",
        )

    def passphrase(self, name: str) -> str:
        """Read a secret that is the passphrase of a key.

        Raises:
            SecretUnusable: As :meth:`read` does, or it is a private key itself.
        """
        secret = self.read(name)
        if secret.is_key:
            raise errors.SecretUnusable(
                f"{secret.subject}, it is a private key", "'passphrase_secret' names the passphrase, 'secret' the key"
            )
        return secret.text


def _text(name: str, file: Path, content: bytes) -> str:
    """Return a private key as it is, or a line without its end."""
    subject = _subject(name, file)
    if len(content) >= local_files.LARGEST:
        raise errors.SecretUnusable(f"{subject}, it is too long", _CONTENT)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise errors.SecretUnusable(f"{subject}, it is not UTF-8 text", _CONTENT) from None
    if _PRIVATE_KEY.search(text):
        return text
    line = text.removesuffix("\n").removesuffix("\r")
    if not line:
        raise errors.SecretUnusable(f"{subject}, it is empty", _CONTENT)
    if _PUBLIC_KEY.match(line):
        raise errors.SecretUnusable(f"{subject}, it is a public key", "it must be the private one")
    if any(end in line for end in "\r\n"):
        raise errors.SecretUnusable(f"{subject}, it has several lines and is no private key", _CONTENT)
    if complaint := read_in_part(line):
        raise errors.SecretUnusable(f"{subject}, it {complaint}", _CONTENT)
    return line


def read_in_part(line: str) -> str:
    """Return why ssh would not read all of a password or passphrase; empty if it would."""
    if "\0" in line:
        return "has a zero byte"
    if len(line.encode()) > LONGEST_PASSWORD:
        return f"is longer than the {LONGEST_PASSWORD} bytes that ssh reads"
    return ""


def _subject(name: str, file: Path) -> str:
    return f"cannot use the secret '{name}' in {file}"
