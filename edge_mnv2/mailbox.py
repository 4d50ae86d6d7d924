"""What other threads leave for a loop, until it comes by: bounded, the oldest goes first."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

# Whatever floods it, a camera that comes and goes all the time, must not fill the memory.
_MOST_WAITING = 64


class Mailbox(Generic[T]):
    """Takes items from any thread; one takes them out."""

    def __init__(self) -> None:
        self._items: deque[T] = deque(maxlen=_MOST_WAITING)
        self._lock = threading.Lock()

    def put(self, item: T) -> None:
        """Add an item; the oldest goes where nobody takes them."""
        with self._lock:
            self._items.append(item)

    def take(self) -> list[T]:
        """Return what came since the last call."""
        if not self._items:  # looked at between any two frames: without a lock
            return []
        with self._lock:
            items = list(self._items)
            self._items.clear()
        return items
