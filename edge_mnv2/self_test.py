"""What a device can do, as one report to paste into an issue: builds, comparisons, times, memory, threads.

It is for what no other machine can show: whether the device's own libraries compute what they should.
"""

from __future__ import annotations

import logging
import math
import platform
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.backends import Opened, PlanOptions, log_progress, open_onnx, open_tensorrt, synthetic_frames
from edge_mnv2.networks.base import INPUT_NAME
from edge_mnv2.parity import Parity, compare_engines
from edge_mnv2.stress import Check, check_growth, check_reopening, check_threads, check_two
from edge_mnv2.zoo.catalogue import CATALOGUE
from edge_mnv2.zoo.graph_store import Precision
from edge_mnv2.zoo.model import Model, load_model, make_network
from engines import Engine
from engines.tensorrt.probe import Probe

_WARM_UP, _TIMED = 10, 100

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Build:
    """One build of a model, run on this device.

    Attributes:
        model: Its name.
        title: Backend and precision.
        build_s: How long TensorRT took to build the plan; None for ONNX Runtime.
        load_s: From the build on disk to the first answer.
        p50_ms: Median duration of a run.
        p95_ms: 95th percentile.
        parity: Beside ONNX Runtime in float32; None for that itself.
    """

    model: str
    title: str
    build_s: float | None
    load_s: float
    p50_ms: float
    p95_ms: float
    parity: Parity | None


@dataclass(slots=True)
class SelfTest:
    """All that was found.

    Attributes:
        builds: What ran.
        checks: What was tried.
    """

    builds: list[Build] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every check held."""
        return all(check.passed for check in self.checks)


def run_self_test(
    found: Probe, cancel: threading.Event, on_build: Callable[[Build], None] = lambda _: None
) -> SelfTest:
    """Build, compare, time and stress the embedded models on every backend of this device.

    Args:
        found: What the probe of TensorRT found.
        cancel: Set by whoever wants it to end; a build is given up.
        on_build: Called with each build that ran, as soon as it did: what comes after may crash.

    Raises:
        BuildCancelledError: `cancel` was set.
    """
    result = SelfTest()
    models = [load_model(card.name) for card in CATALOGUE if card.embedded]
    frames = list(synthetic_frames())
    for model in models:
        with closing(open_onnx(model, "fp32")) as reference:
            for title, open_ in _candidates(model, found, cancel):
                _log.info("%s on %s", model.name, title)
                try:
                    _run_build(model, title, open_, reference, frames, result, on_build)
                except Exception as error:
                    if cancel.is_set():
                        raise
                    said = f"{type(error).__name__}: {error}"
                    result.checks.append(Check(f"{model.name} on {title}", False, said))
    return result


def _candidates(
    model: Model, found: Probe, cancel: threading.Event
) -> list[tuple[str, Callable[[], Opened]]]:
    """Return what is tried of a model: a title, and what opens it."""
    candidates: list[tuple[str, Callable[[], Opened]]] = [
        ("onnxruntime fp32", lambda: _open_cpu(model, "fp32")),
        ("onnxruntime int8", lambda: _open_cpu(model, "int8")),
    ]
    if found.missing is None:
        for precision in get_args(Precision):
            options = PlanOptions(precision, force=True, on_progress=log_progress(), cancel=cancel)
            candidates.append((f"tensorrt {precision}", partial(open_tensorrt, model, found, options)))
    return candidates


def _open_cpu(model: Model, precision: Precision) -> Opened:
    return Opened(open_onnx(model, precision), precision)


def _run_build(
    model: Model,
    title: str,
    open_: Callable[[], Opened],
    reference: Engine,
    frames: Sequence[NDArray[np.uint8]],
    result: SelfTest,
    on_build: Callable[[Build], None],
) -> None:
    with ExitStack() as stack:
        opened = open_()
        stack.callback(opened.engine.close)
        if opened.plan is not None:
            opened.engine.close()  # what loading costs is known with the plan in the cache
        start_s = time.perf_counter()
        opened = open_()
        engine = opened.engine
        stack.callback(engine.close)
        _fill(model, engine, frames[0])
        engine.run(engine.input_buffers)
        load_s = time.perf_counter() - start_s
        durations_ms = [_run_ms(engine) for _ in range(_WARM_UP + _TIMED)][_WARM_UP:]
        parity = None
        if title != "onnxruntime fp32":
            parity = compare_engines(model, reference, engine, opened.precision, frames)
            detail = ", ".join(f"{name} {error.relative:.2%}" for name, error in parity.outputs.items())
            name = f"{model.name} on {title} agrees with float32"
            result.checks.append(Check(name, not parity.failures, " ".join(parity.failures) or detail))
        p50_ms, p95_ms = np.percentile(durations_ms, (50, 95)).tolist()
        build_s = None if opened.plan is None else float(opened.plan.build.get("seconds", 0))
        result.builds.append(Build(model.name, title, build_s, load_s, p50_ms, p95_ms, parity))
        on_build(result.builds[-1])
        subject = f"{model.name} on {title}"
        result.checks += [check_threads(subject, engine), check_growth(subject, engine)]
        second = open_()
        stack.callback(second.engine.close)
        result.checks.append(check_two(subject, engine, second.engine))
    result.checks.append(check_reopening(subject, lambda: open_().engine))


def _fill(model: Model, engine: Engine, image: NDArray[np.uint8]) -> None:
    make_network(model).prepare(image, engine.input_buffers[INPUT_NAME])


def _run_ms(engine: Engine) -> float:
    start_ns = time.perf_counter_ns()
    engine.run(engine.input_buffers)
    return (time.perf_counter_ns() - start_ns) / 1e6


def report(result: SelfTest, facts: Sequence[tuple[str, str]]) -> str:
    """Return the whole report as Markdown.

    Args:
        result: What was found.
        facts: Of the device, by name.
    """
    return "\n".join([report_head(facts), *map(report_row, result.builds), report_checks(result)])


def report_head(facts: Sequence[tuple[str, str]]) -> str:
    """Return the report's beginning, up to the heading of its table of builds."""
    lines = ["## edge-mnv2 self-test", ""]
    lines += [f"- {name}: {value}" for name, value in (*facts, ("machine", platform.machine()))]
    lines += [
        "",
        "| model | on | built | loaded | p50 | p95 | FPS | error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join(lines)


def report_row(build: Build) -> str:
    """Return the row of one build."""
    built = "-" if build.build_s is None else f"{build.build_s:.0f} s"
    errors = [] if build.parity is None else [error.relative for error in build.parity.outputs.values()]
    worst = "-" if not errors else f"{max(errors):.2%}" if math.isfinite(max(errors)) else "not finite"
    return (
        f"| {build.model} | {build.title} | {built} | {build.load_s:.2f} s | {build.p50_ms:.2f} ms "
        f"| {build.p95_ms:.2f} ms | {1000 / build.p50_ms:.0f} | {worst} |"
    )


def report_checks(result: SelfTest) -> str:
    """Return the report's end, from the table of checks on."""
    lines = ["", "| check | | seen |", "|---|---|---|"]
    for check in result.checks:
        detail = " ".join(check.detail.split()).replace("|", "\\|")  # one line, one cell
        lines.append(f"| {check.name} | {'ok' if check.passed else 'FAILED'} | {detail} |")
    failed = sum(not check.passed for check in result.checks)
    lines += ["", f"{len(result.checks) - failed} of {len(result.checks)} checks passed."]
    return "\n".join(lines)
