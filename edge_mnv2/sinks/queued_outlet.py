"""One sink as the loop of a live source sees it: neither its failures nor its slowness are the loop's."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from edge_mnv2.errors import RequestError, SinkError, SinkGoneError
from edge_mnv2.readings import DeviceEvent
from edge_mnv2.results import CameraStatus, FrameResult
from edge_mnv2.sinks.base import Sink, SinkSpec
from edge_mnv2.sinks.outlet import Item, close_sink, hand_over, report, wants_canvas
from edge_mnv2.sinks.trouble import Trouble
from edge_mnv2.threads import Worker

# Room on a full disk is noticed within the longest pause.
_FIRST_RETRY_S, _MAX_RETRY_S = 1.0, 10.0
# A sink that fails again sooner than this after it was opened again goes on with the longer pauses.
_STEADY_S = 10.0
# A result that takes longer to write while others are lost is trouble.
_BLOCKED_S = 5.0
# What is queued takes well under a second; what takes longer is blocked. A service has 5 s in all to end.
_DRAIN_TIMEOUT_S = 3.0

_log = logging.getLogger(__name__)


class QueuedOutlet:
    """Writes from a thread of its own behind a bounded queue: the loop never waits. For live sources.

    When the queue is full the oldest result is dropped and counted. A sink that fails is opened again, after
    one second at first and ten at most, unless nobody is left to read what it writes. Trouble that begins or
    ends, a failure or a sink that blocks, is logged and told; like a lost camera that came back, trouble that
    ended is no failure of the run.

    Args:
        spec: What to open.
        on_trouble: Told when trouble begins and when it ends, from the sink's thread or the loop's; it must
            return soon.

    Attributes:
        failures: What went wrong and stayed so, one line each; complete after `close`.
        dropped: Results that did not reach the sink.
    """

    def __init__(self, spec: SinkSpec, on_trouble: Callable[[DeviceEvent], None] | None = None) -> None:
        self.name = spec.name
        self.failures: list[str] = []
        self.dropped = 0
        self._spec = spec
        self._trouble = Trouble(spec.name, on_trouble)
        self._queue: deque[Item] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._deadline_s = 0.0
        self._is_closed = False
        self._is_gone = False
        self._attempts = 0
        self._pause_s = _FIRST_RETRY_S
        self._works_since_s = math.inf
        self._dropped_when_fine = 0
        self._busy_since_s = math.inf
        self._sink: Sink | None = spec.open(0)
        self._worker = Worker(self._work, f"sink {spec.name}")

    @property
    def is_alive(self) -> bool:
        """Whether results may still reach the sink."""
        return self._worker.error is None and not self._is_gone

    @property
    def trouble(self) -> str:
        """What is wrong now, empty where nothing is."""
        return self._trouble.text

    @property
    def wants_canvas(self) -> bool:
        """Whether the next result needs a canvas."""
        return wants_canvas(self._spec)

    @property
    def may_want_canvas(self) -> bool:
        """Whether any result may need one: somebody may look later."""
        return self._spec.wants_canvas

    def write(self, result: Item) -> None:
        """Queue one result, state or event, with a copy of its pixels where they are wanted."""
        self._worker.check()
        own = self._own(result)
        with self._changed:
            if self._is_gone:
                self.dropped += isinstance(result, FrameResult)
                return
            is_full = len(self._queue) >= self._spec.queue_length
            if is_full:
                self._drop_oldest()
            self._queue.append(own)
            self._changed.notify()
        if is_full and time.monotonic() - self._busy_since_s >= _BLOCKED_S:
            # A pipe that nobody reads, a network disk that hangs: no error will ever say so.
            self._trouble.begin(f"{self.name} is blocked.")

    def stop(self) -> None:
        """Ask for the end: what is queued is still written, for a bounded time from now."""
        with self._changed:
            if not self._stopping:
                self._stopping = True
                self._deadline_s = time.monotonic() + _DRAIN_TIMEOUT_S
            self._changed.notify()

    def close(self) -> None:
        """Wait until all is written or the time since `stop` is up; raise what crashed the sink's thread."""
        self.stop()
        if self._is_closed:
            return
        self._is_closed = True
        if not self._worker.join(max(0.0, self._deadline_s - time.monotonic())):
            report(self.failures, SinkError(f"{self.name} is still blocked: its last results are lost."))
        elif self._trouble.text:
            self.failures.append(self._trouble.text)
        with self._changed:
            self.dropped += sum(isinstance(item, FrameResult) for item in self._queue)
            self._queue.clear()
        self._worker.check()

    def _own(self, item: Item) -> Item:
        """Return what may wait: a canvas is the loop's, and only copied where it is wanted."""
        if isinstance(item, DeviceEvent):
            return item
        return item.with_own_canvas() if self.wants_canvas else replace(item, canvas=None)

    def _drop_oldest(self) -> None:
        """Make room: an older result goes; what happened to the camera stays as long as it can."""
        oldest = next((item for item in self._queue if not _is_news(item)), self._queue[0])
        self._queue.remove(oldest)
        self.dropped += isinstance(oldest, FrameResult)

    def _work(self) -> None:
        try:
            while not self._is_gone and (result := self._next()) is not None:
                self._write(result)
        finally:
            sink, self._sink = self._sink, None
            if sink is not None:
                close_sink(sink, self.failures)

    def _next(self) -> Item | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopping)
            return self._queue.popleft() if self._queue else None

    def _write(self, result: Item) -> None:
        if self._sink is None:  # it failed, and the run ended before it could be opened again
            self._count_drop(result)
            return
        self._busy_since_s = time.monotonic()
        try:
            hand_over(self._sink, result)
        except SinkGoneError as error:
            report(self.failures, error)
            self._is_gone = True
            self._count_drop(result)
        except SinkError as error:
            self._count_drop(result)
            self._trouble.begin(str(error))
            self._give_up_sink()
            self._reopen()
        else:
            if isinstance(result, FrameResult):  # a state may be nothing to this sink
                self._note_success()
        finally:
            self._busy_since_s = math.inf

    def _note_success(self) -> None:
        if self._trouble.text:
            self._works_since_s = time.monotonic()
            self._trouble.end(self.dropped - self._dropped_when_fine)
        self._dropped_when_fine = self.dropped

    def _give_up_sink(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            close_sink(sink, self.failures)
        if time.monotonic() - self._works_since_s >= _STEADY_S:
            self._pause_s = _FIRST_RETRY_S
        self._works_since_s = math.inf

    def _reopen(self) -> None:
        """Open the sink again, with pauses that grow until it has worked for a while."""
        self._busy_since_s = math.inf
        while not self._wait(self._pause_s):
            self._pause_s = min(self._pause_s * 2, _MAX_RETRY_S)
            self._attempts += 1
            try:
                self._sink = self._spec.open(self._attempts)
            except (SinkError, RequestError) as error:
                _log.debug("%s: %s", self.name, error)
            else:
                return

    def _wait(self, pause_s: float) -> bool:
        """Wait for the pause to pass, while the queue keeps turning over; return whether the run ends."""
        with self._changed:
            return self._changed.wait_for(lambda: self._stopping, timeout=pause_s)

    def _count_drop(self, item: Item) -> None:
        with self._changed:
            self.dropped += isinstance(item, FrameResult)


def _is_news(item: Item) -> bool:
    return isinstance(item, DeviceEvent) or (isinstance(item, CameraStatus) and item.is_change)
