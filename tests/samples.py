"""Small ready-made results and detectors for tests of what comes after the network."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.detector import Detector
from edge_mnv2.networks.ssdlite import SsdLite, SsdLiteSpec
from edge_mnv2.results import Detections, FrameResult
from engines import FakeEngine, TensorSpec

LABELS = {1: "person", 2: "bicycle"}
SPEC = SsdLiteSpec(classes=3, size=(32, 32))
ANCHORS = 3


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Return detections from rows of x1, y1, x2, y2, score, class."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64)
    )


def frame_result(seq: int = 0, found: Detections | None = None, **changes: Any) -> FrameResult:  # noqa: ANN401
    """Return the result of a 64x48 frame, with a canvas whose brightness is the frame's number."""
    values: dict[str, Any] = {
        "origin": "clip.mp4",
        "seq": seq,
        "captured_ns": seq * 40_000_000,
        "captured_at": datetime(2026, 1, 1, tzinfo=timezone.utc),
        "age_ms": 21.44,
        "width": 64,
        "height": 48,
        "model": "ssdlite-mnv2-coco",
        "task": "detect",
        "labels": LABELS,
        "detections": found if found is not None else detections((10, 6.04, 48.26, 40, 0.91, 1)),
        "stages_ms": {"prepare": 0.304, "infer": 8.7, "decode": 0.2},
        "canvas": np.full((48, 64, 3), seq % 256, np.uint8),
    }
    return FrameResult(**(values | changes))


def fake_detector(before: Callable[[], None] = lambda: None) -> Detector:
    """Return a detector that finds one person in the middle of every frame, without a network.

    Args:
        before: Called at every inference; may block, to play a slow device, or raise.
    """

    def compute(_: object) -> dict[str, NDArray[np.float32]]:
        before()
        logits = np.full((1, ANCHORS, 3), -9, np.float32)
        logits[0, 0, 1] = 3
        return {"box_encodings": np.zeros((1, ANCHORS, 4), np.float32), "class_logits": logits}

    engine = FakeEngine(
        (TensorSpec("image", (1, 32, 32, 3), np.dtype(np.uint8)),),
        compute=compute,
        output_specs=(
            TensorSpec("box_encodings", (1, ANCHORS, 4), np.dtype(np.float32)),
            TensorSpec("class_logits", (1, ANCHORS, 3), np.dtype(np.float32)),
        ),
    )
    network = SsdLite(((1, 1),), SPEC, [1, 2])
    return Detector("fake", LABELS, network, engine)
