# SPDX-License-Identifier: MIT
"""The table of options, held against the ssh and the sshfs that are installed."""

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sshfs_plugin import options
from sshfs_plugin.options import table
from sshfs_plugin.options.table import Destination
from sshfs_plugin.options.values import flag
from sshfs_plugin.ssh import sshfs
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.ssh.known_hosts import KnownHosts
from sshfs_plugin.volume import Volume, VolumeName

RELAY = Path("/nowhere/relay")
"""Options are read before it is started, and no server is to be asked."""

SAMPLES = {
    "uid": "1000",
    "gid": "1000",
    "umask": "022",
    "uidfile": "/etc/a, b\\c",
    "gidfile": "/etc/größe",
    "idmap": "user",
    "nomap": "ignore",
    "workaround": "rename:nofstat",
    "modules": "iconv",
    "from_code": "ISO-8859-1",
    "to_code": "UTF-8",
    "dcache_timeout": "5",
    "dcache_dir_timeout": "5",
    "dcache_stat_timeout": "5",
    "dcache_link_timeout": "5",
    "ac_attr_timeout": "0.5",
    "max_read": "65536",
    "max_write": "65536",
    "Ciphers": "^aes128-gcm@openssh.com,aes256-ctr",
    "MACs": "-hmac-sha1*",
    "KexAlgorithms": "curve25519-sha256,ecdh-sha2-nistp256",
    "HostKeyAlgorithms": "+ssh-rsa",
    "PubkeyAcceptedAlgorithms": "+ssh-rsa",
    "RequiredRSASize": "2048",
    "RekeyLimit": "1G 1h",
    "AddressFamily": "inet",
    "BindAddress": "127.0.0.1",
    "BindInterface": "lo",
    "IPQoS": "af21 cs1",
    "LogLevel": "DEBUG",
}
"""A value for each option that has no default, or another one."""

NEEDED = {
    "uidfile": {"idmap": "file"},
    "gidfile": {"idmap": "file"},
    "modules": {"from_code": "UTF-8"},
    "from_code": {"modules": "iconv"},
    "to_code": {"modules": "iconv"},
}
"""What an option makes no sense without."""

OBSOLETE = set(
    (
        "afstokenpassing dsaauthentication fallbacktorsh globalknownhostsfile2 identityfile2 kerberosauthentication "
        "kerberostgtpassing rhostsauthentication rhostsrsaauthentication rsaauthentication skeyauthentication "
        "tisauthentication useblacklistedkeys useprivilegedport userknownhostsfile2 useroaming usersh"
    ).split()
)
"""Keywords of SSH 1 and of versions that are long gone, which ssh reads and forgets: nobody types them."""


def volume(**opts: str) -> Volume:
    return options.parse(VolumeName("photos"), {"sshcmd": "alice@nas:/photos", **opts}, datetime.now(UTC))


def rows(destination: Destination) -> list[table.Option]:
    return [option for option in table.TABLE if option.destination is destination]


def sample(option: table.Option) -> str:
    if option.canonical is flag:
        return {"yes": "no", "no": "yes"}[option.default or "no"]
    return SAMPLES.get(option.name) or option.default


def texts(*binaries: Path) -> set[str]:
    """Return what looks like the name of an option in programs, as strings(1) would."""
    words = (re.findall(rb"(?<![\w-])[a-z_][a-z0-9_]{1,40}(?:=[%a-z]*)?(?=\0)", file.read_bytes()) for file in binaries)
    return {word.decode() for found in words for word in found}


def complaints_of_ssh(config: Path) -> str:
    """Return what the installed ssh says to an ssh_config; nothing if all of it is fine."""
    argv = ["ssh", "-T", "-G", "-F", str(config), "x"]
    judged: subprocess.CompletedProcess[str] = subprocess.run(
        argv, capture_output=True, text=True, timeout=300, check=False
    )
    return judged.stderr


