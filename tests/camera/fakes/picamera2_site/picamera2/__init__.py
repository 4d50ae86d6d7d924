"""A stand-in for picamera2: its queues, jobs, buffers and time-outs, without a camera.

Like the real one it has a thread that completes requests, keeps the newest one for whoever asks, hands out
buffers by reference count, and runs jobs (`stop` among them) in that thread. What a test wants of it is said
in `scene`.
"""

from __future__ import annotations

import atexit
import errno
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field

import numpy as np

_SUSPENDED_NS = 3_600_000_000_000  # so long the machine was asleep: CLOCK_BOOTTIME is ahead by that


@dataclass
class Scene:
    """What the cameras do.

    Attributes:
        models: The cameras that are there.
        busy: Another process holds them.
        stride_padding: Bytes at the end of each row.
        only_format: What the camera gives whatever is asked for; None: what is asked for.
        flowing: While it is clear, no frame comes (a pulled ribbon).
        stop_gate: While it is clear, `stop` hangs.
        violations: What a caller must not do, and did.
        taken: Frames that the sensor exposed.
        unserved: Frames for which no buffer was free.
        opened: Every camera that was made.
        lost_after: After so many frames the ribbon is pulled: no frame comes, and `stop` hangs; None: never.
            For a process of its own, the environment variable FAKE_PICAMERA2_LOST_AFTER says it.
    """

    models: list[str] = field(default_factory=lambda: ["imx708", "imx219"])
    busy: bool = False
    stride_padding: int = 0
    only_format: str | None = None
    flowing: threading.Event = field(default_factory=threading.Event)
    stop_gate: threading.Event = field(default_factory=threading.Event)
    violations: list[str] = field(default_factory=list)
    taken: int = 0
    unserved: int = 0
    opened: list[Picamera2] = field(default_factory=list)
    lost_after: int | None = None

    def __post_init__(self) -> None:
        self.flowing.set()
        self.stop_gate.set()
        if "FAKE_PICAMERA2_LOST_AFTER" in os.environ:
            self.lost_after = int(os.environ["FAKE_PICAMERA2_LOST_AFTER"])


scene = Scene()


def boottime_ns() -> int:
    """CLOCK_BOOTTIME of a machine that was suspended."""
    return time.monotonic_ns() + _SUSPENDED_NS


@dataclass
class _FrameMetadata:
    """Of libcamera. `sequence` counts jobs of the image processor, not frames that it never got."""

    sequence: int = 0
    timestamp: int = 0


class _FrameBuffer:
    def __init__(self, size: int) -> None:
        self.metadata = _FrameMetadata()
        self._pixels = np.zeros(size, np.uint8)


class _LibcameraRequest:
    """Of libcamera. `sequence` counts the requests that were queued, not frames."""

    def __init__(self, size: int) -> None:
        self.buffers = {"stream 0": _FrameBuffer(size)}
        self.cookie = 0
        self.sequence = 0
        self.metadata: dict[str, object] = {}

    @property
    def _pixels(self) -> np.ndarray:
        return self.buffers["stream 0"]._pixels


class CompletedRequest:
    def __init__(self, request: _LibcameraRequest, picam2: Picamera2) -> None:
        self.request: _LibcameraRequest | None = request
        self.picam2 = picam2
        self.config = dict(picam2.camera_config)
        self.stream_map = {"main": "stream 0"}
        self.ref_count = 1
        self.mapped = 0
        self.lock = threading.Lock()
        self.stop_count = picam2.stop_count

    def acquire(self) -> None:
        with self.lock:
            if self.ref_count == 0:
                raise RuntimeError("CompletedRequest: acquiring lock with ref_count 0")
            self.ref_count += 1

    def release(self) -> None:
        with self.lock:
            self.ref_count -= 1
            if self.ref_count < 0:
                scene.violations.append("released too often")
                raise RuntimeError("CompletedRequest: lock now has negative ref_count")
            if self.ref_count == 0:
                if self.mapped:
                    scene.violations.append("released while mapped")
                if self.picam2.camera is not None and self.stop_count == self.picam2.stop_count:
                    self.request._pixels[:] = 0xEE  # the sensor may write into it from now on
                    self.picam2.queue_request(self.request)
                self.request = self.config = self.stream_map = None

    def get_metadata(self) -> dict[str, object]:
        return dict(self.request.metadata)


