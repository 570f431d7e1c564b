# SPDX-License-Identifier: MIT
"""The plugin's own socket, service and units, and whether Docker finds them."""

import os
from collections.abc import Iterator

from sshfs_plugin import errors
from sshfs_plugin.cli.doctor.finding import Finding, unless_fine
from sshfs_plugin.cli.status import IN_WORDS, SERVICE_SECONDS, SYSTEMD_SECONDS, ListedVolume, what_docker_lacks
from sshfs_plugin.discovery import docker
from sshfs_plugin.discovery.aliases import Aliases
from sshfs_plugin.discovery.client import Service
from sshfs_plugin.driver.values import WAY_OUT, Condition
from sshfs_plugin.holders import Client
from sshfs_plugin.mounts import systemd
from sshfs_plugin.mounts.supervisors import supervisor
from sshfs_plugin.mounts.systemd import SocketUnit, SystemdSupervisor
from sshfs_plugin.settings import Settings
from sshfs_plugin.state.records import HolderRecords, VolumeRecords
from sshfs_plugin.volume import VolumeName

_RESTARTS = {
    Client.DOCKER: "restart them: docker ps --filter volume={name} shows them",
    # it asks for a mount when the first of its containers starts, and for none while another one runs
    Client.PODMAN: "stop all of Podman's before you start one again: podman ps --filter volume={name} shows them",
}
"""What to do about containers that have lost their volume."""


def has_systemd(settings: Settings) -> bool:
    """Tell whether systemd keeps the volumes; where it does not, this is most often a container."""
    return isinstance(supervisor(settings), SystemdSupervisor)


def socket(settings: Settings, unit: SocketUnit) -> Iterator[Finding]:
    """Look whether the socket is open, and will be after the next boot."""
    if not has_systemd(settings):
        return
    state = unit.state
    unmask = f"systemctl unmask {systemd.SOCKET} && " if state.endswith("masked") else ""
    if state.startswith("failed"):
        yield Finding.error(
            "socket-failed",
            f"{systemd.SOCKET} is closed, since the service has failed too often",
            f"journalctl -u docker-volume-sshfs tells why; then {unmask}"
            f"systemctl reset-failed 'docker-volume-sshfs*' && systemctl start {systemd.SOCKET}",
        )
    elif not state.startswith("active"):
        yield Finding.error(
            "socket-closed",
            f"{systemd.SOCKET} is closed, {state or 'unknown to systemd'}",
            f"{unmask}systemctl enable --now {systemd.SOCKET}",
        )
    elif unit.is_enabled:
        yield Finding.fine("socket", f"the socket is open, {', '.join(unit.listens)}")
    else:
        yield Finding.warning(
            "socket-disabled",
            f"{systemd.SOCKET} is open, but will not be after the next boot",
            f"{unmask}systemctl enable {systemd.SOCKET}",
        )


def service(settings: Settings, unit: SocketUnit) -> Iterator[Finding]:
    """Look whether the service answers, and whether its volumes are well."""
    if not _may_be_open(settings, unit):
        return
    running = Service.of(settings, unit.listens, seconds=SERVICE_SECONDS)
    try:
        volumes = [ListedVolume(said) for said in running.volumes()]
        conditions = {volume.name: volume.condition for volume in volumes}
    except errors.ServiceError as error:
        yield Finding.of("service-silent", error)
        return
    yield Finding.fine("service", f"the service answers, and has {len(volumes)} volume{'s' * (len(volumes) != 1)}")
    yield from _plain_ports(running, unit)
    for volume in volumes:
        condition = conditions[volume.name]
        words = f"the volume '{volume.name}' is {IN_WORDS[condition]}"
        if condition is Condition.UNRESPONSIVE:
            cure = f"docker-volume-sshfs check {volume.name} tells what is wrong with its server, and "
            yield Finding.error(f"volume-{condition}", words, cure + WAY_OUT.format(name=volume.name))
        elif condition in (Condition.REMOUNTED, Condition.LOST):
            yield Finding.error(f"volume-{condition}", words, _restart(settings, VolumeName(volume.name)))
        elif volume.last_error and condition is Condition.MOUNTED and not volume.status["holders"]:
            yield Finding.warning(
                "volume-left",
                f"nobody holds the volume '{volume.name}', and it stays mounted, {volume.last_error}",
                f"docker-volume-sshfs release {volume.name} tries again, with --force also if something uses it",
            )
        elif volume.last_error and condition is not Condition.UNUSABLE:
            yield Finding.warning(
                "volume-failed",
                f"the last call for the volume '{volume.name}' has failed, {volume.last_error}",
                f"to see whether it works now: docker-volume-sshfs check {volume.name}",
            )


