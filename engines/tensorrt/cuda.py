"""The device's primary context, page-locked buffers and streams, by pycuda.

`pycuda.autoinit` would make a context of its own beside the primary one that TensorRT uses: here the primary
context is retained, made current around every use, in whichever thread, and never left current.
"""

from __future__ import annotations

import ctypes
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from engines.base import TensorSpec
from engines.errors import BackendUnavailableError, DeviceMemoryError, EngineError
from engines.tensorrt import driver
from engines.tensorrt.driver import DriverError

# From here on an integrated GPU keeps its caches coherent with the CPU's: mapped memory costs nothing
# (CUDA for Tegra application note, section "I/O Coherency").
_COHERENT = (7, 2)
# CU_STREAM_NON_BLOCKING of cuda.h; pycuda has no name for it.
_NON_BLOCKING = 1

_log = logging.getLogger(__name__)


def import_pycuda() -> Any:  # noqa: ANN401 - the vendor module has no types
    """Import `pycuda.driver` and initialise the driver; no context is made.

    Raises:
        BackendUnavailableError: It is not installed, there is no driver, or no device.
    """
    try:
        import pycuda.driver
    except ImportError as error:
        raise BackendUnavailableError(f"pycuda cannot be imported ({error}): edge-mnv2 doctor") from error
    try:
        pycuda.driver.init()
    except pycuda.driver.Error as error:
        raise BackendUnavailableError(f"The NVIDIA driver has no device ({error}).") from error
    return pycuda.driver


@dataclass(frozen=True, slots=True)
class Buffer:
    """One tensor's memory: page-locked, and either mapped into the device or with a twin there.

    Attributes:
        spec: Of the tensor.
        host: View of the page-locked memory, which is freed with its last view. That must happen while the
            context is current: anywhere else pycuda does not free it.
        address: Of the device's side.
        twin: The device's own memory, freed in the same way; None where it is mapped.
    """

    spec: TensorSpec
    host: NDArray[Any]
    address: int
    twin: Any


class PrimaryContext:
    """The primary context of the first device, retained until `close`.

    Several may be held at once; the driver counts them.

    Raises:
        BackendUnavailableError: See `import_pycuda`.
        EngineError: The driver refuses.
    """

    def __init__(self) -> None:
        self._driver = import_pycuda()
        with _in_our_words(self._driver):
            self._device: Any = self._driver.Device(0)
            self._context: Any = self._device.retain_primary_context()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context current in this thread for the length of a `with` block.

        Raises:
            DeviceMemoryError: The device has too little memory for what is done inside.
            EngineError: The driver refuses something else.
        """
        with _in_our_words(self._driver):
            self._context.push()
            try:
                yield
            except BaseException as error:
                # Whoever keeps the error must not keep the buffers in its frames: here they can be freed.
                traceback.clear_frames(error.__traceback__)
                raise
            finally:
                self._driver.Context.pop()

    def prefers_mapped(self) -> bool:
        """Return whether the GPU reads and writes the CPU's memory as fast as its own: it is the same."""
        attribute = self._driver.device_attribute
        return (
            bool(self._device.get_attribute(attribute.INTEGRATED))
            and bool(self._device.get_attribute(attribute.CAN_MAP_HOST_MEMORY))
            and tuple(self._device.compute_capability()) >= _COHERENT
        )

    def free_bytes(self) -> int:
        """Return how much of the device's memory is free; the context must be current."""
        return int(self._driver.mem_get_info()[0])

    def make_stream(self) -> Any:  # noqa: ANN401 - pycuda.driver.Stream
        """Return a stream that is not the default one; the context must be current.

        It does not wait for the default one either: what another library does there, while this one is
        captured, would break the capture.
        """
        return self._driver.Stream(_NON_BLOCKING)

    def allocate(self, spec: TensorSpec, *, mapped: bool) -> Buffer:
        """Allocate a tensor, zeroed, so that a first run is defined; the context must be current.

        Args:
            spec: Of the tensor.
            mapped: Whether the device sees the page-locked memory itself, or has a twin of it.

        Raises:
            pycuda.driver.Error: There is too little memory; `current` turns it into ours.
        """
        flags = self._driver.host_alloc_flags.DEVICEMAP if mapped else 0
        host = self._driver.pagelocked_empty(spec.shape, spec.dtype, mem_flags=flags)
        host.fill(0)
        if mapped:
            return Buffer(spec, host, int(host.base.get_device_pointer()), None)
        twin = self._driver.mem_alloc(host.nbytes)
        return Buffer(spec, host, int(twin), twin)

    def upload(self, buffer: Buffer, stream: Any) -> None:  # noqa: ANN401 - pycuda has no types
        """Enqueue the copy of a tensor to the device, where there is one to make."""
        if buffer.twin is not None:
            self._driver.memcpy_htod_async(buffer.twin, buffer.host, stream)

    def download(self, buffer: Buffer, stream: Any) -> None:  # noqa: ANN401 - pycuda has no types
        """Enqueue the copy of a tensor from the device, where there is one to make."""
        if buffer.twin is not None:
            self._driver.memcpy_dtoh_async(buffer.host, buffer.twin, stream)

    def close(self) -> None:
        """Release the context; in no thread may it be current. Calling it again does nothing.

        Whatever was made in it must be freed before: pycuda frees nothing of a context that is gone.
        """
        if self._context is None:
            return
        context, self._context = self._context, None
        with _in_our_words(self._driver):
            # pycuda gives the reference back only where the context is current, and leaves it on CUDA's own
            # stack then: it is taken off by hand.
            context.push()
            context.detach()
        try:
            driver.call(driver.open_driver(), "cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
        except DriverError as error:  # the reference is given back: nobody misses anything
            _log.debug("the context that was given back stays on CUDA's stack: %s", error)


def too_little_memory(reason: str) -> DeviceMemoryError:
    """Return the error for memory that ran out, for a reason in the vendor's words."""
    return DeviceMemoryError(
        f"The GPU has too little free memory ({reason}): stop other programs, or run a smaller model."
    )


@contextmanager
def _in_our_words(driver: Any) -> Iterator[None]:  # noqa: ANN401 - pycuda has no types
    try:
        yield
    except driver.MemoryError as error:
        raise too_little_memory(str(error)) from error
    except driver.Error as error:
        raise EngineError(f"CUDA failed: {error}. If it stays so, restart the device.") from error
