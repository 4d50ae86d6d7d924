"""Every name of TensorRT and pycuda that the backend uses is in each supported version, or asked for first.

This proves nothing about what the names do: the other tests of the backend do that.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import engines.tensorrt
from engines.fake_jetson.device import FakeCuda
from engines.fake_jetson.libcuda import FakeLibcuda
from engines.fake_jetson.spec import FakeJetson
from engines.tensorrt.probe import OLDEST_VERSION
from tests.conftest import ROOT
from tests.engines.vendor_names.api import CALLS, PLAIN, PROPERTIES, Api, read_api
from tests.engines.vendor_names.facts import Findings
from tests.engines.vendor_names.walk import find_uses

PACKAGE = "engines.tensorrt"
SHIM = sorted((ROOT / "tests" / "shim").glob("*.c"))
# Attributes of paths, bytes, loggers, of ctypes' numbers and the like that happen to be called as a vendor's.
NOT_THEIRS = {"close", "count", "dtype", "format", "log", "name", "pop", "value"}


def read_sources() -> dict[str, str]:
    """Return the backend's modules by name."""
    folder = Path(engines.tensorrt.__file__).parent
    return {
        f"{PACKAGE}.{path.stem}".removesuffix(".__init__"): path.read_text(encoding="utf-8")
        for path in folder.glob("*.py")
    }


@pytest.fixture(scope="module")
def api() -> Api:
    return read_api()


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    return read_sources()


@pytest.fixture(scope="module")
def findings(api: Api, sources: dict[str, str]) -> Findings:
    return find_uses(sources, api)


# --- The backend ---


def test_every_name_is_in_every_version_or_asked_for(findings: Findings) -> None:
    assert not findings.problems, "\n" + "\n".join(sorted(findings.problems))


def test_the_walk_sees_what_the_backend_does(findings: Findings, api: Api) -> None:
    """One name of each way by which objects come: parameters, attributes, other modules, subclasses."""
    assert {
        "tensorrt.Builder.create_network",
        "tensorrt.BuilderFlag.GPU_FALLBACK",
        "tensorrt.ICudaEngine.num_io_tensors",
        "tensorrt.IExecutionContext.execute_async_v3",
        "tensorrt.ILogger.log",
        "tensorrt.IProgressMonitor.step_complete",
        "pycuda.driver.Context.pop",
        "pycuda.driver.Device.retain_primary_context",
        "pycuda.driver.Error",
        "pycuda.driver.PagelockedHostAllocation.get_device_pointer",
        "pycuda.driver.Stream.synchronize",
    } <= findings.uses.keys()
    theirs = {
        path.rpartition(".")[2]
        for version, names in api.names.items()
        for path in names
        if version.vendor in ("tensorrt", "pycuda")
    }
    missed = {name: findings.plain[name] for name in findings.plain.keys() & theirs - NOT_THEIRS}
    assert not missed, "Are these a vendor's? If not, they belong into NOT_THEIRS."


def test_what_is_asked_for_is_missing_somewhere(findings: Findings) -> None:
    assert {"tensorrt.BuilderFlag.FP16", "tensorrt.IProgressMonitor"} <= findings.guards.keys()
    assert all(findings.guards.values())


def test_the_tables_speak_of_what_there_is(api: Api) -> None:
    for path, kind in (*CALLS.items(), *PROPERTIES.items()):
        assert api.having(path), path
        assert kind == PLAIN or kind in api.classes, path


def test_the_oldest_version_has_a_snapshot(api: Api) -> None:
    numbers = [version.number for version in api.versions if version.vendor == "tensorrt"]
    versions = sorted(tuple(map(int, number.split(".")[:2])) for number in numbers)
    assert versions[0] == OLDEST_VERSION
    assert {major for major, _ in versions} >= {8, 10, 11}


@pytest.mark.parametrize(
    ("module", "before", "after", "problem"),
    [
        ("engine", ".num_io_tensors", ".num_bindings", "num_bindings is not in tensorrt 10"),
        ("engine", ".execute_async_v3(", ".execute_async_v2(", "execute_async_v2 is not in tensorrt 10"),
        ("engine", ".set_tensor_address(", ".set_tensor_adress(", "no version has .*set_tensor_adress"),
        ("engine", "self._stream.synchronize", "self._stream.synchronise", "no version has .*synchronise"),
        ("cuda", ".retain_primary_context()", ".primary_context()", "no version has .*primary_context"),
        ("cuda", "Context.pop()", "Context.popp()", "no version has .*Context.popp"),
        ("cuda", "base.get_device_pointer", "base.device_pointer", "no version has .*device_pointer"),
        ("cuda", ".DEVICEMAP", ".DEVICE_MAP", "no version has .*DEVICE_MAP"),
        ("logger", "def log(", "def write(", "ILogger.log is not overridden"),
        (
            "network_builder",
            "if hasattr(trt, ",
            "if True or hasattr(trt, ",
            "IProgressMonitor is not in tensorrt 8.6.1",
        ),
        ("network_builder", 'and hasattr(flag, "FP16")', "", "BuilderFlag.FP16 is not in tensorrt 11"),
        ("network_builder", 'hasattr(flag, "INT8")', 'hasattr(flag, "DEBUG")', "BuilderFlag.INT8 is not in"),
        ("network_builder", "def step_complete", "def step_completed", "step_completed overrides nothing"),
        ("network_builder", ".get_timing_cache()", ".timing_cache()", "no version has .*timing_cache"),
    ],
)
def test_a_mistake_in_the_backend_is_found(
    sources: dict[str, str], api: Api, module: str, before: str, after: str, problem: str
) -> None:
    name = f"{PACKAGE}.{module}"
    assert before in sources[name], "The backend has changed, and this test must follow."
    changed = {**sources, name: sources[name].replace(before, after)}
    problems = "\n".join(sorted(find_uses(changed, api).problems))
    assert re.search(problem, problems), problems


# --- The driver's own functions, by ctypes ---


def driver_functions(source: str) -> set[str]:
    """Return all names of functions of the CUDA driver in a module, as text or as attributes."""
    nodes = list(ast.walk(ast.parse(source)))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    names = texts | {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return {name for name in names if re.fullmatch(r"cu[A-Z]\w+", name)}


def test_the_stand_in_for_the_driver_has_each_function(sources: dict[str, str]) -> None:
    """Its names are CUDA's: it is compiled against the header, whose macros add the suffixes (_v2)."""
    if not SHIM:
        pytest.skip("needs the stand-in for libcuda: tests/shim/*.c")
    text = "\n".join(path.read_text(encoding="utf-8") for path in SHIM)
    exported = set(re.findall(r"^CUresult (?:CUDAAPI )?(cu\w+)\(", text, re.MULTILINE))
    used = set().union(*map(driver_functions, sources.values()))
    assert {"cuInit", "cuStreamBeginCapture_v2", "cuGraphLaunch"} <= used
    unknown = {name for name in used if not {name, re.sub(r"_v\d+$", "", name)} & exported}
    assert not unknown


def test_the_fake_driver_has_each_function(sources: dict[str, str]) -> None:
    library = FakeLibcuda(FakeCuda(FakeJetson()))
    used = set().union(*map(driver_functions, sources.values()))
    assert [name for name in sorted(used) if not hasattr(library, name)] == []


def test_driver_functions_are_called_by_literal_names(sources: dict[str, str]) -> None:
    calls = [
        node
        for source in sources.values()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("call", "driver.call")
    ]
    assert len(calls) > 10
    assert [ast.unparse(node) for node in calls if not isinstance(node.args[1], ast.Constant)] == []
