"""What every sink offers, and how the loop describes one before it is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edge_mnv2.results import FrameResult


class Sink(Protocol):
    """Takes the result of each frame. One thread uses it."""

    def write(self, result: FrameResult) -> None:
        """Take one result; pixels are only valid until this returns.

        Raises:
            SinkError: It failed; it will not be written to again.
        """
        ...

    def close(self) -> None:
        """Write what is left and free what is held. Calling it again does nothing.

        Raises:
            SinkError: What was written cannot be completed.
        """
        ...


@dataclass(frozen=True, slots=True)
class SinkSpec:
    """A sink that is still to be opened.

    Attributes:
        name: For messages, such as `video out/demo.mp4`.
        open: Opens it. The argument counts from 0; a sink that is opened again after a failure goes on where
            it stopped, or beside it, and never overwrites.
        wants_canvas: Whether it needs the frame with its overlay.
    """

    name: str
    open: Callable[[int], Sink]
    wants_canvas: bool
