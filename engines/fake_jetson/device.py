"""A fake device: what the CUDA driver knows of it. The fake pycuda and the fake libcuda are its faces."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections import Counter
from typing import Any

from numpy.typing import NDArray

from engines.fake_jetson.codes import (
    INVALID_DEVICE,
    INVALID_VALUE,
    NO_DEVICE,
    NOT_INITIALIZED,
    CudaError,
    FakeCrash,
)
from engines.fake_jetson.contexts import Contexts, Hold, Primary
from engines.fake_jetson.memory import Allocation, Memory, Resource
from engines.fake_jetson.record import Record
from engines.fake_jetson.spec import FakeJetson
from engines.fake_jetson.streams import Operation, Stream, Streams

ATTRIBUTES = {
    "MULTIPROCESSOR_COUNT": 16,
    "INTEGRATED": 18,
    "CAN_MAP_HOST_MEMORY": 19,
    "UNIFIED_ADDRESSING": 41,
    "COMPUTE_CAPABILITY_MAJOR": 75,
    "COMPUTE_CAPABILITY_MINOR": 76,
}
"""CUdevice_attribute."""


class FakeCuda:
    """The state of a fake device, and what a test looks at.

    Args:
        spec: The device.

    Attributes:
        spec: The device.
        record: Calls and violations.
        memory: Allocations.
        contexts: Contexts, by thread.
        streams: Streams and graphs.
        engines: TensorRT's engines and execution contexts that are alive.
        spent: Faults that strike once, and did.
    """

    def __init__(self, spec: FakeJetson) -> None:
        self.spec = spec
        self.record = Record()
        self.memory = Memory(spec.memory_bytes, shared=spec.integrated)
        self.contexts = Contexts(self.record, spec.device_count)
        self.streams = Streams(self.record)
        self.engines: weakref.WeakSet[object] = weakref.WeakSet()
        self.spent: set[str] = set()
        self._process: int | None = None
        self._lock = threading.Lock()

    @property
    def calls(self) -> Counter[str]:
        """Number of calls by name: the driver's, and TensorRT's own such as `execute_async_v3`."""
        return self.record.calls

    @property
    def violations(self) -> list[str]:
        """What must never happen, and did."""
        return self.record.violations

    @property
    def live_allocations(self) -> int:
        """Number of allocations, device and page-locked."""
        return len(self.memory.live())

    @property
    def allocated_bytes(self) -> int:
        """Bytes of all allocations, device and page-locked."""
        return sum(found.size for found in self.memory.live())

    @property
    def live_streams(self) -> int:
        """Number of streams that were created and not destroyed."""
        return len(self.streams.streams) - 1

    @property
    def live_graphs(self) -> int:
        """Number of graphs and executable graphs."""
        return len(self.streams.graphs) + len(self.streams.executables)

    @property
    def launches(self) -> int:
        """How often a plan was queued or captured, apart from launches of a graph."""
        return self.calls["execute_async_v3"]

    @property
    def graph_launches(self) -> int:
        """How often a graph was launched."""
        return self.calls["cuGraphLaunch"]

    @property
    def synchronises(self) -> int:
        """How often a stream or a context was waited for."""
        return self.calls["cuStreamSynchronize"] + self.calls["cuCtxSynchronize"]

    @property
    def retained_contexts(self) -> int:
        """How often primary contexts were retained and not released."""
        return sum(primary.retained for primary in self.contexts.primaries)

    @property
    def pushed_contexts(self) -> dict[str, int]:
        """How many contexts each thread has pushed, by its name; threads without any are left out."""
        return self.contexts.pushed()

    def leaks(self) -> list[str]:
        """Return what is still held, in words; empty after everything was closed."""
        held = {
            "streams": self.live_streams,
            "graphs": self.live_graphs,
            "engines and execution contexts": len(self.engines),
            "retained contexts": self.retained_contexts,
            **{f"contexts pushed in {name}": number for name, number in self.pushed_contexts.items()},
        }
        return [found.resource.label for found in self.memory.live()] + [
            f"{number} {what}" for what, number in held.items() if number
        ]

    def initialise(self) -> None:
        """Play cuInit."""
        if "no_device" in self.spec.faults or not self.spec.device_count:
            raise CudaError(NO_DEVICE)
        if self._process not in {None, os.getpid()}:  # forked after cuInit
            raise CudaError(NOT_INITIALIZED)
        self._process = os.getpid()

    def require_initialised(self) -> None:
        """Refuse calls before cuInit, and in a process that was forked after it."""
        if self._process is None or self._process != os.getpid():
            raise CudaError(NOT_INITIALIZED)

    def enter_runtime(self, what: str) -> None:
        """Play a library on top of the CUDA runtime: it retains the primary context for good.

        It does not check whether there is a device.

        Raises:
            FakeCrash: cuInit was not called, or failed.
        """
        try:
            self.require_initialised()
        except CudaError:
            text = f"{what} was created before cuInit; TensorRT crashes"
            self.record.violation(text)
            raise FakeCrash(text) from None
        self.contexts.primaries[0].runtime_holds = True

    def require_device(self, ordinal: int) -> None:
        """Refuse a device that does not exist."""
        self.require_initialised()
        if not 0 <= ordinal < self.spec.device_count:
            raise CudaError(INVALID_DEVICE)

    def require_context(self) -> Primary:
        """Return what is current for CUDA in this thread."""
        self.require_initialised()
        return self.contexts.require()

    def device_count(self) -> int:
        """Play cuDeviceGetCount."""
        self.require_initialised()
        return self.spec.device_count

    def attribute(self, code: int, ordinal: int) -> int:
        """Play cuDeviceGetAttribute."""
        self.require_device(ordinal)
        major, minor = self.spec.compute_capability
        values = (self.spec.sm_count, int(self.spec.integrated), 1, 1, major, minor)
        known = dict(zip(ATTRIBUTES.values(), values, strict=True))
        if code not in known:
            raise CudaError(INVALID_VALUE)
        return known[code]

    def retain(self, ordinal: int) -> Hold:
        """Play cuDevicePrimaryCtxRetain."""
        self.require_device(ordinal)
        primary = self.contexts.primaries[ordinal]
        with self._lock:
            primary.retained += 1
        return Hold(primary)

    def release(self, primary: Primary) -> None:
        """Play cuDevicePrimaryCtxRelease: with the last reference go the context's memory and streams."""
        with self._lock:
            primary.retained -= 1
        if primary.alive:
            return
        for stream in [one for one in self.streams.streams.values() if one.owner == primary.ordinal]:
            if stream.queue:
                self.record.violation(f"the context was released while stream {stream.handle:#x} had work")
                stream.queue.clear()
            if stream.handle:
                del self.streams.streams[stream.handle]
        for allocation in self.memory.live():
            if allocation.owner == primary.ordinal:
                self.memory.release(allocation)

    def memory_info(self) -> tuple[int, int]:
        """Play cuMemGetInfo: free and total bytes."""
        self.require_context()
        return max(0, self.memory.limit_bytes - self.memory.used_bytes()), self.memory.limit_bytes

    def allocate(self, size: int, *, on_device: bool, mapped: bool = False) -> Allocation:
        """Play cuMemAlloc or cuMemHostAlloc."""
        owner = self.require_context().ordinal
        self.streams.check_capture()
        return self.memory.allocate(size, on_device=on_device, mapped=mapped, owner=owner)

    def free(self, allocation: Allocation) -> None:
        """Play cuMemFree or cuMemFreeHost."""
        self.require_context()
        self.streams.check_capture()
        if allocation.resource.pending:
            self.record.violation(f"{allocation.resource.label} was freed while queued work used it")
        self.memory.release(allocation)

    def stream(self, handle: int) -> Stream:
        """Return a stream of the current context by its handle."""
        return self.streams.find(handle, self.require_context().ordinal)

    def device_memory(self, address: int, size: int) -> Resource:
        """Return the memory behind an address that the device is to use.

        Raises:
            CudaError: The device cannot reach the whole range.
        """
        found = self.memory.find(address, size)
        if found is None or not found.reachable:
            raise CudaError(INVALID_VALUE)
        return found.resource

    def copy(self, device: int, host: NDArray[Any], stream: Stream, *, upload: bool) -> None:
        """Play cuMemcpyHtoDAsync or cuMemcpyDtoHAsync.

        Args:
            device: Address on the device's side.
            host: The host's side; unlike CUDA, keeps it alive if it is not page-locked.
            stream: Where it is queued.
            upload: Whether it goes to the device.
        """
        address: int = host.__array_interface__["data"][0]
        size = host.nbytes
        uses = [self.device_memory(device, size)]
        locked = self.memory.find(address, size)
        if locked is not None:
            uses.append(locked.resource)
        elif self.memory.was_freed(address):
            self.record.violation(f"page-locked memory at {address:#x} was copied after it was freed")
            raise CudaError(INVALID_VALUE)
        else:
            self.record.count("pageable copy")
        keep = host if locked is None else None
        destination, source = (device, address) if upload else (address, device)

        def run(keep: object = keep) -> None:  # noqa: ARG001 - held, not used
            ctypes.memmove(destination, source, size)

        self.streams.enqueue(stream, Operation(run, tuple(uses)))
