"""Frames out: files, pictures, V4L2 devices and a synthetic camera behind one small protocol.

This package knows nothing of networks. It imports only the standard library and numpy; each source imports
its vendor library where it opens or reads.
"""

from camera.base import Frame, FrameSource, SourceInfo
from camera.errors import (
    AccessDeniedError,
    BadFrameError,
    CameraError,
    EndOfStream,
    SourceNotFoundError,
    UnsupportedSourceError,
)
from camera.factory import open_source
from camera.latest import LatestSlot, SlotClosedError
from camera.options import CameraOptions, Supervision, Transform
from camera.paths import open_files
from camera.states import CameraState, StateChange

__all__ = [
    "AccessDeniedError",
    "BadFrameError",
    "CameraError",
    "CameraOptions",
    "CameraState",
    "EndOfStream",
    "Frame",
    "FrameSource",
    "LatestSlot",
    "SlotClosedError",
    "SourceInfo",
    "SourceNotFoundError",
    "StateChange",
    "Supervision",
    "Transform",
    "UnsupportedSourceError",
    "open_files",
    "open_source",
]
