# SPDX-License-Identifier: MIT
"""docker-volume-sshfs metrics: what Prometheus reads, what it may not, and how a file of it is replaced."""

import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.administrator import Administrator
from support.clients import ID, SSHCMD, DockerClient
from support.driver import FakeHost, slow_slots
from support.programs import Programs
from support.serving import serving

from sshfs_plugin import errors
from sshfs_plugin.cli.status import ListedVolume
from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.driver.values import Condition
from sshfs_plugin.http import api
from sshfs_plugin.preflight.checks import Check
from sshfs_plugin.settings import Settings

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/metrics.md"
ALERTS = ROOT / "docs/alerts.yml"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command be of a package, which a checkout is not and a build is."""
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "1.2.3")


@pytest.fixture(autouse=True)
def systemctl(programs: Programs) -> None:
    programs.add("systemctl")


@pytest.fixture
def docker(driver: Driver, settings: Settings) -> Iterator[DockerClient]:
    """Give Docker's end of the socket where the command looks for it."""
    settings.runtime.mkdir(parents=True)
    with serving(api.create_app(driver, slow_slots=slow_slots(), tell=lambda _: None), settings.socket):
        yield DockerClient(settings.socket)


def samples(text: str) -> dict[str, float]:
    """Return the samples of a text that Prometheus takes, without the prefix of their names."""
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    found = (sample for family in families for sample in family.samples)
    return {
        sample.name.removeprefix("docker_volume_sshfs_")
        + "".join(f" {name}={text}" for name, text in sorted(sample.labels.items())): sample.value
        for sample in found
    }


def busy(docker: DockerClient, host: FakeHost) -> None:
    """Let there be a volume that is lost, one that is mounted, and a failure of each kind."""
    docker.create("photos", {"sshcmd": "alice@nas.example.org:/photos", "password": "hunter2"})
    docker.create("music", {"sshcmd": SSHCMD})
    docker.mount("photos")
    host.supervisor.reconnected["photos"] = 2
    refused = errors.LoginRefused("alice may not log in on nas.example.org")
    refused.check = "login"
    host.preflight.problems["films"] = refused
    docker.create("films", {"sshcmd": SSHCMD})
    host.supervisor.start_problems["music"] = errors.MountFailed("sshfs could not mount it")
    docker.mount("music")


def test_metrics_tell_states_holders_errors_and_counts(
    administrator: Administrator, docker: DockerClient, host: FakeHost
) -> None:
    busy(docker, host)
    said = administrator("metrics")
    assert (said.code, said.err) == (0, "")
    found = samples(said.out)
    now = datetime.now(UTC).timestamp()
    assert (found["up"], found["build_info version=1.2.3"]) == (1, 1)
    states = {name: value for name, value in found.items() if name.startswith("volume_state state")}
    assert len(states) == 2 * len(Condition)
    assert [name for name, value in states.items() if value] == [
        "volume_state state=unmounted volume=music",
        "volume_state state=mounted volume=photos",
    ]
    assert found["volume_holders volume=photos"] == 1
    assert found["volume_reconnects_total volume=photos"] == 2
    for moment in (
        "start_time_seconds",
        "volume_state_since_timestamp_seconds volume=photos",
        "volume_last_error_timestamp_seconds volume=music",
    ):
        assert now - 60 < found[moment] <= now
    assert "volume_last_error_timestamp_seconds volume=photos" not in found
    assert found["calls_total verb=Create"] == 3
    assert "calls_total verb=List" not in found, "the command itself has asked for it"
    assert found["failures_total check= error=MountFailed verb=Mount"] == 1
    assert found["failures_total check=login error=LoginRefused verb=Create"] == 1
    assert found["mount_duration_seconds_count"] == found["mount_duration_seconds_bucket le=+Inf"] == 1
    assert 0 < found["mount_duration_seconds_sum"] < 60
    assert found["check_duration_seconds_count check=login"] == 0
    assert found["unmounts_total"] == 0


def test_metrics_name_no_server_login_password_or_container(
    administrator: Administrator, docker: DockerClient, host: FakeHost
) -> None:
    busy(docker, host)
    said = administrator("metrics").out
    assert "photos" in said
    assert not re.search(f"alice|nas|hunter2|{ID}", said)


