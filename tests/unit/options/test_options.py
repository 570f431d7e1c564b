# SPDX-License-Identifier: MIT
"""What users type after ``-o``: what it means, and what they are told when it means nothing."""

import random
import string
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from sshfs_plugin import errors, options
from sshfs_plugin.options import table
from sshfs_plugin.volume import CheckAt, HostKeyCheck, Remote, Volume, VolumeName

CREATED_AT = datetime(2024, 5, 17, 12, 30, tzinfo=UTC)
FINGERPRINT = "SHA256:" + "m" * 42 + "A"


def parse(opts: Mapping[str, str]) -> Volume:
    return options.parse(VolumeName("photos"), opts, CREATED_AT)


def volume(**opts: str) -> Volume:
    return parse({"sshcmd": "bob@nas:/photos", **opts})


def refusal(opts: Mapping[str, str]) -> str:
    with pytest.raises(errors.RequestError) as refused:
        parse(opts)
    return str(refused.value)


# sshcmd


@pytest.mark.parametrize(
    ("sshcmd", "user", "host", "directory"),
    [
        ("bob@nas:/photos", "bob", "nas", "/photos"),
        ("bob@nas:", "bob", "nas", ""),
        ("nas:/photos", "root", "nas", "/photos"),
        ("nas:", "root", "nas", ""),
        ("bob@nas:photos/2024", "bob", "nas", "photos/2024"),
        ("bob@nas:~", "bob", "nas", ""),
        ("bob@nas:~/photos", "bob", "nas", "photos"),
        ("bob@nas:~eve/photos", "bob", "nas", "~eve/photos"),
        ("bob@nas:~//photos", "bob", "nas", "photos"),
        ("bob@nas:~//", "bob", "nas", ""),
        ("bob@nas:~/~/photos", "bob", "nas", "./~/photos"),
        ("bob@nas:~/~", "bob", "nas", "./~"),
        ("bob@[fe80::7%eth0.1]:", "bob", "fe80::7%eth0.1", ""),
        ("bob@nas:/photos/", "bob", "nas", "/photos"),
        ("bob@nas:/", "bob", "nas", "/"),
        ("bob@nas:/photos//", "bob", "nas", "/photos"),
        ("bob@nas:/a:b@c", "bob", "nas", "/a:b@c"),
        ("bob@nas:/a,b c'd\"e\\f%g", "bob", "nas", "/a,b c'd\"e\\f%g"),
        ("bob@nas:/größe", "bob", "nas", "/größe"),
        ("bob@example.org@nas:/photos", "bob@example.org", "nas", "/photos"),
        ("DOMAIN\\bob@nas:/photos", "DOMAIN\\bob", "nas", "/photos"),
        ("bob@192.0.2.7:/photos", "bob", "192.0.2.7", "/photos"),
        ("bob@nas_1.example-lan.:/photos", "bob", "nas_1.example-lan.", "/photos"),
        ("bob@[2001:db8::7]:/photos", "bob", "2001:db8::7", "/photos"),
        ("EXAMPLE\\bob smith@nas:/photos", "EXAMPLE\\bob smith", "nas", "/photos"),
        ("[fe80::7%eth0]:photos", "root", "fe80::7%eth0", "photos"),
    ],
)
def test_sshcmd_when_it_has_a_form_of_sshfs_names_the_remote(sshcmd: str, user: str, host: str, directory: str) -> None:
    remote = parse({"sshcmd": sshcmd}).remote
    assert (remote.user, remote.host, remote.directory) == (user, host, directory)


@pytest.mark.parametrize("sshcmd", ["bob@[2001:DB8:0:0:0:0:0:7]:/photos", "bob@[2001:0db8::0007]:/photos"])
def test_sshcmd_when_an_ipv6_address_is_not_in_its_short_form_uses_the_form_under_which_ssh_looks_up_keys(
    sshcmd: str,
) -> None:
    assert parse({"sshcmd": sshcmd}).remote.host == "2001:db8::7"
    assert parse({"sshcmd": "[fe80:0::7%eth0]:"}).remote.host == "fe80::7%eth0"


@pytest.mark.parametrize("directory", ["/a\N{NO-BREAK SPACE}b", "/\N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET}"])
def test_sshcmd_when_the_directory_has_unusual_characters_that_are_no_control_characters_takes_them(
    directory: str,
) -> None:
    assert parse({"sshcmd": f"nas:{directory}"}).remote.directory == directory


def test_sshcmd_when_missing_says_how_to_say_it() -> None:
    assert refusal({"port": "22"}) == "option 'sshcmd' is missing: say -o sshcmd=user@host:/dir"


@pytest.mark.parametrize(
    ("sshcmd", "reason"),
    [
        ("", "must look like user@host:/dir, with a colon between host and directory, not ''"),
        ("nas", "must look like user@host:/dir, with a colon between host and directory, not 'nas'"),
        ("bob@nas/photos", "with a colon between host and directory, not 'bob@nas/photos'"),
        ("ssh://bob@nas/photos", "not like the URL 'ssh://...@nas/photos'; a port goes into the option 'port'"),
        ("sftp://bob@nas:22/photos", "a port goes into the option 'port'"),
        ("@nas:/photos", "must look like user@host:/dir; '' can't be a login name"),
        ("-oProxyCommand=id@nas:/photos", "'-oProxyCommand=id' can't be a login name"),
        ("bob -oProxyCommand=id@nas:/photos", "'bob -oProxyCommand=id' can't be a login name"),
        ("o'brien@nas:/photos", "\"o'brien\" can't be a login name"),
        ("bob;id@nas:/photos", "'bob;id' can't be a login name"),
        (" bob@nas:/photos", "' bob' can't be a login name"),
        ("[-oProxyCommand=id]@nas:/photos", "'[-oProxyCommand=id]' can't be a login name"),
        ("a[b]c@nas:/photos", "'a[b]c' can't be a login name"),
        ("bob\\@nas:/photos", "'bob\\\\' can't be a login name"),
        (":/photos", "must look like user@host:/dir; '' can't be the name of a host"),
        ("bob@:/photos", "'' can't be the name of a host"),
        ("bob@-oProxyCommand=id:/photos", "'-oProxyCommand=id' can't be the name of a host"),
        ("bob@n a s:/photos", "'n a s' can't be the name of a host"),
        ("bob@größe.example:/photos", "'größe.example' can't be the name of a host"),
        ("bob@$(id):/photos", "'$(id)' can't be the name of a host"),
        ("bob@2001:db8::7:/photos", "an IPv6 address goes in brackets, [2001:db8::7]:/dir"),
        ("bob@::1:/photos", "an IPv6 address goes in brackets, [::1]:/dir"),
        ("bob@[nas]:/photos", "may have an IPv6 address in brackets, but 'nas' is none"),
        ("bob@[192.0.2.7]:/photos", "may have an IPv6 address in brackets, but '192.0.2.7' is none"),
        ("[-oProxyCommand=id]:/photos", "but '-oProxyCommand=id' is none"),
        ("bob@[]:/photos", "may have an IPv6 address in brackets, but '' is none"),
        ("bob@nas:/a\nb", "must not hold line breaks or control characters"),
        ("bob@nas:/a\0b", "must not hold line breaks or control characters"),
        ("bob@nas:/a\x1bb", "must not hold line breaks or control characters"),
        ("bob@nas:/a\x85b", "must not hold line breaks or control characters"),
        ("bob@nas:/a\N{LINE SEPARATOR}b", "must not hold line breaks or control characters"),
        ("bob@nas:/a\N{PARAGRAPH SEPARATOR}b", "must not hold line breaks or control characters"),
        ("bob@nas:/a\ud800b", "must not hold line breaks or control characters"),
        ("bob@nas:/a\uffffb", "must not hold what Unicode says is no character, such as U+FFFF"),
        ("bob@nas:/a\ufdd0b", "must not hold what Unicode says is no character, such as U+FFFF"),
        ("bob@nas:/a\U0010fffeb", "must not hold what Unicode says is no character, such as U+FFFF"),
    ],
)
def test_sshcmd_when_it_is_no_remote_directory_is_refused_with_the_reason(sshcmd: str, reason: str) -> None:
    said = refusal({"sshcmd": sshcmd})
    assert said.startswith(("option 'sshcmd' must ", "option 'sshcmd' may "))
    assert said.endswith(reason)


