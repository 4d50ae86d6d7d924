"""Wakes a thread that waits for a descriptor."""

from __future__ import annotations

import os
import threading
from contextlib import suppress


class Waker:
    """A pipe: whoever writes ends the waiting of the one who reads.

    Attributes:
        descriptor: Can be read when somebody has called `wake`; -1 when closed.
    """

    def __init__(self) -> None:
        self.descriptor, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # A closed descriptor's number may soon be another's: nobody may write to it then.
        self._lock = threading.Lock()

    def wake(self) -> None:
        """End the present waiting, or the next one. Any thread may; after `close` it does nothing."""
        with self._lock, suppress(BlockingIOError):  # it is full: the thread wakes up anyway
            if self._write_end >= 0:
                os.write(self._write_end, b"\0")

    def drain(self) -> None:
        """Make the descriptor wait again."""
        with suppress(BlockingIOError):
            os.read(self.descriptor, 4096)

    def close(self) -> None:
        """Free the pipe; only the thread that waits may."""
        with self._lock:
            os.close(self.descriptor)
            os.close(self._write_end)
            self.descriptor = self._write_end = -1
