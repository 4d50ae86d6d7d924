"""A source that is read by a child process."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from contextlib import suppress
from functools import partial

from camera.base import Frame, SourceInfo
from camera.credentials import without_credentials
from camera.errors import BadFrameError, CameraError
from camera.handover import Handover, info_in_time
from camera.isolation.channel import Channel, ChannelClosedError, Message
from camera.isolation.child_process import ChildProcess
from camera.isolation.messages import pack_transform, unpack_error, unpack_info
from camera.isolation.shared_frames import FrameRing, check_memory
from camera.left_behind import check_left_behind
from camera.options import Transform

# One that is written, one on its way, one that waits, one that is looked at.
SLOTS = 4
# A small device takes seconds to start an interpreter and to load OpenCV; no driver has been called by then.
_START_TIMEOUT_S = 30.0
# So long a child may take to stop before it is killed. To stop the pipelines of Argus and libcamera takes
# seconds, and a SIGKILL in the middle leaves a daemon or a device behind that nobody can use. With what the
# rest of a run takes, three of them leave it within the five in which a service is expected to end.
_STOP_S = 3.0
# One that gave nothing for a while hangs in its driver: waiting longer would not help it.
_STOP_SILENT_S = 1.0
# It counts as silent after this, or after two of its intervals where it is slow.
_SILENT_AFTER_S = 1.0
_KILL_S = 2.0
# How often a child that hung up, but did not end yet, is looked at.
_POLL_S = 0.01

_log = logging.getLogger(__name__)


class ProcessReader:
    """Reads a source in a child process; see `camera.timed.TimedSource`. It is opened once.

    One thread starts the child, hears what it says, and takes note of its end. The kernel kills a child whose
    parent dies as soon as the *thread* ends that started it, so this one lives as long as the child.

    Args:
        uri: Of the source. It reaches the child through a socket: neither command lines nor the environment
            show it.
        transform: Done by the child.
        make: `module:function` that makes the source from the URI, in the child.
        left_behind: Threads of children that even the kernel cannot end, of this and earlier attempts: one
            list for all readers of a camera.
    """

    def __init__(
        self,
        uri: str,
        transform: Transform,
        make: str = "camera.uri:raw_source",
        left_behind: list[threading.Thread] | None = None,
    ) -> None:
        self._job = {
            "uri": uri,
            "transform": pack_transform(transform),
            "make": make,
            "slots": SLOTS,
        }
        self._name = without_credentials(uri)
        self._left_behind = [] if left_behind is None else left_behind
        self._keeper: threading.Thread | None = None
        self._handover = Handover()
        self._started = threading.Event()
        self._ended = threading.Event()
        self._closing = threading.Lock()
        self._is_closed = False
        self._channel: Channel | None = None
        self._child: ChildProcess | None = None
        self._ring: FrameRing | None = None
        self._child_dropped = 0
        self._heard_s: float | None = None  # when it was open, or gave a frame
        self._interval_s = 0.0
        self._is_stalled = False

    @property
    def dropped(self) -> int:
        """Frames that were lost between the source and `read`."""
        return self._child_dropped + self._handover.dropped

    def open(self, timeout_s: float) -> SourceInfo:
        """Start the child and wait until its source is open."""
        check_left_behind(
            self._left_behind,
            f"processes hang in the driver of {self._name}, where not even the kernel can end them: unplug "
            "the camera, or start the computer anew.",
        )
        with self._closing:
            if self._is_closed or self._channel is not None:
                raise CameraError(f"{self._name} was opened or closed before.")
            self._channel, childs_end = Channel.pair()
            try:
                self._channel.send(self._job)
            except (ChannelClosedError, ValueError) as error:
                childs_end.close()
                self._ended.set()
                raise CameraError(f"The camera's process cannot be told what to read: {error}.") from error
            self._keeper = threading.Thread(
                target=self._keep, args=(self._channel, childs_end), name=f"camera {self._name}", daemon=True
            )
            self._keeper.start()
        if not self._started.wait(_START_TIMEOUT_S):
            raise CameraError(
                f"The process of the camera {self._name} did not start in {_START_TIMEOUT_S:g} s."
            )
        return info_in_time(self._handover, self._name, timeout_s)

    def read(self, timeout_s: float) -> Frame | None:
        """Wait for the next frame. It lies in shared memory, which is used again once it is released."""
        frame = self._handover.take(timeout_s)
        self._is_stalled = frame is None
        return frame

    def close(self) -> None:
        """Ask the child to end, then kill it: soon if it gave no frames any more, else after seconds."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
        self._handover.close()
        self._started.set()
        if self._channel is None:
            return
        patience_s = self._patience_s()
        self._ask(self._channel)
        if self._ended.wait(patience_s):
            return
        if self._child is not None:
            _log.debug("the process of the camera %s does not end by itself: killing it", self._name)
            self._child.kill()
        if not self._ended.wait(_KILL_S) and self._keeper is not None:
            self._left_behind.append(self._keeper)
            _log.error("the process of the camera %s cannot be killed: it hangs in the kernel", self._name)

    def _keep(self, channel: Channel, childs_end: Channel) -> None:
        """Start the child, follow it, see it off; runs in a thread of its own."""
        try:
            try:
                self._child = child = ChildProcess(childs_end)
            finally:
                childs_end.close()
        except CameraError as error:
            self._handover.end(error)
        else:
            try:
                self._follow(child, channel)
            except CameraError as error:
                self._handover.end(error)
                self._ask(channel)  # it knows nothing of this
            self._see_off(child)
            self._handover.end(child.death(self._name))
        finally:
            channel.close()
            self._started.set()
            self._ended.set()

    def _follow(self, child: ChildProcess, channel: Channel) -> None:
        """Take frames, words and output until the child hangs up."""
        poll = select.poll()
        poll.register(channel.fileno(), select.POLLIN)
        poll.register(child.output.fileno(), select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor != channel.fileno():
                    if not child.read_output():
                        poll.unregister(descriptor)
                    continue
                try:
                    message, memory = channel.receive()
                    self._take(message, memory)
                except ChannelClosedError:
                    return
                except (ValueError, LookupError, TypeError, OSError) as error:
                    raise CameraError(
                        f"The process of the camera {self._name} sent what cannot be used: {error}."
                    ) from error

    def _take(self, message: Message, memory: int | None) -> None:
        """Act on one message."""
        if memory is not None:
            try:
                check_memory(memory, message["slots"], message["slot_bytes"])
                self._ring = FrameRing(memory, message["slots"], message["slot_bytes"])
            finally:
                os.close(memory)
        match message["kind"]:
            case "frame":
                self._note_life()
                self._child_dropped = message["dropped"]
                self._handover.put(self._frame(message))
            case "bad":
                self._handover.put_bad(BadFrameError(without_credentials(message["text"])))
            case "started":
                self._started.set()
            case "opened":
                self._note_life()
                self._handover.put_info(unpack_info(message))
            case _:
                self._handover.end(unpack_error(message))

    def _frame(self, message: Message) -> Frame:
        if self._ring is None:
            raise CameraError(f"The process of the camera {self._name} sent a frame without its memory.")
        ring, slot = message["ring"], message["slot"]
        return Frame(
            self._ring.picture(slot, message["height"], message["width"]),
            message["seq"],
            message["captured_ns"],
            message["origin"],
            partial(self._free, ring, slot),
        )

    def _free(self, ring: int, slot: int) -> None:
        """Give a slot back; any thread may do so, also when the child is gone."""
        if self._channel is not None:
            with suppress(ChannelClosedError):
                self._channel.send({"kind": "free", "ring": ring, "slot": slot})

    def _note_life(self) -> None:
        now_s = time.monotonic()
        if self._heard_s is not None:
            self._interval_s = now_s - self._heard_s
        self._heard_s = now_s

    def _patience_s(self) -> float:
        """Return how long the child may take to stop, by whether it is alive."""
        if self._heard_s is None or self._is_stalled:
            return _STOP_SILENT_S
        silent_s = time.monotonic() - self._heard_s
        return _STOP_S if silent_s < max(_SILENT_AFTER_S, 2 * self._interval_s) else _STOP_SILENT_S

    def _ask(self, channel: Channel) -> None:
        """Tell the child to stop."""
        with suppress(ChannelClosedError):
            channel.send({"kind": "close"})

    def _see_off(self, child: ChildProcess) -> None:
        """Wait for the end of a child that hung up, or was asked to, and see to it that the end comes."""
        began_s, patience_s = time.monotonic(), self._patience_s()
        while not child.has_ended():
            child.read_output()
            waited_s = time.monotonic() - began_s
            if waited_s > patience_s:
                child.kill()
            time.sleep(_POLL_S if waited_s < patience_s + _KILL_S else 1.0)
        child.reap()
