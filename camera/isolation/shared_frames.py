"""Pictures in memory that two processes share, a ring of slots made in advance.

The memory is an anonymous file (`memfd_create(2)`) that is passed by descriptor: it has no name, and is gone
with the last process that holds it, however that ends. Its size is sealed, so that a writer that went mad
cannot take the pages away under the reader's feet.
"""

from __future__ import annotations

import fcntl
import mmap
import os

import numpy as np
from numpy.typing import NDArray

from camera.errors import CameraError

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class FrameRing:
    """Slots for pictures of up to a given size; writer and reader have one each, over the same memory.

    The memory is unmapped when ring and arrays of it are gone, not before: a picture that is still held when
    the ring is replaced stays what it was.

    Args:
        descriptor: Of the shared memory. It stays the caller's.
        slots: How many there are.
        slot_bytes: Size of each.

    Attributes:
        slots: As given.
        slot_bytes: As given.
    """

    def __init__(self, descriptor: int, slots: int, slot_bytes: int) -> None:
        self.slots = slots
        self.slot_bytes = slot_bytes
        memory = mmap.mmap(descriptor, slots * slot_bytes, mmap.MAP_SHARED)
        self._bytes = np.frombuffer(memory, np.uint8)

    def picture(self, slot: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return the (height, width, 3) picture in a slot: a view.

        Raises:
            IndexError: There is no such slot, or it is too small.
        """
        count = height * width * 3
        if slot not in range(self.slots) or min(height, width) < 1 or count > self.slot_bytes:
            raise IndexError(f"no picture of {width}x{height} in slot {slot}")
        start = slot * self.slot_bytes
        return self._bytes[start : start + count].reshape(height, width, 3)


def create_memory(slots: int, slot_bytes: int) -> int:
    """Return the descriptor of new shared memory, all of it allocated; the caller closes it.

    Raises:
        OSError: There is not enough memory.
    """
    descriptor = os.memfd_create("camera frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        # A page that cannot be had is an error here; on first use it would be a signal.
        os.posix_fallocate(descriptor, 0, slots * slot_bytes)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_memory(descriptor: int, slots: int, slot_bytes: int) -> None:
    """Check that shared memory is as large as was said, and stays so.

    Raises:
        CameraError: It is not.
    """
    is_sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    if not is_sealed or slots < 1 or slot_bytes < 1 or os.fstat(descriptor).st_size < slots * slot_bytes:
        raise CameraError("The camera's process sent memory that does not fit its frames.")
