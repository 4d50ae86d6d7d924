"""A source that is waited for only so long: what a supervisor drives."""

from __future__ import annotations

from typing import Protocol

from camera.base import Frame, SourceInfo


class TimedSource(Protocol):
    """A source whose driver may hang: every wait ends.

    It is opened once. One thread uses it; `close` may come from another.
    """

    @property
    def dropped(self) -> int:
        """Frames that were lost between the source and `read`, newer ones having come."""
        ...

    def open(self, timeout_s: float) -> SourceInfo:
        """Open the device or stream.

        Raises:
            CameraError: It cannot be opened, or not in time.
            EndOfStream: It was closed meanwhile.
        """
        ...

    def read(self, timeout_s: float) -> Frame | None:
        """Return the newest frame, None where none came in time; reading on is possible.

        Raises:
            EndOfStream: There are no more, or it was closed.
            BadFrameError: This one cannot be decoded; reading on is possible.
            CameraError: The source failed; it must be closed.
        """
        ...

    def close(self) -> None:
        """Free the device or stream within seconds, even if its driver hangs. Again, it does nothing."""
        ...
