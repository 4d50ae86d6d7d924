"""Frames out: files, pictures, V4L2 devices and a synthetic camera behind one small protocol.

This package knows nothing of networks. It imports only the standard library and numpy; each source imports
its vendor library where it opens or reads.
"""

from camera.base import Frame, FrameSource, SourceInfo
from camera.errors import (
    BadFrameError,
    CameraError,
    EndOfStream,
    SourceNotFoundError,
    UnsupportedSourceError,
)
from camera.latest import LatestSlot, SlotClosedError
from camera.uri import open_files, open_source

__all__ = [
    "BadFrameError",
    "CameraError",
    "EndOfStream",
    "Frame",
    "FrameSource",
    "LatestSlot",
    "SlotClosedError",
    "SourceInfo",
    "SourceNotFoundError",
    "UnsupportedSourceError",
    "open_files",
    "open_source",
]
