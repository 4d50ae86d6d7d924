"""What a frame is, and what every source of frames offers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Frame:
    """One picture and the buffer it lies in; whoever takes a frame releases it.

    Attributes:
        image: (H, W, 3) uint8 BGR, OpenCV's order. Not to be used after `release`.
        seq: Counts at the source; gaps are drops.
        captured_ns: When it was taken, in the domain of `time.monotonic_ns`, as near the sensor as the driver
            allows. For files: when it was read.
        origin: The file, picture or device it came from, as records name it.
    """

    __slots__ = ("_on_release", "captured_ns", "image", "origin", "seq")

    def __init__(
        self,
        image: NDArray[np.uint8],
        seq: int,
        captured_ns: int,
        origin: str,
        on_release: Callable[[], None] | None = None,
    ) -> None:
        self.image = image
        self.seq = seq
        self.captured_ns = captured_ns
        self.origin = origin
        self._on_release = on_release

    def release(self) -> None:
        """Give the buffer back to its source. Calling it again does nothing."""
        on_release, self._on_release = self._on_release, None
        if on_release is not None:
            on_release()

    def __enter__(self) -> Frame:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a source knows of itself once it is open.

    Attributes:
        name: For messages.
        live: True where frames come at their own pace and the newest wins; False where none may be lost.
        fps: Nominal frame rate, None where there is none.
        frames: How many frames will come, as far as the source knows; None if endless or unknown.
        size: (width, height) of the first frame, None where frames differ or it is not known yet.
        paths: Files that it reads, empty for devices.
    """

    name: str
    live: bool
    fps: float | None
    frames: int | None
    size: tuple[int, int] | None
    paths: tuple[Path, ...] = ()


class FrameSource(Protocol):
    """A source of frames. One thread uses it at a time; only `close` may come from another."""

    def open(self) -> SourceInfo:
        """Open the device or file.

        Raises:
            CameraError: It cannot be opened; the message says what to do.
        """
        ...

    def read(self) -> Frame:
        """Wait for the next frame.

        Raises:
            EndOfStream: There are no more.
            BadFrameError: This one cannot be decoded; reading on is possible.
            CameraError: The source failed.
        """
        ...

    def close(self) -> None:
        """Free the device or file, after a `read` that is under way. Calling it again does nothing."""
        ...
