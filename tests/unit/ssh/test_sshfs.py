# SPDX-License-Identifier: MIT
"""A volume in the words of sshfs and ssh, and what the true ssh makes of them."""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.impostors import LOOPBACK
from support.remotes import describe
from support.ssh_keys import host_key, public_key, write_key
from support.ssh_server import KEY, Account, serving
from support.waiting import LIMIT_SECONDS

from sshfs_plugin import options
from sshfs_plugin.host import command
from sshfs_plugin.options.remotes import Remotes
from sshfs_plugin.ssh import sshfs
from sshfs_plugin.ssh.agent import Agent
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.ssh.known_hosts import HostKey, KnownHosts
from sshfs_plugin.volume import Volume, VolumeName

ODD = "ab \"\\$`%'#,;=&|<>(){}[]*?~!^@:/.-_ ü€\u2028😀"
ODD_VALUES = (*ODD, ODD, "$HOME", "${HOME}", "%i", "%%", "a\\", "\\\\n", "$$", "`id`", " # no comment", '"', "'", "")
RELAY = Path("/usr/libexec/docker-volume-sshfs/relay")
PINNED = "SHA256:" + "m" * 42 + "A"


def volume(opts: Mapping[str, str]) -> Volume:
    return options.parse(VolumeName("photos"), {"sshcmd": "bob@nas:/photos", **opts}, datetime.now(UTC))


def given(opts: Mapping[str, str]) -> str:
    return sshfs.options(volume(opts), RELAY)


def known_hosts(directory: Path) -> KnownHosts:
    return KnownHosts(
        own=directory / "known_hosts",
        others=(directory / "root/.ssh/known_hosts", directory / "ssh_known_hosts"),
        pinned=directory / "pinned",
    )


def understood(directory: Path, opts: Mapping[str, str], login: Login, host: str = "nas") -> dict[str, str]:
    """Return what ssh itself reads in the generated ssh_config, each keyword's values in lines."""
    config = directory / "ssh_config"
    config.write_text(sshfs.ssh_config(volume(opts), login, known_hosts(directory)), "utf-8")
    answer = command.run(["ssh", "-G", "-F", config, host], seconds=LIMIT_SECONDS)
    assert answer.returncode == 0, answer.stderr
    found: dict[str, str] = {}
    for line in answer.stdout.splitlines():
        keyword, _, value = line.partition(" ")
        found[keyword] = f"{found[keyword]}\n{value}" if keyword in found else value
    return found


# The command line


def test_options_when_nothing_was_said_reconnect_and_let_others_in_as_their_rights_allow() -> None:
    assert given({}) == (
        f"allow_other,default_permissions,workaround=rename,dcache_dir_timeout=2,reconnect,ssh_command={RELAY}"
    )


def test_options_when_everything_was_said_have_it() -> None:
    opts = {"ro": "", "uid": "1000", "gid": "1001", "umask": "22", "idmap": "user", "reconnect": "no"}
    assert given({**opts, "allow_other": "no"}) == (
        "default_permissions,ro,uid=1000,gid=1001,umask=022,idmap=user,workaround=rename,dcache_dir_timeout=2"
    )


def test_options_when_allow_other_was_said_aloud_check_nothing_as_with_sshfs() -> None:
    assert given({"allow_other": "", "relay": "no"}) == "allow_other,workaround=rename,dcache_dir_timeout=2,reconnect"


def test_password_stays_out_of_command_line_and_configuration(tmp_path: Path) -> None:
    secret, login = volume({"password": "hunter2"}), Login(password="hunter2")
    assert "hunter2" not in sshfs.options(secret, RELAY)
    assert "hunter2" not in sshfs.ssh_config(secret, login, known_hosts(tmp_path))


# The environment file


def read_by_a_shell(file: Path, names: Sequence[str]) -> list[str]:
    """Return the values that a POSIX shell finds in an environment file."""
    wanted = " ".join(f'"${{{name}}}"' for name in names)
    said = command.run(["sh", "-c", f'. "$0" && printf "%s\\n" {wanted}', file], seconds=LIMIT_SECONDS)
    assert said.returncode == 0, said.stderr
    return said.stdout.split("\n")[:-1]


@pytest.mark.parametrize("value", ODD_VALUES)
def test_value_when_a_shell_reads_the_environment_file_is_what_was_meant(tmp_path: Path, value: str) -> None:
    file = tmp_path / "environment"
    file.write_text(sshfs.environment_file({"OPTIONS": value, "SOURCE": "bob@nas:"}), "utf-8")
    assert read_by_a_shell(file, ("OPTIONS", "SOURCE")) == [value, "bob@nas:"]


def test_values_when_they_are_random_arrive_in_a_shell_as_they_were(tmp_path: Path) -> None:
    chance = random.Random(ODD)  # noqa: S311 (the same values each time)
    values = {f"V{number}": "".join(chance.choices(ODD, k=12)) for number in range(500)}
    file = tmp_path / "environment"
    file.write_text(sshfs.environment_file(values), "utf-8")
    assert read_by_a_shell(file, tuple(values)) == list(values.values())


