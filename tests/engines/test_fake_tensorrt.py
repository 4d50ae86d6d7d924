"""The fake TensorRT: the names of its version, plans that run in ONNX Runtime, and every way to fail."""

from __future__ import annotations

import ctypes
import gc
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines.fake_jetson.codes import FakeCrash
from engines.fake_jetson.jetson import FakeCuda, FakeJetson, fake_jetson
from engines.fake_jetson.libcuda import FakeLibcuda
from engines.fake_jetson.memory import FRESH
from engines.onnx_runtime import import_onnxruntime

SNAPSHOTS = sorted((Path(__file__).parent / "tensorrt_api").glob("*.json"))
VERSIONS = ("8.6.1", "10.3.0", "10.13.3.9", "11.4.0.106")
IMAGE = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
CASTED = ("Cast", ["image"], ["x"], {"to": TensorProto.FLOAT})
MIB = 1 << 20


def model(
    *nodes: tuple[str, list[str], list[str], dict[str, Any]],
    shape: tuple[int | str, ...] = IMAGE.shape,
    kind: int = TensorProto.UINT8,
    outputs: dict[str, int] | None = None,
    constants: dict[str, NDArray[Any]] | None = None,
) -> bytes:
    """Return an ONNX model with one input, `image`."""
    graph = helper.make_graph(
        [
            helper.make_node(kind, taken, given, name=given[0], **options)
            for kind, taken, given, options in nodes
        ],
        "graph",
        [helper.make_tensor_value_info("image", kind, shape)],
        [
            helper.make_tensor_value_info(name, of, None)
            for name, of in (outputs or {"y": TensorProto.FLOAT}).items()
        ],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(onnx.shape_inference.infer_shapes(made).SerializeToString())


SCORES = model(
    CASTED,
    ("Mul", ["x", "half"], ["y"], {}),
    ("ArgMax", ["y"], ["best"], {"axis": 3}),
    outputs={"y": TensorProto.FLOAT, "best": TensorProto.INT64},
    constants={"half": np.array(0.5, np.float32)},
)


def quantised(zero_point: NDArray[Any], weights: NDArray[Any] | None = None) -> bytes:
    """Return a model that quantises its picture and goes back, and dequantises weights if there are any."""
    constants: dict[str, NDArray[Any]] = {"scale": np.array(0.5, np.float32), "zero": zero_point}
    nodes: list[Any] = [
        CASTED,
        ("QuantizeLinear", ["x", "scale", "zero"], ["q"], {}),
        ("DequantizeLinear", ["q", "scale", "zero"], ["d"], {}),
        ("Relu", ["d"], ["y"], {}),
    ]
    if weights is not None:
        constants["w"] = weights
        nodes[-1:] = [("DequantizeLinear", ["w", "scale"], ["b"], {}), ("Add", ["d", "b"], ["y"], {})]
    return model(*nodes, constants=constants)


SYMMETRIC = quantised(np.array(0, np.int8))


@dataclass
class Played:
    """A fake device with its context current, and TensorRT on it."""

    cuda: FakeCuda
    drv: Any
    trt: Any
    context: Any
    messages: list[str] = field(default_factory=list)

    def logger(self) -> Any:  # noqa: ANN401 - of a class made here
        """Return a logger that keeps messages; its base is known at run time only."""
        messages = self.messages

        class Keeper(self.trt.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()

            def log(self, severity: Any, msg: str) -> None:  # noqa: ANN401 - tensorrt has no types
                messages.append(f"{severity.name}: {msg}")

        return Keeper()

    def parsed(self, onnx_bytes: bytes, *, typed: bool = False) -> tuple[Any, Any, Any]:
        """Return builder, network and a parser that has read a model."""
        builder = self.trt.Builder(self.logger())
        flags = self.trt.NetworkDefinitionCreationFlag
        wanted = ("EXPLICIT_BATCH", "STRONGLY_TYPED") if typed else ("EXPLICIT_BATCH",)
        known = [getattr(flags, name) for name in wanted if hasattr(flags, name)]
        network = builder.create_network(sum(1 << int(flag) for flag in known))
        parser = self.trt.OnnxParser(network, self.logger())
        parser.parse(onnx_bytes)
        return builder, network, parser

    def plan(self, onnx_bytes: bytes = SCORES, set_up: Callable[[Any], None] = lambda _: None) -> Any:  # noqa: ANN401
        """Return a plan, or None."""
        builder, network, parser = self.parsed(onnx_bytes)
        assert parser.num_errors == 0, parser.get_error(0).desc()
        config = builder.create_builder_config()
        set_up(config)
        return builder.build_serialized_network(network, config)

    def engine(self, plan: Any = None) -> Any:  # noqa: ANN401 - tensorrt has no types
        """Return an engine, or None."""
        runtime = self.trt.Runtime(self.logger())
        return runtime.deserialize_cuda_engine(self.plan() if plan is None else plan)


@contextmanager
def play(spec: FakeJetson | None = None, **changes: Any) -> Iterator[Played]:  # noqa: ANN401
    faults = frozenset(changes.pop("faults", ()))
    with fake_jetson(replace(spec or FakeJetson(), faults=faults, **changes)) as cuda:
        import pycuda.driver as drv
        import tensorrt as trt

        drv.init()
        context = drv.Device(0).retain_primary_context()
        context.push()
        try:
            yield Played(cuda, drv, trt, context)
        finally:
            drv.Context.pop()


@dataclass
class Ready:
    """An execution context whose tensors have memory."""

    execution: Any
    stream: Any
    buffers: dict[str, NDArray[Any]]


def get_ready(played: Played, engine: Any = None, image: NDArray[Any] = IMAGE) -> Ready:  # noqa: ANN401
    drv, trt = played.drv, played.trt
    engine = engine or played.engine()
    execution, buffers = engine.create_execution_context(), {}
    dtypes = {
        "FLOAT": np.float32,
        "HALF": np.float16,
        "UINT8": np.uint8,
        "INT32": np.int32,
        "INT64": np.int64,
    }
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape, kind = tuple(engine.get_tensor_shape(name)), engine.get_tensor_dtype(name)
        mapped = drv.host_alloc_flags.DEVICEMAP
        buffers[name] = drv.pagelocked_empty(shape, dtypes[kind.name], mem_flags=mapped)
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            buffers[name][...] = image
        assert execution.set_tensor_address(name, buffers[name].base.get_device_pointer())
    return Ready(execution, drv.Stream(), buffers)


def run(ready: Ready) -> dict[str, NDArray[Any]]:
    assert ready.execution.execute_async_v3(ready.stream.handle)
    ready.stream.synchronize()
    return ready.buffers


# --- names


@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda path: path.stem)
def test_the_fake_has_only_names_that_the_bindings_have(path: Path) -> None:
    snapshot = json.loads(path.read_text(encoding="utf-8"))
    with play(tensorrt_version=snapshot["version"]) as played:
        trt = played.trt
        assert trt.__version__ == path.stem
        unlisted = {"ParserError", "Dims"} - set(snapshot["classes"])
        assert public(trt) <= set(snapshot["classes"]) | unlisted
        for name in public(trt):
            fake, real = getattr(trt, name), snapshot["classes"][name]
            if "enum" in real:
                assert {key: int(value) for key, value in fake.__members__.items()} == real["enum"], name
            else:
                inherited = set(dir(bytes)) if name == "IHostMemory" else set()
                assert public(fake) - inherited <= set(real["members"]), name


def public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_") and hasattr(thing, name)}


def test_there_are_snapshots_of_all_versions() -> None:
    assert len(SNAPSHOTS) == 6
    assert set(VERSIONS) < {path.stem for path in SNAPSHOTS}


def test_what_a_version_does_not_have_cannot_be_set() -> None:
    with play(tensorrt_version="8.6.1") as played:
        config = played.trt.Builder(played.logger()).create_builder_config()
        assert not hasattr(played.trt, "IProgressMonitor")
        for name in ("progress_monitor", "something"):
            assert not hasattr(config, name)
            with pytest.raises(AttributeError):
                setattr(config, name, None)


def test_enumerations_are_no_integers() -> None:
    with play() as played:
        flag = played.trt.BuilderFlag.FP16
        assert (int(flag), flag.name, str(flag)) == (0, "FP16", "BuilderFlag.FP16")
        assert flag != 0
        with pytest.raises(TypeError):
            1 << flag
        severity = played.trt.ILogger.Severity
        assert severity.ERROR < severity.WARNING
        assert severity.ERROR == played.trt.Logger.ERROR != 1


# --- before anything works


@pytest.mark.parametrize("what", ["Runtime", "Builder"])
def test_tensorrt_crashes_before_the_driver_is_initialised(what: str) -> None:
    with fake_jetson(FakeJetson()) as cuda:
        import tensorrt as trt

        with pytest.raises(FakeCrash, match=f"tensorrt.{what} was created before cuInit"):
            getattr(trt, what)(trt.Logger())
        assert len(cuda.violations) == 1
        assert FakeLibcuda(cuda).cuInit(0) == 0  # type: ignore[attr-defined] # made at run time
        getattr(trt, what)(trt.Logger())


def test_objects_must_be_of_the_right_kind_and_initialised() -> None:
    with play() as played:
        trt = played.trt
        no_init = {"__init__": lambda self: None}
        for wrong in (None, object(), type("Logger", (trt.ILogger,), no_init)()):
            with pytest.raises(TypeError):
                trt.Runtime(wrong)
        config = trt.Builder(trt.Logger()).create_builder_config()
        for wrong in (object(), type("Monitor", (trt.IProgressMonitor,), no_init)()):
            with pytest.raises(TypeError):
                config.progress_monitor = wrong
        with pytest.raises(TypeError):
            config.set_flag(0)
        with pytest.raises(TypeError):
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1e6)