def _restart(settings: Settings, name: VolumeName) -> str:
    """Return how the containers that hold a volume get it back."""
    holders = HolderRecords(settings.holders).read(name).by_id.values()
    clients = {holder.client for holder in holders} or {Client.DOCKER}
    return "; ".join(words.format(name=name) for client, words in _RESTARTS.items() if client in clients)


def _plain_ports(running: Service, unit: SocketUnit) -> Iterator[Finding]:
    """Look for ports where the service, which has answered, asks for no certificate."""
    if running.address.startswith("https:"):  # then it does at all of them
        return
    for address in unit.listens:
        if address.startswith("tcp:"):
            yield Finding.warning(
                "plain-tcp",
                f"every user of this host can call the service at {address}, and so act as root",
                f"{errors.WAYS_IN} tells how to ask for certificates there",
            )


def units(settings: Settings) -> Iterator[Finding]:
    """Look for units that have failed, and for those of volumes that do not exist."""
    if has_systemd(settings):
        yield from unless_fine(_wrong_units(settings), "units", "no unit has failed")


def _wrong_units(settings: Settings) -> Iterator[Finding]:
    names, mounted = set(VolumeRecords.of(settings).names()), supervisor(settings).mounted()
    # the pattern stands for what is loaded, and nothing may be
    states = systemd.states([systemd.SOCKET, "docker-volume-sshfs*"], seconds=SYSTEMD_SECONDS)
    if not states:
        yield Finding.warning("units", "systemd does not tell the states of units", "systemctl status")
    for unit, state in sorted(states.items()):
        volume = systemd.volume_of(unit)
        if state.startswith("failed") and unit != systemd.SOCKET:
            yield Finding.warning(
                "unit-failed",
                f"{unit} has failed",
                f"journalctl -u {unit} tells why; systemctl reset-failed {unit} lets it be forgotten",
            )
        elif unit == systemd.SERVICE and state.endswith("masked"):
            yield Finding.error("unit-masked", f"{unit} is masked, so it can't be started", f"systemctl unmask {unit}")
        elif volume and volume not in names and state.startswith("active"):
            yield Finding.warning(
                "unit-left",
                f"{unit} runs, and there is no volume of that name",
                f"docker-volume-sshfs release {volume} unmounts it, if nothing uses it"
                if volume in mounted
                else f"systemctl stop {unit} takes it away from the containers that go on using it",
            )


def spec(settings: Settings, unit: SocketUnit) -> Iterator[Finding]:
    """Look whether Docker finds this service, and nothing else in its place."""
    if hiding := Aliases.of(settings).hiding(unit.listens):
        for what, cure in hiding:
            yield Finding.error("spec-shadowed", what, cure)
        return
    lacks, link = what_docker_lacks(settings), settings.root / docker.SPECS / f"{docker.NAME}.spec"
    if lacks and not os.path.lexists(link):
        yield Finding.error("spec-missing", *lacks)
    elif not _may_be_open(settings, unit):  # what the link leads to is there as long as the socket is open
        return
    elif unit.listens and lacks:
        yield Finding.error("spec-broken", *lacks)
    elif unit.listens:
        yield Finding.fine("spec", "Docker finds this plugin under its name")


def _may_be_open(settings: Settings, unit: SocketUnit) -> bool:
    """Tell whether the socket is open, as far as systemd can tell."""
    return not has_systemd(settings) or unit.state.startswith("active")
