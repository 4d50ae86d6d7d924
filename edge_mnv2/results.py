"""What networks say about a frame: column arrays, validated once, then read-only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.readings import DeviceReading


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Boxes of one frame, best first.

    Attributes:
        xyxy: (n, 4) float32: left, top, right, bottom in pixels of the frame.
        score: (n,) float32 between 0 and 1.
        class_id: (n,) int64, in the model's own numbering (COCO's 1 to 90 for COCO models).

    Raises:
        ValueError: Shapes or dtypes do not fit together.
    """

    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    class_id: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Check the columns and make them read-only."""
        count = len(self.score)
        _check("xyxy", self.xyxy, (count, 4), np.float32)
        _check("score", self.score, (count,), np.float32)
        _check("class_id", self.class_id, (count,), np.int64)
        for column in (self.xyxy, self.score, self.class_id):
            column.flags.writeable = False

    def __len__(self) -> int:
        """Return how many boxes there are."""
        return len(self.score)


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationMap:
    """The class of every part of one frame.

    Attributes:
        class_id: (h, w) uint8. The map covers the whole frame; its resolution may be the frame's or another.

    Raises:
        ValueError: It is no map of uint8.
    """

    class_id: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Check the map and make it read-only."""
        if self.class_id.ndim != 2 or not self.class_id.size:
            raise ValueError(f"class_id must be a map of at least one pixel, received {self.class_id.shape}.")
        _check("class_id", self.class_id, self.class_id.shape, np.uint8)
        self.class_id.flags.writeable = False


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """What one frame shows, best class first.

    Attributes:
        class_id: (k,) int64, in the model's own numbering.
        score: (k,) float32 between 0 and 1.

    Raises:
        ValueError: Shapes or dtypes do not fit together.
    """

    class_id: NDArray[np.int64]
    score: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Check the columns and make them read-only."""
        count = len(self.score)
        _check("score", self.score, (count,), np.float32)
        _check("class_id", self.class_id, (count,), np.int64)
        for column in (self.class_id, self.score):
            column.flags.writeable = False

    def __len__(self) -> int:
        """Return how many classes are reported."""
        return len(self.score)


Result = Detections | SegmentationMap | Classification


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """One frame's result on its way to the sinks.

    Attributes:
        origin: The file or device the frame came from.
        seq: The frame's number at its source; gaps are drops.
        captured_ns: When it was captured, `time.monotonic_ns` domain.
        captured_at: The same instant as wall time, for records.
        age_ms: From capture to the end of decoding.
        width: Of the frame in pixels.
        height: Of the frame in pixels.
        model: Name of the model.
        task: `detect`, `segment` or `classify`.
        labels: Label by class id.
        found: What the network says of the frame.
        stages_ms: Duration of each stage by name.
        canvas: The frame with the overlay on it, (H, W, 3) BGR; None when no sink wants pixels. It belongs to
            the loop and is valid until `write` returns: a sink that keeps it copies it.
        device: What the device said last; None where nobody asks it.
        camera: The name that the settings give to the camera; empty where there is only one.
    """

    origin: str
    seq: int
    captured_ns: int
    captured_at: datetime
    age_ms: float
    width: int
    height: int
    model: str
    task: str
    labels: Mapping[int, str]
    found: Result
    stages_ms: Mapping[str, float]
    canvas: NDArray[np.uint8] | None
    device: DeviceReading | None = None
    camera: str = ""

    def label(self, class_id: int) -> str:
        """Return the label of a class, or its number where it has none."""
        return self.labels.get(class_id, str(class_id))

    def with_own_canvas(self) -> FrameResult:
        """Return this result with a copy of the canvas, for a sink that works later."""
        return self if self.canvas is None else replace(self, canvas=self.canvas.copy())


@dataclass(frozen=True, slots=True, eq=False)
class CameraStatus:
    """What a camera does, on its way to the sinks.

    Attributes:
        origin: The device or stream, without credentials.
        state: `opening`, `live`, `stalled`, `lost` or `reconnecting`; in the live view alone `ended`, too.
        reason: Why, as a sentence; empty where the state says it all.
        at: When this began.
        lost_since: Time of the last frame; None while the camera is live, and before its first frame.
        attempt: How often it was opened since it was live.
        is_change: Whether this is news; False where the same is shown again with a newer canvas.
        shown_ns: Now, `time.monotonic_ns` domain.
        canvas: The last frame with its overlay and a banner that says since when it is lost; None when
            no sink wants pixels, before the first frame, and while it is live. As `FrameResult.canvas`.
        camera: As `FrameResult.camera`.
    """

    origin: str
    state: str
    reason: str
    at: datetime
    lost_since: datetime | None = None
    attempt: int = 0
    is_change: bool = True
    shown_ns: int = 0
    canvas: NDArray[np.uint8] | None = None
    camera: str = ""

    def with_own_canvas(self) -> CameraStatus:
        """Return this status with a copy of the canvas, for a sink that works later."""
        return self if self.canvas is None else replace(self, canvas=self.canvas.copy())


def _check(name: str, array: NDArray[np.generic], shape: tuple[int, ...], dtype: type) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name} must be {np.dtype(dtype)} {shape}, received {array.dtype} {array.shape}.")