def test_what_a_logger_raises_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with play() as played:

        class Broken(played.trt.ILogger):  # type: ignore[misc, name-defined] # known at run time only
            def log(self, severity: object, msg: str) -> None:
                raise ValueError("no disk")

        assert played.trt.Runtime(Broken()).deserialize_cuda_engine(b"foreign") is None
        assert "Exception caught in log(): ValueError: no disk" in capsys.readouterr().err
        played.trt.Runtime(played.trt.Logger()).deserialize_cuda_engine(b"foreign")
        assert "[TRT] [E] IRuntime::deserializeCudaEngine" in capsys.readouterr().err


# --- plans that run


@pytest.mark.parametrize("integrated", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_plan_gives_what_onnx_runtime_gives(version: str, *, integrated: bool) -> None:
    session = import_onnxruntime().InferenceSession(SCORES, providers=["CPUExecutionProvider"])
    expected = dict(zip(("y", "best"), session.run(["y", "best"], {"image": IMAGE}), strict=True))
    with play(tensorrt_version=version, integrated=integrated) as played:
        engine = played.engine()
        assert engine.num_layers == 3
        assert engine.get_tensor_shape("y") == IMAGE.shape
        assert engine.get_tensor_dtype("image") == played.trt.DataType.UINT8
        ready = get_ready(played, engine)
        assert ready.execution.execute_async_v3(ready.stream.handle)
        assert (ready.buffers["y"].view(np.uint8) == FRESH).all()
        ready.stream.synchronize()
        for name, array in expected.items():
            np.testing.assert_array_equal(ready.buffers[name], array)
        assert ready.buffers["best"].dtype == (np.int32 if version == "8.6.1" else np.int64)
        assert played.cuda.violations == []


def test_64_bit_inputs_are_32_bit_ones_before_version_10() -> None:
    plus = model(
        ("Add", ["image", "image"], ["y"], {}),
        shape=(2,),
        kind=TensorProto.INT64,
        outputs={"y": TensorProto.INT64},
    )
    with play(tensorrt_version="8.6.1") as played:
        ready = get_ready(played, played.engine(played.plan(plus)), np.array([3, -4]))
        assert ready.buffers["image"].dtype == np.int32
        assert run(ready)["y"].tolist() == [6, -8]


def test_an_engine_runs_from_another_thread_and_as_a_graph() -> None:
    with play() as played:
        ready = get_ready(played)
        run(ready)
        lib: Any = FakeLibcuda(played.cuda)
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        assert lib.cuStreamBeginCapture_v2(ready.stream.handle, 1) == 0
        assert ready.execution.execute_async_v3(ready.stream.handle)
        assert lib.cuStreamEndCapture(ready.stream.handle, ctypes.byref(graph)) == 0
        assert lib.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, 0) == 0
        ready.buffers["image"][...] = 8
        found: list[float] = []

        def launch() -> None:
            played.context.push()
            lib.cuGraphLaunch(executable, ready.stream.handle)
            ready.stream.synchronize()
            found.append(float(ready.buffers["y"].mean()))
            played.drv.Context.pop()

        thread = threading.Thread(target=launch)
        thread.start()
        thread.join()
        assert found == [4.0]
        ready.execution = None  # before the graph that holds its work
        lib.cuGraphLaunch(executable, ready.stream.handle)
        with pytest.raises(played.drv.LogicError, match="illegal memory access"):
            ready.stream.synchronize()
        assert "used an execution context after it was freed" in played.cuda.violations[0]


