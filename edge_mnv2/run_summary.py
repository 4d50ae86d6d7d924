"""What a run did, what it cost, and why it failed, if it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_mnv2.telemetry.stages import Percentiles


@dataclass(slots=True)
class RunFigures:
    """What a run says of itself while it runs, to any thread.

    Attributes:
        engine: Backend and precision, such as `onnxruntime int8`; empty before the first frame.
        read_drops: Returns lost frames and results by cause, counted when it is called.
    """

    engine: str = ""
    read_drops: Callable[[], dict[str, int]] = dict


@dataclass(slots=True)
class RunSummary:
    """What a run did and what it cost.

    Attributes:
        frames: Frames that were processed.
        elapsed_s: From the start of the loop to the last result.
        drops: Lost frames and results by cause.
        camera_losses: How often the camera was lost; it came back, or the run ended first.
        bad_frames: Pictures and frames that could not be decoded; each was logged.
        failures: Why the run is not a success, one line each, logged when it happened; empty for a good run.
        found: By label: boxes; frames that show it (segmentation), or whose best class it is.
        engine: Backend and precision of the last frames, such as `tensorrt fp16`.
        engine_since: How many frames there were before these.
        stages: Percentiles by stage, of the frames of that engine.
        peak_memory_mib: Largest resident size of the process.
        interrupted: Whether a stop was asked for before the source ended.
        cause: Which of the failures ended it before its source did; empty if none.
    """

    frames: int = 0
    elapsed_s: float = 0.0
    drops: dict[str, int] = field(default_factory=dict)
    camera_losses: int = 0
    bad_frames: int = 0
    failures: list[str] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)
    engine: str = ""
    engine_since: int = 0
    stages: dict[str, Percentiles] = field(default_factory=dict)
    peak_memory_mib: float = 0.0
    interrupted: bool = False
    cause: str = ""

    @property
    def fps(self) -> float | None:
        """Results per second, None without any."""
        return self.frames / self.elapsed_s if self.elapsed_s > 0 else None

    @property
    def ok(self) -> bool:
        """Whether everything that was asked for was done."""
        return not self.failures and not self.bad_frames
