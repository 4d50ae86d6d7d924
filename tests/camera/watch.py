"""A camera that is read on and on while a test does things to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from camera import CameraState, EndOfStream, FrameSource, StateChange
from tests.camera.held import LONG_S


class Watch:
    """Reads a source in a thread of its own, and waits for its states.

    Attributes:
        changes: All changes of state so far.
        sizes: (width, height) of the frames, each where it began.
        seqs: Number of each frame.
        failure: What reading ended with, None while it goes on.
    """

    def __init__(self, make: Callable[[Callable[[StateChange], None]], FrameSource]) -> None:
        self.changes: list[StateChange] = []
        self.sizes: list[tuple[int, int]] = []
        self.seqs: list[int] = []
        self.failure: Exception | None = None
        self._changed = threading.Condition()
        self.source = make(self._note)
        self._thread = threading.Thread(target=self._read)

    def wait(self, condition: Callable[[], bool], timeout_s: float = LONG_S) -> None:
        """Wait until something is true of the attributes."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout_s), (self.changes, self.failure)

    def wait_for(self, state: CameraState, since: int = 0) -> float:
        """Wait for a change to a state; return when it was, in seconds of the monotonic clock.

        Args:
            state: Which.
            since: So many earlier changes do not count.
        """
        self.wait(lambda: any(change.state is state for change in self.changes[since:]))
        return next(change.at_ns for change in self.changes[since:] if change.state is state) / 1e9

    def __enter__(self) -> Watch:
        self.source.open()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        start_s = time.monotonic()
        self.source.close()
        self._thread.join(LONG_S)
        assert not self._thread.is_alive()
        assert time.monotonic() - start_s < LONG_S
        if kind is None:
            assert isinstance(self.failure, EndOfStream), self.failure

    def _note(self, change: StateChange) -> None:
        with self._changed:
            self.changes.append(change)
            self._changed.notify_all()

    def _read(self) -> None:
        try:
            while True:
                with self.source.read() as frame:
                    size = frame.image.shape[1], frame.image.shape[0]
                    with self._changed:
                        self.seqs.append(frame.seq)
                        if size not in self.sizes[-1:]:
                            self.sizes.append(size)
                        self._changed.notify_all()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.failure = error
