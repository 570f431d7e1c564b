# SPDX-License-Identifier: MIT
"""What Docker finds under the name of a plugin, and so which address it calls.

In Docker's own order, a managed plugin of that name comes first; then a socket in ``/run/docker/plugins``; then
``.spec`` and ``.json`` files. Whatever comes before our spec is called in our place (docs/facts.md, "How Docker finds a
plugin").
"""

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

NAME = "sshfs"

_SOCKETS = Path("run/docker/plugins")
SPECS = Path("etc/docker/plugins")
_SPECS = (SPECS, Path("usr/lib/docker/plugins"))
_DAEMON = "etc/docker/daemon.json"
_DATA_ROOT = "var/lib/docker"
_PROCESS = "run/docker.pid"
_FLAG = re.compile(r"\0--?(data-root|graph|g|userns-remap|config-file)[=\0]([^\0]+)")
"""A flag of dockerd that says where its managed plugins are, in its command line as ``/proc`` has it."""

_TLS_FILES = ("CAFile", "CertFile", "KeyFile")
_MISUNDERSTOOD = (OSError, ValueError, KeyError, TypeError, AttributeError)
"""The errors of reading a file that is missing or malformed; Docker can't use it either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """What a client does for TLS, as the ``TLSConfig`` of a ``.json`` file says.

    Attributes:
        authority: The certificate of the authority that has signed the plugin's certificate; None if that is not
            verified.
        certificate: The client's certificate; None if it shows none.
        key: The client's private key.
    """

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What Docker finds under a name.

    Attributes:
        file: A socket, a spec, or the directory of a managed plugin.
        address: What Docker calls: ``unix:///...``, ``tcp://...`` or ``https://...``; empty for a managed plugin.
        tls: What Docker was told to do for TLS, which it speaks with an address ``https://...``; None if nothing.
        managed: The name of a managed plugin, with its tag; empty for others.
        disabled: Whether the managed plugin is disabled; Docker looks no further all the same.
    """

    file: Path
    address: str = ""
    tls: TLS | None = None
    managed: str = ""
    disabled: bool = False

    def leads_to(self, addresses: Iterable[str]) -> bool:
        """Tell whether to call it is to call one of these addresses, which are written as in specs."""
        return any(_leads_to(self.address, address) for address in addresses)


class Hiding(NamedTuple):
    """Why Docker does not call this plugin.

    Attributes:
        what: What Docker uses instead of this plugin, or that it finds nothing, as a sentence.
        cure: What to do about it.
    """

    what: str
    cure: str

    def __str__(self) -> str:
        return f"{self.what}: {self.cure}"


def find(root: Path = Path("/"), name: str = NAME) -> Found | None:
    """Return what Docker finds first under a name; None if it finds nothing."""
    return next(_everything(root, name), None)


def told_of_tls(address: str, root: Path = Path("/")) -> Path | None:
    """Return a file, under whatever name, that tells Docker to use TLS at an address; None if there is none."""
    for file in chain.from_iterable((root / directory).glob("**/*.json") for directory in _SPECS):
        with suppress(*_MISUNDERSTOOD):
            found = _described(file)
            if (found.tls or found.address.startswith("https:")) and found.leads_to([address]):
                return file
    return None


def hiding(addresses: Iterable[str], names: Iterable[str] = (NAME,), root: Path = Path("/")) -> list[Hiding]:
    """Return what Docker finds under these names instead of these addresses, each once."""
    found = (find(root, name) for name in names)
    others = [other for other in found if other and not other.leads_to(addresses)]
    return list(dict.fromkeys(_hiding(other) for other in others))


def _hiding(other: Found) -> Hiding:
    if other.managed:
        though = ", although it is disabled" if other.disabled else ""
        name = other.managed.removesuffix(":latest")
        return Hiding(
            f"Docker uses the managed plugin {name}{though}, and not this plugin",
            f"docker plugin rm -f {name}, and restart Docker",
        )
    return Hiding(
        f"Docker calls {other.address}, by {other.file}, and not this plugin", "remove that, and restart Docker"
    )