def test_metrics_without_the_service_say_that_it_is_down_and_succeed(administrator: Administrator) -> None:
    said = administrator("metrics")
    assert said.code == 0
    assert "sshfs.sock is closed: systemctl enable --now docker-volume-sshfs.socket opens it" in said.err
    assert samples(said.out) == {"up": 0, "build_info version=1.2.3": 1}


def test_file_of_metrics_is_replaced_as_a_whole_and_readable_by_all(
    administrator: Administrator, docker: DockerClient, tmp_path: Path
) -> None:
    directory = tmp_path / "node-exporter"
    directory.mkdir()
    file = directory / "docker-volume-sshfs.prom"
    file.write_text("older")
    file.chmod(0o600)
    with file.open() as reader:
        assert administrator("metrics", "--output", str(file)).out == ""
        assert reader.read() == "older"
    assert samples(file.read_text())["up"] == 1
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(directory.iterdir()) == [file]


def test_file_of_metrics_that_cannot_be_written_is_an_error(administrator: Administrator, tmp_path: Path) -> None:
    said = administrator("metrics", "--output", str(tmp_path / "nowhere/metrics.prom"))
    assert said.code == 1
    assert said.err.splitlines()[-1] == (
        f"docker-volume-sshfs: cannot write {tmp_path}/nowhere/metrics.prom, No such file or directory: "
        "is its directory there, and on a disk with room?"
    )


def test_what_is_no_regular_file_is_not_replaced_by_the_metrics(administrator: Administrator, tmp_path: Path) -> None:
    directory = tmp_path / "dev"
    directory.mkdir()
    device, link = directory / "device", directory / "link"
    os.mkfifo(device)
    link.symlink_to("/dev/null")
    for output in (device, link):
        said = administrator("metrics", "--output", str(output))
        assert said.code == 1
        assert said.err.splitlines()[-1] == (
            f"docker-volume-sshfs: cannot write {output}, it is no regular file, and would be replaced by one: "
            "name a file, or leave --output out"
        )
    assert (device.is_fifo(), link.is_symlink()) == (True, True)
    assert sorted(directory.iterdir()) == [device, link]


def test_missing_library_is_an_error_that_names_its_package(
    administrator: Administrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "sshfs_plugin.cli.prometheus", raising=False)
    monkeypatch.delattr(sys.modules["sshfs_plugin.cli"], "prometheus", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)  # type: ignore[misc]  # as import wants it
    said = administrator("metrics")
    assert said.code == 1
    assert said.err.splitlines()[-1] == (
        "docker-volume-sshfs: the metrics need the package python3-prometheus-client, which is not installed: "
        "apt install python3-prometheus-client"
    )


def test_metrics_are_for_root(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert Administrator(settings)("metrics").code == 2


def test_service_that_answers_otherwise_counts_as_down(
    administrator: Administrator, docker: DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.create("photos", {"sshcmd": SSHCMD})
    monkeypatch.setattr(ListedVolume, "status", {"state": "unheard of"})
    said = administrator("metrics")
    assert said.code == 0
    assert "is of another version than this command" in said.err
    assert samples(said.out)["up"] == 0


def names_of(text: str) -> set[str]:
    return set(re.findall(r"\bdocker_volume_sshfs_\w+", text))


def test_every_metric_is_on_the_page_and_no_other(
    administrator: Administrator, docker: DockerClient, host: FakeHost
) -> None:
    busy(docker, host)
    rendered = {
        f"{name}{'_total' if kind == 'counter' and not name.endswith('_total') else ''}"
        for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", administrator("metrics").out, re.MULTILINE)
    }
    assert set(re.findall(r"^\| `(\w+)(?:\{.*?\})?` \|", PAGE.read_text(), re.MULTILINE)) == rendered


def test_every_check_is_on_the_page_and_no_other() -> None:
    _, _, after = PAGE.read_text().partition("The checks are those that `docker-volume-sshfs check` prints, as ")
    named, _, _ = after.partition(", which the service never tries")
    assert re.findall("`(.*?)`", named) == [check.label for check in Check]


def test_alerts_use_metrics_that_there_are() -> None:
    used = {re.sub("_(sum|count)$", "", name) for name in names_of(ALERTS.read_text())}
    assert used <= names_of(PAGE.read_text())


def test_alerts_are_tried_by_name_each() -> None:
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    tried = (ROOT / "tests/lab/alerts.test.yml").read_text()
    assert len(alerts) > 4
    assert [alert for alert in alerts if f"alertname: {alert}" not in tried] == []
