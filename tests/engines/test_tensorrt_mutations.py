"""Tests of `TensorrtEngine` can fail: whatever is left out of it, the fake Jetson shows it.

Each mutation changes one place of the source. What comes out lives in modules of its own, goes through one
scenario, and must not get through it; the unchanged source must. The scenario is the shortest that notices
them all: `test_tensorrt_engine.py` tests the same in small pieces.
"""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import engines.tensorrt
from engines import EngineError, TensorMismatchError
from engines.fake_jetson import pycuda_errors
from engines.fake_jetson.jetson import FakeCuda, FakeJetson, fake_jetson
from tests.engines.tensorrt_scene import (
    IN_TURN,
    before_synchronise,
    check_outputs,
    check_sound,
    in_thread,
    interrupt,
    meet,
    once,
    plan_of,
    small_feeds,
    small_graph,
    while_capturing,
)

MODULES = ("graph_capture", "cuda", "engine")
"""In the order in which they import each other."""
MODES = [(mapped, cuda_graph) for mapped in (True, False) for cuda_graph in (True, False)]

FAILURES = (
    AssertionError,
    EngineError,
    pycuda_errors.Error,
    pytest.fail.Exception,
    AttributeError,  # of what is None after closing
    KeyError,  # of a tensor that is missing
)
"""How the scenario fails; anything else, such as a name that is not there, is a bad mutation."""

OpenEngine = Callable[..., Any]

# Pieces of `TensorrtEngine._enqueue`.
EXECUTE = """\
        if not self._execution.execute_async_v3(self._stream.handle):
            raise self._refusal(EngineError, "TensorRT failed while running the model")
"""
DOWNLOAD = """\
        for buffer in self._out:
            self._context.download(buffer, self._stream)
"""


@dataclass(frozen=True)
class Mutation:
    """One change of the source.

    Attributes:
        what: Goes wrong then.
        module: Out of `MODULES`.
        old: The text to replace; it must be there once.
        new: What takes its place.
    """

    what: str
    module: str
    old: str
    new: str


