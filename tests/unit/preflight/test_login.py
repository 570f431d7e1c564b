# SPDX-License-Identifier: MIT
"""The check of the login, against real servers on loopback."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa
from support.agents import agent, tell
from support.ssh_client import FORMS, HOST, RSA, Client, announcing, connect, needs, public, shown
from support.ssh_keys import make_key, public_key, write_key, write_token_key
from support.ssh_server import KEY, PASSWORD, TYPED, Account, Server, serving
from support.waiting import LIMIT_SECONDS

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.host import command
from sshfs_plugin.ssh.known_hosts import line


@pytest.mark.parametrize("form", FORMS)
def test_login_with_a_key_of_any_kind_and_form_succeeds(
    client: Client, files: Path, keys: dict[str, Path], form: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(Account(directory=files, keys=[public(keys[form])])) as server:
        client.run(server, IdentityFile=str(keys[form]))
    assert caplog.messages == []
    assert server.seen == ["none", KEY, "subsystem sftp", "stat /photos", "list /photos"]


@pytest.mark.parametrize("method", [PASSWORD, TYPED])
def test_login_with_a_password_in_the_form_that_the_server_takes_succeeds(
    client: Client, files: Path, method: str
) -> None:
    with serving(Account(directory=files, password="hünter 2", ways=[(method,)])) as server:
        client.run(server, password="hünter 2")
    assert server.seen[:2] == ["none", method]


def test_login_with_a_password_that_the_server_takes_in_two_forms_begins_with_the_one_of_ssh(
    client: Client, files: Path
) -> None:
    """What is to be typed may be a code, and an answer to that a failed login at each connection."""
    with serving(Account(directory=files, password="hunter2", ways=[(PASSWORD,), (TYPED,)])) as server:
        volume = client.volume(server, password="hunter2")
        client.preflight.run(volume, Deadline.after(60))
        assert server.seen == ["none", PASSWORD, "subsystem sftp", "stat /photos", "list /photos"]
        server.seen.clear()
        ssh = connect(client, volume)
        assert server.seen == ["none", PASSWORD, "subsystem sftp"]
    assert (ssh.returncode, ssh.stderr) == (0, "")


def test_login_with_a_wrong_password_that_the_server_takes_in_two_forms_fails_once(client: Client, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", ways=[(PASSWORD,), (TYPED,)])) as server:
        error = client.refusal(server, password="wr0ng")
    assert isinstance(error, errors.LoginRefused)
    assert str(error) == (
        "127.0.0.1 refused to let bob in with the password (it takes a typed password, a password): "
        "are the password and the login name bob right?"
    )
    assert server.seen == ["none", PASSWORD]


@pytest.mark.parametrize(("method", "way"), [(PASSWORD, "a password"), (TYPED, "a typed password")])
def test_login_when_the_password_is_wrong_says_so_without_repeating_it(
    client: Client, files: Path, method: str, way: str
) -> None:
    with serving(Account(directory=files, password="hunter2", ways=[(method,)])) as server:
        error = client.refusal(server, password="wr0ng")
    assert isinstance(error, errors.LoginRefused)
    assert str(error) == (
        f"127.0.0.1 refused to let bob in with the password (it takes {way}): "
        "are the password and the login name bob right?"
    )


def test_login_when_the_key_is_not_authorized_says_how_to_authorize_it(
    client: Client, files: Path, keys: dict[str, Path]
) -> None:
    key = keys["ed25519"]
    with serving(Account(directory=files, keys=[public(keys["ecdsa"])])) as server:
        error = client.refusal(server, IdentityFile=str(key))
    assert isinstance(error, errors.LoginRefused)
    assert str(error) == (
        f"127.0.0.1 refused to let bob in with the key {key} (it takes a password, a key): is the public key in the "
        f"authorized_keys of bob there (sudo ssh-copy-id -i {key} -p {server.port} bob@127.0.0.1), "
        "and is that the right user?"
    )


def test_login_when_the_server_refuses_everything_says_all_that_was_tried(
    client: Client, files: Path, keys: dict[str, Path]
) -> None:
    with serving(Account(directory=files)) as server:
        error = client.refusal(server, IdentityFile=str(keys["ed25519"]), password="hunter2")
    assert (
        f"127.0.0.1 refused to let bob in with the key {keys['ed25519']} and the password (it takes a password, a key)"
    ) in str(error)
    assert server.seen == ["none", KEY, PASSWORD]


def test_login_when_the_server_takes_keys_alone_and_has_got_a_password_says_so(client: Client, files: Path) -> None:
    with serving(Account(directory=files, ways=[(KEY,)])) as server:
        error = client.refusal(server, password="hunter2")
    assert str(error) == (
        "127.0.0.1 refused to let bob in, nothing that it takes was given (it takes a key): "
        "give a key with IdentityFile"
    )
    assert server.seen == ["none"]


@pytest.mark.parametrize("method", [PASSWORD, TYPED])
def test_login_when_the_server_takes_passwords_alone_and_has_got_a_key_says_so(
    client: Client, files: Path, keys: dict[str, Path], method: str
) -> None:
    with serving(Account(directory=files, ways=[(method,)])) as server:
        error = client.refusal(server, IdentityFile=str(keys["ed25519"]))
    assert "127.0.0.1 refused to let bob in, nothing that it takes was given" in str(error)
    assert str(error).endswith(": give a password with password_file")


def test_login_when_there_is_neither_key_nor_password_says_how_to_get_one(client: Client, server: Server) -> None:
    assert str(client.refusal(server)) == (
        "127.0.0.1 refused to let bob in, nothing that it takes was given (it takes a password, a key): "
        "make a key with ssh-keygen as the README says, or give IdentityFile or password_file"
    )


@pytest.mark.parametrize(
    ("mode", "passphrase", "why"),
    [
        (0o644, "", "ssh refuses it because other users can read it: chmod 600 KEY"),
        (0o600, "hunter2", "it needs a passphrase, which nobody could type when the volume is mounted: put it into a "),
    ],
)
def test_login_when_the_keys_of_root_can_not_be_used_says_why(
    client: Client, files: Path, mode: int, passphrase: str, why: str
) -> None:
    key = make_key(client.directory / ".ssh/id_ed25519", "-t", "ed25519", passphrase=passphrase)
    key.chmod(mode)
    with serving(Account(directory=files, keys=[public(key)], ways=[(KEY,)])) as server:
        error = client.refusal(server)
    assert isinstance(error, errors.LoginRefused)
    assert str(error).startswith(
        "127.0.0.1 refused to let bob in, nothing that it takes was given (it takes a key): cannot use the identity "
        f"file {key}, {why.replace('KEY', str(key))}"
    )
    with serving(Account(directory=files, ways=[("none",)])) as server:
        client.run(server)


def test_login_when_the_server_takes_neither_keys_nor_passwords_says_what_a_volume_has(
    client: Client, files: Path
) -> None:
    with serving(Account(directory=files, ways=[("gssapi-with-mic",)])) as server:
        error = client.refusal(server, password="hunter2")
    assert "(it takes gssapi-with-mic): " in str(error)
    assert str(error).endswith("a volume can log in with keys and passwords only, let the server take one of them")


def test_login_when_the_server_lets_anybody_in_succeeds(client: Client, files: Path) -> None:
    with serving(Account(directory=files, ways=[("none",)])) as server:
        client.run(server)
    assert server.seen == ["none", "subsystem sftp", "stat /photos", "list /photos"]


def test_login_when_the_default_keys_are_several_succeeds_with_the_one_that_fits(
    client: Client, files: Path, keys: dict[str, Path]
) -> None:
    for kind in ("ecdsa", "ed25519"):
        (client.directory / f".ssh/id_{kind}").write_bytes(keys[kind].read_bytes())
        (client.directory / f".ssh/id_{kind}").chmod(0o600)
    with serving(Account(directory=files, keys=[public(keys["ed25519"])])) as server:
        client.run(server)
    assert server.seen[:4] == ["none", KEY, KEY, "subsystem sftp"]


@pytest.mark.parametrize("who", ["server", "volume"])
def test_login_when_no_signature_of_an_rsa_key_is_taken_succeeds_with_the_next_key_as_ssh_does(
    client: Client, files: Path, keys: dict[str, Path], who: str
) -> None:
    def choosy(transport: Any) -> None:
        if who == "server":
            transport.disabled_algorithms = {"pubkeys": list(RSA)}

    for kind in ("rsa", "ed25519"):
        (client.directory / f".ssh/id_{kind}").write_bytes(keys[kind].read_bytes())
        (client.directory / f".ssh/id_{kind}").chmod(0o600)
    taken = "ssh-ed25519" if who == "volume" else "+ssh-ed25519"
    with serving(Account(directory=files, keys=[public(keys["ed25519"])]), tune=choosy) as server:
        client.run(server, PubkeyAcceptedAlgorithms=taken)
        assert server.seen[:3] == ["none", KEY, "subsystem sftp"]


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        ("ed25519", "PubkeyAcceptedAlgorithms", "rsa-sha2-512,rsa-sha2-256"),
        ("ed25519", "PubkeyAcceptedAlgorithms", "-ssh-ed25519*"),
        ("ecdsa", "PubkeyAcceptedAlgorithms", "ssh-ed25519"),
        ("rsa", "RequiredRSASize", "8192"),
    ],
)
@pytest.mark.parametrize("where", ["file", "agent"])
def test_login_when_an_option_leaves_the_key_out_is_refused_as_ssh_would_be(  # noqa: PLR0913 (what varies)
    client: Client, files: Path, keys: dict[str, Path], kind: str, option: str, value: str, where: str
) -> None:
    key = keys[kind]
    with agent(key) as place, serving(Account(directory=files, keys=[public(key)], ways=[(KEY,)])) as server:
        login: Any = {"IdentityFile": str(key)} if where == "file" else {"IdentityAgent": str(place)}
        given: Any = {**login, option: value}
        error = client.refusal(server, **given)
        client.run(server, **login)
        ssh = connect(client, client.volume(server, **given))
    assert isinstance(error, errors.LoginRefused)
    assert KEY in server.seen
    if where == "file":
        assert str(error).endswith(
            f"(it takes a key): {option} leaves out the key {key}, change that option or the key"
        )
    assert "Permission denied" in ssh.stderr


@pytest.mark.parametrize("taken", ["+ssh-ed25519", "-ecdsa*", "^ssh-ed25519", "ecdsa*,ssh-ed*"])
def test_login_when_an_option_leaves_the_key_passes(
    client: Client, files: Path, keys: dict[str, Path], taken: str
) -> None:
    with serving(Account(directory=files, keys=[public(keys["ed25519"])])) as server:
        client.run(server, IdentityFile=str(keys["ed25519"]), PubkeyAcceptedAlgorithms=taken, RequiredRSASize="8192")


@pytest.mark.parametrize("way", [(KEY, PASSWORD), (KEY, TYPED), (PASSWORD, KEY)])
def test_login_when_the_server_wants_key_and_password_gives_both_in_its_order(
    client: Client, files: Path, keys: dict[str, Path], way: tuple[str, ...]
) -> None:
    account = Account(directory=files, keys=[public(keys["ecdsa"])], password="hunter2", ways=[way])
    with serving(account) as server:
        client.run(server, IdentityFile=str(keys["ecdsa"]), password="hunter2")
    assert server.seen[:3] == ["none", *way]


def test_login_when_the_server_wants_a_password_as_well_says_so(
    client: Client, files: Path, keys: dict[str, Path]
) -> None:
    account = Account(directory=files, keys=[public(keys["ecdsa"])], password="hunter2", ways=[(KEY, PASSWORD)])
    with serving(account) as server:
        error = client.refusal(server, IdentityFile=str(keys["ecdsa"]))
        assert str(error) == (
            f"127.0.0.1 refused to let bob in with the key {keys['ecdsa']} (it takes a password): "
            "give a password with password_file"
        )
        error = client.refusal(server, IdentityFile=str(keys["ecdsa"]), password="wrong")
        assert str(error) == (
            f"127.0.0.1 refused to let bob in with the key {keys['ecdsa']} and the password (it takes a password): "
            "are the password and the login name bob right?"
        )


def test_login_when_the_server_wants_a_key_after_the_password_says_so(client: Client, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", ways=[(PASSWORD, KEY)])) as server:
        error = client.refusal(server, password="hunter2")
    assert str(error) == (
        "127.0.0.1 refused to let bob in with the password (it takes a key): give a key with IdentityFile"
    )


@pytest.mark.parametrize("method", ["none", PASSWORD])
def test_login_when_the_server_hangs_up_says_so(client: Client, files: Path, method: str) -> None:
    with serving(Account(directory=files, password="hunter2", hangs_up_at=method)) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.LoginUnfinished)
    assert str(error).startswith("127.0.0.1 broke the login of bob off (")
    assert str(error).endswith(
        "): its log tells why; it may allow too few attempts, or only so many connections, or have banned this host"
    )


def test_login_when_the_server_hangs_up_while_it_is_typed_says_so(
    client: Client, files: Path, keys: dict[str, Path]
) -> None:
    account = Account(directory=files, password="hunter2", ways=[(TYPED,)], hangs_up_at=TYPED)
    with serving(account) as server:
        assert "broke the login of bob off" in str(client.refusal(server, password="hunter2"))


def test_login_when_the_server_hangs_up_just_after_it_has_let_it_in_is_not_refused(
    client: Client, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal would count for every volume that waits for the same login."""
    asking = paramiko.Transport.auth_none

    def asking_before_the_end(transport: paramiko.Transport, user: str) -> list[str]:
        left: list[str] = asking(transport, user)
        transport.close()
        return left

    with serving(Account(directory=files, ways=[("none",)])) as server:
        monkeypatch.setattr(paramiko.Transport, "auth_none", asking_before_the_end)
        error = client.refusal(server)
    assert isinstance(error, errors.SFTPUnavailable)
    assert "lets the login in but closed the connection when it asked for SFTP (" in str(error)


