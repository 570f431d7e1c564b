# SPDX-License-Identifier: MIT
"""Where Docker looks for a plugin, in Docker's own order, and so which address it calls.

A managed plugin of that name comes first; then a socket in ``/run/docker/plugins``; then ``.spec`` and ``.json`` files.
Whatever comes before ours makes Docker call something else (docs/facts.md, "How Docker finds a plugin").
"""

import ipaddress
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

NAME = "sshfs"

_SOCKETS = Path("run/docker/plugins")
SPECS = Path("etc/docker/plugins")
_SPECS = (SPECS, Path("usr/lib/docker/plugins"))
_DAEMON = Path("etc/docker/daemon.json")
_DATA_ROOT = "var/lib/docker"
_MISUNDERSTOOD = (OSError, ValueError, KeyError, TypeError, AttributeError)
"""What comes of a file that is not there or not what it should be; Docker can't use it either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """With what a client proves who it is, and whom it believes; the ``TLSConfig`` of a ``.json`` file.

    Attributes:
        authority: The certificate of who has signed the plugin's.
        certificate: The client's certificate.
        key: Its key.
    """

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What Docker finds.

    Attributes:
        file: Where: a socket, a spec, or the directory of a managed plugin.
        address: What it calls: ``unix:///...``, ``tcp://...`` or ``https://...``; empty for a managed plugin.
        tls: How it proves who it is; None without TLS.
        managed: The name of a managed plugin, with its tag; empty for others.
        disabled: Whether that is disabled; Docker looks no further all the same.
    """

    file: Path
    address: str = ""
    tls: TLS | None = None
    managed: str = ""
    disabled: bool = False

    def leads_to(self, addresses: Iterable[str]) -> bool:
        """Tell whether who calls it reaches one of these addresses, which are written as in specs."""
        return any(_leads_to(self.address, address) for address in addresses)


def find(root: Path = Path("/"), name: str = NAME) -> Found | None:
    """Return what Docker finds first under the name of this plugin or another one, None if there is nothing."""
    return next(_everything(root, name), None)


def in_the_way(addresses: Iterable[str], names: Iterable[str] = (NAME,), root: Path = Path("/")) -> str:
    """Tell what Docker finds in place of these addresses; empty if it finds one of them, or nothing, by each name."""
    found = (find(root, name) for name in names)
    others = [other for other in found if other and not other.leads_to(addresses)]
    return "; ".join(dict.fromkeys(_what_to_do_about(other) for other in others))


def _what_to_do_about(other: Found) -> str:
    if other.managed:
        though = ", although it is disabled" if other.disabled else ""
        name = other.managed.removesuffix(":latest")
        return (
            f"Docker uses the managed plugin {name}{though}, and not this plugin: docker plugin rm -f {name}, "
            "and restart Docker"
        )
    return f"Docker calls {other.address}, by {other.file}, and not this plugin: remove that, and restart Docker"


def managed(root: Path = Path("/")) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield each managed plugin's directory, and what Docker has written down of the plugin."""
    for config in sorted(_data_root(root).glob("plugins/*/config.json")):
        with suppress(*_MISUNDERSTOOD):
            yield config.parent, json.loads(config.read_text())["plugin"]


def _data_root(root: Path) -> Path:
    """Return where Docker keeps all that it has."""
    with suppress(*_MISUNDERSTOOD):
        place: str = json.loads((root / _DAEMON).read_text())["data-root"]
        return root / place.lstrip("/")
    return root / _DATA_ROOT


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
    with suppress(*_MISUNDERSTOOD):  # without all three files nobody would be let in
        tls = described["TLSConfig"]
        files = TLS(authority=Path(tls["CAFile"]), certificate=Path(tls["CertFile"]), key=Path(tls["KeyFile"]))
        return replace(found, tls=files)
    return found


def _leads_to(called: str, ours: str) -> bool:
    """Compare what Docker calls with where we listen; a name is taken for this host's, and nobody is asked."""
    there, here = urlsplit(called), urlsplit(ours)
    if here.scheme == "unix" or there.scheme == "unix":
        return (there.scheme, there.path) == (here.scheme, here.path)
    try:
        same_port = there.port == here.port
    except ValueError:
        return False
    try:
        address = ipaddress.ip_address(there.hostname or "")
    except ValueError:
        return same_port
    listening = ipaddress.ip_address(here.hostname or "")
    return same_port and (listening == address or listening.is_unspecified)
