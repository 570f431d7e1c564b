# SPDX-License-Identifier: MIT
"""The options of sshfs and the ssh_config of a volume, which its unit reads: pure functions from values to text.

All about the connection is in the ssh_config, which sshfs passes on with ``-F``. So root's own configuration has no
effect, values may hold commas, and an ssh that a later reconnect starts reads the same file. The rest of the command
line is in an environment file.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.ssh.known_hosts import KnownHosts, pattern
from sshfs_plugin.volume import CheckAt, HostKeyCheck, Volume

NOWHERE = Path("/dev/null")

IDLE_SECONDS = 300
"""How long a shared connection is kept when its last volume was unmounted."""


def options(volume: Volume, relay: Path) -> str:
    """Return the text after sshfs's ``-o``; nothing of it is secret.

    Args:
        volume: The volume.
        relay: The program that sshfs starts in place of ssh if reads are to survive the loss of a connection.
    """
    return ",".join(_options(volume, relay))


def _options(volume: Volume, relay: Path) -> Iterator[str]:
    if volume.access.allow_other:
        yield "allow_other"
    if volume.access.default_permissions:
        yield "default_permissions"
    for name, value in volume.sshfs_options:
        yield name if value is None else f"{name}={_escaped(value)}"
    if volume.read_seconds is not None:
        yield f"ssh_command={_escaped(str(relay))}"


def _escaped(value: str) -> str:
    """Write a value so that sshfs does not take a comma in it for the start of the next option."""
    return value.replace("\\", "\\\\").replace(",", "\\,")


def environment_file(values: Mapping[str, str]) -> str:
    r"""Write variables so that systemd (``EnvironmentFile=``) and a POSIX shell (``.``) read the same values.

    Between double quotes both undo a backslash before ``"``, ``\``, ``$`` and the backquote, and nothing else. Values
    hold no control characters: no option admits them.
    """
    return "".join(f'{name}="{_NEEDS_ESCAPE.sub(_BACKSLASH, value)}"\n' for name, value in values.items())


_NEEDS_ESCAPE, _BACKSLASH = re.compile(r'(["\\$`])'), r"\\\1"


def ssh_config(volume: Volume, login: Login, known_hosts: KnownHosts, key: Path = NOWHERE) -> str:
    """Return the text of the ssh_config under which a volume's own connections are made.

    Args:
        volume: The volume.
        login: What it logs in with.
        known_hosts: The known hosts of this host.
        key: The file of the login's copied key, if it has one.
    """
    keywords = _keywords(volume, login, known_hosts, known_hosts.pinned_file(volume.name), key)
    hosts = _hosts(keywords, volume, login, known_hosts, key)
    return f"# Made for the volume {volume.name} at each mount.\n{hosts}"


def shared_ssh_config(
    volume: Volume, login: Login, known_hosts: KnownHosts, pinned: Path = NOWHERE, key: Path = NOWHERE
) -> str:
    """Return the text of the ssh_config under which a connection is made that a volume shares with others.

    Args:
        volume: One of them.
        login: What all of them log in with.
        known_hosts: The known hosts of this host.
        pinned: The file of the pinned host key, if there is one.
        key: The file of the login's copied key, if it has one.
    """
    keywords = _keywords(volume, login, known_hosts, pinned, key)
    shared = ("ControlMaster", "yes"), ("ControlPersist", str(IDLE_SECONDS))
    hosts = _hosts((*keywords, *shared), volume, login, known_hosts, key)
    return f"# Made for volumes that share a connection.\n{hosts}"


def numbered(file: Path, number: int) -> Path:
    """Return the file that is for a jump host of this number what another is for the server; 0 is the server."""
    return file.with_name(f"{file.name}-{number}") if number else file


def _hosts(
    keywords: Iterable[tuple[str, str]], volume: Volume, login: Login, known_hosts: KnownHosts, key: Path
) -> str:
    """Return the sections of the jump hosts, under names that no server can have, and that of the server."""
    sections, names = [], ["none"]
    for number, (jump, its_login) in enumerate(zip(volume.jumps, login.jumps, strict=True), 1):
        pinned = known_hosts.pinned_file(jump.name)
        its_keywords = (
            ("HostName", jump.remote.host.replace("%", "%%")),
            ("User", _quoted(jump.remote.user)),
            ("ProxyJump", names[-1]),
            *_keywords(jump, its_login, known_hosts, pinned, numbered(key, number)),
        )
        names.append(f"jump+{number}")
        sections.append(_section(names[-1], its_keywords))
    proxy = [("ProxyJump", names[-1])] if volume.jumps else []
    others = " ".join(("*", *(f"!{name}" for name in names[1:])))
    return "".join((*sections, _section(others, (*proxy, *keywords))))


def _section(hosts: str, keywords: Iterable[tuple[str, str]]) -> str:
    lines = "\n".join(f"    {keyword} {value}" for keyword, value in keywords)
    return f"Host {hosts}\n{lines}\n"


def _keywords(
    volume: Volume, login: Login, known_hosts: KnownHosts, pinned: Path, key: Path
) -> Iterator[tuple[str, str]]:
    yield "Port", str(volume.remote.port)
    # else ssh would look up an address in its canonical form (127.0.0.1 for 127.1), and the preflight as it was typed
    yield "HostKeyAlias", pattern(volume.remote.host, volume.remote.port)
    # else ssh would use none of the agent's keys, since none is named
    yield "IdentitiesOnly", "no" if login.agent else "yes"
    yield "IdentityAgent", _quoted(login.agent.path) if login.agent else "none"
    identity_files = (key,) if login.copied_key else login.identity_files
    for identity_file in identity_files or ("none",):
        yield "IdentityFile", _quoted(identity_file)
    if login.certificate_file:
        yield "CertificateFile", _quoted(login.certificate_file)
    if login.password:
        yield "NumberOfPasswordPrompts", "1"
        # by itself ssh would begin with what is typed, which may be a code that nobody is there to type
        yield "PreferredAuthentications", "publickey,password,keyboard-interactive"
    else:
        yield "BatchMode", "yes"
    yield from _host_key_keywords(volume, known_hosts, pinned)
    yield "ConnectionAttempts", "1"
    keywords = volume.keywords
    keywords["ConnectTimeout"] = str(_connect_seconds(volume))
    if volume.pinned_host_key or volume.check is not CheckAt.NEVER:
        keywords["HostKeyAlgorithms"] = _without_certificates(keywords.get("HostKeyAlgorithms", ""))
    yield from keywords.items()


def _without_certificates(algorithms: str) -> str:
    """Change a list of ssh_config(5) so that a server shows its host key itself, as it does to the preflight.

    ssh would rather have a certificate, whose key may be one that nobody knows. A list that begins otherwise than with
    a minus can't leave any out.
    """
    if not algorithms:
        return f"-{_CERTIFICATES}"
    return f"{algorithms},{_CERTIFICATES}" if algorithms.startswith("-") else algorithms


_CERTIFICATES = "*-cert-v01@openssh.com"


def _connect_seconds(volume: Volume) -> int:
    """Return the limit in which ssh has to see the first line of a server, be it behind jump hosts.

    For ssh it begins with the connection to the first of them (docs/facts.md). So each has its own time to answer, and
    the same for its login.
    """
    return volume.connect_seconds + sum(2 * jump.connect_seconds for jump in volume.jumps)


def _host_key_keywords(volume: Volume, known_hosts: KnownHosts, pinned: Path) -> Iterator[tuple[str, str]]:
    """Yield the keywords for the host key: after a preflight ssh takes known ones alone, since that adds new ones."""
    files: tuple[Path, ...]
    if volume.pinned_host_key:
        strict, files = "yes", (pinned,)
    elif volume.host_key_check is HostKeyCheck.NO:
        strict, files = "no", (NOWHERE,)
    else:
        checked = volume.check is not CheckAt.NEVER or volume.host_key_check is HostKeyCheck.YES
        strict = "yes" if checked else "accept-new"
        trusted = known_hosts.reading(volume.known_hosts)
        files = (trusted.own, *trusted.others)
    yield "StrictHostKeyChecking", strict
    yield "UserKnownHostsFile", " ".join(_quoted(file) for file in files)
    yield "GlobalKnownHostsFile", str(NOWHERE)


def _quoted(path: Path | str) -> str:
    """Write a path so that ssh reads it as it is: ``%`` starts a token, and quotes hold what has blanks."""
    text = str(path).replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
