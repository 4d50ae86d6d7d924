"""Deleting from the cache what no start will use again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from engines.tensorrt.build_lock import try_lock
from engines.tensorrt.plan_cache import list_plans
from engines.tensorrt.plan_key import belongs_here, timing_cache_name
from engines.tensorrt.plan_sidecar import PARTIAL, PlanFile
from engines.tensorrt.probe import Probe


@dataclass(frozen=True, slots=True)
class StaleFile:
    """A file that nothing needs.

    Attributes:
        path: Where it is, or was.
        size_bytes: Its size.
    """

    path: Path
    size_bytes: int


def prune_plans(folder: Path, found: Probe, *, dry_run: bool) -> list[StaleFile]:
    """Delete what no start will use again.

    That is plans of other devices, systems and versions of TensorRT, plans that a later one replaced, and
    what builds left behind. Where TensorRT cannot run, plans stay: they may be another system's that shares
    the directory. While a plan is being built, what may belong to that build stays.

    Args:
        folder: The cache of plans.
        found: What the probe of TensorRT found.
        dry_run: Delete nothing.

    Returns:
        What is stale.

    Raises:
        OSError: Something cannot be deleted.
    """
    if not folder.is_dir():
        return []
    with try_lock(folder) as is_ours:
        plans = list_plans(folder)
        stale = _leftovers(folder, plans) if is_ours else []
        if found.missing is None:
            stale += [
                file
                for plan in plans
                if not belongs_here(plan.key, found) or _is_superseded(plan, plans)
                for file in (plan.path, plan.sidecar)
            ]
            stale += _foreign_timing_caches(folder, found)
        return [_delete(path, dry_run=dry_run) for path in stale]


def _leftovers(folder: Path, plans: Iterable[PlanFile]) -> list[Path]:
    """Return half-written files, and plans and sidecars without each other."""
    known = {file for plan in plans for file in (plan.path, plan.sidecar)}
    files = [path for suffix in ("plan", "json") for path in folder.glob(f"*.{suffix}") if path not in known]
    return sorted([*files, *folder.glob(f".*{PARTIAL}")])


def _is_superseded(plan: PlanFile, plans: Iterable[PlanFile]) -> bool:
    """Return whether a later plan is for the same, but for its graph: the model or our code has changed."""
    return any(
        other.key != plan.key
        and other.key.but_for_graph == plan.key.but_for_graph
        and str(other.build.get("built_at")) > str(plan.build.get("built_at"))
        for other in plans
    )


def _foreign_timing_caches(folder: Path, found: Probe) -> list[Path]:
    if found.device is None or found.version is None:
        return []
    capability = "{}.{}".format(*found.device.compute_capability)
    current = timing_cache_name(found.version, found.device.name, capability)
    return [path for path in sorted(folder.glob("timing-*.cache")) if path.name != current]


def _delete(path: Path, *, dry_run: bool) -> StaleFile:
    try:
        stale = StaleFile(path, path.stat().st_size)
        if not dry_run:
            path.unlink()
    except FileNotFoundError:  # somebody else was faster
        return StaleFile(path, 0)
    return stale
