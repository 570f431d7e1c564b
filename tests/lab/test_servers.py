# SPDX-License-Identifier: MIT
"""Servers that are not the usual sshd: a login locked into SFTP and a directory, Dropbear, ProFTPD."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from .host import KEY, Host
from .machines.commands import Result
from .machines.machine import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A directory on an SSH server in the machine.

    Attributes:
        account: Who logs in, and where.
        port: Where the server listens.
        directory: What the login calls the directory.
        place: Where it is in the machine.
    """

    account: str
    port: int
    directory: str
    place: str

    def create(self, host: Host, volume: str, directory: str, check: bool = True) -> Result:
        """Create a volume of a directory on this server."""
        return host.create(volume, directory, check, sshcmd=f"{self.account}:{directory}", port=str(self.port))


LOCKED = """\
Match User nasuser
    AuthorizedKeysFile /etc/ssh/nasuser.keys
    ChrootDirectory /volume1
    ForceCommand internal-sftp
"""

PROFTPD = """\
ModulePath /usr/lib/proftpd
LoadModule mod_sftp.c
# Debian 12 has it in the program itself
<IfModule !mod_xfer.c>
    LoadModule mod_xfer.c
</IfModule>
ServerType standalone
DefaultServer on
UseIPv6 off
DefaultAddress 127.0.0.1
Port 2223
User proftpd
Group nogroup
AuthOrder mod_auth_unix.c
WtmpLog off
AllowOverwrite on
DefaultRoot /srv
SFTPEngine on
SFTPHostKey /etc/proftpd/lab/host_key
SFTPAuthMethods publickey
SFTPAuthorizedUserKeys file:/etc/proftpd/lab/%u.pub
"""


@contextmanager
def locked(machine: Machine) -> Iterator[Server]:
    """Lock a login without a shell into SFTP and a directory, as a NAS does."""
    machine.sh("id nasuser || useradd --no-create-home --home-dir / --shell /usr/sbin/nologin nasuser")
    machine.sh("mkdir -p /volume1/files; chown root: /volume1; chown nasuser: /volume1/files")
    machine.run("install", "-m", "644", f"{KEY}.pub", "/etc/ssh/nasuser.keys")
    with machine.sshd_with(LOCKED):
        yield Server(account="nasuser@localhost", port=22, directory="/files", place="/volume1/files")


@contextmanager
def dropbear(machine: Machine) -> Iterator[Server]:
    """Run Dropbear, as routers do; its SFTP is a program of OpenSSH."""
    machine.sh("test -e /root/dropbear_key || dropbearkey -t ed25519 -f /root/dropbear_key")
    machine.sh("mkdir -p /srv/files; chown alice: /srv/files")
    with _serving(machine, 2222, "dropbear -F -s -r /root/dropbear_key -p 127.0.0.1:2222"):
        yield Server(account="alice@localhost", port=2222, directory="/srv/files", place="/srv/files")


@contextmanager
def proftpd(machine: Machine) -> Iterator[Server]:
    """Run ProFTPD, which has an SFTP of its own and locks logins into a directory."""
    machine.write("/etc/proftpd/lab.conf", PROFTPD)
    machine.sh("mkdir -p /etc/proftpd/lab /srv/files; chown alice: /srv/files")
    machine.sh("cd /etc/proftpd/lab; ssh-keygen -e -f $1.pub >alice.pub", KEY)
    machine.sh("cd /etc/proftpd/lab; test -e host_key || ssh-keygen -q -t ed25519 -N '' -f host_key")
    with _serving(machine, 2223, "proftpd --nodaemon --config /etc/proftpd/lab.conf"):
        yield Server(account="alice@localhost", port=2223, directory="/files", place="/srv/files")


@contextmanager
def _serving(machine: Machine, port: int, program: str) -> Iterator[None]:
    unit = f"lab-server-{port}"
    machine.run("systemd-run", "--quiet", "--collect", f"--unit={unit}", *program.split())
    try:
        machine.until(f"ss -tlnH sport = :{port} | grep -q LISTEN")
        yield
    finally:
        machine.run("systemctl", "stop", unit)


@pytest.fixture(params=[locked, dropbear, proftpd], ids=lambda kind: str(kind.__name__))
def server(request: pytest.FixtureRequest, host: Host) -> Iterator[Server]:
    """One server of each kind."""
    with request.param(host.machine) as server:
        host.machine.sh("rm -rf $1/*", server.place)
        yield server
        host.clear()


def test_a_volume_works_on_it_from_end_to_end(host: Host, server: Server) -> None:
    server.create(host, "nas", server.directory)
    host.run("nas", "echo old >/data/file; echo new >/data/file.tmp; mv /data/file.tmp /data/file; mkdir /data/sub")
    assert host.run("nas", "cat /data/file; ls /data").stdout == "new\nfile\nsub\n"
    assert host.machine.read(f"{server.place}/file") == "new\n"
    assert host.status("nas")["state"] == "unmounted"
    host.run("nas", "rm -r /data/sub /data/file; dd if=/dev/zero bs=1M count=5 2>/dev/null >/data/big; wc -c /data/big")
    assert host.machine.run("ls", "-s", "--block-size=1M", server.place).stdout.splitlines()[1:] == ["5 big"]


def test_its_missing_directory_is_named(host: Host, server: Server) -> None:
    user = server.account.partition("@")[0]
    missing = server.create(host, "nas", "/nothing", check=False)
    assert f"the directory /nothing does not exist on localhost for {user}: make it first" in missing.stderr
    if server.place != server.directory:
        too_long = server.create(host, "nas", server.place, check=False)
        assert f"the directory {server.place} does not exist on localhost for {user}" in too_long.stderr
        assert f"{server.directory} exists, and if this login is locked into a directory" in too_long.stderr
