# SPDX-License-Identifier: MIT
"""Where this host gets Debian from, and how it reaches it, for a root of whatever release."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .commands import on_host


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    uri: str
    suite: str


def _host_codename() -> str:
    text = Path("/etc/os-release").read_text("utf-8")
    found = re.search(r"^VERSION_CODENAME=\"?(\w+)", text, re.MULTILINE)
    is_debian = re.search(r"^ID=\"?debian\"?$", text, re.MULTILINE)
    return found[1] if found and is_debian else ""


def _index_targets(*options: str) -> Iterator[tuple[str, str, str, str]]:
    """Ask apt, which reads all formats of sources, for URI, suite, component and origin of each."""
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)"
    argv = ("apt-get", "indextargets", *options, "--format", form, "Created-By: Packages")
    answer = on_host(*argv, check=False)
    for line in answer.stdout.splitlines():
        uri, suite, component, origin = line.split(" ", 3)
        yield uri, suite, component, origin


def _first_mirror(uri: str) -> str:
    """Return the first of a list of mirrors, which debootstrap can't read; another URI as it is."""
    if not uri.startswith("mirror+file:"):
        return uri
    path = "/" + uri.removeprefix("mirror+file:").strip("/")
    return Path(path).read_text("utf-8").split()[0]


def sources(release: str) -> tuple[_Source, ...]:
    """Return where the host gets Debian from, for another release; the release itself first.

    Raises:
        AssertionError: The host has no such source.
    """
    names = f"{_host_codename() or '(?!)'}|(?:old)*stable|testing|unstable|sid"
    ours = re.compile(rf"(?:{names})(|-updates|-security)")
    # the suites of others are often named like Debian's: a list that was fetched tells whose it is
    foreign = {uri for uri, _, _, origin in _index_targets() if origin != "Debian"}
    # but most images of containers hold no lists, so that those can't be relied on alone
    found = {
        _Source(uri=_first_mirror(uri), suite=release + suffix[1])
        for uri, suite, component, _ in _index_targets("--no-release-info")
        if component == "main" and uri not in foreign and (suffix := ours.fullmatch(suite))
    }
    usable = [source for source in found if source.uri.startswith(("http:", "https:"))]
    usable.sort(key=lambda source: (len(source.suite), source.suite, source.uri))
    assert (
        usable and usable[0].suite == release
    ), "the lab installs Debian from where this host does, but apt knows no http or https source of Debian here"
    return tuple(usable)


def apt_settings() -> str:
    """Return the host's settings of how to reach a mirror.

    The rest stays behind: hooks call programs that the root lacks, and what images of containers
    bring along empties its caches.
    """
    dump = on_host("apt-config", "dump", "--no-empty", "--format", '%F "%v";%n', "Acquire").stdout
    leave = tuple(f"Acquire::{tree}::" for tree in ("IndexTargets", "Changelogs", "CompressionTypes", "cdrom"))
    return "".join(f"{line}\n" for line in dump.splitlines() if not line.startswith(leave))
