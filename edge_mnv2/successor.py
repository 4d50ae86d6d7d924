"""An engine that is being made while another one serves: it takes over between two frames."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from edge_mnv2.backends import Opened, first_line
from edge_mnv2.errors import EdgeMnv2Error
from edge_mnv2.threads import Worker
from engines import BuildCancelledError, EngineError

# A device may take long to load what is built, and what is left running ends with the process, at any point.
_CLOSE_S = 60.0

_log = logging.getLogger(__name__)


class Successor:
    """Makes an engine in a thread of its own.

    Args:
        make: Opens the engine; it watches the event it is given, which says that nobody wants it any more.
        is_required: Whether to fail where it cannot be made; else that is a warning, and the other engine
            goes on.
        remedy: What to do where it is given up before it was made, for the log.
    """

    def __init__(
        self, make: Callable[[threading.Event], Opened], *, is_required: bool, remedy: str = ""
    ) -> None:
        self._make = make
        self._remedy = remedy
        self._is_required = is_required
        self._cancel = threading.Event()
        self._opened: Opened | None = None
        self._worker: Worker | None = Worker(self._run, "TensorRT plan")

    def take(self) -> Opened | None:
        """Return the engine once, when it is ready; None before, afterwards, and where it could not be made.

        Raises:
            EngineError, EdgeMnv2Error: It could not be made, and is required.
        """
        if self._worker is None or not self._worker.join(0):
            return None
        worker, self._worker = self._worker, None
        try:
            worker.check()
        except (EngineError, EdgeMnv2Error) as error:
            if self._is_required:
                raise
            _log.warning("ONNX Runtime goes on: %s", first_line(error))
            return None
        opened, self._opened = self._opened, None
        return opened

    def close(self) -> None:
        """Give up what is being made, and close what nobody took."""
        self._cancel.set()
        if self._worker is None:
            return
        worker, self._worker = self._worker, None
        is_pending = not worker.join(0)
        if not worker.join(_CLOSE_S):
            _log.error("the builder of the TensorRT plan does not stop")
        elif worker.error is not None and not isinstance(worker.error, BuildCancelledError):
            _log.error("TensorRT did not take over: %s", worker.error)
        elif is_pending:
            _log.info("TensorRT did not take over before the end. %s", self._remedy)
        if self._opened is not None:
            self._opened.engine.close()
            self._opened = None

    def _run(self) -> None:
        opened = self._make(self._cancel)
        if self._cancel.is_set():  # nobody waits for it any more
            opened.engine.close()
        else:
            self._opened = opened
