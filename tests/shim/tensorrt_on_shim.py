"""A fake TensorRT whose device is the stand-in for the driver: plans run in ONNX Runtime, on its streams.

Its classes are those of `engines.fake_jetson`. What they ask of a device is answered by the stand-in: memory
is allocated there, work is queued there, and addresses are the device's.
"""

from __future__ import annotations

import ctypes
import sys
import types
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from typing import Any

from engines.fake_jetson import codes
from engines.fake_jetson.codes import CudaError, FakeCrash
from engines.fake_jetson.memory import Resource
from engines.fake_jetson.record import Record
from engines.fake_jetson.spec import FakeJetson
from engines.fake_jetson.streams import Operation
from engines.fake_jetson.tensorrt import make_tensorrt
from tests.shim import hooks

# shim.h
DEVICE_SPACE = 1 << 56
# The stand-in never gives freed memory back to the system: so much stands for weights of any size.
LARGEST_BYTES = 1 << 16


def check(code: int) -> None:
    """Raise what the driver answered, unless it is success."""
    if code != codes.SUCCESS:
        raise CudaError(code)


@dataclass
class Capture:
    """A capture that has begun on a stream."""

    library: ctypes.CDLL
    stream: int

    @property
    def spoiled(self) -> bool:
        """Whether something was done that must not be captured."""
        return status_of(self.library, self.stream) == 2

    @spoiled.setter
    def spoiled(self, _: bool) -> None:
        self.library.cuStreamQuery(ctypes.c_void_p(self.stream))


@dataclass(frozen=True)
class Stream:
    """A stream of the stand-in; `capture` is None unless it is being captured."""

    handle: int
    capture: Capture | None


def status_of(library: ctypes.CDLL, stream: int) -> int:
    """Return the CUstreamCaptureStatus of a stream."""
    status = ctypes.c_int()
    check(library.cuStreamIsCapturing(ctypes.c_void_p(stream), ctypes.byref(status)))
    return status.value


@dataclass
class Streams:
    """The stand-in's streams, as the fake TensorRT uses them."""

    library: ctypes.CDLL
    record: Record
    # The stand-in keeps addresses: captured work is done again and again.
    kept: list[object] = field(default_factory=list)

    def find(self, handle: int, owner: int) -> Stream:
        """Return a stream of the context that is current."""
        is_captured = status_of(self.library, handle) != 0
        return Stream(handle, Capture(self.library, handle) if is_captured else None)

    def enqueue(self, stream: Stream, operation: Operation) -> None:
        """Queue work on a stream, or have it captured."""
        uses = operation.uses

        def run(*_: object) -> None:
            if stream.capture is None:
                add_pending(uses, -1)
            stale = [used.label for used in uses if used.released]
            if stale:
                self.record.violation(f"queued work used {stale[0]} after it was freed")
            else:
                operation.run()

        function = hooks.HOST_FUNCTION(run)
        self.kept.append(function)
        address = ctypes.cast(function, ctypes.c_void_p)
        check(self.library.cuLaunchHostFunc(stream.handle, address, None))
        if stream.capture is None:
            add_pending(uses, 1)


def add_pending(uses: tuple[Resource, ...], number: int) -> None:
    """Note that queued work uses something, or no longer."""
    for used in uses:
        used.pending += number


@dataclass
class Place:
    """A range of the stand-in's memory, at an address of the device."""

    library: ctypes.CDLL
    address: int
    size: int
    pending: int = 0

    @property
    def label(self) -> str:
        """It, in words."""
        return f"{self.size} bytes at {self.address:#x}"

    @property
    def released(self) -> bool:
        """Whether it is not, or no longer, the device's; the stand-in counts that as a fault."""
        return self.library.shim_host_address(self.address, self.size) is None


@dataclass
class Memory:
    """Memory of the device that TensorRT itself takes, for weights and for what lies between layers."""

    library: ctypes.CDLL
    record: Record
    taken: dict[int, list[int]] = field(default_factory=dict)

    def reserve(self, size: int) -> None:
        """Allocate; a negative size gives back a block of that size."""
        address = ctypes.c_uint64()
        if size > 0:
            taken = ctypes.c_size_t(min(size, LARGEST_BYTES))
            check(self.library.cuMemAlloc_v2(ctypes.byref(address), taken))
            self.taken.setdefault(size, []).append(address.value)
        elif self.library.cuMemFree_v2(ctypes.c_uint64(self.taken[-size].pop())) != codes.SUCCESS:
            self.record.violation("an engine or its execution context was destroyed with no context current")


