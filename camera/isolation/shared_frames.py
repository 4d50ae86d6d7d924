"""Pictures in memory that two processes share, a ring of slots made in advance.

The memory is an anonymous file (`memfd_create(2)`) that is passed by descriptor: it has no name, and is gone
with the last process that holds it, however that ends. Its size is sealed, so that a writer that went mad
cannot take the pages away under the reader's feet.
"""

from __future__ import annotations

import errno
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

    Raises:
        CameraError: It cannot be mapped: no memory or no descriptors are left.
    """

    def __init__(self, descriptor: int, slots: int, slot_bytes: int) -> None:
        self.slots = slots
        self.slot_bytes = slot_bytes
        try:
            memory = mmap.mmap(descriptor, slots * slot_bytes, mmap.MAP_SHARED)
        except OSError as error:
            raise _no_memory_error(slots * slot_bytes, error) from error
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
        CameraError: No memory or no descriptors are left, or this system has no such memory.
    """
    try:
        descriptor = os.memfd_create("camera frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except AttributeError:  # a Python that was built for an older system
        raise _no_memory_error(slots * slot_bytes, OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))) from None
    except OSError as error:
        raise _no_memory_error(slots * slot_bytes, error) from error
    try:
        # A page that cannot be had is an error here; on first use it would be a signal.
        os.posix_fallocate(descriptor, 0, slots * slot_bytes)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        os.close(descriptor)
        raise _no_memory_error(slots * slot_bytes, error) from error
    return descriptor


def check_memory(descriptor: int, slots: int, slot_bytes: int) -> None:
    """Check that shared memory is as large as was said, and stays so.

    Raises:
        CameraError: It is not.
    """
    is_sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    if not is_sealed or slots < 1 or slot_bytes < 1 or os.fstat(descriptor).st_size < slots * slot_bytes:
        raise CameraError("The camera's process sent memory that does not fit its frames.")


def _no_memory_error(size_bytes: int, error: OSError) -> CameraError:
    what = f"There is no shared memory for the camera's frames ({size_bytes / 2**20:.0f} MiB)"
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return CameraError(f"{what}: too many files are open (see ulimit -n).")
    if error.errno == errno.ENOSYS:
        return CameraError(f"{what}: this system has no memfd_create. Give --isolation thread.")
    return CameraError(f"{what}: {error.strerror or error}.")
