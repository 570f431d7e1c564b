# SPDX-License-Identifier: MIT
"""A machine with the package on it, in the words of somebody who administers it.

Its SSH server is its own, under the names ``nas`` and ``localhost``.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .machines.commands import Result
from .machines.machine import IMAGE, Machine

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "docker-volume-sshfs"
KEY = "/root/keys/id_ed25519"
MOUNTS = "/var/lib/docker-volume-sshfs/mounts"

NUMBERS = (
    "trap exit TERM; i=0; while true; do i=$((i+1)); echo $i >>/data/log || echo $i >>/failed; sleep {pause}; done"
)
"""What a container runs that must not miss a beat."""

STAY = "trap exit TERM; sleep 1000 & wait"
"""What a container runs that is just there. For one that does not end when it is told to, Docker waits ten seconds."""


class Host:
    """The administrator's hands on a machine."""

    def __init__(self, machine: Machine, package: Path) -> None:
        self.machine = machine
        self.package = package

    def install(self, package: Path | None = None) -> str:
        """Install the package under test, or another of whatever version, and return what apt printed."""
        package = package or self.package
        self.machine.push(package, f"/root/{package.name}")
        return self.apt(f"install --reinstall --allow-downgrades /root/{package.name}")

    def apt(self, words: str) -> str:
        """Run apt-get as automation does, without needrestart, which has tests of its own; return what it printed."""
        settings = "DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1"
        return self.machine.sh(f"{settings} apt-get -y {words} 2>&1").stdout

    def version(self) -> str:
        """Return the version that is installed."""
        return self.machine.run("dpkg-query", "-W", "-f", "${Version}", PACKAGE).stdout

    def is_installed(self) -> bool:
        """Tell whether the package is installed and configured."""
        status = self.machine.run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}", PACKAGE, check=False)
        return status.stdout.startswith("ii")

    def checkout(self, home: str = "/root") -> str:
        """Put the source tree into a user's home, as a clone of it would be, and return where it is."""
        place = f"{home}/checkout"
        with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
            words = ("tar", "-C", ROOT, "--exclude=./.*", "--exclude=__pycache__", "-cf", archive.name, ".")
            # 1 is that a directory has changed: other tiers run meanwhile
            assert subprocess.run(words, check=False).returncode in (0, 1)
            self.machine.push(Path(archive.name), "/root/checkout.tar")
        self.machine.sh(
            "rm -rf $1 && mkdir $1 && tar -C $1 --no-same-owner -xf /root/checkout.tar && chown -R --reference=$2 $1",
            *(place, home),
        )
        return place

    def directory(self, name: str) -> str:
        """Make an empty directory of alice on the server and return its path."""
        path = f"/srv/alice/{name}"
        self.machine.sh(f"rm -rf {path} && mkdir -p {path} && chown -R alice: /srv/alice")
        return path

    @contextmanager
    def password(self, password: str) -> Iterator[None]:
        """Let alice have another password meanwhile."""
        usual = self.machine.run("getent", "shadow", "alice").stdout.split(":")[1]
        self.machine.run("chpasswd", input=f"alice:{password}\n")
        try:
            yield
        finally:
            self.machine.run("usermod", "-p", usual, "alice")

    def create(self, name: str, directory: str, check: bool = True, **options: str | None) -> Result:
        """Create a volume as alice, with the key unless the options say otherwise."""
        given: dict[str, str | None] = {"sshcmd": f"alice@localhost:{directory}", "IdentityFile": KEY, **options}
        words = [word for option, value in given.items() if value is not None for word in ("-o", f"{option}={value}")]
        return self.machine.run("docker", "volume", "create", "-d", "sshfs", *words, name, check=check)

    def run(self, volume: str, script: str, *options: str, check: bool = True, at: str = "/data") -> Result:
        """Run a script in a new container that has the volume."""
        mount = ("-v", f"{volume}:{at}")
        return self.machine.run("docker", "run", "--rm", *mount, *options, IMAGE, "sh", "-c", script, check=check)

    def start(self, container: str, volume: str, script: str, *options: str) -> None:
        """Start a container that has the volume at /data."""
        mount = ("-v", f"{volume}:/data", "--name", container)
        self.machine.run("docker", "run", "-d", *mount, *options, IMAGE, "sh", "-c", script)

    @contextmanager
    def writing(self, volume: str, directory: str, *options: str, pause: float = 0.05) -> Iterator[str]:
        """Let a container write a numbered log meanwhile, and check at the end that it has no gap."""
        container = f"writer-{volume}"
        self.start(container, volume, NUMBERS.format(pause=pause), *options)
        self.await_progress(directory)
        try:
            yield container
            self.await_progress(directory)
            failed = self.machine.run("docker", "exec", container, "sh", "-c", "test ! -e /failed || cat /failed")
            assert failed.stdout == "", "the container could not write these numbers"
        finally:
            self.machine.run("docker", "rm", "-f", container)
        numbers = [int(number) for number in self.machine.read(f"{directory}/log").split()]
        assert numbers == list(range(1, len(numbers) + 1)), "the log has a gap"

    def await_progress(self, directory: str) -> None:
        """Wait until the numbered log has grown."""

        def length() -> int:
            return int(self.machine.sh(f"cat {directory}/log 2>/dev/null | wc -l").stdout)

        before = length()
        self.machine.until(lambda: length() > before + 5)

    def inspect(self, volume: str) -> dict[str, Any]:
        """Return what docker volume inspect says."""
        inspected: list[dict[str, Any]] = json.loads(self.machine.run("docker", "volume", "inspect", volume).stdout)
        return inspected[0]

    def status(self, volume: str) -> Mapping[str, Any]:
        """Return the Status of a volume."""
        status: dict[str, Any] = self.inspect(volume)["Status"]
        return status

    def property(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.machine.run("systemctl", "show", "-P", name, unit).stdout.strip()

    def sshfs(self, volume: str) -> str:
        """Return the pid of a volume's sshfs, or 0."""
        return self.property(f"docker-volume-sshfs@{volume}", "MainPID")

    def is_mounted(self, volume: str) -> bool:
        """Tell whether a volume is mounted on the host."""
        return bool(self.machine.run("findmnt", "--mountpoint", f"{MOUNTS}/{volume}", check=False))

    def cut_connections(self) -> None:
        """End alice's connections to the server, as a broken network would in the end."""
        # since OpenSSH 9.8 a program of its own serves a connection
        self.machine.sh("pkill -KILL -f '^sshd(-session)?: alice@notty'")

    def log(self, volume: str, lines: int = 30) -> str:
        """Return what the service has logged of a volume, for messages."""
        return self.machine.journal("-u", PACKAGE, f"VOLUME={volume}", "-n", str(lines))

    def from_here(self) -> str:
        """Return the option of journalctl that shows only what is logged from now on.

        With ``--after-cursor`` it drops the first entry that matches if that at the cursor does not.
        """
        return f"--since=@{self.machine.run('date', '+%s.%6N').stdout.strip()}"

    @contextmanager
    def without_a_wait_for_a_plugin(self) -> Iterator[None]:
        """Check that Docker calls no plugin in vain meanwhile: it tries for 15 seconds at every use."""
        since = self.from_here()
        yield
        assert "Unable to connect to plugin" not in self.machine.journal("-u", "docker", since)

    @contextmanager
    def swarm(self) -> Iterator[None]:
        """Let Docker be a swarm of one node meanwhile; services that are there at the end are removed."""
        self.machine.run("docker", "swarm", "init", "--advertise-addr", "127.0.0.1")
        try:
            yield
        finally:
            self.machine.sh("docker service ls -q | xargs -r docker service rm")
            self.machine.until("! docker ps -aq | grep .")  # which Swarm removes, and which nobody else can meanwhile
            self.machine.run("docker", "swarm", "leave", "--force")

    def clear(self) -> None:
        """Remove all containers, volumes, shared connections and known servers; let failures of units be forgotten."""
        self.machine.sh(
            "docker ps -aq | xargs -r docker rm -f; docker volume ls -q | xargs -r docker volume rm; "
            f"systemctl stop '{PACKAGE}-connection@*'; "
            f"systemctl reset-failed; rm -f /var/lib/{PACKAGE}/known_hosts /etc/{PACKAGE}/id_ed25519*",
            timeout=300,
        )
