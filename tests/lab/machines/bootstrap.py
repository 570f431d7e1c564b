# SPDX-License-Identifier: MIT
"""The smallest Debian in a directory, and how to run scripts and fetch packages in it."""

import shutil
from pathlib import Path

from .commands import ENVIRONMENT, on_host
from .sources import apt_settings, sources


def _isolated(log: Path, *argv: str | Path) -> None:
    """Run a step of the making so that it leaves no process and no mount, even when interrupted."""
    flags = "--mount --propagation=private --pid --fork --kill-child --mount-proc"
    # half an hour, for an archive behind a slow link
    result = on_host("unshare", *flags.split(), *argv, timeout=1800, check=False)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{result}\n")
    if not result:
        ends = f"{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
        raise AssertionError(f"cannot make a root ({argv[0]} failed, all of it in {log})\n{ends}")


def in_root(log: Path, root: Path, script: str, *args: str) -> None:
    """Run a script in a root that is being made."""
    enter = 'mount -t proc proc "$0/proc" && exec chroot "$0" /bin/sh -eu -c "$@"'
    settings = {**ENVIRONMENT, "DEBIAN_FRONTEND": "noninteractive"}
    environment = (f"{name}={value}" for name, value in settings.items())
    _isolated(log, "env", *environment, "sh", "-c", enter, root, script, "lab", *args)


def debootstrap(log: Path, root: Path, release: str, *flags: str) -> None:
    """Make the smallest Debian."""
    log.unlink(missing_ok=True)
    _isolated(log, "debootstrap", "--variant=minbase", *flags, release, root, sources(release)[0].uri)
    # a strict umask may have made it, and alice has to pass through "/"
    root.chmod(0o755)


def let_fetch(root: Path, release: str) -> None:
    """Let apt in a root fetch packages from where this host does."""
    found = sources(release)
    put(root, "/etc/apt/sources.list", "".join(f"deb {s.uri} {s.suite} main\n" for s in found))
    put(root, "/etc/apt/apt.conf.d/99lab", apt_settings())
    trusted = ("etc/apt/trusted.gpg.d", "etc/apt/keyrings", "usr/local/share/ca-certificates")
    for directory in trusted:
        _copy_absent(Path("/", directory), root / directory)
    shutil.copy("/etc/resolv.conf", root / "etc")


def put(root: Path, path: str, text: str, mode: int = 0o644) -> None:
    """Write a file of a root, with its directories."""
    target = root / path.lstrip("/")
    missing = [directory for directory in target.parents if not directory.exists()]
    for directory in reversed(missing):
        directory.mkdir()
        directory.chmod(0o755)
    target.unlink(missing_ok=True)
    target.write_text(text, "utf-8")
    target.chmod(mode)


def _copy_absent(source: Path, target: Path) -> None:
    """Copy the files of a directory of the host; what the release brings itself stays."""
    if not source.is_dir():
        return
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.is_file() and not (target / file.name).exists():
            shutil.copy(file, target)
