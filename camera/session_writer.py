"""Records what a source gives: a thread of its own encodes and writes, the loop never waits."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from camera.base import Frame, FrameSource, SourceInfo
from camera.errors import BadFrameError
from camera.session_entries import (
    BadFrameEntry,
    DroppedEntry,
    EndEntry,
    Entry,
    FrameEntry,
    SourceEntry,
    StateEntry,
    TelemetryEntry,
    to_chunk,
)
from camera.session_file import FIRST_LINE, chunk_bytes, new_file
from camera.session_pictures import encode
from camera.session_queue import SessionQueue
from camera.states import StateChange

# What a power cut may cost, beside the chunk in hand.
_SYNC_S = 5.0
_DRAIN_TIMEOUT_S = 3.0
# Stays free below the size limit for the chunk that says so.
_END_BYTES = 1024

_log = logging.getLogger(__name__)


class SessionWriter:
    """Writes a session; every method returns at once (see `frame`) and does nothing after it failed.

    An existing file is never overwritten: the session goes beside it (`name-2.session`), so that what led to
    a restart is not lost by the restart.

    Args:
        path: The file.
        quality: 1 to 100: frames become JPEG of this quality, a seventh of the size; None: PNG, pixel-exact.
        max_bytes: The recording stops before the file grows beyond this; None for no limit.

    Attributes:
        path: The file that is written.
        frames: How many it holds.
        failure: Why recording stopped early, None while it did not; logged when it happened.
        is_full: Whether that is the size limit.

    Raises:
        ValueError: Quality or limit are out of range.
        OSError: The file cannot be made.
    """

    def __init__(self, path: Path, quality: int | None = None, max_bytes: int | None = None) -> None:
        if quality is not None and not 1 <= quality <= 100:
            raise ValueError(f"The quality of a session must be 1 to 100, received {quality}.")
        if max_bytes is not None and max_bytes < 1:
            raise ValueError(f"The size limit of a session must be positive, received {max_bytes}.")
        self.frames = 0
        self.failure: str | None = None
        self.is_full = False
        self._quality = quality
        self._max_bytes = max_bytes
        self._lost = 0
        self._refused = 0
        self._is_closed = False
        self._queue = SessionQueue()
        self._error: BaseException | None = None
        self._is_empty = True
        self.path, self._descriptor = new_file(path)
        self._size = len(FIRST_LINE)
        self._synced_s = time.monotonic()
        self._thread = threading.Thread(target=self._work, name=f"session {path.name}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Frames that the file lacks: disk or encoder were too slow, which the file says, or it had ended."""
        return self._queue.dropped + self._lost + self._refused

    def source(self, info: SourceInfo) -> None:
        """Record that a source was opened."""
        width, height = (None, None) if info.size is None else info.size
        now_ns = time.monotonic_ns()
        entry = SourceEntry(now_ns, info.name, info.live, info.fps, width, height, _wall_time(now_ns))
        self._queue.put(entry)

    def frame(self, frame: Frame, *, wait: bool = False) -> None:
        """Record a copy of a frame.

        Args:
            frame: It stays the caller's.
            wait: Whether to wait for room in the queue; else the oldest frame in it is dropped.
        """
        if wait:
            self._queue.wait_for_room(frame.image.nbytes)
        if self._queue.is_over:
            self._refused += not self._is_closed
            return
        image = frame.image.copy()
        height, width = image.shape[:2]
        entry = FrameEntry(
            received_ns=time.monotonic_ns(),
            captured_ns=frame.captured_ns,
            seq=frame.seq,
            origin=frame.origin,
            time=_wall_time(frame.captured_ns),
            width=width,
            height=height,
            quality=self._quality,
        )
        self._refused += not self._queue.put(entry, image)

    def bad_frame(self, message: str) -> None:
        """Record that the source could not decode a frame."""
        self._queue.put(BadFrameEntry(time.monotonic_ns(), message))

    def state(self, change: StateChange) -> None:
        """Record a change of the camera's state."""
        self._queue.put(StateEntry.of(change, time.monotonic_ns()))

    def telemetry(self, values: Mapping[str, float | str | None]) -> None:
        """Record readings by name, None where one is unavailable."""
        self._queue.put(TelemetryEntry(time.monotonic_ns(), dict(values)))

    def close(self) -> None:
        """Write what waits, for a bounded time, and finish the file. Calling it again does nothing."""
        was_closed, self._is_closed = self._is_closed, True
        self._queue.finish(_DRAIN_TIMEOUT_S)
        self._thread.join(_DRAIN_TIMEOUT_S + 0.5)
        if self._thread.is_alive():
            self._fail("its disk hangs")
        if self.failure is not None and self.dropped and not was_closed:
            _log.warning("%s lacks %d frames: it ended before the run did.", self.path, self.dropped)
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        """Encode and write entry after entry; runs in its own thread."""
        try:
            self._write_all()
        except OSError as error:
            is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            reason = "the disk is full" if is_full else f"it cannot be written ({error.strerror})"
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)  # away with the part of a chunk
                self._finish(reason)
            self._fail(reason)
        except BaseException as error:  # noqa: BLE001 - nothing is swallowed: close() raises it
            self._error = error
            self._fail(f"{type(error).__name__}: {error}")
        finally:
            self._queue.discard()
            os.close(self._descriptor)
            if self._is_empty:
                with contextlib.suppress(OSError):
                    self.path.unlink()

    def _write_all(self) -> None:
        while (item := self._queue.get()) is not None:
            entry, image = item
            if isinstance(entry, FrameEntry) and image is not None:
                picture = encode(image, self._quality)
                if picture is None:
                    self._lost += 1
                    entry = DroppedEntry(entry.received_ns, 1)
                else:
                    entry = replace(entry, picture=picture)
            held = self.frames
            try:
                fits = self._write(entry)
            finally:
                self._lost += isinstance(entry, FrameEntry) and self.frames == held
            if not fits:
                reason = f"its limit of {self._max_bytes} bytes is reached"
                self.is_full = True
                self._finish(reason)
                self._fail(reason)
                return
        self._finish("")

    def _write(self, entry: Entry) -> bool:
        """Append an entry; return whether it is within the size limit.

        Raises:
            OSError: As from the file system; the file may end with a part of it.
        """
        chunk = chunk_bytes(to_chunk(entry))
        end_bytes = 0 if isinstance(entry, EndEntry) else _END_BYTES
        if self._max_bytes is not None and self._size + len(chunk) + end_bytes > self._max_bytes:
            return False
        left = memoryview(chunk)
        while left:
            left = left[os.write(self._descriptor, left) :]
        self._size += len(chunk)
        self.frames += isinstance(entry, FrameEntry)
        self._is_empty &= not isinstance(entry, FrameEntry)
        if time.monotonic() - self._synced_s > _SYNC_S:
            os.fsync(self._descriptor)
            self._synced_s = time.monotonic()
        return True

    def _finish(self, reason: str) -> None:
        """Note what was dropped at the end, and that this is the end."""
        self._queue.discard()
        self._write(EndEntry(time.monotonic_ns(), reason, self.frames, self.dropped))
        os.fsync(self._descriptor)

    def _fail(self, reason: str) -> None:
        if self.failure is not None:
            return
        self.failure = f"{self.path}: {reason} after {self.frames} frames: recording stopped."
        self._queue.discard()
        _log.warning("%s The run goes on, and what was recorded can be replayed.", self.failure)


