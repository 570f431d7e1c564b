# SPDX-License-Identifier: MIT
"""Where Docker looks for a plugin, in Docker's own order, and so which address it calls.

A managed plugin of that name comes first; then a socket in ``/run/docker/plugins``; then ``.spec`` and ``.json`` files.
Whatever comes before ours makes Docker call something else (docs/facts.md, "How Docker finds a plugin").
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "sshfs"

_SOCKETS = Path("run/docker/plugins")
_SPECS = (Path("etc/docker/plugins"), Path("usr/lib/docker/plugins"))
_MANAGED = Path("var/lib/docker/plugins")


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
    """

    file: Path
    address: str
    tls: TLS | None = None

    def leads_to(self, addresses: Iterable[str]) -> bool:
        """Tell whether it is one of these addresses, in the way in which specs write them."""
        ours = {address.partition("://")[2] for address in addresses}
        return self.address.partition("://")[2] in ours


def find(root: Path = Path("/"), name: str = NAME) -> Found | None:
    """Return what Docker finds first under the name of this plugin or another one, None if there is nothing."""
    return next(_everything(root, name), None)


def in_the_way(addresses: Iterable[str]) -> str:
    """Tell what Docker finds in place of these addresses; empty if it finds one of them, or nothing."""
    found = find()
    if found is None or found.leads_to(addresses):
        return ""
    what = f"calls {found.address}, by" if found.address else "uses the managed plugin in"
    return f"Docker {what} {found.file}, and not this plugin: remove that, and restart Docker"


def managed(root: Path = Path("/")) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield each managed plugin's directory, and what Docker has written down of the plugin."""
    for config in sorted((root / _MANAGED).glob("*/config.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            yield config.parent, json.loads(config.read_text())["plugin"]


def _everything(root: Path, name: str) -> Iterator[Found]:
    yield from _managed(root, name)
    for socket in _named(root / _SOCKETS, name, ".sock"):
        if socket.is_socket():
            yield Found(file=socket, address=f"unix:///{socket.relative_to(root)}")
    for directory in _SPECS:
        for kind in (".spec", ".json"):
            for file in _named(root / directory, name, kind):
                with suppress(OSError, ValueError, KeyError):  # Docker can't use it either
                    yield _spec(file) if kind == ".spec" else _described(file)


def _named(directory: Path, name: str, kind: str) -> Iterator[Path]:
    yield directory / f"{name}{kind}"
    yield directory / name / f"{name}{kind}"


def _managed(root: Path, name: str) -> Iterator[Found]:
    """Yield the managed plugins of a name, under which Docker finds them even if they are disabled."""
    tagged = name if ":" in name else f"{name}:latest"
    for directory, plugin in managed(root):
        if plugin.get("Name") == tagged:
            yield Found(file=directory, address="")


def _spec(file: Path) -> Found:
    return Found(file=file, address=file.read_text().strip())


def _described(file: Path) -> Found:
    described: dict[str, Any] = json.loads(file.read_text())
    tls = described.get("TLSConfig")
    return Found(
        file=file,
        address=described["Addr"],
        tls=TLS(authority=Path(tls["CAFile"]), certificate=Path(tls["CertFile"]), key=Path(tls["KeyFile"]))
        if tls
        else None,
    )
