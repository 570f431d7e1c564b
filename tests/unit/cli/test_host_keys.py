# SPDX-License-Identifier: MIT
"""docker-volume-sshfs host-key: what is known of a server, what it shows, and what is written down."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.administrator import Administrator
from support.impostors import LOOPBACK, closed_port, impostor
from support.ssh_client import needs, only
from support.ssh_keys import host_key
from support.ssh_server import Account, Server, serving
from support.waiting import LIMIT_SECONDS

from sshfs_plugin.cli.commands import NAME, command_line
from sshfs_plugin.host import command
from sshfs_plugin.ssh.known_hosts import HostKey, KnownHosts, line

HOST = LOOPBACK
KINDS = ("ed25519", "ecdsa", "rsa")


def shown(kind: str = "ed25519", number: int = 1) -> HostKey:
    key = host_key(kind, number)
    return HostKey(kind=key.get_name(), blob=key.asbytes())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Run a server with a host key of each kind."""
    with serving(Account(directory=tmp_path), [host_key(kind) for kind in KINDS]) as running:
        yield running


@pytest.fixture
def known_hosts(administrator: Administrator) -> KnownHosts:
    known_hosts = KnownHosts.of(administrator.settings)
    known_hosts.own.parent.mkdir()
    return known_hosts


def name(server: Server) -> str:
    return f"[{HOST}]:{server.port}"


def known(known_hosts: KnownHosts, server: Server) -> set[str]:
    """Return the fingerprints that the plugin's own file has of a server."""
    found = known_hosts.lookup(HOST, server.port)
    return {key.fingerprint for key in found if key.file == known_hosts.own}


def test_show_of_a_new_server_lists_its_keys_and_how_to_trust_it(administrator: Administrator, server: Server) -> None:
    said = administrator("host-key", "show", name(server))
    assert said.code == 1
    assert said.lines == [
        f"{HOST} port {server.port} is not known here.",
        "It shows now:",
        "KIND FINGERPRINT",
        *(f"{shown(kind).kind} {shown(kind).fingerprint} not known" for kind in KINDS),
        "A volume trusts it at the first contact. To do so now: "
        f"docker-volume-sshfs host-key trust '{name(server)}'",
    ]
    assert not administrator.settings.state.exists()


@needs("ssh-rsa")
def test_server_whose_only_host_key_signs_with_sha1_is_shown_and_trusted(
    administrator: Administrator, tmp_path: Path, known_hosts: KnownHosts
) -> None:
    with serving(Account(directory=tmp_path), [host_key("rsa")], only("key_types", "ssh-rsa")) as server:
        assert f"ssh-rsa {shown('rsa').fingerprint} not known" in administrator("host-key", "show", name(server)).lines
        assert administrator("host-key", "trust", name(server), answer="y\n").code == 0
        assert known(known_hosts, server) == {shown("rsa").fingerprint}


def test_show_of_a_server_without_a_host_key_of_a_known_kind_says_so(
    administrator: Administrator, tmp_path: Path
) -> None:
    with serving(Account(directory=tmp_path), [host_key("rsa")], only("key_types", "ssh-ed25519")) as server:
        said = administrator("host-key", "show", name(server))
    assert said.code == 1
    assert f"the SSH server at {HOST} port {server.port} shares no algorithm with the check (" in said.err
    assert said.err.endswith("): if ssh itself can log in there, say -o check=never for the volume\n")


def test_show_of_a_known_server_names_the_files(
    administrator: Administrator, server: Server, known_hosts: KnownHosts
) -> None:
    known_hosts.add(HOST, server.port, shown("rsa"))
    known_hosts.others[0].write_text(line(HOST, server.port, shown()))
    said = administrator("host-key", "show", HOST, "-p", str(server.port))
    assert (said.code, said.err) == (0, "")
    assert said.lines == [
        f"{HOST} port {server.port}, known:",
        "KIND FINGERPRINT",
        f"ssh-rsa {shown('rsa').fingerprint} {known_hosts.own}",
        f"ssh-ed25519 {shown().fingerprint} {known_hosts.others[0]}",
        "It shows now:",
        "KIND FINGERPRINT",
        f"ssh-ed25519 {shown().fingerprint} known",
        f"ssh-rsa {shown('rsa').fingerprint} known",
        f"{shown('ecdsa').kind} {shown('ecdsa').fingerprint} not known",
        "It is the server that is known.",
    ]


