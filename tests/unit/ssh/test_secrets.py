# SPDX-License-Identifier: MIT
"""Secrets by name: where they are looked for, what they may hold, and that an error holds nothing of them."""

import os
from pathlib import Path

import pytest
from support.ssh_keys import write_key

from sshfs_plugin import errors
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.secrets import Secrets
from sshfs_plugin.volume import LONGEST_PASSWORD

WANTED = "it must be a private key, or a password in one line"


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    for directory in ("credentials", "secrets.d"):
        (tmp_path / directory).mkdir()
    return Secrets(tmp_path / "credentials", tmp_path / "secrets.d")


def put(directory: Path, content: bytes, mode: int = 0o600) -> Path:
    file = directory / "nas"
    file.write_bytes(content)
    file.chmod(mode)
    return file


def refusal(secrets: Secrets) -> str:
    with pytest.raises(errors.SecretUnusable) as refused:
        secrets.read("nas")
    return str(refused.value)


def test_secret_when_it_is_a_line_is_that_line_without_its_end(secrets: Secrets) -> None:
    for content in (b"hunter2", b"hunter2\n", b"hunter2\r\n", b"\xef\xbb\xbfhunter2\n"):
        put(secrets.directory, content)
        assert (secrets.read("nas").text, secrets.read("nas").is_key) == ("hunter2", False)
    put(secrets.directory, " hünter,2 \n".encode())
    assert secrets.read("nas").text == " hünter,2 "


@pytest.mark.parametrize("form", ["ed25519", "rsa-PEM", "ecdsa-PKCS8"])
def test_secret_when_it_is_a_private_key_stays_as_it_is(secrets: Secrets, form: str) -> None:
    key = write_key(secrets.directory / "nas", form)
    assert (secrets.read("nas").text, secrets.read("nas").is_key) == (key.read_text(), True)


def test_credential_counts_before_the_file_of_root(secrets: Secrets) -> None:
    put(secrets.directory, b"from the file")
    assert (secrets.read("nas").text, secrets.read("nas").is_credential) == ("from the file", False)
    put(secrets.credentials, b"from systemd", 0o400)
    assert (secrets.read("nas").text, secrets.read("nas").is_credential) == ("from systemd", True)


def test_secret_when_missing_says_where_it_is_looked_for(secrets: Secrets) -> None:
    assert refusal(secrets) == (
        f"cannot use the secret 'nas', neither {secrets.credentials} nor {secrets.directory} has a file of that name: "
        f"put it into {secrets.directory}/nas, or let systemd hand it to the service as credentials.md says"
    )


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_secret_that_is_not_for_root_alone_is_refused(secrets: Secrets, mode: int) -> None:
    file = put(secrets.directory, b"hunter2", mode)
    assert refusal(secrets) == (
        f"cannot use the secret 'nas' in {file}, it is open to users other than root: chmod 600 {file}"
    )


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_secret_of_another_user_is_refused(secrets: Secrets) -> None:
    file = put(secrets.directory, b"hunter2")
    os.chown(file, 1000, 1000)
    assert refusal(secrets) == (
        f"cannot use the secret 'nas' in {file}, it belongs to a user other than root: chown root {file}"
    )


def test_secret_that_is_a_pipe_is_not_waited_for(secrets: Secrets) -> None:
    os.mkfifo(secrets.directory / "nas", 0o600)
    assert "it can't be read (it is not a regular file)" in refusal(secrets)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", f"it is empty: {WANTED}"),
        (b"\n", f"it is empty: {WANTED}"),
        (b"s3cret\nline\n", f"it has several lines and is no private key: {WANTED}"),
        (b"s3cret\rline", f"it has several lines and is no private key: {WANTED}"),
        (b"s3cret\n\n", f"it has several lines and is no private key: {WANTED}"),
        (b"s3cret\0", f"it has a zero byte: {WANTED}"),
        (b"s3cret\xff", f"it is not UTF-8 text: {WANTED}"),
        (b"s3cret" * 200, f"it is longer than the {LONGEST_PASSWORD} bytes that ssh reads: {WANTED}"),
        (b"s3cret" * (1 << 18), f"it is too long: {WANTED}"),
        (b"ssh-ed25519 AAAAs3cret alice\n", "it is a public key: it must be the private one"),
    ],
    ids=str,
)
def test_secret_that_is_nothing_to_log_in_with_is_refused_and_not_repeated(
    secrets: Secrets, content: bytes, complaint: str
) -> None:
    file = put(secrets.directory, content)
    assert refusal(secrets) == f"cannot use the secret 'nas' in {file}, {complaint}"


def test_line_is_as_long_as_ssh_reads_at_most(secrets: Secrets) -> None:
    put(secrets.directory, b"x" * LONGEST_PASSWORD)
    assert len(secrets.read("nas").text) == LONGEST_PASSWORD


def test_passphrase_that_is_a_key_itself_is_refused(secrets: Secrets) -> None:
    key = write_key(secrets.directory / "nas", "ed25519")
    with pytest.raises(errors.SecretUnusable) as refused:
        secrets.passphrase("nas")
    assert str(refused.value) == (
        f"cannot use the secret 'nas' in {key}, it is a private key: "
        "'passphrase_secret' names the passphrase, 'secret' the key"
    )


def test_secret_when_shown_hides_what_it_holds(secrets: Secrets) -> None:
    put(secrets.directory, b"hunter2")
    assert "hunter2" not in repr(secrets.read("nas"))


def test_secrets_of_a_host_follow_its_settings() -> None:
    settings = Settings(credentials=Path("/run/credentials/other"), configuration=Path("/srv/etc"))
    assert Secrets.of(settings) == Secrets(Path("/run/credentials/other"), Path("/srv/etc/secrets.d"))
