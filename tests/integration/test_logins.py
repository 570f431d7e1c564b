# SPDX-License-Identifier: MIT
"""Keys, passwords and host keys: what the preflight lets pass sshfs takes as well, and no secret gets out."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from support.ssh_keys import make_key

from integration.plugin import Plugin, Refused, await_that
from integration.sshd import ANYWHERE, Server, start_server

KEYS = {
    "ed25519": ("-t", "ed25519"),
    "ecdsa": ("-t", "ecdsa", "-b", "384"),
    "rsa": ("-t", "rsa", "-b", "2048"),
    "rsa-pem": ("-t", "rsa", "-b", "2048", "-m", "PEM"),
    "rsa-pkcs8": ("-t", "rsa", "-b", "2048", "-m", "PKCS8"),
    "ecdsa-pem": ("-t", "ecdsa", "-m", "PEM"),
}


@pytest.mark.parametrize("form", KEYS)
def test_every_form_of_key_passes_the_check_and_mounts(
    plugin: Plugin, server: Server, tmp_path: Path, form: str
) -> None:
    key = make_key(tmp_path / "key", *KEYS[form])
    server.allow(tmp_path / "key.pub")
    directory = server.make(f"key-{form}")
    plugin.create("keyed", server.options(directory, IdentityFile=str(key)))
    (plugin.mount("keyed") / "file").touch()
    plugin.unmount("keyed")
    assert (directory / "file").exists()


def test_a_key_beside_which_is_the_public_key_of_another_mounts(plugin: Plugin, server: Server, tmp_path: Path) -> None:
    """Ssh would offer that one, and sign with this."""
    key = make_key(tmp_path / "key", *KEYS["ed25519"])
    server.allow(tmp_path / "key.pub")
    make_key(tmp_path / "old", *KEYS["ed25519"])
    (tmp_path / "key.pub").write_bytes((tmp_path / "old.pub").read_bytes())
    directory = server.make("another-public-key")
    for own_connection in ("no", "yes"):
        name = f"own-{own_connection}"
        plugin.create(name, server.options(directory, IdentityFile=str(key), own_connection=own_connection))
        (plugin.mount(name) / name).touch()
        plugin.unmount(name)
        assert (directory / name).exists()


def test_the_default_key_needs_no_option(plugin: Plugin, server: Server) -> None:
    directory = server.make("default-key")
    options = server.options(directory)
    del options["IdentityFile"]
    with pytest.raises(Refused, match=r"nothing that it takes was given .it takes a key.: make a key"):
        plugin.create("default", options)
    default = plugin.settings.default_key
    default.write_bytes(server.key.read_bytes())
    default.chmod(0o600)
    plugin.create("default", options)
    (plugin.mount("default") / "file").touch()
    plugin.unmount("default")
    default.unlink()
    at_home = plugin.settings.home / ".ssh/id_ed25519"
    at_home.parent.mkdir()
    at_home.write_bytes(server.key.read_bytes())
    at_home.chmod(0o600)
    (plugin.mount("default") / "file2").touch()
    plugin.unmount("default")
    assert {"file", "file2"} == {path.name for path in directory.iterdir()}


def test_a_home_of_root_in_an_option_is_expanded(plugin: Plugin, server: Server) -> None:
    key = plugin.settings.home / "my key %h"
    key.write_bytes(server.key.read_bytes())
    key.chmod(0o600)
    directory = server.make("tilde")
    plugin.create("tilde", server.options(directory, IdentityFile="~/my key %h"))
    (plugin.mount("tilde") / "file").touch()
    plugin.unmount("tilde")


def test_a_host_key_is_remembered_and_a_changed_one_is_refused(plugin: Plugin, server: Server) -> None:
    options = server.options(server.make("host-key"))
    plugin.create("first", options)
    known = plugin.settings.known_hosts
    assert known.read_text().startswith(f"[127.0.0.1]:{server.port} ssh-ed25519 ")
    make_key(plugin.directory / "other", "-t", "ed25519")
    other = (plugin.directory / "other.pub").read_text().split()
    known.write_text(f"[127.0.0.1]:{server.port} {other[0]} {other[1]}\n")
    changed = r"the host key of 127.0.0.1 port \d+ has changed from SHA256:\S+ to SHA256:\S+: .*host-key forget"
    with pytest.raises(Refused, match=changed):
        plugin.create("second", options)
    plugin.create("trusting", {**options, "host_key_check": "no"})
    plugin.mount("trusting")
    plugin.unmount("trusting")


def test_a_pinned_host_key_is_all_that_ssh_takes(plugin: Plugin, server: Server) -> None:
    printed = subprocess.run(
        ["ssh-keygen", "-lf", server.directory / "host_key.pub"],
        check=True,
        capture_output=True,
        text=True,
    )
    fingerprint = printed.stdout.split()[1]
    options = server.options(server.make("pinned"))
    wrong = "SHA256:" + "A" * 43
    with pytest.raises(Refused, match=rf"is {fingerprint.replace('+', '.')}, not the pinned {wrong}"):
        plugin.create("pinned", {**options, "host_key": wrong})
    plugin.create("pinned", {**options, "host_key": fingerprint})
    plugin.mount("pinned")
    assert not plugin.settings.known_hosts.exists(), "a pinned key vouches for one volume alone"
    plugin.unmount("pinned")
    plugin.call("Remove", Name="pinned")
    assert not list(plugin.settings.pinned.iterdir())


@pytest.mark.parametrize("pinned", [False, True])
def test_a_server_that_has_a_certificate_for_another_kind_of_host_key_is_mounted(
    plugin: Plugin, server: Server, pinned: bool
) -> None:
    """It is what ssh would ask for first, and of its key nobody knows anything."""
    with tempfile.TemporaryDirectory(dir=ANYWHERE) as place:
        certified, authority = Path(place) / "rsa", Path(place) / "authority"
        for key in (certified, authority):
            make_key(key, "-t", "rsa", "-b", "3072")
        words: list[str | Path] = [
            "ssh-keygen",
            "-q",
            "-s",
            authority,
            "-I",
            "host",
            "-h",
            "-n",
            "127.0.0.1",
            f"{certified}.pub",
        ]
        subprocess.run(words, check=True)
        for path in (Path(place), *Path(place).iterdir()):
            shutil.chown(path, server.user)
        lines = (f"HostKey {certified}", f"HostCertificate {certified}-cert.pub")
        with start_server(*lines, model=server) as certain:
            printed = subprocess.check_output(["ssh-keygen", "-lf", certain.directory / "host_key.pub"], text=True)
            pin = {"host_key": printed.split()[1]} if pinned else {}
            plugin.create("certified", certain.options(certain.data, **pin))
            plugin.mount("certified")
            plugin.unmount("certified")


def test_without_a_check_the_error_is_sshs_own_last_words(plugin: Plugin, server: Server, tmp_path: Path) -> None:
    options = server.options(server.data / "missing", check="never")
    plugin.create("missing", options)
    with pytest.raises(Refused, match=r"could not mount volume 'missing', its last words: .*No such file"):
        plugin.mount("missing")
    stranger = make_key(tmp_path / "stranger", "-t", "ed25519")
    plugin.create("stranger", {**options, "IdentityFile": str(stranger)})
    with pytest.raises(Refused, match=r"last words: .*Permission denied \(publickey\)"):
        plugin.mount("stranger")
    await_that(lambda: not list(plugin.settings.mounts.iterdir()), "nothing is left of the failed mounts")
    assert plugin.status("stranger")["lastError"].startswith("sshfs could not mount")


def test_an_unchecked_volume_trusts_at_first_contact(plugin: Plugin, server: Server) -> None:
    plugin.create("unchecked", server.options(server.make("unchecked"), check="never"))
    plugin.mount("unchecked")
    plugin.unmount("unchecked")
    assert "127.0.0.1" in plugin.settings.known_hosts.read_text()


def test_what_breaks_between_create_and_mount_is_named(plugin: Plugin, server: Server) -> None:
    directory = server.make("vanishing")
    plugin.create("vanishing", server.options(directory, check="mount"))
    directory.rmdir()
    with pytest.raises(Refused, match=r"the directory \S+/vanishing does not exist on 127.0.0.1"):
        plugin.mount("vanishing")
    server.make("vanishing")
    plugin.mount("vanishing")
    plugin.unmount("vanishing")
