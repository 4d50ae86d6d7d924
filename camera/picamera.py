"""CSI cameras of a Raspberry Pi (`picamera://N`), through picamera2 and libcamera.

https://datasheets.raspberrypi.com/camera/picamera2-manual.pdf
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np

from camera import uri_options
from camera.base import Frame, SourceInfo
from camera.bounded import finish_within
from camera.errors import CameraError, UnsupportedSourceError
from camera.picamera_acquire import acquire
from camera.picamera_controls import read_controls
from camera.timestamp_gaps import lost_between
from camera.uri import Uri

if TYPE_CHECKING:
    from picamera2 import CompletedRequest, Picamera2

# libcamera names formats as the kernel's DRM does, by the bits of a little-endian word: RGB888 lies in memory
# as B, G, R, which is OpenCV's order.
_BGR = "RGB888"
_PATIENCE_S = 5.0
_PLAUSIBLE_AGE_NS = 10_000_000_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PiCameraOptions:
    """What is asked of a camera.

    Attributes:
        number: As `rpicam-hello --list-cameras` counts, from 0.
        size: (width, height) of the frames; the image processor scales to it.
        fps: Frames per second; None for picamera2's 30.
        buffers: Frames that may be under way at once, each of them in memory that the camera shares; None for
            picamera2's 6.
        controls: libcamera's controls by name, as text.
    """

    number: int = 0
    size: tuple[int, int] = (1280, 720)
    fps: float | None = None
    buffers: int | None = None
    controls: Mapping[str, str] = field(default_factory=dict)


class PiCamera:
    """A camera that libcamera knows. A frame lies in a buffer of the camera's until it is released.

    Args:
        options: What is asked of it.
        origin: How records name it.
    """

    def __init__(self, options: PiCameraOptions, origin: str) -> None:
        self._options = options
        self._origin = origin
        self._camera: Picamera2 | None = None
        # A capture that was waited for in vain stays in picamera2's queue: it is waited for again. A second
        # one would leave the first one's buffer with nobody.
        self._job: object | None = None
        self._woken = threading.Event()  # the capture is done, or the camera is closed
        self._lock = threading.Lock()  # over `_camera`, which `release` and `close` use from other threads
        self._patience_s = _PATIENCE_S
        self._seq = -1
        self._last: tuple[int, float] | None = None  # SensorTimestamp and FrameDuration of the last frame

    def open(self) -> SourceInfo:
        """Open and start the camera; see `camera.base.FrameSource`."""
        self.close()
        self._camera = camera = acquire(self._options.number, self._origin)
        self._seq, self._last = -1, None
        try:
            config = self._configured(camera)
            camera.start()
        except CameraError:
            self.close()
            raise
        except (RuntimeError, OSError, ValueError) as error:
            self.close()
            raise CameraError(f"{self._origin} cannot be started: {error}.") from error
        width, height = config["main"]["size"]
        return SourceInfo(self._origin, live=True, fps=self._rate(camera), frames=None, size=(width, height))

    def read(self) -> Frame:
        """Wait for the next frame; see `camera.base.FrameSource`."""
        camera = self._camera
        if camera is None:
            raise CameraError(f"{self._origin} is not open.")
        request = self._next_request(camera)
        try:
            metadata = request.get_metadata()
            sensor_ns = metadata.get("SensorTimestamp")
            self._seq += 1 + self._lost_before(sensor_ns, metadata.get("FrameDuration"))
            return self._frame(camera, request, _captured_ns(sensor_ns))
        except BaseException:
            self._give_back(camera, request.release)
            raise

    def close(self) -> None:
        """Stop the camera; one that hangs, as after its ribbon was pulled, is left after a few seconds."""
        with self._lock:
            camera, self._camera, self._job = self._camera, None, None
        self._woken.set()
        if camera is None:
            return

        def stop() -> None:
            try:
                # Without frames, `stop` would wait behind a capture for ever. Old versions do not have it.
                if hasattr(camera, "cancel_all_and_flush"):
                    camera.cancel_all_and_flush()
                camera.stop()
                camera.close()
            except (RuntimeError, OSError, AttributeError) as error:
                _log.warning("%s: %s while it was closed.", self._origin, error)

        if not finish_within(stop):
            # picamera2 would close it again at exit, and hang there.
            atexit.unregister(camera.close)
            _log.warning(
                "%s does not stop: is its ribbon in place? It stays in use until this process ends.",
                self._origin,
            )

    def _lost_before(self, sensor_ns: int | None, duration_us: float | None) -> int:
        """Return how many frames of the sensor nobody took since the last one.

        By its timestamps: no count that libcamera offers has them. That of a request counts requests; that of
        a buffer counts the image processor's jobs, and a frame without a buffer never comes so far.
        """
        last = self._last
        self._last = None if sensor_ns is None or not duration_us else (sensor_ns, duration_us)
        if last is None or self._last is None:
            return 0
        # Automatic exposure changes it from frame to frame.
        interval_us = max(last[1], self._last[1])
        return lost_between(self._last[0] - last[0], interval_us * 1000)

    def _configured(self, camera: Picamera2) -> Mapping[str, Any]:
        options = self._options
        controls = read_controls(self._origin, options.controls, camera.camera_controls)
        if options.fps is not None:
            interval_us = round(1e6 / options.fps)
            controls["FrameDurationLimits"] = (interval_us, interval_us)
        buffers = {} if options.buffers is None else {"buffer_count": options.buffers}
        camera.configure(
            camera.create_video_configuration(
                main={"size": options.size, "format": _BGR}, controls=controls, **buffers
            )
        )
        config: Mapping[str, Any] = camera.camera_configuration()
        if config["main"]["format"] != _BGR:
            raise UnsupportedSourceError(
                f"{self._origin} gives no {_BGR} but {config['main']['format']}: for a USB camera, "
                "use /dev/videoN."
            )
        fastest_us = _lowest(camera.camera_controls.get("FrameDurationLimits"))
        if options.fps is not None and fastest_us and options.fps > 1.01e6 / fastest_us:
            width, height = config["main"]["size"]
            raise UnsupportedSourceError(
                f"{self._origin} cannot give {options.fps:g} frames per second: at {width}x{height} at most "
                f"{1e6 / fastest_us:.1f}."
            )
        # An exposure may take long, and so may the frames before it.
        interval_s = 1 / options.fps if options.fps else 0.0
        exposure_us = controls.get("ExposureTime", 0)
        exposure_s = exposure_us / 1e6 if isinstance(exposure_us, (int, float)) else 0.0
        self._patience_s = _PATIENCE_S + 4 * max(interval_s, exposure_s)
        return config

    def _rate(self, camera: Picamera2) -> float | None:
        if self._options.fps is not None:
            return self._options.fps
        interval_us = _lowest(camera.camera_configuration()["controls"].get("FrameDurationLimits"))
        return 1e6 / interval_us if interval_us else None

    def _next_request(self, camera: Picamera2) -> CompletedRequest:
        job = self._job
        if job is None:
            self._woken.clear()
            self._check_open(camera)  # `close` may have come just before
            # The time-out is ours: old versions have none.
            self._job = job = camera.capture_request(wait=False, signal_function=lambda _: self._woken.set())
        is_done = self._woken.wait(self._patience_s)
        self._check_open(camera)
        if not is_done:
            raise CameraError(
                f"{self._origin} gave no frame for {self._patience_s:g} s: check its ribbon and the power "
                "supply."
            )
        self._job = None
        try:
            return camera.wait(job)
        except (CancelledError, RuntimeError, OSError) as error:
            raise CameraError(f"{self._origin} failed: {error}.") from error

    def _check_open(self, camera: Picamera2) -> None:
        if self._camera is not camera:
            raise CameraError(f"{self._origin} is not open.")

    def _frame(self, camera: Picamera2, request: CompletedRequest, captured_ns: int) -> Frame:
        from picamera2 import MappedArray

        # Newer versions write the processor's cache back unless they are told that nothing was written.
        how = {"write": False} if "write" in signature(MappedArray).parameters else {}
        mapped = MappedArray(request, "main", **how)
        image = mapped.__enter__().array
        if image.flags.c_contiguous:

            def release() -> None:
                mapped.__exit__(None, None, None)
                request.release()

            return Frame(
                image, self._seq, captured_ns, self._origin, lambda: self._give_back(camera, release)
            )
        # Rows are padded to what the image processor likes.
        copy = np.ascontiguousarray(image)
        mapped.__exit__(None, None, None)
        request.release()
        return Frame(copy, self._seq, captured_ns, self._origin)

    def _give_back(self, camera: Picamera2, release: Callable[[], None]) -> None:
        """Release a buffer, unless the camera was closed: its buffers are gone then."""
        with self._lock:
            if self._camera is camera:
                release()


def from_uri(uri: Uri) -> PiCamera:
    """Return the source for `picamera://N?size=1280x720&fps=30&buffers=6&AfMode=continuous`.

    Options that begin with a capital letter are libcamera's controls, see `Picamera2.camera_controls`.

    Raises:
        UnsupportedSourceError: N is no number, or an option is wrong.
    """
    controls = {name: value for name, value in uri.options.items() if name[:1].isupper()}
    uri_options.no_more(uri, ("size", "fps", "buffers", *controls))
    number = uri.address or "0"
    if not number.isascii() or not number.isdecimal() or len(number) > 3:
        raise UnsupportedSourceError(f"{uri.shown}: give the number of the camera, as in {uri.scheme}://0.")
    options = PiCameraOptions(
        number=int(number),
        size=uri_options.size(uri) or (1280, 720),
        fps=uri_options.number(uri, "fps", 0.01, 1000),
        buffers=uri_options.integer(uri, "buffers", 2, 32),
        controls=controls,
    )
    return PiCamera(options, uri.shown)


def _captured_ns(sensor_ns: int | None) -> int:
    """Return a sensor's time in the domain of `time.monotonic_ns`.

    libcamera stamps the exposure of the first row by CLOCK_BOOTTIME (see its `SensorTimestamp`). Unlike the
    monotonic clock, that one runs on while the machine is suspended.
    """
    now_ns = time.monotonic_ns()
    if sensor_ns is None:
        return now_ns
    age_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - sensor_ns
    return now_ns - age_ns if 0 <= age_ns < _PLAUSIBLE_AGE_NS else now_ns


def _lowest(limits: object) -> float | None:
    """Return the first of (lowest, highest, default), or of (lowest, highest)."""
    return float(limits[0]) if isinstance(limits, tuple) and isinstance(limits[0], (int, float)) else None
