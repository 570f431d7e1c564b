# SPDX-License-Identifier: MIT
"""What a volume logs in with: real keys from ssh-keygen, and everything that can be wrong with a file."""

import base64
import os
import shutil
from pathlib import Path

import pytest
from support.agents import agent
from support.programs import Programs
from support.ssh_keys import public_key, write_key, write_token_key
from support.waiting import LIMIT_SECONDS

from sshfs_plugin import errors
from sshfs_plugin.host import command
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.agent import Agent
from sshfs_plugin.ssh.credentials import Keyring, Login
from sshfs_plugin.ssh.key_files import MOST_ROUNDS, certificate_beside, require_usable
from sshfs_plugin.ssh.secrets import Secrets
from sshfs_plugin.volume import Credentials

FORMS = ["ed25519", "ecdsa", "rsa", "ecdsa-PEM", "rsa-PEM", "ecdsa-PKCS8", "rsa-PKCS8"]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("keys")
    return {form: write_key(directory / form, form) for form in FORMS}


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    keyring = Keyring(
        default_key=tmp_path / "etc/id_ed25519",
        home=tmp_path / "root",
        secrets=Secrets(tmp_path / "credentials", tmp_path / "etc/secrets.d"),
    )
    (keyring.home / ".ssh").mkdir(parents=True)
    keyring.default_key.parent.mkdir()
    return keyring


def refusal(identity_file: Path) -> str:
    with pytest.raises(errors.IdentityFileUnusable) as refused:
        require_usable(identity_file)
    return str(refused.value)


def lock(key: Path) -> Path:
    """Give a key a passphrase."""
    header = key.read_text().splitlines()[0]
    form = {"-----BEGIN OPENSSH PRIVATE KEY-----": "RFC4716", "-----BEGIN PRIVATE KEY-----": "PKCS8"}.get(header, "PEM")
    options = ["-q", "-P", "", "-N", "correct horse", "-a", "1", "-m", form]
    command.run(["ssh-keygen", "-p", *options, "-f", str(key)], seconds=LIMIT_SECONDS).check_returncode()
    return key


def copy(key: Path, to: Path) -> Path:
    shutil.copyfile(key, to)
    to.chmod(0o600)
    return to


NOT_A_KEY = (
    "it is not a private key that ssh can read: "
    "it must be complete, with its BEGIN and END lines, unix line ends and a final newline"
)

# Identity files


@pytest.mark.parametrize("form", FORMS)
def test_identity_file_when_ssh_can_read_it_is_usable(keys: dict[str, Path], keyring: Keyring, form: str) -> None:
    login = keyring.login(Credentials(identity_file=str(keys[form])))
    assert login.identity_files == (keys[form],)
    assert login.password == ""


def test_identity_file_when_it_begins_with_a_tilde_is_in_roots_home(keys: dict[str, Path], keyring: Keyring) -> None:
    key = copy(keys["ed25519"], keyring.home / ".ssh/nas")
    assert keyring.login(Credentials(identity_file="~/.ssh/nas")).identity_files == (key,)


def test_identity_file_when_missing_says_which_and_where_it_is_looked_for(keyring: Keyring) -> None:
    with pytest.raises(errors.IdentityFileUnusable) as refused:
        keyring.login(Credentials(identity_file="~/nas"))
    assert str(refused.value) == (
        f"cannot use the identity file {keyring.home}/nas, it does not exist, or is below /tmp, where the service "
        "can't see it: move it elsewhere"
    )