def test_login_when_the_password_has_expired_fails_instead_of_waiting_for_a_new_one(
    client: Client, files: Path
) -> None:
    with serving(Account(directory=files, password="hunter2", expired=True)) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.LoginUnfinished)
    assert "127.0.0.1 broke the login of bob off (" in str(error)


@pytest.mark.parametrize(
    "question",
    ["Passphrase: ", "Enter passphrase for bob: ", "Enter your password: ", "Code: ", "(bob) Password: ", ""],
)
def test_question_of_the_server_in_words_of_its_own_is_answered_by_the_check_and_by_ssh(
    client: Client, files: Path, question: str
) -> None:
    with serving(Account(directory=files, password="hunter2", ways=[(TYPED,)], question=question)) as server:
        volume = client.volume(server, password="hunter2")
        client.preflight.run(volume, Deadline.after(60))
        ssh = connect(client, volume)
    assert (ssh.returncode, ssh.stderr) == (0, "")
    assert server.typed == ["hunter2", "hunter2"]


@pytest.mark.parametrize(
    "question",
    [
        "New password: ",
        "New Password: ",
        "Enter new UNIX password, the NEW PASSWORD: ",
        "(current) new password: ",
        "Retype new UNIX password: ",
        "Please RETYPE it: ",
        "Repeat it: ",
    ],
)
def test_question_for_a_new_password_is_answered_neither_by_the_check_nor_by_ssh(
    client: Client, files: Path, question: str
) -> None:
    with serving(Account(directory=files, password="hunter2", ways=[(TYPED,)], question=question)) as server:
        error = client.refusal(server, password="hunter2")
        assert "127.0.0.1 wants bob to choose a new password (it asks " in str(error)
        ssh = connect(client, client.volume(server, password="hunter2"))
    assert ssh.returncode == 255
    assert "hunter2" not in server.typed


