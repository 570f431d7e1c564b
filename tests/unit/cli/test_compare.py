# SPDX-License-Identifier: MIT
"""docker-volume-sshfs status --compare: two hosts whose volumes have drifted apart."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.administrator import Administrator
from support.clients import SSHCMD
from support.driver import slow_slots
from support.programs import Programs
from support.serving import serving
from support.waiting import soon

from sshfs_plugin import options
from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.http import api
from sshfs_plugin.settings import Settings
from sshfs_plugin.state.records import VolumeRecords
from sshfs_plugin.volume import VolumeName


@pytest.fixture(autouse=True)
def volumes(driver: Driver, settings: Settings, programs: Programs) -> Iterator[None]:
    """Serve the volumes photos and music."""
    programs.add("systemctl", "exit 0")
    settings.runtime.mkdir(parents=True)
    settings.volumes.mkdir(parents=True)
    for name, given in {
        "music": {"sshcmd": SSHCMD, "password": "hunter2"},
        "photos": {"sshcmd": SSHCMD, "uid": "1000"},
    }.items():
        driver.create(name, given, soon())
        VolumeRecords(settings.volumes).save(options.parse(VolumeName(name), given, datetime.now(UTC)))
    with serving(api.create_app(driver, slow_slots=slow_slots(), tell=lambda _: None), settings.socket):
        yield


def other_host(**volumes: dict[str, str]) -> str:
    return json.dumps({"volumes": [{"name": name, "options": given} for name, given in volumes.items()]})


def test_compare_with_itself_finds_nothing(administrator: Administrator, tmp_path: Path) -> None:
    told = tmp_path / "other.json"
    told.write_text(administrator("status", "--json").out)
    said = administrator("status", "--compare", str(told))
    assert (said.code, said.out, said.err) == (0, "", "")


def test_compare_names_what_differs_and_what_is_missing(administrator: Administrator) -> None:
    there = other_host(photos={"sshcmd": SSHCMD, "uid": "1001", "ro": "yes"}, films={"sshcmd": SSHCMD})
    said = administrator("status", "--compare", "-", answer=there)
    assert (said.code, said.err) == (1, "")
    assert said.out.splitlines() == [
        "films: only there",
        "music: only here",
        "photos: ro is not given here and yes there, uid is 1000 here and 1001 there",
    ]


def test_compare_shows_no_password_and_can_not_tell_two_apart(administrator: Administrator) -> None:
    there = other_host(photos={"sshcmd": SSHCMD, "uid": "1000"}, music={"sshcmd": SSHCMD})
    said = administrator("status", "--compare", "-", answer=there)
    assert (said.code, said.out) == (1, "music: password is (not shown) here and not given there\n")
    there = other_host(photos={"sshcmd": SSHCMD, "uid": "1000"}, music={"sshcmd": SSHCMD, "password": "(not shown)"})
    assert administrator("status", "--compare", "-", answer=there).code == 0


def test_compare_takes_options_that_can_not_be_read_for_others(
    administrator: Administrator, settings: Settings
) -> None:
    (settings.volumes / "music.json").write_text("{}")
    there = other_host(photos={}, music={})
    assert administrator("status", "--compare", "-", answer=there).out.splitlines() == [
        "music: its options can't be read here and there",
        "photos: its options can't be read there",
    ]


@pytest.mark.parametrize("told", ["", "[]", "{}", '{"volumes": [{"name": "photos"}]}', '{"volumes": [3]}', "[" * 99999])
def test_compare_with_something_else_says_what_is_needed(administrator: Administrator, told: str) -> None:
    said = administrator("status", "--compare", "-", answer=told)
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        "docker-volume-sshfs: <stdin> is not what docker-volume-sshfs status --json prints: write it anew on the other "
        "host, with the same version of the package\n"
    )


@pytest.mark.parametrize("word", ["photos", "", "--json"])
def test_compare_is_of_all_volumes_and_for_people(administrator: Administrator, word: str) -> None:
    said = administrator("status", word, "--compare", "-", answer="{}")
    assert said.code == 2
    assert "--compare goes with neither a NAME nor --json" in said.err
