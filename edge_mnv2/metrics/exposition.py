"""A snapshot as the text that Prometheus scrapes; needs prometheus-client, which writes it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from edge_mnv2.errors import RequestError
from edge_mnv2.metrics.camera_families import camera_families
from edge_mnv2.metrics.device_families import device_families
from edge_mnv2.metrics.families import Family, gauge, info
from edge_mnv2.readings import Snapshot

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

# https://prometheus.io/docs/instrumenting/content_negotiation/
_PLAIN_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS_VERSION = "1.0.0"
_OPENMETRICS = f"application/openmetrics-text; version={_OPENMETRICS_VERSION}; charset=utf-8"


def check_prometheus_client() -> None:
    """Refuse to go on without the library.

    Raises:
        RequestError: It says how to install it.
    """
    if importlib.util.find_spec("prometheus_client") is None:
        raise RequestError("Metrics need prometheus-client: pip install 'edge-mnv2[metrics]'")


def snapshot_families(snapshot: Snapshot) -> Iterator[Family]:
    """Yield the metrics of a snapshot; a family without samples is not there at all."""
    for family in (
        *_process(snapshot),
        *camera_families(snapshot.cameras),
        *device_families(snapshot.device),
    ):
        if family.rows:
            yield family


def exposition(snapshot: Snapshot, accept: str = "") -> tuple[bytes, str]:
    """Return a snapshot as text, and the content type of it.

    Args:
        snapshot: Everything at one moment.
        accept: The header by which Prometheus asks for OpenMetrics; without it, the text format 0.0.4.
    """
    return registry_text(make_registry(lambda: snapshot), accept)


def make_registry(read: Callable[[], Snapshot]) -> CollectorRegistry:
    """Return a registry of its own, which reads a snapshot for every scrape."""
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(read))
    return registry


def registry_text(registry: CollectorRegistry, accept: str = "") -> tuple[bytes, str]:
    """Return what a registry holds now, and its content type; see `exposition`."""
    from prometheus_client.exposition import generate_latest
    from prometheus_client.openmetrics import exposition as openmetrics

    if _wants_openmetrics(accept):
        write: Callable[[CollectorRegistry], bytes] = openmetrics.generate_latest
        return write(registry), _OPENMETRICS
    return generate_latest(registry), _PLAIN_TEXT


class _Collector:
    """What the library asks at every scrape."""

    def __init__(self, read: Callable[[], Snapshot]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        return map(_to_metric, snapshot_families(self._read()))

    def describe(self) -> list[Metric]:
        """Promise nothing: what a device can tell is known when it is asked."""
        return []


def _process(snapshot: Snapshot) -> Iterator[Family]:
    yield info("edge_mnv2_build", "Version of edge-mnv2.", ("version",), [(snapshot.version,)])
    yield gauge(
        "edge_mnv2_start_time_seconds",
        "When this process began, in seconds since 1970.",
        [((), snapshot.started_at.timestamp())],
        unit="seconds",
    )
    yield gauge(
        "edge_mnv2_frame_energy_joules",
        "Present power divided by the present rate of results.",
        [((), snapshot.joules_per_frame())],
        unit="joules",
    )
    yield gauge(
        "edge_mnv2_frame_energy_above_idle_joules",
        "The same, of the power beyond what the device uses at idle.",
        [((), snapshot.joules_per_frame(above_idle=True))],
        unit="joules",
    )


def _to_metric(family: Family) -> Metric:
    from prometheus_client.core import Metric

    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    metric = Metric(family.name, family.help, family.type, family.unit)
    for values, number in family.rows:
        labels = dict(zip(family.labels, values, strict=True))
        if family.type == "info":
            labels = {name: value for name, value in labels.items() if value}
        metric.add_sample(family.name + suffix, labels, number)
    return metric


def _wants_openmetrics(accept: str) -> bool:
    for offer in accept.split(","):
        kind, *parameters = (part.strip() for part in offer.split(";"))
        versions = [text.partition("=")[2] for text in parameters if text.startswith("version=")]
        if kind == "application/openmetrics-text" and versions in ([], [_OPENMETRICS_VERSION]):
            return True
    return False
