# SPDX-License-Identifier: MIT
"""Where the plugin is served, and where it must not be."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from support.certificates import certificate

from sshfs_plugin import errors
from sshfs_plugin.http import listening
from sshfs_plugin.settings import Settings

OURS = "unix:///run/docker-volume-sshfs/sshfs.sock"
TLS = Path("/etc/docker-volume-sshfs/tls")


@pytest.fixture(autouse=True)
def not_asked_yet() -> None:
    """Let nobody have asked where this process listens."""
    listening.addresses.cache_clear()


@pytest.fixture
def handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, ...]]:
    """Hand three sockets over, as systemd does, and give their addresses."""
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.socket(socket.AF_UNIX)),
            stack.enter_context(socket.socket(socket.AF_INET)),
            stack.enter_context(socket.socket(socket.AF_INET6)),
        ]
        sockets[0].bind(str(tmp_path / "sshfs.sock"))
        sockets[1].bind(("127.0.0.1", 0))
        sockets[2].bind(("::", 0))
        descriptors = [one.fileno() for one in sockets]
        monkeypatch.setattr("systemd.daemon.listen_fds", lambda *, unset_environment: descriptors)
        ports = [one.getsockname()[1] for one in sockets[1:]]
        yield (f"unix://{tmp_path}/sshfs.sock", f"tcp://127.0.0.1:{ports[0]}", f"tcp://[::]:{ports[1]}")
        assert all(one.fileno() >= 0 and one.getsockname() for one in sockets), "they are gunicorn's to close"


def test_addresses_are_told_as_specs_write_them(handed_over: tuple[str, ...]) -> None:
    assert listening.addresses() == handed_over


def test_without_systemd_there_are_none() -> None:
    assert listening.addresses() == ()


def test_addresses_that_gunicorn_was_told_to_bind_to_are_written_alike() -> None:
    told = ("/run/docker/plugins/sshfs.sock", ("0.0.0.0", 8000), ("::1", 8000))  # noqa: S104 (nobody listens)
    assert [listening.written(address) for address in told] == [
        "unix:///run/docker/plugins/sshfs.sock",
        "tcp://0.0.0.0:8000",
        "tcp://[::1]:8000",
    ]


THIS_HOST_S = [
    "tcp://127.0.0.1:9000",
    "tcp://127.8.9.1:9000",
    "tcp://[::1]:9000",
    "tcp://[::ffff:127.0.0.1]:9000",
    "tcp://localhost:9000",
]


@pytest.mark.parametrize("address", [OURS, *THIS_HOST_S])
def test_what_this_host_alone_can_reach_is_served_in_the_open(address: str, tmp_path: Path) -> None:
    listening.require_suitable([address], Settings(root=tmp_path))


@pytest.mark.parametrize("address", THIS_HOST_S)
@pytest.mark.parametrize(
    ("place", "described"),
    [
        ("etc/docker/plugins/sshfs.json", {"Addr": "https://localhost:9000"}),
        ("etc/docker/plugins/other/other.json", {"Addr": "tcp://localhost:9000", "TLSConfig": {"CAFile": "/ca.pem"}}),
        ("usr/lib/docker/plugins/sshfs.json", {"Addr": "https://localhost:9000", "TLSConfig": {}}),
    ],
)
def test_a_port_where_docker_was_told_of_tls_is_not_served_without_it(
    address: str, place: str, described: dict[str, object], tmp_path: Path
) -> None:
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(described))
    with pytest.raises(errors.PlainPort) as refused:
        listening.require_suitable([OURS, address], Settings(root=tmp_path))
    assert str(refused.value) == (
        f"the plugin will not be served at {address} without TLS, which {file} tells Docker to use there: "
        "ask for certificates with SSHFS_PLUGIN_TLS as ways-in.md in /usr/share/doc/docker-volume-sshfs says, "
        "or remove that file if every user of this host may act as root"
    )
    listening.require_suitable([address], Settings(root=tmp_path, tls=TLS))
    listening.require_suitable([OURS, address.replace("9000", "9001")], Settings(root=tmp_path))


@pytest.mark.parametrize(
    "address",
    [
        "tcp://0.0.0.0:9000",
        "tcp://[::]:9000",
        "tcp://192.0.2.7:9000",
        "tcp://[::ffff:0.0.0.0]:9000",
        "tcp://dockerhost.example:9000",
        "tcp://4294967295:9000",
    ],
)
def test_what_others_can_reach_is_served_only_to_whom_a_certificate_lets_in(address: str) -> None:
    with pytest.raises(errors.ExposedSocket) as refused:
        listening.require_suitable([OURS, address], Settings())
    assert str(refused.value) == (
        f"the plugin will not be served at {address}, where other hosts could act as root on this one: "
        "listen on 127.0.0.1, or ask for certificates with SSHFS_PLUGIN_TLS as "
        "ways-in.md in /usr/share/doc/docker-volume-sshfs says"
    )
    listening.require_suitable([address], Settings(tls=TLS))


@pytest.mark.parametrize("where", [[OURS], ["tcp://127.0.0.1:9443", OURS]])
def test_certificates_are_not_asked_for_at_a_unix_socket_where_nobody_could_show_one(where: list[str]) -> None:
    with pytest.raises(errors.UnixSocketWithTLS) as refused:
        listening.require_suitable(where, Settings(tls=TLS))
    assert str(refused.value) == (
        f"the plugin will not be served at {OURS} with TLS, which nobody speaks at a unix socket: "
        "let the socket unit listen at a port alone, as ways-in.md in /usr/share/doc/docker-volume-sshfs says, "
        "or remove SSHFS_PLUGIN_TLS"
    )


def refusal_with(directory: Path) -> str:
    """Return why the plugin can't be served with what is in a directory."""
    with pytest.raises(errors.CertificatesUnusable) as refused:
        listening.require_certificates(*(directory / file for file in ("ca.pem", "cert.pem", "key.pem")))
    return str(refused.value)


