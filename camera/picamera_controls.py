"""libcamera's controls as options of a URI: names checked, values typed and within what the camera allows."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from camera.errors import UnsupportedSourceError

Value = bool | int | float | tuple[float, ...]
# Those that people set; others take libcamera's numbers. https://libcamera.org/api-html/namespacelibcamera_1_1controls.html
_WORDS: Mapping[str, tuple[str, ...]] = {
    "AfMode": ("manual", "auto", "continuous"),
    "AfRange": ("normal", "macro", "full"),
    "AfSpeed": ("normal", "fast"),
    "AwbMode": (
        *("auto", "incandescent", "tungsten", "fluorescent", "indoor", "daylight", "cloudy", "custom"),
    ),
    "NoiseReductionMode": ("off", "fast", "highquality", "minimal", "zsl"),
}


def read_controls(
    origin: str, texts: Mapping[str, str], known: Mapping[str, tuple[object, object, object]]
) -> dict[str, Value]:
    """Return controls as picamera2 takes them.

    Args:
        origin: The camera, for messages.
        texts: Values by name; several numbers are joined by commas.
        known: (lowest, highest, default) by name, as `Picamera2.camera_controls` tells them.

    Raises:
        UnsupportedSourceError: The camera has no such control, or not this value.
    """
    controls: dict[str, Value] = {}
    for name, text in texts.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise UnsupportedSourceError(
                f"{origin}: this camera has no control {name}. {hint}It has: {', '.join(sorted(known))}."
            )
        low, high, _ = known[name]
        value = _value(text, low, _WORDS.get(name, ()))
        if value is None or not _within(value, low, high):
            raise UnsupportedSourceError(f"{origin}: {name}={text} is wrong: give {_right(name, low, high)}.")
        controls[name] = value
    return controls


def _value(text: str, low: object, words: tuple[str, ...]) -> Value | None:
    """Return a text as the type of the lowest value, None where it is none."""
    if text.lower() in words:
        return words.index(text.lower())
    if isinstance(low, bool):
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(
            text.lower()
        )
    read = int if isinstance(low, int) or (isinstance(low, tuple) and isinstance(low[0], int)) else float
    try:
        numbers = tuple(read(part) for part in text.split(","))
    except ValueError:
        return None
    return numbers[0] if len(numbers) == 1 else numbers


def _within(value: Value, low: object, high: object) -> bool:
    """Tell whether a value lies between two numbers; what else the camera tells is for it to judge."""
    if not isinstance(low, (int, float)) or not isinstance(high, (int, float)):
        return True
    return all(low <= number <= high for number in (value if isinstance(value, tuple) else (value,)))


def _right(name: str, low: object, high: object) -> str:
    if isinstance(low, bool):
        return "yes or no"
    words = f", or one of {', '.join(_WORDS[name])}" if name in _WORDS else ""
    if isinstance(low, (int, float)) and isinstance(high, (int, float)):
        return f"a number from {low:g} to {high:g}{words}"
    return f"{'numbers' if isinstance(low, tuple) else 'a number'}{words}"
