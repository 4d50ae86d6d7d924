"""A Jetson that is not there: fake modules where `import` finds them, a fake driver where ctypes would.

with fake_jetson(FakeJetson(tensorrt_version="8.6.1")) as cuda:
    ...                                  # import pycuda.driver, tensorrt; open an engine, run it, close it
assert cuda.violations == [] and cuda.leaks() == []
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from typing import Any

from engines.fake_jetson.device import FakeCuda
from engines.fake_jetson.libcuda import FakeLibcuda
from engines.fake_jetson.pycuda_driver import VERSION, make_driver
from engines.fake_jetson.spec import FakeJetson
from engines.fake_jetson.tensorrt import make_tensorrt

__all__ = ["EXIT_VIOLATION", "FakeCuda", "FakeJetson", "fake_jetson", "install"]

EXIT_VIOLATION = 70
"""Exit code of a process with `install`ed fakes that found a violation."""

_BACKEND_DRIVER = "engines.tensorrt.driver"


@contextmanager
def fake_jetson(spec: FakeJetson) -> Iterator[FakeCuda]:
    """Play a Jetson for the length of a `with` block; afterwards all is as before.

    Args:
        spec: Which one.

    Yields:
        What happens on it: allocations, calls, violations. It can be looked at afterwards.
    """
    cuda = FakeCuda(spec)
    modules = _modules(cuda)
    before = {name: sys.modules[name] for name in modules if name in sys.modules}
    backend = _backend_driver()
    open_before = backend.open_driver if backend is not None else None
    sys.modules.update(modules)  # type: ignore[arg-type] # None stands for a module that cannot be imported
    if backend is not None:
        backend.open_driver = _opener(cuda, backend)
    try:
        yield cuda
    finally:
        if backend is not None:
            backend.open_driver = open_before
        for name in modules:
            sys.modules.pop(name, None)
        sys.modules.update(before)


def install(spec: FakeJetson) -> FakeCuda:
    """Play a Jetson for the rest of this process.

    At its end a context that is still pushed aborts it, as pycuda does; violations are printed and turn its
    exit code into `EXIT_VIOLATION`.

    Args:
        spec: Which one.
    """
    playing = fake_jetson(spec)
    cuda = playing.__enter__()
    atexit.register(_judge, cuda, playing)
    return cuda


def _judge(cuda: FakeCuda, playing: object) -> None:
    """Say at the end of the process what went wrong; `playing` is held so that the fakes stay until then."""
    del playing
    if cuda.contexts.stacks().pycuda:
        sys.stderr.write("PyCUDA ERROR: The context stack was not empty upon module cleanup.\n")
        sys.stderr.flush()
        os.abort()
    if cuda.violations:
        sys.stderr.write("".join(f"fake Jetson: violation: {text}\n" for text in cuda.violations))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_VIOLATION)


def _modules(cuda: FakeCuda) -> dict[str, types.ModuleType | None]:
    """Return the modules to import from, by name; None where the import must fail."""
    faults = cuda.spec.faults
    package = types.ModuleType("pycuda", "A fake.")
    driver = make_driver(cuda)
    package.__path__ = []
    vars(package).update(VERSION=VERSION, VERSION_TEXT=".".join(map(str, VERSION)), driver=driver)
    modules: dict[str, types.ModuleType | None] = {
        "pycuda": package,
        "pycuda.driver": driver,
        "tensorrt": make_tensorrt(cuda),
    }
    for name, module in modules.items():
        assert module is not None  # noqa: S101 - made above
        module.__spec__ = ModuleSpec(name, None, origin="fake", is_package=name == "pycuda")
    if "no_pycuda" in faults:
        modules |= {"pycuda": None, "pycuda.driver": None}
    if "no_driver" in faults:
        modules["pycuda.driver"] = None
        del package.driver
    if "no_tensorrt" in faults:
        modules["tensorrt"] = None
    return modules


def _backend_driver() -> Any:  # noqa: ANN401 - a module, or None without the backend
    try:
        return importlib.import_module(_BACKEND_DRIVER)
    except ModuleNotFoundError:
        return None


def _opener(cuda: FakeCuda, backend: Any) -> Callable[[], FakeLibcuda]:  # noqa: ANN401 - a module
    library = FakeLibcuda(cuda)

    def open_driver() -> FakeLibcuda:
        if "no_driver" in cuda.spec.faults:
            reason = "libcuda.so.1: cannot open shared object file: No such file or directory"
            raise backend.DriverError(f"{backend.LIBRARY} does not load ({reason})")
        return library

    return open_driver
