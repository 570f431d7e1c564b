# SPDX-License-Identifier: MIT
"""An SSH server of the machine, and what can happen to one: it freezes, loses its connections, or is gone."""

from collections.abc import Iterator
from contextlib import contextmanager

from .host import KEY
from .machines.machine import Machine


class SshServer:
    """The SSH server that listens on a port; processes are found by it, since their names differ between versions."""

    def __init__(self, machine: Machine, port: int = 22) -> None:
        self._machine, self.port = machine, port

    def freeze(self) -> None:
        """Stop the processes of its connections, as a host does whose disk or power supply has a fault."""
        self._signal("STOP")

    def cut(self) -> None:
        """End its connections at once."""
        self._signal("KILL")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let all of it be stopped meanwhile: the kernel still accepts connections for it, and nobody serves them."""
        self._signal("STOP")
        self._signal("STOP", "listening")
        try:
            yield
        finally:
            self._signal("CONT", "listening")
            self._signal("CONT")

    def leave(self) -> None:
        """End it with its connections."""
        self._machine.sh("systemctl stop $(systemctl list-units --plain --no-legend 'ssh.s*' | cut -d' ' -f1)")
        self.cut()

    def come_back(self) -> None:
        """Start it again."""
        self._machine.run("systemctl", "start", "ssh.service")

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let it be gone meanwhile."""
        self.leave()
        try:
            yield
        finally:
            self.come_back()

    def _signal(self, name: str, state: str = "established") -> None:
        self._machine.sh(
            'found=$(ss -Htnp state "$3" "sport = :$1" | grep -o "pid=[0-9]*" | cut -d= -f2 | sort -u); '
            'kill -s "$2" $found',
            *(str(self.port), name, state),
        )


@contextmanager
def another_ssh_server(machine: Machine, port: int = 2222) -> Iterator[SshServer]:
    """Run a second SSH server, which has the users and the host keys of the first."""
    unit = f"sshd-{port}"
    machine.run("systemd-run", "--quiet", "--collect", f"--unit={unit}", "/usr/sbin/sshd", "-D", "-p", str(port))
    try:
        # it is not to be known afterwards, or another server at this port would be an impostor
        quiet = "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o BatchMode=yes"
        machine.until(f"ssh -p {port} -i {KEY} {quiet} alice@localhost true")
        yield SshServer(machine, port)
    finally:
        machine.run("systemctl", "stop", unit)