class MappedArray:
    def __init__(
        self, request: CompletedRequest, stream: str, reshape: bool = True, write: bool = True
    ) -> None:
        self._request = request
        self._stream = stream
        self._array: np.ndarray | None = None

    def __enter__(self) -> MappedArray:
        config = self._request.config[self._stream]
        width, height = config["size"]
        rows = self._request.request._pixels.reshape(height, config["stride"])
        self._array = rows[:, : width * 3].reshape(height, width, 3)
        self._request.mapped += 1
        return self

    def __exit__(self, *_: object) -> None:
        if self._array is None:
            scene.violations.append("unmapped twice")
        if self._request.picam2.camera is None:
            raise OSError(errno.EBADF, "the buffer's file was closed with the camera")
        self._array = None
        self._request.mapped -= 1

    @property
    def array(self) -> np.ndarray | None:
        return self._array


class _Job:
    def __init__(self, functions: list, signal_function: Callable[[_Job], None] | None = None) -> None:
        self.functions = functions
        self.signal_function = signal_function
        self.future: Future = Future()
        self.result: object = None

    def execute(self) -> bool:
        try:
            while self.functions:
                done, self.result = self.functions[0]()
                if not done:
                    return False
                self.functions.pop(0)
        except Exception as error:  # noqa: BLE001 - the real one does so
            self.future.set_exception(error)
            self.functions = []
        return True

    def signal(self) -> None:
        if not self.future.done():
            self.future.set_result(self.result)
        if self.signal_function is not None:
            self.signal_function(self)

    def cancel(self) -> None:
        self.future.set_exception(CancelledError())

    def get_result(self, timeout: float | None = None) -> object:
        return self.future.result(timeout=timeout)


