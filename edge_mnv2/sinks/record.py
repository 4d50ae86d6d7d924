"""The record of one frame, schema 1: what JSON lines, batches and later MQTT carry."""

from __future__ import annotations

import os
from datetime import timezone
from typing import Any

from edge_mnv2.results import FrameResult

SCHEMA = 1


def to_record(result: FrameResult) -> dict[str, Any]:
    """Return a result as JSON-ready values.

    `box` is x1, y1, x2, y2 in pixels of the frame; `time` is the instant of capture; `age_ms` the time from
    there to the end of decoding.
    """
    found = result.detections
    time = result.captured_at.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    return {
        "schema": SCHEMA,
        # File names need not be UTF-8, records are.
        "source": os.fsencode(result.origin).decode("utf-8", "backslashreplace"),
        "seq": result.seq,
        "time": time.replace("+00:00", "Z"),
        "age_ms": round(result.age_ms, 1),
        "image": {"width": result.width, "height": result.height},
        "model": result.model,
        "task": result.task,
        "detections": [
            {
                "class_id": class_id,
                "label": result.label(class_id),
                "score": round(score, 4),
                "box": [round(side, 1) for side in box],
            }
            for class_id, score, box in zip(
                found.class_id.tolist(), found.score.tolist(), found.xyxy.tolist(), strict=True
            )
        ],
        "stages_ms": {stage: round(value, 2) for stage, value in result.stages_ms.items()},
    }
