# SPDX-License-Identifier: MIT
"""docker-volume-sshfs check: what an administrator reads of each check, and what is left behind."""

import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import paramiko
import pytest
from support.administrator import Administrator
from support.agents import agent
from support.driver import slow_slots
from support.impostors import closed_port, impostor
from support.programs import Programs
from support.serving import serving as at_socket
from support.ssh_keys import host_key, write_key
from support.ssh_server import Account, Server, serving

from sshfs_plugin import options
from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.http import api
from sshfs_plugin.ssh.known_hosts import HostKey, KnownHosts
from sshfs_plugin.state.records import VolumeRecords
from sshfs_plugin.volume import VolumeName

WHERE = "bob@127.0.0.1:/photos"
ALL_CHANGES = ("open", "write", "remove")


def shown(kind: str = "ed25519", number: int = 1) -> HostKey:
    key = host_key(kind, number)
    return HostKey(kind=key.get_name(), blob=key.asbytes())


@pytest.fixture
def files(tmp_path: Path) -> Path:
    directory = tmp_path / "server"
    (directory / "photos").mkdir(parents=True, mode=0o755)
    return directory


@pytest.fixture
def server(files: Path) -> Iterator[Server]:
    with serving(Account(directory=files, password="hunter2")) as running:
        yield running


def login(server: Server, **opts: str) -> list[str]:
    """Return the words that get into a server, unless the options say otherwise."""
    given = {"port": str(server.port), "password": "hunter2", **opts}
    return [f"-o{name}={value}" for name, value in given.items()]


def test_a_server_that_can_serve_gets_a_tick_for_each_check(
    administrator: Administrator, server: Server, files: Path
) -> None:
    said = administrator("check", WHERE, *login(server))
    assert said.lines == [
        f"{WHERE} port {server.port}",
        "✓ key or password a password",
        "✓ options",
        "✓ name 127.0.0.1",
        f"✓ connection 127.0.0.1 port {server.port}",
        f"✓ key exchange SSH-2.0-paramiko_{paramiko.__version__}",
        f"✓ host key ssh-ed25519 {shown().fingerprint}, new",
        "✓ login bob with the password",
        "✓ SFTP no posix-rename: a file takes the place of another in several steps, no statvfs: df shows an invented "
        "size, no fsync: programs are not told when a file is on the server's disk",
        f"✓ directory drwxr-xr-x, owner {os.getuid()}, group {os.getgid()}",
    ]
    assert (said.code, said.err) == (0, "")
    assert "hunter2" not in said.out
    assert list((files / "photos").iterdir()) == []


def test_a_server_without_posix_rename_is_said_to_fail_it_where_sshfs_does_not_make_up_for_it(
    administrator: Administrator, server: Server
) -> None:
    for chosen in ("none", "norename:fstat", "rename:norename", "rename:none"):
        said = administrator("check", WHERE, *login(server, workaround=chosen))
        assert said.lines[8].startswith("✓ SFTP no posix-rename: a file can't take the place of another, no statvfs")
    said = administrator("check", WHERE, *login(server, workaround="truncate:rename"))
    assert "another in several steps" in said.lines[8]


@pytest.mark.parametrize("where", [[WHERE], [f"-osshcmd={WHERE}"]])
def test_the_port_is_said_as_to_ssh_copy_id(administrator: Administrator, server: Server, where: list[str]) -> None:
    said = administrator("check", "-p", str(server.port), "-opassword=hunter2", *where)
    assert (said.code, said.lines[0]) == (0, f"{WHERE} port {server.port}")
    assert administrator("check", "-p", str(server.port)).err.splitlines()[-1] == (
        "Error: say user@host:/dir, the name of a volume, or -o sshcmd=user@host:/dir"
    )


def test_a_question_leaves_nothing_behind_on_this_host(administrator: Administrator, server: Server) -> None:
    assert administrator("check", WHERE, *login(server)).code == 0
    assert administrator("check", WHERE, *login(server, host_key=shown().fingerprint)).code == 0
    assert not administrator.settings.state.exists()