# The configuration, as ssh understands it


def test_ssh_config_when_a_key_logs_in_asks_for_nothing_and_uses_no_other_key(tmp_path: Path) -> None:
    key = tmp_path / "id_ed25519"
    config = understood(tmp_path, {"port": "2222"}, Login(identity_files=(key,)))
    assert config["port"] == "2222"
    assert config["identityfile"] == str(key)
    assert config["identitiesonly"] == "yes"
    assert config["identityagent"] == "none"
    assert config["batchmode"] == "yes"
    assert config["connectionattempts"] == "1"
    assert config["updatehostkeys"] == "false"
    assert (config["serveraliveinterval"], config["serveralivecountmax"], config["connecttimeout"]) == ("15", "3", "10")


def test_ssh_config_when_roots_keys_log_in_tries_them_in_their_order(tmp_path: Path) -> None:
    keys = (tmp_path / "id_rsa", tmp_path / "id_ed25519")
    assert understood(tmp_path, {}, Login(identity_files=keys))["identityfile"] == f"{keys[0]}\n{keys[1]}"


def test_ssh_config_when_a_password_logs_in_asks_once_and_tries_no_key(tmp_path: Path) -> None:
    config = understood(tmp_path, {"password": "hunter2"}, Login(password="hunter2"))
    assert config["identityfile"] == "none"
    assert config["batchmode"] == "no"
    assert config["numberofpasswordprompts"] == "1"


def test_ssh_config_when_limits_were_given_has_them(tmp_path: Path) -> None:
    limits = {"ServerAliveInterval": "5", "ServerAliveCountMax": "2", "ConnectTimeout": "7"}
    config = understood(tmp_path, limits, Login())
    assert (config["serveraliveinterval"], config["serveralivecountmax"], config["connecttimeout"]) == ("5", "2", "7")


@pytest.mark.parametrize(
    ("opts", "strict"),
    [
        ({}, "true"),
        ({"check": "mount"}, "true"),
        ({"check": "never"}, "accept-new"),
        ({"host_key_check": "yes"}, "true"),
        ({"host_key_check": "yes", "check": "never"}, "true"),
    ],
)
def test_ssh_config_takes_new_host_keys_only_if_no_check_has_come_before(
    tmp_path: Path, opts: dict[str, str], strict: str
) -> None:
    config = understood(tmp_path, opts, Login())
    assert config["stricthostkeychecking"] == strict
    assert config["userknownhostsfile"] == (
        f"{tmp_path}/known_hosts {tmp_path}/root/.ssh/known_hosts {tmp_path}/ssh_known_hosts"
    )
    assert config["globalknownhostsfile"] == "/dev/null"


def test_ssh_config_when_the_host_key_is_pinned_knows_that_one_alone(tmp_path: Path) -> None:
    config = understood(tmp_path, {"host_key": PINNED}, Login())
    assert config["stricthostkeychecking"] == "true"
    assert config["userknownhostsfile"] == f"{tmp_path}/pinned/photos"


@pytest.mark.parametrize("check", ["create", "never"])
def test_ssh_config_when_host_keys_are_not_checked_neither_reads_nor_writes_any(tmp_path: Path, check: str) -> None:
    config = understood(tmp_path, {"host_key_check": "no", "check": check}, Login())
    assert config["stricthostkeychecking"] == "false"
    assert config["userknownhostsfile"] == config["globalknownhostsfile"] == "/dev/null"