def test_show_of_a_server_that_has_changed_says_both_keys(
    administrator: Administrator, server: Server, known_hosts: KnownHosts
) -> None:
    known_hosts.add(HOST, server.port, shown(number=2))
    said = administrator("host-key", "show", name(server))
    assert said.code == 1
    assert f"has changed from {shown(number=2).fingerprint} to {shown().fingerprint}" in said.err
    assert f"docker-volume-sshfs host-key forget '{name(server)}'" in said.err


def test_show_of_a_server_that_is_down_still_says_what_is_known(
    administrator: Administrator, known_hosts: KnownHosts
) -> None:
    port = closed_port()
    known_hosts.add(HOST, port, shown())
    said = administrator("host-key", "show", f"[{HOST}]:{port}")
    assert said.code == 1
    assert shown().fingerprint in said.out
    assert "connection refused" in said.err


def test_show_of_what_is_no_ssh_server_says_so(administrator: Administrator) -> None:
    with impostor(b"HTTP/1.1 400 Bad Request\r\n\r\n", hangs_up=True) as port:
        said = administrator("host-key", "show", HOST, "-p", str(port))
    assert said.code == 1
    assert "is not an SSH server" in said.err


def test_show_of_a_server_that_breaks_off_says_so(administrator: Administrator) -> None:
    with impostor(b"SSH-2.0-OpenSSH_9.2\r\n", hangs_up=True) as port:
        said = administrator("host-key", "show", HOST, "-p", str(port))
    assert said.code == 1
    assert "broke the connection off" in said.err


def test_show_of_a_server_with_one_kind_of_key_shows_that(administrator: Administrator, tmp_path: Path) -> None:
    with serving(Account(directory=tmp_path), [host_key("rsa")]) as server:
        said = administrator("host-key", "show", name(server))
    assert (said.code, said.err) == (1, "")
    assert said.lines[3] == f"ssh-rsa {shown('rsa').fingerprint} not known"


def test_trust_asks_and_writes_every_key_down(
    administrator: Administrator, server: Server, known_hosts: KnownHosts
) -> None:
    said = administrator("host-key", "trust", name(server), answer="y\n")
    assert (said.code, said.err) == (0, "")
    assert "Are these what ssh-keygen -lf prints on the server itself? [y/N]" in said.out
    assert known(known_hosts, server) == {shown(kind).fingerprint for kind in KINDS}
    assert said.out.endswith(f"It is trusted from now on ({known_hosts.own}).\n")
    assert administrator("host-key", "show", name(server)).code == 0
    again = administrator("host-key", "trust", name(server))
    assert (again.code, again.out) == (0, f"{HOST} port {server.port} is known already.\n")


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_trust_when_not_confirmed_writes_nothing(administrator: Administrator, server: Server, answer: str) -> None:
    said = administrator("host-key", "trust", name(server), answer=answer)
    assert said.code == 1
    assert not administrator.settings.state.exists()


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        (KeyboardInterrupt, 130, ""),
        (
            EOFError,
            1,
            "docker-volume-sshfs: nobody has answered, so nothing was changed: say --fingerprint with that of the "
            "right key, or --yes to trust what it shows\n",
        ),
    ],
)
def test_trust_without_an_answer_ends_as_interrupted_or_says_how_to_do_without(  # noqa: PLR0913 (a question can end in two ways)
    administrator: Administrator,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ending: type[BaseException],
    code: int,
    said: str,
) -> None:
    def end(_question: str) -> str:
        raise ending

    monkeypatch.setattr("click.termui.visible_prompt_func", end)
    for variable, value in administrator.settings.environment().items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as ended:
        command_line.main(["host-key", "trust", name(server)], prog_name=NAME)
    assert (ended.value.code, capsys.readouterr().err) == (code, f"\n{said}")
    assert not administrator.settings.state.exists()


