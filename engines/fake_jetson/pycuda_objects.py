"""pycuda's objects: contexts, devices, memory and streams, with pycuda's own ways.

A retained context is not current. Memory and streams belong to the context object that was current when they
were made, and are freed only where that very object is current or can be made so, which is in the thread that
retained it. Anywhere else they leak, with a warning. (Read in pycuda 2022.1 to 2026.1.)
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import ClassVar

from engines.fake_jetson import codes
from engines.fake_jetson.contexts import Hold
from engines.fake_jetson.device import FakeCuda
from engines.fake_jetson.memory import Allocation
from engines.fake_jetson.pycuda_errors import Error, LogicError, call, failure


class Context:
    """One reference to a primary context; current where it was pushed."""

    _cuda: ClassVar[FakeCuda]

    def __init__(self, hold: Hold) -> None:
        self._hold = hold

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Context) and other._hold.primary is self._hold.primary

    def __hash__(self) -> int:
        return hash(self._hold.primary.ordinal)

    @property
    def handle(self) -> int:
        """The driver's address of the context."""
        return 0x1000 + self._hold.primary.ordinal

    def push(self) -> None:
        """Make it current in this thread."""
        call(self._cuda, "cuCtxPushCurrent", self._cuda.contexts.push, self._hold)

    @classmethod
    def pop(cls) -> None:
        """Make the one below the topmost one of this thread current, whichever that is."""
        try:
            call(cls._cuda, "cuCtxPopCurrent", cls._cuda.contexts.pop)
        except LogicError:
            more = "cannot pop non-current context"
            raise failure("context::pop", codes.INVALID_CONTEXT, more) from None

    @classmethod
    def get_current(cls) -> Context | None:
        """Return what is current by pycuda's book."""
        hold = cls._cuda.contexts.current()
        return None if hold is None else cls(hold)

    def detach(self) -> None:
        """Give the reference back: only where it is current, or in the thread that retained it."""
        _detach(self._cuda, self._hold)

    @classmethod
    def synchronize(cls) -> None:
        """Wait for all work in the current context."""
        cuda = cls._cuda
        call(cuda, "cuCtxSynchronize", lambda: cuda.streams.synchronise_all(cuda.require_context().ordinal))


def _drop(cuda: FakeCuda, hold: Hold) -> None:
    with suppress(Error):  # a destructor can tell nobody
        _detach(cuda, hold)


def _detach(cuda: FakeCuda, hold: Hold) -> None:
    if not hold.valid:
        more = "cannot detach from invalid context"
        raise failure("context::detach", codes.INVALID_CONTEXT, more)
    is_current = cuda.contexts.current() is hold
    if is_current or hold.thread == threading.get_ident():
        if not is_current:  # pycuda believes that the release takes it off again
            cuda.contexts.stacks().cuda.append(hold.primary)
        call(cuda, "cuDevicePrimaryCtxRelease", cuda.release, hold.primary)
    hold.valid = False
    if is_current:
        below = cuda.contexts.current(unless=hold)
        if below is not None:
            cuda.contexts.stacks().cuda.append(below.primary)


class Device:
    """One GPU."""

    _cuda: ClassVar[FakeCuda]
    _context: ClassVar[type[Context]]

    def __init__(self, ordinal: int) -> None:
        call(self._cuda, "cuDeviceGet", self._cuda.require_device, ordinal)
        self._ordinal = ordinal

    @classmethod
    def count(cls) -> int:
        """Return the number of devices."""
        return call(cls._cuda, "cuDeviceGetCount", cls._cuda.device_count)

    def name(self) -> str:
        """Return the name."""
        return self._cuda.spec.device_name

    def compute_capability(self) -> tuple[int, int]:
        """Return major and minor."""
        return self._cuda.spec.compute_capability

    def total_memory(self) -> int:
        """Return the size of its memory in bytes."""
        return self._cuda.memory.limit_bytes

    def get_attribute(self, attribute: int) -> int:
        """Return one of `device_attribute`."""
        return call(self._cuda, "cuDeviceGetAttribute", self._cuda.attribute, int(attribute), self._ordinal)

    def retain_primary_context(self) -> Context:
        """Return a new reference to the primary context; it is not current."""
        hold = call(self._cuda, "cuDevicePrimaryCtxRetain", self._cuda.retain, self._ordinal)
        hold.on_drop = partial(_drop, self._cuda)
        return self._context(hold)


