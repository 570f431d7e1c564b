# SPDX-License-Identifier: MIT
"""Secrets that systemd has encrypted: what Docker mounts with them, and that nobody else comes to see them."""

from collections.abc import Iterator
from typing import Any

import pytest

from .host import KEY, PACKAGE, Host

DROP_IN = f"/etc/systemd/system/{PACKAGE}.service.d/secrets.conf"
BELOW_TMP = "/tmp/agent"  # noqa: S108 (as ssh-agent does)
PASSWORD, PASSPHRASE = "correct horse battery", "s3cret-passphrase"


@pytest.fixture
def vault(host: Host) -> Iterator[Host]:
    """Give a host whose service has a key, a password and a passphrase as credentials, encrypted by this host's key."""
    machine = host.machine
    machine.sh(
        "cd /root; cp keys/id_ed25519 locked; ssh-keygen -q -p -P '' -N \"$1\" -f locked; "
        'printf \'%s\\n\' "$2" >password; printf %s "$1" >passphrase; cp keys/id_ed25519 key; '
        "for name in key password passphrase; do "
        'systemd-creds encrypt --with-key=host --name=$name $name "/etc/$3/$name.cred"; rm $name; done',
        *(PASSPHRASE, PASSWORD, PACKAGE),
    )
    lines = (
        f"LoadCredentialEncrypted={name}:/etc/{PACKAGE}/{name}.cred\n" for name in ("key", "password", "passphrase")
    )
    machine.write(DROP_IN, "[Service]\n" + "".join(lines))
    machine.sh(f"systemctl daemon-reload; systemctl restart {PACKAGE}.service")
    yield host
    host.clear()
    machine.sh(f"rm -f /etc/{PACKAGE}/*.cred /root/locked {DROP_IN}; systemctl daemon-reload")
    machine.run("systemctl", "restart", f"{PACKAGE}.service")


def test_credentials_of_systemd_log_in_and_are_seen_by_nobody(vault: Host) -> None:
    host, machine = vault, vault.machine
    since = host.from_here()
    logins: dict[str, dict[str, Any]] = {
        "by-key": {"secret": "key", "IdentityFile": None},
        "by-password": {"secret": "password", "IdentityFile": None},
        "by-passphrase": {"IdentityFile": "/root/locked", "passphrase_secret": "passphrase"},
    }
    for name, login in logins.items():
        host.create(name, host.directory(name), **login)
        host.start(f"user-{name}", name, "trap exit TERM; sleep 1000 & wait")
    body = machine.read(KEY).splitlines()[2]
    secrets = (PASSWORD, PASSPHRASE, body)
    seen = machine.sh("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'", check=False).stdout
    told = machine.journal(since) + "".join(str(host.inspect(name)) for name in logins)
    told += machine.sh(
        f"{PACKAGE} status; for name in $*; do {PACKAGE} status $name; done", *logins, check=False
    ).stdout
    assert [secret for secret in secrets if secret in seen + told] == []
    modes = machine.sh(f"stat -c '%a %U' /run/{PACKAGE}/mounts/*/* /run/{PACKAGE}/mounts").stdout.split("\n")
    assert set(modes) <= {"600 root", "700 root", ""}

    # the mounts outlive the service, and connect again without it
    machine.run("systemctl", "stop", f"{PACKAGE}.socket", f"{PACKAGE}.service")
    host.cut_connections()
    for name in logins:
        machine.run("docker", "exec", f"user-{name}", "sh", "-c", "until echo again >/data/file; do sleep 0.1; done")
    machine.run("systemctl", "start", f"{PACKAGE}.socket", f"{PACKAGE}.service")
    for name in logins:
        machine.run("systemctl", "stop", f"{PACKAGE}.service")  # after a boot its socket alone is open
        assert machine.run(PACKAGE, "check", name).stdout, "the administrator's command sees the service's credentials"
    machine.sh("docker rm -f $*", *(f"user-{name}" for name in logins))
    machine.until(f'test -z "$(ls /run/{PACKAGE}/mounts)"')


@pytest.fixture
def agents(host: Host) -> Iterator[Host]:
    """Give a host with an agent of root, one of root below /tmp, and one of alice."""
    machine = host.machine
    machine.sh("install -d -o alice /run/alice")
    places = {"/run/agent": "root", BELOW_TMP: "root", "/run/alice/agent": "alice"}
    for number, (place, user) in enumerate(places.items()):
        machine.run(
            "systemd-run", "--collect", f"--unit=agent-{number}", f"--uid={user}", "ssh-agent", "-D", "-a", place
        )
        machine.until(f"SSH_AUTH_SOCK={place} ssh-add -q {KEY}")
    yield host
    host.clear()
    machine.sh("systemctl stop 'agent-*'; rm -rf /run/alice")


def test_agent_of_root_is_reached_from_the_sandbox_and_no_other(agents: Host) -> None:
    host = agents
    host.create("by-agent", host.directory("by-agent"), IdentityFile=None, IdentityAgent="/run/agent")
    host.run("by-agent", "echo hello >/data/file")
    for place, complaint in (
        (BELOW_TMP, "it does not exist, or is below /tmp, where the service can't see it: move it elsewhere"),
        ("/run/alice/agent", "it belongs to a user other than root: run an agent for volumes as root"),
    ):
        refused = host.create("refused", "/srv/alice", check=False, IdentityFile=None, IdentityAgent=place)
        assert f"cannot use the ssh-agent at {place}, {complaint}" in refused.stderr