def test_trust_with_yes_does_not_ask(administrator: Administrator, server: Server, known_hosts: KnownHosts) -> None:
    said = administrator("host-key", "trust", "--yes", name(server))
    assert said.code == 0
    assert "?" not in said.out
    assert len(known(known_hosts, server)) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_trust_with_a_fingerprint_takes_that_key_alone(
    administrator: Administrator, server: Server, known_hosts: KnownHosts, kind: str
) -> None:
    said = administrator("host-key", "trust", name(server), "--fingerprint", shown(kind).fingerprint)
    assert said.code == 0
    assert known(known_hosts, server) == {shown(kind).fingerprint}


def test_trust_with_a_fingerprint_that_no_key_has_names_those_that_are_shown(
    administrator: Administrator, server: Server
) -> None:
    wanted = shown(number=2).fingerprint
    said = administrator("host-key", "trust", name(server), "--fingerprint", wanted)
    assert said.code == 1
    assert f"shows no host key with the fingerprint {wanted}: it shows {shown().fingerprint} and SHA256:" in said.err
    assert not administrator.settings.state.exists()


def test_trust_with_an_empty_fingerprint_trusts_nothing(administrator: Administrator, server: Server) -> None:
    """It is what a script's variable has that was never set."""
    said = administrator("host-key", "trust", name(server), "--yes", "--fingerprint", "")
    assert (said.code, said.out) == (2, "")
    assert "must be a fingerprint such as ssh-keygen -l prints, SHA256:..., not ''" in said.err
    assert not administrator.settings.state.exists()


def test_trust_of_a_server_that_has_changed_wants_it_forgotten_first(
    administrator: Administrator, server: Server, known_hosts: KnownHosts
) -> None:
    known_hosts.add(HOST, server.port, shown(number=2))
    said = administrator("host-key", "trust", "--yes", name(server))
    assert said.code == 1
    assert said.err.endswith(f"remove its old key: docker-volume-sshfs host-key forget '{name(server)}'\n")
    assert administrator("host-key", "forget", name(server)).code == 0
    assert administrator("host-key", "trust", name(server), answer="y\n").code == 0


def test_trust_of_a_revoked_key_is_refused(
    administrator: Administrator, server: Server, known_hosts: KnownHosts
) -> None:
    known_hosts.others[0].write_text(f"@revoked {line(HOST, server.port, shown())}")
    said = administrator("host-key", "trust", "--yes", name(server))
    assert said.code == 1
    assert "is marked as revoked" in said.err


@pytest.fixture
def revoked(known_hosts: KnownHosts, server: Server) -> HostKey:
    """Have an administrator revoke a key of the server that is not the first one that it shows."""
    known_hosts.others[0].write_text(f"@revoked {line(HOST, server.port, shown('rsa'))}")
    return shown("rsa")


def test_trust_with_the_fingerprint_of_a_revoked_key_is_refused(
    administrator: Administrator, server: Server, known_hosts: KnownHosts, revoked: HostKey
) -> None:
    for _ in ("of a new server", "of a known one"):
        said = administrator("host-key", "trust", name(server), "--fingerprint", revoked.fingerprint)
        assert (said.code, said.out) == (1, "")
        assert said.err == (
            f"docker-volume-sshfs: the host key of {HOST} port {server.port}, {revoked.fingerprint}, is marked as "
            "revoked: do not trust this server before its administrator has explained it\n"
        )
        known_hosts.add(HOST, server.port, shown())
    assert known(known_hosts, server) == {shown().fingerprint}


def test_trust_of_all_keys_leaves_a_revoked_one_out_and_says_so(
    administrator: Administrator, server: Server, known_hosts: KnownHosts, revoked: HostKey
) -> None:
    said = administrator("host-key", "trust", "--yes", name(server))
    assert (said.code, said.err) == (0, "")
    assert said.lines == [
        f"{HOST} port {server.port} shows:",
        "KIND FINGERPRINT",
        *(f"{shown(kind).kind} {shown(kind).fingerprint}" for kind in ("ed25519", "ecdsa")),
        f"ssh-rsa {revoked.fingerprint} revoked, and so left out",
        f"It is trusted from now on ({known_hosts.own}).",
    ]
    assert known(known_hosts, server) == {shown(kind).fingerprint for kind in ("ed25519", "ecdsa")}


