"""V4L2 devices (`/dev/videoN`) through OpenCV: USB cameras, capture cards."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from camera import uri_options
from camera.base import Frame, SourceInfo
from camera.errors import BadFrameError, CameraError, UnsupportedSourceError
from camera.opencv_log import SILENT, limit_log
from camera.timestamp_gaps import SteadyGaps
from camera.uri import Uri
from camera.v4l2_controls import set_controls
from camera.v4l2_device import DeviceInfo, Ioctl, opened
from camera.v4l2_errors import busy_error, missing_error, no_camera_error, open_error
from camera.v4l2_modes import Choice, Mode, Wish, choose, in_words, is_rate

if TYPE_CHECKING:
    import cv2

_OPTIONS = ("size", "fps", "format")
# OpenCV waits so long for a frame before it looks up again; whole seconds.
_SELECT_TIMEOUT_S = 2
# A camera that is there and gives nothing for so long is given up. A supervisor is faster, while a camera
# of one frame in five seconds is not cut off.
_PATIENCE_S = 10.0
# A driver timestamp older than this, or from the future, is from another clock.
_PLAUSIBLE_AGE_NS = 10_000_000_000
_CLOSE_TIMEOUT_S = 5.0
# While one is decoded the driver fills the other: with one alone, a USB camera loses every second frame,
# and with more a reader that falls behind gets older ones.
_BUFFERS = 2
_MAX_FPS = 1000

_log = logging.getLogger(__name__)


class V4l2Camera:
    """A V4L2 device.

    Args:
        device: `/dev/videoN`, or a link to it.
        wish: Format, size and rate; what it leaves open stays as the device is set, see `v4l2_modes.choose`.
        controls: Values by control name, such as `brightness` or `auto_exposure`.
        ioctl: Asks the driver; what `fcntl.ioctl` does with a structure.
    """

    def __init__(
        self,
        device: Path,
        wish: Wish = Wish(),  # noqa: B008 - frozen
        controls: Mapping[str, str] = MappingProxyType({}),
        ioctl: Ioctl = fcntl.ioctl,
    ) -> None:
        self._device = device
        self._wish = wish
        self._controls = controls
        self._ioctl = ioctl
        self._capture: cv2.VideoCapture | None = None
        self._seq = -1
        self._gaps = SteadyGaps()
        self._told_of_clock = False
        # Releasing a capture in which another thread reads would free memory that is still written to.
        self._in_use = threading.Lock()

    def open(self) -> SourceInfo:
        """Open the device and set what was asked for; see `camera.base.FrameSource`.

        Raises:
            SourceNotFoundError: There is no such device; the message names those that are there.
            UnsupportedSourceError: It is no camera, or has no such format, size, rate or control; the message
                says what it has.
            CameraError: It is used by another program, or we have no permission.
        """
        try:
            with opened(self._device, self._ioctl) as device:
                info = device.info()
                if info.not_a_camera is not None:
                    raise no_camera_error(self._device, info.not_a_camera, info.driver)
                formats = device.formats(info.buffer_type)
                modes = device.modes(formats)
                choice = choose(
                    *(str(self._device), formats, modes, self._wish),
                    current=device.current_mode(info.buffer_type),
                    driver=info.driver,
                )
                device.try_to_own(info.buffer_type)
        except OSError as error:
            if isinstance(error, CameraError):
                raise
            raise self._error(error) from error
        self._start(choice)
        try:
            return self._checked(info, choice, modes)
        except BaseException:
            self.close()
            raise

    def read(self) -> Frame:
        """Wait for the next frame; see `camera.base.FrameSource`."""
        waits_until = time.monotonic() + _PATIENCE_S
        while True:
            began = time.monotonic()
            frame = self._read_once()
            if frame is not None:
                return frame
            self._check_presence()
            now = time.monotonic()
            if now - began < _SELECT_TIMEOUT_S / 2:  # no time-out: OpenCV failed
                raise CameraError(f"{self._device} gives no more frames: its driver reports an error.")
            if now >= waits_until:
                raise CameraError(
                    f"{self._device} is there, but gave no frame for {_PATIENCE_S:g} s: plug "
                    "it in anew, and check its power."
                )

    def close(self) -> None:
        """Close the device; a driver that hangs in a read keeps it."""
        if self._capture is None or not self._in_use.acquire(timeout=_CLOSE_TIMEOUT_S):
            return
        try:
            capture, self._capture = self._capture, None
            if capture is not None:
                capture.release()
        finally:
            self._in_use.release()

    def _start(self, choice: Choice) -> None:
        # OpenCV reads this once, when it first waits for a device; its own 10 s are long for a camera.
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(_SELECT_TIMEOUT_S))
        import cv2

        # What it would print is in our errors.
        limit_log(SILENT)
        capture = cv2.VideoCapture(os.path.realpath(self._device), cv2.CAP_V4L2)
        if not capture.isOpened():
            capture.release()
            raise busy_error(self._device, "OpenCV cannot open it")
        self._capture = capture
        self._gaps = SteadyGaps()
        # In this order: each may start the device anew, with what was set before.
        settings: dict[int, float] = {
            cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*choice.fourcc),
            cv2.CAP_PROP_FRAME_WIDTH: choice.size[0],
            cv2.CAP_PROP_FRAME_HEIGHT: choice.size[1],
            cv2.CAP_PROP_BUFFERSIZE: _BUFFERS,
        }
        if self._wish.fps is not None:
            settings[cv2.CAP_PROP_FPS] = max(1, round(self._wish.fps))  # OpenCV takes whole numbers
        for key, value in settings.items():
            capture.set(key, value)

    def _checked(self, info: DeviceInfo, choice: Choice, modes: tuple[Mode, ...]) -> SourceInfo:
        """Set the controls, and return what the device chose in the end.

        Raises:
            UnsupportedSourceError: It chose something else.
        """
        try:
            with opened(self._device, self._ioctl) as device:
                fourcc, width, height = device.current_mode(info.buffer_type)
                fps = device.rate(info.buffer_type)
                set_controls(device, str(self._device), self._controls)
        except OSError as error:
            if isinstance(error, CameraError):
                raise
            raise self._error(error) from error
        if (fourcc, (width, height)) != (choice.fourcc, choice.size):
            raise UnsupportedSourceError(
                f"{self._device} was asked for {choice.fourcc} {choice.size[0]}x{choice.size[1]} and set "
                f"itself to {fourcc} {width}x{height}. It can: {in_words(modes)}."
            )
        if self._wish.fps is not None and fps is not None and not is_rate(fps, self._wish.fps):
            fitting = [mode for mode in modes if mode.fourcc == fourcc and mode.has_size(width, height)]
            raise UnsupportedSourceError(
                f"{self._device} was asked for {self._wish.fps:g} fps and set itself to {fps:.4g}. "
                f"It can: {in_words(fitting)}."
            )
        return SourceInfo(str(self._device), live=True, fps=fps, frames=None, size=(width, height))

    def _read_once(self) -> Frame | None:
        """Return the next frame, None where OpenCV's time-out passed or it failed."""
        import cv2

        with self._in_use:
            if self._capture is None:
                raise CameraError(f"{self._device} is not open.")
            if not self._capture.grab():
                return None
            now_ns = time.monotonic_ns()
            # OpenCV reports the driver's timestamp here; drivers take it from the monotonic clock.
            driver_ns = int(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
            ok, image = self._capture.retrieve()
        captured_ns = self._captured_ns(driver_ns, now_ns)
        self._seq += 1
        # The driver counts what it had no buffer for (v4l2_buffer.sequence), and OpenCV keeps that to itself.
        if captured_ns == driver_ns:
            self._seq += self._gaps.lost_before(driver_ns)
        else:
            self._gaps = SteadyGaps()
        if not ok or image is None:
            raise BadFrameError(f"{self._device}: frame {self._seq} is damaged.")
        return Frame(image.astype(np.uint8, copy=False), self._seq, captured_ns, str(self._device))

    def _captured_ns(self, driver_ns: int, now_ns: int) -> int:
        """Return the driver's time where it is of our clock, else when the frame arrived."""
        if 0 <= now_ns - driver_ns < _PLAUSIBLE_AGE_NS:
            return driver_ns
        if not self._told_of_clock:
            self._told_of_clock = True
            _log.info(
                "%s: the driver's timestamps are of another clock; ages count from arrival", self._device
            )
        return now_ns

    def _check_presence(self) -> None:
        """Raise where the device is gone."""
        try:
            with opened(self._device, self._ioctl) as device:
                device.info()
        except OSError as error:
            raise self._error(error, was_open=True) from error

    def _error(self, error: OSError, *, was_open: bool = False) -> CameraError:
        """Return what an error of the system means for somebody with a camera."""
        if error.errno == errno.EBUSY:
            return busy_error(self._device, "its driver says that it is busy")
        gone = error.errno in {errno.ENODEV, errno.ENXIO, errno.ENOENT}
        if gone and was_open:
            return CameraError(f"{self._device} was unplugged or lost its power: check its cable and supply.")
        if error.errno == errno.ENOENT:
            return missing_error(self._device)
        return open_error(self._device, error)


def from_uri(uri: Uri) -> V4l2Camera:
    """Return the camera of `/dev/video0?size=1280x720&fps=30&format=MJPG&CONTROL=VALUE`, not opened yet.

    Raises:
        UnsupportedSourceError: An option is wrong. Whether the camera has it shows when it is opened.
    """
    options: dict[str, Any] = dict(uri.options)
    fourcc = options.get("format")
    if fourcc is not None:
        fourcc = fourcc.upper().ljust(4)
        if len(fourcc) != 4 or not fourcc.isascii():
            raise UnsupportedSourceError(
                f"{uri.shown}: the option format={options['format']} is wrong: give four letters, such "
                "as MJPG or YUYV."
            )
    wish = Wish(fourcc, uri_options.size(uri), uri_options.number(uri, "fps", 0.1, _MAX_FPS))
    controls = {key: value for key, value in options.items() if key not in _OPTIONS}
    return V4l2Camera(Path(uri.address), wish, controls)