MUTATIONS = [
    # Running.
    Mutation(
        "run does not wait for the device",
        "engine",
        "                self._launch()\n                self._stream.synchronize()\n",
        "                self._launch()\n",
    ),
    Mutation(
        "the context is popped before the wait",
        "engine",
        "                self._launch()\n                self._stream.synchronize()\n",
        "                self._launch()\n            self._stream.synchronize()\n",
    ),
    Mutation(
        "the context is not pushed",
        "cuda",
        "            self._context.push()\n            try:\n",
        "            try:\n",
    ),
    Mutation(
        "the context is not popped",
        "cuda",
        "            finally:\n                self._driver.Context.pop()\n",
        "            finally:\n                pass\n",
    ),
    Mutation(
        "the context is popped after success only",
        "cuda",
        "            finally:\n                self._driver.Context.pop()\n",
        "            else:\n                self._driver.Context.pop()\n",
    ),
    Mutation(
        "runs do not wait for each other",
        "engine",
        "        with self._lock:\n            if not self._is_open:\n                raise",
        "        if True:\n            if not self._is_open:\n                raise",
    ),
    Mutation(
        "a closed engine runs",
        "engine",
        "            if not self._is_open:\n                raise",
        "            if False:\n                raise",
    ),
    Mutation(
        "feeds are not checked",
        "engine",
        "                check_feeds(self.inputs, feeds)\n",
        "",
    ),
    Mutation(
        "foreign arrays are not copied in",
        "engine",
        "                np.copyto(own, feeds[name])\n",
        "                pass\n",
    ),
    # Copies and buffers.
    Mutation(
        "inputs are not uploaded",
        "engine",
        "            self._context.upload(buffer, self._stream)\n",
        "            pass\n",
    ),
    Mutation(
        "outputs are not downloaded",
        "engine",
        "            self._context.download(buffer, self._stream)\n",
        "            pass\n",
    ),
    Mutation(
        "outputs are downloaded before they are computed",
        "engine",
        EXECUTE + DOWNLOAD,
        DOWNLOAD + EXECUTE,
    ),
    Mutation(
        "inputs are uploaded on the default stream",
        "cuda",
        "memcpy_htod_async(buffer.twin, buffer.host, stream)",
        "memcpy_htod_async(buffer.twin, buffer.host)",
    ),
    Mutation(
        "outputs are downloaded on the default stream",
        "cuda",
        "memcpy_dtoh_async(buffer.host, buffer.twin, stream)",
        "memcpy_dtoh_async(buffer.host, buffer.twin)",
    ),
    Mutation(
        "the plan runs on the default stream",
        "engine",
        "self._execution.execute_async_v3(self._stream.handle)",
        "self._execution.execute_async_v3(0)",
    ),
    Mutation(
        "one tensor has no address",
        "engine",
        "            if not self._execution.set_tensor_address(",
        '            if name != "levels" and not self._execution.set_tensor_address(',
    ),
    Mutation(
        "a tensor has the host's address",
        "engine",
        "(name, self._buffers[name].address)",
        "(name, self._buffers[name].host.ctypes.data)",
    ),
    Mutation("buffers start as garbage", "cuda", "        host.fill(0)\n", ""),
    Mutation(
        "mapped memory is not mapped",
        "cuda",
        "host_alloc_flags.DEVICEMAP if mapped else 0",
        "host_alloc_flags.PORTABLE if mapped else 0",
    ),
    # CUDA graphs.
    Mutation(
        "a graph is captured before the first run",
        "engine",
        "        self._enqueue()\n        self._stream.synchronize()\n        if not cuda_graph:\n",
        "        if not cuda_graph:\n",
    ),
    Mutation(
        "a capture is spoiled by other threads",
        "graph_capture",
        "_THREAD_LOCAL = 1\n",
        "_THREAD_LOCAL = 0\n",
    ),
    Mutation(
        "a graph is not freed",
        "graph_capture",
        '            call(library, "cuGraphDestroy", graph)\n',
        "            pass\n",
    ),
    Mutation(
        "an executable graph is not freed",
        "graph_capture",
        '            call(self._library, "cuGraphExecDestroy", executable)\n',
        "            pass\n",
    ),
    Mutation(
        "a capture that fails is not ended",
        "graph_capture",
        "        library.cuStreamEndCapture(stream, ctypes.byref(graph))\n",
        "",
    ),
    Mutation(
        "a capture that fails is fatal",
        "engine",
        "        except EngineError as error:\n            _log.info(",
        "        except ZeroDivisionError as error:\n            _log.info(",
    ),
    # Closing.
    Mutation(
        "closing does not wait for the device",
        "engine",
        "            if self._stream is not None:\n                self._stream.synchronize()\n",
        "            pass\n",
    ),
    Mutation(
        "everything is freed before the wait",
        "engine",
        "            then.callback(self._drop)\n",
        "            stream = self._stream\n"
        "            self._drop()\n"
        "            self._stream = stream\n"
        "            then.callback(self._drop)\n",
    ),
    Mutation(
        "closing pushes no context",
        "engine",
        "                with self._context.current():\n                    self._free()\n",
        "                self._free()\n",
    ),
    Mutation(
        "buffers are freed where no context is current",
        "engine",
        "                with self._context.current():\n                    self._free()\n",
        "                drop, self._drop = self._drop, lambda: None\n"
        "                with self._context.current():\n                    self._free()\n"
        "                drop()\n",
    ),
    Mutation(
        "buffers are not freed",
        "engine",
        "            then.callback(self._drop)\n",
        "            pass\n",
    ),
    Mutation(
        "the context is not given back",
        "engine",
        "            finally:\n                self._context.close()\n",
        "            finally:\n                pass\n",
    ),
    Mutation(
        "the context is given back where it is not current",
        "cuda",
        "            context.push()\n            context.detach()\n",
        "            context.detach()\n",
    ),
    Mutation(
        "the context stays on CUDA's stack",
        "cuda",
        'driver.call(driver.open_driver(), "cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))\n',
        "pass\n",
    ),
    Mutation(
        "closing twice frees twice",
        "engine",
        "            if not self._is_open:\n                return\n",
        "",
    ),
    Mutation(
        "closing does not wait for a run",
        "engine",
        "        with self._lock:\n            if not self._is_open:\n                return\n",
        "        if True:\n            if not self._is_open:\n                return\n",
    ),
    Mutation(
        "input buffers outlive the engine",
        "engine",
        "(self._buffers, self._input_views, self._output_views)",
        "(self._buffers, self._output_views)",
    ),
    Mutation(
        "TensorRT's objects outlive the engine",
        "engine",
        "        self._engine = None\n        self._runtime = None\n",
        "",
    ),
    Mutation(
        "the stream outlives the engine",
        "engine",
        "        self._out.clear()\n        self._stream = None\n",
        "        self._out.clear()\n",
    ),
    # Failing.
    Mutation(
        "opening that fails frees nothing",
        "engine",
        "                self.close()\n            raise\n",
        "                pass\n            raise\n",
    ),
    Mutation(
        "an error keeps buffers",
        "cuda",
        "                traceback.clear_frames(error.__traceback__)\n",
        "",
    ),
    Mutation(
        "a failed execution is not noticed",
        "engine",
        "        if not self._execution.execute_async_v3(self._stream.handle):\n",
        "        if self._execution.execute_async_v3(self._stream.handle) is None:\n",
    ),
]


