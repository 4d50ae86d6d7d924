"""Where the fakes stand: in `sys.modules`, behind the backend's driver, and in whole processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module, util
from pathlib import Path

import pytest

from engines.fake_jetson.jetson import EXIT_VIOLATION, FakeJetson, fake_jetson
from engines.tensorrt import driver

SITE = Path(__file__).parents[1] / "fake_jetson_site"
Process = Callable[..., "subprocess.CompletedProcess[str]"]
BUILD = """
import sys
import numpy as np, onnx
import pycuda.driver, tensorrt as trt
from onnx import TensorProto, helper

pycuda.driver.init()
info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1,)) for name in ("x", "y")]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", info[:1], info[1:])
logger = trt.Logger()
builder = trt.Builder(logger)
network = builder.create_network()
assert trt.OnnxParser(network, logger).parse(helper.make_model(graph).SerializeToString())
config = builder.create_builder_config()
config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(sys.argv[1]))
print(builder.build_serialized_network(network, config) is not None)
"""


@pytest.fixture
def process(tmp_path: Path) -> Process:
    """Run Python code in a process of its own, in a folder of its own, that believes in a Jetson."""

    def run(
        code: str, *arguments: str, spec: str | None = None, **fields: object
    ) -> subprocess.CompletedProcess[str]:
        text = FakeJetson(**fields).to_json() if spec is None else spec  # type: ignore[arg-type] # as given
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(SITE), "EDGE_MNV2_FAKE_JETSON": text},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_the_modules_are_there_for_a_while() -> None:
    names = ("pycuda", "pycuda.driver", "tensorrt")
    before = {name: sys.modules.get(name) for name in names}
    opener = driver.open_driver
    with fake_jetson(FakeJetson("8.6.1")) as cuda:
        import pycuda
        import tensorrt

        for name in names:
            spec = util.find_spec(name)
            assert spec is not None
            assert spec.origin == "fake"
        assert tensorrt.__version__ == "8.6.1"
        assert pycuda.VERSION_TEXT == "2024.1"
        assert driver.first_device(driver.open_driver()).name == cuda.spec.device_name
        with fake_jetson(FakeJetson("10.3.0")):
            assert import_module("tensorrt").__version__ == "10.3.0"
        assert import_module("tensorrt") is tensorrt
        with pytest.raises(ModuleNotFoundError):
            import_module("pycuda.autoinit")
    assert {name: sys.modules.get(name) for name in names} == before
    assert driver.open_driver is opener


@pytest.mark.parametrize(
    ("fault", "missing"),
    [("no_pycuda", "pycuda"), ("no_driver", "pycuda.driver"), ("no_tensorrt", "tensorrt")],
)
def test_something_can_be_missing(fault: str, missing: str) -> None:
    with fake_jetson(FakeJetson(faults=frozenset({fault}))):
        with pytest.raises(ImportError):
            import_module(missing)
        if fault == "no_driver":
            assert util.find_spec("pycuda") is not None
            with pytest.raises(
                driver.DriverError, match=r"libcuda.so.1 does not load \(libcuda.so.1: cannot"
            ):
                driver.open_driver()
        else:
            assert util.find_spec(missing) is None
            driver.open_driver()


def test_a_specification_survives_being_written() -> None:
    spec = FakeJetson("8.6.1", compute_capability=(8, 6), faults=frozenset({"no_capture", "nan_outputs"}))
    assert FakeJetson.from_json(spec.to_json()) == spec
    assert FakeJetson.from_json('{"dla_cores": 2}') == FakeJetson(dla_cores=2)
    with pytest.raises(ValueError, match="no faults called"):
        FakeJetson(faults=frozenset({"no_capturing"}))


def test_a_process_and_its_children_see_the_jetson(process: Process) -> None:
    child = "import tensorrt; print(tensorrt.__version__, __import__('pycuda.driver').driver.init())"
    code = f"import subprocess, sys\n{child}\nsubprocess.run([sys.executable, '-c', {child!r}], check=True)"
    done = process(code, tensorrt_version="10.13.3.9")
    assert (done.returncode, done.stdout, done.stderr) == (0, "10.13.3.9 None\n" * 2, "")


def test_without_the_variable_nothing_is_loaded(process: Process) -> None:
    done = process("import sys; print([name for name in sys.modules if name.startswith('engines')])", spec="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_a_bad_specification_ends_the_process(process: Process) -> None:
    done = process("print('went on')", spec='{"faults": ["no_such"]}')
    assert (done.returncode, done.stdout) == (EXIT_VIOLATION, "")
    assert "no faults called ['no_such']" in done.stderr


def test_a_violation_ends_the_process_with_a_code_of_its_own(process: Process) -> None:
    code = (
        "import pycuda.driver as d; d.init(); c = d.Device(0).retain_primary_context(); c.push()\n"
        "a = d.mem_alloc(4); d.Context.pop(); a.free(); print('done')"
    )
    done = process(code)
    assert (done.returncode, done.stdout) == (EXIT_VIOLATION, "done\n")
    assert "fake Jetson: violation: 4 bytes of device memory" in done.stderr


def test_a_context_left_pushed_aborts_the_process(process: Process) -> None:
    left = "import pycuda.driver as d; d.init(); c = d.Device(0).retain_primary_context(); c.push()"
    done = process(left)
    assert done.returncode == -signal.SIGABRT
    assert "The context stack was not empty" in done.stderr
    assert process(f"{left}; d.Context.pop()").returncode == 0


@pytest.mark.parametrize(
    ("fault", "workspace_mib", "code"),
    [
        ("build_killed", 256, -signal.SIGKILL),
        ("build_killed", 64, 0),
        ("build_killed_always", 64, -signal.SIGKILL),
    ],
)
def test_a_builder_can_be_killed(process: Process, fault: str, workspace_mib: int, code: int) -> None:
    done = process(BUILD, str(workspace_mib << 20), faults=frozenset({fault}))
    assert (done.returncode, done.stdout) == (code, "" if code else "True\n")
    assert done.stderr == ""
