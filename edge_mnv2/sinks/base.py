"""What every sink offers, and how the loop describes one before it is opened."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from edge_mnv2.errors import OutputPathError
from edge_mnv2.readings import DeviceEvent
from edge_mnv2.results import CameraStatus, FrameResult


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


@runtime_checkable
class StateSink(Sink, Protocol):
    """A sink that hears of the camera's state, too."""

    def show(self, status: CameraStatus) -> None:
        """Take a change of state, or the same one again while a camera stays away (about once a second).

        Raises:
            SinkError: It failed; it will not be written to again.
        """
        ...


@runtime_checkable
class EventSink(Sink, Protocol):
    """A sink that hears of events, too: heat, power, other outputs that fail."""

    def note(self, event: DeviceEvent) -> None:
        """Take an event.

        Raises:
            SinkError: It failed; it will not be written to again.
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
        is_watched: Called for each frame: whether somebody looks, so that a canvas is needed; None: always.
        path: The file or folder that it writes; None for standard output.
        queue_length: Most results that wait for it on a live source; beyond, the oldest is dropped.
        settings: What tells it from another of the same name, so that a sink whose settings did not change
            goes on when others are replaced: two specs are the same where name and settings are.
    """

    name: str
    open: Callable[[int], Sink] = field(compare=False)
    wants_canvas: bool = field(compare=False)
    path: Path | None = field(default=None, compare=False)
    is_watched: Callable[[], bool] | None = field(default=None, compare=False)
    settings: Hashable = None
    queue_length: int = field(default=16, compare=False)


def check_outputs(inputs: Sequence[Path], specs: Sequence[SinkSpec]) -> None:
    """Refuse outputs that would overwrite an input, or each other.

    Args:
        inputs: Files that the source reads.
        specs: The sinks. One that writes a folder names its files after the inputs.

    Raises:
        OutputPathError: Naming the path.
    """
    read = {path.resolve() for path in inputs}
    stems = {path.stem for path in read}
    written: set[Path] = set()
    for path in (spec.path.resolve() for spec in specs if spec.path is not None):
        if path in read or any(path / f"{stem}.jpg" in read for stem in stems):
            raise OutputPathError(f"{path} holds what this run reads: choose another path.")
        if path in written:
            raise OutputPathError(f"{path} is given for two outputs: choose another path for one of them.")
        written.add(path)
