"""Rates and durations of the last moments, as the page shows them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import median

_WINDOW_NS = 2_000_000_000
# A source of a thousand frames a second must not make this grow.
_MOST = 256


class Meters:
    """Collects what each frame took. One thread at a time uses it."""

    def __init__(self) -> None:
        self._frames: deque[tuple[int, float, Mapping[str, float]]] = deque(maxlen=_MOST)
        self.frames = 0

    def add(self, now_ns: int, age_ms: float, stages_ms: Mapping[str, float]) -> None:
        """Note one frame."""
        self.frames += 1
        self._frames.append((now_ns, age_ms, stages_ms))

    def fps(self, now_ns: int) -> float | None:
        """Return results per second in Hz, None before there are two.

        Over the last two seconds, or over the last two results if they are further apart. It falls while none
        comes.
        """
        if self.frames < 2:
            return None
        recent = [at_ns for at_ns, _, _ in self._frames if now_ns - at_ns <= _WINDOW_NS]
        if len(recent) < 2:
            before_ns, last_ns = self._frames[-2][0], self._frames[-1][0]
            return 1e9 / max(last_ns - before_ns, now_ns - last_ns, 1)
        interval_ns = (recent[-1] - recent[0]) / (len(recent) - 1)
        silent_ns = now_ns - recent[-1]
        end_ns = now_ns if silent_ns > 2 * interval_ns else recent[-1]
        return (len(recent) - 1) * 1e9 / max(end_ns - recent[0], 1)

    def medians(self, now_ns: int) -> tuple[float | None, dict[str, float]]:
        """Return the median age, and the median duration by stage, in ms.

        Of the last two seconds, or of the last result if it is older.
        """
        recent = [frame for frame in self._frames if now_ns - frame[0] <= _WINDOW_NS]
        frames = recent or list(self._frames)[-1:]
        if not frames:
            return None, {}
        stages: dict[str, list[float]] = {}
        for _, _, stages_ms in frames:
            for stage, duration_ms in stages_ms.items():
                stages.setdefault(stage, []).append(duration_ms)
        medians = {stage: median(durations_ms) for stage, durations_ms in stages.items()}
        return median(age_ms for _, age_ms, _ in frames), medians