def test_identity_file_when_it_can_not_be_read_says_why(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (
        f"cannot use the identity file {tmp_path}, it is not a regular file: "
        "it must be a private key file that root can read"
    )


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_identity_file_when_it_is_the_public_key_names_the_private_one(keys: dict[str, Path], kind: str) -> None:
    public = Path(f"{keys[kind]}.pub")
    assert refusal(public) == (
        f"cannot use the identity file {public}, it is a public key: name the private key, {keys[kind]}"
    )


def test_identity_file_when_it_is_a_public_key_under_another_name_says_so(
    keys: dict[str, Path], tmp_path: Path
) -> None:
    file = copy(Path(f"{keys['ed25519']}.pub"), tmp_path / "nas")
    assert refusal(file).endswith("it is a public key: name the private key, the file without .pub")


def test_identity_file_when_putty_made_it_says_how_to_convert_it(tmp_path: Path) -> None:
    file = tmp_path / "nas.ppk"
    file.write_text("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n")
    assert refusal(file).endswith("it is a PuTTY key: convert it with puttygen KEY -O private-openssh -o NEW")


@pytest.mark.parametrize("form", ["ed25519", "rsa-PEM", "ecdsa-PKCS8"])
def test_identity_file_when_it_has_a_passphrase_says_why_that_can_not_work(
    keys: dict[str, Path], tmp_path: Path, form: str
) -> None:
    file = lock(copy(keys[form], tmp_path / "nas"))
    assert refusal(file) == (
        f"cannot use the identity file {file}, it needs a passphrase, which nobody could type when the volume is "
        "mounted: put it into a secret and say passphrase_secret=NAME, or use a key without one (ssh-keygen -N '')"
    )


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_identity_file_when_others_can_read_it_is_refused_as_ssh_would(
    keys: dict[str, Path], tmp_path: Path, mode: int
) -> None:
    file = copy(keys["ed25519"], tmp_path / "nas")
    file.chmod(mode)
    assert refusal(file) == (
        f"cannot use the identity file {file}, ssh refuses it because other users can read it: chmod 600 {file}"
    )


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"hunter2\n", b"\x00\xff\xfe" * 100, b"-----BEGIN OPENSSH PRIVATE KEY-----\n"]
)
def test_identity_file_when_it_is_something_else_says_what_a_key_looks_like(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "nas"
    file.write_bytes(content)
    file.chmod(0o600)
    assert refusal(file) == f"cannot use the identity file {file}, {NOT_A_KEY}"


def test_identity_file_when_it_is_garbage_under_a_misleading_name_is_still_garbage(tmp_path: Path) -> None:
    file = tmp_path / "passphrase UNPROTECTED bad permissions"
    file.write_text("garbage")
    file.chmod(0o600)
    assert refusal(file).endswith(NOT_A_KEY)


def test_identity_file_when_saved_with_windows_line_ends_is_refused_as_ssh_would(
    keys: dict[str, Path], tmp_path: Path
) -> None:
    file = copy(keys["ed25519"], tmp_path / "nas")
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert refusal(file).endswith(NOT_A_KEY)


def test_identity_file_when_its_final_newline_is_lost_is_refused_as_ssh_would(
    keys: dict[str, Path], tmp_path: Path
) -> None:
    file = copy(keys["ed25519"], tmp_path / "nas")
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    assert refusal(file).endswith(NOT_A_KEY)


def test_identity_file_when_cut_off_is_refused(keys: dict[str, Path], tmp_path: Path) -> None:
    file = copy(keys["rsa"], tmp_path / "nas")
    file.write_bytes(file.read_bytes()[:600])
    assert refusal(file).endswith(NOT_A_KEY)


def test_refusal_never_shows_what_is_in_the_file(keys: dict[str, Path], tmp_path: Path) -> None:
    file = copy(keys["rsa-PEM"], tmp_path / "nas")
    content = file.read_text().splitlines()
    file.write_text("\n".join(content[:-2]))
    assert content[3] not in refusal(file)


# Without a word from the user


def test_login_when_nothing_is_named_uses_the_default_key_alone(keys: dict[str, Path], keyring: Keyring) -> None:
    copy(keys["ed25519"], keyring.default_key)
    copy(keys["rsa"], keyring.home / ".ssh/id_rsa")
    assert keyring.login(Credentials()).identity_files == (keyring.default_key,)


def test_login_when_the_default_key_can_not_be_used_says_so(keys: dict[str, Path], keyring: Keyring) -> None:
    copy(keys["ed25519"], keyring.default_key).chmod(0o644)
    with pytest.raises(errors.IdentityFileUnusable) as refused:
        keyring.login(Credentials())
    assert f"cannot use the identity file {keyring.default_key}, ssh refuses it" in str(refused.value)


def test_login_when_there_is_no_default_key_tries_those_of_roots_that_work(
    keys: dict[str, Path], keyring: Keyring
) -> None:
    directory = keyring.home / ".ssh"
    lock(copy(keys["ecdsa-PEM"], directory / "id_rsa"))
    ecdsa = copy(keys["ecdsa"], directory / "id_ecdsa")
    ed25519 = copy(keys["ed25519"], directory / "id_ed25519")
    copy(keys["rsa"], directory / "nas")
    assert keyring.login(Credentials()).identity_files == (ecdsa, ed25519)


def test_login_when_root_has_several_keys_tries_them_in_the_order_of_ssh(
    keys: dict[str, Path], keyring: Keyring
) -> None:
    files = tuple(copy(keys[kind], keyring.home / f".ssh/id_{kind}") for kind in ("rsa", "ecdsa", "ed25519"))
    assert keyring.login(Credentials()).identity_files == files


def test_login_when_there_is_nothing_at_all_has_nothing(keyring: Keyring) -> None:
    login = keyring.login(Credentials())
    assert (login.password, login.identity_files) == ("", ())


def test_login_when_a_password_is_given_uses_no_key_that_was_not_named(keys: dict[str, Path], keyring: Keyring) -> None:
    copy(keys["ed25519"], keyring.default_key)
    login = keyring.login(Credentials(password="hunter2"))
    assert (login.password, login.identity_files) == ("hunter2", ())


def test_login_when_key_and_password_are_given_has_both(keys: dict[str, Path], keyring: Keyring) -> None:
    login = keyring.login(Credentials(password="hunter2", identity_file=str(keys["ed25519"])))
    assert (login.password, login.identity_files) == ("hunter2", (keys["ed25519"],))


def test_login_when_shown_hides_the_password(keyring: Keyring) -> None:
    assert "hunter2" not in repr(keyring.login(Credentials(password="hunter2")))


def test_digest_of_a_login_differs_with_anything_that_a_server_is_given(tmp_path: Path) -> None:
    key, content = tmp_path / "key", b"a key"
    logins = [
        Login(),
        Login(password="hunter2"),
        Login(password="hunter3"),
        Login(identity_files=(key,), contents={key: content}),
        Login(identity_files=(key,), contents={key: b"another key"}),
        Login(identity_files=(key,), contents={key: content, certificate_beside(key): b"a certificate"}),
        Login(identity_files=(key,), certificate_file=certificate_beside(key), contents={key: content}),
        Login(agent=Agent(key), agent_keys=(b"a key",)),
        Login(agent=Agent(tmp_path), agent_keys=(b"a key",)),
        Login(agent=Agent(key), agent_keys=(b"another key",)),
    ]
    assert len({login.digest for login in logins}) == len(logins)
    assert Login(password="hunter2").digest == logins[1].digest


def test_keyring_of_a_host_follows_its_settings() -> None:
    keyring = Keyring.of(Settings(configuration=Path("/srv/etc"), home=Path("/home/admin")))
    assert keyring == Keyring(
        default_key=Path("/srv/etc/id_ed25519"),
        home=Path("/home/admin"),
        secrets=Secrets(Path("/run/credentials/docker-volume-sshfs.service"), Path("/srv/etc/secrets.d")),
    )


# Password files


def password_file(directory: Path, content: bytes, mode: int = 0o600) -> Path:
    file = directory / "password"
    file.write_bytes(content)
    file.chmod(mode)
    return file


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"hunter2", "hunter2"),
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b" two words \nand a note\n", " two words "),
        ("hünter\n".encode(), "hünter"),
    ],
)
def test_password_file_holds_the_password_in_its_first_line(
    keyring: Keyring, tmp_path: Path, content: bytes, password: str
) -> None:
    file = password_file(tmp_path, content)
    login = keyring.login(Credentials(password_file=str(file)))
    assert (login.password, login.password_file, login.identity_files) == (password, file, ())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("ü".encode() * 512 + b"\n", "its first line is longer than the 1023 bytes that ssh reads"),
        (b"hun\0ter2\n", "its first line has a zero byte"),
    ],
)
def test_password_file_that_ssh_would_read_in_part_is_refused(
    keyring: Keyring, tmp_path: Path, content: bytes, said: str
) -> None:
    """The check would pass, and each mount be a refused login."""
    file = password_file(tmp_path, content)
    with pytest.raises(errors.PasswordFileUnusable) as refused:
        keyring.login(Credentials(password_file=str(file)))
    assert str(refused.value) == f"cannot use the password file {file}, {said}: write the password there"
    longest = password_file(tmp_path, b"x" * 1023)
    assert len(keyring.login(Credentials(password_file=str(longest))).password) == 1023


