# SPDX-License-Identifier: MIT
"""The check of the host key, against real servers on loopback."""

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.remotes import describe
from support.ssh_client import ANY_KIND, HOST, Client, connect, needs, only, public, shown
from support.ssh_keys import host_key
from support.ssh_server import KEY, Account, Server, serving
from support.waiting import LIMIT_SECONDS

from sshfs_plugin import errors, options
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.host import command
from sshfs_plugin.preflight.deferred import DeferredPreflight
from sshfs_plugin.ssh.known_hosts import line
from sshfs_plugin.volume import VolumeName


def test_host_key_when_new_is_trusted_and_written_down_once(client: Client, server: Server) -> None:
    client.run(server, password="hunter2")
    client.run(server, password="hunter2")
    assert client.known == line(HOST, server.port, shown())
    assert client.pinned == []


def test_host_key_when_new_and_the_login_fails_is_not_written_down(client: Client, server: Server) -> None:
    client.refusal(server, password="wrong")
    client.refusal(server, "/missing", password="hunter2")
    assert client.known == ""


def test_host_key_when_unknown_and_check_is_yes_says_its_fingerprint_and_sends_nothing(
    client: Client, server: Server
) -> None:
    error = client.refusal(server, password="hunter2", host_key_check="yes")
    assert isinstance(error, errors.HostKeyUnknown)
    assert str(error) == (
        f"the host key of 127.0.0.1 port {server.port} is not known, it is {shown().fingerprint}: verify it on the "
        "server (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then sudo docker-volume-sshfs host-key trust "
        f"'[127.0.0.1]:{server.port}', or say -o host_key={shown().fingerprint} for a new "
        "volume, or leave host_key_check=yes out there to trust it"
    )
    assert server.seen == []
    assert client.known == ""


def test_host_key_when_unknown_and_a_file_says_what_to_log_in_with_is_one_for_that_file(
    client: Client, server: Server
) -> None:
    """``-o host_key=`` is refused beside such a remote."""
    said = f"host = 127.0.0.1\nport = {server.port}\nuser = bob\npassword = hunter2\nhost_key_check = yes\n"
    describe(client.remotes, said, name="nas")
    opts = {"remote": "nas", "directory": "/photos"}
    volume = options.parse(VolumeName("photos"), opts, datetime.now(UTC), client.remotes)
    with pytest.raises(errors.HostKeyUnknown) as refused:
        client.preflight.run(volume, Deadline.after(60))
    cure = f"host_key = {shown().fingerprint}"
    assert f", or write {cure} into the file of the remote 'nas', or leave host_key_check=yes out" in refused.value.hint
    describe(client.remotes, f"{said}{cure}\n", name="nas")
    client.preflight.run(
        options.parse(VolumeName("photos"), opts, datetime.now(UTC), client.remotes), Deadline.after(60)
    )


@pytest.mark.parametrize("name", ["[127.0.0.1]:PORT", "[127.0.0.*]:PORT", "other,[127.0.0.1]:PORT", "*"])
def test_host_key_when_the_administrator_has_verified_it_is_known_and_not_written_again(
    client: Client, server: Server, name: str
) -> None:
    verified = line("HERE", 22, shown()).replace("here", name.replace("PORT", str(server.port)))
    (client.directory / ".ssh/known_hosts").write_text(verified)
    client.run(server, password="hunter2", host_key_check="yes")
    assert client.known == ""


def test_host_key_when_known_under_a_hashed_name_is_known(client: Client, server: Server) -> None:
    file = client.directory / ".ssh/known_hosts"
    file.write_text(line(HOST, server.port, shown()))
    command.run(["ssh-keygen", "-H", "-f", file], seconds=LIMIT_SECONDS)
    assert HOST not in file.read_text()
    client.run(server, password="hunter2", host_key_check="yes")


@pytest.mark.parametrize("check", ["accept-new", "yes"])
def test_host_key_when_changed_says_both_and_a_cure_that_works(client: Client, server: Server, check: str) -> None:
    file = client.directory / ".ssh/known_hosts"
    file.write_text(line(HOST, server.port, shown(number=2)))
    error = client.refusal(server, password="hunter2", host_key_check=check)
    assert isinstance(error, errors.HostKeyChanged)
    assert str(error) == (
        f"the host key of 127.0.0.1 port {server.port} has changed from {shown(number=2).fingerprint} to "
        f"{shown().fingerprint}: somebody may be in between; if the server was set up anew, remove its old key: "
        f"ssh-keygen -R '[127.0.0.1]:{server.port}' -f {file}"
    )
    assert server.seen == []
    assert client.known == ""
    cure = error.hint.partition("remove its old key: ")[2]
    command.run(shlex.split(cure), seconds=LIMIT_SECONDS).check_returncode()
    client.run(server, password="hunter2")


