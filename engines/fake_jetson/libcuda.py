"""A fake of the CUDA driver library as ctypes sees it: functions that take numbers and references.

They return results instead of raising, and stand in front of the same fake device as the fake pycuda.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from engines.fake_jetson import codes
from engines.fake_jetson.codes import CudaError
from engines.fake_jetson.device import FakeCuda


class Function:
    """A function of the library. Its `argtypes` and `restype` may be set, as with ctypes; they do nothing.

    Args:
        cuda: The fake device.
        name: As the library exports it.
        body: Takes what was passed; raises `CudaError` to return another result than success.
    """

    def __init__(self, cuda: FakeCuda, name: str, body: Callable[..., None]) -> None:
        self.argtypes: object = None
        self.restype: object = ctypes.c_int
        self.name = name
        self._cuda = cuda
        self._body = body

    def __call__(self, *arguments: object) -> int:
        """Call it; returns a CUresult."""
        self._cuda.record.count(self.name.removesuffix("_v2"))
        try:
            self._body(*arguments)
        except CudaError as fault:
            return fault.code
        return codes.SUCCESS


class FakeLibcuda:
    """Stands for `ctypes.CDLL("libcuda.so.1")`: functions are attributes, others raise `AttributeError`."""

    def __init__(self, cuda: FakeCuda) -> None:
        for name, body in _functions(cuda).items():
            setattr(self, name, Function(cuda, name, body))

    def __getattr__(self, name: str) -> Function:
        raise AttributeError(f"libcuda.so.1: undefined symbol: {name}")


def _number(argument: Any) -> int:  # noqa: ANN401 - what ctypes takes
    """Return an integer that was passed as such, or as a ctypes object; a null pointer is 0."""
    return int(getattr(argument, "value", argument) or 0)


def _target(reference: Any) -> Any:  # noqa: ANN401 - a ctypes object
    """Return what `byref(x)` or `pointer(x)` refers to."""
    return reference._obj if hasattr(reference, "_obj") else reference.contents


def _functions(cuda: FakeCuda) -> dict[str, Callable[..., None]]:
    streams = cuda.streams

    def write(reference: Any, value: object) -> None:  # noqa: ANN401 - byref() of a ctypes object
        _target(reference).value = value

    def device_get(device: Any, ordinal: Any) -> None:  # noqa: ANN401
        cuda.require_device(_number(ordinal))
        write(device, _number(ordinal))

    def device_get_name(name: Any, length: Any, device: Any) -> None:  # noqa: ANN401
        cuda.require_device(_number(device))
        name.value = cuda.spec.device_name.encode()[: _number(length) - 1]

    def get_error_string(code: Any, text: Any) -> None:  # noqa: ANN401
        known = codes.TEXTS.get(_number(code))
        write(text, None if known is None else known.encode())
        if known is None:
            raise CudaError(codes.INVALID_VALUE)

    def begin_capture(stream: Any, mode: Any) -> None:  # noqa: ANN401
        found = cuda.stream(_number(stream))
        if "no_capture" in cuda.spec.faults:
            raise CudaError(codes.CAPTURE_UNSUPPORTED)
        streams.begin_capture(found, _number(mode))

    def end_capture(stream: Any, graph: Any) -> None:  # noqa: ANN401
        write(graph, None)
        write(graph, streams.end_capture(cuda.stream(_number(stream))))

    def instantiate(executable: Any, graph: Any, flags: Any) -> None:  # noqa: ANN401
        del flags
        cuda.require_context()
        write(executable, streams.instantiate(_number(graph)))

    def launch(executable: Any, stream: Any) -> None:  # noqa: ANN401
        streams.launch(_number(executable), cuda.stream(_number(stream)))

    def destroy_graph(graph: Any) -> None:  # noqa: ANN401
        cuda.require_context()
        streams.destroy_graph(_number(graph))

    def destroy_executable(executable: Any) -> None:  # noqa: ANN401
        cuda.require_context()
        streams.destroy_executable(_number(executable))

    def pop_current(context: Any) -> None:  # noqa: ANN401
        cuda.require_initialised()
        write(context, 0x1000 + cuda.contexts.cuda_pop().ordinal)

    return {
        "cuInit": lambda _flags: cuda.initialise(),
        "cuDriverGetVersion": lambda version: write(version, cuda.spec.cuda_version),
        "cuDeviceGetCount": lambda count: write(count, cuda.device_count()),
        "cuDeviceGet": device_get,
        "cuDeviceGetName": device_get_name,
        "cuDeviceGetAttribute": lambda value, code, device: write(
            value, cuda.attribute(_number(code), _number(device))
        ),
        "cuGetErrorString": get_error_string,
        "cuCtxPopCurrent_v2": pop_current,
        "cuStreamBeginCapture_v2": begin_capture,
        "cuStreamEndCapture": end_capture,
        "cuGraphInstantiateWithFlags": instantiate,
        "cuGraphLaunch": launch,
        "cuGraphDestroy": destroy_graph,
        "cuGraphExecDestroy": destroy_executable,
    }