class ShimDevice:
    """What the fake TensorRT asks of a device (`FakeCuda` in the fakes), answered by the stand-in.

    Args:
        library: The stand-in.
        spec: TensorRT's version and faults; its device and memory are the stand-in's.

    Attributes:
        record: Calls of TensorRT, and what must never happen.
        engines: TensorRT's engines and execution contexts that are alive.
        module: The fake `tensorrt`.
    """

    def __init__(self, library: ctypes.CDLL, spec: FakeJetson) -> None:
        self.library = library
        self.spec = spec
        self.record = Record()
        self.memory = Memory(library, self.record)
        self.streams = Streams(library, self.record)
        self.engines: weakref.WeakSet[object] = weakref.WeakSet()
        self.spent: set[str] = set()
        self.module = make_module(self)
        self._holds_context = False

    def enter_runtime(self, what: str) -> None:
        """Play the CUDA runtime inside TensorRT, which retains the primary context for good."""
        if self.library.cuDeviceGetCount(ctypes.byref(ctypes.c_int())) != codes.SUCCESS:
            raise FakeCrash(f"{what} was created before cuInit; TensorRT crashes")
        if not self._holds_context:
            check(self.library.cuDevicePrimaryCtxRetain(ctypes.byref(ctypes.c_void_p()), 0))
            self._holds_context = True

    def device_memory(self, address: int, size: int) -> Place:
        """Return the memory behind an address as `tensor_at` has it."""
        place = Place(self.library, address + DEVICE_SPACE, size)
        if place.released:
            raise CudaError(codes.INVALID_VALUE)
        return place

    def left(self) -> dict[str, int]:
        """Return what is there that should not be once all engines are closed; all of it counts to 0."""
        numbers = {
            what: hooks.count(self.library, what) for what in ("blocks", "streams", "graphs", "faults")
        }
        held = hooks.count(self.library, "context references") - self._holds_context
        current = ctypes.c_void_p()
        check(self.library.cuCtxGetCurrent(ctypes.byref(current)))
        return {
            **numbers,
            "context references": held,
            "current contexts": int(current.value is not None),
            "engines": len(self.engines),
            "violations": len(self.record.violations),
        }

    def let_go(self) -> None:
        """Give the primary context back, which the CUDA runtime never does before the process ends."""
        if self._holds_context:
            check(self.library.cuDevicePrimaryCtxRelease_v2(0))
            self._holds_context = False
        self.streams.kept.clear()  # with it go the plans


def make_module(device: Any) -> types.ModuleType:  # noqa: ANN401 - quacks like FakeCuda
    """Return the fake `tensorrt`; engines get addresses of the device, and work with the host's."""
    module = make_tensorrt(device)
    base = module.IExecutionContext

    def set_tensor_address(context: Any, name: str, memory: int) -> bool:  # noqa: ANN401 - the fake's
        return bool(base.set_tensor_address(context, name, int(memory) - DEVICE_SPACE))

    members = {"__slots__": (), "__module__": "tensorrt", "set_tensor_address": set_tensor_address}
    module.IExecutionContext = type("IExecutionContext", (base,), members)
    module.__spec__ = ModuleSpec("tensorrt", None, origin="fake")
    return module


def install(library: ctypes.CDLL, spec: FakeJetson | None = None) -> ShimDevice:
    """Put the fake `tensorrt` where `import` finds it, until the process ends."""
    device = ShimDevice(library, spec or FakeJetson())
    sys.modules["tensorrt"] = device.module
    return device


@contextmanager
def fake_tensorrt(library: ctypes.CDLL, spec: FakeJetson | None = None) -> Iterator[ShimDevice]:
    """Put the fake `tensorrt` where `import` finds it, for the length of a `with` block.

    At its end the context is given back, and the stand-in counts a fault if anything is left in it.
    """
    device = install(library, spec)
    try:
        yield device
    finally:
        del sys.modules["tensorrt"]
        device.let_go()
