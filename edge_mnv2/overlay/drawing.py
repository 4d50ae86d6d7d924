"""What every overlay is drawn with: sizes that follow the picture's, colours of classes, boxes with text."""

from __future__ import annotations

import colorsys
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]

DARK: Colour = (32, 32, 32)

_FONT = 0  # cv2.FONT_HERSHEY_SIMPLEX, whose capitals are 21 pixels high at scale 1
_CAPITAL_HEIGHT = 21
_MIN_TEXT, _MAX_TEXT = 8, 60
_GOLDEN_RATIO = 0.618033988749895
_SHADES = ((0.85, 1.0), (1.0, 0.75), (0.55, 1.0))  # saturation, value


@dataclass(frozen=True, slots=True)
class Style:
    """Sizes that follow from the picture's: the same drawing at 160x120 and at 4K."""

    scale: float
    thickness: int
    line: int
    padding: int


def style_of(canvas: NDArray[np.uint8]) -> Style:
    """Return the sizes for a picture."""
    height, width = canvas.shape[:2]
    text = min(max(min(height, width) / 30, _MIN_TEXT), _MAX_TEXT)
    return Style(
        scale=text / _CAPITAL_HEIGHT,
        thickness=max(1, round(text / 9)),
        line=max(1, round(min(height, width) / 240)),
        padding=max(2, round(text / 3)),
    )


@lru_cache(maxsize=1024)
def class_colour(class_id: int) -> Colour:
    """Return a class's colour in BGR: the same in every frame and run, far from its neighbours'.

    Hues repeat, nearly, after a dozen classes; shades take turns, so that those differ, too.
    """
    hue = (class_id * _GOLDEN_RATIO) % 1.0
    saturation, value = _SHADES[class_id % len(_SHADES)]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return int(blue * 255), int(green * 255), int(red * 255)


def text_size(text: str, style: Style) -> tuple[int, int]:
    """Return (width, height) of a text with its background."""
    import cv2

    (width, _), _ = cv2.getTextSize(text, _FONT, style.scale, style.thickness)
    height, below = _line(style)
    return width + 2 * style.padding, height + below + style.padding


def _line(style: Style) -> tuple[int, int]:
    """Return how far a line of text reaches above and below its baseline, whatever letters it has."""
    import cv2

    (_, height), below = cv2.getTextSize("Ag", _FONT, style.scale, style.thickness)
    return height, below


def text_box(
    canvas: NDArray[np.uint8], text: str, style: Style, place: Rectangle, background: Colour
) -> None:
    """Draw a text on a background of its own, black or white by how light that is."""
    import cv2

    blue, green, red = background
    # ITU-R BT.601 luma: black on light colours, white on dark ones.
    is_light = 0.114 * blue + 0.587 * green + 0.299 * red > 127
    cv2.rectangle(canvas, place[:2], (place[2] - 1, place[3] - 1), background, -1)
    _, below = _line(style)
    baseline = (place[0] + style.padding, place[3] - below - style.padding // 4)
    colour = (0, 0, 0) if is_light else (255, 255, 255)
    cv2.putText(canvas, text, baseline, _FONT, style.scale, colour, style.thickness, cv2.LINE_AA)


def drawable(text: str) -> str:
    """Return the text in the characters that OpenCV's fonts have: accents dropped, others as `?`."""
    plain = unicodedata.normalize("NFKD", text)
    return "".join(c for c in plain if not unicodedata.combining(c)).encode("ascii", "replace").decode()
