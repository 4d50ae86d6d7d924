"""The loop: source, newest frame, detector, overlay, sinks, release.

Live sources are read by a thread of their own into a slot that keeps the newest frame, so latency never
builds up; files are read by the loop itself, and nothing is lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import numpy as np
from numpy.typing import NDArray

from camera import (
    BadFrameError,
    CameraError,
    EndOfStream,
    Frame,
    FrameSource,
    LatestSlot,
    SlotClosedError,
    SourceInfo,
)
from edge_mnv2.detector import Detector
from edge_mnv2.overlay import Hud, draw_detections, draw_hud
from edge_mnv2.results import FrameResult
from edge_mnv2.sinks.base import SinkSpec
from edge_mnv2.sinks.outlet import Outlet, QueuedOutlet
from edge_mnv2.telemetry.memory import peak_memory_mib
from edge_mnv2.telemetry.stages import Percentiles, RateMeter, StageTimes
from edge_mnv2.threads import Worker
from engines import EngineError

# How long a stop request may go unnoticed while no frame comes.
_POLL_S = 0.1
_CAPTURE_JOIN_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class RunSummary:
    """What a run did and what it cost.

    Attributes:
        frames: Frames that were processed.
        elapsed_s: From the first frame's arrival to the last result.
        drops: Lost frames and results by cause.
        bad_frames: What could not be decoded, one message each.
        failures: Why the run is not a success, one line each, logged when it happened; empty for a good run.
        detections: How many boxes of each label.
        stages: Percentiles by stage.
        peak_memory_mib: Largest resident size of the process.
        interrupted: Whether a stop was asked for before the source ended.
    """

    frames: int = 0
    elapsed_s: float = 0.0
    drops: dict[str, int] = field(default_factory=dict)
    bad_frames: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    detections: Counter[str] = field(default_factory=Counter)
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
    detector: Detector,
    sinks_for: Callable[[SourceInfo], Sequence[SinkSpec]],
    control: RunControl,
) -> RunSummary:
    """Process a source until it ends or a stop is asked for.

    Args:
        source: Not open yet; it is closed at the end.
        detector: Left open.
        sinks_for: Called with what the open source says of itself; the sinks are closed at the end.
        control: Stop, limit, progress.

    Returns:
        The summary; failures of source, sinks and engine while running are in it.

    Raises:
        CameraError: The source cannot be opened.
        OutputPathError: A sink cannot be opened.
    """
    outlets: list[Outlet | QueuedOutlet] = []
    try:
        info = source.open()
        for spec in sinks_for(info):
            outlets.append(QueuedOutlet(spec) if info.live else Outlet(spec))
        return _Loop(source, info, detector, outlets, control).run()
    finally:
        for outlet in outlets:
            outlet.close()
        source.close()


class _Loop:
    """The state of one run."""

    def __init__(
        self,
        source: FrameSource,
        info: SourceInfo,
        detector: Detector,
        outlets: list[Outlet | QueuedOutlet],
        control: RunControl,
    ) -> None:
        self._source = source
        self._info = info
        self._detector = detector
        self._outlets = outlets
        self._control = control
        self._wants_canvas = any(outlet.wants_canvas for outlet in outlets)
        self._canvas = np.empty((0, 0, 3), np.uint8)
        self._slot: LatestSlot[Frame] = LatestSlot()
        self._times = StageTimes()
        self._rate = RateMeter()
        self._summary = RunSummary()

    def run(self) -> RunSummary:
        """Process frames until the end; close the outlets; return the summary."""
        summary, control = self._summary, self._control
        limits = [limit for limit in (control.max_frames, self._info.frames) if limit is not None]
        total = min(limits, default=None)
        start_ns = time.monotonic_ns()
        frames = self._live_frames() if self._info.live else self._all_frames()
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
        except (CameraError, EngineError) as error:
            _log.error("%s", error)
            summary.failures.append(str(error))
        finally:
            frames.close()
        for outlet in self._outlets:
            outlet.close()
            summary.failures.extend(outlet.failures)
        return self._finish()

    def _finish(self) -> RunSummary:
        summary = self._summary
        summary.drops["newer frame came"] = self._slot.dropped
        for outlet in self._outlets:
            summary.drops[outlet.name] = outlet.dropped
        summary.stages = self._times.percentiles()
        summary.peak_memory_mib = peak_memory_mib()
        if not (summary.frames or summary.bad_frames or summary.failures or summary.interrupted):
            summary.failures.append(f"{self._info.name} gave no frame.")
            _log.error("%s", summary.failures[-1])
        return summary

    def _all_frames(self) -> Generator[Frame, None, None]:
        """Read every frame in this thread; a bad one is noted and the next one follows."""
        while not self._stopped():
            start_ns = time.perf_counter_ns()
            try:
                frame = self._source.read()
            except BadFrameError as error:
                self._note_bad(error)
                continue
            except EndOfStream:
                return
            self._times.add("read", (time.perf_counter_ns() - start_ns) / 1e6)
            yield frame

    def _live_frames(self) -> Generator[Frame, None, None]:
        """Yield the newest frame, read by a thread of its own."""
        worker = Worker(self._capture, f"capture {self._info.name}")
        try:
            while not self._stopped():
                try:
                    frame = self._slot.get(_POLL_S)
                except SlotClosedError as closed:
                    worker.join(_CAPTURE_JOIN_S)
                    worker.check()
                    if closed.__cause__ is not None:
                        raise closed.__cause__ from None
                    return
                if frame is not None:
                    yield frame
        finally:
            self._source.close()
            self._slot.close()
            if not worker.join(_CAPTURE_JOIN_S):
                _log.error("%s does not stop: its driver hangs", self._info.name)

    def _capture(self) -> None:
        """Put frame after frame into the slot; runs in its own thread."""
        cause: CameraError | None = None
        try:
            while True:
                try:
                    self._slot.put(self._source.read())
                except BadFrameError as error:
                    self._note_bad(error)
        except EndOfStream:
            pass
        except CameraError as error:
            cause = error
        finally:
            self._slot.close(cause)

    def _process(self, frame: Frame) -> None:
        detections, stages_ms = self._detector.detect(frame.image)
        now_ns = time.monotonic_ns()
        age_ms = (now_ns - frame.captured_ns) / 1e6
        fps = self._rate.tick(now_ns)
        canvas = None
        if self._wants_canvas:
            start_ns = time.perf_counter_ns()
            canvas = self._canvas_of(frame.image)
            draw_detections(canvas, detections, self._detector.labels)
            draw_hud(canvas, Hud(fps, age_ms, self._slot.dropped))
            stages_ms["overlay"] = (time.perf_counter_ns() - start_ns) / 1e6
        result = FrameResult(
            origin=frame.origin,
            seq=frame.seq,
            captured_ns=frame.captured_ns,
            captured_at=datetime.now(timezone.utc) - timedelta(milliseconds=age_ms),
            age_ms=age_ms,
            width=frame.image.shape[1],
            height=frame.image.shape[0],
            model=self._detector.name,
            task=self._detector.task,
            labels=self._detector.labels,
            detections=detections,
            stages_ms=stages_ms,
            canvas=canvas,
        )
        for stage, duration_ms in stages_ms.items():
            self._times.add(stage, duration_ms)
        start_ns = time.perf_counter_ns()
        for outlet in self._outlets:
            outlet.write(result)
        self._times.add("sinks", (time.perf_counter_ns() - start_ns) / 1e6)
        self._summary.detections.update(map(result.label, detections.class_id.tolist()))

    def _canvas_of(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the canvas with the frame on it: one buffer, made anew only when the size changes."""
        if self._canvas.shape != image.shape:
            self._canvas = np.empty_like(image)
        np.copyto(self._canvas, image)
        return self._canvas

    def _note_bad(self, error: BadFrameError) -> None:
        _log.error("%s", error)
        self._summary.bad_frames.append(str(error))

    def _stopped(self) -> bool:
        if self._control.stop.is_set():
            self._summary.interrupted = True
        return self._summary.interrupted
