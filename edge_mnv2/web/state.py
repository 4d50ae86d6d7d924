"""What the page and its API say of cameras and device, as JSON-ready values."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Any

from camera.credentials import uri_without_credentials, without_credentials
from edge_mnv2.readings import DeviceReading, as_plain
from edge_mnv2.web.feed import CameraFeed
from edge_mnv2.zoo.model import DecoderOptions


def state_event(feed: CameraFeed) -> dict[str, Any]:
    """Return what a camera does, why, and since when."""
    status = feed.status
    return {
        "camera": readable(feed.name),
        "state": feed.state,
        "reason": "" if status is None else readable(without_credentials(status.reason)),
        "since": _iso(feed.added_at if status is None else status.at),
        "lost_since": None if status is None or status.lost_since is None else _iso(status.lost_since),
        "attempt": 0 if status is None else status.attempt,
        "ended": feed.has_ended,
    }


def camera_state(feed: CameraFeed, *, labels: bool) -> dict[str, Any]:
    """Return everything that is known of a camera.

    Args:
        feed: Of the camera.
        labels: Whether the labels belong to it; ImageNet has a thousand.
    """
    moment, figures = feed.moment(), feed.read_figures()
    last = moment.last
    found = {
        "name": readable(feed.name),
        **{key: value for key, value in state_event(feed).items() if key != "camera"},
        "source": readable(uri_without_credentials(_origin(feed, "" if last is None else last.origin))),
        "image": None if last is None else {"width": last.width, "height": last.height},
        "model": None if last is None else last.model,
        "task": feed.decoder.task,
        "engine": f"{figures.engine} {figures.precision}".strip() or None,
        "frames": moment.frames,
        "fps": _rounded(moment.fps, 1),
        "age_ms": _rounded(moment.age_ms, 1),
        "stages_ms": {stage: round(value, 2) for stage, value in moment.stages_ms.items()},
        "drops": dict(figures.drops),
        "viewers": len(feed.viewers),
        "decoder": decoder_state(feed.decoder.decoder),
    }
    if labels:
        found["labels"] = {str(number): label for number, label in feed.decoder.labels.items()}
    return found


def decoder_state(options: DecoderOptions) -> dict[str, Any]:
    """Return what is reported; null is the task's default."""
    return {
        "threshold": options.threshold,
        "classes": None if options.classes is None else list(options.classes),
        "top_k": options.top_k,
        "masks": options.masks,
    }


def device_state(reading: DeviceReading) -> dict[str, Any]:
    """Return what the device says of itself."""
    found: dict[str, Any] = as_plain(reading)
    return found


def now() -> str:
    """Return the device's own time: the page counts from it, whatever the viewer's clock says."""
    return _iso(datetime.now(timezone.utc))


def readable(text: str) -> str:
    """Return a text as UTF-8 can carry it: file names need not be."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _origin(feed: CameraFeed, of_frame: str) -> str:
    if feed.status is not None:
        return feed.status.origin
    return of_frame


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _iso(moment: datetime) -> str:
    text = moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
