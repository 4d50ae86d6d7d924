"""A thread whose failure is not lost: it ends, and whoever relies on it hears why."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Worker:
    """Runs a function in a daemon thread from now on.

    Args:
        target: The function; it must return soon after whatever it waits for says so.
        name: Of the thread, for debuggers.

    Attributes:
        error: What the function failed with, None while it has not.
    """

    def __init__(self, target: Callable[[], None], name: str) -> None:
        self.error: BaseException | None = None
        self._target = target
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what the function failed with, if it failed."""
        if self.error is not None:
            raise self.error

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; return whether it came in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._target()
        except BaseException as error:  # noqa: BLE001 - nothing is swallowed: check() raises it in the caller's thread
            self.error = error
