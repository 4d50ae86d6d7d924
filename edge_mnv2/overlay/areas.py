"""A segmentation onto a picture: coloured areas with outlines, and a legend of the classes that are there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.overlay.drawing import DARK, Rectangle, Style, class_colour, drawable, text_box, text_size
from edge_mnv2.results import SegmentationMap
from edge_mnv2.segments import BACKGROUND, segments_of

_OPACITY = 0.5


def draw_areas(
    canvas: NDArray[np.uint8],
    found: SegmentationMap,
    labels: Mapping[int, str],
    style: Style,
    status: Rectangle | None,
) -> None:
    """Colour each class's area, outline it, and list the classes at the top right, the largest first.

    Args:
        canvas: (H, W, 3) uint8 BGR.
        found: The map; enlarged or reduced to the canvas where its resolution is another.
        labels: Label by class id.
        style: Sizes.
        status: Where the status line goes; on a small picture the legend begins below it.
    """
    import cv2

    height, width = canvas.shape[:2]
    segments = segments_of(found, width, height)
    if not segments:
        return
    class_id = found.class_id
    if class_id.shape != (height, width):
        class_id = cv2.resize(class_id, (width, height), interpolation=cv2.INTER_NEAREST)  # type: ignore[assignment] # cv2 forgets the type
    colours = np.array([class_colour(number) for number in range(256)], np.uint8)[:, None]
    painted = cv2.applyColorMap(class_id, colours)
    blended = cv2.addWeighted(canvas, 1 - _OPACITY, painted, _OPACITY, 0)
    cv2.copyTo(blended, (class_id != BACKGROUND).view(np.uint8), canvas)
    _outline(canvas, class_id, colours, style)
    entries = [(s.class_id, f"{_label(labels, s.class_id)} {_percent(s.share)}") for s in segments]
    widest = max(text_size(text, style)[0] for _, text in entries)
    is_beside = status is None or status[2] <= width - widest
    _legend(canvas, entries, style, top=0 if status is None or is_beside else status[3])


def _outline(
    canvas: NDArray[np.uint8], class_id: NDArray[np.uint8], colours: NDArray[np.uint8], style: Style
) -> None:
    """Draw a line in the class's own colour where an area ends; of two that touch, the higher number's."""
    import cv2

    kernel = np.ones((style.line + 1, style.line + 1), np.uint8)
    highest = cv2.dilate(class_id, kernel)
    edge = (highest != cv2.erode(class_id, kernel)).view(np.uint8)
    cv2.copyTo(cv2.applyColorMap(highest, colours), edge, canvas)


def _legend(canvas: NDArray[np.uint8], entries: list[tuple[int, str]], style: Style, top: int) -> None:
    for number, (class_id, text) in enumerate(entries):
        width, height = text_size(text, style)
        left = max(0, canvas.shape[1] - width)
        place = (left, top, left + width, top + height)
        if top + 2 * height > canvas.shape[0] and number + 1 < len(entries):
            text_box(canvas, f"+ {len(entries) - number}", style, place, DARK)
            return
        text_box(canvas, text, style, place, class_colour(class_id))
        top += height


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.005 else "<1%"


def _label(labels: Mapping[int, str], class_id: int) -> str:
    return drawable(labels.get(class_id, str(class_id)))
