# SPDX-License-Identifier: MIT
"""Files on this host: keys and passwords, remotes, records, known hosts, and what is left over."""

import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from itertools import chain

from sshfs_plugin import errors
from sshfs_plugin.cli import secrets
from sshfs_plugin.cli.doctor.finding import Finding, unless_fine
from sshfs_plugin.cli.remotes import volume_of
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.host import local_files
from sshfs_plugin.mounts.connections import SharedConnections
from sshfs_plugin.mounts.supervisor import Supervisor
from sshfs_plugin.mounts.supervisors import supervisor
from sshfs_plugin.mounts.systemd import connection_unit
from sshfs_plugin.options.remotes import Remotes
from sshfs_plugin.options.values import NO
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.credentials import Keyring
from sshfs_plugin.ssh.known_hosts import KnownHosts
from sshfs_plugin.state.records import VolumeRecords
from sshfs_plugin.volume import Credentials, Record, Unresolved, Unusable, Volume, VolumeName

KEYS_SECONDS = 30.0
IDLE_SECONDS = 600.0
"""A shared connection that no volume uses ends after five minutes."""


def keys(settings: Settings) -> Iterator[Finding]:
    """Look whether the keys and passwords of all volumes, jump hosts and remotes can be used, and the default key."""
    users: dict[Credentials, list[str]] = {}
    for volume in _volumes(settings):
        for credentials in dict.fromkeys(each.credentials for each in (volume, *volume.jumps)):
            users.setdefault(credentials, []).append(volume.name)
    for name in Remotes.of(settings).names():
        with suppress(errors.PluginError):  # which `remotes` tells
            credentials = volume_of(settings, name).credentials
            if credentials != Credentials():
                users.setdefault(credentials, [f"the remote '{name}'"])
    if local_files.exists(settings.default_key):
        users.setdefault(Credentials(), [])
    if users:
        unusable = _unusable_keys(Keyring.of(settings), users, hidden=secrets.are_hidden(settings, users))
        yield from unless_fine(unusable, "keys", "the keys and passwords of all volumes and remotes can be used")


def _unusable_keys(keyring: Keyring, users: Mapping[Credentials, list[str]], *, hidden: bool) -> Iterator[Finding]:
    """Look whether credentials can be used, each of which is given with the names of its volumes."""
    deadline = Deadline.after(KEYS_SECONDS)
    for number, (credentials, volumes) in enumerate(users.items()):
        if not deadline.left():
            left = len(users) - number
            yield Finding.warning(
                "keys", f"{left} keys or passwords were not looked at, the others took too long", "see above"
            )
            return
        try:
            with secrets.explained(hidden=hidden):
                keyring.login(credentials)
        except (errors.CredentialsError, errors.InvalidOption) as error:
            whose = f" (for {', '.join(volumes)})" if volumes else ""
            yield Finding.error("key-unusable", f"{error.sentence}{whose}", error.hint)


def remotes(settings: Settings) -> Iterator[Finding]:
    """Look whether the files of all remotes can be used."""
    names, misnamed = Remotes.of(settings).names(), Remotes.of(settings).misnamed()
    if names or misnamed:
        unusable = chain(_unusable_remotes(settings, names), (Finding.of("remote-unusable", each) for each in misnamed))
        yield from unless_fine(unusable, "remotes", "the files of all remotes can be used")


def _unusable_remotes(settings: Settings, names: Iterable[str]) -> Iterator[Finding]:
    for name in names:
        try:
            volume_of(settings, name)
        except errors.PluginError as error:
            yield Finding.of("remote-unusable", error)


def records(settings: Settings) -> Iterator[Finding]:
    """Look whether the records of all volumes can be used, each with the file of its remote."""
    read = _records(settings)
    broken = [record for record in read if isinstance(record, Unusable | Unresolved)]
    for record in broken:
        whose = "" if isinstance(record, Unusable) else f"the volume '{record.name}' can't be used, "
        yield Finding.error("record-unusable", f"{whose}{record.error.sentence}", record.error.hint)
    if read and not broken:
        yield Finding.fine("records", "the records of all volumes can be used")


