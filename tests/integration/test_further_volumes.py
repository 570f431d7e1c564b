# SPDX-License-Identifier: MIT
"""Further volumes of a server whose login has just passed, with a real sshd."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.ssh_keys import make_key

from integration.plugin import Plugin, Refused
from integration.sshd import Server, start_server


@pytest.fixture
def nas(server: Server) -> Iterator[Server]:
    """A server of its own, whose log tells of this test alone."""
    with start_server(model=server) as nas:
        yield nas


def logins(server: Server) -> int:
    """Return how often a server has let somebody in."""
    return (server.directory / "log").read_text(errors="replace").count("Accepted ")


def test_further_volumes_take_one_login_and_each_is_checked_and_mounts(plugin: Plugin, nas: Server) -> None:
    for name in ("music", "photos", "films"):
        plugin.create(name, nas.options(nas.make(name)))
    plugin.create("made", nas.options(nas.data / "made", create_directory=""))
    assert logins(nas) == 1
    with pytest.raises(Refused, match=r"the directory \S+/missing does not exist on 127.0.0.1 for .*: make it first"):
        plugin.create("missing", nas.options(nas.data / "missing"))
    (plugin.mount("films") / "file").touch()
    assert (nas.data / "films/file").exists()
    plugin.unmount("films")


def test_a_hundred_volumes_at_once_take_a_login_for_each_slot(plugin: Plugin, nas: Server) -> None:
    with ThreadPoolExecutor(100) as threads:
        list(threads.map(lambda number: plugin.create(f"volume{number}", nas.options(nas.data)), range(100)))
    assert logins(nas) <= 2 * 8


def test_ten_volumes_mounted_in_one_moment_take_few_logins(plugin: Plugin, server: Server) -> None:
    """One for the connection, and those of the checks that begin before that is being made.

    These are more on a host that lets the first of them wait just then, so the fewest of three times count.
    """
    taken = []
    for time in range(3):
        names = [f"volume{time}{number}" for number in range(10)]
        with start_server(model=server) as nas:
            for name in names:
                plugin.create(name, nas.options(nas.make(name), check="mount"))
            with ThreadPoolExecutor(len(names)) as threads:
                list(threads.map(plugin.mount, names))
            taken.append(logins(nas))
            for name in names:
                plugin.unmount(name)
    assert min(taken) <= 5


def test_ten_volumes_mounted_in_one_moment_with_a_wrong_key_are_refused_twice(
    plugin: Plugin, server: Server, tmp_path: Path
) -> None:
    """Servers ban: fail2ban after five times, if nothing else is said."""
    names = [f"volume{number}" for number in range(10)]
    stranger = make_key(tmp_path / "stranger", "-t", "ed25519")
    with start_server("LogLevel VERBOSE", model=server) as nas:
        for name in names:
            plugin.create(name, nas.options(nas.data, check="mount", IdentityFile=str(stranger)))

        def refusal(name: str) -> str:
            with pytest.raises(Refused) as refused:
                plugin.mount(name)
            return str(refused.value)

        with ThreadPoolExecutor(len(names)) as threads:
            said = list(threads.map(refusal, names))
        assert all("refused to let" in each for each in said)
        assert 1 <= (nas.directory / "log").read_text(errors="replace").count("Failed publickey") <= 3


def test_a_server_that_was_restarted_costs_a_new_login(plugin: Plugin, nas: Server) -> None:
    plugin.create("before", nas.options(nas.data))
    with nas.away(), pytest.raises(Refused, match="connection refused"):
        plugin.create("meanwhile", nas.options(nas.data))
    plugin.create("after", nas.options(nas.data))
    nas.cut_connections()
    plugin.create("later", nas.options(nas.data))
    assert logins(nas) == 3


def test_a_connection_that_hangs_costs_a_new_login(plugin: Plugin, nas: Server) -> None:
    plugin.create("before", nas.options(nas.data))
    with nas.frozen_connections():
        plugin.create("meanwhile", nas.options(nas.data))
    assert logins(nas) == 2


def test_a_server_with_one_session_for_each_connection_is_enough(plugin: Plugin, server: Server) -> None:
    with start_server("MaxSessions 1", model=server) as small:
        for number in range(3):
            plugin.create(f"volume{number}", small.options(small.data))
        assert logins(small) == 1


def test_another_key_under_the_same_name_is_refused_at_once(plugin: Plugin, nas: Server, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(nas.key.read_bytes())
    key.chmod(0o600)
    plugin.create("photos", nas.options(nas.data, IdentityFile=str(key)))
    key.write_bytes(make_key(tmp_path / "stranger", "-t", "ed25519").read_bytes())
    with pytest.raises(Refused, match="refused to let"):
        plugin.create("films", nas.options(nas.data, IdentityFile=str(key)))