STRANGE_NAMES = [
    "a b",
    " blanks at both ends ",
    "100%",
    "%h%d%u%%",
    'say "hello"',
    "it's",
    "back\\slash",
    "\\",
    'two\\\\ \\" ',
    "#hash",
    "a,b=c",
    "~",
    "größe €",
    "-o",
]


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_ssh_config_when_a_path_is_strange_has_that_very_file(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    directory.mkdir()
    config = understood(directory, {"host_key": PINNED}, Login())
    assert config["userknownhostsfile"] == f"{directory}/pinned/photos"


def test_ssh_when_every_path_is_strange_logs_in_with_that_key_to_that_known_host(tmp_path: Path) -> None:
    directory = tmp_path / "".join(name.replace("/", "") for name in STRANGE_NAMES)
    directory.mkdir()
    key, known = directory / "my %h 'key'", known_hosts(directory)
    write_key(key, "ed25519", 2)
    public = public_key(key).read_text()
    servers_key = host_key("ed25519")
    account = Account(directory=tmp_path, keys=[public], ways=[(KEY,)])
    with serving(account) as server:
        shown = HostKey(kind=servers_key.get_name(), blob=servers_key.asbytes())
        known.add("nas", server.port, shown)
        config = directory / "ssh_config"
        text = sshfs.ssh_config(volume({"port": str(server.port)}), Login(identity_files=(key,)), known)
        config.write_text(text, "utf-8")
        login = command.run(["ssh", "-F", config, "-s", f"bob@{LOOPBACK}", "sftp"], seconds=LIMIT_SECONDS)
    assert (login.returncode, login.stderr) == (0, "")


def strange_path(chance: random.Random) -> Path:
    """Return a path with everything that has a meaning in an ssh_config, but for what options refuse."""
    while True:
        path = "/" + "".join(chance.choices("ab dhinpru'\"\\%%${}#~=,;*?@:[]()-/ü", k=12))
        if "${" not in path and not path.endswith(" "):  # in the file of a remote a blank at the end is none
            return Path(path)


def test_ssh_config_says_what_was_meant_whatever_is_in_a_path(tmp_path: Path) -> None:
    """Of the server and of a jump host, in random ones that are the same each time."""
    chance = random.Random("paths")  # noqa: S311
    remotes, known, config = Remotes(tmp_path / "remotes.d"), known_hosts(tmp_path), tmp_path / "ssh_config"
    for _ in range(50):
        key, certificate, of_server, agents, of_jump = (strange_path(chance) for _ in range(5))
        describe(remotes, f"host = inner\nIdentityAgent = {agents}\nknown_hosts = {of_jump}\n", name="inner")
        given = {"sshcmd": "bob@nas:", "ProxyJump": "inner", **options.typed({"known_hosts": str(of_server)})}
        photos = options.parse(VolumeName("photos"), given, datetime.now(UTC), remotes)
        at_jump = Login(agent=Agent(Path(photos.jumps[0].credentials.identity_agent)))
        login = Login(identity_files=(key,), certificate_file=certificate, jumps=(at_jump,))
        config.write_text(sshfs.ssh_config(photos, login, known), "utf-8")
        for host, meant in (
            ("nas", {"identityfile": key, "certificatefile": certificate, "userknownhostsfile": of_server}),
            ("jump+1", {"identityagent": agents, "userknownhostsfile": of_jump}),
        ):
            said = command.run(["ssh", "-G", "-F", config, host], seconds=LIMIT_SECONDS)
            assert said.returncode == 0, said.stderr
            found = dict(line.split(" ", 1) for line in said.stdout.splitlines())
            for keyword, path in meant.items():
                # some it shows as they are before it uses them, and replaces "%%" then
                shown = found[keyword].removeprefix(f"{known.own} ")
                assert shown in (str(path), str(path).replace("%", "%%"))


# Jump hosts


def test_ssh_config_has_a_section_for_each_jump_host_and_none_of_it_is_the_servers(tmp_path: Path) -> None:
    remotes = Remotes(tmp_path / "remotes.d")
    user = "EXAMPLE\\bob smith"
    describe(remotes, f"host = fe80::7%eth0\nuser = {user}\nport = 2222\nCompression = yes\n", name="outer")
    describe(remotes, f"host = inner\nProxyJump = outer\nhost_key = {PINNED}\nConnectTimeout = 4\n", name="inner")
    given = {"sshcmd": "bob@nas:/photos", "ProxyJump": "inner", "ConnectTimeout": "7"}
    photos = options.parse(VolumeName("photos"), given, datetime.now(UTC), remotes)
    jumps = (Login(password="hunter2"), Login(identity_files=(Path("/inner"),), copied_key="a key"))
    config = tmp_path / "ssh_config"
    known = known_hosts(tmp_path)
    config.write_text(
        sshfs.ssh_config(photos, Login(identity_files=(Path("/nas"),), jumps=jumps), known, Path("/run/key"))
    )

    def understood_of(host: str) -> dict[str, str]:
        answer = command.run(["ssh", "-G", "-F", config, host], seconds=LIMIT_SECONDS)
        assert answer.returncode == 0, answer.stderr
        return dict(line.split(" ", 1) for line in answer.stdout.splitlines())

    outer, inner, nas = (understood_of(host) for host in ("jump+1", "jump+2", "nas"))
    assert (outer["hostname"], outer["port"], outer["user"]) == ("fe80::7%eth0", "2222", user)
    assert (outer["identityfile"], outer["batchmode"], outer["compression"]) == ("none", "no", "yes")
    assert "proxyjump" not in outer
    assert (inner["hostname"], inner["proxyjump"], inner["identityfile"]) == ("inner", "jump+1", "/run/key-2")
    assert (inner["userknownhostsfile"], inner["compression"]) == (str(known.pinned / "jump:inner"), "no")
    assert (nas["hostname"], nas["proxyjump"], nas["identityfile"], nas["port"]) == ("nas", "jump+2", "/nas", "22")
    assert [each["hostkeyalias"] for each in (outer, inner, nas)] == ["[fe80::7%eth0]:2222", "inner", "nas"]
    # each has its own time, and the ones before it the same for their logins
    assert [each["connecttimeout"] for each in (outer, inner, nas)] == ["10", "24", "35"]
