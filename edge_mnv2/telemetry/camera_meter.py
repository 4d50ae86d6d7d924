"""What the loop of one camera says of itself while it runs: rate, ages, durations, state, counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from camera.credentials import without_credentials
from edge_mnv2.object_counts import count_objects
from edge_mnv2.readings import CameraFigures, Percentiles
from edge_mnv2.results import CameraStatus, FrameResult, Result
from edge_mnv2.telemetry.stages import SlidingTimes, percentiles_of

_RATE_WINDOW_NS = 10_000_000_000
# Over less than this, a rate tells of jitter.
_LEAST_NS = 1_000_000_000
_WINDOW_S = 60.0
# Percentiles of 60,000 frames cost milliseconds: however many ask, they are worked out once a second.
_KEPT_NS = 1_000_000_000
_AGE = "\0age"


@dataclass(slots=True)
class _Newest:
    """What of the newest result is shown; never its picture, which belongs to the loop."""

    found: Result
    labels: Mapping[int, str]
    model: str
    task: str


class CameraMeter:
    """Collects the results and states of one camera, from one thread or several, for any other.

    Args:
        source: The device or stream, without credentials.
        drops: Returns lost frames and results by cause, counted when it is called; it can be set later, when
            the loop exists.
        clock_ns: Of the monotonic clock.

    Attributes:
        drops: As the argument.
        troubles: Returns what is wrong with outputs now, one sentence each; set it as `drops`.
    """

    def __init__(
        self,
        source: str,
        drops: Callable[[], Mapping[str, int]] = dict,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.drops = drops
        self.troubles: Callable[[], Sequence[str]] = tuple
        self._source = source
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._times = SlidingTimes(_WINDOW_S)
        self._newest: _Newest | None = None
        self._engine = self._precision = ""
        self._frames = self._losses = self._attempts = 0
        self._before_ns = self._last_ns = 0
        self._state, self._reason = "opening", ""
        self._state_since: datetime | None = None
        self._lost_since: datetime | None = None
        self._shown: dict[str, Percentiles] = {}
        self._shown_ns: int | None = None

    def result(self, result: FrameResult, engine: str, precision: str) -> None:
        """Note one result; its canvas is not kept.

        Args:
            result: Of one frame.
            engine: Backend that ran it.
            precision: Of its graph.
        """
        with self._lock:
            now_ns = self._clock_ns()
            if (engine, precision) != (self._engine, self._precision):
                # Times of two engines together would mean nothing.
                self._times.forget_durations()
                self._engine, self._precision, self._shown_ns = engine, precision, None
            self._times.add(now_ns, {_AGE: result.age_ms, **result.stages_ms})
            self._frames += 1
            self._before_ns, self._last_ns = self._last_ns, now_ns
            self._newest = _Newest(result.found, result.labels, result.model, result.task)
            if self._state_since is None:
                # Files have no states; a camera tells its own before its first frame.
                self._state, self._state_since = "live", datetime.now(timezone.utc)

    def state(self, status: CameraStatus) -> None:
        """Note what the camera does."""
        if not status.is_change:
            return
        with self._lock:
            self._state, self._reason = status.state, status.reason
            self._state_since, self._lost_since = status.at, status.lost_since
            self._losses += status.state == "lost"
            self._attempts += status.state in ("opening", "reconnecting")

    def ended(self, reason: str = "") -> None:
        """Note that no more results will come.

        Args:
            reason: Why, as a sentence without credentials; empty at the end of a file.
        """
        with self._lock:
            self._state, self._reason, self._state_since = "ended", reason, datetime.now(timezone.utc)

    def waits(self, reason: str) -> None:
        """Note that it could not begin, and will be tried again.

        Args:
            reason: Why, as a sentence.
        """
        with self._lock:
            self._state, self._reason = "reconnecting", without_credentials(reason)
            self._state_since = datetime.now(timezone.utc)
            self._attempts += 1

    def figures(self) -> CameraFigures:
        """Return the figures of now; percentiles may be a second old."""
        # Not under the lock: it asks the loop and its outlets.
        drops, troubles = dict(self.drops()), tuple(self.troubles())
        with self._reading:
            fresh = None
            with self._lock:
                now_ns = self._clock_ns()
                if self._shown_ns is None or now_ns - self._shown_ns >= _KEPT_NS:
                    fresh = self._times.durations_ms(now_ns - int(_WINDOW_S * 1e9))
                    self._shown_ns = now_ns
                newest = self._newest
                figures = CameraFigures(
                    source=self._source,
                    state=self._state,
                    reason=self._reason,
                    state_since=self._state_since,
                    lost_since=self._lost_since,
                    losses=self._losses,
                    attempts=self._attempts,
                    model="" if newest is None else newest.model,
                    task="" if newest is None else newest.task,
                    engine=self._engine,
                    precision=self._precision,
                    frames=self._frames,
                    fps=self._fps(now_ns),
                    drops=drops,
                    troubles=troubles,
                )
            if fresh is not None:
                # The loop does not wait for this.
                self._shown = percentiles_of(fresh)
            shown = self._shown
        return replace(
            figures,
            age=shown.get(_AGE),
            stages={stage: values for stage, values in shown.items() if stage != _AGE},
            counts={} if newest is None else count_objects(newest.found, newest.labels),
        )

    def _fps(self, now_ns: int) -> float | None:
        """Return results per second, in Hz; None before they tell of a second.

        Over the last ten seconds, or over the last two results if they are further apart. It falls while none
        comes, and is 0 when none came for ten seconds and for twice the time between the last two.
        """
        if self._frames < 2:
            return None
        between_ns, silent_ns = self._last_ns - self._before_ns, now_ns - self._last_ns
        if self._state == "ended" or silent_ns > max(_RATE_WINDOW_NS, 2 * between_ns):
            return 0.0
        recent = self._times.times_ns(now_ns - _RATE_WINDOW_NS)
        if len(recent) < 2:
            return 1e9 / max(between_ns, silent_ns, 1)
        first_ns = int(recent.min())
        interval_ns = (self._last_ns - first_ns) / (len(recent) - 1)
        end_ns = now_ns if silent_ns > 2 * interval_ns else self._last_ns
        if end_ns - first_ns < _LEAST_NS:
            return None
        return (len(recent) - 1) * 1e9 / (end_ns - first_ns)
