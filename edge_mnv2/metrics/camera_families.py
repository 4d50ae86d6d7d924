"""Metrics of the cameras' loops: results, age, stages, drops, objects, states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edge_mnv2.metrics.families import Family, Row, counter, gauge, info, stateset
from edge_mnv2.readings import CameraFigures, Percentiles

_STATES = ("opening", "live", "stalled", "lost", "reconnecting", "ended")


def camera_families(cameras: Mapping[str, CameraFigures]) -> Iterator[Family]:
    """Yield what the loops say of themselves.

    Percentiles are gauges: they are of a sliding window, without the sum and the count since the start that
    make a summary. Objects are those in view now, so a camera that is not live has none.
    """
    each = cameras.items()
    yield counter(
        "edge_mnv2_results",
        "Results since the start.",
        [((name,), camera.frames) for name, camera in each],
        ("camera",),
    )
    yield gauge(
        "edge_mnv2_results_per_second",
        "Results per second over the last seconds; absent before there are two.",
        [((name,), camera.fps) for name, camera in each],
        ("camera",),
    )
    yield gauge(
        "edge_mnv2_frame_age_seconds",
        "From capture to the end of decoding, percentiles over the last seconds.",
        [((name, *values), age_s) for name, camera in each for values, age_s in _percentiles(camera.age)],
        ("camera", "percentile"),
        "seconds",
    )
    yield gauge(
        "edge_mnv2_stage_seconds",
        "Duration of each stage, percentiles over the last seconds.",
        [
            ((name, stage, *values), time_s)
            for name, camera in each
            for stage, spread in camera.stages.items()
            for values, time_s in _percentiles(spread)
        ],
        ("camera", "stage", "percentile"),
        "seconds",
    )
    yield counter(
        "edge_mnv2_drops",
        "Lost frames and results since the start, by cause.",
        [((name, cause), count) for name, camera in each for cause, count in camera.drops.items()],
        ("camera", "cause"),
    )
    yield gauge(
        "edge_mnv2_objects",
        "Objects in the newest result by label; none while the camera is not live.",
        [((name, label), count) for name, camera in each for label, count in _objects(camera).items()],
        ("camera", "label"),
    )
    yield from _states(cameras)


def _states(cameras: Mapping[str, CameraFigures]) -> Iterator[Family]:
    each = cameras.items()
    yield gauge(
        "edge_mnv2_camera_up",
        "Whether the camera is live.",
        [((name,), float(camera.state == "live")) for name, camera in each],
        ("camera",),
    )
    yield stateset(
        "edge_mnv2_camera_state",
        "What the camera does.",
        ("camera",),
        _STATES,
        [(name, camera.state) for name, camera in each],
    )
    yield gauge(
        "edge_mnv2_camera_state_since_timestamp_seconds",
        "When this state began, in seconds since 1970.",
        [
            ((name,), None if camera.state_since is None else camera.state_since.timestamp())
            for name, camera in each
        ],
        ("camera",),
        "seconds",
    )
    yield counter(
        "edge_mnv2_camera_losses",
        "How often the camera was lost.",
        [((name,), camera.losses) for name, camera in each],
        ("camera",),
    )
    yield info(
        "edge_mnv2_camera",
        "What the camera is, and what runs on its frames.",
        ("camera", "source", "model", "task", "engine", "precision"),
        [
            (name, camera.source, camera.model, camera.task, camera.engine, camera.precision)
            for name, camera in each
        ],
    )


def _percentiles(spread: Percentiles | None) -> Sequence[Row]:
    if spread is None:
        return ()
    each = (("50", spread.p50_ms), ("95", spread.p95_ms), ("99", spread.p99_ms))
    return [((percentile,), value_ms / 1000) for percentile, value_ms in each]


def _objects(camera: CameraFigures) -> Mapping[str, int]:
    return camera.counts if camera.state == "live" else {}
