"""How far a build of a model may be from its float32 build: as good for every practical purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """What a figure must keep to.

    Attributes:
        figure: Its name.
        bound: The value.
        is_smallest: Whether the figure must be at least `bound`, else at most.
    """

    figure: str
    bound: float
    is_smallest: bool

    def in_words(self) -> str:
        """Return the limit as a sentence has it: `at most 0.06`."""
        return f"{'at least' if self.is_smallest else 'at most'} {self.bound:g}"


LIMITS = {
    "detect": (
        Limit("missed", 0.06, is_smallest=False),
        Limit("extra", 0.06, is_smallest=False),
        Limit("matched_iou", 0.9, is_smallest=True),
        Limit("score_drift", 0.06, is_smallest=False),
    ),
    "segment": (
        Limit("pixel_agreement", 0.97, is_smallest=True),
        Limit("mask_iou", 0.85, is_smallest=True),
    ),
    "classify": (
        # On pictures of whole scenes the first two classes are often close: more changes than matters.
        Limit("top1_agreement", 0.85, is_smallest=True),
        Limit("score_drift", 0.1, is_smallest=False),
    ),
}


def failed_limits(task: str, figures: Mapping[str, float]) -> tuple[str, ...]:
    """Return a sentence for each limit that a task's figures break; a figure that is absent breaks none."""
    return tuple(
        _sentence(limit, figures[limit.figure])
        for limit in LIMITS[task]
        if limit.figure in figures and not _is_kept(limit, figures[limit.figure])
    )


def _is_kept(limit: Limit, value: float) -> bool:
    return value >= limit.bound if limit.is_smallest else value <= limit.bound


def _sentence(limit: Limit, value: float) -> str:
    return f"{limit.figure} is {value:.4f}, and must be {limit.in_words()}."