def relay(settings: Settings) -> Iterator[Finding]:
    """Look for volumes that go without the relay, and so meet sshfs #224."""
    for volume in _volumes(settings):
        if volume.read_seconds is None:
            off = [f"{name}=no" for name in ("relay", "reconnect") if volume.options.get(name) == NO]
            yield Finding.warning(
                "relay-off",
                f"the volume '{volume.name}' has {' and '.join(off)}: a read that a lost connection cuts off "
                "looks like the end of the file (sshfs #224)",
                f"docker volume rm {volume.name}, and create it without {'that' if len(off) == 1 else 'those'}",
            )


def known_hosts(settings: Settings) -> Iterator[Finding]:
    """Look for lines of the plugin's own known hosts that mean nothing to ssh."""
    file = settings.known_hosts
    lines = KnownHosts.of(settings).faulty_lines()
    if lines:
        where = ", ".join(str(number) for number in lines)
        # all at once: when a line is gone, those below it have other numbers
        script = ";".join(f"{number}d" for number in lines)
        yield Finding.warning(
            "known-hosts-faulty",
            f"{file} can't be understood in line {where}, so a server there would be taken for a new one",
            f"sed -i {shlex.quote(script)} {shlex.quote(str(file))}",
        )
    elif file.exists():
        yield Finding.fine("known-hosts", f"{file} can be understood")


def left_overs(settings: Settings) -> Iterator[Finding]:
    """Look for mountpoints, mounts and connections that no volume has."""
    names, mounts = set(VolumeRecords.of(settings).names()), supervisor(settings)
    left = chain(_mountpoints(mounts, names), _mounts(mounts, names), _connections(settings))
    yield from unless_fine(left, "left-overs", "nothing is left of volumes that do not exist")


def _mountpoints(mounts: Supervisor, names: Set[str]) -> Iterator[Finding]:
    for name in sorted(mounts.left_over() - names):
        path = shlex.quote(str(mounts.settings.mounts / name))
        yield Finding.warning(
            "mountpoint-left",
            f"the mountpoint {path} is left over: there is no such volume, and nothing is mounted there",
            f"look what is in it; then chattr -i {path} && rmdir {path}",
        )


def _mounts(mounts: Supervisor, names: Set[str]) -> Iterator[Finding]:
    for name in sorted(mounts.mounted().keys() - names):
        cure = f"docker-volume-sshfs release {name}, which leaves it if it is used"
        yield Finding.warning(
            "mount-left", f"{mounts.mountpoint(VolumeName(name))} is mounted, and no volume has it", cure
        )


def _connections(settings: Settings) -> Iterator[Finding]:
    for connection in SharedConnections(settings).all():
        unit = connection_unit(connection)
        if connection.is_being_made or connection.failed_just_now:
            continue
        if not connection.stands:
            cure = "systemctl restart docker-volume-sshfs.service removes it"
            yield Finding.warning(
                "connection-ended", f"of a shared connection that has ended, {connection.directory} is left", cure
            )
        elif connection.hangs or connection.is_silent:
            users = ", ".join(sorted(connection.shared_by)) or "nothing"
            cure = f"systemctl stop {unit}: whatever uses it connects by itself then"
            yield Finding.warning("connection-hangs", f"a shared connection hangs, which {users} uses", cure)
        elif not connection.shared_by and time.time() - connection.volumes.stat().st_mtime > IDLE_SECONDS:
            yield Finding.warning(
                "connection-unused", "a shared connection stands that no volume uses", f"systemctl stop {unit}"
            )


def _records(settings: Settings) -> list[Record]:
    records = VolumeRecords.of(settings)
    return [records.read(VolumeName(name)) for name in records.names()]


def _volumes(settings: Settings) -> list[Volume]:
    return [record for record in _records(settings) if isinstance(record, Volume)]
