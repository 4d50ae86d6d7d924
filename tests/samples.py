"""Small ready-made results and predictors for tests of what comes after the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.networks.base import Network
from edge_mnv2.networks.classifier import Classifier, ClassifierSpec
from edge_mnv2.networks.deeplabv3 import DeepLab, DeepLabSpec
from edge_mnv2.networks.ssdlite import SsdLite, SsdLiteSpec
from edge_mnv2.predictor import Predictor
from edge_mnv2.results import (
    CameraStatus,
    Classification,
    Detections,
    FrameResult,
    Result,
    SegmentationMap,
)
from engines import FakeEngine, TensorSpec

LABELS = {1: "person", 2: "bicycle"}
CLASSIFIER_LABELS = {0: "tench", 1: "goldfish", 2: "great white shark"}
SIZE = (32, 32)
TASKS: dict[type, str] = {Detections: "detect", SegmentationMap: "segment", Classification: "classify"}


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Return detections from rows of x1, y1, x2, y2, score, class."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64)
    )


def segmentation(rows: Sequence[Sequence[int]] | NDArray[Any]) -> SegmentationMap:
    """Return a segmentation map from rows of class ids."""
    return SegmentationMap(np.array(rows, np.uint8))


def classification(*rows: tuple[int, float]) -> Classification:
    """Return a classification from rows of class and score."""
    table = np.array(rows, np.float64).reshape(-1, 2)
    return Classification(table[:, 0].astype(np.int64), table[:, 1].astype(np.float32))


def frame_result(seq: int = 0, found: Result | None = None, **changes: Any) -> FrameResult:  # noqa: ANN401
    """Return the result of a 64x48 frame, with a canvas whose brightness is the frame's number."""
    if found is None:
        found = detections((10, 6.04, 48.26, 40, 0.91, 1))
    values: dict[str, Any] = {
        "origin": "clip.mp4",
        "seq": seq,
        "captured_ns": seq * 40_000_000,
        "captured_at": datetime(2026, 1, 1, tzinfo=timezone.utc),
        "age_ms": 21.44,
        "width": 64,
        "height": 48,
        "model": "ssdlite-mnv2-coco",
        "task": TASKS[type(found)],
        "labels": LABELS,
        "found": found,
        "stages_ms": {"prepare": 0.304, "infer": 8.7, "decode": 0.2},
        "canvas": np.full((48, 64, 3), seq % 256, np.uint8),
    }
    return FrameResult(**(values | changes))


def camera_status(state: str, **changes: Any) -> CameraStatus:  # noqa: ANN401
    """Return a change of a camera's state, with a reason."""
    values: dict[str, Any] = {
        "origin": "rtsp://***@camera/stream",
        "state": state,
        "reason": "" if state == "live" else "No frame for 2 s.",
        "at": datetime(2026, 1, 1, tzinfo=timezone.utc),
        "lost_since": None if state == "live" else datetime(2025, 12, 31, 23, 59, 58, tzinfo=timezone.utc),
    }
    return CameraStatus(**(values | changes))


def fake_predictor(before: Callable[[], None] = lambda: None) -> Predictor:
    """Return a detector that finds one person in the middle of every frame, without a network.

    Args:
        before: Called at every inference; may block, to play a slow device, or raise.
    """
    network = SsdLite(SsdLiteSpec(classes=3, size=SIZE), [1, 2])
    logits = np.full((1, len(network.anchors), 3), -9, np.float32)
    in_the_middle = np.flatnonzero((network.anchors[:, :2] == 0.5).all(axis=1))
    logits[0, in_the_middle[0], 1] = 3
    outputs = {"box_encodings": np.zeros((1, len(network.anchors), 4), np.float32), "class_logits": logits}
    return _predictor("detect", LABELS, network, outputs, before)


def fake_segmenter(*, masks: bool = False) -> Predictor:
    """Return a predictor that sees a person in the left half of every square or wide frame.

    Args:
        masks: Whether its map has the frame's own pixels; else it has the input's, 32 on the long side.
    """
    logits = np.zeros((1, 3, 2, 2), np.float32)
    logits[0, 1] = [[1, -1], [1, -1]]
    logits[0, 2] = -9
    network = DeepLab(DeepLabSpec(classes=3, size=SIZE), at_frame_resolution=masks)
    return _predictor("segment", LABELS, network, {"logits": logits})


def fake_classifier() -> Predictor:
    """Return a predictor to which every frame shows a goldfish rather than a shark rather than a tench."""
    network = Classifier(ClassifierSpec(classes=3, size=SIZE))
    return _predictor("classify", CLASSIFIER_LABELS, network, {"logits": np.array([[0, 2, 1]], np.float32)})


def _predictor(
    task: str,
    labels: dict[int, str],
    network: Network[Any],
    outputs: Mapping[str, NDArray[np.float32]],
    before: Callable[[], None] = lambda: None,
) -> Predictor:
    def compute(_: object) -> dict[str, NDArray[np.float32]]:
        before()
        return dict(outputs)

    engine = FakeEngine(
        (TensorSpec("image", (1, *SIZE, 3), np.dtype(np.uint8)),),
        compute=compute,
        output_specs=tuple(TensorSpec(name, array.shape, array.dtype) for name, array in outputs.items()),
    )
    return Predictor("fake", task, labels, network, engine)