@pytest.mark.parametrize(
    ("words", "broken", "error"),
    [
        ([WHERE, "-oIdentityFile=/nowhere/key"], "key or password", "cannot use the identity file /nowhere/key"),
        (["bob@nowhere.invalid:/photos"], "name", "the host name nowhere.invalid does not resolve to an address"),
        ([WHERE, "-ohost_key_check=yes"], "host key", "is not known, it is SHA256:"),
        ([WHERE, f"-ohost_key={shown(number=2).fingerprint}"], "host key", "not the pinned SHA256:"),
        ([WHERE, "-opassword=wrong"], "login", "127.0.0.1 refused to let bob in with the password"),
        (["bob@127.0.0.1:/missing"], "directory", "does not exist on 127.0.0.1 for bob: make it first"),
    ],
)
def test_the_first_failed_check_is_the_last_line_and_its_cure_goes_to_stderr(
    administrator: Administrator, server: Server, words: list[str], broken: str, error: str
) -> None:
    said = administrator("check", *login(server), *words)
    assert said.code == 1
    assert [line for line in said.lines if line.startswith("✗")] == said.lines[-1:] == [f"✗ {broken}"]
    assert said.err.startswith("docker-volume-sshfs: ")
    assert error in said.err
    assert said.err.count("\n") == 1
    assert "hunter2" not in said.out + said.err


@pytest.mark.parametrize(("count", "words"), [(1, "1 key"), (2, "2 keys")])
def test_the_keys_of_an_agent_are_counted(administrator: Administrator, tmp_path: Path, count: int, words: str) -> None:
    keys = [write_key(tmp_path / f"key{number}", "ed25519", number) for number in range(count)]
    with agent(*keys) as place:
        said = administrator("check", "nas.invalid:/dir", f"-oIdentityAgent={place}")
    assert said.lines[1] == f"✓ key or password {words} of the ssh-agent at {place}"


def test_an_option_that_this_host_can_not_follow_breaks_the_options(administrator: Administrator) -> None:
    said = administrator("check", WHERE, "-opassword=hunter2", "-oBindInterface=nope")
    assert (said.code, said.lines[1:]) == (2, ["✓ key or password a password", "✗ options"])
    assert "names a network interface that this host does not have" in said.err


def test_a_refused_connection_breaks_the_connection(administrator: Administrator) -> None:
    said = administrator("check", WHERE, f"-oport={closed_port()}")
    assert (said.code, said.lines[-1]) == (1, "✗ connection")
    assert "connection refused: is an SSH server running there" in said.err


def test_something_else_than_ssh_breaks_the_key_exchange(administrator: Administrator) -> None:
    with impostor(b"HTTP/1.1 400 Bad Request\r\n\r\n", hangs_up=True) as port:
        said = administrator("check", WHERE, f"-oport={port}")
    assert (said.code, said.lines[-1]) == (1, "✗ key exchange")
    assert "is not an SSH server" in said.err