def test_host_key_when_revoked_is_refused_although_it_is_known(client: Client, server: Server) -> None:
    known = line(HOST, server.port, shown())
    (client.directory / ".ssh/known_hosts").write_text(f"{known}@revoked * {known.partition(' ')[2]}")
    error = client.refusal(server, password="hunter2")
    assert isinstance(error, errors.HostKeyChanged)
    assert str(error) == (
        f"the host key of 127.0.0.1 port {server.port}, {shown().fingerprint}, is marked as revoked: "
        "do not trust this server before its administrator has explained it"
    )
    assert server.seen == []


def test_host_key_when_another_one_was_revoked_is_judged_by_itself(client: Client, server: Server) -> None:
    (client.directory / ".ssh/known_hosts").write_text(f"@revoked {line(HOST, server.port, shown(number=2))}")
    client.run(server, password="hunter2")
    assert client.known == line(HOST, server.port, shown())


@pytest.mark.parametrize("known", ANY_KIND)
def test_host_key_when_the_server_has_several_kinds_and_one_is_known_is_asked_for_that_one(
    client: Client, files: Path, known: str
) -> None:
    with serving(Account(directory=files, password="hunter2"), [host_key(kind) for kind in ANY_KIND]) as server:
        (client.directory / ".ssh/known_hosts").write_text(line(HOST, server.port, shown(known)))
        client.run(server, password="hunter2")
    assert client.known == ""


def test_host_key_when_one_is_known_and_another_kind_was_revoked_somewhere_is_asked_for_the_known_one(
    client: Client, files: Path, keys: dict[str, Path]
) -> None:
    """As ssh does, else the server would seem to have changed its key."""
    account = Account(directory=files, keys=[public(keys["ed25519"])], ways=[(KEY,)])
    with serving(account, [host_key("ed25519"), host_key("ecdsa")]) as server:
        revoked = line("any", 22, shown(number=2)).replace("any", "@revoked *")
        (client.directory / ".ssh/known_hosts").write_text(line(HOST, server.port, shown("ecdsa")) + revoked)
        volume = client.volume(server, IdentityFile=str(keys["ed25519"]))
        client.preflight.run(volume, Deadline.after(60))
        ssh = connect(client, volume)
    assert (ssh.returncode, ssh.stderr) == (0, "")


@needs("ssh-rsa")
@pytest.mark.parametrize("known", ["rsa", "ecdsa"])
def test_host_key_when_known_and_the_server_signs_with_sha1_for_another_is_asked_for_that_one(
    client: Client, files: Path, keys: dict[str, Path], known: str
) -> None:
    account = Account(directory=files, keys=[public(keys["ed25519"])], ways=[(KEY,)])
    old = only("key_types", "ecdsa-sha2-nistp256", "ssh-rsa")
    with serving(account, [host_key("ecdsa"), host_key("rsa")], old) as server:
        (client.directory / ".ssh/known_hosts").write_text(line(HOST, server.port, shown(known)))
        volume = client.volume(server, IdentityFile=str(keys["ed25519"]), HostKeyAlgorithms="+ssh-rsa")
        client.preflight.run(volume, Deadline.after(60))
        ssh = connect(client, volume)
    assert (ssh.returncode, ssh.stderr) == (0, "")


@pytest.mark.parametrize("algorithms", ["^ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256,ssh-ed25519"])
@pytest.mark.parametrize("pinned", [False, True])
def test_host_key_when_the_volume_says_which_kind_comes_first_is_the_one_that_ssh_is_shown(
    client: Client, files: Path, keys: dict[str, Path], algorithms: str, pinned: bool
) -> None:
    account = Account(directory=files, keys=[public(keys["ed25519"])], ways=[(KEY,)])
    opts: Any = {"IdentityFile": str(keys["ed25519"]), "HostKeyAlgorithms": algorithms}
    with serving(account, [host_key("ed25519"), host_key("ecdsa")]) as server:
        if pinned:
            refusal = client.refusal(server, **opts, host_key=shown("ed25519").fingerprint)
            assert f"is {shown('ecdsa').fingerprint}, not the pinned" in str(refusal)
            opts["host_key"] = shown("ecdsa").fingerprint
        volume = client.volume(server, **opts)
        client.preflight.run(volume, Deadline.after(60))
        ssh = connect(client, volume)
    assert (ssh.returncode, ssh.stderr) == (0, "")


def test_host_key_when_it_is_shorter_than_the_volume_wants_is_refused_and_nothing_is_sent(
    client: Client, files: Path
) -> None:
    with serving(Account(directory=files, password="hunter2"), [host_key("rsa")]) as server:
        client.run(server, password="hunter2", RequiredRSASize=str(host_key("rsa").get_bits()))
        before = list(server.seen)
        error = client.refusal(server, password="hunter2", RequiredRSASize="8192")
    assert str(error) == (
        f"the host key of 127.0.0.1 port {server.port} is an RSA key of {host_key('rsa').get_bits()} bits, and "
        "RequiredRSASize wants 8192: let the server have a longer one, or leave that option out"
    )
    assert server.seen == before


