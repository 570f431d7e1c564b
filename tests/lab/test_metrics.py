# SPDX-License-Identifier: MIT
"""Metrics, alerts and the journal, as the page has them: with Debian's node_exporter, promtool and journalctl."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .documents import section
from .host import PACKAGE, ROOT, STAY, Host
from .machines.commands import on_host
from .promtool import promtool

PAGE = "docs/metrics.md"
TIMER = f"{PACKAGE}-metrics.timer"
FILE = f"/var/lib/prometheus/node-exporter/{PACKAGE}.prom"


def test_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    for file in ("docs/alerts.yml", "tests/lab/alerts.test.yml"):
        shutil.copy(ROOT / file, tmp_path)
    on_host(promtool(), "test", "rules", tmp_path / "alerts.test.yml")


@pytest.fixture
def monitored(host: Host) -> Iterator[Host]:
    """Give a host whose metrics are switched on as the page says, and switched off again in the end."""
    switch_on, switch_off = section(PAGE, "Switch it on")
    assert host.property(TIMER, "UnitFileState") == "disabled"
    said = host.machine.sh('sh -c "$1" 2>&1', switch_on).stdout
    assert "docker_volume_sshfs_up 1.0\n" in said
    yield host
    host.machine.sh('sh -c "$1" 2>&1', switch_off)
    assert not host.machine.run("test", "-e", FILE, check=False)
    assert host.property(TIMER, "ActiveState") == "inactive"


def scraped(host: Host) -> str:
    """Return what node_exporter tells."""
    return host.machine.sh(
        "curl -sS --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:9100/metrics"
    ).stdout


def test_metrics_reach_node_exporter_and_are_as_prometheus_wants_them(monitored: Host, tmp_path: Path) -> None:
    host, machine = monitored, monitored.machine
    directory = host.directory("measured")
    host.create("measured", directory)
    service = f"{PACKAGE}-metrics.service"
    host.start("user", "measured", STAY)
    host.cut_connections()
    machine.until(lambda: '_reconnects_total{volume="measured"} 1.0' in machine.run(PACKAGE, "metrics").stdout)
    assert not host.create("refused", directory, check=False, sshcmd=f"nobody@localhost:{directory}")
    since = host.from_here()
    machine.run("systemctl", "start", service)
    machine.run("systemctl", "start", "prometheus-node-exporter")
    try:
        told = scraped(host)
    finally:
        machine.run("systemctl", "stop", "prometheus-node-exporter")
    for sample in (
        "docker_volume_sshfs_up 1",
        'docker_volume_sshfs_volume_state{state="mounted",volume="measured"} 1',
        'docker_volume_sshfs_volume_holders{volume="measured"} 1',
        'docker_volume_sshfs_failures_total{check="login",error="LoginRefused",verb="Create"} 1',
        f'docker_volume_sshfs_build_info{{version="{host.version()}"}} 1',
    ):
        assert f"{sample}\n" in told
    assert "localhost" not in "".join(line for line in told.splitlines() if line.startswith("docker_volume_sshfs"))
    (tmp_path / "metrics").write_text(machine.read(FILE))
    on_host("sh", "-c", f"{promtool()} check metrics <{tmp_path}/metrics")
    assert machine.run("stat", "-c", "%a", FILE).stdout == "644\n"
    assert machine.journal("-u", service, since) == "", "a run that goes well says nothing"


def test_metrics_of_a_stopped_service_say_so_in_the_file_and_in_the_journal(monitored: Host) -> None:
    host, machine = monitored, monitored.machine
    since = host.from_here()
    machine.run("systemctl", "stop", f"{PACKAGE}.socket", f"{PACKAGE}.service")
    try:
        machine.run("systemctl", "start", f"{PACKAGE}-metrics.service")
    finally:
        machine.run("systemctl", "start", f"{PACKAGE}.socket")
    assert "docker_volume_sshfs_up 0.0\n" in machine.read(FILE)
    assert "sshfs.sock is closed" in machine.journal("-u", f"{PACKAGE}-metrics.service", since)


def test_the_journal_has_all_of_a_volume_by_sshfs_as_well_and_explains_it(host: Host) -> None:
    machine, directory = host.machine, host.directory("photos")
    host.create("photos", directory)
    host.start("user", "photos", STAY)
    host.cut_connections()
    machine.until(lambda: "connected again after" in machine.journal("VOLUME=photos", "-t", "sshfs"))
    machine.run(PACKAGE, "release", "--force", "photos")
    _, commands = section(PAGE, "The journal")
    said = machine.sh('sh -c "$1" 2>&1', commands).stdout
    for line in ("Create photos: created", "Mount photos: mounted", "the connection is lost", "release --force photos"):
        assert line in said
    assert "Subject: The volume photos is mounted for a container\n" in said
    assert "Subject: An administrator has unmounted the volume photos by force\n" in said