def test_a_server_without_sftp_breaks_sftp(administrator: Administrator, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", sftp=False)) as server:
        said = administrator("check", WHERE, *login(server))
    assert (said.code, said.lines[-1]) == (1, "✗ SFTP")
    assert "has no SFTP for it" in said.err


def test_a_pinned_key_that_is_asked_for_last_holds_and_each_check_is_shown_once(
    administrator: Administrator, files: Path
) -> None:
    kinds = [host_key(kind) for kind in ("ed25519", "ecdsa", "rsa")]
    with serving(Account(directory=files, password="hunter2"), kinds) as server:
        said = administrator("check", WHERE, *login(server, host_key=shown("rsa").fingerprint))
    assert said.code == 0
    assert f"✓ host key ssh-rsa {shown('rsa').fingerprint}, pinned" in said.lines
    assert [line.split()[1] for line in said.lines[1:]] == [
        *("key", "options", "name", "connection", "key", "host", "login", "SFTP", "directory")
    ]


def test_a_host_key_that_is_known_is_said_to_be(administrator: Administrator, server: Server) -> None:
    KnownHosts.of(administrator.settings).add("127.0.0.1", server.port, shown())
    said = administrator("check", WHERE, *login(server))
    assert f"✓ host key ssh-ed25519 {shown().fingerprint}, known" in said.lines


def test_a_host_key_that_has_changed_names_the_command_that_forgets_the_old_one(
    administrator: Administrator, server: Server
) -> None:
    KnownHosts.of(administrator.settings).add("127.0.0.1", server.port, shown(number=2))
    said = administrator("check", WHERE, *login(server))
    assert said.code == 1
    assert said.err.endswith(f"remove its old key: docker-volume-sshfs host-key forget '[127.0.0.1]:{server.port}'\n")
    assert administrator("host-key", "forget", f"[127.0.0.1]:{server.port}").code == 0
    assert administrator("check", WHERE, *login(server)).code == 0


def test_write_makes_a_file_and_removes_it(administrator: Administrator, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", changes=ALL_CHANGES)) as server:
        said = administrator("check", "--write", WHERE, *login(server))
        changed = [request for request in server.seen if request.startswith(("open", "remove"))]
    assert (said.code, said.err) == (0, "")
    name = said.lines[-1].removeprefix("✓ writing ").removesuffix(" made and removed")
    assert changed == [f"open /photos/{name}", f"remove /photos/{name}"]
    assert list((files / "photos").iterdir()) == []


def test_write_leaves_a_read_only_volume_alone(administrator: Administrator, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", changes=ALL_CHANGES)) as server:
        said = administrator("check", "--write", WHERE, *login(server), "-o", "ro")
    assert said.lines[-1] == "✓ writing not tried, since the volume is read-only"
    assert "open" not in " ".join(server.seen)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        (
            (),
            "bob may not write to /photos on 127.0.0.1: give bob the right to write there, log in as its owner, "
            "or make a read-only volume with -o ro",
        ),
        (
            ("open", "remove"),
            "cannot write to /photos on 127.0.0.1 (Failure): is the file system there full, over its quota or "
            "read-only?",
        ),
    ],
    ids=["no right", "full"],
)
def test_write_when_refused_says_what_to_do_and_leaves_nothing(
    administrator: Administrator, files: Path, changes: tuple[str, ...], error: str
) -> None:
    with serving(Account(directory=files, password="hunter2", changes=changes)) as server:
        said = administrator("check", "--write", WHERE, *login(server))
    assert (said.code, said.lines[-1]) == (1, "✗ writing")
    assert said.err == f"docker-volume-sshfs: {error}\n"
    assert list((files / "photos").iterdir()) == []


def test_write_when_the_server_fails_at_once_says_what_may_be_wrong(
    administrator: Administrator, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: "1f")
    answers = {"open /photos/.docker-volume-sshfs-1f": paramiko.SFTP_FAILURE}
    with serving(Account(directory=files, password="hunter2", changes=ALL_CHANGES, answers=answers)) as server:
        said = administrator("check", "--write", WHERE, *login(server))
    assert said.code == 1
    assert "cannot write to /photos on 127.0.0.1 (Failure): is the file system there full" in said.err


def test_write_when_interrupted_removes_the_file(
    administrator: Administrator, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(paramiko.SFTPFile, "write", interrupt)
    with serving(Account(directory=files, password="hunter2", changes=ALL_CHANGES)) as server:
        assert administrator("check", "--write", WHERE, *login(server)).code == 130
        assert any(request.startswith("open /photos/") for request in server.seen)
    assert list((files / "photos").iterdir()) == []


def test_write_when_the_file_can_not_be_removed_names_it(administrator: Administrator, files: Path) -> None:
    with serving(Account(directory=files, password="hunter2", changes=("open", "write"))) as server:
        said = administrator("check", "--write", WHERE, *login(server))
    (left,) = (files / "photos").iterdir()
    assert said.code == 1
    assert "bob may make files in /photos on 127.0.0.1 but not remove them (Permission denied)" in said.err
    assert said.err.endswith(f"remove {left.name} there by hand\n")


def test_a_volume_on_record_is_checked_with_its_own_options(administrator: Administrator, server: Server) -> None:
    volumes = VolumeRecords(administrator.settings.volumes)
    assert volumes.load_all() == {}
    opts = {"sshcmd": WHERE, "port": str(server.port), "password": "hunter2"}
    volumes.save(options.parse(VolumeName("photos"), opts, datetime.now(UTC)))
    said = administrator("check", "photos")
    assert (said.code, said.err) == (0, "")
    assert said.lines[0] == f"{WHERE} port {server.port}"
    assert "hunter2" not in said.out
    for others in ("-oport=22", "-p22"):
        assert administrator("check", "photos", others).err == (
            "docker-volume-sshfs: the volume 'photos' has options of its own: say user@host:/dir to check with others\n"
        )
        assert administrator("check", "nas", others).err.startswith(
            "docker-volume-sshfs: volume 'nas' not found: if it is a server, say user@nas:/dir"
        )


def test_a_volume_whose_record_is_broken_is_not_called_unknown(administrator: Administrator) -> None:
    volumes = VolumeRecords(administrator.settings.volumes)
    assert volumes.load_all() == {}
    (volumes.directory / "photos.json").write_text("{}")
    said = administrator("check", "photos")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("docker-volume-sshfs: volume 'photos' is unusable, its record ")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], "say user@host:/dir, the name of a volume, or -o sshcmd=user@host:/dir"),
        (
            ["music"],
            "volume 'music' not found: if it is a server, say user@music:/dir; docker volume ls shows whether another "
            "driver has a volume of that name",
        ),
        (
            ["nas/dir"],
            "'nas/dir' is no server and can't be the name of a volume: say user@host:/dir, with a colon after the host",
        ),
        (["../etc"], "'../etc' is no server and can't be the name of a volume"),
        (["nas:/dir", "-p", "ssh"], "Invalid value for '-p' / '--port'"),
        (["nas:/dir", "-p", "0"], "Invalid value for '-p' / '--port'"),
        (["nas:/dir", "-p", "22", "-oPort=22"], "option 'port' says again what -p says: give one of them"),
        (["nas:/dir", "-p", "22", "-oro,port=23"], "option 'port' is given twice with different values"),
        (
            ["alice@nas"],
            "'alice@nas' has no colon between host and directory: say alice@nas:/dir, or alice@nas: for the login "
            "directory",
        ),
        (["alice@nas/srv"], "'alice@nas/srv' has no colon between host and directory: say alice@nas:/srv"),
        (["/srv/photos", "-p", "22"], "'/srv/photos' is no server and can't be the name of a volume: say user@host"),
        (["nas:/dir", "-oporrt=22"], "unknown option 'porrt': did you mean 'port'?"),
        (["nas:/dir", "-oProxyCommand=id"], "option 'ProxyCommand' is refused"),
        (
            ["bob:pw@nas:/dir", "-osshcmd=nas:/other"],
            "option 'sshcmd' says again what bob:...@nas:/dir says: give one of them",
        ),
        (["nas:/dir", "-osshcmd=nas:/other"], "option 'sshcmd' says again what nas:/dir says: give one of them"),
        (["-oport=22"], "option 'sshcmd' is missing"),
        (["nas:/dir", "--wirte"], "No such option"),
    ],
)
def test_wrong_words_and_options_end_with_two(administrator: Administrator, words: list[str], error: str) -> None:
    said = administrator("check", *words)
    assert (said.code, said.out) == (2, "")
    assert error in said.err


