# SPDX-License-Identifier: MIT
"""Docker and Podman, and the plugin vieux/sshfs that may still be there."""

import json
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sshfs_plugin import errors
from sshfs_plugin.cli.doctor.finding import Finding
from sshfs_plugin.discovery.docker import NAME
from sshfs_plugin.host import command
from sshfs_plugin.mounts import systemd
from sshfs_plugin.mounts.systemd import SocketUnit
from sshfs_plugin.settings import Settings
from sshfs_plugin.vieux import legacy

SECONDS = 10.0
_UNIT, _SOCKET = "docker.service", "docker.socket"
_CONTAINERS = "etc/containers"
_OURS = "containers.conf.d/10-docker-volume-sshfs.conf"


def docker() -> Iterator[Finding]:
    """Look whether Docker runs, answers, and has taken this driver up."""
    if not shutil.which("docker"):
        if shutil.which("dockerd"):
            yield Finding.warning(
                "docker-client-missing",
                "Docker's own command is missing, so Docker can't be asked here, nor told of the driver when it starts",
                "apt install docker-cli",
            )
        elif not shutil.which("podman"):
            yield Finding.error("engine-missing", "neither Docker nor Podman is installed", "apt install docker.io")
        return
    # who uses Podman may have Docker's command without its engine
    judged = Finding.warning if shutil.which("podman") else Finding.error
    cure = "systemctl start docker; journalctl -u docker tells why it does not run"
    states = systemd.states([_UNIT, _SOCKET], seconds=SECONDS)
    state = states.get(_UNIT, "")
    is_at_rest = state.startswith(("inactive", "deactivating")) and not state.endswith("masked")
    if is_at_rest and states.get(_SOCKET, "").startswith("active"):
        yield Finding.fine("docker", f"Docker is not running, and {_SOCKET} starts it at its first use")
        return
    if state and not state.startswith(("active", "activating", "reloading")):
        # its socket may be open, and then to ask it would start it
        unmask = f"systemctl unmask {_UNIT}; " if state.endswith("masked") else ""
        yield judged("docker-stopped", f"Docker is not running, {_UNIT} is {state}", unmask + cure)
        return
    try:
        asked = command.run(["docker", "info", "--format", "{{json .Plugins.Volume}}"], seconds=SECONDS)
        drivers = json.loads(asked.stdout or "null")
    except errors.ProgramStuck as error:
        yield Finding.error("docker-silent", f"Docker does not answer, {error.sentence}", "systemctl status docker")
        return
    except ValueError:
        drivers = None
    if asked.returncode or not isinstance(drivers, list):
        said = errors.last_words(asked.stderr.splitlines()) or "it does not say why"
        yield judged("docker-unreachable", f"Docker can't be reached, {said}", cure)
    elif NAME in drivers:
        yield Finding.fine("docker", "Docker answers, and has taken the driver up")
    else:
        yield Finding.warning(
            "docker-unaware",
            "Docker answers, but has not taken the driver up, so Swarm would give it no task with a volume of it",
            "systemctl restart docker-volume-sshfs-activate.service, or use a volume",
        )


def podman(settings: Settings, unit: SocketUnit) -> Iterator[Finding]:
    """Look whether Podman is told of this plugin; where Docker is, it need not be."""
    if not shutil.which("podman"):
        return
    main = settings.root / _CONTAINERS / "containers.conf"
    files = [main, *sorted((main.parent / "containers.conf.d").glob("*.conf"))]
    told, where = "", main.parent / _OURS
    for file in files:
        try:
            if path := _podmans_path(file):
                told, where = path, file
        except ValueError as error:
            yield Finding.error("podman-broken", f"Podman can't read {file} ({error})", "mend it: man containers.conf")
    listens = unit.listens or (f"unix://{settings.socket}",)
    paths = [Path(address.removeprefix("unix://")) for address in listens if address.startswith("unix:")]
    cure = f'write into {where}: [engine.volume_plugins] and below it {NAME} = "{settings.socket}"'
    if not paths:
        if not shutil.which("docker"):
            yield Finding.warning(
                "podman-shut-out",
                f"Podman can't use the plugin at {', '.join(listens)}, since it calls plugins by unix sockets alone",
                f"{errors.WAYS_IN} tells the way back to one",
            )
        return
    if told and Path(told) not in paths:
        yield Finding.error("podman-misled", f"Podman looks for the plugin at {told}, where it is not", cure)
    elif told:
        yield Finding.fine("podman", "Podman knows where the plugin is")
    elif not shutil.which("docker"):
        yield Finding.error("podman-unaware", "Podman does not know the plugin", cure)


def _podmans_path(file: Path) -> str:
    """Return where a file of Podman says that the plugin is; empty if it does not. Raises ValueError."""
    with suppress(FileNotFoundError, KeyError, TypeError):
        path = tomllib.loads(file.read_text())["engine"]["volume_plugins"][NAME]
        if not isinstance(path, str):
            raise ValueError(f"the path of {NAME} is no text")
        return path
    return ""


def vieux(settings: Settings) -> Iterator[Finding]:
    """Look for vieux/sshfs and its forks."""
    for plugin in legacy.installed(settings.root):
        name = plugin.name.removesuffix(":latest")
        yield Finding.warning(
            "vieux-installed",
            f"the plugin {name} is still installed, and has its own volumes",
            f"docker-volume-sshfs import-vieux takes them over; then docker plugin rm -f {name}",
        )
