"""What a recorded session holds, entry by entry, and how each becomes a chunk and is read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import NoneType
from typing import Any

from camera.session_file import Chunk
from camera.states import CameraState, StateChange

# Longer texts are cut, so that every header stays small.
_MAX_TEXT = 1000


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """The source that was recorded, when it was opened: see `camera.base.SourceInfo`.

    Attributes:
        received_ns: When this was recorded, `time.monotonic_ns` of that machine, as in every entry.
        name: Of the source.
        live: Whether it was a camera.
        fps: Nominal rate.
        width: In pixels, None where it was not known.
        height: In pixels, None where it was not known.
        time: The wall clock at `received_ns`, ISO 8601.
    """

    received_ns: int
    name: str
    live: bool
    fps: float | None
    width: int | None
    height: int | None
    time: str


@dataclass(frozen=True, slots=True)
class FrameEntry:
    """One frame; its picture, encoded, is the payload.

    Attributes:
        received_ns: When the program had it: its age then is that less `captured_ns`.
        captured_ns: See `camera.base.Frame`.
        seq: See `camera.base.Frame`.
        origin: See `camera.base.Frame`.
        time: The wall clock at `captured_ns`, ISO 8601.
        width: In pixels.
        height: In pixels.
        quality: Of the JPEG; None: a PNG, pixel-exact.
        picture: The encoded picture.
    """

    received_ns: int
    captured_ns: int
    seq: int
    origin: str
    time: str
    width: int
    height: int
    quality: int | None
    picture: bytes = b""


@dataclass(frozen=True, slots=True)
class StateEntry:
    """A change of the camera's state: see `camera.states.StateChange`."""

    received_ns: int
    state: str
    reason: str
    at_ns: int
    lost_since_ns: int | None
    attempt: int

    @classmethod
    def of(cls, change: StateChange, received_ns: int) -> StateEntry:
        """Return the entry for a change."""
        return cls(
            received_ns,
            change.state.value,
            change.reason[:_MAX_TEXT],
            change.at_ns,
            change.lost_since_ns,
            change.attempt,
        )

    def moved(self, shift_ns: int) -> StateChange:
        """Return the change as if it had happened so much later."""
        lost_since_ns = None if self.lost_since_ns is None else self.lost_since_ns + shift_ns
        return StateChange(
            CameraState(self.state), self.reason, self.at_ns + shift_ns, lost_since_ns, self.attempt
        )


@dataclass(frozen=True, slots=True)
class TelemetryEntry:
    """Readings of the device by name, None where one was unavailable."""

    received_ns: int
    values: Mapping[str, float | str | None]


@dataclass(frozen=True, slots=True)
class BadFrameEntry:
    """A frame that the source could not decode, with its message."""

    received_ns: int
    message: str


@dataclass(frozen=True, slots=True)
class DroppedEntry:
    """Frames that came here but were not recorded: the disk or the encoder was too slow."""

    received_ns: int
    frames: int


@dataclass(frozen=True, slots=True)
class EndEntry:
    """The end of the recording; without it the file was cut.

    Attributes:
        received_ns: When.
        reason: Why it ended; empty where it was simply closed.
        frames: How many the file holds.
        dropped: How many it lacks.
    """

    received_ns: int
    reason: str
    frames: int
    dropped: int


Entry = SourceEntry | FrameEntry | StateEntry | TelemetryEntry | BadFrameEntry | DroppedEntry | EndEntry

_KINDS: dict[str, type[Entry]] = {
    "source": SourceEntry,
    "frame": FrameEntry,
    "state": StateEntry,
    "telemetry": TelemetryEntry,
    "bad_frame": BadFrameEntry,
    "dropped": DroppedEntry,
    "end": EndEntry,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}

_NUMBER: tuple[type, ...] = (int, float, NoneType)
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("name", "origin", "time", "state", "reason", "message"), (str,)),
    **dict.fromkeys(("received_ns", "captured_ns", "at_ns", "seq", "attempt", "frames", "dropped"), (int,)),
    **dict.fromkeys(("width", "height", "quality", "lost_since_ns"), (int, NoneType)),
    "live": (bool,),
    "fps": _NUMBER,
    "values": (dict,),
    "picture": (bytes,),
}
# What C calls a long: times beyond it are none.
_MAX_INTEGER = 2**63


def to_chunk(entry: Entry) -> Chunk:
    """Return the chunk that keeps an entry."""
    header = asdict(entry)
    payload = header.pop("picture", b"")
    for key in ("name", "origin", "reason", "message"):
        if key in header:
            header[key] = header[key][:_MAX_TEXT]
    return Chunk({"kind": _NAMES[type(entry)], **header}, payload)


def from_chunk(chunk: Chunk) -> Entry | None:
    """Return the entry that a chunk keeps; None where it is of a kind that this version does not know.

    Raises:
        ValueError: A field is missing or wrong.
    """
    kind = _KINDS.get(str(chunk.header.get("kind")))
    if kind is None:
        return None
    values: dict[str, Any] = {**chunk.header, "picture": chunk.payload}
    known = {field.name for field in fields(kind)}
    values = {key: value for key, value in values.items() if key in known}
    for key, value in values.items():
        if not isinstance(value, _TYPES[key]):
            raise ValueError(f"{key} is {type(value).__name__}")
        if isinstance(value, int) and not -_MAX_INTEGER <= value < _MAX_INTEGER:
            raise ValueError(f"{key} is out of range")
    try:
        entry = kind(**values)
    except TypeError as error:
        raise ValueError(str(error)) from error
    if isinstance(entry, StateEntry):
        CameraState(entry.state)  # a state that nobody knows is a ValueError, too
    return entry
