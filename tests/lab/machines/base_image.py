# SPDX-License-Identifier: MIT
"""Debian's slim image, and the packages that our Dockerfile installs in it, for a machine that reaches no registry."""

import hashlib
import subprocess
from pathlib import Path

from .bootstrap import debootstrap, in_root, let_fetch
from .cache import cached
from .machine import Machine

RELEASE = "bookworm"
IMAGE = f"debian:{RELEASE}-slim"
PORT = 8000

_LEFT_OUT = "doc groff info linda lintian locale man"
"""Below /usr/share, as in the images that Debian offers."""

_SLIM = f"""\
for directory in {_LEFT_OUT}; do
    rm -rf "/usr/share/$directory"
    echo "path-exclude /usr/share/$directory/*"
done >/etc/dpkg/dpkg.cfg.d/docker
rm -rf /var/cache/apt/* /var/lib/apt/lists/* /var/log/*
echo 'deb [trusted=yes] http://127.0.0.1:{PORT} ./' >/etc/apt/sources.list
"""

# a mirror that speaks https takes certificates, and the image has none
_FETCH = """\
apt-get update
apt-get --yes --no-install-recommends --download-only satisfy "$1"
"""

_SERVE = f"""\
mkdir /srv/archive
tar -C /srv/archive -xf /root/archive.tar
cd /srv/archive
apt-ftparchive packages . >Packages
docker import --change 'CMD ["bash"]' /root/base.tar {IMAGE}
rm /root/base.tar /root/archive.tar
systemd-run --unit=archive /usr/bin/python3 -m http.server --bind 127.0.0.1 --directory /srv/archive {PORT}
"""


def give(machine: Machine, package: Path) -> None:
    """Give a machine the image and, on loopback, an archive of all that installing the package in it takes."""
    depends = subprocess.run(["dpkg-deb", "-f", package, "Depends"], check=True, capture_output=True, text=True).stdout
    parts = _parts(f"{depends.strip()}, tini")
    for name in ("base.tar", "archive.tar"):
        machine.push(parts / name, f"/root/{name}")
    machine.sh(_SERVE)
    machine.until(f"curl -fsS http://127.0.0.1:{PORT}/Packages")


def _parts(needs: str) -> Path:
    fingerprint = hashlib.sha256(repr((RELEASE, needs, _SLIM, _FETCH)).encode()).hexdigest()[:12]

    def make(directory: Path, log: Path) -> None:
        root = directory / "root"
        root.mkdir()
        debootstrap(log, root, RELEASE)
        in_root(log, root, _SLIM)
        _pack(root, directory / "base.tar")
        let_fetch(root, RELEASE)
        certificates = Path("etc/ssl/certs/ca-certificates.crt")
        if (here := Path("/") / certificates).exists():
            (root / certificates.parent).mkdir(parents=True, exist_ok=True)
            (root / certificates).write_bytes(here.read_bytes())
        in_root(log, root, _FETCH, needs)
        _pack(root / "var/cache/apt/archives", directory / "archive.tar")
        subprocess.run(["rm", "-rf", "--one-file-system", root], check=True)

    return cached(f"image-{RELEASE}-{fingerprint}", make)


def _pack(directory: Path, archive: Path) -> None:
    leave = ("--exclude=./proc/*", "--exclude=./sys/*", "--exclude=./dev/*", "--exclude=./partial", "--exclude=./lock")
    subprocess.run(["tar", "-C", directory, "--numeric-owner", *leave, "-cf", archive, "."], check=True)