@pytest.mark.parametrize("option", ["IdentityFile", "password_file", "known_hosts"])
def test_a_file_that_the_service_would_not_see_is_refused(administrator: Administrator, option: str) -> None:
    """As docker volume create would refuse it, with a service in a unit that has a /tmp of its own."""
    under_systemd = Administrator(replace(administrator.settings, supervisor="systemd"))
    said = under_systemd("check", "nas:/dir", f"-o{option}=/var/tmp/file")
    assert (said.code, said.out) == (2, "")
    assert f"'{option}' names /var/tmp/file, which is below /var/tmp, where the service can't see it: move" in said.err


@pytest.fixture
def under_systemd(administrator: Administrator, programs: Programs) -> Administrator:
    """Give a host on which systemd keeps the volumes; the service does not run, so its credentials are not there."""
    programs.add("systemctl", f"echo 'Listen={administrator.settings.socket} (Stream)'")
    return Administrator(replace(administrator.settings, supervisor="systemd"))


@pytest.fixture
def started(under_systemd: Administrator, driver: Driver) -> Iterator[list[str]]:
    """Open the socket, where a question starts the service; give how often it was asked."""
    asked: list[str] = []
    app = api.create_app(driver, slow_slots=slow_slots(), tell=lambda _: None)

    def start() -> None:
        asked.append("")
        directory = under_systemd.settings.credentials
        directory.mkdir(exist_ok=True)
        (directory / "nas").write_text("hunter2\n")
        (directory / "nas").chmod(0o400)

    app.before_request(start)
    under_systemd.settings.runtime.mkdir(parents=True, exist_ok=True)
    with at_socket(app, under_systemd.settings.socket):
        yield asked


