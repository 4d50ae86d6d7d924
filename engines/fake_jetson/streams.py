"""Streams that run nothing until somebody waits for them, and graphs captured from them.

A real device is fast enough to hide a forgotten synchronise most of the time; here it never is.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from engines.fake_jetson.codes import (
    CAPTURE_INVALIDATED,
    CAPTURE_UNSUPPORTED,
    CAPTURE_WRONG_THREAD,
    ILLEGAL_ADDRESS,
    INVALID_HANDLE,
    INVALID_VALUE,
    CudaError,
)
from engines.fake_jetson.memory import Resource
from engines.fake_jetson.record import Record

NON_BLOCKING = 1
CAPTURE_GLOBAL, CAPTURE_THREAD_LOCAL, CAPTURE_RELAXED = range(3)


@dataclass(slots=True)
class Operation:
    """One piece of work.

    Attributes:
        run: Does it.
        uses: What must not be freed until then.
        number: Counts what was asked of all streams.
    """

    run: Callable[[], None]
    uses: tuple[Resource, ...]
    number: int = 0


@dataclass(slots=True)
class Capture:
    """A capture that has begun.

    Attributes:
        mode: Which calls elsewhere spoil it; CUstreamCaptureMode.
        thread: Who began it.
        operations: What was captured.
        spoiled: Whether a forbidden call was made.
    """

    mode: int
    thread: int
    operations: list[Operation] = field(default_factory=list)
    spoiled: bool = False


@dataclass(slots=True, eq=False)
class Stream:
    """A queue of work.

    Attributes:
        handle: Its address, as the driver gives it.
        owner: Ordinal of the device whose context it lives in.
        blocking: Whether it waits for the default stream, and that for it.
        queue: What was asked for and not done.
        lock: Held while work runs.
        capture: What is being captured, if anything.
    """

    handle: int
    owner: int
    blocking: bool = True
    queue: deque[Operation] = field(default_factory=deque)
    lock: threading.RLock = field(default_factory=threading.RLock)
    capture: Capture | None = None


class Streams:
    """All streams and graphs of one fake device."""

    def __init__(self, record: Record) -> None:
        self.streams = {0: Stream(0, 0)}
        self.graphs: dict[int, list[Operation]] = {}
        self.executables: dict[int, list[Operation]] = {}
        self._record = record
        self._handles = itertools.count(0x7F00_0000_0000, 0x40)
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def create(self, owner: int, flags: int) -> Stream:
        """Create a stream."""
        stream = Stream(next(self._handles), owner, blocking=not flags & NON_BLOCKING)
        self.streams[stream.handle] = stream
        return stream

    def destroy(self, stream: Stream) -> None:
        """Run what is left on a stream, then forget it."""
        stream.capture = None
        self._work([stream], [stream])
        self.streams.pop(stream.handle, None)

    def find(self, handle: int, owner: int) -> Stream:
        """Return the stream with this handle.

        Raises:
            CudaError: There is none, or it lives in another device's context.
        """
        stream = self.streams.get(handle)
        if stream is None:
            self._record.violation(f"stream {handle:#x} was destroyed or never existed; the driver crashes")
            raise CudaError(INVALID_HANDLE)
        if handle and stream.owner != owner:
            raise CudaError(INVALID_HANDLE)
        return stream

    def enqueue(self, stream: Stream, operation: Operation) -> None:
        """Append work to a stream, or to what is captured from it."""
        capture = stream.capture
        if capture is not None:
            if capture.spoiled:
                raise CudaError(CAPTURE_INVALIDATED)
            capture.operations.append(operation)
            return
        with self._lock:
            for resource in operation.uses:
                resource.pending += 1
            operation.number = next(self._numbers)
            stream.queue.append(operation)

    def synchronise(self, stream: Stream) -> None:
        """Do all work of a stream.

        Raises:
            CudaError: The stream is being captured, or work used freed memory.
        """
        if stream.capture is not None:
            stream.capture.spoiled = True
            raise CudaError(CAPTURE_UNSUPPORTED)
        default = self.streams[0]
        if not stream.blocking or (stream is not default and not default.queue):
            self._work([stream], [stream])
            return
        # What is asked of the default stream waits for the others, and they for it: in the order of asking.
        together = [one for one in list(self.streams.values()) if one.blocking]
        self._work(together, together if stream is default else [stream])

    def synchronise_all(self, owner: int) -> None:
        """Do all work of a context.

        Raises:
            CudaError: A stream is being captured, or work used freed memory.
        """
        found = [one for one in list(self.streams.values()) if one.owner == owner]
        captures = [one.capture for one in found if one.capture is not None]
        for capture in captures:
            capture.spoiled = True
        if captures:
            raise CudaError(CAPTURE_UNSUPPORTED)
        self._work(found, found)

    def _work(self, streams: list[Stream], until_idle: list[Stream]) -> None:
        """Do the work of `streams` in the order in which it was asked for, until some of them have none left.

        Another thread that waits for one of them waits until this is done.
        """
        with ExitStack() as locks:
            for stream in sorted(streams, key=lambda one: one.handle):
                locks.enter_context(stream.lock)
            while any(stream.queue for stream in until_idle):
                busy = [stream for stream in streams if stream.queue]
                self._do_next(busy[0] if len(busy) == 1 else min(busy, key=lambda one: one.queue[0].number))

    def _do_next(self, stream: Stream) -> None:
        operation = stream.queue.popleft()
        stale = [resource.label for resource in operation.uses if resource.released]
        try:
            if not stale:
                operation.run()
        finally:
            self._forget(operation)
        if stale:
            self._record.violation(f"queued work used {stale[0]} after it was freed")
            while stream.queue:
                self._forget(stream.queue.popleft())
            raise CudaError(ILLEGAL_ADDRESS)

    def _forget(self, operation: Operation) -> None:
        with self._lock:
            for resource in operation.uses:
                resource.pending -= 1

    def check_capture(self) -> None:
        """Refuse what no capture of this thread, nor a global one, may see: allocating, freeing, copying.

        Raises:
            CudaError: There is such a capture; it is spoiled now.
        """
        spoiled = False
        for stream in list(self.streams.values()):
            capture = stream.capture
            if capture is None or capture.mode == CAPTURE_RELAXED:
                continue
            if capture.mode == CAPTURE_GLOBAL or capture.thread == threading.get_ident():
                capture.spoiled = spoiled = True
        if spoiled:
            raise CudaError(CAPTURE_UNSUPPORTED)

    def begin_capture(self, stream: Stream, mode: int) -> None:
        """Record what is asked of a stream instead of queueing it."""
        if not stream.handle:
            raise CudaError(CAPTURE_UNSUPPORTED)
        if stream.capture is not None or mode not in {CAPTURE_GLOBAL, CAPTURE_THREAD_LOCAL, CAPTURE_RELAXED}:
            raise CudaError(INVALID_VALUE)
        stream.capture = Capture(mode, threading.get_ident())

    def end_capture(self, stream: Stream) -> int:
        """Return the handle of the graph that was captured.

        Raises:
            CudaError: Nothing was being captured, or the capture was spoiled; it has ended all the same.
        """
        capture = stream.capture
        if capture is None:
            raise CudaError(INVALID_VALUE)
        if capture.mode != CAPTURE_RELAXED and capture.thread != threading.get_ident():
            raise CudaError(CAPTURE_WRONG_THREAD)
        stream.capture = None
        if capture.spoiled:
            raise CudaError(CAPTURE_INVALIDATED)
        return self._keep(self.graphs, capture.operations)

    def instantiate(self, graph: int) -> int:
        """Return the handle of an executable copy of a graph."""
        return self._keep(self.executables, list(self._look_up(self.graphs, graph, "graph")))

    def launch(self, executable: int, stream: Stream) -> None:
        """Queue a whole graph as one piece of work."""
        operations = self._look_up(self.executables, executable, "executable graph")

        def run() -> None:
            for operation in operations:
                operation.run()

        uses = {id(resource): resource for operation in operations for resource in operation.uses}
        self.enqueue(stream, Operation(run, tuple(uses.values())))

    def destroy_graph(self, graph: int) -> None:
        """Forget a graph; executable copies stay."""
        self._look_up(self.graphs, graph, "graph")
        del self.graphs[graph]

    def destroy_executable(self, executable: int) -> None:
        """Forget an executable graph; what was launched of it still runs."""
        self._look_up(self.executables, executable, "executable graph")
        del self.executables[executable]

    def _keep(self, table: dict[int, list[Operation]], operations: list[Operation]) -> int:
        handle = next(self._handles)
        table[handle] = operations
        return handle

    def _look_up(self, table: dict[int, list[Operation]], handle: int, what: str) -> list[Operation]:
        if handle not in table:
            self._record.violation(f"{what} {handle:#x} was destroyed or never existed; the driver crashes")
            raise CudaError(INVALID_VALUE)
        return table[handle]
