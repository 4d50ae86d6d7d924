"""Drawing results onto pictures. It only draws: thresholds and class filters belong to decoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.overlay.areas import draw_areas
from edge_mnv2.overlay.boxes import draw_boxes
from edge_mnv2.overlay.drawing import (
    DARK,
    Rectangle,
    Style,
    class_colour,
    drawable,
    style_of,
    text_box,
    text_size,
)
from edge_mnv2.readings import DeviceReading
from edge_mnv2.results import Classification, Detections, Result, SegmentationMap

__all__ = ["Hud", "class_colour", "draw_overlay"]


@dataclass(frozen=True, slots=True)
class Hud:
    """What the line at the top says.

    Attributes:
        fps: Results per second, None before it is known.
        latency_ms: From capture to result.
        dropped: Frames dropped so far.
        device: What the device says; None where nobody asks it.
    """

    fps: float | None
    latency_ms: float
    dropped: int
    device: DeviceReading | None = None

    def lines(self) -> tuple[str, ...]:
        """Return the line, whole and shortened: the longest that fits is drawn."""
        fps = "-- FPS" if self.fps is None else f"{self.fps:.1f} FPS"
        parts = [fps, f"{self.latency_ms:.0f} ms", *_device_parts(self.device), f"dropped {self.dropped}"]
        return tuple("  ".join(parts[:count]) for count in range(len(parts), 0, -1))


def _device_parts(device: DeviceReading | None) -> list[str]:
    """Return what is known of the device; what slows it down comes first."""
    if device is None:
        return []
    parts = [] if device.throttling is None else sorted(device.throttling.now)
    if device.power_w.value is not None:
        about = "~" if device.power_w.kind == "estimated" else ""
        parts.append(f"{about}{device.power_w.value:.1f} W")
    if device.temperature_c.value is not None:
        parts.append(f"{device.temperature_c.value:.0f} C")  # the font has ASCII alone
    return parts


def draw_overlay(
    canvas: NDArray[np.uint8], found: Result, labels: Mapping[int, str], hud: Hud | None = None
) -> None:
    """Draw what was found, and the status line at the top left, onto a picture, in place.

    Detections become boxes with labels, a segmentation coloured areas with a legend at the top right, a
    classification a list of its classes below the status line.

    Args:
        canvas: (H, W, 3) uint8 BGR.
        found: Of this picture.
        labels: Label by class id.
        hud: What the status line says; None for none.
    """
    style = style_of(canvas)
    line, status = ("", None) if hud is None else _hud_place(canvas, hud, style)
    match found:
        case Detections():
            draw_boxes(canvas, found, labels, style, [] if status is None else [status])
        case SegmentationMap():
            draw_areas(canvas, found, labels, style, status)
        case Classification():
            _draw_classes(canvas, found, labels, style, 0 if status is None else status[3])
    if status is not None:
        text_box(canvas, line, style, status, DARK)


def _draw_classes(
    canvas: NDArray[np.uint8], found: Classification, labels: Mapping[int, str], style: Style, top: int
) -> None:
    """List the classes with their scores, best first, as many as fit."""
    for class_id, score in zip(found.class_id.tolist(), found.score.tolist(), strict=True):
        text = f"{score:.2f} {drawable(labels.get(class_id, str(class_id)))}"
        width, height = text_size(text, style)
        if top + height > canvas.shape[0]:
            return
        text_box(canvas, text, style, (0, top, width, top + height), class_colour(class_id))
        top += height


def _hud_place(canvas: NDArray[np.uint8], hud: Hud, style: Style) -> tuple[str, Rectangle | None]:
    """Return the longest status line that fits, and where; None where none fits."""
    for line in hud.lines():
        width, height = text_size(line, style)
        if width <= canvas.shape[1] and height <= canvas.shape[0]:
            return line, (0, 0, width, height)
    return "", None
