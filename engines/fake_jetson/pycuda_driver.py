"""A fake `pycuda.driver`: the part of it that a runner needs, with pycuda's words."""

from __future__ import annotations

import gc
import types
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engines.fake_jetson import pycuda_errors
from engines.fake_jetson.device import ATTRIBUTES, FakeCuda
from engines.fake_jetson.pycuda_errors import call
from engines.fake_jetson.pycuda_objects import (
    Context,
    Device,
    DeviceAllocation,
    PagelockedHostAllocation,
    Stream,
)

VERSION = (2024, 1)
PORTABLE, DEVICEMAP, WRITECOMBINED = 1, 2, 4
EXCEPTIONS = ("Error", "MemoryError", "LogicError", "LaunchError", "RuntimeError")


def _host_array(array: Any, *, writable: bool) -> NDArray[Any]:  # noqa: ANN401 - anything with a buffer
    found = array if isinstance(array, np.ndarray) else np.frombuffer(array, np.uint8)
    if not found.flags.forc:
        raise ValueError("ndarray is not contiguous")
    if writable and not found.flags.writeable:
        raise ValueError("buffer source array is read-only")
    return found


def make_driver(cuda: FakeCuda) -> types.ModuleType:
    """Return a module that stands for `pycuda.driver`, for one fake device."""

    def bound(base: type, **members: object) -> Any:  # noqa: ANN401 - a class of the module
        return type(base.__name__, (base,), {"_cuda": cuda, "__module__": "pycuda._driver", **members})

    device_allocation = bound(DeviceAllocation)
    host_allocation = bound(PagelockedHostAllocation)

    def init(flags: int = 0) -> None:
        del flags
        call(cuda, "cuInit", cuda.initialise)

    def mem_alloc(bytes: int) -> DeviceAllocation:  # noqa: A002 - pycuda calls it so
        try:
            made = call(cuda, "cuMemAlloc", cuda.allocate, bytes, on_device=True)
        except pycuda_errors.MemoryError:
            gc.collect()  # pycuda tries once more after that
            made = call(cuda, "cuMemAlloc", cuda.allocate, bytes, on_device=True)
        found: DeviceAllocation = device_allocation(made)
        return found

    def pagelocked_empty(
        shape: int | Iterable[int], dtype: DTypeLike, order: str = "C", mem_flags: int = 0
    ) -> NDArray[Any]:
        sides = (shape,) if isinstance(shape, int) else tuple(shape)
        layout = np.empty(sides, dtype, order="F" if order == "F" else "C")
        mapped = bool(mem_flags & DEVICEMAP)
        made = call(cuda, "cuMemHostAlloc", cuda.allocate, layout.nbytes, on_device=False, mapped=mapped)
        owner = host_allocation(made)
        owner.__array_interface__ = {**layout.__array_interface__, "data": (made.address, False)}
        return np.asarray(owner)

    def copy(routine: str, device: Any, host: Any, stream: Any, *, upload: bool) -> None:  # noqa: ANN401
        array = _host_array(host, writable=not upload)
        handle = 0 if stream is None else stream.handle

        def queue() -> None:
            cuda.copy(int(device), array, cuda.stream(handle), upload=upload)

        call(cuda, routine, queue)

    def copy_now(routine: str, device: Any, host: Any, *, upload: bool) -> None:  # noqa: ANN401
        def queue_and_wait() -> None:
            cuda.streams.check_capture()
            stream = cuda.stream(0)
            cuda.copy(int(device), _host_array(host, writable=not upload), stream, upload=upload)
            cuda.streams.synchronise(stream)

        call(cuda, routine, queue_and_wait)

    def memcpy_htod_async(dest: Any, src: Any, stream: Any = None) -> None:  # noqa: ANN401
        copy("cuMemcpyHtoDAsync", dest, src, stream, upload=True)

    def memcpy_dtoh_async(dest: Any, src: Any, stream: Any = None) -> None:  # noqa: ANN401
        copy("cuMemcpyDtoHAsync", src, dest, stream, upload=False)

    def memcpy_htod(dest: Any, src: Any) -> None:  # noqa: ANN401
        copy_now("cuMemcpyHtoD", dest, src, upload=True)

    def memcpy_dtoh(dest: Any, src: Any) -> None:  # noqa: ANN401
        copy_now("cuMemcpyDtoH", src, dest, upload=False)

    def mem_get_info() -> tuple[int, int]:
        return call(cuda, "cuMemGetInfo", cuda.memory_info)

    def get_driver_version() -> int:
        return cuda.spec.cuda_version

    context = bound(Context)
    module = types.ModuleType("pycuda.driver", "A fake.")
    functions = (init, mem_alloc, pagelocked_empty, mem_get_info, get_driver_version)
    copies = (memcpy_htod_async, memcpy_dtoh_async, memcpy_htod, memcpy_dtoh)
    members: dict[str, object] = {
        **{function.__name__: function for function in (*functions, *copies)},
        **{name: getattr(pycuda_errors, name) for name in EXCEPTIONS},
        "Context": context,
        "Device": bound(Device, _context=context),
        "DeviceAllocation": device_allocation,
        "PagelockedHostAllocation": host_allocation,
        "Stream": bound(Stream),
        "device_attribute": IntEnum("device_attribute", ATTRIBUTES),
        "host_alloc_flags": types.SimpleNamespace(
            PORTABLE=PORTABLE, DEVICEMAP=DEVICEMAP, WRITECOMBINED=WRITECOMBINED
        ),
    }
    vars(module).update(members)
    return module
