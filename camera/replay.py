"""`replay://FILE`: a recorded session as a source, at its own pace, at another, or as fast as possible."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from camera.base import Frame, SourceInfo
from camera.errors import BadFrameError, CameraError, EndOfStream, SourceNotFoundError, UnsupportedSourceError
from camera.session_entries import (
    BadFrameEntry,
    DroppedEntry,
    EndEntry,
    Entry,
    FrameEntry,
    SourceEntry,
    StateEntry,
    TelemetryEntry,
    from_chunk,
)
from camera.session_file import Chunk, Damage, check_first_line, last_chunk, read_chunks
from camera.session_pictures import decode
from camera.states import OnState
from camera.uri import Uri
from camera.uri_options import no_more, number

_MIN_SPEED, _MAX_SPEED = 0.01, 100.0
# Of one wait: a clock that jumped while recording must not ask for more than the system can wait.
_LONGEST_WAIT_S = 3600.0

# So many chunks may come before the one that describes the source.
_BEGIN = 16

_log = logging.getLogger(__name__)

OnTelemetry = Callable[[Mapping[str, float | str | None]], None]


def from_uri(uri: Uri) -> Replay:
    """Return the source for `replay://FILE`, `replay://FILE?speed=2` or `replay://FILE?speed=max`.

    Raises:
        SourceNotFoundError: There is no such file.
        UnsupportedSourceError: An option is wrong, or there is no name.
    """
    no_more(uri, ("speed",))
    if not uri.address:
        raise UnsupportedSourceError("After replay:// comes a recorded session: replay://field.session.")
    path = Path(uri.address).expanduser() if uri.address.startswith("~/") else Path(uri.address)
    if not path.is_file():
        raise SourceNotFoundError(f"There is no session {path}: check the path.")
    if uri.options.get("speed", "").lower() == "max":
        return Replay(path, speed=None)
    try:
        return Replay(path, number(uri, "speed", _MIN_SPEED, _MAX_SPEED) or 1.0)
    except UnsupportedSourceError as error:
        raise UnsupportedSourceError(f"{str(error).rstrip('.')}, or max.") from None


class Replay:
    """Plays what `camera.session_writer` wrote: the same pixels, numbers, ages, and changes of state.

    Instants are moved into the present: a frame is as old when it is read as it was when it was recorded, and
    every change of state lies as far before or behind the frames.

    Args:
        path: The file.
        speed: 1 for the pace of the recording, as a camera of which the newest frame wins; 2 for twice that.
            None for as fast as it is asked for, without loss.
        on_state: Called with each change of state when it is due, from within `read`.
        on_telemetry: Called with each set of readings likewise.
    """

    def __init__(
        self,
        path: Path,
        speed: float | None = 1.0,
        on_state: OnState | None = None,
        on_telemetry: OnTelemetry | None = None,
    ) -> None:
        self._path = path
        self._speed = speed
        self._on_state = on_state
        self._on_telemetry = on_telemetry
        self._closed = threading.Event()
        # A file is not closed under its reader, except by what `on_state` does.
        self._reading = threading.RLock()
        self._file: BinaryIO | None = None
        self._chunks: Iterator[Chunk | Damage] = iter(())
        self._start_ns: tuple[int, int] | None = None  # of the recording, and of this replay
        self._end: EndEntry | None = None
        self._missing = 0

    def set_on_state(self, on_state: OnState | None) -> None:
        """Call this with each change of state from now on."""
        self._on_state = on_state

    def set_on_telemetry(self, on_telemetry: OnTelemetry | None) -> None:
        """Call this with each set of readings from now on."""
        self._on_telemetry = on_telemetry

    def open(self) -> SourceInfo:
        """Open the file and read how it begins; see `camera.base.FrameSource`."""
        self.close()
        self._closed.clear()
        self._start_ns, self._end, self._missing = None, None, 0
        with ExitStack() as on_failure:
            on_failure.callback(self.close)
            try:
                file = self._file = self._path.open("rb")
                check_first_line(file, str(self._path))
                behind = file.tell()
                last = last_chunk(file)
                file.seek(behind)
                chunks = read_chunks(file)
                # What a camera said of itself while it was opened comes before what it is.
                begin: list[Chunk | Damage] = []
                for one in chunks:
                    begin.append(one)
                    if len(begin) >= _BEGIN or _source_of(one) is not None:
                        break
            except OSError as error:
                raise CameraError(f"{self._path} cannot be read: {error.strerror}.") from error
            on_failure.pop_all()
        self._chunks = itertools.chain(begin, chunks)
        return self._info(_source_of(begin[-1]) if begin else None, _entry_or_none(last))

    def read(self) -> Frame:
        """Wait until the next frame is due; see `camera.base.FrameSource`.

        Raises:
            BadFrameError: Here the recording is damaged, or the camera gave what could not be decoded.
        """
        with self._reading:
            while True:
                entry = self._next()
                shift_ns = self._wait(entry)
                match entry:
                    case FrameEntry():
                        return self._frame(entry, shift_ns)
                    case StateEntry() if self._on_state is not None:
                        self._on_state(entry.moved(shift_ns))
                    case TelemetryEntry() if self._on_telemetry is not None:
                        self._on_telemetry(entry.values)
                    case BadFrameEntry():
                        raise BadFrameError(entry.message)
                    case DroppedEntry():
                        self._missing += entry.frames
                    case EndEntry():
                        self._end = entry

    def close(self) -> None:
        """Close the file, and wake a reader that waits for its frame."""
        self._closed.set()
        with self._reading:
            file, self._file = self._file, None
            if file is not None:
                file.close()

    def _info(self, first: SourceEntry | None, end: Entry | None) -> SourceInfo:
        frames = end.frames if isinstance(end, EndEntry) else None
        name, is_live = f"replay://{self._path}", self._speed is not None
        if first is None:
            return SourceInfo(name, is_live, None, frames, None, (self._path,))
        fps = None if first.fps is None or self._speed is None else first.fps * self._speed
        size = None if first.width is None or first.height is None else (first.width, first.height)
        return SourceInfo(name, is_live, fps, frames, size, (self._path,))

    def _next(self) -> Entry:
        """Return the next entry.

        Raises:
            BadFrameError: Bytes were skipped.
            EndOfStream: There is none.
        """
        while not self._closed.is_set():
            try:
                chunk = next(self._chunks, None)
            except OSError as error:
                raise CameraError(f"{self._path} cannot be read: {error.strerror}.") from error
            if chunk is None or (isinstance(chunk, Damage) and chunk.is_tail):
                raise self._ended(chunk)
            if isinstance(chunk, Damage):
                raise BadFrameError(
                    f"{self._path} is damaged: {chunk.length} bytes from {chunk.offset} on are skipped."
                )
            try:
                entry = from_chunk(chunk)
            except ValueError as error:
                raise BadFrameError(f"{self._path} holds an entry that cannot be read: {error}.") from error
            if entry is not None:
                return entry
        raise EndOfStream(f"{self._path} was closed.")

    def _ended(self, tail: Damage | None) -> EndOfStream:
        """Say what the recording lacks, once, and return how it ends."""
        self._chunks = iter(())
        if self._end is None:
            cut = "" if tail is None else f" inside its last entry ({tail.length} bytes)"
            _log.warning("%s was cut%s: what came before is whole.", self._path, cut)
            self._end = EndEntry(0, "it was cut", 0, 0)
        if self._missing:
            _log.warning("%s lacks %d frames: recording was too slow.", self._path, self._missing)
            self._missing = 0
        reason = f": {self._end.reason}" if self._end.reason else ""
        return EndOfStream(f"{self._path} has no more frames{reason}.")

    def _wait(self, entry: Entry) -> int:
        """Wait until an entry is due; return how far its instants are moved, in nanoseconds."""
        now_ns = time.monotonic_ns()
        if self._start_ns is None:
            self._start_ns = entry.received_ns, now_ns
        if self._speed is None:
            return now_ns - entry.received_ns
        first_ns, start_ns = self._start_ns
        due_ns = start_ns + int((entry.received_ns - first_ns) / self._speed)
        while (left_s := (due_ns - time.monotonic_ns()) / 1e9) > 0:
            if self._closed.wait(min(left_s, _LONGEST_WAIT_S)):
                raise EndOfStream(f"{self._path} was closed.")
        return due_ns - entry.received_ns

    def _frame(self, entry: FrameEntry, shift_ns: int) -> Frame:
        image = decode(entry.picture, entry.width, entry.height)
        if image is None:
            raise BadFrameError(f"{self._path}: frame {entry.seq} cannot be decoded.")
        return Frame(image, entry.seq, entry.captured_ns + shift_ns, entry.origin)


def _source_of(chunk: Chunk | Damage) -> SourceEntry | None:
    entry = _entry_or_none(chunk)
    return entry if isinstance(entry, SourceEntry) else None


def _entry_or_none(chunk: Chunk | Damage | None) -> Entry | None:
    if isinstance(chunk, Chunk):
        with suppress(ValueError):
            return from_chunk(chunk)
    return None
