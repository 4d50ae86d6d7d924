"""What a source really delivers: rate, jitter, age, drops, sizes."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from camera.base import Frame, FrameSource, SourceInfo
from camera.errors import BadFrameError, CameraError, EndOfStream

_TICK_S = 0.1
_JOIN_TIMEOUT_S = 10.0
# FFmpeg hands out at once what it gathered while a stream was opened: about a second of it.
SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Spread:
    """Half of the values lie below `p50`, 95 of 100 below `p95`."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was seen of a source.

    Attributes:
        info: What it says of itself.
        open_s: How long it took to open.
        first_frame_s: From the start of opening until the first frame was here; None without a frame.
        frames: How many came and were measured; those of a camera's first second are not.
        dropped: How many did not, by gaps in their numbers at the source.
        bad_frames: How many could not be decoded.
        fps: Frames per second at the source, by its timestamps; None with less than two frames.
        intervals_ms: Between two frames at the source; None with less than two.
        ages_ms: From capture until a frame was here, as far as timestamps allow; None without a frame.
        in_future: Frames with timestamps that had not come yet.
        backwards: Frames with timestamps not after the one before.
        sizes: (width, height) of the frames, in order of appearance.
        ended: Whether the source came to its end.
        failure: What it failed with, None where it did not.
        stopped: Whether it was stopped before the time was over.
    """

    info: SourceInfo
    open_s: float
    first_frame_s: float | None
    frames: int
    dropped: int
    bad_frames: int
    fps: float | None
    intervals_ms: Spread | None
    ages_ms: Spread | None
    in_future: int
    backwards: int
    sizes: tuple[tuple[int, int], ...]
    ended: bool
    failure: str | None
    stopped: bool = False


@dataclass(slots=True)
class _Tally:
    """What is noted of each frame."""

    settle_s: float = 0.0
    settled_ns: int | None = None  # from then on, frames are measured
    frames: int = 0
    dropped: int = 0
    bad_frames: int = 0
    in_future: int = 0
    backwards: int = 0
    source_ns: int = 0  # at the source, and how many intervals that is
    source_intervals: int = 0
    intervals_ms: list[float] = field(default_factory=list)
    ages_ms: list[float] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    last: tuple[int, int] | None = None  # seq, captured_ns

    def begin_anew(self) -> None:
        """Let a camera settle that was opened again."""
        self.settled_ns = self.last = None

    def add(self, frame: Frame, now_ns: int) -> None:
        self.sizes[frame.image.shape[1], frame.image.shape[0]] += 1
        if self.settled_ns is None:
            self.settled_ns = now_ns + round(self.settle_s * 1e9)
        if now_ns < self.settled_ns:
            return
        self.frames += 1
        self.ages_ms.append((now_ns - frame.captured_ns) / 1e6)
        self.in_future += frame.captured_ns > now_ns
        if self.last is not None:
            steps, passed_ns = frame.seq - self.last[0], frame.captured_ns - self.last[1]
            # A camera that was opened anew may count anew.
            if steps > 0:
                self.dropped += steps - 1
            if passed_ns <= 0:
                self.backwards += 1
            elif steps > 0:
                self.source_ns += passed_ns
                self.source_intervals += steps
                self.intervals_ms.append(passed_ns / steps / 1e6)
        self.last = frame.seq, frame.captured_ns


def measure(
    source: FrameSource,
    seconds: float,
    *,
    patience_s: float = 10.0,
    settle_s: float = SETTLE_S,
    stop: threading.Event | None = None,
) -> Measurement | None:
    """Open a source, read it for a while, and close it.

    Args:
        source: Not opened yet.
        seconds: How long, counted from the first frame, or from when a camera has settled.
        patience_s: So long without a frame, it is given up.
        settle_s: So long after it was opened, a camera's frames say nothing of its rate. What has a known
            number of frames is measured from the first on.
        stop: Ends it early, while it is opened, too.

    Returns:
        What was seen; None where it was stopped before it was open.

    Raises:
        CameraError: It cannot be opened.
    """
    began = time.monotonic()
    watch = _Watch(source, patience_s, stop)
    try:
        try:
            info = source.open()
        except CameraError:
            if watch.stopped:
                return None
            raise
        opened = time.monotonic()
        watch.saw_life()
        tally = _Tally(settle_s if info.live and info.frames is None else 0.0)
        first, ended, failure = _read(source, seconds, tally, watch)
    finally:
        watch.end()
        source.close()
    if watch.gave_up and failure is None:
        failure = f"No frame came for {patience_s:g} s: it was given up."
    fps = tally.source_intervals / tally.source_ns * 1e9 if tally.source_ns else None
    return Measurement(
        info=info,
        open_s=opened - began,
        first_frame_s=None if first is None else first - began,
        frames=tally.frames,
        dropped=tally.dropped,
        bad_frames=tally.bad_frames,
        fps=fps,
        intervals_ms=_spread(tally.intervals_ms),
        ages_ms=_spread(tally.ages_ms),
        in_future=tally.in_future,
        backwards=tally.backwards,
        sizes=tuple(tally.sizes),
        ended=ended,
        failure=failure,
        stopped=watch.stopped,
    )


class _Watch:
    """Closes a source that gives no frames, or at a stop, so that whoever opens or reads it wakes up."""

    def __init__(self, source: FrameSource, patience_s: float, stop: threading.Event | None) -> None:
        self.gave_up = False
        self.stopped = False
        self._source = source
        self._patience_s = patience_s
        self._stop = stop
        self._last: float | None = None  # while it is opened, the source itself knows how long to wait
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera-probe-watch", daemon=True)
        self._thread.start()

    def saw_life(self) -> None:
        self._last = time.monotonic()

    def end(self) -> None:
        self._over.set()
        self._thread.join(_JOIN_TIMEOUT_S)

    def _run(self) -> None:
        while not self._over.wait(_TICK_S):
            self.stopped = self._stop is not None and self._stop.is_set()
            silent_s = 0.0 if self._last is None else time.monotonic() - self._last
            self.gave_up = not self.stopped and silent_s > self._patience_s
            if self.stopped or self.gave_up:
                self._source.close()
                return


def _read(
    source: FrameSource, seconds: float, tally: _Tally, watch: _Watch
) -> tuple[float | None, bool, str | None]:
    """Return when the first frame came, whether the source ended by itself, and what it failed with."""
    first: float | None = None
    reconnects = 0
    # A source that was closed before it was open may not have noticed.
    while not watch.stopped and (first is None or time.monotonic() - first < tally.settle_s + seconds):
        try:
            frame = source.read()
        except EndOfStream:
            return first, not (watch.gave_up or watch.stopped), None
        except BadFrameError:
            tally.bad_frames += 1
            continue
        except CameraError as error:
            return first, False, None if watch.gave_up or watch.stopped else str(error)
        with frame:
            now_ns = time.monotonic_ns()
            watch.saw_life()
            first = now_ns / 1e9 if first is None else first
            if getattr(source, "reconnects", 0) > reconnects:
                reconnects += 1
                tally.begin_anew()
            tally.add(frame, now_ns)
    return first, False, None


def _spread(values: list[float]) -> Spread | None:
    if not values:
        return None
    p50, p95 = np.percentile(values, (50, 95))
    return Spread(float(p50), float(p95))
