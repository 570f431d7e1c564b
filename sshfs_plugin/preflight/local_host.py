# SPDX-License-Identifier: MIT
"""The check of the options: whether this host can do what they ask. No server is asked."""

import re
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.host import command, interfaces, local_files
from sshfs_plugin.ssh import sshfs
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.ssh.known_hosts import KnownHosts
from sshfs_plugin.volume import Volume, at_jump_host

_SECONDS = 10.0


def require_able(volume: Volume, login: Login, known_hosts: KnownHosts) -> None:
    """Raise an error unless ssh, sshfs and this host can do what a volume's options ask.

    Raises:
        InvalidOption: The first option that they can't follow, and why.
        FileStuck: The file system of a file that an option names does not answer.
    """
    sshfs_options = dict(volume.sshfs_options)
    for name in ("uidfile", "gidfile"):
        if file := sshfs_options.get(name):
            _require_file(name, Path(file))
    if volume.known_hosts:
        (file_named,) = known_hosts.reading(volume.known_hosts).others
        _require_file("known_hosts", file_named)
    if interface := volume.keywords.get("BindInterface"):
        _require_interface(interface)
    if "modules" in sshfs_options:
        for name in ("from_code", "to_code"):
            _require_charset(name, sshfs_options.get(name))
    for jump in volume.jumps:
        with at_jump_host(jump):
            if interface := jump.keywords.get("BindInterface"):
                _require_interface(interface)
    if any(keyword in each.options for each in (volume, *volume.jumps) for keyword, _ in each.ssh_options):
        _require_understood(sshfs.ssh_config(volume, login, known_hosts))


def _require_file(option: str, file: Path) -> None:
    try:
        local_files.look(file)
    except FileNotFoundError:
        what, hint = local_files.absence(file, "make it first")
        raise errors.InvalidOption(option, f"names {file}, which {what}: {hint}") from None
    except OSError as error:
        raise errors.InvalidOption(option, f"names {file}, which can't be seen ({error.strerror})") from None
    if not local_files.is_file(file) and file != sshfs.NOWHERE:
        raise errors.InvalidOption(option, f"names {file}, which is not a file")


def _require_interface(name: str) -> None:
    if not interfaces.exists(name):
        raise errors.InvalidOption("BindInterface", "names a network interface that this host does not have")


def _require_charset(option: str, name: str | None) -> None:
    if name and command.run(["iconv", "-f", name, "-t", "UTF-8", sshfs.NOWHERE], seconds=_SECONDS).returncode:
        raise errors.InvalidOption(option, "is a character set that iconv does not know, as iconv -l lists them")


def _require_understood(ssh_config: str) -> None:
    """Let ssh read the configuration that it will get. Raises InvalidOption for the keyword that ssh complains of."""
    said = command.run(["ssh", "-T", "-G", "-F", "/dev/stdin", "host"], seconds=_SECONDS, reads=ssh_config).stderr
    if complaint := re.search(r"line (\d+): (.+)", said):
        keyword = ssh_config.splitlines()[int(complaint[1]) - 1].split()[0]
        raise errors.InvalidOption(keyword, f"is not what ssh takes, it says: {complaint[2].strip()}")
