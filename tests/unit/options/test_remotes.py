# SPDX-License-Identifier: MIT
"""Volumes of remotes: what a remote's file may say, what is given beside it, and what is told when it is wrong."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.remotes import NAS, describe

from sshfs_plugin import errors, options
from sshfs_plugin.options import table
from sshfs_plugin.options.remotes import Remotes
from sshfs_plugin.volume import Credentials, HostKeyCheck, Remote, Volume, VolumeName

CREATED_AT = datetime(2024, 5, 17, 12, 30, tzinfo=UTC)
SECRET = "hunter2"


@pytest.fixture
def remotes(tmp_path: Path) -> Remotes:
    return Remotes(tmp_path / "remotes.d")


def volume(remotes: Remotes, **opts: str) -> Volume:
    return options.parse(VolumeName("photos"), {"remote": "nas", **opts}, CREATED_AT, remotes)


def complaint(remotes: Remotes, **opts: str) -> str:
    """Return what is wrong with the remote, without the part that is always the same."""
    with pytest.raises(errors.RemoteUnusable) as refused:
        volume(remotes, **opts)
    beginning = f"remote 'nas' can't be used, {remotes.file('nas')} "
    assert str(refused.value).startswith(beginning)
    return str(refused.value).removeprefix(beginning)


def refusal(remotes: Remotes, **opts: str) -> str:
    with pytest.raises(errors.RequestError) as refused:
        volume(remotes, **opts)
    return str(refused.value)


# What a volume is


def test_remote_says_where_the_server_is_and_the_volume_which_directory(remotes: Remotes) -> None:
    describe(remotes, NAS + "port = 2222\n")
    made = volume(remotes, directory="/photos")
    assert made.remote == Remote(user="alice", host="nas.lan", port=2222, directory="/photos")


def test_only_what_was_given_is_recorded_and_compared(remotes: Remotes) -> None:
    describe(remotes, NAS + f"password = {SECRET}\n")
    before = volume(remotes, directory="/photos", ro="")
    assert before.given == {"remote": "nas", "directory": "/photos", "ro": "yes"}
    describe(remotes, "host = other.lan\n")
    after = options.volume_of(before.name, before.given, CREATED_AT, remotes)
    assert after.remote.host == "other.lan"
    assert options.differences(before.given, after.given) == ()


def test_any_option_in_the_file_is_a_default_of_its_volumes(remotes: Remotes) -> None:
    describe(
        remotes,
        NAS + "identity_file = /keys/nas\nCompression: yes\nro =\numask = 22\nprofile = metadata\ndirectory = /all\n",
    )
    made = volume(remotes)
    assert made.credentials.identity_file == "/keys/nas"
    assert ("Compression", "yes") in made.ssh_options
    assert {("ro", None), ("umask", "022")} <= set(made.sshfs_options)
    assert made.options["profile"] == "metadata"
    assert made.remote.directory == "/all"


def test_what_is_given_counts_before_the_file_even_if_it_is_the_default(remotes: Remotes) -> None:
    describe(remotes, NAS + "port = 2222\nro = yes\nConnectTimeout = 30\ndirectory = /all\n")
    made = volume(remotes, user="bob", port="22", rw="", ConnectTimeout="10", directory="/photos")
    assert made.remote == Remote(user="bob", host="nas.lan", port=22, directory="/photos")
    assert not made.read_only
    assert dict(made.ssh_options)["ConnectTimeout"] == "10"


@pytest.mark.parametrize("typed", [{"port": ""}, {"Directory": ""}, {"ro,port": ""}])
def test_empty_value_does_not_count_before_the_file(remotes: Remotes, typed: dict[str, str]) -> None:
    describe(remotes, NAS + "port = 2222\ndirectory = /all\n")
    name = "directory" if "Directory" in typed else "port"
    assert refusal(remotes, **typed) == (
        f"option '{name}' is empty: is it a variable that is not set? without the option what the remote's file says "
        "counts"
    )
    assert volume(remotes, directory="~").remote.directory == ""


def test_volume_of_a_remote_is_the_one_that_the_same_options_make(remotes: Remotes) -> None:
    describe(remotes, NAS + "uid = 1000\nport = 2222\n")
    one = volume(remotes, directory="/photos", ro="")
    other = options.parse(
        one.name, {"sshcmd": "alice@nas.lan:/photos", "port": "2222", "uid": "1000", "ro": ""}, CREATED_AT
    )
    assert one.options == {**other.options, "remote": "nas"}
    for part in ("remote", "credentials", "access", "sshfs_options", "ssh_options", "check", "shares_connection"):
        assert getattr(one, part) == getattr(other, part), part


def test_password_may_hold_what_has_a_meaning_in_other_files(remotes: Remotes) -> None:
    odd = "a#b;c%d$e=f:g\"h'i,j größe"
    describe(remotes, f"{NAS}# a comment\n; another\npassword = {odd}\n")
    assert volume(remotes).credentials.password == odd
    assert SECRET not in repr(volume(remotes))


def test_file_may_begin_with_the_mark_that_windows_editors_write(remotes: Remotes) -> None:
    describe(remotes, heading="\ufeff[remote]\n")
    assert volume(remotes).remote.host == "nas.lan"


@pytest.mark.parametrize("option", ["sshcmd", "host"])
def test_another_server_beside_a_remote_is_refused(remotes: Remotes, option: str) -> None:
    describe(remotes)
    value = "bob@nas:/photos" if option == "sshcmd" else "nas"
    assert refusal(remotes, **{option: value}) == (
        f"option '{option}' contradicts 'remote', whose file says where the server is: "
        "say remote=NAME and directory=/dir alone"
    )


CREDENTIALS = {
    "password": SECRET,
    "password_file": "/keys/password",
    "secret": "nas",
    "IdentityFile": "/keys/nas",
    "IdentityAgent": "/run/agent",
}


@pytest.mark.parametrize("credential", CREDENTIALS)
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("user", "mallory"),
        ("port", "2222"),
        ("ProxyJump", "elsewhere"),
        ("host_key", f"SHA256:{'m' * 42}A"),
        ("host_key_check", "no"),
        ("StrictHostKeyChecking", "no"),
        ("UserKnownHostsFile", "/srv/known"),
        ("HostKeyAlgorithms", "+ssh-rsa"),
        ("BindAddress", "192.0.2.1"),
        ("check", "never"),
    ],
)
def test_login_in_a_file_is_not_sent_to_whom_the_volume_says(
    remotes: Remotes, credential: str, option: str, value: str
) -> None:
    describe(remotes, name="elsewhere")
    describe(remotes, f"{NAS}{credential} = {CREDENTIALS[credential]}\n")
    name = {"StrictHostKeyChecking": "host_key_check", "UserKnownHostsFile": "known_hosts"}.get(option, option)
    assert complaint(remotes, **{option: value}) == (
        f"says what to log in with, beside which a volume can't say '{name}', since that decides who gets it: "
        "leave it out there, or write it into the file"
    )


def test_volume_may_say_again_what_the_file_with_the_login_says(remotes: Remotes) -> None:
    describe(remotes, NAS + f"password = {SECRET}\nport = 2222\nhost_key_check = yes\n")
    made = volume(remotes, port="2222", user="alice", host_key_check="yes", check="mount", Compression="yes", ro="")
    assert made.remote.account == "alice@nas.lan port 2222"


def test_jump_hosts_login_is_sent_to_the_jump_host_alone(remotes: Remotes) -> None:
    describe(remotes, f"host = bastion\npassword = {SECRET}\n", name="bastion")
    describe(remotes)
    made = volume(remotes, ProxyJump="bastion", port="2222", user="bob", host_key_check="no")
    assert made.jumps[0].remote.account == "root@bastion port 22"
    assert made.jumps[0].host_key_check is HostKeyCheck.ACCEPT_NEW
    assert made.credentials == Credentials()


@pytest.mark.parametrize("name", ["../nas", "n", "-nas", ".nas", "nas\n", "a/b", ""])
def test_name_that_could_be_another_path_is_refused(remotes: Remotes, name: str) -> None:
    assert refusal(remotes, remote=name).startswith("option 'remote' must be the name of a remote")


# What is wrong with a file


def test_missing_file_is_named(remotes: Remotes) -> None:
    assert complaint(remotes) == "does not exist: docker-volume-sshfs remote list shows which there are"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_file_that_is_not_for_root_alone_is_refused(remotes: Remotes, mode: int) -> None:
    describe(remotes).chmod(mode)
    assert complaint(remotes) == f"is open to users other than root: chmod 600 {remotes.file('nas')}"


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_file_of_another_user_is_refused(remotes: Remotes) -> None:
    os.chown(describe(remotes), 1000, 1000)
    assert complaint(remotes) == f"belongs to a user other than root: chown root {remotes.file('nas')}"


def test_what_is_no_file_is_not_waited_for(remotes: Remotes) -> None:
    remotes.directory.mkdir()
    os.mkfifo(remotes.file("nas"))
    assert complaint(remotes).startswith("can't be read (it is not a regular file)")


def test_file_that_is_no_text_is_refused(remotes: Remotes) -> None:
    describe(remotes).write_bytes(b"[remote]\nhost = \xff\n")
    assert complaint(remotes).startswith("is not UTF-8 text")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("host = nas\n", "has no heading above line 1: write [remote] above the options, and no other heading"),
        ("[nas]\nhost = nas\n", "has other headings than it should: write [remote] above"),
        ("", "has other headings than it should: write [remote] above"),
        ("[remote]\n[other]\n", "has other headings than it should: write [remote] above"),
        ("[remote]\nhost = nas\n[remote]\n", "has a second heading in line 3: write [remote] above"),
        ("[remote]\nhost = nas\nhost = nas2\n", "says an option again in line 3: leave one of them out"),
        ("[remote]\nhost = nas\nHOST = nas2\n", "is not valid (option 'host' is given twice with different values)"),
        ("[remote]\nhost = nas\n port = 2\n", "has an indented line after that of 'host': write one option a line"),
        ("[remote]\nhost = nas\nro\n", "can't be understood in line 3: write one option a line, NAME = VALUE"),
        ("[remote]\nuser = bob\n", "lacks the option 'host': write host = NAME there"),
        ("[remote]\nhots = nas\n", "is not valid (unknown option 'hots': did you mean 'host'?): mend it, and"),
        (
            "[remote]\nhost = nas\npassword =\nc2VjcmV0IQ==\n",
            "is not valid (a line of it begins with no option that a volume can have): mend it, and it counts",
        ),
        ("[remote]\nhost = nas\nport = x\n", "is not valid (option 'port' must be a number from 1 to 65535, not 'x')"),
        ("[remote]\nhost = nas\nProxyCommand = nc\n", "is not valid (option 'ProxyCommand' is refused: it would run"),
        ("[remote]\nhost = nas\n[DEFAULT]\nport = 2\n", "has other headings than it should: write [remote] above"),
        ("[remote]\nhost = nas\npassword =\n", "has an empty 'password': write it, or leave the line out, and a key"),
        ("[remote]\nhost = nas\nPassword = \n", "has an empty 'password': write it, or leave the line out, and a key"),
        ("[remote]\nsshcmd = bob@nas:\n", "can't have the option 'sshcmd': say host, user and port there"),
        ("[remote]\nhost = nas\nremote = b2\n", "can't have the option 'remote': say host, user and port there"),
        ("[remote]\nhost = nas\no = ro\n", "can't have the option 'o': say host, user and port there"),
    ],
)
def test_file_that_makes_no_sense_is_named_with_what_is_wrong(remotes: Remotes, text: str, said: str) -> None:
    describe(remotes, text, heading="")
    assert complaint(remotes).startswith(said)


def test_options_that_do_not_go_with_those_of_the_file_are_named(remotes: Remotes) -> None:
    describe(remotes, NAS + f"password = {SECRET}\n")
    assert complaint(remotes, password_file="/keys/password") == (
        "is not valid for this volume (option 'password_file' contradicts 'password': give one of them): "
        "mend it, and it counts from the next mount"
    )


@pytest.mark.parametrize(
    "line",
    [
        f"password {SECRET}",
        f"password {SECRET}=1",
        f"{SECRET}",
        f"{SECRET} = \n{SECRET} = ",
        f"password = {SECRET}\n  {SECRET}",
        f"port = 2222\n  password = {SECRET}",
        f"check = mount\n  password = {SECRET}",
        f"compression = no\n\tpassword = {SECRET}",
        f"password = {SECRET}\npassword = {SECRET}",
        f"password = {SECRET}\n[{SECRET}]",
        f"password_file = {SECRET}",
        f"password = {SECRET}\x07",
        f"password = {SECRET}{'x' * 5000}",
    ],
)
def test_secret_in_a_file_is_told_to_nobody(remotes: Remotes, line: str, caplog: pytest.LogCaptureFixture) -> None:
    describe(remotes, f"{NAS}{line}\n")
    said = complaint(remotes)
    if not line.startswith(f"{SECRET} ="):  # that is the name of an option
        assert SECRET not in said
    assert SECRET not in caplog.text


def test_every_option_of_the_table_can_be_in_a_file_or_is_refused_there(remotes: Remotes) -> None:
    for option in table.TABLE:
        describe(remotes, f"{NAS}{option.name} = \n" if option.name not in ("host", "user") else NAS)
        try:
            volume(remotes)
        except errors.RemoteUnusable as error:
            assert f"'{option.name}'" in str(error)


# Jump hosts


def way(made: Volume) -> list[str]:
    """Return the servers on the way to a volume, and its own."""
    return [each.remote.account for each in (*made.jumps, made)]


def test_jump_host_is_a_remote_that_may_lie_behind_others(remotes: Remotes) -> None:
    describe(remotes, NAS + "ProxyJump = inner\n")
    describe(remotes, "host = 10.0.0.7\nuser = bob\nport = 2222\nProxyJump = outer\n", name="inner")
    describe(remotes, "host = bastion.example\nsecret = bastion\nCompression = yes\n", name="outer")
    made = volume(remotes)
    assert way(made) == ["root@bastion.example port 22", "bob@10.0.0.7 port 2222", "alice@nas.lan port 22"]
    assert made.jumps[0].credentials.secret == "bastion"
    assert ("Compression", "yes") in made.jumps[0].ssh_options
    assert ("Compression", "yes") not in made.ssh_options
    assert options.volume_of(made.name, made.given, CREATED_AT, remotes) == made


def test_volume_without_a_remote_can_have_a_jump_host(remotes: Remotes) -> None:
    describe(remotes, name="bastion")
    made = options.parse(
        VolumeName("photos"),
        {"sshcmd": "bob@10.0.0.7:/", "ProxyJump": "bastion", "check": "mount"},
        CREATED_AT,
        remotes,
    )
    assert way(made) == ["alice@nas.lan port 22", "bob@10.0.0.7 port 22"]
    assert made.given["ProxyJump"] == "bastion"
    assert made.jumps[0].check is made.check


def test_jump_host_that_is_given_counts_before_that_of_the_file(remotes: Remotes) -> None:
    describe(remotes, NAS + "ProxyJump = one\n")
    describe(remotes, "host = one\n", name="one.lan")
    describe(remotes, "host = other\n", name="other")
    assert way(volume(remotes, ProxyJump="other"))[0] == "root@other port 22"


@pytest.mark.parametrize("typed", ["bob@bastion", "bastion:22", "ssh://bastion", "one,other", "[::1]"])
def test_jump_host_that_is_no_remote_says_to_write_one(remotes: Remotes, typed: str) -> None:
    describe(remotes)
    assert refusal(remotes, ProxyJump=typed) == (
        f"option 'ProxyJump' must be the name of a remote, not {typed!r}: write host and user of the jump host into "
        "/etc/docker-volume-sshfs/remotes.d/NAME.conf and say ProxyJump=NAME"
    )


def test_jump_host_that_is_the_server_itself_is_refused(remotes: Remotes) -> None:
    describe(remotes)
    assert refusal(remotes, ProxyJump="nas") == (
        "option 'ProxyJump' names the volume's own remote, whose server would be reached through itself: leave it out"
    )


@pytest.mark.parametrize("other", [{"port": "2222"}, {"user": "bob"}])
def test_jump_host_may_be_the_same_host_with_another_port_or_user(remotes: Remotes, other: dict[str, str]) -> None:
    describe(remotes)
    made = volume(remotes, ProxyJump="nas", **other)
    assert way(made)[0] == "alice@nas.lan port 22" != way(made)[1]


def test_volume_on_record_whose_jump_host_is_its_server_stays_usable(remotes: Remotes) -> None:
    describe(remotes)
    recorded = {"remote": "nas", "ProxyJump": "nas"}
    assert way(options.volume_of(VolumeName("photos"), recorded, CREATED_AT, remotes)) == 2 * ["alice@nas.lan port 22"]


def test_no_jump_host_is_what_none_says(remotes: Remotes) -> None:
    describe(remotes)
    assert volume(remotes, ProxyJump="none").jumps == ()
    describe(remotes, "host = outer\n", name="bastion")
    describe(remotes, NAS + "ProxyJump = bastion\n")
    direct = volume(remotes, ProxyJump="None")
    assert direct.jumps == ()
    again = options.volume_of(direct.name, direct.given, direct.created_at, remotes)
    assert again.jumps == (), "nor when its record is read"


def test_no_jump_host_where_the_file_has_one_and_credentials_is_refused(remotes: Remotes) -> None:
    describe(remotes, "host = outer\n", name="bastion")
    describe(remotes, NAS + "ProxyJump = bastion\nIdentityFile = /root/nas\n")
    with pytest.raises(errors.RemoteUnusable, match="beside which a volume can't say 'ProxyJump'"):
        volume(remotes, ProxyJump="none")


def test_no_agent_is_what_none_says_where_the_file_has_one(remotes: Remotes) -> None:
    describe(remotes, NAS + "IdentityAgent = /run/agent\n")
    assert volume(remotes, IdentityAgent="none", IdentityFile="/root/nas").credentials.identity_agent == ""


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"bastion": "user = bob"},
            "bastion: lacks the option 'host': write host = NAME there",
        ),
        (
            {"bastion": "host = one\nProxyJump = bastion"},
            "bastion: makes it a jump host for itself (bastion behind bastion): leave one ProxyJump out",
        ),
        (
            {"bastion": "host = one\nProxyJump = other", "other": "host = two\nProxyJump = bastion"},
            "bastion: makes it a jump host for itself (bastion behind other behind bastion): "
            "leave one ProxyJump out",
        ),
        (
            {
                "bastion": "host = one\nProxyJump = two",
                "two": "host = two\nProxyJump = three",
                "three": "host = three\nProxyJump = four",
                "four": "host = four",
            },
            "four: makes it one more than 3 jump hosts in a row: leave one ProxyJump out",
        ),
        (
            {"bastion": "host = one\nuser = a%b"},
            "bastion: is not valid for a jump host (option 'user' must not hold '%' or '$' for "
            "a jump host: ssh would replace it): mend it, and it counts from the next mount",
        ),
        (
            {"bastion": f"host = one\npassword = {SECRET}\nsecret = one"},
            "bastion: is not valid for a jump host (option 'secret' contradicts 'password': "
            "give one of them): mend it, and it counts from the next mount",
        ),
        (
            {"bastion": "host = one\npassword ="},
            "bastion: has an empty 'password': write it, or leave the line out, and a key is used",
        ),
        (
            {},
            "bastion: does not exist: docker-volume-sshfs remote list shows which there are",
        ),
    ],
)
def test_jump_host_that_can_not_be_used_is_named(remotes: Remotes, files: dict[str, str], said: str) -> None:
    describe(remotes, NAS + "ProxyJump = bastion\n")
    for name, text in files.items():
        describe(remotes, f"{text}\n", name=name)
    with pytest.raises(errors.RemoteUnusable) as refused:
        volume(remotes)
    name, _, complaint = said.partition(": ")
    assert str(refused.value) == f"remote '{name}' can't be used, {remotes.file(name)} {complaint}"


def test_pinned_key_of_a_jump_host_needs_the_check_of_the_volume(remotes: Remotes) -> None:
    describe(remotes, NAS + "ProxyJump = bastion\ncheck = never\n")
    describe(remotes, f"host = one\nhost_key = SHA256:{'m' * 42}A\n", name="bastion")
    with pytest.raises(errors.RemoteUnusable, match=r"option 'host_key' needs the check: leave check=never out"):
        volume(remotes)


# Names


def test_names_are_those_of_files_that_can_be_meant(remotes: Remotes) -> None:
    assert remotes.names() == []
    for name in ("nas", "backup.lan", "x", ".hidden"):
        describe(remotes, name=name)
    (remotes.directory / "nas.conf.dpkg-old").touch()
    assert remotes.names() == ["backup.lan", "nas"]


def test_files_whose_names_no_volume_can_say_are_told(remotes: Remotes) -> None:
    assert remotes.misnamed() == []
    for name in ("nas", "x", "my nas", "größe", "x" * 201, ".hidden"):
        describe(remotes, name=name)
    (remotes.directory / "nas.conf.dpkg-old").touch()
    use = "use at least two letters, digits, '_', '.' and '-', and begin with a letter or digit"
    assert [str(error) for error in remotes.misnamed()] == [
        f"remote '{name}' can't be used, {remotes.file(name)} has a name that no volume can say: "
        f"give it another, and {how}"
        for name, how in (("größe", use), ("my nas", use), ("x", use), ("x" * 201, "use at most 200"))
    ]
