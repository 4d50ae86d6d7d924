"""One camera between the loop and its viewers: what the sink's thread leaves, the server's thread picks up.

The sink's thread takes notes and, only while somebody watches and a picture is due, a copy of the canvas. The
server's thread has it encoded, once for all viewers, by a third thread.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.controls import LiveDecoder
from edge_mnv2.errors import SinkError
from edge_mnv2.readings import CameraFigures
from edge_mnv2.results import CameraStatus, FrameResult
from edge_mnv2.sinks.record import to_record
from edge_mnv2.web.meters import Meters

Encode = Callable[[NDArray[np.uint8]], bytes]

# Records that wait for one listener; older ones are dropped.
_QUEUE_LENGTH = 64
# A live camera without a result for so long is not well.
_SILENCE_S = 30.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Jpeg:
    """One encoded picture, and its number: viewers wait for a higher one."""

    number: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Moment:
    """What the last frames of a camera were like.

    Attributes:
        last: The newest result without its pixels, None before the first.
        frames: Results so far.
        fps: Results per second, None before there are two.
        age_ms: Median age of the last ones, None without any.
        stages_ms: Median duration by stage.
    """

    last: FrameResult | None
    frames: int
    fps: float | None
    age_ms: float | None
    stages_ms: Mapping[str, float]


class Listener:
    """Somebody who waits for records. It lives in the server's thread."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.records: deque[bytes] = deque(maxlen=_QUEUE_LENGTH)


