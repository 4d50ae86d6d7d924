"""What a run did, what it cost, and why it failed, if it did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from edge_mnv2.readings import Percentiles


@dataclass(slots=True)
class RunSummary:
    """What a run did and what it cost.

    Attributes:
        is_live: Whether the source was a camera, or played like one: damaged frames are no failure then.
        frames: Frames that were processed.
        elapsed_s: From the start of the loop to the last result.
        drops: Lost frames and results by cause.
        camera_losses: How often the camera was lost; it came back, or the run ended first.
        bad_frames: Pictures and frames that could not be decoded; those of a file were logged one by one.
        failures: Why the run is not a success, one line each, logged when it happened; empty for a good run.
        found: By label: boxes; frames that show it (segmentation), or whose best class it is.
        engine: Backend and precision of the last frames, such as `tensorrt fp16`.
        engine_since: How many frames there were before these.
        stages: Percentiles by stage, of the frames of that engine.
        peak_memory_mib: Largest resident size of the process.
        interrupted: Whether a stop was asked for before the source ended.
        cause: Which of the failures ended it before its source did; empty if none.
        has_engine_failed: Whether that was the engine, which no new start of the loop would heal.
    """

    is_live: bool = False
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
    has_engine_failed: bool = False

    @property
    def fps(self) -> float | None:
        """Results per second, None without any."""
        return self.frames / self.elapsed_s if self.elapsed_s > 0 else None

    @property
    def ok(self) -> bool:
        """Whether everything that was asked for was done."""
        return not self.failures and (self.is_live or not self.bad_frames)