def test_show_calls_a_revoked_key_revoked(
    administrator: Administrator, server: Server, known_hosts: KnownHosts, revoked: HostKey
) -> None:
    known_hosts.own.write_text(line(HOST, server.port, shown()) + line(HOST, server.port, revoked))
    said = administrator("host-key", "show", name(server))
    assert said.code == 0
    assert [row for row in said.lines if row.startswith("ssh-rsa")] == [
        f"ssh-rsa {revoked.fingerprint} {known_hosts.own}",
        f"ssh-rsa {revoked.fingerprint} {known_hosts.others[0]}, revoked",
        f"ssh-rsa {revoked.fingerprint} revoked",
    ]


def test_forget_takes_no_file_with_a_revoked_key_for_one_that_knows_the_server(
    administrator: Administrator, known_hosts: KnownHosts
) -> None:
    known_hosts.add("nas", 22, shown())
    known_hosts.others[0].write_text(f"@revoked {line('nas', 22, shown('rsa'))}")
    said = administrator("host-key", "forget", "nas")
    assert (said.code, said.lines) == (0, [f"nas port 22 is forgotten ({known_hosts.own})."])


def test_forget_tells_who_else_knows_the_server(administrator: Administrator, known_hosts: KnownHosts) -> None:
    known_hosts.add("nas", 22, shown())
    known_hosts.others[0].write_text(line("nas", 22, shown("rsa")))
    said = administrator("host-key", "forget", "bob@nas:/photos")
    cure = f"ssh-keygen -R nas -f {known_hosts.others[0]}"
    assert said.code == 1
    assert said.lines == [
        f"nas port 22 is forgotten ({known_hosts.own}).",
        f"{known_hosts.others[0]} still knows it: {cure}",
    ]
    command.run(cure.split(), seconds=LIMIT_SECONDS).check_returncode()
    again = administrator("host-key", "forget", "nas")
    assert (again.code, again.lines) == (0, [f"{known_hosts.own} does not know nas port 22."])


@pytest.mark.parametrize(
    ("words", "server"),
    [
        (["nas"], "nas port 22"),
        (["bob@nas"], "nas port 22"),
        (["bob@nas:"], "nas port 22"),
        (["bob@nas:/photos", "-p", "2222"], "nas port 2222"),
        (["[nas]:2222"], "nas port 2222"),
        (["[nas]:2222", "-p", "2222"], "nas port 2222"),
        (["fd00::5"], "fd00::5 port 22"),
        (["0:0:0::1"], "::1 port 22"),
        (["[fd00::5]"], "fd00::5 port 22"),
        (["[fd00::5]:2222"], "fd00::5 port 2222"),
        (["bob@[fd00::5]:/photos"], "fd00::5 port 22"),
    ],
)
def test_a_server_is_named_in_any_of_its_forms(administrator: Administrator, words: list[str], server: str) -> None:
    said = administrator("host-key", "forget", *words)
    assert (said.code, said.err) == (0, "")
    assert said.out.endswith(f" does not know {server}.\n")


@pytest.mark.parametrize(
    "words",
    [
        ["nas:2222"],
        ["ssh://nas"],
        [""],
        ["-p", "2", "[nas]:3"],
        ["[nas]:0"],
        ["[nas]:70000"],
        ["na s"],
        ["::1]"],
        ["@"],
    ],
)
def test_what_names_no_server_ends_with_two(administrator: Administrator, words: list[str]) -> None:
    said = administrator("host-key", "forget", *words)
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        f"docker-volume-sshfs: {words[-1]!r} names no server: "
        "say host, user@host:/dir or [host]:port; a port goes into -p, too\n"
    )


@pytest.mark.parametrize("where", ["bob:hunter2@nas", "bob:hunter2@nas:/dir", "sftp://bob:hunter2@nas/dir"])
def test_a_password_beside_a_server_is_not_repeated(administrator: Administrator, where: str) -> None:
    said = administrator("host-key", "trust", "--yes", where)
    assert (said.code, said.out) == (2, "")
    assert "@nas" in said.err
    assert "hunter2" not in said.err


def test_a_fingerprint_that_is_none_ends_with_two(administrator: Administrator) -> None:
    said = administrator("host-key", "trust", "nas", "--fingerprint", "MD5:00")
    assert said.code == 2
    assert "must be a fingerprint such as ssh-keygen -l prints" in said.err