@pytest.mark.parametrize(
    ("directory", "cure"),
    [
        ("3300:/photos", "-o port=3300 -o sshcmd=bob@nas:/photos; a directory that is called so is ./3300:/photos"),
        ("3300:", "-o port=3300 -o sshcmd=bob@nas:; a directory that is called so is ./3300:"),
    ],
)
def test_sshcmd_when_a_port_and_a_colon_come_before_the_directory_is_refused_with_both_meanings(
    directory: str, cure: str
) -> None:
    said = refusal({"sshcmd": f"bob@nas:{directory}"})
    assert said == f"option 'sshcmd' has no place for a port, say {cure}"
    assert parse({"sshcmd": f"bob@nas:./{directory}"}).remote.directory == f"./{directory}"
    recorded = options.volume_of(VolumeName("photos"), {"sshcmd": f"bob@nas:{directory}"}, CREATED_AT)
    assert recorded.remote.directory == directory, "a volume that is there stays what it is"


@pytest.mark.parametrize("directory", ["3300", "3300/photos", "3300:x", "/3300:/photos", "123456:/photos", "0:/x"])
def test_sshcmd_when_a_directory_may_well_be_called_so_takes_it(directory: str) -> None:
    assert parse({"sshcmd": f"bob@nas:{directory}"}).remote.directory == directory


def test_sshcmd_when_the_port_is_said_takes_a_directory_that_begins_like_one() -> None:
    assert parse({"sshcmd": "bob@nas:3300:/photos", "port": "2222"}).remote.directory == "3300:/photos"


# Values


def test_volume_when_only_sshcmd_is_given_has_the_defaults() -> None:
    plain = volume()
    assert plain.name == "photos"
    assert plain.created_at == CREATED_AT
    assert plain.options == {"sshcmd": "bob@nas:/photos"}
    assert plain.remote.port == 22
    assert plain.host_key_check is HostKeyCheck.ACCEPT_NEW
    assert plain.check is CheckAt.CREATE
    assert plain.pinned_host_key == ""
    assert plain.credentials.password == plain.credentials.password_file == plain.credentials.identity_file == ""
    assert plain.sshfs_options == (
        ("workaround", "rename"),
        ("dcache_dir_timeout", "2"),
        ("reconnect", None),
    )
    assert plain.ssh_options == (
        ("ServerAliveInterval", "15"),
        ("ServerAliveCountMax", "3"),
        ("ConnectTimeout", "10"),
    )


def test_volume_when_everything_is_given_has_everything() -> None:
    full = volume(
        port="2222",
        password="hunter2",
        IdentityFile="~/.ssh/nas",
        ro="",
        uid="1000",
        gid="1001",
        umask="0022",
        idmap="user",
        reconnect="no",
        ServerAliveInterval="5",
        ServerAliveCountMax="2",
        ConnectTimeout="3",
        host_key_check="yes",
        host_key=FINGERPRINT,
        check="mount",
    )
    assert full.remote.port == 2222
    assert full.credentials.password == "hunter2"
    assert full.credentials.identity_file == "~/.ssh/nas"
    assert full.sshfs_options == (
        ("ro", None),
        ("uid", "1000"),
        ("gid", "1001"),
        ("umask", "022"),
        ("idmap", "user"),
        ("workaround", "rename"),
        ("dcache_dir_timeout", "2"),
    )
    assert full.ssh_options == (
        ("ServerAliveInterval", "5"),
        ("ServerAliveCountMax", "2"),
        ("ConnectTimeout", "3"),
    )
    assert full.host_key_check is HostKeyCheck.YES
    assert full.pinned_host_key == FINGERPRINT
    assert full.check is CheckAt.MOUNT


@pytest.mark.parametrize(
    ("option", "typed", "kept"),
    [
        ("port", "02222", "2222"),
        ("umask", "0007", "007"),
        ("umask", "77", "077"),
        ("idmap", "USER", "user"),
        ("ro", "", "yes"),
        ("ro", "True", "yes"),
        ("ro", "ON", "yes"),
        ("ro", "1", "yes"),
        ("reconnect", "false", "no"),
        ("reconnect", "off", "no"),
        ("reconnect", "0", "no"),
        ("host_key_check", "ask", "yes"),
        ("host_key_check", "off", "no"),
        ("StrictHostKeyChecking", "true", "yes"),
        ("StrictHostKeyChecking", "false", "no"),
        ("UserKnownHostsFile", "none", "/dev/null"),
        ("ServerAliveInterval", "1m30S", "90"),
        ("ConnectTimeout", "120", "120"),
        ("cache_timeout", "115200", "115200"),
        ("max_read", "1", "1"),
        ("read_timeout", "168h", "604800"),
        ("read_timeout", "604800", "604800"),
        ("remember", "-1", "-1"),
        ("workaround", "all", "rename:truncate:fstat:buflimit"),
        ("workaround", "nodelaysrv:truncate", "truncate"),
        ("host_key", FINGERPRINT + "=", FINGERPRINT),
        ("uid", "4294967294", "4294967294"),
        ("uid", "0", "0"),
        ("attr_timeout", "1000000", "1000000"),
        ("attr_timeout", "9999999.5", "9999999.5"),
        ("attr_timeout", "0.00001", "0.00001"),
        ("attr_timeout", "007.50", "7.5"),
        ("attr_timeout", "0.0", "0"),
        ("password", " spaces, commas=and 'quotes' ", " spaces, commas=and 'quotes' "),
        ("password_file", "/etc/a, b", "/etc/a, b"),
    ],
)
def test_value_when_it_has_several_spellings_is_recorded_in_one(option: str, typed: str, kept: str) -> None:
    assert volume(**{option: typed}).options[table.lookup(option).name] == kept


@pytest.mark.parametrize(
    ("option", "typed"),
    [
        ("port", "22"),
        ("port", ""),
        ("workaround", "nodelaysrv"),
        ("workaround", "nodelaysrv:rename"),
        ("ro", "no"),
        ("reconnect", "yes"),
        ("ServerAliveInterval", "15"),
        ("host_key_check", "accept-new"),
        ("check", "create"),
        ("profile", "Default"),
        ("attr_timeout", "1"),
    ],
)
def test_value_when_it_is_the_default_is_the_same_as_none(option: str, typed: str) -> None:
    assert volume(**{option: typed}).options == volume().options


@pytest.mark.parametrize("opts", [{"password": ""}, {"ro,password": ""}, {"o": "ro,password="}, {"PASSWORD": ""}])
def test_password_when_empty_is_refused_since_a_variable_may_be_unset(opts: dict[str, str]) -> None:
    said = "option 'password' is empty: is it a variable that is not set? without the option a key is used"
    assert refusal({"sshcmd": "nas:", **opts}) == said
    assert refusal({"remote": "nas", **opts}) == said
    recorded = options.volume_of(VolumeName("photos"), {"sshcmd": "nas:", "password": ""}, CREATED_AT)
    assert recorded.options == {"sshcmd": "root@nas:"}, "a volume that is there stays what it is"