def keywords_of_ssh(candidates: Iterable[str], tmp_path: Path) -> Iterator[str]:
    """Find the keywords among many words: ssh complains of those that are none."""
    config = tmp_path / "ssh_config"
    left = sorted(set(candidates) - {"host", "match", "include"})  # these would change what the next lines mean
    while left:
        config.write_text("".join(f"{word} yes\n" for word in left))
        said = complaints_of_ssh(config)
        bad = set(re.findall(r"Bad configuration option: (\S+)", said))
        # some keywords end ssh at once when their value is wrong
        last = max((int(number) for number in re.findall(r"line (\d+)", said)), default=len(left))
        reached = len(left) if "terminating" in said else last
        yield from (word for word in left[:reached] if word not in bad)
        left = left[reached:]


def test_every_keyword_of_ssh_is_sorted(tmp_path: Path) -> None:
    words = {word for word in texts(Path(shutil.which("ssh") or "")) if "=" not in word}
    known = list(keywords_of_ssh(words, tmp_path))
    assert {"proxycommand", "identityfile", "compression", "visualhostkey"} <= set(known)
    assert [keyword for keyword in known if not table.can_begin(f"{keyword}=") and keyword not in OBSOLETE] == []


@pytest.mark.parametrize("option", rows(Destination.SSH), ids=lambda option: str(option.name))
def test_every_row_for_ssh_is_a_keyword_of_ssh_and_its_value_is_taken(option: table.Option, tmp_path: Path) -> None:
    known_hosts = KnownHosts(own=Path("/dev/null"), others=(), pinned=tmp_path)
    config = tmp_path / "ssh_config"
    config.write_text(sshfs.ssh_config(volume(**{option.name: sample(option)}), Login(), known_hosts))
    assert f"    {option.name} " in config.read_text()
    assert complaints_of_ssh(config) == ""


@pytest.fixture
def mountpoint(tmp_path: Path) -> Iterator[Path]:
    """A directory on which nothing stays mounted."""
    mountpoint = tmp_path / "mountpoint"
    mountpoint.mkdir()
    yield mountpoint
    subprocess.run(["umount", "--lazy", mountpoint], capture_output=True, timeout=300, check=False)


def complaints_of_sshfs(mountpoint: Path, options: Iterable[str]) -> str:
    """Return what the installed sshfs says to options; if they are fine, that its ssh has ended at once."""
    argv = ["timeout", "-s", "KILL", "300", "sshfs", "-f", "x:/", str(mountpoint), "-o", "ssh_command=false", *options]
    tried: subprocess.CompletedProcess[str] = subprocess.run(
        argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=310, check=False
    )
    return tried.stderr


def is_fine(complaints: str) -> bool:
    return bool(re.search("Connection reset by peer|Broken pipe", complaints))


def test_every_option_of_sshfs_is_sorted(mountpoint: Path) -> None:
    binary = Path(shutil.which("sshfs") or "")
    linked = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True, timeout=300).stdout
    library = Path(re.findall(r"=> (\S*libfuse3\S*)", linked)[0])
    listed = subprocess.run(["sshfs", "--help"], capture_output=True, text=True, timeout=300, check=False)
    in_help = set(re.findall(r"-o (?:\[no\])?([a-z_]+)\b(?!\{)", listed.stdout + listed.stderr))
    assert {"dcache_timeout", "kernel_cache", "max_conns"} <= in_help
    candidates = {re.sub(r"%\w+$", "1", word) for word in texts(binary, library)}
    unsorted = {word for word in candidates | in_help if not table.can_begin(f"{word.partition('=')[0]}=")}
    taken = {word for word in unsorted if "unknown option" not in complaints_of_sshfs(mountpoint, ("-o", word))}
    assert taken == set()


@pytest.mark.parametrize("option", rows(Destination.SSHFS), ids=lambda option: str(option.name))
def test_every_row_for_sshfs_is_an_option_of_sshfs_and_its_value_is_taken(
    option: table.Option, mountpoint: Path
) -> None:
    opts = {option.name: sample(option), **NEEDED.get(option.name, {})}
    complaints = complaints_of_sshfs(mountpoint, ("-o", sshfs.options(volume(**opts), RELAY)))
    if option.name in ("uidfile", "gidfile"):
        assert f"'{opts[option.name]}'" in complaints, "it must have looked for the very file"
    else:
        assert is_fine(complaints), complaints


def test_an_option_that_sshfs_does_not_know_is_complained_of(mountpoint: Path) -> None:
    assert "unknown option" in complaints_of_sshfs(mountpoint, ("-o", "no_such_option"))