def test_a_capture_before_the_first_run_or_of_an_uncapturable_plan_fails() -> None:
    graph = ctypes.c_void_p()
    for can_capture in (True, False):
        with play(can_capture=can_capture) as played:
            ready, lib = get_ready(played), FakeLibcuda(played.cuda)
            if not can_capture:
                run(ready)
            assert lib.cuStreamBeginCapture_v2(ready.stream.handle, 1) == 0  # type: ignore[attr-defined]
            assert not ready.execution.execute_async_v3(ready.stream.handle)
            assert "operation not permitted" in played.messages[-1]
            assert lib.cuStreamEndCapture(ready.stream.handle, ctypes.byref(graph)) == 901  # type: ignore[attr-defined]
            assert run(ready)["y"].mean() == IMAGE.mean() / 2


def test_a_buffer_freed_before_the_run_ended_is_a_violation() -> None:
    with play() as played:
        ready = get_ready(played)
        ready.execution.execute_async_v3(ready.stream.handle)
        del ready.buffers["y"]
        with pytest.raises(played.drv.LogicError, match="illegal memory access"):
            ready.stream.synchronize()
        assert "freed while queued work used it" in played.cuda.violations[0]
        assert "after it was freed" in played.cuda.violations[1]


def test_an_execution_context_destroyed_before_the_run_ended_is_a_violation() -> None:
    with play() as played:
        ready = get_ready(played)
        ready.execution.execute_async_v3(ready.stream.handle)
        ready.execution = None
        assert "execution context was destroyed while queued work used it" in played.cuda.violations[0]
        with pytest.raises(played.drv.LogicError):
            ready.stream.synchronize()


