"""The child process: it reads one source, and copies each frame once into memory that its parent shares."""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import os
import signal
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

import numpy as np

from camera.base import Frame, FrameSource
from camera.errors import BadFrameError, CameraError
from camera.isolation.channel import Channel, ChannelClosedError, Message
from camera.isolation.messages import pack_error, pack_info, unpack_transform
from camera.isolation.shared_frames import FrameRing, create_memory
from camera.options import Transform
from camera.transform import Transformed

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # linux/prctl.h


def main(descriptor: int, parent: int) -> None:
    """Read a source until the parent has enough of it. Never returns.

    Args:
        descriptor: Of the channel to the parent; the first message on it says what to read.
        parent: Process number.
    """
    faulthandler.enable()
    # Only the parent says when this ends: a service manager, or a terminal that is closed, signals to both.
    # Not SIG_IGN: programs that a driver starts would inherit it. Nor is a driver's system call to fail.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _go_on)
        signal.siginterrupt(number, False)
    die_with_parent(parent)
    channel = Channel.from_descriptor(descriptor)
    try:
        _serve(channel)
    except ChannelClosedError:
        pass  # the parent is gone
    except BaseException:  # noqa: BLE001 - this is the end of the process
        traceback.print_exc()
        os._exit(1)
    # Not sys.exit: libraries that wait for their own threads at exit may wait for ever.
    os._exit(0)


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process as soon as its parent is gone, even if a driver holds every lock.

    The kernel means the thread that started it (`PR_SET_PDEATHSIG` in prctl(2)); the parent sees to it that
    this one lives long enough. Programs that a driver has started are ended by a living parent alone:
    where it is killed, they are left to the service manager.

    Args:
        parent: Process number. If it is gone already, this process ends here.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    libc.prctl(_PR_SET_NAME, ctypes.c_char_p(b"edge-mnv2-cam"))
    if os.getppid() != parent:
        os._exit(0)


def _go_on(_number: int, _frame: FrameType | None) -> None:
    """Take a signal, and do nothing."""


def _serve(channel: Channel) -> None:
    job, _ = channel.receive()
    outlet = _Outlet(channel, int(job["slots"]))
    closing = threading.Event()
    source: FrameSource | None = None
    try:
        source = _source(job)
        threading.Thread(target=_listen, args=(channel, outlet, source, closing), daemon=True).start()
        channel.send({"kind": "started"})
        if not closing.is_set():
            channel.send({"kind": "opened", **pack_info(source.open())})
        while not closing.is_set():
            try:
                with source.read() as frame:
                    outlet.put(frame)
            except BadFrameError as error:
                channel.send({"kind": "bad", **pack_error(error)})
    except ChannelClosedError:
        raise
    except CameraError as error:  # the end of the stream, too
        channel.send({"kind": "error", **pack_error(error)})
    except Exception as error:  # noqa: BLE001 - whatever a vendor's library raises is a camera's failure
        traceback.print_exc()
        text = f"The camera's driver failed with {type(error).__name__}: {error}"
        channel.send({"kind": "error", **pack_error(CameraError(text))})
    # Last, as it may hang: the parent knows by now.
    if source is not None:
        source.close()


def _source(job: Message) -> FrameSource:
    """Make a source from the name of a function, `module:function`, that takes a URI."""
    module, _, name = str(job["make"]).partition(":")
    make = cast("Callable[[str], FrameSource]", getattr(importlib.import_module(module), name))
    source, transform = make(job["uri"]), unpack_transform(job["transform"])
    return source if transform == Transform() else Transformed(source, transform)


def _listen(channel: Channel, outlet: _Outlet, source: FrameSource, closing: threading.Event) -> None:
    """Follow the parent: slots that are free again, the end."""
    try:
        while True:
            message, _ = channel.receive()
            if message["kind"] == "free":
                outlet.free(message["ring"], message["slot"])
            else:
                closing.set()
                source.close()
    except ChannelClosedError:
        os._exit(0)
    except BaseException:  # noqa: BLE001 - without this thread nobody would listen
        traceback.print_exc()
        os._exit(1)


class _Outlet:
    """Puts frames into shared memory and tells the parent."""

    def __init__(self, channel: Channel, slots: int) -> None:
        self._channel = channel
        self._slots = slots
        self._ring: FrameRing | None = None
        self._ring_number = 0
        self._free: list[int] = []
        self._dropped = 0
        self._lock = threading.Lock()

    def free(self, ring: int, slot: int) -> None:
        """Take back a slot; those of an earlier ring are gone."""
        with self._lock:
            if ring == self._ring_number:
                self._free.append(slot)

    def put(self, frame: Frame) -> None:
        """Copy a frame and send word of it; it is dropped and counted where the parent holds every slot."""
        image = frame.image
        height, width = image.shape[:2]
        ring, descriptor = self._ring, None
        if ring is None or image.nbytes > ring.slot_bytes:
            ring, descriptor = self._new_ring(image.nbytes)
        try:
            with self._lock:
                slot = self._free.pop() if self._free else None
                number = self._ring_number
            if slot is None:
                self._dropped += 1
                return
            np.copyto(ring.picture(slot, height, width), image)
            message: dict[str, Any] = {
                "kind": "frame",
                "ring": number,
                "slot": slot,
                "seq": frame.seq,
                "captured_ns": frame.captured_ns,
                "height": height,
                "width": width,
                "origin": frame.origin,
                "dropped": self._dropped,
            }
            if descriptor is not None:
                message |= {"slots": ring.slots, "slot_bytes": ring.slot_bytes}
            self._channel.send(message, descriptor)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _new_ring(self, slot_bytes: int) -> tuple[FrameRing, int]:
        """Make slots that are large enough; the parent learns of them with the frame that follows."""
        descriptor = create_memory(self._slots, slot_bytes)
        try:
            ring = FrameRing(descriptor, self._slots, slot_bytes)
        except CameraError:
            os.close(descriptor)
            raise
        with self._lock:
            self._ring = ring
            self._ring_number += 1
            self._free = list(range(self._slots))
        return ring, descriptor
