"""Several cameras side by side: a loop for each, in a thread of its own, on one engine that they share."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from camera import AccessDeniedError, CameraError, SourceNotFoundError, UnsupportedSourceError
from edge_mnv2.errors import EdgeMnv2Error, RequestError, RunError
from edge_mnv2.run_summary import RunSummary
from edge_mnv2.threads import Worker

# How long a signal may wait for its handler, which runs between two joins.
_POLL_S = 0.2
# What the user can put right.
_WRONG = (RequestError, SourceNotFoundError, UnsupportedSourceError, AccessDeniedError)

_log = logging.getLogger(__name__)


def run_side_by_side(
    loops: Mapping[str, Callable[[], RunSummary]], stop: threading.Event
) -> dict[str, RunSummary]:
    """Run each camera's loop until all of them have ended.

    A camera that cannot be opened leaves the others alone: its summary says why.

    Args:
        loops: By name of the camera; each ends soon after `stop` is set.
        stop: Set here where a loop fails with an error that is nobody's but ours.

    Returns:
        Their summaries, by name.

    Raises:
        RequestError, RunError: Not one of them could begin: each was told to do what it cannot, or failed.
    """
    workers = {name: _Loop(name, loop) for name, loop in loops.items()}
    pause_s = _POLL_S / len(workers)
    while sum(worker.join(pause_s) for worker in workers.values()) < len(workers):
        if any(worker.bug is not None for worker in workers.values()):
            stop.set()
    for worker in workers.values():
        if worker.bug is not None:
            raise worker.bug
    refusals = [worker.refusal for worker in workers.values() if worker.refusal is not None]
    if len(refusals) == len(workers):
        is_request = all(isinstance(refusal, _WRONG) for refusal in refusals)
        # Why, each of them has said.
        raise (RequestError if is_request else RunError)("None of the cameras could begin.") from refusals[0]
    return {name: worker.summary for name, worker in workers.items()}


class _Loop:
    """One camera's loop in its thread.

    Attributes:
        summary: What it did.
        refusal: Why it could not begin, if it could not.
        bug: What it should never fail with, if it did.
    """

    def __init__(self, name: str, loop: Callable[[], RunSummary]) -> None:
        self.summary = RunSummary()
        self.refusal: CameraError | EdgeMnv2Error | None = None
        self._name = name
        self._loop = loop
        self._worker = Worker(self._run, f"loop {name}")

    @property
    def bug(self) -> BaseException | None:
        return self._worker.error

    def join(self, timeout_s: float) -> bool:
        return self._worker.join(timeout_s)

    def _run(self) -> None:
        try:
            self.summary = self._loop()
        except (CameraError, EdgeMnv2Error) as error:
            _log.error("%s: %s", self._name, error)
            self.refusal = error
            self.summary.failures.append(str(error))