def test_addresses_must_be_set_and_the_devices() -> None:
    with play() as played:
        execution, stream = played.engine().create_execution_context(), played.drv.Stream()
        assert not execution.execute_async_v3(stream.handle)
        assert "Address is not set for tensor image" in played.messages[-1]
        assert not execution.set_tensor_address("nothing", 4096)
        assert "invalid tensor name: nothing" in played.messages[-1]
        with pytest.raises(TypeError):
            execution.set_tensor_address("image", "4096")
        plain = played.drv.pagelocked_empty(64, np.uint8)  # not mapped
        for name in ("image", "y", "best"):
            assert execution.set_tensor_address(name, plain.ctypes.data)
        assert execution.get_tensor_address("image") == plain.ctypes.data
        assert execution.execute_async_v3(stream.handle)
        with pytest.raises(played.drv.LogicError, match="illegal memory access"):
            stream.synchronize()
        execution.set_tensor_address("y", plain.ctypes.data + 4)
        assert not execution.execute_async_v3(12345)
        reasons = ("that the device cannot use", "not at a multiple of 256", "stream 0x3039 was destroyed")
        assert all(part in text for part, text in zip(reasons, played.cuda.violations, strict=True))


def test_engines_take_memory_until_they_are_gone() -> None:
    with play() as played:
        plan = bytes(played.plan())
        free = played.drv.mem_get_info()[0]
        engine = played.engine(plan)
        execution = engine.create_execution_context()
        taken = free - played.drv.mem_get_info()[0]
        assert taken == len(plan) + engine.device_memory_size_v2
        assert "2 engines and execution contexts" in played.cuda.leaks()
        del execution, engine
        gc.collect()
        assert played.drv.mem_get_info()[0] == free
        assert played.cuda.leaks() == ["1 retained contexts", "1 contexts pushed in MainThread"]


def test_tensorrt_keeps_the_primary_context() -> None:
    with play() as played:
        buffer = played.drv.mem_alloc(4)
        played.trt.Runtime(played.logger())
        played.context.detach()
        assert played.cuda.retained_contexts == 0
        assert played.cuda.live_allocations == 1  # what is not freed stays for good
        buffer.free()
        assert played.cuda.live_allocations == 1
        played.context.push()  # what `play` takes off


def test_memory_runs_out() -> None:
    with play() as played:
        plan = bytes(played.plan())
        needed = played.engine(plan).device_memory_size
    with play(memory_bytes=len(plan) + needed - 1) as played:
        engine = played.engine(plan)
        assert engine.create_execution_context() is None
        assert "OutOfMemory" in played.messages[-1]
        assert played.engine(plan) is None
        assert "OutOfMemory" in played.messages[-1]


