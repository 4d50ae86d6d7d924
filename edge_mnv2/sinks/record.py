"""The record of one frame, schema 1: what JSON lines, batches and later MQTT carry."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Any

import numpy as np

from edge_mnv2.readings import DeviceEvent, DeviceReading
from edge_mnv2.results import CameraStatus, Classification, Detections, FrameResult, SegmentationMap
from edge_mnv2.segments import coco_rle, segments_of

SCHEMA = 1


def to_record(result: FrameResult, *, masks: bool = False) -> dict[str, Any]:
    """Return a result as JSON-ready values.

    `box` is x1, y1, x2, y2 in pixels of the frame; `time` is the instant of capture; `age_ms` the time from
    there to the end of decoding; `device`, where it is asked, what the device said last.

    Args:
        result: Of one frame.
        masks: Whether segments carry their mask as COCO run lengths.

    Raises:
        RequestError: Masks need pycocotools, and it is not installed.
    """
    return {
        "schema": SCHEMA,
        **_name(result.camera),
        "source": _source(result.origin),
        "seq": result.seq,
        "time": _time(result.captured_at),
        "age_ms": round(result.age_ms, 1),
        "image": {"width": result.width, "height": result.height},
        "model": result.model,
        "task": result.task,
        **_found(result, masks=masks),
        "stages_ms": {stage: round(value, 2) for stage, value in result.stages_ms.items()},
        **({} if result.device is None else {"device": _device(result.device)}),
    }


def to_state_record(status: CameraStatus) -> dict[str, Any]:
    """Return a change of a camera's state as JSON-ready values: `camera` tells it from a frame's record."""
    return {
        "schema": SCHEMA,
        **_name(status.camera),
        "source": _source(status.origin),
        "time": _time(status.at),
        "camera": {
            "state": status.state,
            "reason": status.reason,
            "lost_since": None if status.lost_since is None else _time(status.lost_since),
            "attempt": status.attempt,
        },
    }


def to_event_record(event: DeviceEvent) -> dict[str, Any]:
    """Return an event as JSON-ready values: `event` tells it from a frame's record."""
    return {
        "schema": SCHEMA,
        "time": _time(event.at),
        "event": {"name": event.name, "active": event.is_active, "text": event.text},
    }


def _device(reading: DeviceReading) -> dict[str, Any]:
    throttling = reading.throttling
    return {
        "power_w": _rounded(reading.power_w.value, 3),
        "power": reading.power_w.kind,
        "temperature_c": _rounded(reading.temperature_c.value, 1),
        "throttled": None if throttling is None else sorted(throttling.now),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _name(camera: str) -> dict[str, str]:
    # Not `camera`: by that key, records of states are told from those of frames.
    return {"camera_name": camera} if camera else {}


def _source(origin: str) -> str:
    # File names need not be UTF-8, records are.
    return os.fsencode(origin).decode("utf-8", "backslashreplace")


def _time(instant: datetime) -> str:
    return instant.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _found(result: FrameResult, *, masks: bool) -> dict[str, list[dict[str, Any]]]:
    match result.found:
        case Detections():
            return {"detections": _detections(result, result.found)}
        case Classification():
            return {"classes": _classes(result, result.found)}
        case segmentation:
            return {"segments": _segments(result, segmentation, masks=masks)}


def _detections(result: FrameResult, found: Detections) -> list[dict[str, Any]]:
    columns = zip(found.class_id.tolist(), found.score.tolist(), found.xyxy.tolist(), strict=True)
    return [
        {
            "class_id": class_id,
            "label": result.label(class_id),
            "score": round(score, 4),
            "box": [round(side, 1) for side in box],
        }
        for class_id, score, box in columns
    ]


def _classes(result: FrameResult, found: Classification) -> list[dict[str, Any]]:
    columns = zip(found.class_id.tolist(), found.score.tolist(), strict=True)
    return [
        {"class_id": class_id, "label": result.label(class_id), "score": round(score, 4)}
        for class_id, score in columns
    ]


def _segments(result: FrameResult, found: SegmentationMap, *, masks: bool) -> list[dict[str, Any]]:
    segments = []
    for segment in segments_of(found, result.width, result.height):
        segments.append(
            {
                "class_id": segment.class_id,
                "label": result.label(segment.class_id),
                "share": round(segment.share, 6),
                "box": [round(side, 1) for side in segment.box],
            }
        )
        if masks:
            segments[-1]["mask"] = coco_rle(np.equal(found.class_id, segment.class_id))
    return segments
