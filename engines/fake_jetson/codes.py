"""Results of the CUDA driver API that the fakes use, with the driver's own words for them."""

from __future__ import annotations

SUCCESS = 0
INVALID_VALUE = 1
OUT_OF_MEMORY = 2
NOT_INITIALIZED = 3
NO_DEVICE = 100
INVALID_DEVICE = 101
INVALID_CONTEXT = 201
INVALID_HANDLE = 400
NOT_READY = 600
ILLEGAL_ADDRESS = 700
CAPTURE_UNSUPPORTED = 900
CAPTURE_INVALIDATED = 901
CAPTURE_WRONG_THREAD = 908

TEXTS = {
    SUCCESS: "no error",
    INVALID_VALUE: "invalid argument",
    OUT_OF_MEMORY: "out of memory",
    NOT_INITIALIZED: "initialization error",
    NO_DEVICE: "no CUDA-capable device is detected",
    INVALID_DEVICE: "invalid device ordinal",
    INVALID_CONTEXT: "invalid device context",
    INVALID_HANDLE: "invalid resource handle",
    NOT_READY: "device not ready",
    ILLEGAL_ADDRESS: "an illegal memory access was encountered",
    CAPTURE_UNSUPPORTED: "operation not permitted when stream is capturing",
    CAPTURE_INVALIDATED: "operation failed due to a previous error during capture",
    CAPTURE_WRONG_THREAD: "attempt to terminate a thread-local capture sequence from another thread",
}


class CudaError(Exception):
    """What a driver call that fails raises in here.

    The fake `pycuda.driver` turns it into pycuda's exceptions, the fake libcuda into a result code; neither
    lets it out.
    """

    def __init__(self, code: int) -> None:
        super().__init__(TEXTS[code])
        self.code = code


class FakeCrash(BaseException):
    """What the real library answers by crashing the process. Not an `Exception`: nothing may swallow it."""
