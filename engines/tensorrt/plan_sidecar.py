"""What is known of a plan, in a JSON file beside it that a person can read."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.tensorrt.plan_key import PlanKey, key_from

PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class PlanCheck:
    """What comparing a plan with ONNX Runtime said.

    Attributes:
        figures: By name.
        failures: One sentence each; empty for a good plan.
        loads: Whether TensorRT loads what it built; if not, building it again at every start would not help.
    """

    figures: dict[str, float]
    failures: tuple[str, ...]
    loads: bool = True


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan in the cache.

    Attributes:
        path: Of the plan.
        key: What it was built from, by and for.
        sha256: Of its content.
        size_bytes: Of the plan.
        build: How it was built: seconds, workspace, when.
        check: How far it is from ONNX Runtime; None before its first load.
        weights: The weights file of its last use; empty where nobody said so.
        use: Number of that use: the plan of these weights with the highest is the current one. No time of
            day, which a Jetson without a battery does not know.
    """

    path: Path
    key: PlanKey
    sha256: str
    size_bytes: int
    build: dict[str, Any]
    check: PlanCheck | None = None
    weights: str = ""
    use: int = 0

    @property
    def sidecar(self) -> Path:
        """The JSON file beside the plan."""
        return self.path.with_suffix(".json")


def read_sidecar(path: Path) -> PlanFile | None:
    """Return what a sidecar says, None where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return PlanFile(
            path.with_suffix(".plan"),
            key_from(content["key"]),
            str(content["sha256"]),
            int(content["size_bytes"]),
            dict(content["build"]),
            _read_check(content["check"]),
            str(content.get("weights", "")),
            int(content.get("use", 0)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _read_check(content: dict[str, Any] | None) -> PlanCheck | None:
    if content is None:
        return None
    figures = {name: float(value) for name, value in content["figures"].items()}
    failures = tuple(str(failure) for failure in content["failures"])
    return PlanCheck(figures, failures, bool(content.get("loads", True)))


def write_sidecar(plan: PlanFile) -> None:
    """Write what is known of a plan beside it, whole or not at all.

    Raises:
        OSError: It cannot be written; nothing is left behind.
    """
    content = {
        "key": dataclasses.asdict(plan.key),
        "sha256": plan.sha256,
        "size_bytes": plan.size_bytes,
        "build": plan.build,
        "check": None if plan.check is None else dataclasses.asdict(plan.check),
        "weights": plan.weights,
        "use": plan.use,
    }
    write_whole(plan.sidecar, json.dumps(content, indent=1) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file of the cache, whole or not at all.

    Raises:
        OSError: It cannot be written; nothing is left behind.
    """
    partial = path.with_name(f".{uuid.uuid4().hex}{PARTIAL}")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)  # noqa: PTH105 - the atomic call, by its own name
    finally:
        partial.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Delete a file of the cache, or the folder that somebody put in its place; nothing where it is gone.

    Raises:
        OSError: It cannot be deleted.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
