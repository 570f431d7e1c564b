# SPDX-License-Identifier: MIT
"""This host: FUSE, the programs that are run, their versions, and the clock."""

import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.cli.doctor.finding import Finding, unless_fine
from sshfs_plugin.host import command

FUSE = Path("/dev/fuse")
SECONDS = 5.0

PROGRAMS = {
    "sshfs": "sshfs",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "findmnt": "util-linux",
    "umount": "mount",
    "chattr": "e2fsprogs",
}
"""The programs that are run for volumes, with the packages that they are in."""

MENDED = (
    ("sshfs", "3.7.3-1.2~", "CVE-2026-47187 and CVE-2026-48711"),
    ("openssh-client", "1:9.2p1-2+deb12u2", "CVE-2023-48795 (Terrapin) and CVE-2023-51385"),
    ("openssh-client", "1:9.2p1-2+deb12u5", "CVE-2025-26465"),
)
"""Packages of Debian with faults that count for volumes, and the first version without them (its changelog says so)."""


def fuse() -> Iterator[Finding]:
    """Look whether a FUSE file system could be mounted."""
    try:
        is_device = stat.S_ISCHR(FUSE.stat().st_mode)
        if is_device:
            os.close(os.open(FUSE, os.O_RDWR | os.O_CLOEXEC))
        why = "" if is_device else "is no device"
    except OSError as error:
        why = f"can't be opened ({error.strerror})"
    if why:
        cure = "modprobe fuse; where this host is a container itself, its manager has to give it /dev/fuse"
        yield Finding.error("fuse-missing", f"nothing can be mounted, {FUSE} {why}", cure)
    else:
        yield Finding.fine("fuse", f"{FUSE} is there")


def programs() -> Iterator[Finding]:
    """Look for the programs that are run for volumes."""
    missing = {name: package for name, package in PROGRAMS.items() if not shutil.which(name)}
    for name, package in missing.items():
        yield Finding.error("program-missing", f"the program {name} is missing", f"apt install --reinstall {package}")
    if not missing:
        yield Finding.fine("programs", "all programs that are run for volumes are there")


def versions() -> Iterator[Finding]:
    """Look for versions that have known faults; where dpkg does not know a package, nobody can tell."""
    if shutil.which("dpkg-query"):
        what = "sshfs and ssh have none of the faults that are known to this command"
        yield from unless_fine(_faulty_versions(), "versions", what)


def _faulty_versions() -> Iterator[Finding]:
    for package, mended, faults in MENDED:
        version = command.run(["dpkg-query", "-W", "-f", "${Version}", package], seconds=SECONDS).stdout.strip()
        if (
            version
            and not command.run(["dpkg", "--compare-versions", version, "lt", mended], seconds=SECONDS).returncode
        ):
            yield Finding.warning(
                "version-faulty",
                f"{package} {version} has {faults}, which are mended in {mended.removesuffix('~')}",
                f"apt update && apt install --only-upgrade {package}",
            )


def clock() -> Iterator[Finding]:
    """Look whether the clock can be right: certificates and the times of files depend on it."""
    made = Path(__file__).stat().st_mtime
    if time.time() < made:
        yield Finding.error(
            "clock-wrong", "the clock is wrong, it shows a time before this version", "timedatectl set-ntp true"
        )
        return
    try:
        asked = command.run(["timedatectl", "show", "-P", "NTPSynchronized"], seconds=SECONDS).stdout.strip()
    except errors.ProgramError:
        return
    if asked == "no":
        cure = "apt install systemd-timesyncd, unless this host has its time from elsewhere"
        yield Finding.warning("clock-unsynchronised", "the clock is not synchronised with a server", cure)
    elif asked:
        yield Finding.fine("clock", "the clock is synchronised")