@pytest.mark.parametrize(
    ("option", "typed", "reason"),
    [
        ("port", "0", "must be a number from 1 to 65535, not '0'"),
        ("port", "65536", "must be a number from 1 to 65535, not '65536'"),
        ("port", "ssh", "must be a number from 1 to 65535, not 'ssh'"),
        ("port", "-1", "must be a number from 1 to 65535, not '-1'"),
        ("port", "٢٢", "must be a number from 1 to 65535, not '٢٢'"),
        ("uid", "4294967295", "must be a number from 0 to 4294967294, not '4294967295'"),
        ("uid", "bob", "must be a number from 0 to 4294967294, not 'bob'; id -u NAME tells that of a name"),
        ("gid", "bob", "must be a number from 0 to 4294967294, not 'bob'; getent group NAME tells that of a name"),
        ("gid", "users", "must be a number from 0 to 4294967294, not 'users'"),
        ("umask", "8", "must be an octal number such as 022, not '8'"),
        ("umask", "00022", "must be an octal number such as 022, not '00022'"),
        ("idmap", "groups", "must be none, user or file, not 'groups'"),
        ("ro", "maybe", "is a switch: give it no value, or yes or no"),
        ("ServerAliveInterval", "3601", "must be a time from 1 to 3600 seconds, such as 30 or 1m, not '3601'"),
        ("ServerAliveInterval", "9" * 5000, "has a value of more than 4096 characters"),
        ("RekeyLimit", "1G " + "1" * 60 + "x", "must be an amount and a time such as '1G 1h', not '1G 111"),
        ("ServerAliveInterval", "1m3x", "must be a time from 1 to 3600 seconds, such as 30 or 1m, not '1m3x'"),
        ("ServerAliveInterval", "soon", "must be a time from 1 to 3600 seconds, such as 30 or 1m, not 'soon'"),
        ("ServerAliveInterval", "0", "must not be 0: containers would wait for a server that is away without limit"),
        ("ServerAliveCountMax", "0", "must be a number from 1 to 100, not '0'"),
        ("ConnectTimeout", "2h", "must be a time from 1 to 3600 seconds, such as 30 or 1m, not '2h'"),
        ("ConnectTimeout", "0s", "must not be 0: containers would wait for a server that is away without limit"),
        ("host_key_check", "maybe", "must be accept-new, yes or no, not 'maybe'"),
        ("check", "always", "must be create, mount or never, not 'always'"),
        ("IdentityFile", "id_ed25519", "must be an absolute path or begin with ~/ (root's home), not 'id_ed25519'"),
        ("IdentityFile", "~bob/.ssh/id_rsa", "must be an absolute path or begin with ~/ (root's home)"),
        ("IdentityFile", "/keys/${USER}", "must not hold '${', which ssh would replace"),
        ("IdentityFile", "/keys/a\nProxyCommand id", "must not hold line breaks or control characters"),
        ("password_file", "secret", "must be the path of a file, absolute or from ~/ (root's home)"),
        *(
            (option, typed, "must be the name of a secret, of letters, digits, '_', '.' and '-', and no '.' at its st")
            for option in ("secret", "passphrase_secret")
            for typed in ("", ".nas", "../nas", "a/b", "nas\n", "größe", "hunter 2", "x" * 201)
        ),
        ("IdentityAgent", "agent.sock", "must be the absolute path of a socket on this host, not 'agent.sock'"),
        ("IdentityAgent", "~/agent", "must be the absolute path of a socket on this host, not '~/agent'"),
        ("IdentityAgent", "SSH_AUTH_SOCK", "must be the absolute path of a socket on this host, not 'SSH_AUTH_SOCK'"),
        ("IdentityAgent", "$AGENT", "must be the absolute path of a socket on this host, not '$AGENT'"),
        ("IdentityAgent", "/run/${USER}", "must not hold '${', which ssh would replace"),
        ("host_key", "MD5:aa:bb", "must be a fingerprint such as ssh-keygen -l prints, SHA256:..., not 'MD5:aa:bb'"),
        ("host_key", "SHA256:short", "must be a fingerprint such as ssh-keygen -l prints, SHA256:..., not"),
        ("host_key", FINGERPRINT.removeprefix("SHA256:"), "must be a fingerprint such as ssh-keygen -l prints"),
        ("host_key", "SHA256:größe", "must be a fingerprint such as ssh-keygen -l prints"),
        ("host_key", "", "must be a fingerprint such as ssh-keygen -l prints, SHA256:..., not ''"),
    ],
)
def test_value_when_it_makes_no_sense_is_refused_with_what_would(option: str, typed: str, reason: str) -> None:
    assert refusal({"sshcmd": "nas:", option: typed}).startswith(f"option '{option}' {reason}")


@pytest.mark.parametrize("scheme", ["ssh:", "sftp:", ""])
@pytest.mark.parametrize("password", ["S3cr3t", "S3/cr3t", "S3@cr3t", "S3:cr3t"])
def test_sshcmd_when_it_is_a_url_with_a_password_says_where_that_belongs(scheme: str, password: str) -> None:
    assert refusal({"device": f"{scheme}//alice:{password}@nas/dir"}) == (
        f"option 'sshcmd' must look like user@host:/dir, not like the URL '{scheme}//...@nas/dir'; a port goes into "
        "the option 'port', and a password goes into a file, whose path is the value of 'password_file'"
    )


@pytest.mark.parametrize(
    "opts",
    [
        {"sshcmd": "alice:S3cr3t@nas:/dir"},
        {"sshcmd": "alice:S3:cr3t@[2001:db8::7]:dir"},
        {"sshcmd": ":S3cr3t@nas:"},
        {"sshcmd": "alice:S3cr3t@nas"},
        {"sshcmd": "alice:S3cr3t@nas/dir"},
        {"sshcmd": "alice:S3/cr3t@nas:/dir"},
        {"sshcmd": "alice@corp.example:S3cr3t@nas:/dir"},
        {"sshcmd": "alice@corp:S3cr3t@[2001:db8::7]:/dir"},
        {"sshcmd": "alice:S3/cr3t@[2001:db8::7]:/dir"},
        {"sshcmd": "[alice:S3cr3t@nas]:/dir"},
        {"sshcmd": "nas:/dir", "user": "alice:S3cr3t"},
        {"host": "alice:S3cr3t@nas", "directory": "/dir"},
        {"host": "sftp://alice:S3cr3t@nas", "directory": "/dir"},
    ],
)
def test_password_when_it_comes_with_the_login_name_is_refused_and_not_repeated(opts: dict[str, str]) -> None:
    said = refusal(opts)
    assert "cr3t" not in said
    assert (
        "has no place for a password: a password goes into a file, whose path is the value of 'password_file'" in said
    )


