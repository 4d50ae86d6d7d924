"""What tests ask of the stand-in for libcuda beside CUDA's own functions (hooks.c)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def load() -> ctypes.CDLL | None:
    """Return the stand-in, or None where libcuda is missing or a GPU's own driver."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    if not hasattr(library, "shim_count"):
        return None
    library.shim_count.restype = ctypes.c_long
    library.shim_take_fault.restype = ctypes.c_char_p
    library.shim_host_address.argtypes = [ctypes.c_uint64, ctypes.c_size_t]
    library.shim_host_address.restype = ctypes.c_void_p
    library.cuLaunchHostFunc.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    return library


def count(library: ctypes.CDLL, what: str) -> int:
    """Return how many `what` there are: faults, blocks, streams, graphs, ... (hooks.c has the list)."""
    number = int(library.shim_count(what.encode()))
    assert number >= 0, what
    return number


def take_fault(library: ctypes.CDLL) -> str:
    """Return the last fault in words, and forget all of them."""
    assert count(library, "faults") > 0
    return str(library.shim_take_fault().decode())


def device_bytes(library: ctypes.CDLL, address: int, size_bytes: int) -> ctypes.Array[ctypes.c_char]:
    """Return memory of the device for work on a stream to read and write."""
    found = library.shim_host_address(address, size_bytes)
    if found is None:
        message = f"{size_bytes} bytes at {address:#x} are not the device's"
        raise ValueError(message)
    return (ctypes.c_char * size_bytes).from_address(found)


def queue_function(library: ctypes.CDLL, stream: int, function: Callable[[], None]) -> object:
    """Queue `function` on a stream; keep what is returned for as long as it may run."""
    kept = HOST_FUNCTION(lambda _: function())
    assert library.cuLaunchHostFunc(stream, ctypes.cast(kept, ctypes.c_void_p), None) == 0
    return kept
