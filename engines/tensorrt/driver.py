"""The CUDA driver library itself, by ctypes: whether it is there, and what devices it has.

Nothing here makes a context. TensorRT crashes in some versions where the driver has no device, and pycuda
does not even import without a driver: this looks before they are touched.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from engines.errors import EngineError

LIBRARY = "libcuda.so.1"

# CUdevice_attribute of cuda.h.
_SM_COUNT, _MAJOR, _MINOR = 16, 75, 76
_NAME_BYTES = 256


class DriverError(EngineError):
    """The driver is missing, or refuses to work; the message says what it answered."""


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """What the driver says about a device.

    Attributes:
        name: As the vendor calls it.
        compute_capability: (major, minor).
        sm_count: Number of streaming multiprocessors.
        driver_version: CUDA version that the driver offers, such as `12.6`.
    """

    name: str
    compute_capability: tuple[int, int]
    sm_count: int
    driver_version: str


def open_driver() -> ctypes.CDLL:
    """Load the driver library.

    Raises:
        DriverError: It is not there, or does not load.
    """
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise DriverError(str(error)) from error


def first_device(library: ctypes.CDLL) -> CudaDevice:
    """Return the first device; the library stays initialised, no context is made.

    Raises:
        DriverError: There is none, or the driver refuses to work.
    """
    call(library, "cuInit", 0)
    count = ctypes.c_int()
    call(library, "cuDeviceGetCount", ctypes.byref(count))
    if count.value == 0:
        raise DriverError("the driver has no CUDA device")
    device, version = ctypes.c_int(), ctypes.c_int()
    call(library, "cuDeviceGet", ctypes.byref(device), 0)
    name = ctypes.create_string_buffer(_NAME_BYTES)
    call(library, "cuDeviceGetName", name, _NAME_BYTES, device)
    call(library, "cuDriverGetVersion", ctypes.byref(version))

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        call(library, "cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value

    return CudaDevice(
        name.value.decode(errors="replace"),
        (attribute(_MAJOR), attribute(_MINOR)),
        attribute(_SM_COUNT),
        f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


def call(library: ctypes.CDLL, function: str, *arguments: object) -> None:
    """Call a function of the driver.

    Raises:
        DriverError: It answered with an error; the message names both.
    """
    try:
        called = getattr(library, function)
    except AttributeError as error:
        raise DriverError(f"the driver is too old: it has no {function}") from error
    code = called(*arguments)
    if code != 0:
        raise DriverError(f"{function} failed: {_in_words(library, code)}")


def _in_words(library: ctypes.CDLL, code: int) -> str:
    text = ctypes.c_char_p()
    if library.cuGetErrorString(code, ctypes.byref(text)) != 0 or text.value is None:
        return f"error {code}"
    return f"{text.value.decode(errors='replace')} ({code})"
