"""Reading what a viewer wants to be reported."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from edge_mnv2.errors import RequestError
from edge_mnv2.zoo.model import DecoderOptions

_KNOWN = ("camera", "threshold", "classes")
_MOST_CLASSES, _LONGEST = 1000, 200


def read_decoder_request(body: bytes, options: DecoderOptions) -> DecoderOptions:
    """Return options with the changes of `{"threshold": 0.4, "classes": ["person"]}`.

    What is left out stays; null is the default: the model's threshold, all classes.

    Args:
        body: JSON.
        options: What is reported now.

    Raises:
        RequestError: It is no such object; it says what was expected.
    """
    wanted = _object(body)
    if "threshold" in wanted:
        options = replace(options, threshold=_threshold(wanted["threshold"]))
    if "classes" in wanted:
        options = replace(options, classes=_classes(wanted["classes"]))
    return options


def camera_of(body: bytes) -> str | None:
    """Return which camera a request is about, None for the first.

    Raises:
        RequestError: It is no object, or the camera is no text.
    """
    name = _object(body).get("camera")
    if name is not None and not isinstance(name, str):
        raise RequestError("camera must be the name of a camera, or left out.")
    return name


def _object(body: bytes) -> dict[str, Any]:
    try:
        wanted = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError("The body is not JSON.") from None
    if not isinstance(wanted, dict):
        raise RequestError('The body must be an object, such as {"threshold": 0.4}.')
    unknown = sorted(set(wanted) - set(_KNOWN))
    if unknown:
        raise RequestError(f"{unknown[0][:40]!r} cannot be changed here; known are {', '.join(_KNOWN)}.")
    return wanted


def _threshold(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, float) and 0 < value < 1:  # no integer, and not NaN either, lies between
        return value
    raise RequestError("threshold must be a number between 0 and 1, or null for the default.")


def _classes(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if (
        not isinstance(value, list)
        or not 0 < len(value) <= _MOST_CLASSES
        or not all(isinstance(name, str) and len(name) <= _LONGEST for name in value)
    ):
        raise RequestError(f"classes must be a list of 1 to {_MOST_CLASSES} labels, or null for all.")
    return tuple(value)
