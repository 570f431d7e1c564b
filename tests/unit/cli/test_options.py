# SPDX-License-Identifier: MIT
"""docker-volume-sshfs options, and what shells suggest."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from support.administrator import Administrator
from support.ssh_keys import host_key

from sshfs_plugin import options
from sshfs_plugin.options.table import IGNORED, REFUSED, TABLE, TOPICS
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.known_hosts import HostKey, KnownHosts
from sshfs_plugin.state.records import VolumeRecords
from sshfs_plugin.volume import VolumeName


def test_options_explains_every_option_and_why_others_can_not_be(administrator: Administrator) -> None:
    said = administrator("options")
    assert said.code == 0
    text = " ".join(said.out.split())
    for topic in TOPICS:
        assert f" {topic.title} {topic.rows[0].name}" in f" {text}"
    for option in TABLE:
        assert f" {option.name}" in text
        assert option.meaning.replace("`", "").split(".")[0] in text
    for name, reason in (*REFUSED.items(), *IGNORED.items()):
        assert name in text
        assert f": {reason}." in text
    assert "`" not in said.out
    assert max(map(len, said.out.splitlines())) <= 80


def test_options_of_one_option_has_its_default_and_other_spellings(administrator: Administrator) -> None:
    said = administrator("options", "stricthostkeychecking")
    assert said.code == 0
    text = " ".join(said.out.split())
    assert text.startswith("host_key_check=accept-new|yes|no accept-new trusts a server at the")
    assert text.endswith("Default: accept-new. Also: StrictHostKeyChecking.")
    assert " Its opposite: rw." in " ".join(administrator("options", "ro").out.split())


def test_options_of_one_that_is_ignored_says_why(administrator: Administrator) -> None:
    said = administrator("options", "nodev")
    assert (said.code, said.out) == (0, "nodev is accepted and changes nothing about a volume: it is always so.\n")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        (
            "proxycommand",
            "option 'ProxyCommand' is refused: it would run a command of the volume's creator as root on this host",
        ),
        ("identityfle", "unknown option 'identityfle': did you mean 'IdentityFile'?"),
    ],
)
def test_options_that_a_volume_can_not_have_end_with_two(administrator: Administrator, name: str, error: str) -> None:
    said = administrator("options", name)
    assert (said.code, said.out) == (2, "")
    assert said.err.lower() == f"docker-volume-sshfs: {error}\n".lower()


def test_options_is_for_everybody(administrator: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert administrator("options", "gid").out == "  gid=number  Every file appears to belong to this group.\n"


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
    assert suggestions(settings, "s") == ["status"]
    assert suggestions(settings, "check", "ph") == ["photos"]
    assert suggestions(settings, "status", "") == ["photos"]
    assert suggestions(settings, "host-key", "forget", "") == ["[nas]:2222"]
    assert suggestions(settings, "check", "-o", "check=") == ["check=create", "check=mount", "check=never"]
    assert suggestions(settings, "options", "proxyc") == ["ProxyCommand"]


def test_suggestions_where_nothing_is_on_record_are_none(settings: Settings) -> None:
    assert suggestions(settings, "status", "") == []
    assert suggestions(settings, "host-key", "show", "") == []
    assert not settings.state.exists()
