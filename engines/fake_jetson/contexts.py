"""Primary contexts, and which of them is current in which thread: for CUDA, and by pycuda's own book.

The two books differ at times: pycuda believes that releasing a primary context takes it off CUDA's stack, and
it cleans up after itself only in the thread that retained the context, or where that very object is current.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

from engines.fake_jetson.codes import INVALID_CONTEXT, CudaError
from engines.fake_jetson.record import Record


@dataclass(slots=True, eq=False)
class Primary:
    """The primary context of one device.

    Attributes:
        ordinal: The device.
        retained: How many hold it, apart from the runtime.
        runtime_holds: Whether the CUDA runtime inside TensorRT holds it as well; it never lets go.
    """

    ordinal: int
    retained: int = 0
    runtime_holds: bool = False

    @property
    def alive(self) -> bool:
        """Whether anybody holds it."""
        return self.retained > 0 or self.runtime_holds


@dataclass(eq=False)
class Hold:
    """One reference to a primary context: what a context object of pycuda is.

    Attributes:
        primary: The context.
        thread: Who retained it; the only thread in which pycuda makes it current by itself.
        valid: False once it was detached.
        on_drop: Called when the last use of a valid one is gone.
    """

    primary: Primary
    thread: int = field(default_factory=threading.get_ident)
    valid: bool = True
    on_drop: Callable[[Hold], None] | None = None

    def __del__(self) -> None:
        if self.valid and self.on_drop is not None:
            self.on_drop(self)


class _Stacks:
    """What is pushed in one thread. It dies with the thread."""

    def __init__(self, record: Record) -> None:
        self.cuda: list[Primary] = []
        self.pycuda: list[Hold] = []
        self.thread_name = threading.current_thread().name
        self._record = record

    def __del__(self) -> None:
        if self.pycuda:
            depth = len(self.pycuda)
            self._record.violation(
                f"a thread ended with {depth} contexts pushed; pycuda aborts the process", self.thread_name
            )


class Contexts:
    """All contexts of a process.

    Args:
        record: Where a thread that ends with a context pushed is written down.
        devices: Number of devices.
    """

    def __init__(self, record: Record, devices: int) -> None:
        self.primaries = [Primary(ordinal) for ordinal in range(devices)]
        self._record = record
        self._local = threading.local()
        self._threads: weakref.WeakSet[_Stacks] = weakref.WeakSet()

    def stacks(self) -> _Stacks:
        """Return what is pushed in this thread."""
        try:
            found: _Stacks = self._local.stacks
        except AttributeError:
            found = self._local.stacks = _Stacks(self._record)
            self._threads.add(found)
        return found

    def require(self) -> Primary:
        """Return what is current for CUDA in this thread.

        Raises:
            CudaError: Nothing is, or nobody holds it any longer.
        """
        stack = self.stacks().cuda
        if not stack or not stack[-1].alive:
            raise CudaError(INVALID_CONTEXT)
        return stack[-1]

    def cuda_pop(self) -> Primary:
        """Play cuCtxPopCurrent.

        Raises:
            CudaError: CUDA's stack is empty.
        """
        stack = self.stacks().cuda
        if not stack:
            raise CudaError(INVALID_CONTEXT)
        return stack.pop()

    def current(self, unless: Hold | None = None) -> Hold | None:
        """Return what is current by pycuda's book; detached ones on top and `unless` are dropped."""
        stack = self.stacks().pycuda
        while stack and (stack[-1] is unless or not stack[-1].valid):
            stack.pop()
        return stack[-1] if stack else None

    def push(self, hold: Hold) -> None:
        """Make a context current: pycuda keeps only its own topmost one on CUDA's stack."""
        if not hold.valid:
            self._record.violation("a detached context was pushed")
        stacks = self.stacks()
        if stacks.pycuda:
            self.cuda_pop()
        stacks.cuda.append(hold.primary)
        stacks.pycuda.append(hold)

    def pop(self) -> None:
        """Make the context below the topmost one current again.

        Raises:
            CudaError: This thread has pushed none.
        """
        stacks = self.stacks()
        if not stacks.pycuda:
            raise CudaError(INVALID_CONTEXT)
        self.cuda_pop()
        stacks.pycuda.pop()
        below = self.current()
        if below is not None:
            stacks.cuda.append(below.primary)

    def pushed(self) -> dict[str, int]:
        """Return how many contexts are pushed, by the name of the thread, the larger of both books."""
        depths = {one.thread_name: max(len(one.cuda), len(one.pycuda)) for one in list(self._threads)}
        return {name: depth for name, depth in depths.items() if depth}