@pytest.mark.parametrize("fault", ["nan_outputs", "wrong_outputs", "zero_cost", "execute_fails"])
def test_an_engine_can_be_made_to_fail(fault: str) -> None:
    with play(faults=[fault]) as played:
        ready = get_ready(played)
        expected = IMAGE / np.float32(2)
        if fault == "execute_fails":
            assert not ready.execution.execute_async_v3(ready.stream.handle)
            assert "a fault was asked for" in played.messages[-1]
            return
        outputs = run(ready)
        if fault == "nan_outputs":
            assert np.isnan(outputs["y"]).all()
            assert outputs["best"].max() == 2
        elif fault == "wrong_outputs":
            assert np.abs(outputs["y"] - expected).mean() > 0.5
        else:
            assert (outputs["y"].view(np.uint8) == FRESH).all()


# --- plans that do not load


def test_a_plan_is_refused_elsewhere_and_damaged() -> None:
    here = FakeJetson()
    with play(here) as played:
        plan = played.plan()
        assert played.engine(plan) is not None
        assert played.engine(memoryview(plan)) is not None
        damaged = bytearray(plan)
        damaged[-3] ^= 1
        for data in (bytes(plan)[:-1], bytes(plan)[:30], bytes(plan)[:9], b"", SCORES, bytes(damaged)):
            played.messages.clear()
            assert played.engine(data) is None
            assert played.messages[0].startswith("ERROR: IRuntime::deserializeCudaEngine: Error Code 1")
        with pytest.raises(TypeError):
            played.engine("text")
    for other, reason in (
        (
            replace(here, tensorrt_version="10.3.1"),
            "Current Version: 10.3.1, Serialized Engine Version: 10.3.0",
        ),
        (replace(here, device_name="Nano"), "not compatible with this device"),
        (replace(here, compute_capability=(8, 6)), "not compatible with this device"),
    ):
        with play(other) as played:
            assert played.engine(bytes(plan)) is None
            assert reason in played.messages[-1]


def test_a_good_plan_can_be_refused_once() -> None:
    with play(faults=["deserialise_none_once"]) as played:
        plan = played.plan()
        assert played.engine(plan) is None
        assert played.engine(plan) is not None


def test_what_is_serialised_is_a_buffer_and_no_sequence() -> None:
    with play() as played:
        plan = played.plan()
        assert bytes(plan)[:8] == b"FAKEPLAN"
        assert plan.nbytes == len(bytes(plan)) == memoryview(plan).nbytes
        assert plan
        for use in (len, iter, lambda one: one[0]):
            with pytest.raises(TypeError):
                use(plan)
        shape = played.engine(plan).get_tensor_shape("image")
        assert (tuple(shape), len(shape), shape[1]) == ((1, 2, 2, 3), 4, 2)
        assert not isinstance(shape, tuple)


# --- the parser


@pytest.mark.parametrize("version", VERSIONS)
def test_the_parser_refuses_what_tensorrt_refuses(version: str) -> None:
    bad = {
        b"nothing of the kind": "Failed to parse the ONNX model",
        b"": "Failed to parse the ONNX model",
        SCORES[:-20]: "Failed to parse the ONNX model",
        quantised(np.array(3, np.int8)): "only symmetric int8",
        quantised(np.array(0, np.uint8)): "only symmetric int8",
        quantised(np.array(0, np.int8), np.ones(3, np.int32)): "only int8 can be dequantised",
        model(("Relu", ["image"], ["y"], {}), kind=TensorProto.DOUBLE, outputs={"y": TensorProto.DOUBLE}): (
            "Unsupported ONNX data type"
        ),
        model(("Transpose", ["image"], ["y"], {}), outputs={"y": TensorProto.UINT8}): "has type UInt8",
    }
    with play(tensorrt_version=version) as played:
        for data, reason in bad.items():
            _, network, parser = played.parsed(data)
            assert parser.num_errors == 1
            assert reason in parser.get_error(0).desc()
            assert reason in played.messages[-1]
            assert network.num_layers == network.num_outputs == 0
            assert parser.get_error(1) is None
        for data in (SCORES, SYMMETRIC, quantised(np.array(0, np.int8), np.ones(3, np.int8))):
            _, network, parser = played.parsed(data)
            assert parser.num_errors == 0
            assert network.num_inputs == 1
        with pytest.raises(TypeError):
            parser.parse("text")