def load(monkeypatch: pytest.MonkeyPatch, mutation: Mutation | None) -> OpenEngine:
    """Return `TensorrtEngine` of a copy of the source, with a mutation or without."""
    folder = Path(engines.tensorrt.__file__).parent
    for name in MODULES:
        source = (folder / f"{name}.py").read_text(encoding="utf-8")
        if mutation is not None and mutation.module == name:
            found = source.count(mutation.old)
            if found != 1:
                pytest.fail(f"this mutation is stale: its text is {found} times in {name}.py, not once")
            source = source.replace(mutation.old, mutation.new)
        for sibling in MODULES:
            source = source.replace(f"engines.tensorrt.{sibling} import", f"mutated_{sibling} import")
        module = types.ModuleType(f"mutated_{name}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(source, f"mutated {name}.py", "exec"), vars(module))  # noqa: S102 - our own source
    found_class: OpenEngine = sys.modules["mutated_engine"].TensorrtEngine
    return found_class


def go_through(open_engine: OpenEngine, mapped: bool, cuda_graph: bool) -> None:
    """Use an engine in all ways, and look at what is left.

    Raises:
        AssertionError: Something is wrong.
        EngineError: The engine fails where it should work; or pycuda's own error does.
    """

    def open_so(plan: bytes) -> Any:  # noqa: ANN401 - mutated
        engine = open_engine(plan, mapped=mapped, cuda_graph=cuda_graph)
        assert engine.uses_graph is (cuda_graph and cuda.spec.can_capture)
        return engine

    for part in (_threads, _interrupted, _meeting, _failing):
        for spec in (FakeJetson(), FakeJetson("8.6.1", can_capture=False)):
            with fake_jetson(spec) as cuda:
                part(open_so, cuda)
                check_sound(cuda)


def _run(engine: Any, number: int) -> None:  # noqa: ANN401 - mutated
    check_outputs(engine.run(small_feeds(number)), small_graph(), small_feeds(number))


def _threads(open_engine: OpenEngine, cuda: FakeCuda) -> None:
    """Open in one thread, run in two, close in the last; then all of it in this one."""
    plan = plan_of(small_graph())
    engine = in_thread(lambda: open_engine(plan))
    assert cuda.live_graphs == engine.uses_graph
    assert not any(buffer.any() for buffer in engine.input_buffers.values())
    for number in range(3):
        _run(engine, number)
        in_thread(lambda number=number: _run(engine, number + 10))
        engine.input_buffers["image"][:] = small_feeds(number)["image"]
        feeds = {**small_feeds(number + 10), "image": small_feeds(number)["image"]}
        check_outputs(engine.run(engine.input_buffers), small_graph(), feeds)
    with pytest.raises(TensorMismatchError):
        engine.run({"image": small_feeds(1)["image"]})
    in_thread(engine.close)
    check_sound(cuda)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run(engine.input_buffers)
    while_capturing(lambda: in_thread(lambda: open_engine(plan).close()))
    engine = open_engine(plan)
    _run(engine, 4)
    engine.close()


def _interrupted(open_engine: OpenEngine, cuda: FakeCuda) -> None:
    """Close in another thread what an interrupted run has left behind."""
    engine = open_engine(plan_of(small_graph()))
    before_synchronise(once(interrupt))
    with pytest.raises(KeyboardInterrupt):
        engine.run(small_feeds(1))
    assert cuda.pushed_contexts == {}
    in_thread(engine.close)


def _meeting(open_engine: OpenEngine, cuda: FakeCuda) -> None:
    """Run, and close, while a run is under way."""
    for other in ("run", "close"):
        engine = open_engine(plan_of(small_graph()))
        actions = {"run": lambda: engine.run(small_feeds(2)), "close": engine.close}  # noqa: B023 - in this turn
        assert meet(engine, actions[other]) == IN_TURN
        engine.close()


def _failing(open_engine: OpenEngine, cuda: FakeCuda) -> None:
    """Open where execution fails, and look while the error is there."""
    plan = plan_of(small_graph())
    cuda.spec = FakeJetson(cuda.spec.tensorrt_version, faults=frozenset({"execute_fails"}))
    with pytest.raises(EngineError, match="a fault was asked for") as caught:
        open_engine(plan)
    check_sound(cuda)
    assert caught.value.__traceback__ is not None


def test_a_mutation_whose_text_is_gone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    for old in ("no such text", "self"):
        with pytest.raises(pytest.fail.Exception, match=r"stale: its text is \d+ times in cuda\.py"):
            load(monkeypatch, Mutation("nothing", "cuda", old, ""))


@pytest.mark.parametrize(("mapped", "cuda_graph"), MODES)
def test_the_source_as_it_is_gets_through(
    mapped: bool, cuda_graph: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_through(load(monkeypatch, None), mapped, cuda_graph)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_a_mutation_is_noticed(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    open_engine = load(monkeypatch, mutation)
    noticed = any(_fails(open_engine, *mode) for mode in MODES)
    gc.collect()  # what the mutant left behind goes now, not in the next test
    assert noticed, f"no test would notice that {mutation.what}"


def _fails(open_engine: OpenEngine, mapped: bool, cuda_graph: bool) -> bool:
    try:
        go_through(open_engine, mapped, cuda_graph)
    except FAILURES:
        return True
    return False