def test_a_secret_that_only_the_running_service_has_starts_the_service(
    under_systemd: Administrator, server: Server, started: list[str]
) -> None:
    """The socket alone is open after a boot, and systemd shows the credentials of a service while that runs."""
    said = under_systemd("check", WHERE, f"-oport={server.port}", "-osecret=nas")
    assert (said.code, said.err) == (0, "")
    assert len(started) == 1
    assert under_systemd("check", WHERE, f"-oport={server.port}", "-osecret=nas").code == 0
    assert len(started) == 1


def test_a_passphrase_that_only_the_running_service_has_starts_the_service(
    under_systemd: Administrator, started: list[str]
) -> None:
    under_systemd("check", WHERE, "-oIdentityFile=/nowhere/key", "-opassphrase_secret=nas")
    assert len(started) == 1


def test_a_volume_without_a_secret_does_not_start_the_service(
    under_systemd: Administrator, server: Server, started: list[str]
) -> None:
    assert under_systemd("check", WHERE, *login(server)).code == 0
    assert started == []


def test_a_secret_that_is_missing_while_the_service_can_not_be_started_says_so(under_systemd: Administrator) -> None:
    said = under_systemd("check", WHERE, "-osecret=nas")
    assert said.code == 1
    assert (
        "if it is a credential of the service, which does not run, systemctl start docker-volume-sshfs; else put it "
        f"into {under_systemd.settings.secrets}/nas, or let systemd"
    ) in said.err


def test_a_secret_that_the_running_service_does_not_have_either_is_missing(
    under_systemd: Administrator, started: list[str]
) -> None:
    said = under_systemd("check", WHERE, "-osecret=other")
    assert f"has a file of that name: put it into {under_systemd.settings.secrets}/other" in said.err


def test_whoever_is_not_root_is_told_so(administrator: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for words in (["check", "nas:/dir"], ["status"], ["host-key", "show", "nas"]):
        said = administrator(*words)
        assert (said.code, said.out) == (2, "")
        assert said.err == (
            "docker-volume-sshfs: keys, records and the plugin's socket are for root alone: "
            "say sudo before the command\n"
        )


def test_a_setting_that_makes_no_sense_is_named(administrator: Administrator) -> None:
    elsewhere = Administrator(replace(administrator.settings, threads=1))
    said = elsewhere("check", WHERE)
    assert (said.code, said.out) == (2, "")
    assert said.err == "docker-volume-sshfs: SSHFS_PLUGIN_THREADS must be a number of at least 8, not '1'\n"


def test_a_terminal_without_ticks_gets_words(administrator: Administrator, server: Server) -> None:
    said = administrator("check", WHERE, *login(server, password="wrong"), charset="latin-1")
    assert said.lines[1] == "ok key or password a password"
    assert said.lines[-1] == "FAILED login"


def test_a_server_can_not_steer_the_terminal(administrator: Administrator) -> None:
    with impostor(b"SSH-1.5-\x1b]0;owned\x07\r\n", hangs_up=True) as port:
        said = administrator("check", WHERE, f"-oport={port}")
    assert said.code == 1
    assert "\x1b" not in said.out + said.err
    assert "\x07" not in said.out + said.err


def test_ctrl_c_ends_the_check_without_a_traceback(
    administrator: Administrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    found = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [found])
    monkeypatch.setattr("socket.socket", interrupt)
    said = administrator("check", WHERE)
    assert (said.code, said.err) == (130, "")
