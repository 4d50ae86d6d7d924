"""Plans on disk: each beside a JSON file that says in clear what it was built from, by and for.

A plan that fits is used; a damaged one is deleted; the lack of one is explained by the one that was there
before. Two processes that want the same plan build it once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from engines.errors import BuildCancelledError, BuildError, ModelFileError
from engines.tensorrt import first_load
from engines.tensorrt.build_lock import edit_lock, hold_lock
from engines.tensorrt.failed_build import forget_failure, keep_failure
from engines.tensorrt.plan_key import PlanKey, differences
from engines.tensorrt.plan_sidecar import (
    PARTIAL,
    PlanCheck,
    PlanFile,
    read_sidecar,
    remove,
    write_sidecar,
)

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
    before_build: Callable[[], None] = lambda: None,
) -> PlanFile:
    """Return the plan for a key, built where there is none; a damaged one is deleted, and said so.

    Args:
        folder: The cache.
        key: Of the plan.
        build: Writes the plan to the path it is given; returns how it was built.
        cancel: Set by whoever no longer wants it; `build` watches it, too.
        rebuild: Build it even if it is there; it stays until the new one takes its place.
        before_build: Called before what is missing is built; it may refuse by an error.

    Raises:
        BuildCancelledError: `cancel` was set while another process was building.
        BuildError: The cache cannot be written. What `build` and `before_build` raise passes; of `build`, it
            is kept for `before_build`.
    """
    found = None if rebuild else find_plan(folder, key)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with hold_lock(folder, cancel):
            if not rebuild:
                found = find_plan(folder, key)  # by whoever held the lock
                if found is not None:
                    return found
                before_build()
            why = why_build(folder, key)
            if _is_there(folder, key) if rebuild else _discard_damaged(folder, key):
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


def discard(plan: PlanFile, why: str) -> None:
    """Delete a plan and what belongs to it, and say why; not one that has taken its place meanwhile.

    Raises:
        BuildError: It cannot be deleted.
    """
    with edit_lock(plan.path.parent):
        if _current(plan) is not None:
            _delete(plan.path, why)


def record_check(plan: PlanFile, check: PlanCheck) -> PlanFile:
    """Keep what comparing a plan said; where the cache cannot be written it is compared again next time."""
    _edit(plan, lambda _: {"check": check}, logging.WARNING)
    return replace(plan, check=check)


def record_use(plan: PlanFile, weights: str) -> PlanFile:
    """Keep which weights file uses a plan, and that no other plan for it was used later.

    Returns:
        What is known of the plan by now.
    """

    def changes(current: PlanFile) -> dict[str, Any]:
        others = [
            other.use
            for other in list_plans(plan.path.parent)
            if other.key != plan.key and is_same_but_for_graph(other, replace(current, weights=weights))
        ]
        if current.weights == weights and current.use > max(others, default=-1):
            return {}  # as nearly always: nothing is written
        return {"weights": weights, "use": max([current.use, *others]) + 1}

    return _edit(plan, changes, logging.DEBUG) if weights else plan


def is_same_but_for_graph(one: PlanFile, other: PlanFile) -> bool:
    """Return whether both are of one weights file and one choice: the weights or our code have changed."""
    return (one.weights, one.key.but_for_graph) == (other.weights, other.key.but_for_graph)


def _edit(plan: PlanFile, changes: Callable[[PlanFile], dict[str, Any]], level: int) -> PlanFile:
    """Change what is said of a plan, if it is still the one that lies there; a failure is logged."""
    with edit_lock(plan.path.parent):
        current = _current(plan)
        if current is None:
            return plan
        changed = replace(current, **changes(current))
        if changed != current:
            try:
                write_sidecar(changed)
            except OSError as error:
                what = "check" if changed.check != current.check else "use"
                _log.log(level, "the %s of %s cannot be kept: %s", what, plan.path.name, error)
        return changed


def _current(plan: PlanFile) -> PlanFile | None:
    """Return what is said of a plan by now, None where another lies in its place."""
    found = read_sidecar(plan.sidecar)
    return found if found is not None and found.sha256 == plan.sha256 else None


def list_plans(folder: Path) -> list[PlanFile]:
    """Return all plans that have a readable sidecar, by name."""
    found = (read_sidecar(path) for path in sorted(folder.glob("*.json")))
    return [plan for plan in found if plan is not None and plan.path.is_file()]


def _is_there(folder: Path, key: PlanKey) -> bool:
    return (folder / f"{key.stem}.plan").exists()


def _discard_damaged(folder: Path, key: PlanKey) -> bool:
    """Delete what lies in the place of a plan, and return whether there was anything; the lock is held."""
    path = folder / f"{key.stem}.plan"
    if not _is_there(folder, key) and not path.with_suffix(".json").is_dir():
        return False
    found = read_sidecar(path.with_suffix(".json"))
    _delete(path, "nothing readable tells what it was built for" if found is None else _problem(found, key))
    return True


def _delete(path: Path, why: str) -> None:
    _log.warning("the TensorRT plan %s is deleted: %s", path.name, why)
    try:
        for file in belongings(path):
            remove(file)
    except OSError as error:
        raise BuildError(f"The TensorRT plan {path} cannot be deleted: {error}.") from error


def belongings(path: Path) -> tuple[Path, ...]:
    """Return a plan's files: itself, what is said of it, and the mark of a first load."""
    return path, path.with_suffix(".json"), path.with_suffix(first_load.SUFFIX)


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
        try:
            facts = build(partial)
        except (BuildError, ModelFileError) as error:
            if not isinstance(error, BuildCancelledError):
                keep_failure(folder, key, error)
            raise
        content = partial.read_bytes()
        plan = PlanFile(path, key, hashlib.sha256(content).hexdigest(), len(content), facts)
        with edit_lock(folder):
            _place(partial, plan)
    finally:
        partial.unlink(missing_ok=True)
    forget_failure(folder, key)
    _log.info("the TensorRT plan is built: %s s, %.1f MB", facts.get("seconds", "-"), len(content) / 1e6)
    return plan


def _place(partial: Path, plan: PlanFile) -> None:
    """Put a plan in its place; the sidecar first: a plan in its place is complete."""
    for file in belongings(plan.path):
        if file.is_dir() or file.suffix == first_load.SUFFIX:
            remove(file)
    write_sidecar(plan)
    try:
        os.replace(partial, plan.path)  # noqa: PTH105 - the atomic call, by its own name
    except OSError:
        plan.sidecar.unlink(missing_ok=True)
        raise
