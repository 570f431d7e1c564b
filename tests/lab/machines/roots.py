# SPDX-License-Identifier: MIT
"""The pristine root of each release, which machines stand on: made once, and never written to again.

A root goes by a fingerprint of the texts here, so a change of one makes another root, which takes minutes.
"""

import hashlib
import shlex
from pathlib import Path

from .bootstrap import debootstrap, in_root, let_fetch, put
from .cache import cached

_PACKAGES = (
    "docker.io docker-compose docker-registry podman crun iptables busybox-static sshfs openssh-server e2fsprogs sudo "
    "curl ca-certificates openssl procps iproute2 gunicorn python3-flask python3-paramiko python3-systemd "
    "dropbear-bin proftpd-core proftpd-mod-crypto rclone needrestart apt-utils gnupg ansible python3-apt man-db "
    "zsh fish bash-completion unattended-upgrades python3-pytest python3-pytest-timeout python3-pytest-xdist "
    "podman-compose catatonit prometheus-node-exporter python3-prometheus-client python3-docker "
    "python3-jeepney "
    # to build the package, and to test it as Debian does
    "autopkgtest build-essential dpkg-dev debhelper dh-python pybuild-plugin-pyproject python3-all "
    "python3-docutils python3-setuptools"
)

_REINSTALLABLE = (
    "libc6 libc-bin ^libssl3(t64)?$ openssl ^libfuse3-[0-9]+$ fuse3 sshfs openssh-client "
    # which go with the very versions of these
    "libc6-dev libc-dev-bin openssh-server openssh-sftp-server"
)
"""Packages, or patterns of their names, that stay in apt's cache, since a machine has no way out to fetch them."""

_FILES = {
    "/etc/hostname": "lab\n",
    "/etc/hosts": "127.0.0.1 localhost lab nas\n::1 localhost ip6-localhost ip6-loopback\n",
    "/etc/docker/daemon.json": '{"bridge": "none", "iptables": false, "ip6tables": false}\n',
    # a hundred mounts at once are refused at random by the default of 10:30:100
    "/etc/ssh/sshd_config.d/lab.conf": "PasswordAuthentication yes\nMaxStartups 500\n",
    # before Docker, yet after the units that would change the host itself if /sys were writable
    "/etc/systemd/system/lab-writable.service": """\
[Unit]
Description=Make writable what a container manager holds read-only and a real host does not
DefaultDependencies=no
After=sysinit.target
Before=basic.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/lab-writable
[Install]
WantedBy=basic.target
""",
}

# a sysfs is read-only twice, as a file system and at each place where it is mounted; a controller
# only at its place
_WRITABLE = """\
#!/bin/sh
findmnt --noheadings --raw --output TARGET --types cgroup,cgroup2 | while read -r place; do
    mount -o remount,rw,bind "$place"
done
findmnt --noheadings --raw --output TARGET --types sysfs | while read -r place; do
    mount -o remount,rw "$place"
    mount -o remount,rw,bind "$place"
done
"""

_INSTALL = """\
update-ca-certificates
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/lab
apt-get update
apt-get install --yes --no-install-recommends "$@"
apt-get clean
apt-get install --yes --reinstall --download-only @REINSTALLABLE@
# a machine has no way to a mirror, and apt would read what it offered at each call
rm -r /var/lib/apt/lists/* /var/cache/apt/*.bin
# no index of manual pages after each installation
rm -f /var/lib/man-db/auto-update
rm /usr/sbin/policy-rc.d
""".replace("@REINSTALLABLE@", shlex.join(_REINSTALLABLE.split()))

# sshd 9.8 and later refuses an address for a while after a wrong password: the next test would fail
_SETTLE = """\
useradd --create-home --shell /bin/bash --uid 1000 alice
echo 'alice:correct horse battery' | chpasswd
mkdir --mode=700 /root/keys
ssh-keygen -q -t ed25519 -N '' -C lab -f /root/keys/id_ed25519
install -d -o alice -g alice -m 700 /home/alice/.ssh
install -o alice -g alice -m 600 /root/keys/id_ed25519.pub /home/alice/.ssh/authorized_keys
mkdir -p /run/sshd
if sshd -T -o PerSourcePenalties=no > /dev/null 2>&1; then
    echo 'PerSourcePenalties no' >> /etc/ssh/sshd_config.d/lab.conf
fi
sshd -t
systemctl enable lab-writable.service docker.service ssh.service
systemctl mask apt-daily.timer apt-daily-upgrade.timer podman-auto-update.timer
# servers that a test starts when it wants them
systemctl disable proftpd.service docker-registry.service prometheus-node-exporter.service
# the kernel is the host's
systemctl mask systemd-modules-load.service
"""


def _packages(release: str) -> list[str]:
    # until bookworm the command line is part of docker.io
    return _PACKAGES.split() + ([] if release == "bookworm" else ["docker-cli"])


def _fingerprint(release: str) -> str:
    parts = (_packages(release), sorted(_FILES.items()), _WRITABLE, _INSTALL, _SETTLE)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _make(release: str, root: Path, log: Path) -> None:
    debootstrap(log, root, release, "--include=systemd,systemd-sysv,dbus,ca-certificates")
    let_fetch(root, release)
    in_root(log, root, _INSTALL, *_packages(release))
    for path, text in _FILES.items():
        put(root, path, text)
    put(root, "/usr/local/sbin/lab-writable", _WRITABLE, 0o755)
    in_root(log, root, _SETTLE)


def root_for(release: str) -> Path:
    """Return the pristine root of a Debian release, made on the first call from a mirror.

    It must never be written to: machines stand on it. A changed recipe makes another one; the old
    one stays until somebody deletes the cache.

    Raises:
        AssertionError: It could not be made; the message names the log.
    """
    return cached(f"{release}-{_fingerprint(release)}", lambda root, log: _make(release, root, log))