def _acquire(cuda: FakeCuda) -> Hold:
    """Return the context object that something new belongs to."""
    hold = cuda.contexts.current()
    if hold is None:
        more = "no currently active context?"
        raise failure("explicit_context_dependent", codes.INVALID_CONTEXT, more)
    return hold


@contextmanager
def _active(cuda: FakeCuda, hold: Hold, what: str) -> Iterator[bool]:
    """Make a context object current for a while; yields False where pycuda leaks instead."""
    if not hold.valid:  # it believes that all went with the context
        yield False
    elif cuda.contexts.current() is hold:
        yield True
    elif hold.thread == threading.get_ident():
        cuda.contexts.push(hold)
        try:
            yield True
        finally:
            cuda.contexts.pop()
    else:
        text = f"{what} in out-of-thread context could not be cleaned up"
        cuda.record.violation(text)
        warnings.warn(text, UserWarning, stacklevel=4)
        yield False


class _Owned:
    """An allocation and the context object that it belongs to; freed with its last reference, or before."""

    _cuda: ClassVar[FakeCuda]
    _what: ClassVar[str]
    _free_routine: ClassVar[str]

    def __init__(self, allocation: Allocation) -> None:
        self._allocation = allocation
        self._hold: Hold | None = None
        self._hold = _acquire(self._cuda)

    def free(self) -> None:
        """Free it now."""
        if self._hold is None:
            raise failure(f"{self._what}::free", codes.INVALID_HANDLE)
        if self._hold.valid and self._cuda.contexts.current() is None:
            label = self._allocation.resource.label
            self._cuda.record.violation(f"{label} was freed where no context is current")
        self._give_back()

    def _give_back(self) -> None:
        hold, self._hold = self._hold, None
        assert hold is not None  # noqa: S101 - the callers looked
        with _active(self._cuda, hold, self._what) as can_free:
            if can_free:
                call(self._cuda, self._free_routine, self._cuda.free, self._allocation)

    def __del__(self) -> None:
        if self._hold is not None:
            with suppress(Error, UserWarning):  # a destructor can tell nobody
                self._give_back()


class DeviceAllocation(_Owned):
    """Memory of the device."""

    _what = "device_allocation"
    _free_routine = "cuMemFree"

    def __int__(self) -> int:
        return self._allocation.address

    def __index__(self) -> int:
        return self._allocation.address


class PagelockedHostAllocation(_Owned):
    """Page-locked memory of the host, under the array that `pagelocked_empty` returns."""

    _what = "pagelocked_host_allocation"
    _free_routine = "cuMemFreeHost"

    def get_device_pointer(self) -> int:
        """Return the address for the device; only mapped memory has one."""

        def find() -> int:
            self._cuda.require_context()
            self._cuda.device_memory(self._allocation.address, self._allocation.size)
            return self._allocation.address

        return call(self._cuda, "cuMemHostGetDevicePointer", find)


class Stream:
    """A queue of work for the device."""

    _cuda: ClassVar[FakeCuda]

    def __init__(self, flags: int = 0) -> None:
        self._hold: Hold | None = None
        hold = _acquire(self._cuda)
        self._stream = call(
            self._cuda, "cuStreamCreate", self._cuda.streams.create, hold.primary.ordinal, flags
        )
        self._hold = hold

    @property
    def handle(self) -> int:
        """The driver's address of the stream."""
        return self._stream.handle

    def synchronize(self) -> None:
        """Wait for all its work."""

        def wait() -> None:
            self._cuda.streams.synchronise(self._cuda.stream(self.handle))

        call(self._cuda, "cuStreamSynchronize", wait)

    def is_done(self) -> bool:
        """Return whether it has no work left."""
        return not call(self._cuda, "cuStreamQuery", self._cuda.stream, self.handle).queue

    def __del__(self) -> None:
        hold, self._hold = self._hold, None
        if hold is not None:
            with suppress(Error, UserWarning), _active(self._cuda, hold, "stream") as can_destroy:
                if can_destroy:
                    call(self._cuda, "cuStreamDestroy", self._cuda.streams.destroy, self._stream)
