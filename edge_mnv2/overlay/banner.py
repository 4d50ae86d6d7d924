"""What is drawn on the last frame of a camera that is away: since when, and why."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.overlay.drawing import DARK, Style, drawable, style_of, text_box, text_size
from edge_mnv2.results import CameraStatus

# A picture that no longer moves must not look like one that does.
_BRIGHTNESS = 0.4
# Of the height: more would hide what was last seen.
_MAX_SHARE = 0.5
_SMALLER = 0.6
# Keeps a number and its unit on one line; drawn as a space.
_NO_BREAK = "\N{NO-BREAK SPACE}"

_STATE_WORDS = {
    "opening": "opening",
    "stalled": "waiting",
    "lost": "reconnecting",
    "reconnecting": "reconnecting",
}


def draw_lost_banner(canvas: NDArray[np.uint8], status: CameraStatus, now: datetime | None = None) -> None:
    """Dim a picture and draw across it since when, and why, the camera gives no other, in place.

    Args:
        canvas: (H, W, 3) uint8 BGR, of any size; what does not fit is left out, the reason first.
        status: Of the camera.
        now: With a time zone; None for the clock's.
    """
    draw_banner(canvas, *lost_texts(status, datetime.now(timezone.utc) if now is None else now))


def draw_banner(canvas: NDArray[np.uint8], *texts: str) -> None:
    """Dim a picture and draw the first of some texts that fits across its middle, in place.

    Args:
        canvas: (H, W, 3) uint8 BGR, of any size.
        texts: From the longest to the shortest. Lines are broken between words. Where not even the last one
            fits, it is written smaller, and at the worst only the picture gets darker.
    """
    import cv2

    canvas[:] = cv2.convertScaleAbs(canvas, alpha=_BRIGHTNESS)
    style = style_of(canvas)
    height, width = canvas.shape[:2]
    tries = [(text, style) for text in texts]
    tries += [(text, Style(style.scale * _SMALLER, 1, style.line, 1)) for text in texts[-1:]]
    for text, used in tries:
        lines = _wrapped(text, used, width)
        # One line may take more than its share of a picture that is hardly higher.
        most = _MAX_SHARE * height if len(lines) > 1 else height
        if lines and _height(lines, used) <= most:
            _draw(canvas, lines, used)
            return


def lost_texts(status: CameraStatus, now: datetime) -> tuple[str, ...]:
    """Return what a banner says, from the whole of it to its shortest form.

    Args:
        status: Of the camera.
        now: With a time zone.
    """
    doing = _STATE_WORDS.get(status.state, status.state)
    reason = status.reason.strip().rstrip(".")
    why = f": {reason}, {doing}" if reason else f", {doing}"
    if status.lost_since is None:
        return (f"no picture yet{why}", f"no picture yet, {doing}", "no picture")
    since = status.lost_since.astimezone()
    passed = duration_text(now - since).replace(" ", _NO_BREAK)
    is_today = since.date() == now.astimezone().date()
    clock = f"{since:%H:%M:%S}" if is_today else f"{since:%Y-%m-%d %H:%M}"
    lost = f"camera lost since {clock} ({passed})"
    return f"{lost}{why}", f"{lost}, {doing}", lost, f"lost {passed}", "lost"


def duration_text(passed: timedelta) -> str:
    """Return a duration in one or two units, such as `12 s`, `3 min 5 s`, `2 h 10 min`, `4 d 3 h`."""
    seconds = max(0, math.floor(passed.total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes == 0:
        return f"{seconds} s"
    if hours == 0:
        return f"{minutes} min {seconds % 60} s"
    if days == 0:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def _wrapped(text: str, style: Style, width: int) -> list[str]:
    """Return the lines of a text, broken between words; none where one word alone is too wide."""
    lines: list[str] = []
    for part in text.split(" "):
        word = drawable(part)
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_size(longer, style)[0] <= width:
            lines[-1] = longer
        elif text_size(word, style)[0] <= width:
            lines.append(word)
        else:
            return []
    return lines


def _height(lines: list[str], style: Style) -> int:
    return sum(text_size(line, style)[1] for line in lines)


def _draw(canvas: NDArray[np.uint8], lines: list[str], style: Style) -> None:
    """Write centred lines onto a strip across the middle."""
    height, width = canvas.shape[:2]
    top = (height - _height(lines, style)) // 2
    canvas[max(0, top - style.padding) : top + _height(lines, style) + style.padding] = DARK
    for line in lines:
        line_width, line_height = text_size(line, style)
        left = (width - line_width) // 2
        text_box(canvas, line, style, (left, top, left + line_width, top + line_height), DARK)
        top += line_height
