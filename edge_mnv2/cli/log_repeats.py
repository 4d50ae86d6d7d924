"""Says a message that comes again and again once, and later how often it came."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

_FIRST_WINDOW_S, _MAX_WINDOW_S = 60.0, 3600.0
# More different messages than this at a time are no repeats.
_MOST_MESSAGES = 200

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Repeated(Generic[K]):
    """What is to be printed.

    Attributes:
        message: The message.
        count: How often it was left out since it was last spoken of; 0: print the message itself.
        is_last: Whether nothing else was printed in between.
    """

    message: K
    count: int
    is_last: bool


@dataclass(slots=True)
class _Window:
    ends_s: float
    length_s: float
    left_out: int = 0


class Repeats(Generic[K]):
    """Decides what is printed; a message is anything that can be a key.

    The first of equal messages is printed, the others are counted. Their number is told when another message
    is printed next, or when the window is over: a minute, then twice as long as before, an hour at most.
    What was printed and what was counted add up to what was taken.
    """

    def __init__(self) -> None:
        self._windows: OrderedDict[K, _Window] = OrderedDict()
        self._last: K | None = None

    def take(self, message: K, now_s: float) -> list[Repeated[K]]:
        """Return what is to be printed now that a message came, in order.

        Args:
            message: What came.
            now_s: Of a clock that never goes back.
        """
        told = self.due(now_s)
        window = self._windows.get(message)
        if window is not None:
            window.left_out += 1
            return told
        if len(self._windows) >= _MOST_MESSAGES:
            oldest, given_up = self._windows.popitem(last=False)
            told += self._tell(oldest, given_up)
        if self._last is not None and self._last in self._windows:
            told += self._tell(self._last, self._windows[self._last])
        self._windows[message] = _Window(now_s + _FIRST_WINDOW_S, _FIRST_WINDOW_S)
        self._last = message
        return [*told, Repeated(message, 0, is_last=False)]

    def due(self, now_s: float) -> list[Repeated[K]]:
        """Return what is to be printed because windows are over."""
        told = []
        for message, window in list(self._windows.items()):
            if now_s < window.ends_s:
                continue
            if window.left_out:
                window.length_s = min(window.length_s * 2, _MAX_WINDOW_S)
                window.ends_s = now_s + window.length_s
                told += self._tell(message, window)
            else:
                del self._windows[message]
        return told

    def flush(self) -> list[Repeated[K]]:
        """Return all that was counted and not told yet, and forget every message."""
        told = [line for message, window in self._windows.items() for line in self._tell(message, window)]
        self._windows.clear()
        self._last = None
        return told

    def _tell(self, message: K, window: _Window) -> list[Repeated[K]]:
        if not window.left_out:
            return []
        line = Repeated(message, window.left_out, is_last=message == self._last)
        window.left_out, self._last = 0, message
        return [line]