@pytest.mark.parametrize("option", ["remote", "ProxyJump"])
@pytest.mark.parametrize("typed", ["alice:S3cr3t@nas", "sftp://alice:S3cr3t@nas", "//alice:S3cr3t@nas:22"])
def test_password_when_it_comes_with_the_name_of_a_remote_is_refused_and_not_repeated(option: str, typed: str) -> None:
    assert refusal({option: typed}) == (
        f"option '{option}' has no place for a password: write host, user and password_file into "
        f"/etc/docker-volume-sshfs/remotes.d/NAME.conf and say {option}=NAME"
    )


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("alice:S3cr3t@nas:/dir", "alice:..."),
        ("alice:S3", "alice:..."),
        ("sftp://alice:S3cr3t@nas/dir", "sftp://..."),
        ("//alice:S3cr3t@nas/dir", "//..."),
        ("password:S3cr3t", "password:..."),
        ("pass S3cr3t", "pass ..."),
        ("alice@corp:S3cr3t@nas:/dir", "alice@corp:...@nas:/dir"),
        ("[alice:S3cr3t@nas]:/dir", "[alice:...@nas]:/dir"),
        ("alice:/S3cr3t@nas:/dir", "alice:...@nas:/dir"),
        ("nas:/dir", "nas:/dir"),
        ("password-of", "password-of"),
        ("alice@nas:/dir", "alice@nas:/dir"),
    ],
)
def test_option_when_it_is_unknown_and_may_hold_a_password_is_quoted_without_it(typed: str, shown: str) -> None:
    assert refusal({typed: ""}).startswith(f"unknown option '{shown}': ")


def test_sshcmd_when_a_password_is_refused_says_how_to_name_a_directory_that_looks_like_one() -> None:
    assert refusal({"sshcmd": "nas:me@2024"}).endswith("; a directory with an '@' in its name is ./NAME")


@pytest.mark.parametrize(
    "sshcmd",
    [
        "nas:/alice:x@nas:/dir",
        "nas:./me@2024",
        "root@nas:me@2024",
        "nas:./alice@nas:/dir",
        "bob@nas:./a@b:c",
        "nas:a/b@c",
    ],
)
def test_sshcmd_when_only_its_directory_looks_like_a_login_is_taken(sshcmd: str) -> None:
    assert parse({"sshcmd": sshcmd}).remote.host == "nas"


@pytest.mark.parametrize("option", table.TABLE, ids=lambda option: str(option.name))
def test_value_when_canonical_is_its_own_canonical_value(option: table.Option) -> None:
    rng = repeatable(20261124)
    digits = "0123456789"
    typed = [
        option.default,
        "0",
        "1",
        "rename",
        "user",
        "/a~b",
        "~/a",
        "a@b:~//c",
        *(
            "".join(rng.choices(digits, k=rng.randint(1, 7)))
            + rng.choice(["", "." + "".join(rng.choices(digits, k=6))])
            for _ in range(200)
        ),
        *(some_text(rng) for _ in range(200)),
    ]
    for text in typed:
        try:
            canonical = option.canonical(text)
        except ValueError:
            continue
        written = canonical.source if isinstance(canonical, Remote) else canonical
        assert option.canonical(written) == canonical, text


def test_password_when_refused_is_not_repeated() -> None:
    said = refusal({"sshcmd": "nas:", "password": "hunter2\n"})
    assert said == "option 'password' must not hold line breaks or control characters"


def test_secret_when_its_name_makes_no_sense_is_not_repeated() -> None:
    assert "hunter" not in refusal({"sshcmd": "nas:", "secret": "hunter2!"})


def test_login_by_names_and_an_agent_is_kept_as_given() -> None:
    credentials = volume(secret="nas", passphrase_secret="nas.pass", identity_agent="/run/agent").credentials
    assert (credentials.secret, credentials.passphrase_secret) == ("nas", "nas.pass")
    assert credentials.identity_agent == "/run/agent"
    assert volume(IdentityAgent="none") == volume()


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        ({"secret": "nas", "password": "hunter2"}, "option 'secret' contradicts 'password': give one of them"),
        ({"secret": "nas", "password_file": "/nas"}, "option 'secret' contradicts 'password_file': give one of them"),
        (
            {"IdentityAgent": "/agent", "IdentityFile": "/nas"},
            "option 'IdentityAgent' contradicts 'IdentityFile': give one of them",
        ),
        (
            {"passphrase_secret": "nas"},
            "option 'passphrase_secret' needs the IdentityFile or the secret that is the private key",
        ),
        ({"CertificateFile": "/nas"}, "option 'CertificateFile' needs the IdentityFile to which it belongs"),
    ],
)
def test_login_when_two_options_say_the_same_or_one_lacks_another_is_refused(opts: dict[str, str], said: str) -> None:
    assert refusal({"sshcmd": "nas:", **opts}) == said


def test_password_when_ssh_would_read_it_in_part_is_refused() -> None:
    assert refusal({"sshcmd": "nas:/photos", "password": "ü" * 512}) == (
        "option 'password' must not be longer than the 1023 bytes that ssh reads"
    )


def test_password_file_when_given_is_kept_as_a_path() -> None:
    credentials = volume(password_file="~/nas password").credentials
    assert (credentials.password_file, credentials.password) == ("~/nas password", "")


# Names


@pytest.mark.parametrize("name", ["IdentityFile", "identityfile", "IDENTITYFILE", "identity_file", " IdentityFile "])
def test_name_when_spelled_otherwise_is_the_same_option(name: str) -> None:
    assert parse({"sshcmd": "nas:", name: "/keys/nas"}).options == {"sshcmd": "root@nas:", "IdentityFile": "/keys/nas"}


def test_name_when_ssh_calls_it_otherwise_is_known() -> None:
    assert volume(StrictHostKeyChecking="no").host_key_check is HostKeyCheck.NO


def test_name_when_mistyped_asks_whether_the_nearest_was_meant() -> None:
    assert refusal({"sshcmd": "nas:", "pasword": "hunter2"}) == "unknown option 'pasword': did you mean 'password'?"
    for other, ours in (("mkdir", "create_directory"), ("username", "user"), ("timeout", "ConnectTimeout")):
        assert refusal({"sshcmd": "nas:", other: "1"}) == f"unknown option '{other}': did you mean '{ours}'?"


def test_name_when_mistyped_before_a_list_asks_the_same_and_does_not_repeat_the_value() -> None:
    assert refusal({"sshcmd": "nas:", "pasword": "a,b"}) == "unknown option 'pasword': did you mean 'password'?"


@pytest.mark.parametrize("value", ["", "5"])
def test_name_when_empty_is_unknown(value: str) -> None:
    assert refusal({"sshcmd": "nas:", "": value}).startswith("unknown option ''")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ProxyCommand", "it would run a command of the volume's creator as root on this host"),
        ("proxycommand", "it would run a command of the volume's creator as root on this host"),
        ("ssh_command", "it would run a command of the volume's creator as root on this host"),
        ("KnownHostsCommand", "it would run a command of the volume's creator as root on this host"),
        ("Match", "it would run a command of the volume's creator as root on this host"),
        ("PermitLocalCommand", "it would run a command of the volume's creator as root on this host"),
        ("SecurityKeyProvider", "it would run a command of the volume's creator as root on this host"),
        ("XAuthLocation", "it would run a command of the volume's creator as root on this host"),
        ("RemoteCommand", "it would run a command on the server"),
        ("passive", "the connection would bypass ssh and its checks"),
        ("LocalCommand", "it would run a command of the volume's creator as root on this host"),
        ("PKCS11Provider", "it would run a command of the volume's creator as root on this host"),
        ("sftp_server", "it would run a command on the server"),
        ("directport", "the connection would bypass ssh and its checks"),
        ("slave", "the connection would bypass ssh and its checks"),
        ("RevokedHostKeys", "mark the key as @revoked in a known_hosts file, which the check reads, too"),
        ("Include", "it would bring in settings that this plugin has not checked"),
    ],
)
def test_name_when_it_would_be_dangerous_is_refused_with_the_reason(name: str, reason: str) -> None:
    said = refusal({"sshcmd": "nas:", name: "x"})
    assert said.casefold() == f"option '{name}' is refused: {reason}".casefold()


