"""Several lossless sources one after another; a bad one is reported and the next one follows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from camera.base import Frame, FrameSource, SourceInfo
from camera.errors import BadFrameError, CameraError, EndOfStream


class Chain:
    """Reads each source to its end.

    Args:
        sources: Files and pictures, not open yet.
    """

    def __init__(self, sources: Sequence[FrameSource]) -> None:
        self._waiting = list(reversed(sources))
        self._current: FrameSource | None = None

    def open(self) -> SourceInfo:
        """Look into each source for its number of frames; each is opened again when its turn comes."""
        total: int | None = 0
        paths: list[Path] = []
        sizes: set[tuple[int, int] | None] = set()
        for source in self._waiting:
            try:
                info = source.open()
            except CameraError:
                continue  # read() reports it in its turn
            finally:
                source.close()
            paths += info.paths
            sizes.add(info.size)
            total = None if total is None or info.frames is None else total + info.frames
        size = sizes.pop() if len(sizes) == 1 else None
        return SourceInfo("the inputs", False, None, total, size, tuple(paths))

    def read(self) -> Frame:
        """Return the next frame of the current source, or the first of the next one.

        Raises:
            BadFrameError: A frame or a whole source is bad; the rest follows with the next call.
            EndOfStream: Every source has ended.
        """
        while True:
            if self._current is None:
                self._current = self._next()
            try:
                return self._current.read()
            except BadFrameError:
                raise
            except EndOfStream:
                self._leave()
            except CameraError as error:
                self._leave()
                raise BadFrameError(str(error)) from error

    def close(self) -> None:
        """Close the source that is open."""
        self._leave()

    def _next(self) -> FrameSource:
        if not self._waiting:
            raise EndOfStream("No inputs are left.")
        source = self._waiting.pop()
        try:
            source.open()
        except CameraError as error:
            source.close()
            raise BadFrameError(str(error)) from error
        return source

    def _leave(self) -> None:
        if self._current is not None:
            self._current.close()
            self._current = None
