# SPDX-License-Identifier: MIT
"""Volumes that share a connection, as units of systemd."""

from collections.abc import Iterator
from contextlib import contextmanager

from .host import KEY, STAY, Host

UNIT = "docker-volume-sshfs-connection@*.service"
CONNECTIONS = "/run/docker-volume-sshfs/connections"


def logins(host: Host, since: str) -> int:
    """Return how often alice has logged in."""
    said = host.machine.journal(since, "-t", "sshd", "-t", "sshd-session")
    return said.count("Accepted publickey for alice")


def units(host: Host) -> list[str]:
    """Return the units of shared connections."""
    listed = host.machine.run("systemctl", "list-units", "--all", "--plain", "--no-legend", UNIT).stdout
    return [line.split()[0] for line in listed.splitlines()]


def ssh_of_connection(host: Host) -> str:
    """Return the process of the only shared connection."""
    return host.machine.run("pgrep", "-f", f"^ssh -F {CONNECTIONS}/").stdout.strip()


def volumes(host: Host, count: int) -> list[str]:
    """Make volumes that are all on one server."""
    names = [f"shared-{number}" for number in range(count)]
    for name in names:
        directory = host.directory(name)
        host.machine.sh(f"echo {name} >{directory}/name; chown -R alice: {directory}")
        host.create(name, directory)
    return names


def use(host: Host, name: str) -> None:
    """Let a container stay that has a volume."""
    host.start(f"user-of-{name}", name, STAY)


def reads(host: Host, name: str) -> bool:
    """Tell whether the container reads what is in its volume."""
    said = host.machine.run("docker", "exec", f"user-of-{name}", "cat", "/data/name", check=False, timeout=60)
    return said.stdout.strip() == name


def test_volumes_of_a_server_share_a_login_and_each_is_on_its_own_when_it_is_lost(host: Host) -> None:
    first, second, third = volumes(host, 3)
    since = host.from_here()
    use(host, first)
    use(host, second)
    assert logins(host, since) == 1
    assert host.property(units(host)[0], "ActiveState") == "active"

    host.machine.run("kill", "-KILL", ssh_of_connection(host))
    host.machine.until(lambda: reads(host, first) and reads(host, second), timeout=30)
    host.machine.until(lambda: not units(host))
    assert host.machine.run("ls", "-A", CONNECTIONS).stdout.split() == ["salt"]
    use(host, third)
    assert reads(host, third)
    assert len(units(host)) == 1


def test_connection_that_hangs_is_left_alone_and_holds_up_one_volume_for_seconds(host: Host) -> None:
    first, second, third = volumes(host, 3)
    use(host, first)
    hanging = ssh_of_connection(host)
    host.machine.run("kill", "-STOP", hanging)
    try:
        use(host, second)
        assert reads(host, second)
        since = host.from_here()
        use(host, third)
        assert reads(host, third)
        assert logins(host, since) == 1
        assert len(units(host)) == 2
    finally:
        host.machine.run("kill", "-CONT", hanging)
    assert reads(host, first)


def test_eleventh_volume_gets_another_connection(host: Host) -> None:
    names = volumes(host, 11)
    since = host.from_here()
    for name in names:
        use(host, name)
    assert all(reads(host, name) for name in names)
    assert logins(host, since) == 2
    assert len(units(host)) == 2


def test_server_that_takes_few_sessions_has_a_login_for_each_volume_beyond(host: Host) -> None:
    names = volumes(host, 3)
    with host.machine.sshd_with("MaxSessions 2\n"):
        since = host.from_here()
        for name in names:
            use(host, name)
        assert all(reads(host, name) for name in names)
        assert logins(host, since) == 2


ONE_AT_A_TIME = """\
#!/bin/sh
# the one that asks, and no other that has not ended; its process may still be about to
[ "$(ss -Htn state established 'sport = :22' | wc -l)" -le 1 ]
"""


@contextmanager
def one_connection_at_a_time(host: Host) -> Iterator[None]:
    """Close each further connection when it has logged in, as hosted storage does that has a limit."""
    settings, program = "/etc/pam.d/sshd", "/usr/local/sbin/one-at-a-time"
    before = host.machine.read(settings)
    host.machine.write(program, ONE_AT_A_TIME, mode=0o755)
    host.machine.write(settings, f"account required pam_exec.so quiet {program}\n{before}")
    try:
        yield
    finally:
        host.machine.write(settings, before)
        host.machine.run("rm", program)


def test_server_that_takes_one_connection_at_a_time_has_as_many_volumes_as_that_one_takes(host: Host) -> None:
    """The connection of a check is kept for a moment, and is no obstacle to the mount that follows."""
    machine, directory = host.machine, host.directory("limited")
    machine.until("! ss -Htn state established 'sport = :22' | grep .")
    with one_connection_at_a_time(host):
        since = host.from_here()
        host.create("limited-0", directory)
        host.start("first", "limited-0", "echo hello >/data/hello;" + STAY)
        machine.until(lambda: machine.read(f"{directory}/hello") == "hello\n")
        # a check would be another connection
        refused = host.create("limited-1", directory, check=False)
        assert "localhost broke the login of alice off" in refused.stderr
        machine.run(
            *("docker", "volume", "create", "-d", "sshfs", "-o", "check=mount", "-o", f"IdentityFile={KEY}"),
            *("-o", f"sshcmd=alice@localhost:{directory}", "limited-1"),
        )
        assert host.run("limited-1", "cat /data/hello").stdout == "hello\n"
        # the check of the Create may still count when the mount first logs in: then there are one more, and a refusal
        assert logins(host, since) <= 3
        assert machine.journal(since).count("Access denied for user alice") <= 2, "servers ban who is refused often"
        host.clear()


def test_another_password_is_never_let_in_by_a_connection_that_stands(host: Host) -> None:
    directory = host.directory("secret")
    for name, password in (("let-in", "right"), ("refused", "wrong")):
        host.machine.write(f"/root/{password}.password", f"{password}\n", mode=0o600)
        options = ("-o", f"sshcmd=alice@localhost:{directory}", "-o", f"password_file=/root/{password}.password")
        host.machine.run("docker", "volume", "create", "-d", "sshfs", "-o", "check=mount", *options, name)
    with host.password("right"):
        host.start("user-of-let-in", "let-in", STAY)
        refused = host.run("refused", "true", check=False)
    assert "localhost refused to let alice in with the password" in refused.stderr


def test_volume_with_a_connection_of_its_own_shares_none(host: Host) -> None:
    directory = host.directory("own")
    host.create("own", directory, own_connection="yes")
    host.start("user-of-own", "own", STAY)
    assert not units(host)