class Picamera2:
    @staticmethod
    def global_camera_info() -> list[dict[str, object]]:
        return [
            {"Model": model, "Location": 2, "Rotation": 180, "Id": f"/base/i2c/{model}@1a", "Num": index}
            for index, model in enumerate(scene.models)
        ]

    def __init__(self, camera_num: int = 0, verbose_console: object = None, tuning: object = None) -> None:
        try:
            if scene.busy or any(other.camera == camera_num for other in scene.opened):
                raise RuntimeError("Failed to acquire camera: Device or resource busy")
        except RuntimeError:
            raise RuntimeError("Camera __init__ sequence did not complete.")  # noqa: B904 - as the real one
        self.camera: int | None = camera_num
        self.camera_config: dict | None = None
        self.camera_controls: dict[str, tuple] = {
            "AeEnable": (False, True, None),
            "AfMode": (0, 2, 0),
            "AnalogueGain": (1.0, 16.0, None),
            "ColourGains": (0.0, 32.0, None),
            "ExposureTime": (1, 66666, 20000),
            "FrameDurationLimits": (8333, 120000, 33333),
            "ScalerCrop": ((0, 0, 64, 64), (0, 0, 4608, 2592), (0, 0, 4608, 2592)),
        }
        self.stop_count = 0
        self.started = False
        self.completed_requests: list[CompletedRequest] = []
        self._free: list[_LibcameraRequest] = []
        self._queued = 0
        self._processed = 0
        self._job_list: list[_Job] = []
        self.lock = threading.Lock()
        self._wake = threading.Event()
        self._running = False
        self._thread: threading.Thread | None = None
        scene.opened.append(self)
        atexit.register(self.close)

    def create_video_configuration(
        self,
        main: dict | None = None,
        buffer_count: int = 6,
        controls: dict | None = None,
        queue: bool = True,
        **_: object,
    ) -> dict:
        main = {"format": "XBGR8888", "size": (1280, 720), **(main or {})}
        main["size"] = tuple(side - side % 2 for side in main["size"])
        return {
            "main": main,
            "buffer_count": buffer_count,
            "controls": {"FrameDurationLimits": (33333, 33333), **(controls or {})},
            "queue": queue,
        }

    def configure(self, camera_config: dict) -> None:
        if self.started:
            raise RuntimeError("Camera must be stopped before configuring")
        for name in camera_config["controls"]:
            if name not in self.camera_controls:
                raise RuntimeError(f"Control {name} is not advertised by libcamera")
        main = dict(camera_config["main"])
        main["format"] = scene.only_format or main["format"]
        width, height = main["size"]
        main["stride"] = width * 3 + scene.stride_padding
        main["framesize"] = main["stride"] * height
        self.camera_config = {**camera_config, "main": main}
        # A larger picture takes the sensor longer to read.
        fastest_us = 8333 if width <= 1536 else 17849
        self.camera_controls["FrameDurationLimits"] = (fastest_us, 120000, 33333)

    def camera_configuration(self) -> dict:
        return self.camera_config

    def start(self) -> None:
        if self.camera_config is None:
            raise RuntimeError("Camera has not been configured")
        size = self.camera_config["main"]["framesize"]
        for _ in range(self.camera_config["buffer_count"]):
            self.queue_request(_LibcameraRequest(size))
        self.started = True
        self._running = True
        self._thread = threading.Thread(target=self._loop, name="fake picamera2", daemon=True)
        self._thread.start()

    def queue_request(self, request: _LibcameraRequest) -> None:
        if any(request is other for other in self._free):
            scene.violations.append("queued twice")
        request.sequence = self._queued
        self._queued += 1
        self._free.append(request)

    def capture_request(
        self, wait: object = None, signal_function: object = None, flush: object = None
    ) -> object:
        def capture() -> tuple[bool, object]:
            return (True, self.completed_requests.pop(0)) if self.completed_requests else (False, None)

        return self._dispatch([capture], wait, signal_function)

    def wait(self, job: _Job, timeout: float | None = None) -> object:
        return job.get_result(timeout=timeout)

    def cancel_all_and_flush(self) -> None:
        with self.lock:
            for job in self._job_list:
                job.cancel()
            self._job_list = []

    def stop(self) -> None:
        if self.started:
            self._dispatch([self._stop], True)

    def close(self) -> None:
        atexit.unregister(self.close)
        if self.camera is None:
            return
        self.stop()
        self._running = False
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self.camera = None

    def _stop(self) -> tuple[bool, None]:
        scene.stop_gate.wait()
        self.stop_count += 1
        self.started = False
        while self.completed_requests:
            self.completed_requests.pop(0).release()
        return True, None

    def _dispatch(self, functions: list, wait: object, signal_function: object = None) -> object:
        job = _Job(functions, signal_function)
        with self.lock:
            self._job_list.append(job)
        self._wake.set()
        if wait is True or (wait is None and signal_function is None):
            return job.get_result()
        return job.get_result(timeout=wait) if wait else job

    def _loop(self) -> None:
        interval_us = self.camera_config["controls"]["FrameDurationLimits"][0]
        due = time.monotonic()
        while self._running:
            woken = self._wake.wait(max(0.0, due - time.monotonic()))
            self._wake.clear()
            if not woken or time.monotonic() >= due:
                # The sensor keeps its own time, however late this thread runs.
                self._expose(round(due * 1e9) + _SUSPENDED_NS, interval_us)
                due += interval_us / 1e6
            self._process()

    def _expose(self, timestamp_ns: int, interval_us: int) -> None:
        if scene.taken == scene.lost_after:
            scene.flowing.clear()
            scene.stop_gate.clear()
        if not self.started or not scene.flowing.is_set():
            return
        number = scene.taken
        scene.taken += 1
        with self.lock:
            if not self._free:
                scene.unserved += 1
                return
            request = self._free.pop(0)
        request.buffers["stream 0"].metadata = _FrameMetadata(self._processed, timestamp_ns)
        self._processed += 1
        request.metadata = {
            "SensorTimestamp": timestamp_ns,
            "ExposureTime": 8000,
            "FrameDuration": interval_us,
        }
        self._draw(request._pixels, number)
        self.completed_requests.append(CompletedRequest(request, self))

    def _draw(self, buffer: np.ndarray, sequence: int) -> None:
        """Red, with the frame's number in green: R first in memory for BGR888, B first for RGB888."""
        main = self.camera_config["main"]
        width, height = main["size"]
        rows = buffer.reshape(height, main["stride"])
        rows[:, width * 3 :] = 0xDD
        red = (200, sequence % 256, 10)
        rows[:, : width * 3] = np.tile(red if main["format"] == "BGR888" else red[::-1], width)

    def _process(self) -> None:
        finished = []
        with self.lock:
            while self._job_list and self._job_list[0].execute():
                finished.append(self._job_list.pop(0))
            keep = 1 if self.camera_config["queue"] and self.camera_config["buffer_count"] > 1 else 0
            dropped = self.completed_requests[: max(0, len(self.completed_requests) - keep)]
            del self.completed_requests[: len(dropped)]
        for request in dropped:
            request.release()
        for job in finished:
            job.signal()


def become_old() -> None:
    """Have no more than version 0.3.12, of Raspberry Pi OS 12: no time-outs, no way to cancel."""

    class OldMappedArray(MappedArray):
        def __init__(self, request: CompletedRequest, stream: str, reshape: bool = True) -> None:
            super().__init__(request, stream, reshape)

    globals()["MappedArray"] = OldMappedArray
    Picamera2.wait = lambda self, job: job.get_result()
    del Picamera2.cancel_all_and_flush
