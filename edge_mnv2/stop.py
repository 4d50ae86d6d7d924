"""Requests to stop: Ctrl-C, SIGTERM, and the terminal that goes away."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Turns signals into an event that commands look at between two frames; a second one interrupts at once.

    Without an exception, from the first line of the program on: raised inside the import of a vendor library,
    it would be swallowed or reported as that library's failure.

    Attributes:
        event: Set by the first signal. Nobody may wait for it in the main thread, where the handler runs.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self._at_once = False
        self._on_hangup: Callable[[], None] | None = None
        self._was_hung_up = False

    def catch_signals(self) -> None:
        """Install the handler for SIGINT, SIGTERM and, unless `nohup` has it ignored, SIGHUP."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._request)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._hang_up)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let the first signal interrupt with KeyboardInterrupt, too: for work that has no frames.

        Raises:
            KeyboardInterrupt: A stop was asked for before.
        """
        self._at_once = True
        try:
            if self.event.is_set():
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

    def on_hangup(self, act: Callable[[], None] | None = None) -> None:
        """Decide what SIGHUP means: to stop, or this; until then it waits.

        The terminal that goes away ends most commands, but a daemon is told so to read its settings again,
        and that must not end it because it came early.
        """
        self._on_hangup = act or self.event.set
        if self._was_hung_up:
            self._on_hangup()

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        self._was_hung_up = True
        if self._on_hangup == self.event.set:
            self._request(number, frame)
        elif self._on_hangup is not None:
            self._on_hangup()

    def _request(self, number: int, frame: FrameType | None) -> None:
        is_second = self.event.is_set()
        self.event.set()
        if is_second or self._at_once:
            signal.default_int_handler(number, frame)
