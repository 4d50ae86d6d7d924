"""The loop: source, newest frame, predictor, overlay, sinks, release.

Live sources are read by a thread of their own into a slot that keeps the newest frame, so latency never
builds up; files are read by the loop itself, and nothing is lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone

import numpy as np
from numpy.typing import NDArray

from camera import CameraError, CameraState, Frame, FrameSource, SourceInfo, StateChange
from edge_mnv2.camera_states import is_away, to_status
from edge_mnv2.errors import RunError
from edge_mnv2.frames import FrameFeed, open_unless_stopped
from edge_mnv2.mailbox import Mailbox
from edge_mnv2.outlets import Outlets, OutputBox
from edge_mnv2.overlay import Hud, draw_overlay
from edge_mnv2.overlay.banner import draw_lost_banner
from edge_mnv2.predictor import Predictor
from edge_mnv2.readings import DeviceEvent, DeviceReading
from edge_mnv2.results import Classification, Detections, FrameResult
from edge_mnv2.run_summary import RunSummary
from edge_mnv2.segments import segments_of
from edge_mnv2.sinks.base import SinkSpec
from edge_mnv2.telemetry.camera_meter import CameraMeter
from edge_mnv2.telemetry.memory import peak_memory_mib
from edge_mnv2.telemetry.stages import RateMeter, StageTimes
from engines import EngineError

# How often the last frame is shown again, with a banner, while a camera is away.
_BANNER_INTERVAL_NS = 1_000_000_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunControl:
    """How a run is watched and ended.

    Attributes:
        stop: Set by whoever wants the run to end; the frame in hand is finished.
        max_frames: Most frames processed; None for all.
        on_frame: Called after each frame with how many are done and how many there are, None if unknown.
        states: Where the source puts its changes of state, if it has any.
        shows_hud: Whether the overlay has its status line, asked for each frame.
        meter: Told of each result and state.
        read_device: Returns what the device says, at once; None where nobody asks it.
        outputs: Where others than those of the beginning are asked for.
        events: What the outputs are to hear of beside results and states.
        on_trouble: Told when an output of a live source begins to fail, and when it works again.
        name: Of the camera, for records and messages; empty where there is only one.
    """

    stop: threading.Event
    max_frames: int | None = None
    on_frame: Callable[[int, int | None], None] | None = None
    states: Mailbox[StateChange] = field(default_factory=Mailbox)
    shows_hud: Callable[[], bool] = lambda: True
    meter: CameraMeter = field(default_factory=lambda: CameraMeter(""))
    read_device: Callable[[], DeviceReading | None] = lambda: None
    outputs: OutputBox = field(default_factory=OutputBox)
    events: Mailbox[DeviceEvent] = field(default_factory=Mailbox)
    on_trouble: Callable[[DeviceEvent], None] | None = None
    name: str = ""

    @property
    def prefix(self) -> str:
        """What begins a message about this camera."""
        return f"{self.name}: " if self.name else ""


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
        info = open_unless_stopped(source, control.stop)
        if info is None:
            return RunSummary(interrupted=True)
        outlets = Outlets(info, sinks_for, control.on_trouble)
        stack.callback(outlets.close)
        return _Loop(source, info, predictor, outlets, control).run()


class _Loop:
    """The state of one run."""

    def __init__(
        self,
        source: FrameSource,
        info: SourceInfo,
        predictor: Predictor,
        outlets: Outlets,
        control: RunControl,
    ) -> None:
        self._info = info
        self._predictor = predictor
        self._outlets = outlets
        self._control = control
        self._canvas = np.empty((0, 0, 3), np.uint8)
        self._state: StateChange | None = None
        self._shown_ns = self._kept_ns = 0
        self._may_want_canvas = info.live and outlets.may_want_canvas
        self._times = StageTimes()
        self._rate = RateMeter()
        self._summary = RunSummary(is_live=info.live)
        self._feed = FrameFeed(
            source, info, control.stop, lambda ms: self._times.add("read", ms), control.prefix
        )
        control.meter.drops, control.meter.troubles = self._drops, outlets.troubles

    def run(self) -> RunSummary:
        """Process frames until the end; close the outlets; return the summary."""
        summary, control = self._summary, self._control
        limits = [limit for limit in (control.max_frames, self._info.frames) if limit is not None]
        total = min(limits, default=None)
        start_ns = time.monotonic_ns()
        frames = self._feed.frames()
        try:
            for frame in frames:
                self._tell_states()
                if (sinks_for := control.outputs.take()) is not None:
                    self._outlets.replace(sinks_for)
                    self._may_want_canvas = self._info.live and self._outlets.may_want_canvas
                if frame is None:
                    continue
                with frame:
                    self._process(frame)
                summary.frames += 1
                summary.elapsed_s = (time.monotonic_ns() - start_ns) / 1e9
                if control.on_frame is not None:
                    control.on_frame(summary.frames, total)
                if summary.frames == control.max_frames:
                    break
                if self._outlets.are_gone:
                    _log.info("%sno output is left: stopping", control.prefix)
                    break
        except (CameraError, EngineError, RunError) as error:
            _log.error("%s%s", control.prefix, error)
            summary.cause = str(error)
            summary.has_engine_failed = not isinstance(error, CameraError)
            summary.failures.append(summary.cause)
        finally:
            frames.close()
        summary.interrupted = control.stop.is_set()
        self._outlets.close()
        summary.failures.extend(self._outlets.failures)
        return self._finish()

    def _finish(self) -> RunSummary:
        summary = self._summary
        summary.bad_frames = self._feed.bad_frames
        summary.drops = self._drops()
        summary.stages = self._times.percentiles()
        summary.peak_memory_mib = peak_memory_mib()
        if summary.ok and not (summary.frames or summary.interrupted):
            summary.cause = f"{self._info.name} gave no frame."
            summary.failures.append(summary.cause)
            _log.error("%s%s", self._control.prefix, summary.cause)
        return summary

    def _drops(self) -> dict[str, int]:
        lost = {"lost at the source": self._feed.lost} if self._feed.lost else {}
        return {"newer frame came": self._feed.dropped, **lost, **self._outlets.drops()}

    def _process(self, frame: Frame) -> None:
        found, stages_ms = self._predictor.predict(frame.image)
        self._note_engine()
        now, now_ns = datetime.now(timezone.utc), time.monotonic_ns()
        age_ms = (now_ns - frame.captured_ns) / 1e6
        fps = self._rate.tick(now_ns)
        device = self._control.read_device()
        canvas = None
        if self._outlets.wants_canvas:
            start_ns = time.perf_counter_ns()
            canvas = self._canvas_of(frame.image)
            # A rate means nothing on still pictures.
            is_moving = self._info.live or self._info.size is not None
            has_hud = is_moving and self._control.shows_hud()
            hud = Hud(fps, age_ms, self._feed.dropped, device) if has_hud else None
            draw_overlay(canvas, found, self._predictor.labels, hud)
            stages_ms["overlay"] = (time.perf_counter_ns() - start_ns) / 1e6
        elif self._may_want_canvas and now_ns - self._kept_ns >= _BANNER_INTERVAL_NS:
            # Whoever looks after the camera was lost sees its last second, not what was last looked at.
            self._canvas_of(frame.image)
            self._kept_ns = now_ns
        result = FrameResult(
            origin=frame.origin,
            seq=frame.seq,
            captured_ns=frame.captured_ns,
            captured_at=now - timedelta(milliseconds=age_ms),
            age_ms=age_ms,
            width=frame.image.shape[1],
            height=frame.image.shape[0],
            model=self._predictor.name,
            task=self._predictor.task,
            labels=self._predictor.labels,
            found=found,
            stages_ms=stages_ms,
            canvas=canvas,
            device=device,
            camera=self._control.name,
        )
        self._control.meter.result(result, self._predictor.backend, self._predictor.precision)
        for stage, duration_ms in stages_ms.items():
            self._times.add(stage, duration_ms)
        start_ns = time.perf_counter_ns()
        self._outlets.write(result)
        self._times.add("sinks", (time.perf_counter_ns() - start_ns) / 1e6)
        self._summary.found.update(map(result.label, _counted(result)))

    def _tell_states(self) -> None:
        """Tell the sinks what happened; while the camera is away, show its last frame with a banner."""
        now_ns = time.monotonic_ns()
        for event in self._control.events.take():
            self._outlets.write(event)
        changes = self._control.states.take()
        for change in changes:
            self._state = change
            self._summary.camera_losses += change.state is CameraState.LOST
            _log_state(self._control.prefix, self._info.name, change)
            self._show(change, is_change=True)
            self._shown_ns = now_ns
        state = self._state
        if state is not None and is_away(state) and now_ns - self._shown_ns >= _BANNER_INTERVAL_NS:
            self._show(state, is_change=False)
            self._shown_ns = now_ns

    def _show(self, change: StateChange, *, is_change: bool) -> None:
        status = to_status(self._info.name, change, is_change=is_change, camera=self._control.name)
        self._control.meter.state(status)
        if self._outlets.wants_canvas and self._canvas.size and is_away(change):
            canvas = self._canvas.copy()
            draw_lost_banner(canvas, status)
            status = replace(status, canvas=canvas)
        self._outlets.write(status)

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


def _log_state(prefix: str, name: str, change: StateChange) -> None:
    # Most reasons begin with the camera's name, too.
    reason = f": {change.reason}".replace(f": {name} ", ": it ", 1) if change.reason else ""
    level = logging.WARNING if change.state in (CameraState.STALLED, CameraState.LOST) else logging.INFO
    # A camera that stays away is opened again and again: only the first attempts are news.
    if change.attempt > 1 and change.state is not CameraState.LIVE:
        level = logging.DEBUG
    _log.log(level, "%s%s is %s%s", prefix, name, change.state.value, reason)


def _counted(result: FrameResult) -> list[int]:
    """Return the class ids that one frame adds to the summary."""
    match result.found:
        case Detections():
            return [int(class_id) for class_id in result.found.class_id]
        case Classification():
            return [int(class_id) for class_id in result.found.class_id[:1]]
        case segmentation:
            return [segment.class_id for segment in segments_of(segmentation, result.width, result.height)]