def managed(root: Path = Path("/")) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield each managed plugin's directory, and the description of the plugin that Docker keeps there."""
    for config in _descriptions(root):
        with suppress(*_MISUNDERSTOOD):
            plugin = json.loads(config.read_text())["plugin"]
            if isinstance(plugin, dict):
                yield config.parent, plugin


def _descriptions(root: Path) -> Iterator[Path]:
    """Yield the files in which Docker describes its managed plugins, below its data directory."""
    told = _told_to_docker(root)
    place = told.get("data-root") or told.get("graph") or told.get("g")
    directory = root / (place if isinstance(place, str) else _DATA_ROOT).lstrip("/")
    # where containers have other users' numbers, a directory UID.GID inside takes the place of the data directory
    inside = "[0-9]*.[0-9]*/plugins" if told.get("userns-remap") else "plugins"
    yield from sorted(directory.glob(f"{inside}/*/config.json"))


def _told_to_docker(root: Path) -> dict[str, Any]:
    """Return the settings of Docker: those of its command line, which is known while it runs, and those of its file."""
    flags: dict[str, Any] = {}
    with suppress(*_MISUNDERSTOOD):
        process = int((root / _PROCESS).read_text())
        command_line = (root / f"proc/{process}/cmdline").read_text()
        # the number may be that of another process by now
        if Path(command_line.partition("\0")[0]).name == "dockerd":
            flags = dict(_FLAG.findall(command_line))
    with suppress(*_MISUNDERSTOOD):
        file = root / flags.get("config-file", _DAEMON).lstrip("/")
        return {**json.loads(file.read_text()), **flags}
    return flags


def _everything(root: Path, name: str) -> Iterator[Found]:
    yield from _managed(root, name)
    for socket in _named(root / _SOCKETS, name, ".sock"):
        with suppress(OSError):
            if socket.is_socket():
                yield Found(file=socket, address=f"unix:///{socket.relative_to(root)}")
    for directory in _SPECS:
        for kind in (".spec", ".json"):
            for file in _named(root / directory, name, kind):
                with suppress(*_MISUNDERSTOOD):
                    yield _spec(file) if kind == ".spec" else _described(file)


def _named(directory: Path, name: str, kind: str) -> Iterator[Path]:
    yield directory / f"{name}{kind}"
    yield directory / name / f"{name}{kind}"


def _managed(root: Path, name: str) -> Iterator[Found]:
    """Yield the managed plugins of a name, under which Docker finds them even if they are disabled."""
    tagged = name if ":" in name else f"{name}:latest"
    for directory, plugin in managed(root):
        if plugin.get("Name") == tagged:
            yield Found(file=directory, managed=tagged, disabled=not plugin.get("Enabled", True))


def _spec(file: Path) -> Found:
    return Found(file=file, address=file.read_text().strip())


def _described(file: Path) -> Found:
    described: dict[str, Any] = json.loads(file.read_text())
    found = Found(file=file, address=described["Addr"].strip())
    with suppress(*_MISUNDERSTOOD):
        tls = described["TLSConfig"]
        authority, certificate, key = (Path(tls[name]) if tls.get(name) else None for name in _TLS_FILES)
        # without an authority Docker skips it by itself
        files = TLS(authority=None if tls.get("InsecureSkipVerify") else authority, certificate=certificate, key=key)
        return replace(found, tls=files)
    return found


def _leads_to(called: str, ours: str) -> bool:
    """Compare an address that Docker calls with one of ours. A host name is not resolved, but taken for this host's."""
    try:
        there, here = urlsplit(called), urlsplit(ours)
        same_port = there.port == here.port
    except ValueError:
        return False
    if here.scheme == "unix" or there.scheme == "unix":
        return (there.scheme, there.path) == (here.scheme, here.path)
    try:
        address = ipaddress.ip_address(there.hostname or "")
    except ValueError:
        return same_port
    listening = ipaddress.ip_address(here.hostname or "")
    return same_port and (listening == address or listening.is_unspecified)
