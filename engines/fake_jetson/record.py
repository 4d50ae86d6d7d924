"""What happened on a fake device: how often each routine was called, and what must never happen."""

from __future__ import annotations

import threading
from collections import Counter


class Record:
    """Counts and findings of one fake device; safe from every thread.

    Attributes:
        calls: Number of calls by name: `cuMemAlloc`, `cuStreamSynchronize`, `execute_async_v3`, ...
        violations: One sentence for each use that the real libraries answer with a crash, with corrupted
            memory, with a leak, or by chance.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.violations: list[str] = []
        self._lock = threading.Lock()

    def count(self, name: str) -> None:
        """Count one call."""
        with self._lock:
            self.calls[name] += 1

    def violation(self, text: str, thread_name: str | None = None) -> None:
        """Write down what must never happen.

        Args:
            text: What happened.
            thread_name: Where; None for this thread. A thread that is ending no longer knows its name.
        """
        where = thread_name or threading.current_thread().name
        with self._lock:
            self.violations.append(f"{text} (thread {where})")
