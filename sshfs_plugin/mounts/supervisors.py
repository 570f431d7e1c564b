# SPDX-License-Identifier: MIT
"""The choice between the two supervisors."""

from pathlib import Path

from sshfs_plugin.mounts.processes import ProcessSupervisor
from sshfs_plugin.mounts.systemd import SystemdSupervisor
from sshfs_plugin.settings import Settings


def supervisor(settings: Settings) -> SystemdSupervisor | ProcessSupervisor:
    """Return the supervisor of this host: systemd's where that is PID 1, unless the settings say otherwise."""
    booted_by_systemd = Path("/run/systemd/system").is_dir()  # as sd_booted(3) does
    if settings.supervisor == "systemd" or (settings.supervisor == "auto" and booted_by_systemd):
        return SystemdSupervisor(settings)
    return ProcessSupervisor(settings)
