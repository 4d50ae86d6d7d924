"""pycuda's exceptions, and calls of the driver that end in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from engines.fake_jetson import codes
from engines.fake_jetson.codes import CudaError
from engines.fake_jetson.device import FakeCuda

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Error(Exception):
    """What the driver answered, in words."""


class MemoryError(Error):  # noqa: A001 - pycuda calls it so
    """Out of memory."""


class LogicError(Error):
    """A call that makes no sense here; also an illegal memory access."""


class LaunchError(Error):
    """The device failed."""


class RuntimeError(Error):  # noqa: A001 - pycuda calls it so
    """No device, or work that is not done."""


_KINDS = {
    codes.OUT_OF_MEMORY: MemoryError,
    codes.NO_DEVICE: RuntimeError,
    codes.NOT_READY: RuntimeError,
}


def failure(routine: str, code: int, more: str = "") -> Error:
    """Return the exception for a result, in pycuda's words."""
    return _KINDS.get(code, LogicError)(f"{routine} failed: {codes.TEXTS[code]}{more and ' - '}{more}")


def call(
    cuda: FakeCuda,
    routine: str,
    action: Callable[_Arguments, _Result],
    *arguments: _Arguments.args,
    **options: _Arguments.kwargs,
) -> _Result:
    """Count a call of the driver and make it.

    Raises:
        Error: The driver did not return success.
    """
    cuda.record.count(routine)
    try:
        return action(*arguments, **options)
    except CudaError as fault:
        raise failure(routine, fault.code) from None
