"""Sessions for tests, and all that a replay gives."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from camera import BadFrameError, EndOfStream, Frame, SourceInfo
from camera.replay import Replay
from camera.session_writer import SessionWriter
from camera.states import StateChange

INFO = SourceInfo("test", live=True, fps=50.0, frames=None, size=(24, 16))


def picture(seq: int, width: int = 24, height: int = 16) -> NDArray[np.uint8]:
    """Return noise that depends on a number alone."""
    return np.random.default_rng(seq).integers(0, 256, (height, width, 3), np.uint8)


def frame(seq: int, age_ms: float = 5.0, image: NDArray[np.uint8] | None = None) -> Frame:
    """Return a frame that was captured so long ago."""
    captured_ns = time.monotonic_ns() - int(age_ms * 1e6)
    return Frame(picture(seq) if image is None else image, seq, captured_ns, f"camera {seq % 2}")


def record(path: Path, frames: int, **options: int) -> SessionWriter:
    """Write a session of some frames, as fast as possible; return its writer, closed."""
    writer = SessionWriter(path, **options)
    writer.source(INFO)
    for seq in range(frames):
        writer.frame(frame(seq), wait=True)
    writer.close()
    return writer


@dataclass
class Played:
    """What a replay gave.

    Attributes:
        frames: In order.
        ages_ms: Of each, when it was read.
        bad: Messages of frames that could not be read.
        states: In order.
        end: How it ended.
    """

    info: SourceInfo
    frames: list[Frame] = field(default_factory=list)
    ages_ms: list[float] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    states: list[StateChange] = field(default_factory=list)
    end: str = ""

    @property
    def numbers(self) -> list[int]:
        return [frame.seq for frame in self.frames]


def play(replay: Replay, limit: int = 10_000) -> Played:
    """Read a replay to its end; more reads than `limit` are a failure."""
    played = Played(replay.open())
    replay.set_on_state(played.states.append)
    for _ in range(limit):
        try:
            frame = replay.read()
        except BadFrameError as error:
            played.bad.append(str(error))
        except EndOfStream as error:
            played.end = str(error)
            replay.close()
            return played
        else:
            played.ages_ms.append((time.monotonic_ns() - frame.captured_ns) / 1e6)
            played.frames.append(frame)
    raise AssertionError("the replay does not end")