class CameraFeed:
    """What the page knows of one camera.

    Args:
        name: As viewers choose it.
        decoder: What they can change.
        read_figures: Asked whenever somebody asks; from the server's thread.
        encode: Makes a JPEG of a canvas.
        executor: Where it runs.
        post: Calls a function in the server's thread.
        fps: Most pictures per second.

    Attributes:
        viewers: An event for each who waits for pictures; it is set when there is a new one. Server's thread.
        listeners: Who waits for records. Server's thread.
        jpeg: The newest picture, None before the first and while nobody watches. Server's thread.
        is_closed: Whether the server is closing: nothing more goes to viewers. Server's thread.
        has_ended: Whether nothing more comes from the camera. Server's thread.
        changing: Held while the decoder is changed.
        status: The camera's last state, None where it has told none.
    """

    def __init__(
        self,
        name: str,
        decoder: LiveDecoder,
        read_figures: Callable[[], CameraFigures],
        encode: Encode,
        executor: Executor,
        post: Callable[[Callable[[], None]], None],
        fps: float,
    ) -> None:
        self.name = name
        self.decoder = decoder
        self.read_figures = read_figures
        self.viewers: set[asyncio.Event] = set()
        self.listeners: set[Listener] = set()
        self.jpeg: Jpeg | None = None
        self.is_closed = self.has_ended = self._is_over = False
        self.changing = asyncio.Lock()
        self.status: CameraStatus | None = None
        self.added_at = datetime.now(timezone.utc)
        self._encode = encode
        self._executor = executor
        self._post = post
        self._interval_ns = int(1e9 / fps)
        self._lock = threading.Lock()
        self._due_ns = 0
        self._canvas: NDArray[np.uint8] | None = None
        self._encoding: asyncio.Task[None] | None = None
        self._number = 0
        self._meters = Meters()
        self._last: FrameResult | None = None
        self._last_ns = 0

    # --- the loop's and the sink's thread

    def wants_canvas(self) -> bool:
        """Return whether somebody watches, and another picture is due."""
        return bool(self.viewers) and time.monotonic_ns() >= self._due_ns

    def write(self, result: FrameResult) -> None:
        """Take a frame's result."""
        now_ns = time.monotonic_ns()
        with self._lock:
            self._meters.add(now_ns, result.age_ms, result.stages_ms)
            # Without its pixels, which are the loop's.
            self._last, self._last_ns = replace(result, canvas=None), now_ns
        self._take(result.canvas, now_ns)
        if self.listeners:
            record = json.dumps(to_record(result), ensure_ascii=False).encode("utf-8", "backslashreplace")
            self._post(lambda: self._tell(record))

    def show(self, status: CameraStatus) -> None:
        """Take the camera's state; one that comes after the end is old."""
        if self._is_over:
            return
        self._take(status.canvas, time.monotonic_ns())
        if status.is_change or self.status is None:
            self.status = replace(status, canvas=None)
            self._post(lambda: self._tell(None))

    def end(self, reason: str, *, is_lost: bool) -> None:
        """Take it that nothing more comes; see `WebServer.end_camera`."""
        self._is_over = True
        before, last = self.status, self._last
        lost_since = None if last is None else last.captured_at
        status = CameraStatus(
            origin=before.origin if before is not None else "" if last is None else last.origin,
            state="lost" if is_lost else "ended",
            reason=reason,
            at=datetime.now(timezone.utc),
            lost_since=(before.lost_since if before is not None else None) or lost_since,
        )
        self._post(lambda: self._note_end(status))

    def _take(self, canvas: NDArray[np.uint8] | None, now_ns: int) -> None:
        if canvas is None or not self.viewers or now_ns < self._due_ns:
            return
        # Due times lie on a grid, so that 30 Hz become 15 Hz and not 10 where frames come early.
        self._due_ns = max(self._due_ns + self._interval_ns, now_ns)
        own = canvas.copy()
        with self._lock:
            self._canvas = own
        self._post(self._start_encoding)

    # --- the server's thread

    def join(self) -> asyncio.Event:
        """Return an event for a new viewer; `leave` ends it."""
        event = asyncio.Event()
        self.viewers.add(event)
        return event

    def leave(self, event: asyncio.Event) -> None:
        """Forget a viewer; the last one takes the picture along, which nobody would keep fresh."""
        self.viewers.discard(event)
        if not self.viewers:
            self.jpeg = None
            with self._lock:
                self._canvas = None

    def moment(self) -> Moment:
        """Return what the last frames were like."""
        now_ns = time.monotonic_ns()
        with self._lock:
            age_ms, stages_ms = self._meters.medians(now_ns)
            return Moment(self._last, self._meters.frames, self._meters.fps(now_ns), age_ms, stages_ms)

    @property
    def state(self) -> str:
        """What the camera does; one that tells nothing is opening until its first frame, then live."""
        if self.status is not None:
            return self.status.state
        return "live" if self._last is not None else "opening"

    def is_well(self) -> bool:
        """Return whether the camera is live, as far as it says, and results come."""
        silent_s = (time.monotonic_ns() - self._last_ns) / 1e9
        return self.state == "live" and self._last is not None and silent_s < _SILENCE_S

    def _note_end(self, status: CameraStatus) -> None:
        self.status, self.has_ended = status, True
        for event in self.viewers:
            event.set()
        self._tell(None)

    def _tell(self, record: bytes | None) -> None:
        for listener in self.listeners:
            if record is not None:
                listener.records.append(record)
            listener.news.set()

    def _start_encoding(self) -> None:
        if self._encoding is None:
            self._encoding = asyncio.get_running_loop().create_task(self._encode_all())

    async def _encode_all(self) -> None:
        """Encode the newest canvas, and again while there is a newer one."""
        loop = asyncio.get_running_loop()
        try:
            while (canvas := self._next_canvas()) is not None:
                try:
                    data = await loop.run_in_executor(self._executor, self._encode, canvas)
                except SinkError as error:
                    _log.error("%s", error)
                    continue
                if self.viewers:
                    self._number += 1
                    self.jpeg = Jpeg(self._number, data)
                for event in self.viewers:
                    event.set()
        finally:
            self._encoding = None

    def _next_canvas(self) -> NDArray[np.uint8] | None:
        with self._lock:
            canvas, self._canvas = self._canvas, None
        return canvas
