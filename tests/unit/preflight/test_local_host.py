# SPDX-License-Identifier: MIT
"""The check of what this host alone can tell."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from support.ssh_client import Client
from support.ssh_server import Server

from sshfs_plugin import errors


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        ({"IPQoS": "foo"}, "option 'IPQoS' is not what ssh takes, it says: Bad IPQoS value: foo"),
        ({"RekeyLimit": "1"}, "option 'RekeyLimit' is not what ssh takes, it says: RekeyLimit too small"),
        ({"Ciphers": "+foo"}, "option 'Ciphers' is not what ssh takes, it says: Bad SSH2 cipher spec '+foo'."),
        ({"MACs": "*"}, "option 'MACs' is not what ssh takes, it says: Bad SSH2 MAC spec '*'."),
        ({"BindInterface": "nope"}, "option 'BindInterface' names a network interface that this host does not have"),
        (
            {"idmap": "file", "uidfile": "/nope, or not"},
            "option 'uidfile' names /nope, or not, which does not exist: make it first",
        ),
        (
            {"idmap": "file", "uidfile": "/tmp/nope"},  # noqa: S108
            "option 'uidfile' names /tmp/nope, which does not exist, or is below /tmp, where the service can't see it: "
            "move it elsewhere",
        ),
        ({"known_hosts": "/nope"}, "option 'known_hosts' names /nope, which does not exist: make it first"),
        (
            {"known_hosts": "/etc/hosts/nope"},
            "option 'known_hosts' names /etc/hosts/nope, which can't be seen (Not a d",
        ),
        ({"known_hosts": f"/{'k' * 256}"}, "option 'known_hosts' names /kkk"),
        ({"known_hosts": "/etc"}, "option 'known_hosts' names /etc, which is not a file"),
        (
            {"modules": "iconv", "from_code": "NOPE"},
            "option 'from_code' is a character set that iconv does not know, as iconv -l lists them",
        ),
    ],
)
def test_option_when_this_host_can_not_follow_it_is_refused_before_the_server_is_asked(
    client: Client, server: Server, opts: Any, said: str
) -> None:
    error = client.refusal(server, password="hunter2", **opts)
    assert isinstance(error, errors.InvalidOption)
    assert str(error).startswith(said)
    assert server.connections == 0


def test_options_are_tried_where_no_temporary_file_can_be_written(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nope")
    client.run(server, password="hunter2", ConnectTimeout="15")


def test_known_hosts_when_it_would_be_waited_for_is_not_opened(client: Client, server: Server, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    said = str(client.refusal(server, password="hunter2", known_hosts=str(tmp_path / "fifo")))
    assert said == f"option 'known_hosts' names {tmp_path}/fifo, which is not a file"
    os.mkfifo(client.directory / ".ssh/known_hosts")
    client.run(server, password="hunter2")
