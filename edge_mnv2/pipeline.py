"""The loop: source, newest frame, predictor, overlay, sinks, release.

Live sources are read by a thread of their own into a slot that keeps the newest frame, so latency never
builds up; files are read by the loop itself, and nothing is lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import numpy as np
from numpy.typing import NDArray

from camera import CameraError, Frame, FrameSource, SourceInfo
from edge_mnv2.errors import RunError
from edge_mnv2.frames import FrameFeed
from edge_mnv2.overlay import Hud, draw_overlay
from edge_mnv2.predictor import Predictor
from edge_mnv2.results import Classification, Detections, FrameResult
from edge_mnv2.segments import segments_of
from edge_mnv2.sinks.base import SinkSpec, check_outputs
from edge_mnv2.sinks.outlet import Outlet, QueuedOutlet
from edge_mnv2.telemetry.memory import peak_memory_mib
from edge_mnv2.telemetry.stages import Percentiles, RateMeter, StageTimes
from engines import EngineError

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class RunSummary:
    """What a run did and what it cost.

    Attributes:
        frames: Frames that were processed.
        elapsed_s: From the start of the loop to the last result.
        drops: Lost frames and results by cause.
        bad_frames: Pictures and frames that could not be decoded; each was logged.
        failures: Why the run is not a success, one line each, logged when it happened; empty for a good run.
        found: By label: boxes; frames that show it (segmentation), or whose best class it is.
        engine: Backend and precision of the last frames, such as `tensorrt fp16`.
        engine_since: How many frames there were before these.
        stages: Percentiles by stage, of the frames of that engine.
        peak_memory_mib: Largest resident size of the process.
        interrupted: Whether a stop was asked for before the source ended.
    """

    frames: int = 0
    elapsed_s: float = 0.0
    drops: dict[str, int] = field(default_factory=dict)
    bad_frames: int = 0
    failures: list[str] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)
    engine: str = ""
    engine_since: int = 0
    stages: dict[str, Percentiles] = field(default_factory=dict)
    peak_memory_mib: float = 0.0
    interrupted: bool = False

    @property
    def fps(self) -> float | None:
        """Results per second, None without any."""
        return self.frames / self.elapsed_s if self.elapsed_s > 0 else None

    @property
    def ok(self) -> bool:
        """Whether everything that was asked for was done."""
        return not self.failures and not self.bad_frames


@dataclass(frozen=True, slots=True)
class RunControl:
    """How a run is watched and ended.

    Attributes:
        stop: Set by whoever wants the run to end; the frame in hand is finished.
        max_frames: Most frames processed; None for all.
        on_frame: Called after each frame with how many are done and how many there are, None if unknown.
    """

    stop: threading.Event
    max_frames: int | None = None
    on_frame: Callable[[int, int | None], None] | None = None


def run_pipeline(
    source: FrameSource,
    predictor: Predictor,
    sinks_for: Callable[[SourceInfo], Sequence[SinkSpec]],
    control: RunControl,
) -> RunSummary:
    """Process a source until it ends or a stop is asked for.

    Args:
        source: Not open yet; it is closed at the end.
        predictor: Left open.
        sinks_for: Called with what the open source says of itself; the sinks are closed at the end.
        control: Stop, limit, progress.

    Returns:
        The summary; failures of source, sinks and engine while running are in it.

    Raises:
        CameraError: The source cannot be opened.
        OutputPathError: A sink cannot be opened.
    """
    with ExitStack() as stack:
        stack.callback(source.close)
        info = source.open()
        specs = sinks_for(info)
        check_outputs(info.paths, specs)
        outlets: list[Outlet | QueuedOutlet] = []
        for spec in specs:
            outlets.append(QueuedOutlet(spec) if info.live else Outlet(spec))
            stack.callback(outlets[-1].close)
        return _Loop(source, info, predictor, outlets, control).run()


class _Loop:
    """The state of one run."""

    def __init__(
        self,
        source: FrameSource,
        info: SourceInfo,
        predictor: Predictor,
        outlets: list[Outlet | QueuedOutlet],
        control: RunControl,
    ) -> None:
        self._info = info
        self._predictor = predictor
        self._outlets = outlets
        self._control = control
        self._wants_canvas = any(outlet.wants_canvas for outlet in outlets)
        self._canvas = np.empty((0, 0, 3), np.uint8)
        self._times = StageTimes()
        self._rate = RateMeter()
        self._summary = RunSummary()
        self._feed = FrameFeed(source, info, control.stop, lambda ms: self._times.add("read", ms))

    def run(self) -> RunSummary:
        """Process frames until the end; close the outlets; return the summary."""
        summary, control = self._summary, self._control
        limits = [limit for limit in (control.max_frames, self._info.frames) if limit is not None]
        total = min(limits, default=None)
        start_ns = time.monotonic_ns()
        frames = self._feed.frames()
        try:
            for frame in frames:
                with frame:
                    self._process(frame)
                summary.frames += 1
                summary.elapsed_s = (time.monotonic_ns() - start_ns) / 1e9
                if control.on_frame is not None:
                    control.on_frame(summary.frames, total)
                if summary.frames == control.max_frames:
                    break
                if self._outlets and not any(outlet.is_alive for outlet in self._outlets):
                    _log.info("no output is left: stopping")
                    break
        except (CameraError, EngineError, RunError) as error:
            _log.error("%s", error)
            summary.failures.append(str(error))
        finally:
            frames.close()
        summary.interrupted = control.stop.is_set()
        # All are told first, so that the slow ones finish side by side.
        for outlet in self._outlets:
            outlet.stop()
        for outlet in self._outlets:
            outlet.close()
            summary.failures.extend(outlet.failures)
        return self._finish()

    def _finish(self) -> RunSummary:
        summary = self._summary
        summary.bad_frames = self._feed.bad_frames
        summary.drops["newer frame came"] = self._feed.dropped
        for outlet in self._outlets:
            summary.drops[outlet.name] = outlet.dropped
        summary.stages = self._times.percentiles()
        summary.peak_memory_mib = peak_memory_mib()
        if not (summary.frames or summary.bad_frames or summary.failures or summary.interrupted):
            summary.failures.append(f"{self._info.name} gave no frame.")
            _log.error("%s", summary.failures[-1])
        return summary

    def _process(self, frame: Frame) -> None:
        found, stages_ms = self._predictor.predict(frame.image)
        self._note_engine()
        now_ns = time.monotonic_ns()
        age_ms = (now_ns - frame.captured_ns) / 1e6
        fps = self._rate.tick(now_ns)
        canvas = None
        if self._wants_canvas:
            start_ns = time.perf_counter_ns()
            canvas = self._canvas_of(frame.image)
            # A rate means nothing on still pictures.
            hud = None if self._info.size is None else Hud(fps, age_ms, self._feed.dropped)
            draw_overlay(canvas, found, self._predictor.labels, hud)
            stages_ms["overlay"] = (time.perf_counter_ns() - start_ns) / 1e6
        result = FrameResult(
            origin=frame.origin,
            seq=frame.seq,
            captured_ns=frame.captured_ns,
            captured_at=datetime.now(timezone.utc) - timedelta(milliseconds=age_ms),
            age_ms=age_ms,
            width=frame.image.shape[1],
            height=frame.image.shape[0],
            model=self._predictor.name,
            task=self._predictor.task,
            labels=self._predictor.labels,
            found=found,
            stages_ms=stages_ms,
            canvas=canvas,
        )
        for stage, duration_ms in stages_ms.items():
            self._times.add(stage, duration_ms)
        start_ns = time.perf_counter_ns()
        for outlet in self._outlets:
            outlet.write(result)
        self._times.add("sinks", (time.perf_counter_ns() - start_ns) / 1e6)
        self._summary.found.update(map(result.label, _counted(result)))

    def _note_engine(self) -> None:
        """Begin the statistics anew where another engine took over: times of two would mean nothing."""
        engine = f"{self._predictor.backend} {self._predictor.precision}"
        if engine != self._summary.engine:
            if self._summary.engine:
                self._times.clear()
            self._summary.engine, self._summary.engine_since = engine, self._summary.frames

    def _canvas_of(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the canvas with the frame on it: one buffer, made anew only when the size changes."""
        if self._canvas.shape != image.shape:
            self._canvas = np.empty_like(image)
        np.copyto(self._canvas, image)
        return self._canvas


def _counted(result: FrameResult) -> list[int]:
    """Return the class ids that one frame adds to the summary."""
    match result.found:
        case Detections():
            return [int(class_id) for class_id in result.found.class_id]
        case Classification():
            return [int(class_id) for class_id in result.found.class_id[:1]]
        case segmentation:
            return [segment.class_id for segment in segments_of(segmentation, result.width, result.height)]
