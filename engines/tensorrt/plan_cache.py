"""Plans on disk: each beside a JSON file that says in clear what it was built from, by and for.

A plan that fits is used; a damaged one is deleted; the lack of one is explained by the one that was there
before. Two processes that want the same plan build it once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engines.errors import BuildError
from engines.tensorrt.build_lock import hold_lock
from engines.tensorrt.plan_key import PlanKey, differences
from engines.tensorrt.plan_sidecar import PARTIAL, PlanCheck, PlanFile, read_sidecar, write_sidecar

_log = logging.getLogger(__name__)


def find_plan(folder: Path, key: PlanKey) -> PlanFile | None:
    """Return the plan for a key, None where there is none or it is damaged.

    Nothing is deleted: another process may be about to finish it.
    """
    found = read_sidecar(folder / f"{key.stem}.json")
    return found if found is not None and not _problem(found, key) else None


def ensure_plan(
    folder: Path,
    key: PlanKey,
    build: Callable[[Path], dict[str, Any]],
    cancel: threading.Event,
    *,
    rebuild: bool = False,
) -> PlanFile:
    """Return the plan for a key, built where there is none; a damaged one is deleted, and said so.

    Args:
        folder: The cache.
        key: Of the plan.
        build: Writes the plan to the path it is given; returns how it was built.
        cancel: Set by whoever no longer wants it; `build` watches it, too.
        rebuild: Build it even if it is there; it stays until the new one takes its place.

    Raises:
        BuildCancelledError: `cancel` was set while another process was building.
        BuildError: The cache cannot be written. What `build` raises passes.
    """
    found = None if rebuild else find_plan(folder, key)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with hold_lock(folder, cancel):
            if rebuild:
                _log.info("building the TensorRT plan for %s in %s again", key.model, key.precision)
                return _build(folder, key, build)
            found = find_plan(folder, key)  # by whoever held the lock
            if found is not None:
                return found
            why = why_build(folder, key)
            if _discard_damaged(folder, key):
                why = f"building the TensorRT plan for {key.model} in {key.precision} again"
            _log.info("%s", why)
            return _build(folder, key, build)
    except OSError as error:
        raise BuildError(f"The cache of TensorRT plans, {folder}, cannot be written: {error}.") from error


def why_build(folder: Path, key: PlanKey) -> str:
    """Return one line that says why a plan is built: what changed since the most similar one."""
    what = f"TensorRT plan for {key.model} in {key.precision}"
    others = [plan.key for plan in list_plans(folder) if _is_same_choice(plan.key, key) and plan.key != key]
    if not others:
        return f"building a {what}: there is none yet"
    nearest = min((differences(other, key) for other in others), key=len)
    return f"rebuilding the {what} because {', '.join(nearest)}"


def _is_same_choice(other: PlanKey, key: PlanKey) -> bool:
    """Return whether both are what the user calls the same plan."""
    return (other.model, other.precision, other.shapes, other.flags) == (
        key.model,
        key.precision,
        key.shapes,
        key.flags,
    )


def discard(path: Path, why: str) -> None:
    """Delete a plan and what belongs to it, and say why.

    Raises:
        BuildError: It cannot be deleted.
    """
    _log.warning("the TensorRT plan %s is deleted: %s", path.name, why)
    try:
        for file in (path, path.with_suffix(".json")):
            file.unlink(missing_ok=True)
    except OSError as error:
        raise BuildError(f"The TensorRT plan {path} cannot be deleted: {error}.") from error


def record_check(plan: PlanFile, check: PlanCheck) -> PlanFile:
    """Keep what comparing a plan said; where the cache cannot be written it is compared again next time."""
    checked = dataclasses.replace(plan, check=check)
    try:
        write_sidecar(checked)
    except OSError as error:
        _log.warning("the check of %s cannot be kept: %s", plan.path.name, error)
    return checked


def list_plans(folder: Path) -> list[PlanFile]:
    """Return all plans that have a readable sidecar, by name."""
    found = (read_sidecar(path) for path in sorted(folder.glob("*.json")))
    return [plan for plan in found if plan is not None and plan.path.is_file()]


def _discard_damaged(folder: Path, key: PlanKey) -> bool:
    """Delete what lies in the place of a plan, and return whether there was anything; the lock is held."""
    path = folder / f"{key.stem}.plan"
    if not path.exists():
        return False
    found = read_sidecar(path.with_suffix(".json"))
    unknown = "nothing readable tells what it was built for"
    discard(path, unknown if found is None else _problem(found, key))
    return True


def _problem(plan: PlanFile, key: PlanKey) -> str:
    """Return why a plan is not the one for a key, empty where it is."""
    if plan.key != key:
        return "it was built for something else"
    try:
        content = plan.path.read_bytes()
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if len(content) != plan.size_bytes:
        return f"it has {len(content)} bytes instead of {plan.size_bytes}"
    if hashlib.sha256(content).hexdigest() != plan.sha256:
        return "its content is not what was built"
    return ""


def _build(folder: Path, key: PlanKey, build: Callable[[Path], dict[str, Any]]) -> PlanFile:
    path = folder / f"{key.stem}.plan"
    partial = folder / f".{uuid.uuid4().hex}{PARTIAL}"
    try:
        facts = build(partial)
        content = partial.read_bytes()
        plan = PlanFile(path, key, hashlib.sha256(content).hexdigest(), len(content), facts)
        # The sidecar first: a plan in its place is complete.
        write_sidecar(plan)
        try:
            os.replace(partial, path)  # noqa: PTH105 - the atomic call, by its own name
        except OSError:
            plan.sidecar.unlink(missing_ok=True)
            raise
    finally:
        partial.unlink(missing_ok=True)
    _log.info("the TensorRT plan is built: %s s, %.1f MB", facts.get("seconds", "-"), len(content) / 1e6)
    return plan
