"""Deleting from the cache what no start will use again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from engines.tensorrt import failed_build, first_load
from engines.tensorrt.build_lock import edit_lock, try_lock
from engines.tensorrt.failed_build import read_failure
from engines.tensorrt.plan_cache import belongings, is_same_but_for_graph, list_plans
from engines.tensorrt.plan_key import belongs_here, timing_cache_name
from engines.tensorrt.plan_sidecar import PARTIAL, PlanFile, remove
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
        dry_run: Delete nothing, and write nothing.

    Returns:
        What is stale.

    Raises:
        OSError: Something cannot be deleted.
    """
    if not folder.is_dir():
        return []
    with try_lock(folder, create=not dry_run) as is_ours, edit_lock(folder):
        plans = list_plans(folder)
        stale = _leftovers(folder, plans) if is_ours else []
        if found.missing is None:
            replaced = [
                plan for plan in plans if not belongs_here(plan.key, found) or _is_superseded(plan, plans)
            ]
            stale += [file for plan in replaced for file in belongings(plan.path) if file.exists()]
            stale += _failures_elsewhere(folder, found)
            stale += _foreign_timing_caches(folder, found)
        return [_delete(path, dry_run=dry_run) for path in stale]


def _leftovers(folder: Path, plans: Iterable[PlanFile]) -> list[Path]:
    """Return half-written files, plans without what belongs to them and the other way round, and damage."""
    known = {file for plan in plans for file in belongings(plan.path)}
    files = [
        path
        for suffix in (".plan", ".json", first_load.SUFFIX)
        for path in folder.glob(f"*{suffix}")
        if path not in known and read_failure(path) is None
    ]
    return sorted([*files, *folder.glob(f".*{PARTIAL}")])


def _is_superseded(plan: PlanFile, plans: Iterable[PlanFile]) -> bool:
    """Return whether the same weights file uses another plan for the same by now.

    Files of one name in two folders do not replace each other's plans, and no clock is asked.
    """
    return bool(plan.weights) and any(
        other.key != plan.key and is_same_but_for_graph(plan, other) and other.use > plan.use
        for other in plans
    )


def _failures_elsewhere(folder: Path, found: Probe) -> list[Path]:
    """Return failures of builds that are not those of this device, system and TensorRT, or old."""
    kept = {path: read_failure(path) for path in sorted(folder.glob(f"*{failed_build.SUFFIX}"))}
    return [
        path
        for path, failed in kept.items()
        if failed is not None and (failed.is_old or not belongs_here(failed.key, found))
    ]


def _foreign_timing_caches(folder: Path, found: Probe) -> list[Path]:
    if found.device is None or found.version is None:
        return []
    capability = "{}.{}".format(*found.device.compute_capability)
    current = timing_cache_name(found.version, found.device.name, capability)
    return [path for path in sorted(folder.glob("timing-*.cache")) if path.name != current]


def _delete(path: Path, *, dry_run: bool) -> StaleFile:
    try:
        stale = StaleFile(path, path.lstat().st_size)
    except FileNotFoundError:  # somebody else was faster
        return StaleFile(path, 0)
    if not dry_run:
        remove(path)
    return stale
