"""The first load of a plan leaves a mark while it lasts, so that a plan that crashes does not do so for ever.

A mark is a line with the plan's hash, in a file that is locked while its writer lives. What ends in an
ordinary way, interrupted or not, takes its mark away. Lost power leaves one, too: one mark is forgiven.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from engines.errors import PlanGivenUpError
from engines.tensorrt.build_lock import lock_now
from engines.tensorrt.plan_sidecar import PlanFile, remove

SUFFIX = ".loading"
LIMIT = 2

_log = logging.getLogger(__name__)


@contextmanager
def first_load(plan: PlanFile) -> Iterator[None]:
    """Mark that a plan is loaded for the first time, for the length of a `with` block.

    Where another process does the same at this moment, or the mark cannot be kept, there is none.

    Raises:
        PlanGivenUpError: `LIMIT` first loads did not come back.
    """
    path = plan.path.with_suffix(SUFFIX)
    file = _open(path)
    if file is None:
        yield
        return
    with file:
        own = f"{plan.sha256}\n".encode()
        before = file.read()
        lost = before.count(own)
        if lost >= LIMIT:
            raise PlanGivenUpError(
                f"The TensorRT plan of {plan.key.model} in {plan.key.precision} is not used: "
                f"{lost} times it was loaded, and each time the process ended."
            )
        _mark(file, own)
        try:
            yield
        except BaseException:
            _unmark(file, path, len(before))
            raise
        _unmark(file, path, 0)


def _open(path: Path) -> FileIO | None:
    try:
        file = path.open("a+b", buffering=0)
        # Where the file system has no locks, the limit alone keeps two processes apart.
        if lock_now(file.fileno()) is False:
            file.close()
            return None
    except OSError as error:
        _log.debug("the first load leaves no mark: %s", error)
        return None
    file.seek(0)
    return file


def _mark(file: FileIO, line: bytes) -> None:
    with suppress(OSError):  # a full disk: then there is no mark
        file.write(line)
        os.fsync(file.fileno())  # it may be the whole device that crashes


def _unmark(file: FileIO, path: Path, size_bytes: int) -> None:
    """Cut the file off, for whoever has it open already, and delete it where nothing is left."""
    with suppress(OSError):
        file.truncate(size_bytes)
        if size_bytes == 0:
            remove(path)