def test_identity_file_when_it_is_as_it_was_is_judged_once(
    keys: dict[str, Path], tmp_path: Path, programs: Programs
) -> None:
    key = Path(shutil.copy(keys["ed25519"], tmp_path / "key"))
    programs.add("ssh-keygen")
    require_usable(key)
    require_usable(key)
    assert len(programs.calls("ssh-keygen")) == 1
    key.chmod(0o640)
    require_usable(key)
    shutil.copy(keys["rsa"], key)
    require_usable(key)
    assert len(programs.calls("ssh-keygen")) == 3


def test_identity_file_that_was_just_being_written_is_judged_again(
    keys: dict[str, Path], tmp_path: Path, programs: Programs
) -> None:
    key = Path(shutil.copy(keys["ed25519"], tmp_path / "key"))
    programs.add("ssh-keygen", "exit 255")
    assert "it is not a private key that ssh can read" in refusal(key)
    programs.add("ssh-keygen")
    require_usable(key)


def test_password_file_when_its_group_may_read_it_is_the_administrators_choice(
    keyring: Keyring, tmp_path: Path
) -> None:
    file = password_file(tmp_path, b"hunter2", 0o640)
    assert keyring.login(Credentials(password_file=str(file))).password == "hunter2"


def test_password_file_when_it_begins_with_a_tilde_is_in_roots_home(keyring: Keyring) -> None:
    password_file(keyring.home, b"hunter2")
    assert keyring.login(Credentials(password_file="~/password")).password == "hunter2"


