# SPDX-License-Identifier: MIT
"""``status``: shows the volumes as the running service and systemd see them, as a table or as JSON."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sshfs_plugin import errors, options
from sshfs_plugin.cli import terminal
from sshfs_plugin.cli.exits import Exit
from sshfs_plugin.discovery import docker
from sshfs_plugin.discovery.aliases import Aliases
from sshfs_plugin.discovery.client import Service
from sshfs_plugin.driver.values import Condition
from sshfs_plugin.host import journal
from sshfs_plugin.mounts import systemd
from sshfs_plugin.mounts.supervisors import supervisor
from sshfs_plugin.settings import Settings
from sshfs_plugin.state.records import VolumeRecords
from sshfs_plugin.volume import VolumeName, known

SERVICE_SECONDS = 25.0
"""An open socket may have to start the service first, for which systemd gives it 20 seconds."""

SYSTEMD_SECONDS = 5.0

IN_WORDS: Mapping[Condition, str] = {
    Condition.UNMOUNTED: "not mounted",
    Condition.MOUNTED: "mounted",
    Condition.UNRESPONSIVE: "mounted, but the server does not answer",
    Condition.REMOUNTED: "mounted anew, and lost to containers that had it before",
    Condition.LOST: "not mounted, although containers hold it",
    Condition.UNUSABLE: "unusable",
}
"""The conditions of volumes, in words for people."""


@dataclass(frozen=True, slots=True)
class ListedVolume:
    """A volume as the service describes it.

    Attributes:
        said: What List says of it.
    """

    said: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.said["Name"])

    @property
    def status(self) -> Mapping[str, Any]:
        """Its ``Status``."""
        status: Mapping[str, Any] = self.said["Status"]
        return status

    @property
    def condition(self) -> Condition:
        """Its condition. Raises ServiceError."""
        try:
            return Condition(self.status["state"])
        except ValueError:
            raise errors.ServiceError(
                "the plugin's service is of another version than this command",
                "systemctl restart docker-volume-sshfs, which leaves volumes mounted",
            ) from None

    @property
    def remote(self) -> str:
        """Its server and directory."""
        return str(self.status.get("remote", "unknown"))

    @property
    def unit(self) -> str:
        """The unit that it has while it is mounted; empty where there is no systemd."""
        return str(self.status.get("unit", ""))

    @property
    def last_error(self) -> str:
        """Its last error; empty if there is none."""
        return str(self.status.get("lastError", ""))

    def row(self, states: Mapping[str, str]) -> tuple[str, ...]:
        """Return the row of the table; ``states`` has the states of units by name, and none if systemd is silent."""
        holders, unit = str(self.status["holders"]), states.get(self.unit, "none")
        if self.unit and not states:
            unit = "unknown"
        return self.name, IN_WORDS[self.condition], holders, unit, self.remote, self.last_error

    @property
    def facts(self) -> dict[str, Any]:
        """The volume as in JSON."""
        return {
            "name": self.name,
            "mountpoint": self.said["Mountpoint"],
            "createdAt": self.said.get("CreatedAt", ""),
            **self.status,
        }


def status(settings: Settings, name: str | None, *, as_json: bool) -> Exit:
    """Show one volume or all; return FINE if these are well, and if Docker finds this plugin.

    Raises:
        VolumeNotFound: There is no volume of that name.
        ServiceError: The service can't be asked; the error says what to do.
    """
    listens = systemd.listening(systemd.SOCKET, seconds=SYSTEMD_SECONDS)
    volumes = listed(settings, listens)
    if name is not None:
        volumes = [volume for volume in volumes if volume.name == name]
        if not volumes:
            raise errors.VolumeNotFound(name, errors.IS_IT_LOCAL)
    own_units = [systemd.SOCKET, systemd.SERVICE]
    states = systemd.states([*own_units, *(volume.unit for volume in volumes if volume.unit)], seconds=SYSTEMD_SECONDS)
    in_the_way = "; ".join(str(each) for each in Aliases.of(settings).hiding(listens))
    if listens and not in_the_way and (unfound := what_docker_lacks(settings)):
        in_the_way = str(unfound)
    if as_json:
        told = [
            {**volume.facts, "unitState": states.get(volume.unit, ""), **_told_options(settings, volume)}
            for volume in volumes
        ]
        terminal.say_json(
            {"units": {unit: states.get(unit, "") for unit in own_units}, "inTheWay": in_the_way, "volumes": told}
        )
    elif name is not None:
        _show(settings, volumes[0], states)
    else:
        _show_all(volumes, states)
    if in_the_way:
        terminal.say(in_the_way, colour="red", error=True)
    return Exit.FINE if not in_the_way and all(volume.condition.is_well for volume in volumes) else Exit.BROKEN


def what_docker_lacks(settings: Settings) -> docker.Hiding | None:
    """Return why Docker finds nothing under the plugin's name; None if it finds something."""
    if docker.find(settings.root):
        return None
    link = settings.root / docker.SPECS / f"{docker.NAME}.spec"
    if not os.path.lexists(link):
        return docker.Hiding(f"Docker can't find the plugin, {link} is missing", f"ln -s {settings.spec} {link}")
    return docker.Hiding(
        f"Docker can't find the plugin, {settings.spec} is missing", f"systemctl restart {systemd.SOCKET} writes it"
    )


