"""Detections onto a picture: boxes with labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.overlay.drawing import Colour, Rectangle, Style, class_colour, drawable, text_box, text_size
from edge_mnv2.results import Detections


def draw_boxes(
    canvas: NDArray[np.uint8],
    detections: Detections,
    labels: Mapping[int, str],
    style: Style,
    taken: list[Rectangle],
) -> None:
    """Draw boxes with labels, in place; the best ones lie on top.

    Args:
        canvas: (H, W, 3) uint8 BGR.
        detections: Boxes in its pixels, best first.
        labels: Label by class id.
        style: Sizes.
        taken: Where no label may go.
    """
    import cv2

    corners = np.rint(detections.xyxy).astype(int).tolist()
    colours = [class_colour(class_id) for class_id in detections.class_id.tolist()]
    for (x1, y1, x2, y2), colour in reversed(list(zip(corners, colours, strict=True))):
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, style.line, cv2.LINE_AA)
    taken = list(taken)
    drawn: list[tuple[str, Rectangle, Colour]] = []
    for index, (box, colour) in enumerate(zip(corners, colours, strict=True)):
        class_id = int(detections.class_id[index])
        text = f"{drawable(labels.get(class_id, str(class_id)))} {detections.score[index]:.2f}"
        taken.append(_label_place(canvas, text, style, box, taken))
        drawn.append((text, taken[-1], colour))
    for text, place, colour in reversed(drawn):
        text_box(canvas, text, style, place, colour)


def _label_place(
    canvas: NDArray[np.uint8], text: str, style: Style, box: list[int], taken: list[Rectangle]
) -> Rectangle:
    """Return where a label goes: above its box, inside it, or below, wherever no better box's label is."""
    width, height = text_size(text, style)
    x1, y1, _, y2 = box
    left = max(0, min(x1, canvas.shape[1] - width))
    places = [
        (left, top, left + width, top + height)
        for top in (y1 - height, y1, y2 - height, y2)
        if 0 <= top <= canvas.shape[0] - height
    ]
    free = [place for place in places if not any(_overlap(place, other) for other in taken)]
    fallback = max(0, min(y1, canvas.shape[0] - height))
    return (free or places or [(left, fallback, left + width, fallback + height)])[0]


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