def test_password_when_there_is_none_is_empty(keyring: Keyring) -> None:
    assert keyring.login(Credentials()).password == ""


def password_refusal(keyring: Keyring, file: Path) -> str:
    with pytest.raises(errors.PasswordFileUnusable) as refused:
        keyring.login(Credentials(password_file=str(file)))
    return str(refused.value)


def test_password_file_when_missing_says_which(keyring: Keyring, tmp_path: Path) -> None:
    assert password_refusal(keyring, tmp_path / "gone") == (
        f"cannot use the password file {tmp_path}/gone, it does not exist, or is below /tmp, where the service can't "
        "see it: move it elsewhere"
    )


def test_password_file_when_it_can_not_be_read_says_why(keyring: Keyring, tmp_path: Path) -> None:
    assert password_refusal(keyring, tmp_path) == (
        f"cannot use the password file {tmp_path}, it is not a regular file: it must be a text file that root can read"
    )


def test_password_file_when_it_is_no_text_says_so(keyring: Keyring, tmp_path: Path) -> None:
    file = password_file(tmp_path, b"h\xfcnter\n")
    assert password_refusal(keyring, file) == (
        f"cannot use the password file {file}, it is not UTF-8 text: it must be a text file that root can read"
    )


@pytest.mark.parametrize("mode", [0o644, 0o606, 0o601])
def test_password_file_when_everybody_can_read_it_says_how_to_mend_that(
    keyring: Keyring, tmp_path: Path, mode: int
) -> None:
    file = password_file(tmp_path, b"hunter2", mode)
    assert password_refusal(keyring, file) == (
        f"cannot use the password file {file}, every user can read it: chmod 600 {file}"
    )


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n", b"\nhunter2\n"])
def test_password_file_when_its_first_line_is_empty_says_so(keyring: Keyring, tmp_path: Path, content: bytes) -> None:
    file = password_file(tmp_path, content)
    assert password_refusal(keyring, file) == (
        f"cannot use the password file {file}, its first line is empty: write the password there"
    )


@pytest.mark.parametrize("option", ["identity_file", "password_file"])
def test_login_when_a_file_is_a_pipe_does_not_wait_for_it(keyring: Keyring, tmp_path: Path, option: str) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(errors.CredentialsError, match="it is not a regular file"):
        keyring.login(Credentials(**{option: str(tmp_path / "pipe")}))


# Secrets


