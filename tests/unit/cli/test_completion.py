# SPDX-License-Identifier: MIT
"""What shells suggest after docker-volume-sshfs."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime

from support.remotes import describe
from support.ssh_keys import host_key

from sshfs_plugin import options
from sshfs_plugin.options.remotes import Remotes
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.known_hosts import HostKey, KnownHosts
from sshfs_plugin.state.records import VolumeRecords
from sshfs_plugin.volume import VolumeName


def suggestions(settings: Settings, *words: str) -> list[str]:
    """Ask as bash does, in a process of its own."""
    asked = {
        "COMP_WORDS": " ".join(("docker-volume-sshfs", *words)),
        "COMP_CWORD": str(len(words)),
        "_DOCKER_VOLUME_SSHFS_COMPLETE": "bash_complete",
    }
    program = (sys.executable, "-X", "importtime", "-m", "sshfs_plugin.cli")
    environment = {**os.environ, **settings.environment(), **asked}
    answer = subprocess.run(program, env=environment, capture_output=True, text=True, check=True)
    assert not re.search(r"\| +(paramiko|flask|http\.client)$", answer.stderr, re.MULTILINE), "it would take too long"
    return [line.removeprefix("plain,") for line in answer.stdout.splitlines() if line]


def test_suggestions_are_commands_volumes_servers_and_options(settings: Settings) -> None:
    volumes = VolumeRecords(settings.volumes)
    assert volumes.load_all() == {}
    volumes.save(options.parse(VolumeName("photos"), {"sshcmd": "bob@nas:"}, datetime.now(UTC)))
    key = host_key("ed25519")
    KnownHosts.of(settings).add("nas", 2222, HostKey(kind=key.get_name(), blob=key.asbytes()))
    describe(Remotes.of(settings))
    assert suggestions(settings, "s") == ["status"]
    assert suggestions(settings, "remote", "show", "") == ["nas"]
    assert suggestions(settings, "check", "ph") == ["photos"]
    assert suggestions(settings, "status", "") == ["photos"]
    assert suggestions(settings, "host-key", "forget", "") == ["[nas]:2222"]
    assert suggestions(settings, "check", "-o", "check=") == ["check=create", "check=mount", "check=never"]
    assert suggestions(settings, "options", "proxyc") == ["ProxyCommand"]


def test_suggestions_where_nothing_is_on_record_are_none(settings: Settings) -> None:
    assert suggestions(settings, "status", "") == []
    assert suggestions(settings, "host-key", "show", "") == []
    assert not settings.state.exists()
