"""How a live camera is driven, whatever it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Isolation = Literal["process", "thread"]


@dataclass(frozen=True, slots=True)
class Transform:
    """What is done to each frame before anybody sees it, in this order: crop, rotation, flip.

    Attributes:
        crop: (x, y, width, height) in pixels of the camera's frame, None for all of it.
        rotate: Degrees clockwise: 0, 90, 180 or 270.
        flip: `horizontal` mirrors left and right, `vertical` top and bottom, `both`; None for neither.
    """

    crop: tuple[int, int, int, int] | None = None
    rotate: Literal[0, 90, 180, 270] = 0
    flip: Literal["horizontal", "vertical", "both"] | None = None


@dataclass(frozen=True, slots=True)
class Supervision:
    """When a camera is given up, and how it is opened again.

    Attributes:
        stall_s: So long without a frame, an open camera counts as stalled, and is closed and opened anew. A
            slow one gets three of its intervals.
        open_timeout_s: So long it may take to open, and then to its first frame.
        first_pause_s: Before the first attempt to open it again.
        max_pause_s: Pauses double up to here; each is shortened at random by up to a half: many cameras
            should not come back at once. They start again from the first when it was there for this long.
        long_after_s: Away for longer, it is asked less often: an attempt may cost the start of a process.
        long_pause_s: Pauses double up to here from then on, and at once where it answers, but cannot do what
            is asked of it (any more).
        refused_pause_s: Before the next attempt where it refuses user or password, twice as long after each
            refusal up to ten times this, and lengthened at random by up to a half: cameras lock accounts. One
            that had taken them is asked once more after three seconds: it may have been starting. Where
            the URI names no user, a refusal is a loss like any other.
        max_attempts: Attempts in a row before it is given up with an error; None for no end.
        retry_first: Whether to go on trying where it cannot even be opened for the first time. A device, a
            host or a stream that is not there may come; wrong options, and a user or password that it
            refuses, are an error at once.
    """

    stall_s: float = 2.0
    open_timeout_s: float = 10.0
    first_pause_s: float = 0.5
    max_pause_s: float = 2.0
    long_after_s: float = 300.0
    long_pause_s: float = 15.0
    refused_pause_s: float = 60.0
    max_attempts: int | None = None
    retry_first: bool = False


@dataclass(frozen=True, slots=True)
class CameraOptions:
    """Everything that can be said of a camera beside its URI.

    Attributes:
        isolation: `process`: a child process reads it, and is killed where a driver hangs; `thread`: this
            process reads it. None lets the kind of source decide.
        transform: See `Transform`.
        supervision: See `Supervision`.
    """

    isolation: Isolation | None = None
    transform: Transform = field(default_factory=Transform)
    supervision: Supervision = field(default_factory=Supervision)
