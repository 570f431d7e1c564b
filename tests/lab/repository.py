# SPDX-License-Identifier: MIT
"""A repository of the package on the machine, at the address that the documents use for an example."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .host import PACKAGE, Host

DIRECTORY = "/srv/repository/debian"
KEYRING = f"/etc/apt/keyrings/{PACKAGE}.asc"
SOURCE = f"/etc/apt/sources.list.d/{PACKAGE}.sources"

_APT = "/etc/apt/apt.conf.d/repository"
_CERTIFICATE = "/usr/local/share/ca-certificates/example.org.crt"
_SERVER = """\
import http.server, ssl
# apt on Debian 13 takes a connection that is just closed for one that was cut
http.server.SimpleHTTPRequestHandler.protocol_version = "HTTP/1.1"
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/srv/certificate", "/srv/certificate-key")
server = http.server.ThreadingHTTPServer(("", 443), http.server.SimpleHTTPRequestHandler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


class Repository:
    """What ``scripts/release`` has made, and what a machine knows of it.

    Attributes:
        script: The path of that on the machine.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self.script = f"{host.checkout()}/scripts/release"

    def release(self, package: Path) -> str:
        """Add a package, sign all with a key of its own, and return what the script printed."""
        self._host.machine.push(package, f"/root/{package.name}")
        words = ("--throwaway-key", "--url", "https://example.org/debian", DIRECTORY, f"/root/{package.name}")
        return self._host.machine.run(self.script, *words).stdout

    def forget(self) -> None:
        """Let the machine forget the repository."""
        lists = "/var/lib/apt/lists/example.org_*"
        self._host.machine.sh(f"rm -rf {KEYRING} {SOURCE} {lists} /etc/apt/preferences.d/{PACKAGE}")


@contextmanager
def offered(host: Host) -> Iterator[Repository]:
    """Let https://example.org/debian be a repository with the package under test, and no other be asked."""
    machine = host.machine
    repository = Repository(host)
    repository.release(host.package)
    name = "-subj /CN=example.org -addext subjectAltName=DNS:example.org"
    request = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 {name} -keyout certificate-key -out certificate"
    machine.sh(f"cd /srv && {request} && cp certificate {_CERTIFICATE}")
    machine.sh("update-ca-certificates; grep -q example.org /etc/hosts || echo 127.0.0.1 example.org >>/etc/hosts")
    # a person says yes, and Debian can't be reached from here
    ours_alone = 'Dir::Etc::SourceList "/dev/null"; Acquire::https::Proxy "DIRECT";'
    machine.write(_APT, f'APT::Get::Assume-Yes "1"; {ours_alone}\n')
    machine.write("/srv/server.py", _SERVER)
    unit = ("--unit=repository", "--working-directory=/srv/repository")
    machine.run("systemd-run", *unit, "/usr/bin/python3", "/srv/server.py")
    try:
        machine.until("curl -fsS https://example.org/debian/InRelease")
        yield repository
    finally:
        machine.run("systemctl", "stop", "repository")
        repository.forget()
        machine.run("rm", "-rf", _APT, DIRECTORY, _CERTIFICATE)
