# SPDX-License-Identifier: MIT
"""Servers that let nobody in any more: their password or their host key is another."""

import pytest

from lab.host import PACKAGE, Host
from lab.ssh_server import SshServer

from .containers import Record, await_state, in_container, logging, seconds_up


def create_with_password(host: Host, name: str) -> str:
    """Create a volume that logs in with alice's password, and return its directory on the server."""
    machine, directory = host.machine, host.directory(name)
    machine.write("/root/nas.password", "correct horse battery\n", mode=0o600)
    options = ("-o", f"sshcmd=alice@localhost:{directory}", "-o", "password_file=/root/nas.password")
    machine.run("docker", "volume", "create", "-d", "sshfs", *options, name)
    return directory


def test_after_a_change_of_the_password_the_server_is_asked_a_few_times_only(
    host: Host, server: SshServer, record_property: Record
) -> None:
    machine, directory = host.machine, create_with_password(host, "password")
    with logging(host, "password", directory) as log:
        since = host.from_here()
        with host.password("another one"):
            server.cut()
            log.await_failure()
            reason = await_state(host, "password", "unresponsive", "Permission denied")
            assert "the login is tried again 1 minute later" in reason
            # each container that is started meanwhile costs a login of its own
            refused = host.run("password", "true", check=False)
            assert not refused
            in_container(host, "logger-password", "for i in $(seq 100); do ls /data/$i; done", check=False)
            failed = machine.journal("-u", "ssh", since).count("Failed password for alice")
            record_property("failed logins", failed)
            assert 1 <= failed <= 3
        machine.run("docker", "restart", "-t", "0", "logger-password")
        await_state(host, "password", "mounted")


def test_after_a_change_of_the_host_key_the_reason_is_said_once(
    host: Host, server: SshServer, record_property: Record
) -> None:
    machine, directory = host.machine, host.directory("another")
    host.create("another", directory)
    with logging(host, "another", directory) as log:
        since = host.from_here()
        machine.sh("cp -a /etc/ssh /root/ssh; rm /etc/ssh/ssh_host_*; ssh-keygen -A; systemctl restart ssh")
        try:
            server.cut()
            log.await_failure()
            await_state(host, "another", "unresponsive", "Host key verification failed")
            in_container(host, "logger-another", "for i in $(seq 100); do ls /data/$i; done", check=False)
            said = machine.journal("-u", f"{PACKAGE}@another", since).splitlines()
            record_property("lines in the journal", len(said))
            assert len(said) < 5, said
        finally:
            machine.sh("cp -a /root/ssh/ssh_host_* /etc/ssh; rm -r /root/ssh; systemctl restart ssh")
        machine.run("docker", "restart", "-t", "0", "logger-another")
        await_state(host, "another", "mounted")


@pytest.mark.long
def test_a_password_that_is_put_right_is_found_a_minute_later(
    host: Host, server: SshServer, record_property: Record
) -> None:
    machine, directory = host.machine, create_with_password(host, "righted")
    with logging(host, "righted", directory) as log:
        since = host.from_here()
        with host.password("another one"):
            server.cut()
            log.await_failure()
            await_state(host, "righted", "unresponsive", "Permission denied")
        began = seconds_up(host)
        log.await_recovery()
        record_property("well again after", seconds_up(host) - began)
        await_state(host, "righted", "mounted")
        assert machine.journal("-u", "ssh", since).count("Failed password for alice") == 1
