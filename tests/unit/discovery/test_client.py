# SPDX-License-Identifier: MIT
"""The client of the service with TLS: what Docker accepts by the same description, and what it says otherwise."""

import json
import re
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.certificates import signed
from support.serving import answering
from support.waiting import LIMIT_SECONDS
from werkzeug.serving import make_server

from sshfs_plugin import errors
from sshfs_plugin.discovery.client import Service
from sshfs_plugin.settings import Settings

CURE = "the .json file that Docker reads names the certificates, see ways-in.md in /usr/share/doc/docker-volume-sshfs"
UNVERIFIED = rf"cannot speak TLS with the plugin's service at {{address}} \(.*certificate.*\): {re.escape(CURE)}"

usual_context = ssl.create_default_context


def strict(*words: Any, **named: Any) -> ssl.SSLContext:
    """Make a context as Python 3.13 and later do, whichever this is."""
    context = usual_context(*words, **named)
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Give the entries of a TLSConfig with all files."""
    names = {"CAFile": "ca.pem", "CertFile": "cert.pem", "KeyFile": "key.pem"}
    return {name: str(tmp_path / "tls" / file) for name, file in names.items()}


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Serve a List of no volumes to whoever has a certificate; give the address."""

    def application(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        start("200 OK", [("Content-Type", "application/json")])
        return [b'{"Volumes": [], "Err": ""}']

    server = make_server("127.0.0.1", 0, application, threaded=True, ssl_context=signed(tmp_path / "tls"))
    with answering(server):
        yield f"https://127.0.0.1:{server.server_port}"


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    (tmp_path / "etc/docker/plugins").mkdir(parents=True)
    return replace(settings, root=tmp_path)


def ask(settings: Settings, address: str, **described: object) -> list[dict[str, Any]]:
    """Ask for the volumes, by a description with this beside its address."""
    file = settings.root / "etc/docker/plugins/sshfs.json"
    file.write_text(json.dumps({"Name": "sshfs", "Addr": address, **described}))
    return Service.of(settings, [address.replace("https", "tcp")], seconds=LIMIT_SECONDS).volumes()


def error(settings: Settings, address: str, **described: object) -> str:
    with pytest.raises(errors.ServiceError) as raised:
        ask(settings, address, **described)
    return str(raised.value)


def test_an_authority_without_a_usage_of_its_key_is_one(
    settings: Settings, address: str, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssl, "create_default_context", strict)
    assert ask(settings, address, TLSConfig=files) == []


def test_without_an_authority_the_plugin_s_certificate_is_not_verified(
    settings: Settings, address: str, files: dict[str, str]
) -> None:
    del files["CAFile"]
    assert ask(settings, address, TLSConfig=files) == []
    assert ask(settings, address, TLSConfig={**files, "CAFile": ""}) == []


def test_an_authority_is_not_asked_where_that_is_said(
    settings: Settings, address: str, files: dict[str, str], tmp_path: Path
) -> None:
    signed(tmp_path / "other")
    told: dict[str, object] = {**files, "CAFile": str(tmp_path / "other/ca.pem"), "InsecureSkipVerify": True}
    assert ask(settings, address, TLSConfig=told) == []
    refusal = error(settings, address, TLSConfig=told | {"InsecureSkipVerify": False})
    assert re.fullmatch(UNVERIFIED.format(address=address), refusal)


def test_a_description_without_a_word_on_tls_demands_what_any_client_does(settings: Settings, address: str) -> None:
    assert re.fullmatch(UNVERIFIED.format(address=address), error(settings, address))


def test_a_key_without_its_certificate_can_not_be_used(settings: Settings, address: str, files: dict[str, str]) -> None:
    del files["CertFile"]
    assert error(settings, address, TLSConfig=files) == (
        f"cannot use the certificates for {address} (No such file or directory): {CURE}"
    )


@pytest.mark.parametrize("shown", [{}, {"CertFile": "other/cert.pem", "KeyFile": "other/key.pem"}])
def test_a_client_without_a_certificate_of_the_authority_is_told_where_that_is_named(
    settings: Settings, address: str, files: dict[str, str], tmp_path: Path, shown: dict[str, str]
) -> None:
    signed(tmp_path / "other")
    told = {"CAFile": files["CAFile"], **{name: str(tmp_path / file) for name, file in shown.items()}}
    assert CURE in error(settings, address, TLSConfig=told)


def test_an_address_without_tls_is_called_without_it(settings: Settings, address: str, files: dict[str, str]) -> None:
    """As by Docker, whatever the description says of certificates."""
    plain = address.replace("https", "tcp")
    assert error(settings, plain, TLSConfig=files).startswith("the plugin's service broke off (")
