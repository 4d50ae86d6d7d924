"""What a camera sees now: counts by label, and classes that count as seen for a while after."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Objects:
    """Decides when something about a camera's objects is to be told. Any thread may use it.

    That a class appears or has gone is told at once; a count that changed, at most every `interval_s`.

    Attributes:
        classes: Labels that are always told, and held.
        hold_s: So long after it was last seen, a class counts as seen.
        interval_s: Shortest time between two changes of counts.
    """

    classes: Sequence[str]
    hold_s: float
    interval_s: float
    _counts: Mapping[str, int] = field(default_factory=dict)
    _seen_s: dict[str, float] = field(default_factory=dict)
    _told: dict[str, object] | None = None
    _told_s: float = 0.0
    _is_fresh: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def update(self, counts: Mapping[str, int], now_s: float) -> dict[str, object] | None:
        """Take what a frame shows; return what is to be told, None for nothing.

        Args:
            counts: Objects by label; empty while the camera is away.
            now_s: `time.monotonic` domain.
        """
        with self._lock:
            self._is_fresh = True
            self._counts = counts
            self._seen_s.update({label: now_s for label in self.classes if counts.get(label)})
            return self._news(now_s)

    def tick(self, now_s: float) -> dict[str, object] | None:
        """Let time pass; return what is to be told, None for nothing."""
        with self._lock:
            return self._news(now_s)

    def repeat(self) -> dict[str, object] | None:
        """Return what was told last, if the camera was heard of since the last call; else it may expire."""
        with self._lock:
            is_fresh, self._is_fresh = self._is_fresh, False
            return self._told if is_fresh else None

    def _news(self, now_s: float) -> dict[str, object] | None:
        seen = {
            label: label in self._seen_s and now_s - self._seen_s[label] <= self.hold_s
            for label in self.classes
        }
        counts = {**dict.fromkeys(self.classes, 0), **self._counts}
        news: dict[str, object] = {"counts": counts, "seen": seen}
        if self._told is not None:
            is_due = now_s - self._told_s >= self.interval_s
            if news == self._told or (seen == self._told["seen"] and not is_due):
                return None
        self._told, self._told_s = news, now_s
        return news
