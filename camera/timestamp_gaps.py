"""How many frames were lost between two that came, by their timestamps: an estimate.

For sources that stamp their frames but do not count them where they are lost.
"""

from __future__ import annotations

from collections import deque
from statistics import median

# A frame may come so much too early or too late, as part of an interval.
_TOLERANCE = 0.25
_WINDOW = 15
_LEAST = 8
# So much of the window has to keep the rate, or there is none.
_STEADY = 0.6
# More frames than this in a row that are not in time are another rate.
_MOST_IN_A_ROW = 3


def lost_between(passed_ns: float, interval_ns: float) -> int:
    """Return how many frames a gap lacks: one of n intervals lacks n - 1.

    Args:
        passed_ns: From one frame to the next that came.
        interval_ns: Between two frames where none is lost; positive.
    """
    intervals = passed_ns / interval_ns
    return round(intervals) - 1 if intervals >= 2 - _TOLERANCE else 0


class SteadyGaps:
    """Counts lost frames of a source that says nothing of its present rate, which may change.

    In dim light a camera exposes for longer, and halves its rate: no frame is lost then. So a gap counts only
    against the median of the last intervals, only while most of these are alike, and only once the rate is
    back. What is lost for as long as a rate lasts (every second frame) looks like a lower rate, and is not
    counted: there is no telling by timestamps.
    """

    def __init__(self) -> None:
        self._last_ns: int | None = None
        self._intervals_ns: deque[int] = deque(maxlen=_WINDOW)
        self._odd_ns: list[int] = []  # intervals since the last frame that was in time

    def lost_before(self, stamp_ns: int) -> int:
        """Return how many frames turn out to be lost now that this one came.

        A gap is told with the next frame that is in time, mostly the second one after it.

        Args:
            stamp_ns: When it was taken, by any steady clock; one that goes back begins anew.
        """
        last_ns, self._last_ns = self._last_ns, stamp_ns
        if last_ns is None or stamp_ns <= last_ns:
            self._intervals_ns.clear()
            self._odd_ns.clear()
            return 0
        passed_ns = stamp_ns - last_ns
        interval_ns = self._interval_ns()
        self._intervals_ns.append(passed_ns)
        if interval_ns is None:
            self._odd_ns.clear()
            return 0
        if abs(passed_ns - interval_ns) > _TOLERANCE * interval_ns:
            self._odd_ns.append(passed_ns)
            return 0
        odd_ns, self._odd_ns = self._odd_ns, []
        if len(odd_ns) > _MOST_IN_A_ROW:
            return 0
        # The frame after one that was late comes early: together they lack nothing.
        together = round(sum(odd_ns) / interval_ns) - len(odd_ns)
        return max(0, min(together, sum(lost_between(one, interval_ns) for one in odd_ns)))

    def _interval_ns(self) -> float | None:
        """Return the time between two frames, None where there is no steady one."""
        if len(self._intervals_ns) < _LEAST:
            return None
        middle_ns = median(self._intervals_ns)
        alike = sum(abs(one - middle_ns) <= _TOLERANCE * middle_ns for one in self._intervals_ns)
        return middle_ns if alike >= _STEADY * len(self._intervals_ns) else None