CURE = "mend what SSHFS_PLUGIN_TLS names, as ways-in.md in /usr/share/doc/docker-volume-sshfs says"


def test_certificates_that_belong_together_are_served_with(tmp_path: Path) -> None:
    certificate(tmp_path / "tls")
    listening.require_certificates(*(tmp_path / "tls" / file for file in ("ca.pem", "cert.pem", "key.pem")))


@pytest.mark.parametrize("file", ["ca.pem", "cert.pem", "key.pem"])
def test_a_missing_certificate_or_key_is_named(tmp_path: Path, file: str) -> None:
    certificate(tmp_path / "tls")
    (tmp_path / "tls" / file).unlink()
    assert refusal_with(tmp_path / "tls") == (
        f"the plugin cannot be served with TLS, {tmp_path}/tls/{file} cannot be read (No such file or directory): "
        f"{CURE}"
    )


@pytest.mark.parametrize("content", ["", "nonsense"])
def test_an_authority_that_is_no_certificate_is_named(tmp_path: Path, content: str) -> None:
    certificate(tmp_path / "tls")
    (tmp_path / "tls" / "ca.pem").write_text(content)
    assert refusal_with(tmp_path / "tls") == (
        f"the plugin cannot be served with TLS, {tmp_path}/tls/ca.pem holds no certificate: {CURE}"
    )


def test_a_key_of_another_certificate_is_told_with_openssls_reason(tmp_path: Path) -> None:
    certificate(tmp_path / "tls")
    certificate(tmp_path / "others")
    (tmp_path / "others" / "key.pem").replace(tmp_path / "tls" / "key.pem")
    assert refusal_with(tmp_path / "tls") == (
        f"the plugin cannot be served with TLS, {tmp_path}/tls/cert.pem and {tmp_path}/tls/key.pem are not a "
        f"certificate and its key without a passphrase (KEY_VALUES_MISMATCH): {CURE}"
    )


def test_a_key_with_a_passphrase_is_refused_and_no_terminal_is_asked(tmp_path: Path) -> None:
    certificate(tmp_path / "tls")
    key = tmp_path / "tls" / "key.pem"
    plain = serialization.load_pem_private_key(key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    key.write_bytes(plain.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    assert refusal_with(tmp_path / "tls") == (
        f"the plugin cannot be served with TLS, {tmp_path}/tls/cert.pem and {key} are not a "
        f"certificate and its key without a passphrase: {CURE}"
    )
