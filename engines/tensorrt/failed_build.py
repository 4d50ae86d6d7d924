"""A build that failed, in a JSON file where its plan would be: it takes minutes, and would fail again.

It belongs to the plan's key, so that an upgrade tries again; so does a build that is asked for, and every
start from a day on, because what was wrong may have passed: other programs took the memory.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engines.errors import FailedBeforeError
from engines.tensorrt.plan_key import PlanKey, key_from
from engines.tensorrt.plan_sidecar import remove, write_whole

SUFFIX = ".failed.json"
RETRY_S = 24 * 3600.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FailedBuild:
    """What is known of a build that failed.

    Attributes:
        key: Of the plan.
        kind: Name of the error.
        reason: Its message.
        failed_s: When, in seconds since 1970 by this device's clock.
    """

    key: PlanKey
    kind: str
    reason: str
    failed_s: float

    @property
    def when(self) -> str:
        """The time in words."""
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(self.failed_s))

    @property
    def is_old(self) -> bool:
        """Whether a start tries again by itself. A clock that is behind, as after power was lost, says no."""
        return time.time() - self.failed_s >= RETRY_S


def failure_file(folder: Path, key: PlanKey) -> Path:
    """Return where the failure of a build is kept."""
    return folder / f"{key.stem}{SUFFIX}"


def read_failure(path: Path) -> FailedBuild | None:
    """Return what a file says, None where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        failed = FailedBuild(
            key_from(content["key"]),
            str(content["kind"]),
            " ".join(str(content["reason"]).split()),
            float(content["failed_s"]),
        )
        time.localtime(failed.failed_s)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return failed


def find_failure(folder: Path, key: PlanKey) -> FailedBuild | None:
    """Return why the plan for a key is not to be built by itself, None where it may be."""
    found = read_failure(failure_file(folder, key))
    return found if found is not None and found.key == key and not found.is_old else None


def refuse_failed(folder: Path, key: PlanKey, command: str) -> None:
    """Refuse to build by itself what failed.

    Args:
        folder: The cache.
        key: Of the plan.
        command: What builds it all the same, for the message.

    Raises:
        FailedBeforeError: It failed, less than a day ago.
    """
    failed = find_failure(folder, key)
    if failed is not None:
        raise FailedBeforeError(
            f"The TensorRT plan of {key.model} in {key.precision} could not be built on {failed.when}: "
            f"{failed.reason.rstrip('.')}. To try again: {command}"
        )


def keep_failure(folder: Path, key: PlanKey, error: Exception) -> None:
    """Keep why a build failed; where the cache cannot be written it is tried again next time."""
    failed = FailedBuild(key, type(error).__name__, str(error), time.time())
    path = failure_file(folder, key)
    try:
        write_whole(path, json.dumps(dataclasses.asdict(failed), indent=1) + "\n")
    except OSError as problem:
        _log.warning("that the build of %s failed cannot be kept: %s", path.name, problem)


def forget_failure(folder: Path, key: PlanKey) -> None:
    """Delete what was kept, if anything was: a plan was built."""
    with suppress(OSError):  # where there is a plan nobody asks for it
        remove(failure_file(folder, key))
