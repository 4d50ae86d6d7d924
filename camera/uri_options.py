"""Reads the options of a URI: typed, within bounds, and with errors that say what is right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from typing import TypeVar

from camera.credentials import without_credentials
from camera.errors import UnsupportedSourceError
from camera.uri import Uri

_MAX_SIDE = 16384
_YES, _NO = ("1", "yes", "true", "on"), ("0", "no", "false", "off")
T = TypeVar("T", bound=str)


def size(uri: Uri, key: str = "size") -> tuple[int, int] | None:
    """Return an option `WIDTHxHEIGHT` as (width, height) in pixels, None where it is not given.

    Raises:
        UnsupportedSourceError: It is no size.
    """
    value = uri.options.get(key)
    if value is None:
        return None
    sides = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", value)
    if sides is None or not all(1 <= int(side) <= _MAX_SIDE for side in sides.groups()):
        raise _wrong(uri, key, f"WIDTHxHEIGHT in pixels, such as 1280x720, at most {_MAX_SIDE} each")
    return int(sides[1]), int(sides[2])


def number(uri: Uri, key: str, low: float = 0, high: float = 1000) -> float | None:
    """Return an option that is a decimal number, None where it is not given.

    Raises:
        UnsupportedSourceError: It is no number between `low` and `high`.
    """
    value = uri.options.get(key)
    if value is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,9})?", value) or not low <= float(value) <= high:
        raise _wrong(uri, key, f"a number from {low:g} to {high:g}")
    return float(value)


def integer(uri: Uri, key: str, low: int = 0, high: int = 999_999_999) -> int | None:
    """Return an option that is a whole number, None where it is not given.

    Raises:
        UnsupportedSourceError: It is no whole number between `low` and `high`.
    """
    value = uri.options.get(key)
    if value is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,12}", value) or not low <= int(value) <= high:
        raise _wrong(uri, key, f"a whole number from {low} to {high}")
    return int(value)


def choice(uri: Uri, key: str, choices: Collection[T]) -> T | None:
    """Return an option that is one of some words in either case, None where it is not given.

    Raises:
        UnsupportedSourceError: It is another word.
    """
    value = uri.options.get(key)
    if value is None:
        return None
    for known in choices:
        if value.lower() == known.lower():
            return known
    raise _wrong(uri, key, f"one of {', '.join(choices)}")


def flag(uri: Uri, key: str) -> bool | None:
    """Return an option that is yes or no, None where it is not given; without a value it is yes.

    Raises:
        UnsupportedSourceError: It is neither.
    """
    value = uri.options.get(key)
    if value is None:
        return None
    if value.lower() not in (*_YES, *_NO, ""):
        raise _wrong(uri, key, "yes or no")
    return value.lower() not in _NO


def no_more(uri: Uri, known: Collection[str]) -> None:
    """Refuse options that a kind of source does not have.

    Args:
        uri: The source.
        known: Names of all options that it has.

    Raises:
        UnsupportedSourceError: Naming the option, the nearest known one, and all of them.
    """
    for key, value in uri.options.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            all_known = f"Known: {', '.join(sorted(known))}." if known else "This source has none."
            shown = without_credentials(f"{key}={value}")
            raise UnsupportedSourceError(f"{uri.shown}: the option {shown} is unknown. {hint}{all_known}")


def _wrong(uri: Uri, key: str, right: str) -> UnsupportedSourceError:
    shown = without_credentials(f"{key}={uri.options[key]}")
    return UnsupportedSourceError(f"{uri.shown}: the option {shown} is wrong: give {right}.")
