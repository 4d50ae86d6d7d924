"""TensorRT's messages: into the log, and kept where they explain a failure."""

from __future__ import annotations

import logging
from collections import deque
from functools import cache
from typing import Any

_log = logging.getLogger(__name__)

_KEPT = 5


@cache
def logger_of(trt: Any) -> Any:  # noqa: ANN401 - tensorrt has no types
    """Return the logger for a module tensorrt, always the same.

    TensorRT has one logger per process: it keeps the first that it is given, and only warns about another. It
    answers failures with None or False, and says why to the logger alone: `take_reason()`.
    """

    class Logger(trt.ILogger):  # type: ignore[misc] # its base is known at run time only
        """Hands messages on."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: deque[str] = deque(maxlen=_KEPT)

        def log(self, severity: Any, message: str) -> None:  # noqa: ANN401 - tensorrt has no types
            """Take one message, from any thread."""
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self._errors.append(" ".join(message.split()))
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR, trt.ILogger.WARNING):
                _log.debug("TensorRT: %s", message)

        def take_reason(self) -> str:
            """Return the last errors as one line, newest last, and forget them."""
            errors = list(self._errors)
            self._errors.clear()
            return " / ".join(errors) or "it gave no reason"

    return Logger()
