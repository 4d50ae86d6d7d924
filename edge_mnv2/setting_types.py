"""Kinds of values in settings: what YAML and the command line give, checked and brought into one form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from camera.transform import parse_crop
from edge_mnv2.files import expand_user
from edge_mnv2.zoo.model import parse_size

SOURCES = (
    "Video, picture, folder, glob, /dev/videoN or its number, csi://N, picamera://N, argus://N, rtsp://, "
    "http://, gst://, replay://FILE, or test://"
)


def split_list(value: object) -> object:
    """Return the parts of a text with commas, as a flag gives a list; anything else as it is."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def or_text(schema: dict[str, Any]) -> None:
    """Let an editor take a text, too, where settings are expected that a text can stand for."""
    schema["anyOf"].insert(0, {"type": "string", "minLength": 1})


def _some_text(value: object) -> object:
    # An empty path would be the working directory.
    if value == "":
        raise ValueError("a path must be given, or the setting left out")
    return value


def _usable_path(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("a path cannot hold a null character")
    return expand_user(path)


def _usable_size(text: str) -> str:
    parse_size(text)
    return text


def _usable_crop(text: str) -> str:
    parse_crop(text)
    return text


def _number_as_text(value: object) -> object:
    # `source: 0` and `classes: [1]` are numbers in YAML.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


# For editors, which see what is written in YAML.
_TEXT_SCHEMA = {"type": ["string", "integer"], "minLength": 1}

Text = Annotated[str, Field(min_length=1), BeforeValidator(_number_as_text), WithJsonSchema(_TEXT_SCHEMA)]
CropText = Annotated[Text, AfterValidator(_usable_crop)]
SizeText = Annotated[Text, AfterValidator(_usable_size)]
FilePath = Annotated[Path, BeforeValidator(_some_text), AfterValidator(_usable_path)]
CameraName = Annotated[str, Field(pattern=r"^[\w.-][\w. -]{0,63}$")]
# As a list, or as one text with commas: `split_list`.
Texts = Annotated[
    list[Text],
    Field(min_length=1),
    WithJsonSchema({"type": ["array", "string"], "items": _TEXT_SCHEMA, "minItems": 1, "minLength": 1}),
]


def check_rotation(
    jsonl: Path | None, appends: bool | None, hours: float | None, size_mb: int | None, keep_mb: int | None
) -> None:
    """Refuse a rotation of JSON lines that could not keep what it promises.

    Args:
        jsonl: The file, or `-` for standard output.
        appends: Whether it is to be appended to; None: where it rotates.
        hours: A new file begins after this time.
        size_mb: A new file begins at this size.
        keep_mb: The oldest files go beyond this sum.

    Raises:
        ValueError: Naming the setting.
    """
    rotates = size_mb is not None or hours is not None
    if rotates and str(jsonl) == "-":
        raise ValueError("jsonl: standard output cannot be rotated; give a file.")
    if rotates and appends is False:
        raise ValueError("jsonl_append: a file that rotates is always appended to.")
    if keep_mb is not None and size_mb is None:
        raise ValueError("jsonl_keep_mb: give jsonl_rotate_mb, too, or the file being written has no limit.")
    if keep_mb is not None and size_mb is not None and keep_mb < size_mb:
        raise ValueError("jsonl_keep_mb: it must be at least jsonl_rotate_mb, or nothing would be kept.")
