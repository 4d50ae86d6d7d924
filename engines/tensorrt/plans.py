"""A plan for a request, opened: found in the cache, or built; built again once where it does not load."""

from __future__ import annotations

import threading
from pathlib import Path

from engines.errors import PlanError, PlanMissingError
from engines.tensorrt.build_process import OnProgress, run_build
from engines.tensorrt.engine import TensorrtEngine
from engines.tensorrt.network_builder import needs_typed_graph
from engines.tensorrt.plan_cache import discard, ensure_plan, find_plan, record_check
from engines.tensorrt.plan_key import PlanRequest, make_key
from engines.tensorrt.plan_sidecar import PlanCheck, PlanFile
from engines.tensorrt.probe import Probe, import_tensorrt


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
) -> tuple[TensorrtEngine, PlanFile]:
    """Open the plan for a request, building it where there is none that loads.

    Args:
        request: What is wanted.
        folder: The cache of plans.
        found: What `probe` found.
        on_progress: Called while it is built.
        cancel: Set by whoever no longer wants it.
        rebuild: Build it even if it is there.

    Raises:
        BackendUnavailableError: TensorRT cannot run here, or has no such DLA core.
        BuildCancelledError: `cancel` was set.
        BuildError: It cannot be built.
        PlanError: It was built anew and still does not load, now or at an earlier start.
        EngineError: The device failed.
    """
    key = make_key(request, found)
    for is_last in (False, True):
        plan = ensure_plan(
            folder,
            key,
            lambda path: run_build(request, key, path, on_progress, cancel),
            cancel,
            rebuild=rebuild and not is_last,
        )
        try:
            return _load(plan, request), plan
        except PlanError as error:
            if plan.check is not None and not plan.check.loads:
                raise
            if is_last:
                # Kept with its verdict: to build it at every start would not help.
                record_check(plan, PlanCheck({}, (str(error),), loads=False))
                raise
            discard(plan.path, str(error))
    raise AssertionError("unreachable: the last attempt returns or raises")


def open_built_plan(request: PlanRequest, folder: Path, found: Probe) -> tuple[TensorrtEngine, PlanFile]:
    """Open the plan for a request if it is there; nothing is built.

    Raises:
        PlanMissingError: There is none that loads, but one may be built.
        BackendUnavailableError, PlanError, EngineError: As `open_plan`.
    """
    plan = find_plan(folder, make_key(request, found))
    missing = f"There is no TensorRT plan for {request.model} in {request.precision} yet."
    if plan is None:
        raise PlanMissingError(missing)
    try:
        return _load(plan, request), plan
    except PlanError as error:
        if plan.check is not None and not plan.check.loads:
            raise
        discard(plan.path, str(error))
        raise PlanMissingError(missing) from error


def _load(plan: PlanFile, request: PlanRequest) -> TensorrtEngine:
    if plan.check is not None and not plan.check.loads:
        said = " ".join(plan.check.failures)
        raise PlanError(f"{said} It was built twice; `models build --engine tensorrt` builds it once more.")
    return TensorrtEngine(_content(plan), dla_core=request.dla_core)


def _content(plan: PlanFile) -> bytes:
    try:
        return plan.path.read_bytes()
    except OSError as error:  # another process has just found that it does not load
        raise PlanError(f"The plan cannot be read: {error}.") from error