def test_the_parser_can_be_made_to_fail() -> None:
    with play(faults=["parse_fails"]) as played:
        assert "a fault was asked for" in played.parsed(SCORES)[2].get_error(0).desc()


def test_version_8_needs_an_explicit_batch() -> None:
    for version in VERSIONS:
        with play(tensorrt_version=version) as played:
            builder = played.trt.Builder(played.logger())
            parser = played.trt.OnnxParser(builder.create_network(), played.logger())
            assert parser.parse(SCORES) is (version != "8.6.1")


def test_a_network_takes_only_flags_that_the_version_has() -> None:
    with play(tensorrt_version="8.6.1") as played:
        assert played.trt.Builder(played.logger()).create_network(1 << 2) is None
    with play() as played:
        builder, network, _ = played.parsed(SYMMETRIC, typed=True)
        config = builder.create_builder_config()
        assert builder.build_serialized_network(network, config) is not None
        config.set_flag(played.trt.BuilderFlag.FP16)
        assert builder.build_serialized_network(network, config) is None
        assert "strongly typed" in played.messages[-1]


# --- the builder


@pytest.mark.parametrize("version", VERSIONS)
def test_int8_needs_its_flag_where_there_is_one(version: str) -> None:
    with play(tensorrt_version=version) as played:
        has_flag = hasattr(played.trt.BuilderFlag, "INT8")
        assert (played.plan(SYMMETRIC) is None) is has_flag
        if has_flag:
            plan = played.plan(SYMMETRIC, lambda config: config.set_flag(played.trt.BuilderFlag.INT8))
            assert b"INT8" in bytes(plan)
            assert run(get_ready(played, played.engine(plan)))["y"].tolist() == IMAGE.tolist()


def test_networks_that_cannot_be_built() -> None:
    dynamic = model(CASTED, ("Relu", ["x"], ["y"], {}), shape=("batch", 2))
    with play() as played:
        assert played.plan(dynamic) is None
        assert "no optimization profile has been defined" in played.messages[-1]
        builder = played.trt.Builder(played.logger())
        config = builder.create_builder_config()
        assert builder.build_serialized_network(builder.create_network(), config) is None
        assert "at least one output" in played.messages[-1]


def limit(played: Played, size: int) -> Callable[[Any], None]:
    return lambda config: config.set_memory_pool_limit(played.trt.MemoryPoolType.WORKSPACE, size)


def test_a_build_can_be_made_to_fail() -> None:
    with play(faults=["build_returns_none"]) as played:
        assert played.plan() is None
        assert "ERROR: IBuilder::buildSerializedNetwork: Error Code 10" in played.messages[-1]
    with play(faults=["build_out_of_memory"]) as played:
        assert played.plan() is None
        assert played.plan(SCORES, limit(played, 256 * MIB)) is None
        assert "OutOfMemory (Requested size was 268435456 bytes.)" in played.messages[-1]
        assert played.plan(SCORES, limit(played, 64 * MIB)) is not None


def test_a_configuration_keeps_what_it_is_told() -> None:
    with play() as played:
        trt = played.trt
        config = trt.Builder(trt.Logger()).create_builder_config()
        pool, flag = trt.MemoryPoolType.WORKSPACE, trt.BuilderFlag
        assert config.get_memory_pool_limit(pool) == 8 << 30
        limit(played, 5)(config)
        assert config.get_memory_pool_limit(pool) == 5
        assert (config.get_flag(flag.TF32), config.get_flag(flag.FP16)) == (True, False)
        config.clear_flag(flag.TF32)
        config.set_flag(flag.FP16)
        assert (config.get_flag(flag.TF32), config.get_flag(flag.FP16)) == (False, True)
        config.builder_optimization_level = 9
        assert config.builder_optimization_level == 5
        assert config.profiling_verbosity == trt.ProfilingVerbosity.LAYER_NAMES_ONLY
        assert config.progress_monitor is None


