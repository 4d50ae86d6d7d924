"""One engine that several cameras use in turn: first come, first served."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from edge_mnv2.successor import Successor
from engines import Engine

_log = logging.getLogger(__name__)


class EngineTurns:
    """Hands out an engine to one thread at a time, and lets its successor take over between two turns.

    A plain lock is not fair: the thread that gives it back may take it again before another one wakes up, and
    a fast camera would starve a slow one.

    Args:
        engine: `close` closes it.
        precision: Of its graph.
        successor: Of the engine, from when it is ready; None where there will be none.

    Attributes:
        backend: Of the engine that serves now.
        precision: Of its graph.
    """

    def __init__(self, engine: Engine, precision: str, successor: Successor | None = None) -> None:
        self.backend = engine.backend
        self.precision = precision
        self._engine = engine
        self._successor = successor
        self._failure: Exception | None = None
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def turn(self) -> Iterator[Engine]:
        """Wait for one's turn, and have the engine until the block ends.

        Raises:
            EngineError: The successor is required, and could not be made.
            PlanRefusedError: Its plan disagrees with ONNX Runtime.
        """
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting[0] is ticket)
            self._take_over()
            yield self._engine
        finally:
            with self._changed:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def close(self) -> None:
        """Close the engine, and give up one that is still being made. Nobody may have a turn any more."""
        if self._successor is not None:
            self._successor.close()
        self._engine.close()

    def _take_over(self) -> None:
        """Let the successor take over, if it is ready: between two frames nobody uses the engine."""
        if self._successor is None:
            return
        if self._failure is not None:
            raise self._failure
        try:
            opened = self._successor.take()
        except Exception as error:
            self._failure = error  # required, and for every camera
            raise
        if opened is None:
            return
        self._engine.close()
        self._engine, self.precision = opened.engine, opened.precision
        self.backend = opened.engine.backend
        self._successor = None
        _log.info("engine: %s, %s, takes over from here", self.backend, self.precision)
