"""Drawing results onto pictures. It only draws: thresholds and class filters belong to decoding."""

from __future__ import annotations

import colorsys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.results import Detections

Colour = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]

_FONT = 0  # cv2.FONT_HERSHEY_SIMPLEX, whose capitals are 21 pixels high at scale 1
_CAPITAL_HEIGHT = 21
_MIN_TEXT, _MAX_TEXT = 8, 60
_GOLDEN_RATIO = 0.618033988749895


@dataclass(frozen=True, slots=True)
class Hud:
    """What the line at the top says.

    Attributes:
        fps: Results per second, None before it is known.
        latency_ms: From capture to result.
        dropped: Frames dropped so far.
    """

    fps: float | None
    latency_ms: float
    dropped: int

    def lines(self) -> tuple[str, str, str]:
        """Return the line, whole and shortened: the longest that fits is drawn."""
        fps = "-- FPS" if self.fps is None else f"{self.fps:.1f} FPS"
        latency = f"{self.latency_ms:.0f} ms"
        return f"{fps}  {latency}  dropped {self.dropped}", f"{fps}  {latency}", fps


@dataclass(frozen=True, slots=True)
class _Style:
    """Sizes that follow from the picture's: the same drawing at 160x120 and at 4K."""

    scale: float
    thickness: int
    line: int
    padding: int


def draw_overlay(
    canvas: NDArray[np.uint8], detections: Detections, labels: Mapping[int, str], hud: Hud | None = None
) -> None:
    """Draw boxes with labels, and the status line at the top left, onto a picture, in place.

    Args:
        canvas: (H, W, 3) uint8 BGR.
        detections: Boxes in its pixels, best first.
        labels: Label by class id.
        hud: What the status line says; None for none.
    """
    import cv2

    style = _style(canvas)
    line, status = ("", None) if hud is None else _hud_place(canvas, hud, style)
    corners = np.rint(detections.xyxy).astype(int).tolist()
    colours = [class_colour(class_id) for class_id in detections.class_id.tolist()]
    # Worst first, so that the best box and its label lie on top.
    for (x1, y1, x2, y2), colour in reversed(list(zip(corners, colours, strict=True))):
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, style.line, cv2.LINE_AA)
    taken: list[Rectangle] = [] if status is None else [status]
    drawn: list[tuple[str, Rectangle, Colour]] = []
    for index, (box, colour) in enumerate(zip(corners, colours, strict=True)):
        class_id = int(detections.class_id[index])
        text = f"{_drawable(labels.get(class_id, str(class_id)))} {detections.score[index]:.2f}"
        taken.append(_label_place(canvas, text, style, box, taken))
        drawn.append((text, taken[-1], colour))
    for text, place, colour in reversed(drawn):
        _text_box(canvas, text, style, place, colour)
    if status is not None:
        _text_box(canvas, line, style, status, (32, 32, 32))


@lru_cache(maxsize=256)
def class_colour(class_id: int) -> Colour:
    """Return a class's colour in BGR: the same in every frame and run, far from its neighbours'."""
    hue = (class_id * _GOLDEN_RATIO) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 1.0)
    return int(blue * 255), int(green * 255), int(red * 255)


def _style(canvas: NDArray[np.uint8]) -> _Style:
    height, width = canvas.shape[:2]
    text = min(max(min(height, width) / 30, _MIN_TEXT), _MAX_TEXT)
    return _Style(
        scale=text / _CAPITAL_HEIGHT,
        thickness=max(1, round(text / 9)),
        line=max(1, round(min(height, width) / 240)),
        padding=max(2, round(text / 3)),
    )


def _text_size(text: str, style: _Style) -> tuple[int, int]:
    """Return (width, height) of a text with its background."""
    import cv2

    (width, height), below = cv2.getTextSize(text, _FONT, style.scale, style.thickness)
    return width + 2 * style.padding, height + below + style.padding


def _hud_place(canvas: NDArray[np.uint8], hud: Hud, style: _Style) -> tuple[str, Rectangle | None]:
    """Return the longest status line that fits, and where; None where none fits."""
    for line in hud.lines():
        width, height = _text_size(line, style)
        if width <= canvas.shape[1] and height <= canvas.shape[0]:
            return line, (0, 0, width, height)
    return "", None


def _label_place(
    canvas: NDArray[np.uint8], text: str, style: _Style, box: list[int], taken: list[Rectangle]
) -> Rectangle:
    """Return where a label goes: above its box, inside it, or below, wherever no better box's label is."""
    width, height = _text_size(text, style)
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


def _text_box(
    canvas: NDArray[np.uint8], text: str, style: _Style, place: Rectangle, background: Colour
) -> None:
    import cv2

    blue, green, red = background
    # ITU-R BT.601 luma: black on light colours, white on dark ones.
    is_light = 0.114 * blue + 0.587 * green + 0.299 * red > 127
    cv2.rectangle(canvas, place[:2], (place[2] - 1, place[3] - 1), background, -1)
    _, below = cv2.getTextSize(text, _FONT, style.scale, style.thickness)
    baseline = (place[0] + style.padding, place[3] - below - style.padding // 4)
    colour = (0, 0, 0) if is_light else (255, 255, 255)
    cv2.putText(canvas, text, baseline, _FONT, style.scale, colour, style.thickness, cv2.LINE_AA)


def _drawable(text: str) -> str:
    """Return the text in the characters that OpenCV's fonts have: accents dropped, others as `?`."""
    plain = unicodedata.normalize("NFKD", text)
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    return plain.encode("ascii", "replace").decode()