def test_address_of_docker_s_own_driver_is_refused_with_the_place_of_the_server() -> None:
    said = refusal({"sshcmd": "nas:/photos", "o": "addr=192.0.2.7,rw"})
    assert said == (
        "option 'addr' is refused: it is for NFS, which Docker's own driver, local, mounts; here the server is a part "
        "of sshcmd=user@host:/dir"
    )


def test_name_when_dangerous_and_hidden_in_a_list_is_refused() -> None:
    assert "option 'ssh_command' is refused" in refusal({"sshcmd": "nas:", "ro,ssh_command": "id"})
    assert "option 'ssh_command' is refused" in refusal({"sshcmd": "nas:", "uid": "1,ssh_command=id"})
    assert "option 'ssh_command' is refused" in refusal({"sshcmd": "nas:", "uid": "1,ssh_command=id,gid=1"})


def test_table_when_a_row_is_refused_elsewhere_contradicts_itself() -> None:
    sorts = (table.NAMES, table.REFUSED, table.IGNORED)
    names = [name.casefold() for sort in sorts for name in sort]
    assert sorted(names) == sorted(set(names))
    assert len({name.casefold() for name in table.NAMES}) == len(table.NAMES)


def test_table_tells_enough_of_every_option_to_document_it() -> None:
    for option in table.TABLE:
        assert option.meaning.endswith(".")
        assert option.default == "" or option.canonical(option.default) == option.default


# Lists, as sshfs takes them


def test_list_when_flags_come_before_a_value_is_taken_apart() -> None:
    given = parse({"sshcmd": "nas:", "allow_other,ro,uid": "1000"}).options
    assert given == {"sshcmd": "root@nas:", "allow_other": "yes", "ro": "yes", "uid": "1000"}


def test_list_when_further_options_come_after_a_value_is_taken_apart() -> None:
    given = parse({"sshcmd": "nas:", "uid": "1000,gid=1001,ro,reconnect=no"}).options
    assert given == {"sshcmd": "root@nas:", "uid": "1000", "gid": "1001", "ro": "yes", "reconnect": "no"}


def test_list_when_it_has_blanks_after_commas_is_taken_apart() -> None:
    given = parse({"sshcmd": "nas:", "uid": "1000, gid=1001, ro, port=2222"}).options
    assert given == {"sshcmd": "root@nas:", "uid": "1000", "gid": "1001", "ro": "yes", "port": "2222"}


@pytest.mark.parametrize("opts", [{"ro,": ""}, {",ro": ""}, {"ro,,uid": "5"}, {"uid": "5,,ro"}, {"o": "ro,,uid=5,"}])
def test_list_when_it_has_a_comma_too_many_passes_over_it(opts: dict[str, str]) -> None:
    assert options.given({"sshcmd": "alice@nas:/srv", "uid": "5", **opts}) == {
        "sshcmd": "alice@nas:/srv",
        "ro": "yes",
        "uid": "5",
    }


def test_list_when_a_value_may_hold_commas_ends_there() -> None:
    given = parse({"uid": "1000,sshcmd=nas:/a,b", "ro,password": "x,ro=no,y"}).options
    assert given == {"uid": "1000", "sshcmd": "root@nas:/a,b", "ro": "yes", "password": "x,ro=no,y"}


def test_option_when_given_twice_alike_is_given_once() -> None:
    assert volume(port="2222,port=02222").remote.port == 2222


def test_option_when_given_twice_differently_is_refused() -> None:
    said = refusal({"sshcmd": "nas:", "IdentityFile": "/a", "identity_file": "/b"})
    assert said == "option 'IdentityFile' is given twice with different values"


def test_list_when_the_items_of_a_value_have_commas_takes_them_until_the_name_of_an_option() -> None:
    ciphers = "^aes128-gcm@openssh.com,aes256-ctr"
    assert volume(Ciphers=ciphers).options["Ciphers"] == ciphers
    given = volume(**{"ro,Ciphers": f"{ciphers}, MACs=-hmac-sha1,hmac-sha1-96,nonempty,reconnect=no"}).options
    assert given == {
        "sshcmd": "bob@nas:/photos",
        "ro": "yes",
        "Ciphers": ciphers,
        "MACs": "-hmac-sha1,hmac-sha1-96",
        "reconnect": "no",
    }


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("PreferredAuthentications", "password,keyboard-interactive"),
        ("PreferredAuthentications", "publickey, password"),
        ("CASignatureAlgorithms", "ssh-ed25519,rsa-sha2-512"),
        ("SetEnv", "A=a,b"),
        ("context", "system_u:object_r:fusefs_t:s0:c1,c2"),
        ("comment", "the NAS, in the cellar"),
    ],
)
def test_list_when_an_ignored_option_has_one_for_its_value_takes_nothing_of_it_for_an_option(
    option: str, value: str
) -> None:
    assert volume(**{option: value, "password": "hunter2"}) == volume(password="hunter2")
    assert volume(**{option: f"{value},ro,uid=7"}).options == volume(ro="", uid="7").options


def test_list_when_a_path_begins_it_goes_on_with_the_name_of_an_option() -> None:
    given = volume(IdentityFile="/root/.ssh/id_rsa,allow_other,reconnect", UserKnownHostsFile="/a, b,port=2222").options
    assert given == {
        "sshcmd": "bob@nas:/photos",
        "IdentityFile": "/root/.ssh/id_rsa",
        "allow_other": "yes",
        "known_hosts": "/a, b",
        "port": "2222",
    }


def test_list_when_a_comma_is_marked_as_sshfs_wants_it_keeps_it_in_the_value() -> None:
    given = volume(IdentityFile=r"/keys\,ro,ro", Ciphers=r"aes128-ctr\,aes256-ctr", uid=r"7,password=a\,b").options
    assert given["IdentityFile"] == "/keys,ro"
    assert given["Ciphers"] == "aes128-ctr,aes256-ctr"
    assert given["password"] == r"a\,b", "nothing in a password is anything else"


@pytest.mark.parametrize(
    "opts",
    [
        {"device": "bob@nas:/photos", "o": "ro,uid=1000,gid=1001", "type": "sshfs"},
        {"device": "bob@nas:/photos", "o": "uid=1000,gid=1001,ro", "type": "fuse.sshfs"},
        {"o": "gid=1001,ro,o=uid=1000,sshcmd=bob@nas:/photos"},
        {"ro,o": "uid=1000,gid=1001", "Device": "bob@nas:/photos", "O": "ro"},
        {"sshcmd": "bob@nas:/photos", "device": "bob@nas:/photos/", "o": "ro", "uid": "1000,gid=1001", "type": "SSHFS"},
    ],
)
def test_list_when_said_as_docker_s_own_driver_and_quadlet_say_it_is_the_same(opts: dict[str, str]) -> None:
    assert parse(opts).options == {"sshcmd": "bob@nas:/photos", "ro": "yes", "uid": "1000", "gid": "1001"}