@pytest.mark.parametrize("check", ["accept-new", "yes"])
def test_host_key_when_only_one_of_another_kind_is_known_has_changed(
    client: Client, server: Server, check: str
) -> None:
    known = line(HOST, server.port, shown("rsa"))
    (client.directory / "known_hosts").write_text(known)
    error = client.refusal(server, password="hunter2", host_key_check=check)
    assert isinstance(error, errors.HostKeyChanged)
    assert f"has changed from {shown('rsa').fingerprint} to {shown().fingerprint}" in str(error)
    assert server.seen == []
    assert client.known == known


@pytest.mark.parametrize("mark", ["", "@revoked "])
def test_host_key_when_checks_are_off_is_not_looked_at_and_not_written(
    client: Client, server: Server, mark: str
) -> None:
    known = f"{mark}{line(HOST, server.port, shown(number=1 if mark else 2))}"
    (client.directory / "known_hosts").write_text(known)
    client.run(server, password="hunter2", host_key_check="no")
    assert client.known == known
    assert client.pinned == []


@pytest.mark.parametrize("kind", ANY_KIND)
def test_host_key_when_pinned_is_found_among_all_that_the_server_has(client: Client, files: Path, kind: str) -> None:
    with serving(Account(directory=files, password="hunter2"), [host_key(each) for each in ANY_KIND]) as server:
        client.run(server, password="hunter2", host_key=shown(kind).fingerprint)
    assert (client.directory / "pinned/photos").read_text() == line(HOST, server.port, shown(kind))
    assert client.known == ""


def test_host_key_when_pinned_needs_no_known_hosts_and_overrules_them(client: Client, server: Server) -> None:
    (client.directory / "known_hosts").write_text(line(HOST, server.port, shown(number=2)))
    client.run(server, password="hunter2", host_key=shown().fingerprint, host_key_check="yes")
    assert client.pinned == ["photos"]


def test_host_key_when_pinned_and_revoked_is_refused(client: Client, server: Server) -> None:
    (client.directory / ".ssh/known_hosts").write_text(f"@revoked {line(HOST, server.port, shown())}")
    error = client.refusal(server, password="hunter2", host_key=shown().fingerprint)
    assert isinstance(error, errors.HostKeyChanged)
    assert f"{shown().fingerprint}, is marked as revoked: " in str(error)
    assert server.seen == []


def test_host_key_when_it_is_not_the_pinned_one_says_both_and_sends_nothing(client: Client, server: Server) -> None:
    wanted = shown(number=2).fingerprint
    error = client.refusal(server, password="hunter2", host_key=wanted)
    assert isinstance(error, errors.HostKeyNotPinned)
    assert str(error) == (
        f"the host key of 127.0.0.1 port {server.port} is {shown().fingerprint}, not the pinned {wanted}: "
        "either this is another server, or the option 'host_key' is out of date"
    )
    assert server.seen == []
    assert client.pinned == []


def test_host_key_when_none_of_several_is_the_pinned_one_says_the_one_that_ssh_would_show(
    client: Client, files: Path
) -> None:
    with serving(Account(directory=files, password="hunter2"), [host_key(kind) for kind in ANY_KIND]) as server:
        error = client.refusal(server, password="hunter2", host_key=shown(number=2).fingerprint)
    assert f"port {server.port} is {shown().fingerprint}, not the pinned" in str(error)


@needs("ssh-rsa")
def test_host_key_when_pinned_and_the_server_only_has_an_old_kind_says_what_is_lacking(
    client: Client, files: Path
) -> None:
    account = Account(directory=files, password="hunter2")
    with serving(account, [host_key("rsa")], only("key_types", "ssh-rsa")) as server:
        error = client.refusal(server, password="hunter2", host_key=shown().fingerprint)
    assert isinstance(error, errors.NegotiationFailed)
    assert "shares no algorithm" in str(error)


def test_host_key_when_the_volume_names_a_file_is_looked_up_there_and_in_our_own_alone(
    client: Client, server: Server, tmp_path: Path
) -> None:
    named, roots = tmp_path / "a known_hosts, of mine", client.directory / ".ssh/known_hosts"
    strict: Any = {"password": "hunter2", "host_key_check": "yes", "known_hosts": str(named)}
    roots.write_text(line(HOST, server.port, shown()))
    named.touch()
    assert isinstance(client.refusal(server, **strict), errors.HostKeyUnknown)
    named.write_text(line(HOST, server.port, shown()))
    client.run(server, **strict)
    named.write_text("")
    client.run(server, password="hunter2", known_hosts="/dev/null")
    client.run(server, **strict)


def test_host_key_when_its_volume_is_removed_is_not_pinned_any_more(client: Client, server: Server) -> None:
    client.run(server, password="hunter2", host_key=shown().fingerprint)
    preflight = client.preflight
    DeferredPreflight(keyring=preflight.keyring, known_hosts=preflight.known_hosts).unpin(VolumeName("photos"))
    assert client.pinned == []
