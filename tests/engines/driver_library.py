"""A driver library of callables, as ctypes would see a Jetson's, and its device as it should be described."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from engines.tensorrt.driver import CudaDevice

ORIN = CudaDevice("Orin", (8, 7), 16, "12.6")
TEXTS = {2: b"out of memory", 100: b"no CUDA-capable device is detected", 999: b"unknown error"}


def make_library(
    failing: Mapping[str, int] | None = None,
    devices: int = 1,
    version: int = 12060,
    log: list[str] | None = None,
) -> Any:  # noqa: ANN401 - stands for a ctypes library
    """Return a driver library with some functions that answer with an error."""
    values = {
        "cuInit": None,
        "cuDeviceGetCount": devices,
        "cuDeviceGet": 0,
        "cuDeviceGetName": b"Orin",
        "cuDriverGetVersion": version,
        "cuDeviceGetAttribute": {75: 8, 76: 7, 16: 16},
    }

    def make(function: str) -> Callable[..., int]:
        def call(target: Any, *arguments: Any) -> int:  # noqa: ANN401 - what ctypes takes
            if log is not None:
                log.append(function)
            value = values[function]
            if isinstance(value, dict):
                value = value[arguments[0]]
            if value is not None:
                getattr(target, "_obj", target).value = value
            return (failing or {}).get(function, 0)

        return call

    def explain(code: int, text: Any) -> int:  # noqa: ANN401 - what ctypes takes
        text._obj.value = TEXTS.get(code)
        return 0 if code in TEXTS else 1

    return SimpleNamespace(**{name: make(name) for name in values}, cuGetErrorString=explain)
