"""Memory of a fake device: real bytes of this process behind addresses that only the device may use."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.fake_jetson.codes import INVALID_VALUE, OUT_OF_MEMORY, CudaError

FRESH = 0xAB
"""Every byte of new memory: what is read before it was written is visibly wrong."""
STALE = 0xDD
"""Every byte of freed memory that somebody can still see."""
ALIGNMENT_BYTES = 4096


@dataclass(slots=True, eq=False)
class Resource:
    """Something that queued work uses: memory, or the state of an execution context.

    Attributes:
        label: For messages.
        pending: How many queued operations use it.
        released: Whether it was freed.
    """

    label: str
    pending: int = 0
    released: bool = False


@dataclass(eq=False)
class Allocation:
    """A range of memory.

    Attributes:
        resource: Its use by queued work.
        address: First byte, as the host and the device see it.
        size: Bytes.
        on_device: Whether the device owns it; else it is page-locked host memory.
        reachable: Whether the device may use the address: device memory, or mapped host memory.
        owner: Ordinal of the device whose context it lives in.
        storage: The bytes; freed with the last reference.
    """

    resource: Resource
    address: int
    size: int
    on_device: bool
    reachable: bool
    owner: int
    storage: NDArray[np.uint8]


class Memory:
    """All allocations of one fake device.

    Args:
        limit_bytes: What they may take together.
        shared: Whether host memory counts as well, as on an integrated GPU.
    """

    def __init__(self, limit_bytes: int, *, shared: bool) -> None:
        self.limit_bytes = limit_bytes
        self.reserved_bytes = 0
        self._shared = shared
        self._live: dict[int, Allocation] = {}
        self._freed: weakref.WeakValueDictionary[int, Allocation] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()

    def allocate(self, size: int, *, on_device: bool, mapped: bool, owner: int) -> Allocation:
        """Allocate `size` bytes full of `FRESH`.

        Raises:
            CudaError: The size is not positive, or the memory is full.
        """
        if size <= 0:
            raise CudaError(INVALID_VALUE)
        if (on_device or self._shared) and self.used_bytes() + size > self.limit_bytes:
            raise CudaError(OUT_OF_MEMORY)
        storage = np.full(size + ALIGNMENT_BYTES, FRESH, np.uint8)
        offset = -storage.ctypes.data % ALIGNMENT_BYTES
        storage = storage[offset : offset + size]
        kind = "device memory" if on_device else "page-locked memory"
        label = f"{size} bytes of {kind} at {storage.ctypes.data:#x}"
        made = Allocation(
            Resource(label), storage.ctypes.data, size, on_device, on_device or mapped, owner, storage
        )
        with self._lock:
            self._live[made.address] = made
        return made

    def release(self, allocation: Allocation) -> None:
        """Free an allocation: its bytes turn `STALE`."""
        with self._lock:
            del self._live[allocation.address]
            self._freed[allocation.address] = allocation
        allocation.resource.released = True
        allocation.storage.fill(STALE)

    def find(self, address: int, size: int) -> Allocation | None:
        """Return the live allocation that holds the whole range, or None."""
        with self._lock:
            exact = self._live.get(address)
            if exact is not None:
                return exact if size <= exact.size else None
            for found in self._live.values():
                if found.address <= address and address + size <= found.address + found.size:
                    return found
        return None

    def was_freed(self, address: int) -> bool:
        """Return whether an address lies in memory that was freed and that an array still shows."""
        with self._lock:
            return any(
                found.address <= address < found.address + found.size for found in list(self._freed.values())
            )

    def live(self) -> list[Allocation]:
        """Return what is allocated now."""
        with self._lock:
            return list(self._live.values())

    def used_bytes(self) -> int:
        """Return how much of the limit is taken."""
        taken = sum(found.size for found in self.live() if found.on_device or self._shared)
        return taken + self.reserved_bytes

    def reserve(self, size: int) -> None:
        """Take memory for something inside a library, such as an engine's weights; negative gives it back.

        Raises:
            CudaError: The memory is full.
        """
        if size > 0 and self.used_bytes() + size > self.limit_bytes:
            raise CudaError(OUT_OF_MEMORY)
        with self._lock:
            self.reserved_bytes += size