def test_login_when_a_new_password_is_asked_for_gives_none_and_says_so(client: Client, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", ways=[(TYPED,)], expired=True)) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.LoginRefused)
    assert str(error) == (
        "127.0.0.1 wants bob to choose a new password (it asks 'New password'): log in there by hand once, with ssh "
        f"-p {server.port} bob@127.0.0.1, and give the volume the new one"
    )
    assert server.typed == ["hunter2", "", ""]


@pytest.mark.usefixtures("long_grace")
def test_login_when_the_server_does_not_answer_gives_up_at_the_deadline(client: Client, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", stalls_at=PASSWORD)) as server:
        error = client.refusal_of_silence(server, password="hunter2")
    assert isinstance(error, errors.LoginUnfinished)
    assert str(error) == (
        "127.0.0.1 did not answer the login of bob in time: "
        "its log tells why; it may be busy, or wait for a name service or directory that does not answer"
    )


def test_login_when_the_server_is_slow_may_take_as_long_as_the_connection(
    client: Client, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sshfs_plugin.preflight.login.ANSWER_SECONDS", 0.2)
    with serving(Account(directory=files, password="hunter2", stalls_at=PASSWORD)) as server:
        error = client.refusal(server, password="hunter2", ConnectTimeout="1")
        assert "did not answer the login of bob in time" in str(error)
        answering = threading.Timer(0.5, server.go_on)
        answering.start()
        client.run(server, password="hunter2", ConnectTimeout="60")
        answering.join()


def test_login_when_what_to_log_in_with_is_unusable_does_not_bother_the_server(
    client: Client, server: Server, keys: dict[str, Path], tmp_path: Path
) -> None:
    key = tmp_path / "open to all"
    key.write_bytes(keys["ed25519"].read_bytes())
    key.chmod(0o644)
    error = client.refusal(server, IdentityFile=str(key))
    assert isinstance(error, errors.IdentityFileUnusable)
    assert "ssh refuses it because other users can read it" in str(error)
    assert isinstance(client.refusal(server, password_file=str(tmp_path / "gone")), errors.PasswordFileUnusable)
    assert server.connections == 0


def test_login_with_a_kind_of_key_that_is_given_up_is_refused(client: Client, server: Server, tmp_path: Path) -> None:
    key = tmp_path / "dsa"
    key.write_bytes(
        dsa.generate_private_key(1024).private_bytes(  # noqa: S505 (ssh knew no longer ones)
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    key.chmod(0o600)
    error = client.refusal(server, IdentityFile=str(key))
    assert isinstance(error, errors.IdentityFileUnusable)
    # ssh-keygen of Debian 13 does not know DSA either
    assert "the check does not know this kind of key" in str(error) or "not a private key that ssh can" in str(error)


def test_login_with_a_key_on_a_token_is_refused_since_nobody_could_touch_it(
    client: Client, server: Server, tmp_path: Path
) -> None:
    key = write_token_key(tmp_path / "token")
    command.run(["ssh-keygen", "-y", "-f", key], seconds=LIMIT_SECONDS).check_returncode()
    error = client.refusal(server, IdentityFile=str(key))
    assert isinstance(error, errors.IdentityFileUnusable)
    assert str(error) == (
        f"cannot check the identity file {key}, the check does not know this kind of key: "
        "use ed25519, ecdsa or rsa, or say -o check=never"
    )


@pytest.fixture
def certified(keys: dict[str, Path], tmp_path: Path) -> Path:
    """Make a key that has a certificate beside it."""
    return certify(tmp_path / "certified", "ed25519")


def certify(file: Path, kind: str) -> Path:
    """Write the key that ``keys`` has of a kind, with a certificate beside it."""
    authority, key = write_key(file.with_name("authority"), "ed25519", 3), write_key(file, kind, 2)
    signing = ["ssh-keygen", "-q", "-s", str(authority), "-I", "bob", "-n", "bob", str(public_key(key))]
    command.run(signing, seconds=LIMIT_SECONDS).check_returncode()
    return key


def test_login_when_a_certificate_lies_beside_the_key_offers_it(client: Client, files: Path, certified: Path) -> None:
    with serving(Account(directory=files, keys=[public(certified)], certificates=True, ways=[(KEY,)])) as server:
        client.run(server, IdentityFile=str(certified))
    assert server.seen[:3] == ["none", KEY, "subsystem sftp"]


def test_login_when_a_certificate_is_named_offers_it(client: Client, files: Path, certified: Path) -> None:
    elsewhere = client.directory / "certificate of bob"
    Path(f"{certified}-cert.pub").rename(elsewhere)
    key: Any = {"IdentityFile": str(certified), "CertificateFile": "~/certificate of bob"}
    with serving(Account(directory=files, keys=[public(certified)], certificates=True, ways=[(KEY,)])) as server:
        client.run(server, **key)
        assert server.seen[:3] == ["none", KEY, "subsystem sftp"]
        volume = client.volume(server, **key)
        assert connect(client, volume).returncode == 0


def test_login_when_no_certificate_could_lie_beside_the_key_uses_the_key(
    client: Client, files: Path, keys: dict[str, Path]
) -> None:
    longest = client.directory / ("k" * 255)
    shutil.copy(keys["ed25519"], longest)
    with serving(Account(directory=files, keys=[public(keys["ed25519"])], ways=[(KEY,)])) as server:
        client.run(server, IdentityFile=str(longest))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "it does not exist, or is below /tmp, where the service can't see it: move it elsewhere"),
        ("ssh-ed25519 AAAA bob", "it is not a certificate: ssh-keygen -s makes one"),
    ],
)
def test_login_when_the_named_certificate_is_unusable_says_so(
    client: Client, server: Server, certified: Path, content: str | None, said: str
) -> None:
    certificate = client.directory / "certificate"
    if content:
        certificate.write_text(content)
    error = client.refusal(server, IdentityFile=str(certified), CertificateFile=str(certificate))
    assert isinstance(error, errors.IdentityFileUnusable)
    assert str(error) == f"cannot use the certificate {certificate}, {said}"


def test_login_when_the_server_takes_the_key_but_not_its_certificate_succeeds_as_with_ssh(
    client: Client, files: Path, certified: Path
) -> None:
    with serving(Account(directory=files, keys=[public(certified)], ways=[(KEY,)])) as server:
        volume = client.volume(server, IdentityFile=str(certified))
        client.preflight.run(volume, Deadline.after(5))
        assert server.seen[:4] == ["none", KEY, KEY, "subsystem sftp"]
        assert connect(client, volume).returncode == 0


def test_login_when_the_certificate_is_broken_succeeds_with_the_key_and_logs_why(
    client: Client, files: Path, certified: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = Path(f"{certified}-cert.pub")
    certificate.write_text("nonsense")
    with serving(Account(directory=files, keys=[public(certified)], ways=[(KEY,)])) as server:
        client.run(server, IdentityFile=str(certified))
    assert f"cannot use the certificate {certificate}" in caplog.text


# Signatures of RSA keys

SHA1, SHA2 = ("ssh-rsa",), ("rsa-sha2-512", "rsa-sha2-256")


@pytest.mark.parametrize("where", ["file", "agent"])
@pytest.mark.parametrize(
    ("tune", "accepted"),
    [
        pytest.param(announcing(None, SHA1, "OpenSSH_6.6.1"), "+ssh-rsa", id="an old server", marks=needs("ssh-rsa")),
        pytest.param(announcing(None, SHA1, "dropbear_2019"), "^ssh-rsa", id="another", marks=needs("ssh-rsa")),
        pytest.param(announcing(SHA2, ["rsa-sha2-512"]), "", id="the best"),
        pytest.param(announcing(SHA2, ["rsa-sha2-256"]), "rsa-sha2-256,rsa-sha2-512", id="the volume's first"),
        pytest.param(announcing(SHA1, SHA1), "+ssh-rsa", id="the only one", marks=needs("ssh-rsa")),
        pytest.param(announcing(["rsa-sha2-256", *SHA1], SHA1), "^ssh-rsa", id="SHA-1 first", marks=needs("ssh-rsa")),
        pytest.param(announcing(SHA1, SHA2, "OpenSSH_7.4p1 Debian-10+deb9u7"), "", id="OpenSSH 7.4"),
    ],
)
def test_login_with_an_rsa_key_signs_as_ssh_does(  # noqa: PLR0913 (what varies)
    client: Client,
    files: Path,
    keys: dict[str, Path],
    tune: Callable[[Any], None],
    accepted: str,
    where: str,
) -> None:
    account = Account(directory=files, keys=[public(keys["rsa"])], ways=[(KEY,)])
    with agent(keys["rsa"]) as place, serving(account, tune=tune) as server:
        given: Any = {"IdentityFile": str(keys["rsa"])} if where == "file" else {"IdentityAgent": str(place)}
        if accepted:
            given["PubkeyAcceptedAlgorithms"] = accepted
        volume = client.volume(server, **given)
        client.preflight.run(volume, Deadline.after(60))
        # an agent's key comes twice, since the server is asked about it before
        assert server.seen[:3] == ["none", KEY, "subsystem sftp" if where == "file" else KEY]
        ssh = connect(client, volume)
    assert (ssh.returncode, ssh.stderr) == (0, "")


@pytest.mark.parametrize(
    ("tune", "accepted", "why"),
    [
        pytest.param(announcing(None, RSA, "mod_sftp"), "", "the server does not say", id="says nothing"),
        pytest.param(announcing(SHA1, SHA1), "", "the server does not say", id="says SHA-1"),
        pytest.param(announcing(None, SHA1, "OpenSSH_6.6.1"), "rsa-*", "the server does not say", id="SHA-2 in a list"),
        pytest.param(announcing(["ssh-ed25519"]), "", "the server says that it takes no RSA keys", id="none"),
        pytest.param(announcing(SHA2, SHA2), "ssh-rsa", "PubkeyAcceptedAlgorithms leaves out", id="SHA-1 in a list"),
        pytest.param(announcing(SHA2, SHA2), "ssh-ed25519", "PubkeyAcceptedAlgorithms leaves out", id="other kinds"),
    ],
)
def test_login_with_an_rsa_key_that_ssh_would_leave_out_says_why(  # noqa: PLR0913 (what varies)
    client: Client, files: Path, keys: dict[str, Path], tune: Callable[[Any], None], accepted: str, why: str
) -> None:
    key = keys["rsa"]
    with serving(Account(directory=files, keys=[public(key)], ways=[(KEY,)]), tune=tune) as server:
        given: Any = {"IdentityFile": str(key)} | ({"PubkeyAcceptedAlgorithms": accepted} if accepted else {})
        error = client.refusal(server, **given)
        assert server.seen == ["none"]
        (client.directory / "known_hosts").write_text(line(HOST, server.port, shown()))
        ssh = connect(client, client.volume(server, **given))
    assert isinstance(error, errors.LoginRefused)
    hints = {
        "the server does not say": f"the server does not say that it takes RSA keys with SHA-2, which leaves out the "
        f"key {key}: use an ed25519 key, or -o PubkeyAcceptedAlgorithms=+ssh-rsa",
        "the server says that it takes no RSA keys": f"the server says that it takes no RSA keys, which leaves out the "
        f"key {key}: use an ed25519 key",
        "PubkeyAcceptedAlgorithms leaves out": f"PubkeyAcceptedAlgorithms leaves out the key {key}, change that option "
        "or the key",
    }
    assert str(error) == f"127.0.0.1 refused to let bob in with the key {key} (it takes a key): {hints[why]}"
    assert "Permission denied" in ssh.stderr


def test_login_with_an_agent_whose_keys_ssh_would_all_leave_out_says_why(
    client: Client, files: Path, keys: dict[str, Path]
) -> None:
    account = Account(directory=files, keys=[public(keys["rsa"])], ways=[(KEY,)])
    with agent(keys["rsa"]) as place, serving(account, tune=announcing(None, RSA)) as server:
        error = client.refusal(server, IdentityAgent=str(place))
    assert "the server does not say that it takes RSA keys with SHA-2, which leaves out the ssh-agent's key " in (
        error.hint
    )


@pytest.mark.parametrize(
    ("version", "announced", "accepted", "offers"),
    [
        ("OpenSSH_7.7", SHA2, "", 1),
        pytest.param("OpenSSH_7.7", SHA2, "+ssh-rsa-cert-v01@openssh.com", 2, marks=needs("ssh-rsa")),
        ("OpenSSH_7.8", SHA2, "", 2),
        ("OpenSSH_10.0p2 Debian-7", SHA2, "", 2),
        pytest.param("OpenSSH_9.2", SHA1, "+ssh-rsa", 1, marks=needs("ssh-rsa")),
        pytest.param("OpenSSH_9.2", SHA1, "+ssh-rsa*", 2, marks=needs("ssh-rsa")),
        pytest.param("mod_sftp", None, "+ssh-rsa-cert-v01@openssh.com,ssh-rsa", 2, marks=needs("ssh-rsa")),
    ],
)
def test_login_with_a_certificate_of_an_rsa_key_offers_it_where_ssh_does(  # noqa: PLR0913 (what varies)
    client: Client,
    files: Path,
    keys: dict[str, Path],
    version: str,
    announced: tuple[str, ...] | None,
    accepted: str,
    offers: int,
) -> None:
    key = certify(client.directory / "key", "rsa")
    takes = RSA if "ssh-rsa" in accepted else SHA2
    with serving(Account(directory=files, ways=[(KEY,)]), tune=announcing(announced, takes, version)) as server:
        given: Any = {"IdentityFile": str(key)} | ({"PubkeyAcceptedAlgorithms": accepted} if accepted else {})
        client.refusal(server, **given)
        by_check = server.seen.count(KEY)
        (client.directory / "known_hosts").write_text(line(HOST, server.port, shown()))
        ssh = connect(client, client.volume(server, **given))
    assert "Permission denied" in ssh.stderr
    assert (by_check, server.seen.count(KEY) - by_check) == (offers, offers)


def test_login_when_only_the_certificate_of_an_rsa_key_is_left_out_says_why(client: Client, files: Path) -> None:
    key = certify(client.directory / "key", "rsa")
    with serving(Account(directory=files, ways=[(KEY,)]), tune=announcing(SHA2, SHA2, "OpenSSH_7.4")) as server:
        error = client.refusal(server, IdentityFile=str(key))
    assert str(error) == (
        f"127.0.0.1 refused to let bob in with the key {key} (it takes a key): the server does not say that it takes "
        f"certificates of RSA keys with SHA-2, which leaves out the certificate of the key {key}: use an ed25519 key, "
        "or -o PubkeyAcceptedAlgorithms=+ssh-rsa-cert-v01@openssh.com"
    )


# Secrets and agents


def test_login_with_a_key_that_has_a_passphrase_succeeds(client: Client, files: Path, keys: dict[str, Path]) -> None:
    key = Path(shutil.copy(keys["ed25519"], client.directory / "key"))
    key.chmod(0o600)
    command.run(
        ["ssh-keygen", "-q", "-p", "-P", "", "-N", "hunter2", "-f", key], seconds=LIMIT_SECONDS
    ).check_returncode()
    secret(client, "pass", "hunter2")
    with serving(Account(directory=files, keys=[public(keys["ed25519"])])) as server:
        client.run(server, IdentityFile=str(key), passphrase_secret="pass")


@pytest.mark.parametrize("kind", ["a key", "a password"])
def test_login_with_a_secret_succeeds(client: Client, files: Path, keys: dict[str, Path], kind: str) -> None:
    secret(client, "nas", keys["rsa"].read_text() if kind == "a key" else "hunter2\n")
    with serving(Account(directory=files, keys=[public(keys["rsa"])], password="hunter2")) as server:
        client.run(server, secret="nas")
    assert server.seen[1] == (KEY if kind == "a key" else PASSWORD)


@pytest.mark.parametrize("form", ["ed25519", "ecdsa", "rsa"])
def test_login_with_the_keys_of_an_agent_succeeds(
    client: Client, files: Path, keys: dict[str, Path], form: str
) -> None:
    other = write_key(client.directory / "other", "ed25519", 3)
    with agent(other, keys[form]) as place, serving(Account(directory=files, keys=[public(keys[form])])) as server:
        client.run(server, IdentityAgent=str(place))
        if form != "rsa":  # paramiko's server does not tell ssh that it takes SHA-2
            assert connect(client, client.volume(server, IdentityAgent=str(place))).returncode == 0


def test_login_with_a_certificate_in_an_agent_succeeds(client: Client, files: Path, keys: dict[str, Path]) -> None:
    key = Path(shutil.copy(keys["ed25519"], client.directory / "key"))
    shutil.copy(public_key(keys["ed25519"]), public_key(key))
    key.chmod(0o600)
    authority = write_key(client.directory / "authority", "ed25519", 3)
    command.run(["ssh-keygen", "-q", "-s", authority, "-I", "bob", "-n", "bob", public_key(key)], seconds=LIMIT_SECONDS)
    account = Account(directory=files, keys=[public(keys["ed25519"])], certificates=True)
    with agent(key) as place, serving(account) as server:
        client.run(server, IdentityAgent=str(place))


def test_login_when_no_key_of_the_agent_is_authorized_names_them(
    client: Client, files: Path, keys: dict[str, Path]
) -> None:
    with agent(keys["ed25519"]) as place, serving(Account(directory=files)) as server:
        error = client.refusal(server, IdentityAgent=str(place))
    printed = command.run(["ssh-keygen", "-lf", public_key(keys["ed25519"])], seconds=LIMIT_SECONDS).stdout.split()[1]
    assert str(error) == (
        f"127.0.0.1 refused to let bob in with the ssh-agent's key {printed} (it takes a password, a key): is one of "
        f"them in the authorized_keys of bob there (SSH_AUTH_SOCK={place} ssh-add -L prints them), and is that the "
        "right user?"
    )


def test_login_when_the_agent_refuses_to_sign_says_so(client: Client, files: Path, keys: dict[str, Path]) -> None:
    with serving(Account(directory=files, keys=[public(keys["ed25519"])])) as server, agent() as place:
        tell(place, "-c", keys["ed25519"])  # to be confirmed by a person, and nobody is there
        error = client.refusal(server, IdentityAgent=str(place))
    assert str(error) == (
        f"cannot use the ssh-agent at {place}, it refuses to sign: is it locked, or does it ask a person (ssh-add -c)?"
    )


def test_login_when_the_agent_refuses_to_sign_with_one_key_goes_on_with_the_next_as_ssh_does(
    client: Client, files: Path, keys: dict[str, Path]
) -> None:
    account = Account(directory=files, keys=[public(keys["ecdsa"]), public(keys["ed25519"])], ways=[(KEY,)])
    with serving(account) as server, agent() as place:
        tell(place, "-c", keys["ecdsa"])
        tell(place, keys["ed25519"])
        volume = client.volume(server, IdentityAgent=str(place))
        client.preflight.run(volume, Deadline.after(60))
        ssh = connect(client, volume)
    assert ssh.returncode == 0


def test_login_lets_the_agent_sign_only_with_a_key_that_the_server_takes(
    client: Client, files: Path, keys: dict[str, Path]
) -> None:
    """It may ask a person (ssh-add -c), who would have to answer for keys of other servers."""
    with serving(Account(directory=files, ways=[(KEY,)])) as server, agent() as place:
        tell(place, "-c", keys["ed25519"])
        error = client.refusal(server, IdentityAgent=str(place))
    assert isinstance(error, errors.LoginRefused)
    assert "(it takes a key): is one of them in the authorized_keys of bob there (" in str(error)


def secret(client: Client, name: str, text: str) -> None:
    """Put a secret on the host that makes the checks."""
    file = client.preflight.keyring.secrets.directory / name
    file.parent.mkdir(exist_ok=True)
    file.touch(0o600)
    file.write_text(text)


def saying(kind: int, *, to_client: bytes) -> Callable[[Any], None]:
    """Return what lets a server send one message in place of those of a kind."""

    def tune(transport: Any) -> None:
        send = transport._send_message

        def sending(message: Any) -> None:
            send(paramiko.Message(to_client) if message.asbytes()[:1] == bytes((kind,)) else message)

        transport._send_message = sending

    return tune


@pytest.mark.parametrize(
    ("instead_of", "message"),
    [
        (paramiko.common.MSG_USERAUTH_INFO_REQUEST, b"\x3c" + bytes(12) + b"\xff" * 4),
        (paramiko.common.MSG_SERVICE_ACCEPT, b"\x07" + b"\xff" * 4),
    ],
    ids=["prompts", "extensions"],
)
def test_server_that_announces_billions_of_items_is_not_believed(
    client: Client, files: Path, instead_of: int, message: bytes
) -> None:
    account = Account(directory=files, password="hunter2", ways=[(TYPED,)])
    with serving(account, tune=saying(instead_of, to_client=message)) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.LoginUnfinished)
    assert "broke the login of bob off (a message that ends too early)" in str(error)


@pytest.mark.parametrize("kind", [paramiko.common.MSG_NEWKEYS, 192])
def test_server_that_sends_what_nothing_allows_breaks_the_login_off(client: Client, files: Path, kind: int) -> None:
    tune = saying(paramiko.common.MSG_SERVICE_ACCEPT, to_client=bytes((kind,)) + bytes(8))
    with serving(Account(directory=files, password="hunter2"), tune=tune) as server:
        error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.LoginUnfinished)
    assert "broke the login of bob off (a message that makes no sense)" in str(error)