@pytest.mark.parametrize("item", ["uid=1", "Ciphers=aes128-ctr", "o=uid=1", "ro", "x-a"])
def test_list_when_it_is_long_takes_no_time(item: str) -> None:
    text = ",".join([item] * (16000 // len(f"{item},")))
    began = time.process_time()
    volume(o=text)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("opts", "option"),
    [
        ({"o": "uid=1," * 3000}, "o"),
        ({"ro,uid": "1,uid=1" * 3000}, "ro"),
        ({"ro," * 6000 + "ro": ""}, "ro"),
        ({"password": "x" * 20000}, "password"),
    ],
)
def test_list_when_it_is_too_long_is_refused_unread(opts: dict[str, str], option: str) -> None:
    assert refusal({"sshcmd": "nas:", **opts}) == f"option '{option}' begins a text of more than 16384 characters"


def test_list_when_empty_says_nothing() -> None:
    assert volume(o="").options == volume().options


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        # whatever else is said for another file system, and in whatever order
        (
            {"device": ":/exports", "o": "addr=192.0.2.7,rw", "type": "nfs"},
            "option 'type' must be sshfs, not 'nfs': Docker's own driver, local, is for other file systems",
        ),
        ({"device": "bob@nas:/photos", "o": "adr=192.0.2.7"}, "unknown option 'adr': "),
        ({"device": "bob@nas:/photos", "o": "ro,ProxyCommand=id"}, "option 'ProxyCommand' is refused: "),
        ({"device": "/dev/sdb1"}, "option 'sshcmd' must look like user@host:/dir, with a colon between host and "),
        ({"device": "nas:/a", "sshcmd": "nas:/b"}, "option 'sshcmd' is given twice with different values"),
    ],
)
def test_list_when_it_is_meant_for_another_driver_is_refused_with_the_reason(opts: dict[str, str], said: str) -> None:
    assert refusal(opts).startswith(said)


def test_options_when_typed_anew_from_what_was_recorded_are_the_same() -> None:
    recorded = volume(
        IdentityFile=r"/keys\,ro", Ciphers="aes128-ctr,aes256-ctr", password=r"a\,b,ro", sshcmd="nas:/a,ro"
    ).options
    assert recorded["IdentityFile"] == "/keys,ro"
    assert parse(options.typed(recorded)).options == recorded


# Host, user and directory one by one


@pytest.mark.parametrize(
    ("opts", "sshcmd"),
    [
        ({"host": "nas"}, "root@nas:"),
        ({"host": "nas", "user": "bob"}, "bob@nas:"),
        ({"host": "nas", "user": "bob", "directory": "/a, b:c@d/"}, "bob@nas:/a, b:c@d"),
        ({"host": "nas", "directory": "~/photos"}, "root@nas:photos"),
        ({"host": "2001:DB8::7", "directory": "/"}, "root@[2001:db8::7]:/"),
        ({"host": "[::1]", "user": "bob"}, "bob@[::1]:"),
        ({"sshcmd": "nas:/photos", "user": "bob"}, "bob@nas:/photos"),
        ({"sshcmd": "bob@nas:/photos", "user": "bob"}, "bob@nas:/photos"),
    ],
)
def test_remote_when_said_in_parts_is_the_same_as_in_one(opts: dict[str, str], sshcmd: str) -> None:
    assert parse(opts).options == {"sshcmd": sshcmd}
    assert parse(opts) == parse({"sshcmd": sshcmd})


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        (
            {"sshcmd": "nas:", "host": "nas"},
            "option 'host' contradicts 'sshcmd', which names the same: leave one of them out",
        ),
        (
            {"sshcmd": "nas:", "directory": "/photos"},
            "option 'directory' contradicts 'sshcmd', which names the same: leave one of them out",
        ),
        (
            {"sshcmd": "bob@nas:", "user": "eve"},
            "option 'user' contradicts the user in 'sshcmd': leave one of them out",
        ),
        ({"user": "bob"}, "option 'sshcmd' is missing: say -o sshcmd=user@host:/dir"),
        (
            {"user": "bob", "directory": "/photos"},
            "option 'host' is missing beside 'directory': say -o host=SERVER, or all of it as -o sshcmd=user@host:/dir",
        ),
        ({"host": "-oProxyCommand=id"}, "option 'host' must be the name or address of a host, not '-oProxyCommand=id'"),
        ({"host": "fe80::1%x\ny"}, "option 'host' must not hold line breaks or control characters"),
        ({"host": "fe80::1%]x"}, "option 'host' must be the name or address of a host, not 'fe80::1%]x'"),
        ({"host": "::1%*"}, "option 'host' must be the name or address of a host, not '::1%*'"),
        ({"sshcmd": '[::1%"]:/x'}, "option 'sshcmd' may have an IPv6 address in brackets, but '::1%\"' is none"),
        (
            {"host": "nas:2222"},
            "option 'host' must be the name or address of a host, not 'nas:2222'; a port goes into the option 'port'",
        ),
        ({"host": "[nas]"}, "option 'host' must be the name or address of a host, not '[nas]'"),
        ({"host": "nas", "user": "-l"}, "option 'user' must be a login name, not '-l'"),
        ({"host": "nas", "user": "bob@nas:/x"}, "option 'user' must be a login name, not 'bob@nas:/x'"),
        ({"host": "nas", "user": "bob@other:x"}, "option 'user' must be a login name, not 'bob@other:...'"),
        ({"host": "nas", "user": ""}, "option 'user' must be a login name, not ''"),
        ({"host": "nas", "directory": "/a\nb"}, "option 'directory' must not hold line breaks or control characters"),
    ],
)
def test_remote_when_its_parts_are_wrong_is_refused_with_the_reason(opts: dict[str, str], said: str) -> None:
    assert refusal(opts) == said


# Switches with two names, and options that change nothing


@pytest.mark.parametrize(
    ("opts", "kept"),
    [
        ({"rw": ""}, {}),
        ({"rw": "no"}, {"ro": "yes"}),
        ({"no_contain_symlinks": ""}, {"contain_symlinks": "no"}),
        ({"contain_symlinks": ""}, {}),
        ({"noauto_cache": ""}, {}),
        ({"noauto_cache": "no"}, {"auto_cache": "yes"}),
        ({"allow_root": ""}, {"allow_other": "no"}),
        ({"ro,exec": ""}, {"ro": "yes"}),
    ],
)
def test_switch_when_said_by_its_opposite_is_the_other_way_round(opts: dict[str, str], kept: dict[str, str]) -> None:
    assert volume(**opts).options == {"sshcmd": "bob@nas:/photos", **kept}


def test_switch_when_said_both_ways_is_refused() -> None:
    assert refusal({"sshcmd": "nas:", "ro,rw": ""}) == "option 'rw' contradicts 'ro': leave one of them out"


@pytest.mark.parametrize(
    "opts",
    [
        {"nonempty": ""},
        {"big_writes": "", "debug": ""},
        {"nonempty,big_writes": "", "_netdev": ""},
        {"ForwardAgent": "yes"},
        {"PreferredAuthentications": "publickey"},
        {"x-systemd.automount": "", "comment": "the NAS"},
        {"max_readahead": "90000", "no_remote_lock": ""},
        {"ProxyCommand": "none", "PermitLocalCommand": "No"},
        {"ProxyCommand": "none,port=22"},
        {"one_time": "false", "ephemeral": "False"},
    ],
)
def test_option_when_it_changes_nothing_is_accepted_and_the_journal_tells_why(
    opts: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert volume(**opts) == volume()
    for name in ",".join(opts).split(","):
        assert f"option '{name}' is ignored: " in caplog.text


KEY_AS_TEXT = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNza\n-----END OPENSSH PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        (
            "id_rsa",
            KEY_AS_TEXT,
            "option 'id_rsa' is refused: whoever may call docker volume inspect could read the key, "
            "put it into a file on this host (chmod 600) and say IdentityFile=path",
        ),
        (
            "one_time",
            "true",
            "option 'one_time' is refused: a volume stays until docker volume rm, but docker run --rm takes one along "
            "that it has made and that has no name (--mount type=volume,volume-driver=sshfs,... without source=)",
        ),
        ("nocopy", "", "option 'nocopy' is refused: it is said where the volume is used: -v NAME:/path:nocopy"),
        ("ephemeral", "True", "option 'ephemeral' is refused: a volume stays until docker volume rm, but "),
    ],
)
def test_option_of_other_drivers_is_refused_with_what_to_do_here(option: str, value: str, said: str) -> None:
    refused = refusal({"sshcmd": "nas:", option: value})
    assert refused.startswith(said)
    assert "b3BlbnNza" not in refused