def monitor(played: Played, on_step: Callable[[int], bool]) -> tuple[Any, list[tuple[Any, ...]]]:
    """Return a progress monitor, and what it will have heard; `on_step` gets the number of steps so far."""
    heard: list[tuple[Any, ...]] = []

    class Listener(played.trt.IProgressMonitor):  # type: ignore[misc, name-defined] # known at run time only
        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            heard.append(("start", phase_name, parent_phase, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            heard.append(("step", phase_name, step))
            return on_step(sum(event[0] == "step" for event in heard))

        def phase_finish(self, phase_name: str) -> None:
            heard.append(("finish", phase_name))

    return Listener(), heard


def watched(listener: object) -> Callable[[Any], None]:
    return lambda config: setattr(config, "progress_monitor", listener)


def test_a_build_tells_its_phases() -> None:
    with play() as played:
        listener, heard = monitor(played, lambda _: True)
        assert played.plan(SCORES, watched(listener)) is not None
        assert heard[0] == ("start", "Building engine", None, 2)
        assert heard[1] == ("start", "Optimizing graph", "Building engine", 3)
        assert heard[-1] == ("finish", "Building engine")
        started = [event[1] for event in heard if event[0] == "start"]
        assert sorted(started) == sorted(event[1] for event in heard if event[0] == "finish")
        for name, _, count in [event[1:] for event in heard if event[0] == "start"]:
            assert [event[2] for event in heard if event[:2] == ("step", name)] == list(range(count))


@pytest.mark.parametrize("raises", [True, False])
def test_a_build_is_cancelled_by_its_monitor(capsys: pytest.CaptureFixture[str], *, raises: bool) -> None:
    def on_step(count: int) -> bool:
        if raises and count == 2:
            raise ValueError("boom")
        return raises or count < 2

    with play() as played:
        listener, heard = monitor(played, on_step)
        assert played.plan(SCORES, watched(listener)) is None
        assert "BuildCanceled" in played.messages[-1]
        assert [event[:2] for event in heard[-2:]] == [
            ("finish", "Optimizing graph"),
            ("finish", "Building engine"),
        ]
        assert ("ValueError: boom" in capsys.readouterr().err) is raises


def test_a_build_that_hangs_can_be_cancelled() -> None:
    with play(faults=["build_hangs"]) as played:
        listener, heard = monitor(played, lambda count: count < 20)
        assert played.plan(SCORES, watched(listener)) is None
        assert len(heard) > 20


def test_a_timing_cache_is_kept_between_builds() -> None:
    def build(played: Played, data: bytes, *, ignore: bool = False) -> tuple[bool, bytes, int]:
        caches: list[Any] = []

        def set_up(config: Any) -> None:  # noqa: ANN401 - tensorrt has no types
            assert config.get_timing_cache() is None
            caches.append(config.create_timing_cache(data))
            caches.append(config.set_timing_cache(caches[0], ignore))

        played.cuda.calls.clear()
        assert played.plan(SCORES, set_up) is not None
        return caches[1], bytes(caches[0].serialize()), played.cuda.calls["timing cache hit"]

    with play() as played:
        was_set, content, hits = build(played, b"")
        assert (was_set, hits) == (True, 0)
        assert build(played, content) == (True, content, 1)
        assert build(played, b"damaged") == (True, content, 0)
        assert any("Failed to deserialize timing cache" in text for text in played.messages)
    with play(device_name="Nano") as played:
        assert build(played, content)[::2] == (False, 0)
        assert build(played, content, ignore=True)[::2] == (True, 1)
    with play(tensorrt_version="10.7.0") as played:
        assert build(played, content)[::2] == (True, 0)


def test_dla_needs_cores_a_reduced_precision_and_a_fallback() -> None:
    def on_dla(*flags: str) -> Callable[[Any], None]:
        def set_up(config: Any) -> None:  # noqa: ANN401 - tensorrt has no types
            config.default_device_type = played.trt.DeviceType.DLA
            config.DLA_core = 0
            for flag in flags:
                config.set_flag(getattr(played.trt.BuilderFlag, flag))

        return set_up

    with play() as played:
        assert played.trt.Builder(played.logger()).num_DLA_cores == 0
        assert played.plan(SCORES, on_dla("FP16", "GPU_FALLBACK")) is None
    with play(dla_cores=2) as played:
        assert played.trt.Runtime(played.logger()).num_DLA_cores == 2
        assert played.plan(SCORES, on_dla("GPU_FALLBACK")) is None
        assert played.plan(SCORES, on_dla("FP16")) is None
        plan = played.plan(SCORES, on_dla("FP16", "GPU_FALLBACK"))
        assert played.engine(plan) is not None
    with play() as played:
        assert played.engine(bytes(plan)) is None
        assert "no DLA" in played.messages[-1]
