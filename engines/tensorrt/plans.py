"""A plan for a request, opened: found in the cache, or built; built again once where it does not load."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from engines.errors import PlanError, PlanGivenUpError, PlanMissingError
from engines.tensorrt.build_process import OnProgress, run_build
from engines.tensorrt.cuda import PrimaryContext
from engines.tensorrt.engine import TensorrtEngine, make_runtime
from engines.tensorrt.failed_build import refuse_failed
from engines.tensorrt.first_load import first_load
from engines.tensorrt.network_builder import needs_typed_graph, no_dla_core
from engines.tensorrt.plan_cache import discard, ensure_plan, find_plan, record_check, record_use
from engines.tensorrt.plan_key import PlanRequest, make_key
from engines.tensorrt.plan_sidecar import PlanCheck, PlanFile
from engines.tensorrt.probe import Probe, import_tensorrt

# Compares a plan that was never loaded before.
Compare = Callable[[TensorrtEngine], PlanCheck]


def wants_typed_graph() -> bool:
    """Return whether a plan of float16 is built from a graph of float16: no flag says it any more.

    Raises:
        BackendUnavailableError: TensorRT cannot run here.
    """
    return needs_typed_graph(import_tensorrt())


def open_plan(
    request: PlanRequest,
    folder: Path,
    found: Probe,
    on_progress: OnProgress,
    cancel: threading.Event,
    *,
    rebuild: bool = False,
    retry_failed: bool = True,
    compare: Compare | None = None,
) -> tuple[TensorrtEngine, PlanFile]:
    """Open the plan for a request, building it where there is none that loads.

    Args:
        request: What is wanted.
        folder: The cache of plans.
        found: What `probe` found.
        on_progress: Called while it is built.
        cancel: Set by whoever no longer wants it.
        rebuild: Build it even if it is there.
        retry_failed: Build it even if that failed less than a day ago.
        compare: Checks it on its first load, and what it says is kept; None leaves that to a later load.

    Raises:
        BackendUnavailableError: TensorRT cannot run here, or has no such DLA core.
        BuildCancelledError: `cancel` was set.
        BuildError: It cannot be built; `FailedBeforeError` where that is known.
        PlanError: It was built anew and does not load; `PlanGivenUpError` where that is known, or where its
            first loads crashed.
        EngineError: The device failed. What `compare` raises passes.
    """
    key = make_key(request, found)

    def refuse() -> None:
        if not retry_failed:
            refuse_failed(folder, key, request.command)

    for is_last in (False, True):
        plan = ensure_plan(
            folder,
            key,
            lambda path: run_build(request, key, path, on_progress, cancel),
            cancel,
            rebuild=rebuild and not is_last,
            before_build=refuse,
        )
        try:
            return _load(plan, request, compare)
        except PlanGivenUpError:
            raise
        except PlanError as error:
            if is_last:
                # Kept with its verdict: to build it at every start would not help.
                record_check(plan, PlanCheck({}, (f"{error} It was built twice.",), loads=False))
                raise
            discard(plan, str(error))
    raise AssertionError("unreachable: the last attempt returns or raises")


def open_built_plan(
    request: PlanRequest,
    folder: Path,
    found: Probe,
    *,
    retry_failed: bool = True,
    compare: Compare | None = None,
) -> tuple[TensorrtEngine, PlanFile]:
    """Open the plan for a request if it is there; nothing is built.

    Raises:
        PlanMissingError: There is none that loads, but one may be built.
        BackendUnavailableError, BuildError, PlanError, EngineError: As `open_plan`.
    """
    key = make_key(request, found)
    plan = find_plan(folder, key)
    if plan is not None:
        try:
            return _load(plan, request, compare)
        except PlanGivenUpError:
            raise
        except PlanError as error:
            discard(plan, str(error))
    # What is known to be in vain is said before anything is served meanwhile.
    if request.dla_core is not None:
        _require_dla_core(request.dla_core)
    if not retry_failed:
        refuse_failed(folder, key, request.command)
    raise PlanMissingError(f"There is no TensorRT plan for {request.model} in {request.precision} yet.")


def _load(plan: PlanFile, request: PlanRequest, compare: Compare | None) -> tuple[TensorrtEngine, PlanFile]:
    plan = record_use(plan, request.weights)
    if plan.check is not None:
        if not plan.check.loads:
            said = " ".join(plan.check.failures)
            raise PlanGivenUpError(f"{said} To build it anew: {request.command}")
        return _engine(plan, request), plan
    try:
        with first_load(plan):
            engine = _engine(plan, request)
            if compare is not None:
                try:
                    plan = record_check(plan, compare(engine))
                except BaseException:
                    engine.close()
                    raise
            return engine, plan
    except PlanGivenUpError as error:
        record_check(plan, PlanCheck({}, (str(error),), loads=False))
        raise PlanGivenUpError(f"{error} To build it anew: {request.command}") from error


def _engine(plan: PlanFile, request: PlanRequest) -> TensorrtEngine:
    try:
        content = plan.path.read_bytes()
    except OSError as error:  # another process has just found that it does not load
        raise PlanError(f"The plan cannot be read: {error}.") from error
    return TensorrtEngine(content, dla_core=request.dla_core)


def _require_dla_core(core: int) -> None:
    trt = import_tensorrt()
    context = PrimaryContext()
    try:
        with context.current():
            cores = make_runtime(trt).num_DLA_cores
    finally:
        context.close()
    if core >= cores:
        raise no_dla_core(core, cores)