def secret(directory: Path, content: bytes, name: str = "nas") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / name
    file.write_bytes(content)
    file.chmod(0o400)
    return file


def test_secret_of_root_that_is_a_key_is_used_where_it_is(keys: dict[str, Path], keyring: Keyring) -> None:
    file = secret(keyring.secrets.directory, keys["ed25519"].read_bytes())
    login = keyring.login(Credentials(secret="nas"))
    assert (login.identity_files, login.copied_key, login.password) == ((file,), "", "")


def test_credential_that_is_a_key_is_copied_for_ssh(keys: dict[str, Path], keyring: Keyring) -> None:
    file = secret(keyring.secrets.credentials, keys["ed25519"].read_bytes())
    login = keyring.login(Credentials(secret="nas"))
    assert login.identity_files == (file,)
    assert login.copied_key == keys["ed25519"].read_text()
    assert login.without_contents.copied_key == login.copied_key, "a further mount writes it as well"


@pytest.mark.parametrize("form", FORMS)
def test_key_beside_which_is_the_public_key_of_another_is_copied_for_ssh(
    keys: dict[str, Path], tmp_path: Path, keyring: Keyring, form: str
) -> None:
    file = copy(keys[form], tmp_path / "nas")
    beside = tmp_path / "nas.pub"
    for absent_or_its_own in ("", "not a key\n", public_key(keys[form]).read_text()):
        if absent_or_its_own:
            beside.write_text(absent_or_its_own)
        assert keyring.login(Credentials(identity_file=str(file))).copied_key == "", absent_or_its_own
    beside.write_text("# of 2019\n" + public_key(keys["rsa" if form == "ed25519" else "ed25519"]).read_text())
    login = keyring.login(Credentials(identity_file=str(file)))
    assert login.copied_key == keys[form].read_text()
    assert (login.identity_files, login.contents) == ((file,), {file: keys[form].read_bytes()})


def test_default_key_beside_which_is_the_public_key_of_another_is_copied_for_ssh(
    keys: dict[str, Path], keyring: Keyring
) -> None:
    at_home = keyring.home / ".ssh/id_ed25519"
    for file in (at_home, keyring.default_key):
        copy(keys["ed25519"], file)
        file.with_name(f"{file.name}.pub").write_text(public_key(keys["rsa"]).read_text())
        login = keyring.login(Credentials())
        assert (login.identity_files, login.copied_key) == ((file,), keys["ed25519"].read_text())


def test_keys_at_home_beside_which_are_public_keys_of_others_are_passed_over(
    keys: dict[str, Path], keyring: Keyring
) -> None:
    directory = keyring.home / ".ssh"
    copy(keys["ed25519"], directory / "id_ed25519")
    copy(keys["rsa"], directory / "id_rsa")
    (directory / "id_ed25519.pub").write_text(public_key(keys["rsa"]).read_text())
    login = keyring.login(Credentials())
    assert (login.identity_files, login.copied_key) == ((directory / "id_rsa",), "")


def test_secret_of_root_that_is_a_password_is_read_where_it_is(keyring: Keyring) -> None:
    file = secret(keyring.secrets.directory, b"hunter2\n")
    login = keyring.login(Credentials(secret="nas"))
    assert (login.password, login.password_file, login.identity_files) == ("hunter2", file, ())


def test_credential_that_is_a_password_is_copied_for_ssh(keyring: Keyring) -> None:
    secret(keyring.secrets.credentials, b"hunter2\n")
    login = keyring.login(Credentials(secret="nas"))
    assert (login.password, login.password_file, login.identity_files) == ("hunter2", None, ())


def test_secret_that_is_a_password_can_stand_beside_a_key(keys: dict[str, Path], keyring: Keyring) -> None:
    secret(keyring.secrets.directory, b"hunter2\n")
    login = keyring.login(Credentials(secret="nas", identity_file=str(keys["ed25519"])))
    assert (login.password, login.identity_files) == ("hunter2", (keys["ed25519"],))