def _wall_time(monotonic_ns: int) -> str:
    """Return an instant of the monotonic clock as wall time."""
    ago = timedelta(microseconds=(time.monotonic_ns() - monotonic_ns) / 1e3)
    return (datetime.now(timezone.utc) - ago).isoformat(timespec="milliseconds")


class Recorded:
    """Passes a source through, and a copy of each frame to a writer, as the loop receives it: pixel-exact.

    A camera is never held up: where the disk is too slow, the recording lacks frames and says so. Files, of
    which nothing may be lost, wait for the disk.

    Args:
        source: What is recorded; not open yet.
        writer: Closed with the source. Who hears of changes of state, or has readings, gives them to it.
    """

    def __init__(self, source: FrameSource, writer: SessionWriter) -> None:
        self._source = source
        self._writer = writer
        self._waits = False

    @property
    def dropped(self) -> int:
        """Frames that the source dropped by itself."""
        return int(getattr(self._source, "dropped", 0))

    @property
    def lost(self) -> int:
        """Frames that the source or its driver lost."""
        return int(getattr(self._source, "lost", 0))

    def open(self) -> SourceInfo:
        """Open the source; see `camera.base.FrameSource`."""
        info = self._source.open()
        self._waits = not info.live
        self._writer.source(info)
        return info

    def read(self) -> Frame:
        """Return the source's next frame; see `camera.base.FrameSource`."""
        try:
            frame = self._source.read()
        except BadFrameError as error:
            self._writer.bad_frame(str(error))
            raise
        self._writer.frame(frame, wait=self._waits)
        return frame

    def close(self) -> None:
        """Close the source, then finish the recording, which takes a few seconds where the disk is slow."""
        self._source.close()
        self._writer.close()
