"""Says in plain words what is wrong with a setting: its path, what is expected, what was received."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from edge_mnv2.settings import CameraSettings, RunConfig
from edge_mnv2.yaml_file import Place
from edge_mnv2.yaml_words import shown

_EXPECTED = {
    "string_type": "input should be a text",
    "string_too_short": "it must not be empty",
    "too_short": "it must hold at least one",
    "bool_parsing": "input should be true or false",
    "bool_type": "input should be true or false",
    "int_parsing": "input should be a valid integer",
    "int_parsing_size": "input should be a valid integer",
    "int_from_float": "input should be a valid integer",
    "float_parsing": "input should be a valid number",
    "list_type": "input should be a list, such as [one, two]",
    "dict_type": "it must hold `name: settings` lines, indented",
    "model_type": "it must hold `setting: value` lines, indented",
    "model_attributes_type": "it must hold `setting: value` lines, indented",
    "path_type": "input should be a path",
    "string_unicode": "it holds a character that does not exist",
}
_CAMERA_NAME = "a name has 1 to 64 letters, digits, spaces and . _ -, and does not begin with a space"
_BOOLEAN_HINT = " (yes, no, on and off are true or false in YAML: put a text in quotes)"
_TEXTS = frozenset({"string_type", "literal_error", "path_type"})
_PLAIN = re.compile(r"[\w-]{1,64}")
_SECRET = re.compile(r"passw|token|secret|(^|_)key$")
_MAX_SHOWN = 60


def explained(detail: Mapping[str, Any]) -> tuple[Place, str]:
    """Return where the setting stands, and one line about it.

    Args:
        detail: One of `ValidationError.errors()`.
    """
    place: Place = tuple(part for part in detail["loc"] if part != "[key]")
    kind = detail["type"]
    if kind == "extra_forbidden":
        return place, f"{path_words(place)}: there is no such setting.{_hint([*map(str, place)])}"
    if kind == "missing":
        return place, f"{path_words(place)}: it must be given."
    if kind == "value_error":  # one of ours, which says it all
        words = str(detail["ctx"]["error"])
        # A rule between settings begins with the one it is about.
        name, colon, rest = words.partition(": ")
        around = _model_at([*map(str, place)])
        if colon and around is not None and name in around.model_fields:
            place, words = (*place, name), rest
        return place, f"{path_words(place)}: {words}{'' if words.endswith('.') else '.'}"
    if "[key]" in detail["loc"]:
        return place, f"{path_words(place)}: {_CAMERA_NAME}."
    expected = _EXPECTED.get(kind, str(detail["msg"]))
    expected = f"{path_words(place)}: {expected[0].lower()}{expected[1:]}"
    if _SECRET.search(str(place[-1])):
        return place, f"{expected}."
    received = detail["input"]
    hint = _BOOLEAN_HINT if isinstance(received, bool) and kind in _TEXTS else ""
    return place, f"{expected}, received {_received(received)}{hint}."


def path_words(place: Place) -> str:
    """Return a setting's path, such as `cameras.door.threshold`."""
    return ".".join(name if _PLAIN.fullmatch(name) else f"'{shown(name)}'" for name in map(str, place))


def _received(value: object) -> str:
    """Return a value as it may be shown; of what holds others the kind: a password may be among them."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "`name: value` lines" if value else "{}"
    if isinstance(value, list | tuple | set):
        return "a list" if value else "[]"
    # Credentials first: a part of a URI would not be known as one.
    return f"'{shown(value, _MAX_SHOWN)}'" if isinstance(value, str) else shown(repr(value), _MAX_SHOWN)


def _hint(place: Sequence[str]) -> str:
    """Return where a setting belongs, or which one was meant."""
    name = place[-1]
    model = _model_at(place[:-1])
    if model is None:
        return ""
    near = _nearest(name, model)
    if near:
        return f" Did you mean {near}?"
    if model is not RunConfig and name in RunConfig.model_fields:
        return " It holds for all cameras: say it outside." if model is CameraSettings else " Say it outside."
    inside = [outer for outer, inner in _groups().items() if name in inner.model_fields]
    if inside:
        return f" Say it below {inside[0]}, indented."
    if model is CameraSettings and (near := _nearest(name, RunConfig)):
        return f" Did you mean {near}? It holds for all cameras: say it outside."
    return ""


def _nearest(name: str, model: type[BaseModel]) -> str | None:
    written = name.lower().replace("-", "_")
    return next(iter(difflib.get_close_matches(written, model.model_fields, n=1)), None)


def _groups() -> dict[str, type[BaseModel]]:
    """Return the settings that hold settings, but for cameras."""
    found = {name: inner_model(field.annotation) for name, field in RunConfig.model_fields.items()}
    return {name: model for name, model in found.items() if model is not None and model is not CameraSettings}


def _model_at(place: Sequence[str]) -> type[BaseModel] | None:
    """Return which settings there are at a place; None where there are none."""
    model: type[BaseModel] | None = RunConfig
    parts = iter(place)
    for part in parts:
        if model is None or part not in model.model_fields:
            return None
        annotation = model.model_fields[part].annotation
        model = inner_model(annotation)
        if part == "cameras":
            next(parts, None)  # a name of the user's choice
    return model


def inner_model(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - of any field
    """Return the settings that a field holds, None where it holds a value."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation if issubclass(annotation, BaseModel) else None
    found = (inner_model(part) for part in get_args(annotation))
    return next((model for model in found if model is not None), None)