@pytest.mark.parametrize(
    ("content", "credentials", "said"),
    [
        (
            "a key",
            Credentials(secret="nas", identity_file="/other"),
            "option 'IdentityFile' contradicts the secret 'nas', which is a private key: leave one of them out",
        ),
        (
            "a key",
            Credentials(secret="nas", identity_agent="/agent"),
            "option 'IdentityAgent' contradicts the secret 'nas', which is a private key: leave one of them out",
        ),
        (
            "hunter2",
            Credentials(secret="nas", passphrase_secret="other"),
            "option 'passphrase_secret' needs a private key, and the secret 'nas' is a password",
        ),
        (
            "hunter2",
            Credentials(secret="nas", certificate_file="/nas-cert.pub"),
            "option 'CertificateFile' needs a private key, and the secret 'nas' is a password",
        ),
    ],
)
def test_secret_when_it_is_not_what_another_option_wants_is_told(
    keys: dict[str, Path], keyring: Keyring, content: str, credentials: Credentials, said: str
) -> None:
    secret(keyring.secrets.directory, keys["ed25519"].read_bytes() if content == "a key" else content.encode())
    with pytest.raises(errors.InvalidOption) as refused:
        keyring.login(credentials)
    assert str(refused.value) == said


def test_secret_that_is_half_a_key_is_told_of_as_a_secret(keys: dict[str, Path], keyring: Keyring) -> None:
    file = secret(keyring.secrets.directory, keys["rsa"].read_bytes()[:600])
    with pytest.raises(errors.IdentityFileUnusable) as refused:
        keyring.login(Credentials(secret="nas"))
    assert str(refused.value) == f"cannot use the secret 'nas' in {file}, {NOT_A_KEY}"


# Passphrases

UNKNOWN_LOCK = "it is a key on a token, or has a passphrase in a form that is not known here"


@pytest.mark.parametrize("form", FORMS)
def test_key_with_a_passphrase_is_unlocked_for_ssh(
    keys: dict[str, Path], tmp_path: Path, keyring: Keyring, form: str
) -> None:
    file = lock(copy(keys[form], tmp_path / "nas"))
    secret(keyring.secrets.directory, b"correct horse\n", "pass")
    login = keyring.login(Credentials(identity_file=str(file), passphrase_secret="pass"))
    assert login.identity_files == (file,)
    unlocked = tmp_path / "unlocked"
    unlocked.touch(0o600)
    unlocked.write_text(login.copied_key)
    require_usable(unlocked)
    public = command.run(["ssh-keygen", "-y", "-f", unlocked], seconds=LIMIT_SECONDS).stdout.split()
    assert public[:2] == public_key(keys[form]).read_text().split()[:2]
    assert login.contents == {file: login.copied_key.encode()}


def test_secret_can_be_a_key_with_a_passphrase(keys: dict[str, Path], tmp_path: Path, keyring: Keyring) -> None:
    secret(keyring.secrets.credentials, lock(copy(keys["ed25519"], tmp_path / "nas")).read_bytes())
    secret(keyring.secrets.credentials, b"correct horse", "pass")
    login = keyring.login(Credentials(secret="nas", passphrase_secret="pass"))
    assert "BEGIN OPENSSH PRIVATE KEY" in login.copied_key


def test_certificate_beside_a_key_with_a_passphrase_is_named_to_ssh(
    keys: dict[str, Path], tmp_path: Path, keyring: Keyring
) -> None:
    file = lock(copy(keys["ed25519"], tmp_path / "nas"))
    certificate_beside(file).write_text("ssh-ed25519-cert-v01@openssh.com AAAA")
    secret(keyring.secrets.directory, b"correct horse", "pass")
    login = keyring.login(Credentials(identity_file=str(file), passphrase_secret="pass"))
    assert login.certificate_file == certificate_beside(file)


@pytest.mark.parametrize("form", ["ed25519", "rsa-PEM", "ecdsa-PKCS8"])
def test_wrong_passphrase_is_told_and_not_repeated(
    keys: dict[str, Path], tmp_path: Path, keyring: Keyring, form: str
) -> None:
    file = lock(copy(keys[form], tmp_path / "nas"))
    secret(keyring.secrets.directory, b"wrong", "pass")
    with pytest.raises(errors.IdentityFileUnusable) as refused:
        keyring.login(Credentials(identity_file=str(file), passphrase_secret="pass"))
    assert str(refused.value) == (
        f"cannot use the identity file {file}, the secret 'pass' is not its passphrase: "
        f"ssh-keygen -y -f {file} tries one"
    )


