"""A slot for one item: the newest wins, the one it displaces is released."""

from __future__ import annotations

import threading
from typing import Generic, Protocol, TypeVar


class Releasable(Protocol):
    """Something that owns a buffer."""

    def release(self) -> None:
        """Give the buffer back."""
        ...


T = TypeVar("T", bound=Releasable)


class SlotClosedError(Exception):
    """The slot was closed and is empty; `__cause__` is what the producer failed with, if it failed."""


class LatestSlot(Generic[T]):
    """Hands the newest item from one thread to another, so that latency cannot build up.

    Attributes:
        dropped: Items that were displaced by newer ones, or put after `close`.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._item: T | None = None
        self._closed = False
        self._cause: BaseException | None = None
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Offer an item. The slot owns it from here: it is released if a newer one comes before `get`."""
        with self._changed:
            displaced = item if self._closed else self._item
            if not self._closed:
                self._item = item
            if displaced is not None:
                self.dropped += 1
            self._changed.notify()
        if displaced is not None:
            displaced.release()

    def get(self, timeout: float) -> T | None:
        """Take the newest item; the caller releases it.

        Args:
            timeout: Seconds to wait.

        Returns:
            The item, or None when none came in time.

        Raises:
            SlotClosedError: The slot is closed and its last item was taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed, timeout)
            item, self._item = self._item, None
            if item is None and self._closed:
                raise SlotClosedError from self._cause
            return item

    def drop(self) -> None:
        """Release and count the item that nobody took, if there is one."""
        with self._changed:
            item, self._item = self._item, None
            self.dropped += item is not None
        if item is not None:
            item.release()

    def close(self, cause: BaseException | None = None) -> None:
        """End the stream; the last item can still be taken. Only the first call's cause counts."""
        with self._changed:
            if not self._closed:
                self._closed, self._cause = True, cause
            self._changed.notify_all()
