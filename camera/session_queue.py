"""What waits to be recorded: bounded, the oldest frame goes first and leaves a note."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from camera.session_entries import DroppedEntry, Entry

# 24 frames of 1280x720, 72 of 640x480.
_MAX_BYTES = 64 * 1024 * 1024
_MAX_ENTRIES = 10_000

Item = tuple[Entry, NDArray[np.uint8] | None]


class SessionQueue:
    """Hands entries, and the pixels of those that are frames, from any thread to the one that writes.

    Attributes:
        dropped: Frames that were not handed over.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._deadline_s: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more is taken."""
        return self._deadline_s is not None

    def wait_for_room(self, size_bytes: int) -> None:
        """Wait until a frame of this size can be put without dropping another, or it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(size_bytes) or self.is_over)

    def put(self, entry: Entry, image: NDArray[np.uint8] | None = None) -> bool:
        """Add an entry at once, with its pixels, the queue's from here; return whether it was taken."""
        with self._changed:
            if self.is_over:
                return False
            size_bytes = 0 if image is None else image.nbytes
            while not self._has_room(size_bytes) and self._drop_oldest():
                pass
            self._items.append((entry, image))
            self._bytes += size_bytes
            self._changed.notify_all()
        return True

    def get(self) -> Item | None:
        """Wait for the next entry; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self.is_over)
            if not self._items or (self._deadline_s is not None and time.monotonic() > self._deadline_s):
                return None
            entry, image = self._items.popleft()
            self._bytes -= 0 if image is None else image.nbytes
            self._changed.notify_all()
            return entry, image

    def finish(self, timeout_s: float) -> None:
        """Take nothing more; what waits can be had for so long."""
        with self._changed:
            if self._deadline_s is None:
                self._deadline_s = time.monotonic() + timeout_s
            self._changed.notify_all()

    def discard(self) -> None:
        """Take nothing more, and drop what waits."""
        self.finish(0)
        with self._changed:
            self.dropped += sum(image is not None for _, image in self._items)
            self._items.clear()
            self._bytes = 0

    def _has_room(self, size_bytes: int) -> bool:
        fits = self._bytes + size_bytes <= _MAX_BYTES and len(self._items) < _MAX_ENTRIES
        return fits or not self._items

    def _drop_oldest(self) -> bool:
        """Put a note in the place of the oldest frame; return whether there was one.

        Where only small entries wait, the oldest goes without a note: that many wait only where a disk hangs.
        """
        items = self._items
        index = next((index for index, (_, image) in enumerate(items) if image is not None), None)
        if index is None:
            if len(items) >= _MAX_ENTRIES:
                items.popleft()
            return False
        entry, image = items[index]
        self._bytes -= 0 if image is None else image.nbytes
        self.dropped += 1
        before = items[index - 1][0] if index else None
        if isinstance(before, DroppedEntry):
            items[index - 1] = replace(before, frames=before.frames + 1), None
            del items[index]
        else:
            items[index] = DroppedEntry(entry.received_ns, 1), None
        return True