def test_secret_with_a_passphrase_and_none_given_says_how_to_give_it(
    keys: dict[str, Path], tmp_path: Path, keyring: Keyring
) -> None:
    file = secret(keyring.secrets.directory, lock(copy(keys["ed25519"], tmp_path / "nas")).read_bytes())
    with pytest.raises(errors.IdentityFileLocked) as refused:
        keyring.login(Credentials(secret="nas"))
    assert str(refused.value) == (
        f"cannot use the secret 'nas' in {file}, it needs a passphrase, which nobody could type when the volume is "
        "mounted: put it into a secret and say passphrase_secret=NAME, or use a key without one (ssh-keygen -N '')"
    )


def test_passphrase_of_a_key_that_has_none_is_not_asked_for(keys: dict[str, Path], keyring: Keyring) -> None:
    login = keyring.login(Credentials(identity_file=str(keys["ed25519"]), passphrase_secret="missing"))
    assert (login.identity_files, login.copied_key) == ((keys["ed25519"],), "")


@pytest.mark.parametrize("cipher", ["chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com", "aes128-ctr"])
def test_key_that_is_encrypted_in_an_unusual_way_says_how_to_mend_it(
    keys: dict[str, Path], tmp_path: Path, keyring: Keyring, cipher: str
) -> None:
    file = copy(keys["ed25519"], tmp_path / "nas")
    words = ["-q", "-p", "-P", "", "-N", "correct horse", "-Z", cipher, "-f", str(file)]
    command.run(["ssh-keygen", *words], seconds=LIMIT_SECONDS).check_returncode()
    secret(keyring.secrets.directory, b"correct horse", "pass")
    with pytest.raises(errors.IdentityFileUnusable) as refused:
        keyring.login(Credentials(identity_file=str(file), passphrase_secret="pass"))
    assert str(refused.value) == (
        f"cannot use the identity file {file}, {UNKNOWN_LOCK}: ssh-keygen -p -f {file} puts that into the usual one"
    )


def test_key_on_a_token_can_not_be_unlocked(tmp_path: Path, keyring: Keyring) -> None:
    file = lock(write_token_key(tmp_path / "nas"))
    secret(keyring.secrets.directory, b"correct horse", "pass")
    with pytest.raises(errors.IdentityFileUnusable, match=f"cannot use the identity file {file}, {UNKNOWN_LOCK}: "):
        keyring.login(Credentials(identity_file=str(file), passphrase_secret="pass"))


@pytest.mark.parametrize("rounds", [MOST_ROUNDS + 1, 2**32 - 1])
def test_key_whose_passphrase_would_be_hashed_for_minutes_is_refused_at_once(
    keys: dict[str, Path], tmp_path: Path, keyring: Keyring, rounds: int
) -> None:
    file = lock(copy(keys["ed25519"], tmp_path / "nas"))
    begin, *lines, end = file.read_text().splitlines()
    content = base64.b64decode("".join(lines))
    salt = b"\0\0\0\x10" + content.partition(b"bcrypt\0\0\0\x18\0\0\0\x10")[2][:16]
    slow = content.replace(salt + (1).to_bytes(4, "big"), salt + rounds.to_bytes(4, "big"))
    assert slow != content
    file.write_text(f"{begin}\n{base64.encodebytes(slow).decode()}{end}\n")
    secret(keyring.secrets.directory, b"correct horse", "pass")
    with pytest.raises(errors.IdentityFileUnusable) as refused:
        keyring.login(Credentials(identity_file=str(file), passphrase_secret="pass"))
    assert str(refused.value) == (
        f"cannot use the identity file {file}, its passphrase is hashed {rounds} times, which would take too long: "
        f"let it be hashed 1000 times at most: ssh-keygen -p -a 100 -f {file}"
    )


# An agent


def test_agent_is_used_without_any_other_key(keys: dict[str, Path], keyring: Keyring) -> None:
    copy(keys["rsa"], keyring.default_key)
    with agent(keys["ed25519"]) as place:
        login = keyring.login(Credentials(identity_agent=str(place), password="hunter2"))
    assert (login.agent, len(login.agent_keys), login.identity_files) == (Agent(place), 1, ())
    assert login.password == "hunter2"
