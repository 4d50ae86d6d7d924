"""What parent and child tell each other, beside frames."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from camera import errors
from camera.base import SourceInfo
from camera.credentials import without_credentials
from camera.errors import CameraError
from camera.isolation.channel import Message
from camera.options import Transform

_MAX_TEXT = 4000
_ERRORS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, CameraError)
}


def pack_transform(transform: Transform) -> Message:
    """Return a transform as JSON can carry it."""
    return asdict(transform)


def unpack_transform(message: Message) -> Transform:
    """Return what `pack_transform` packed."""
    crop = message["crop"]
    return Transform(None if crop is None else tuple(crop), message["rotate"], message["flip"])


def pack_info(info: SourceInfo) -> Message:
    """Return what a source says of itself as JSON can carry it."""
    return {
        "name": info.name[:_MAX_TEXT],
        "live": info.live,
        "fps": info.fps,
        "frames": info.frames,
        "size": info.size,
        "paths": [str(path) for path in info.paths],
    }


def unpack_info(message: Message) -> SourceInfo:
    """Return what `pack_info` packed."""
    size: Any = message["size"]
    return SourceInfo(
        name=message["name"],
        live=message["live"],
        fps=message["fps"],
        frames=message["frames"],
        size=None if size is None else (size[0], size[1]),
        paths=tuple(map(Path, message["paths"])),
    )


def pack_error(error: CameraError) -> Message:
    """Return an error as JSON can carry it: the name of its class, and its text."""
    names = [kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _ERRORS]
    return {"class": names[0], "text": str(error)[:_MAX_TEXT]}


def unpack_error(message: Message) -> CameraError:
    """Return what `pack_error` packed; credentials that slipped into the text are gone."""
    return _ERRORS.get(message["class"], CameraError)(without_credentials(message["text"]))
