# SPDX-License-Identifier: MIT
"""Who makes the preflight's checks, on a host of its own, and connects with ssh to compare."""

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, ClassVar

import paramiko
import pytest

from sshfs_plugin import errors, options
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.host import command
from sshfs_plugin.options.remotes import Remotes
from sshfs_plugin.preflight.preflight import Preflight
from sshfs_plugin.ssh import sshfs
from sshfs_plugin.ssh.credentials import Keyring
from sshfs_plugin.ssh.known_hosts import HostKey, KnownHosts
from sshfs_plugin.ssh.secrets import Secrets
from sshfs_plugin.volume import Volume, VolumeName
from support.impostors import LOOPBACK
from support.ssh_keys import host_key, public_key
from support.ssh_server import Server
from support.waiting import LIMIT_SECONDS

HOST = LOOPBACK
ASKPASS = Path(__file__).parents[2] / "libexec/askpass"
ANY_KIND = ("ed25519", "ecdsa", "rsa")
RSA = ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")
FORMS = (*ANY_KIND, "ecdsa-PEM", "rsa-PEM", "ecdsa-PKCS8", "rsa-PKCS8")


def shown(kind: str = "ed25519", number: int = 1) -> HostKey:
    """Return a server's host key as known_hosts has it."""
    key = host_key(kind, number)
    return HostKey(kind=key.get_name(), blob=key.asbytes())


@dataclass(frozen=True, slots=True)
class Client:
    """A host of its own: with keys, known hosts and nothing else.

    Attributes:
        directory: Where it has them.
        creates: Whether its preflights are those of a Create.
    """

    creates: ClassVar[bool] = False

    directory: Path

    @property
    def preflight(self) -> Preflight:
        """The preflight, anew each time."""
        return Preflight(
            keyring=Keyring(
                default_key=self.directory / "id_ed25519",
                home=self.directory,
                secrets=Secrets(self.directory / "credentials", self.directory / "secrets.d"),
            ),
            known_hosts=KnownHosts(
                own=self.directory / "known_hosts",
                others=(self.directory / ".ssh/known_hosts",),
                pinned=self.directory / "pinned",
            ),
        )

    @property
    def known(self) -> str:
        """What the plugin has written down about servers."""
        file = self.preflight.known_hosts.own
        return file.read_text() if file.exists() else ""

    @property
    def pinned(self) -> list[str]:
        """The volumes that have a pinned host key."""
        directory = self.preflight.known_hosts.pinned
        return sorted(path.name for path in directory.iterdir()) if directory.exists() else []

    @property
    def remotes(self) -> Remotes:
        """The remotes that it knows."""
        return Remotes(self.directory / "remotes.d")

    def volume(self, to: Server | int, path: str = "/photos", host: str = HOST, **opts: str) -> Volume:
        """Return a volume on a server, or at a port."""
        port = to if isinstance(to, int) else to.port
        given = {"sshcmd": f"bob@{host}:{path}", "port": str(port), **opts}
        return options.parse(VolumeName("photos"), given, datetime.now(UTC), self.remotes)

    def run(self, to: Server | int, path: str = "/photos", seconds: float = 60, **opts: str) -> None:
        """Make the checks."""
        self.preflight.run(self.volume(to, path, **opts), Deadline.after(seconds), creating=self.creates)

    def refusal(self, to: Server | int, path: str = "/photos", seconds: float = 60, **opts: str) -> errors.PluginError:
        """Make the checks and return the error of the one that fails."""
        with pytest.raises(errors.PluginError) as refused:
            self.run(to, path, seconds, **opts)
        return refused.value

    def refusal_in_time(self, to: Server | int, words: str, **opts: str) -> errors.PluginError:
        """Make the checks with a deadline that comes before any other limit; return the error, which has some words."""

        def came_so_far(error: errors.PluginError) -> bool:
            return words in str(error)

        return self._refusal_at_the_deadline(to, came_so_far, ConnectTimeout="60", **opts)

    def refusal_of_silence(self, to: Server, **opts: str) -> errors.PluginError:
        """Make the checks with a deadline that a server which falls silent reaches, and return the error."""
        return self._refusal_at_the_deadline(to, lambda _: to.account.stalls_at in to.seen, **opts)

    def _refusal_at_the_deadline(
        self, to: Server | int, came_so_far: Callable[[errors.PluginError], bool], **opts: str
    ) -> errors.PluginError:
        """Make the checks with more and more time, until they get as far as there: a busy host takes longer."""
        for seconds in (0.4, 4, 40):
            began = time.monotonic()
            error = self.refusal(to, seconds=seconds, **opts)
            assert time.monotonic() - began < seconds + 20
            if came_so_far(error):
                return error
        raise AssertionError(f"the checks never came so far: {error}")


def has_ipv6() -> bool:
    """Tell whether this host has an IPv6 loopback."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def public(key: Path) -> str:
    """Return the public key of a private one, as text."""
    return public_key(key).read_text()


def only(what: str, *algorithms: str) -> Callable[[Any], None]:
    """Return what makes a server's transport accept these algorithms alone."""
    return lambda transport: setattr(transport.get_security_options(), what, algorithms)


def announcing(
    signatures: Sequence[str] | None, takes: Sequence[str] = (), version: str = "OpenSSH_9.2"
) -> Callable[[Any], None]:
    """Return what makes a server's transport one of another age.

    Args:
        signatures: The signatures of keys that it announces as those that it takes; None if it announces nothing.
        takes: Those of RSA keys that it does take.
        version: What it says that it is.
    """

    def tune(transport: Any) -> None:
        transport.local_version = f"SSH-2.0-{version}"
        transport.server_sig_algs = False  # paramiko would announce its own, and to ssh none
        transport.disabled_algorithms = {"pubkeys": [name for name in RSA if name not in takes]}
        activate = transport._activate_outbound

        def activated() -> None:
            activate()
            if signatures is not None:
                transport._send_message(announcement)

        transport._activate_outbound = activated

    announcement = paramiko.Message()
    announcement.add_byte(bytes((paramiko.common.MSG_EXT_INFO,)))
    announcement.add_int(1)
    announcement.add_string("server-sig-algs")
    announcement.add_string(",".join(signatures or ()))
    return tune


def needs(algorithm: str) -> pytest.MarkDecorator:
    """Return the mark of a test whose server has only an algorithm that a later paramiko has given up altogether."""
    known = {**paramiko.Transport._kex_info, **paramiko.Transport._key_info}
    return pytest.mark.skipif(algorithm not in known, reason=f"paramiko {paramiko.__version__} has no {algorithm}")


def connect(client: Client, volume: Volume) -> CompletedProcess[str]:
    """Let ssh do what it does for sshfs."""
    config = client.directory / "ssh_config"
    login = client.preflight.keyring.login(volume.credentials)
    config.write_text(sshfs.ssh_config(volume, login, client.preflight.known_hosts))
    password, remote, environment = client.directory / "password", volume.remote, {}
    if login.password:
        password.write_text(login.password)
        environment = {"SSH_ASKPASS": str(ASKPASS), "SSH_ASKPASS_REQUIRE": "force"}
        environment["SSHFS_PLUGIN_PASSWORD_FILE"] = str(password)
    argv: list[str | Path] = ["ssh", "-F", config, "-s", f"{remote.user}@{remote.host}", "sftp"]
    return command.run(argv, seconds=LIMIT_SECONDS, environment=environment)
