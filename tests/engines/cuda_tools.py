"""What tests of the real pycuda share, over the stand-in for the driver as on a GPU."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias, TypeVar

ROOT = Path(__file__).parents[2]

Result = TypeVar("Result")
# pycuda's class; it has no type information.
Context: TypeAlias = Any


def current(library: ctypes.CDLL) -> int | None:
    """Return the driver's current context in this thread."""
    handle = ctypes.c_void_p()
    assert library.cuCtxGetCurrent(ctypes.byref(handle)) == 0
    return handle.value


def let_go(context: Context, library: ctypes.CDLL) -> None:
    """Give the primary context back: pycuda leaves it current in the driver, so that is undone by hand."""
    context.push()
    context.detach()
    assert library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p())) == 0


@contextmanager
def pushed(driver: ModuleType, context: Context) -> Iterator[None]:
    """Make a context current in this thread."""
    context.push()
    try:
        yield
    finally:
        driver.Context.pop()


def in_a_thread(function: Callable[[], Result]) -> Result:
    """Return the result of something that a thread does which ends with it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, from the repository's root."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
