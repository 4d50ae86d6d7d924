"""One camera of a daemon: it runs, or waits to be started again, or has come to its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from camera import CameraError
from edge_mnv2.camera_run import CameraRun
from edge_mnv2.errors import OutputPathError, RunError
from edge_mnv2.predictor import Predictor
from edge_mnv2.run_summary import RunSummary
from edge_mnv2.settings import CameraSettings
from edge_mnv2.sinks.base import SinkSpec
from edge_mnv2.threads import Worker

# A loop that could not begin is started again after pauses that double.
_FIRST_PAUSE_S, _MAX_PAUSE_S = 1.0, 30.0

_log = logging.getLogger(__name__)

MakeRun = Callable[[str, CameraSettings], CameraRun]
MakeViews = Callable[[CameraRun, Predictor], list[SinkSpec]]
TellEnd = Callable[[str, RunSummary | Exception | None], None]


class Member:
    """A camera that is not started yet; one thread uses it.

    Args:
        run: Its parts.
        predictor: Its own view of the shared engine.
        views: Outputs that are not files of its own.

    Attributes:
        run: As above; another one after each start.
        predictor: As above.
        views: As above, for the next start or `write_elsewhere`.
        summary: What its loop did; None while it runs.
    """

    def __init__(self, run: CameraRun, predictor: Predictor, views: list[SinkSpec]) -> None:
        self.run = run
        self.predictor = predictor
        self.views = views
        self.summary: RunSummary | None = None
        self._worker: Worker | None = None
        self._refusal: CameraError | OutputPathError | None = None
        self._pause_s = _FIRST_PAUSE_S
        self._start_at_s: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it has come to its end for good."""
        return self._worker is None and self._start_at_s is None

    @property
    def has_failed(self) -> bool:
        """Whether it was given up, rather than came to its end."""
        return self.has_ended and self.summary is not None and bool(self.summary.cause)

    def begin(self, kept: Sequence[Path]) -> None:
        """Start the loop in a thread of its own.

        Args:
            kept: Files that no output may take the place of.
        """
        self._start_at_s, self._refusal = None, None
        run, sinks_for = self.run, self.run.sinks_for(kept, self.views)

        def loop() -> None:
            try:
                self.summary = run.loop(self.predictor, sinks_for)
            except (CameraError, OutputPathError) as error:
                self._refusal = error

        self._worker = Worker(loop, f"loop {run.name}")

    def tick(self, kept: Sequence[Path], make_run: MakeRun, make_views: MakeViews, tell_end: TellEnd) -> None:
        """See whether the loop has ended, and start one again that could not begin.

        Args:
            kept: As of `begin`.
            make_run: Makes the parts for another start.
            make_views: Describes the outputs that are not files of its own.
            tell_end: Told how a loop has ended.

        Raises:
            RunError: The engine failed: the whole process should start anew.
        """
        if self._worker is not None and self._worker.join(0):
            self._note_end(self._worker, tell_end)
        elif self._start_at_s is not None and time.monotonic() >= self._start_at_s:
            try:
                self.run = make_run(self.run.name, self.run.settings)
            except (CameraError, OutputPathError) as error:
                self._wait(error)
                return
            self.views = make_views(self.run, self.predictor)
            self.begin(kept)

    def write_elsewhere(self, kept: Sequence[Path]) -> None:
        """Let the running loop write what settings and views say now; what did not change goes on."""
        self.run.change_outputs(kept, self.views)

    def stop(self) -> None:
        """Ask the loop to end."""
        self.run.control.stop.set()

    def close(self, deadline_s: float) -> bool:
        """Wait for the loop's end, until `deadline_s` of `time.monotonic`; return whether it came."""
        is_over = self._worker is None or self._worker.join(max(0.0, deadline_s - time.monotonic()))
        if not is_over:
            _log.error("the loop of the camera %s does not end", self.run.name or self.run.settings.source)
        self.run.close()
        return is_over

    def _note_end(self, worker: Worker, tell_end: TellEnd) -> None:
        worker.check()
        self._worker = None
        tell_end(self.run.name, self.summary or self._refusal)
        if self._refusal is not None:
            self.run.close()
            self._wait(self._refusal)
        elif self.summary is not None and self.summary.has_engine_failed:
            raise RunError(self.summary.cause)

    def _wait(self, reason: Exception) -> None:
        _log.error("%s%s", self.run.control.prefix, reason)
        self.run.meter.waits(str(reason))
        self._start_at_s = time.monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, _MAX_PAUSE_S)