# What goes where


def test_option_when_sshfs_has_it_goes_to_sshfs_and_when_ssh_has_it_to_ssh() -> None:
    assert volume(no_contain_symlinks="").sshfs_options[0] == ("no_contain_symlinks", None)
    said = volume(follow_symlinks="", cache_timeout="5", cache="no", workaround="Rename:nofstat", attr_timeout="0.50")
    assert dict(said.sshfs_options) == {
        "follow_symlinks": None,
        "workaround": "rename:nofstat",
        "dcache_timeout": "5",
        "dir_cache": "no",
        "attr_timeout": "0.5",
        "reconnect": None,
    }
    said = volume(compression="yes", KEEPALIVE="no")
    assert dict(said.ssh_options) == {
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "3",
        "ConnectTimeout": "10",
        "TCPKeepAlive": "no",
        "Compression": "yes",
    }


@pytest.mark.parametrize(
    ("opts", "told"),
    [
        ({"uid": "1000"}, {"idmap": "user"}),
        ({"gid": "1000"}, {"idmap": "user"}),
        ({"uid": "1000", "idmap": "none"}, {"idmap": "none"}),
        ({"idmap": "file", "uidfile": "/etc/uids", "uid": "33"}, {"idmap": "file", "nomap": "ignore"}),
        ({"idmap": "file", "uidfile": "/etc/uids", "nomap": "error"}, {"idmap": "file", "nomap": "error"}),
        ({}, {"dcache_dir_timeout": "2"}),
        ({"dcache_timeout": "60"}, {"dcache_timeout": "60"}),
        ({"dcache_timeout": "20"}, {"dcache_timeout": "20"}),
        ({"dcache_timeout": "60", "dcache_dir_timeout": "2"}, {"dcache_timeout": "60", "dcache_dir_timeout": "2"}),
    ],
)
def test_option_when_it_follows_from_another_is_told_to_sshfs_and_not_recorded(
    opts: dict[str, str], told: dict[str, str]
) -> None:
    made = volume(**opts)
    names = ("idmap", "nomap", "dcache_timeout", "dcache_dir_timeout")
    heard = {name: value for name, value in made.sshfs_options if name in names}
    assert heard == ({"dcache_dir_timeout": "2"} if "dcache_timeout" not in opts else {}) | told
    assert set(made.options) == {"sshcmd", *opts}


CACHES = "dcache_timeout dcache_dir_timeout dir_cache attr_timeout entry_timeout negative_timeout".split()


@pytest.mark.parametrize(
    ("opts", "told"),
    [
        ({}, {"dcache_dir_timeout": "2"}),
        (
            {"profile": "metadata"},
            {"dcache_timeout": "60", "entry_timeout": "60", "negative_timeout": "60"},
        ),
        (
            {"profile": "strict"},
            {"dcache_dir_timeout": "2", "dir_cache": "no", "attr_timeout": "0", "entry_timeout": "0"},
        ),
        (
            {"profile": "metadata", "dcache_timeout": "300", "negative_timeout": "0"},
            {"dcache_timeout": "300", "entry_timeout": "60", "negative_timeout": "0"},
        ),
        (
            {"profile": "metadata", "dcache_dir_timeout": "2", "entry_timeout": "1"},
            {"dcache_timeout": "60", "dcache_dir_timeout": "2", "entry_timeout": "1", "negative_timeout": "60"},
        ),
        (
            {"profile": "strict", "dir_cache": "yes", "dcache_timeout": "5", "attr_timeout": "1"},
            {"dcache_timeout": "5", "dir_cache": "yes", "attr_timeout": "1", "entry_timeout": "0"},
        ),
    ],
)
def test_profile_when_given_stands_for_options_of_which_those_that_are_given_win(
    opts: dict[str, str], told: dict[str, str | None]
) -> None:
    made = volume(**opts)
    assert {name: value for name, value in made.sshfs_options if name in CACHES} == told
    assert made.options == {"sshcmd": "bob@nas:/photos", **opts}
    again = options.volume_of(made.name, made.options, CREATED_AT)
    assert again == made


@pytest.mark.parametrize("name", ["dcache_timeout", "dcache_dir_timeout", "dcache_stat_timeout", "dcache_link_timeout"])
def test_profile_strict_when_a_time_would_have_no_effect_is_refused(name: str) -> None:
    assert refusal({"sshcmd": "nas:", "profile": "strict", name: "5"}) == (
        f"option '{name}' contradicts profile=strict, which remembers nothing: leave one of them out"
    )
    assert volume(profile="strict", **{name: "0"}).options[name] == "0"


def test_option_when_the_plugin_acts_on_it_is_told_to_nobody_else() -> None:
    plain = volume()
    said = volume(known_hosts="/etc/known", create_directory="", IdentityFile="/k", CertificateFile="/k-cert.pub")
    assert (said.known_hosts, said.create_directory) == ("/etc/known", True)
    assert said.credentials.certificate_file == "/k-cert.pub"
    assert (said.sshfs_options, said.ssh_options) == (plain.sshfs_options, plain.ssh_options)


@pytest.mark.parametrize(
    ("option", "typed", "reason"),
    [
        ("Ciphers", "aes128-ctr\nProxyCommand id", "must be algorithms that ssh -Q lists, with commas"),
        ("Ciphers", "a b", "must be algorithms that ssh -Q lists, with commas, not 'a b'"),
        ("MACs", "", "must be algorithms that ssh -Q lists, with commas, not ''"),
        ("BindAddress", "-x", "must be an address or a host name, not '-x'"),
        ("BindInterface", "eth0; id", "must be the name of a network interface, not 'eth0; id'"),
        ("IPQoS", "af21\tid", "must be one or two classes of traffic as ssh_config has them"),
        ("RekeyLimit", "much", "must be an amount and a time such as '1G 1h', not 'much'"),
        ("LogLevel", "loud", "must be error, info, verbose, debug, debug1, debug2 or debug3, not 'loud'"),
        (
            "workaround",
            "rename:magic",
            "is a list of none, rename, norename, renamexdev, norenamexdev, truncate, notruncate, fstat, nofstat, "
            "buflimit, nobuflimit, createmode, nocreatemode with ':' between them; 'magic' is not one of them",
        ),
        ("from_code", "../../x", "must be a character set that iconv -l lists, not '../../x'"),
        ("modules", "/lib/evil", "must be iconv, not '/lib/evil'"),
        ("attr_timeout", "-1", "must be a number of seconds, not '-1'"),
        ("attr_timeout", "1e9", "must be a number of seconds, not '1e9'"),
        ("max_read", "-1", "must be a number from 1 to 2147483647, not '-1'"),
        ("max_read", "0", "must be a number from 1 to 2147483647, not '0'"),
        ("max_write", "0", "must be a number from 1 to 2147483647, not '0'"),
        ("dir_cache", "", "must be yes or no, not ''"),
        ("profile", "fast", "must be default, metadata or strict, not 'fast'"),
        ("uidfile", "~/uids", "must be an absolute path on this host, not '~/uids'"),
    ],
)
def test_value_when_it_could_be_taken_for_something_else_is_refused(option: str, typed: str, reason: str) -> None:
    assert refusal({"sshcmd": "nas:", option: typed}).startswith(f"option '{option}' {reason}")