def listed(settings: Settings, listens: Sequence[str]) -> list[ListedVolume]:
    """Return all volumes, as the service that listens there lists them.

    Raises:
        ServiceError: It can't be asked; the error says what to do.
    """
    service = Service.of(settings, listens, seconds=SERVICE_SECONDS)
    try:
        return [ListedVolume(said) for said in service.volumes()]
    except errors.ServiceError as error:
        raise _with_the_sockets_state(error) from None


def shown_options(settings: Settings, name: VolumeName) -> dict[str, str]:
    """Return the recorded options without the password; empty if the record is unusable, or has gone meanwhile."""
    recorded: Mapping[str, str] = {}
    with suppress(errors.RecordUnusable):
        recorded = known(VolumeRecords.of(settings).read(name)).given
    return options.shown(recorded)


def _told_options(settings: Settings, volume: ListedVolume) -> dict[str, Any]:
    """Return a volume's options as in JSON, with a digest of them, which is empty where they can't be read.

    The digest is of the options as they are shown: one of a password could be tried out against a list of passwords.
    """
    options = shown_options(settings, VolumeName(volume.name))
    text = json.dumps(options, sort_keys=True).encode()
    return {"options": options, "optionsDigest": hashlib.sha256(text).hexdigest()[:16] if options else ""}


def _with_the_sockets_state(error: errors.ServiceError) -> errors.ServiceError:
    """Add to an error why the socket is closed: it is masked, or has failed, since the service can't start."""
    state = systemd.states([systemd.SOCKET], seconds=SYSTEMD_SECONDS).get(systemd.SOCKET, "")
    if state.startswith("failed"):
        return errors.ServiceError(
            f"{error.sentence}, the service has failed too often",
            "journalctl -u docker-volume-sshfs tells why; systemd opens the socket again within three minutes, and "
            f"systemctl reset-failed 'docker-volume-sshfs*' && systemctl start {systemd.SOCKET} at once",
        )
    if state.startswith("inactive") and state.endswith("masked"):
        return errors.ServiceError(
            f"{error.sentence}, it is masked", f"systemctl unmask {systemd.SOCKET}; {error.hint}"
        )
    return error


def _show_all(volumes: list[ListedVolume], states: Mapping[str, str]) -> None:
    for unit in (systemd.SOCKET, systemd.SERVICE):
        if unit in states:
            terminal.say(f"{unit}: {states[unit]}")
    if not volumes:
        terminal.say("There are no volumes.")
        return
    header = ("NAME", "STATE", "HOLDERS", "UNIT", "REMOTE", "LAST ERROR")
    terminal.table(header, [volume.row(states) for volume in volumes])


def _logs(settings: Settings, name: str) -> dict[str, str]:
    """Return the lines on where the words about a volume are, and those of its sshfs while it is mounted."""
    if unit := supervisor(settings).unit(VolumeName(name)):
        return {"its calls": f"journalctl -u docker-volume-sshfs VOLUME={name}", "its sshfs": f"journalctl -u {unit}"}
    return {"its calls": journal.PRINTED, "its sshfs": str(settings.logs / name)}


def _show(settings: Settings, volume: ListedVolume, states: Mapping[str, str]) -> None:
    facts = volume.facts
    typed = shown_options(settings, VolumeName(volume.name))
    in_file = f"see docker-volume-sshfs remote show {typed['remote']}" if "remote" in typed else "unknown"
    lines = {
        "name": volume.name,
        "remote": volume.remote,
        "state": IN_WORDS[volume.condition],
        "since": f"{facts.get('since', 'unknown')} or longer",
        "mountpoint": facts["mountpoint"] or "none",
        "holders": str(facts["holders"]),
        "unit": f"{volume.unit}, {states[volume.unit]}" if volume.unit in states else volume.unit or "none",
        "last error": f"{volume.last_error} ({facts['lastErrorAt']})" if volume.last_error else "none",
        "access": facts.get("access", in_file),
        "host key": facts.get("hostKey", in_file),
        "created": facts["createdAt"] or "unknown",
        "options": ", ".join(f"{option}={value}" for option, value in typed.items()),
        **_logs(settings, volume.name),
    }
    for line, text in lines.items():
        terminal.say(f"{line + ':':<12}{text}")
