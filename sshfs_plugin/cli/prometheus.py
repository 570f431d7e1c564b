# SPDX-License-Identifier: MIT
"""The metrics as Prometheus reads them; docs/metrics.md explains each."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from prometheus_client import generate_latest  # noqa: TID251 (this is the place)
from prometheus_client.core import (  # noqa: TID251
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector  # noqa: TID251

from sshfs_plugin.cli.status import ListedVolume
from sshfs_plugin.driver.values import Condition

PREFIX = "docker_volume_sshfs_"


def text(version: str, volumes: Sequence[ListedVolume], counters: Mapping[str, Any] | None) -> str:
    """Return the metrics as text.

    Args:
        version: The version that is installed.
        volumes: The volumes, as the service lists them.
        counters: What the service has counted, as docs/openapi.json describes it; None if it can't be asked.

    Raises:
        ServiceError: The service is of another version.
    """
    registry = CollectorRegistry()
    registry.register(_Fixed([*_plugin(version, is_up=counters is not None), *_volumes(volumes), *_counted(counters)]))
    return generate_latest(registry).decode()


class _Fixed(Collector):
    """Metrics that are known already."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Sequence[Metric]:
        return self._metrics

    def describe(self) -> Sequence[Metric]:
        return ()


def _plugin(version: str, *, is_up: bool) -> Iterator[Metric]:
    yield GaugeMetricFamily(f"{PREFIX}up", "Whether the service of the plugin answers.", value=is_up)
    build = GaugeMetricFamily(f"{PREFIX}build_info", "The version that is installed.", labels=["version"])
    build.add_metric([version], 1)
    yield build


def _volumes(volumes: Sequence[ListedVolume]) -> Iterator[Metric]:
    states = GaugeMetricFamily(
        f"{PREFIX}volume_state", "1 for the state that a volume is in, 0 for the others.", labels=["volume", "state"]
    )
    since = _by_volume("volume_state_since_timestamp_seconds", "Since when the volume was seen in its state.")
    holders = _by_volume("volume_holders", "How many containers hold the volume; all of Podman count as one.")
    errors_at = _by_volume(
        "volume_last_error_timestamp_seconds", "When the last error of the volume was, if it has one."
    )
    for volume in volumes:
        for condition in Condition:
            states.add_metric([volume.name, condition.value], condition is volume.condition)
        since.add_metric([volume.name], _seconds(volume.status["since"]))
        holders.add_metric([volume.name], volume.status["holders"])
        if at := volume.status.get("lastErrorAt"):
            errors_at.add_metric([volume.name], _seconds(at))
    yield from (states, since, holders, errors_at)


def _counted(counters: Mapping[str, Any] | None) -> Iterator[Metric]:
    if counters is None:
        return
    started_at = _seconds(counters["startedAt"])
    yield GaugeMetricFamily(f"{PREFIX}start_time_seconds", "When the service was started.", value=started_at)
    calls = CounterMetricFamily(f"{PREFIX}calls", "Calls of Docker and Podman.", labels=["verb"])
    for call in counters["calls"]:
        calls.add_metric([call["verb"]], call["count"])
    yield calls
    names = ("verb", "check", "error")
    failures = CounterMetricFamily(
        f"{PREFIX}failures", "Calls and unmounts that have failed, and by which check.", labels=names
    )
    for failure in counters["failures"]:
        failures.add_metric([failure[name] for name in names], failure["count"])
    yield failures
    mounts = HistogramMetricFamily(
        f"{PREFIX}mount_duration_seconds",
        "From a Mount until the volume could be used, without the wait for a server that is not up yet.",
    )
    mounts.add_metric([], *_histogram(counters["mounts"]))
    yield mounts
    checks = HistogramMetricFamily(
        f"{PREFIX}check_duration_seconds", "How long each check of servers took, passed or not.", labels=["check"]
    )
    for check in counters["checks"]:
        checks.add_metric([check["check"]], *_histogram(check))
    yield checks
    yield CounterMetricFamily(
        f"{PREFIX}unmounts", "Volumes that were unmounted since nobody used them.", value=counters["unmounts"]
    )
    reconnects = CounterMetricFamily(
        f"{PREFIX}volume_reconnects",
        "How often the volume was connected again since it was mounted.",
        labels=["volume"],
    )
    for volume in counters["reconnects"]:
        reconnects.add_metric([volume["volume"]], volume["count"])
    yield reconnects


def _by_volume(name: str, meaning: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}{name}", meaning, labels=["volume"])


def _histogram(durations: Mapping[str, Any]) -> tuple[list[tuple[str, float]], float]:
    """Return the buckets, and the sum of all durations."""
    buckets = [(str(float(limit["seconds"])), limit["count"]) for limit in durations["within"]]
    return [*buckets, ("+Inf", durations["count"])], durations["seconds"]


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