# Who may use it


@pytest.mark.parametrize(
    ("opts", "allow_other", "default_permissions"),
    [
        ({}, True, True),
        ({"allow_other": ""}, True, False),
        ({"allow_other": "", "default_permissions": ""}, True, True),
        ({"allow_other": "no"}, False, True),
        ({"default_permissions": ""}, True, True),
        ({"default_permissions": "no"}, True, False),
        ({"allow_other": "no", "default_permissions": "no"}, False, False),
    ],
)
def test_access_when_allow_other_is_said_aloud_means_what_it_means_to_sshfs(
    opts: dict[str, str], allow_other: bool, default_permissions: bool
) -> None:
    access = volume(**opts).access
    assert (access.allow_other, access.default_permissions) == (allow_other, default_permissions)


# Contradictions


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        (
            {"password": "hunter2", "password_file": "/etc/password"},
            "option 'password_file' contradicts 'password': give one of them",
        ),
        (
            {"host_key": FINGERPRINT, "check": "never"},
            "option 'host_key' needs the check: leave check=never out",
        ),
        (
            {"host_key": FINGERPRINT, "host_key_check": "no"},
            "option 'host_key' contradicts host_key_check=no: leave one of them out",
        ),
        ({"idmap": "file"}, "option 'idmap' is 'file' and needs a uidfile or a gidfile"),
        ({"uidfile": "/etc/uids"}, "option 'uidfile' needs idmap=file"),
        ({"gidfile": "/etc/gids", "idmap": "user"}, "option 'gidfile' needs idmap=file"),
        ({"from_code": "latin1"}, "option 'from_code' needs modules=iconv"),
        ({"CertificateFile": "/key-cert.pub"}, "option 'CertificateFile' needs the IdentityFile to which it belongs"),
        (
            {"create_directory": "", "check": "mount"},
            "option 'create_directory' needs the check: leave check=mount out",
        ),
        (
            {"read_timeout": "1m", "relay": "no"},
            "option 'read_timeout' needs the relay: leave relay=no and reconnect=no out",
        ),
        (
            {"read_timeout": "1m", "reconnect": "no"},
            "option 'read_timeout' needs the relay: leave relay=no and reconnect=no out",
        ),
    ],
)
def test_options_when_they_contradict_each_other_are_refused(opts: dict[str, str], said: str) -> None:
    assert refusal({"sshcmd": "nas:", **opts}) == said


def test_password_and_key_when_both_are_given_are_both_kept_for_servers_that_want_both() -> None:
    credentials = volume(password="hunter2", IdentityFile="/keys/nas").credentials
    assert (credentials.password, credentials.identity_file) == ("hunter2", "/keys/nas")


@pytest.mark.parametrize(
    ("opts", "seconds"),
    [({}, 900), ({"read_timeout": "1h"}, 3600), ({"relay": "no"}, None), ({"reconnect": "no"}, None)],
)
def test_reads_survive_a_lost_connection_for_so_long_unless_that_is_switched_off(
    opts: dict[str, str], seconds: int | None
) -> None:
    assert volume(**opts).read_seconds == seconds


# Comparing


def test_differences_when_volumes_are_the_same_in_other_words_are_none() -> None:
    one = parse({"sshcmd": "bob@nas:/photos/", "identity_file": "/keys/nas", "port": "22"})
    other = parse({"sshcmd": "bob@nas:/photos,ro"[:-3], "IDENTITYFILE": "/keys/nas", "ro": "no"})
    assert options.differences(one.given, other.given) == ()


def test_differences_when_there_are_some_are_named_in_the_order_of_the_table() -> None:
    assert options.differences(volume(uid="1", port="2222").given, volume(ro="").given) == ("port", "ro", "uid")


# Whatever is typed


def repeatable(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 (nothing here is secret)


def some_text(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_letters + string.digits + " ,=:@/%\"'\\#~${äß€", k=rng.randint(1, 12)))


def some_opts(rng: random.Random) -> dict[str, str]:
    """Choose options with values that are all fine."""
    flag = ("", "yes", "no", "on", "off", "TRUE", "0")
    possible = {
        "port": str(rng.randint(1, 65535)),
        rng.choice(["password", "PASSWORD"]): some_text(rng),
        rng.choice(["IdentityFile", "identity_file"]): "/" + some_text(rng).replace("${", "$"),
        "ro": rng.choice(flag),
        "uid": str(rng.randint(0, 2**32 - 2)),
        "gid": f"0{rng.randint(0, 65535)}",
        "umask": f"{rng.randint(0, 0o777):o}",
        "idmap": rng.choice(["none", "user", "User"]),
        "allow_other": rng.choice(flag),
        "default_permissions": rng.choice(flag),
        "reconnect": rng.choice(flag),
        "ServerAliveInterval": str(rng.randint(1, 3600)),
        "ServerAliveCountMax": str(rng.randint(1, 100)),
        "ConnectTimeout": str(rng.randint(1, 60)),
        "host_key_check": rng.choice(["accept-new", "yes", "ask"]),
        rng.choice(["host_key", "HOST_KEY"]): FINGERPRINT,
        "check": rng.choice(["create", "mount"]),
    }
    host = rng.choice(["nas", "192.0.2.7", "[2001:db8::7]", "bob@nas", "bob@[::1]"])
    chosen = rng.sample(list(possible), rng.randint(0, len(possible)))
    directory = rng.choice(["", "/", "/" + some_text(rng), some_text(rng).replace("@", "")])
    return {"sshcmd": f"{host}:{directory}"} | {name: possible[name] for name in chosen}


def test_options_when_recorded_and_read_again_make_the_same_volume() -> None:
    rng = repeatable(20240517)
    for _ in range(500):
        opts = some_opts(rng)
        if "://" in opts["sshcmd"]:
            continue
        once = parse(opts)
        assert options.volume_of(VolumeName("photos"), once.options, CREATED_AT) == once, opts


def test_options_when_typed_as_one_list_make_the_same_volume_as_one_by_one() -> None:
    rng = repeatable(20240518)
    for _ in range(500):
        opts = some_opts(rng)
        if "://" in opts["sshcmd"]:
            continue
        free = {name for name in opts if name.casefold() in ("sshcmd", "password", "identityfile", "identity_file")}
        listed = {name: text for name, text in opts.items() if name not in free}
        key, _, value = ",".join(f"{name}={text}" if text else name for name, text in listed.items()).partition("=")
        joined = {name: opts[name] for name in free} | ({key: value} if listed else {})
        assert parse(joined) == parse(opts), opts


def test_options_when_anything_is_typed_make_a_volume_or_name_what_is_wrong() -> None:
    rng = repeatable(20240519)
    names = [*table.NAMES, *table.REFUSED, *table.IGNORED, "nonsense"]
    for _ in range(500):
        opts = {rng.choice(names): some_text(rng) for _ in range(rng.randint(0, 3))} | {"sshcmd": some_text(rng)}
        try:
            parse(opts)
        except errors.RequestError as error:
            assert "option" in str(error), opts
