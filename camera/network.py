"""Network cameras (`rtsp://`, `rtsps://`, `http://`, `https://`) through OpenCV's FFmpeg.

RTSP comes over TCP, `#transport=udp` asks for UDP. `#timeout=20` suits cameras that send less than a picture
in five seconds. HTTP may be MJPEG, or anything else that FFmpeg reads.

A frame's age is what it lay in buffers, by the stream's stamps (`camera.network_clock`); the shortest way
from camera to here counts as none: cameras send no clock of ours. Of a live stream, frames that pile up are
passed over, and so is what FFmpeg gathered while it looked at the stream, about a second of it: gaps in
`seq`. Where H.264 changes its size within a connection, OpenCV scales to the first size, and no property of
it tells; MJPEG comes in its new size.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from camera.base import Frame, SourceInfo
from camera.errors import BadFrameError, CameraError, EndOfStream, UnsupportedSourceError
from camera.network_errors import why_not_open
from camera.network_grab import MAX_OPENING_S, Grabber
from camera.opencv_log import ERRORS, limit_log
from camera.uri import Uri
from camera.uri_options import choice, no_more, number

if TYPE_CHECKING:
    import cv2

Transport = Literal["tcp", "udp"]
_TRANSPORTS: tuple[Transport, ...] = ("tcp", "udp")

_OPEN_TIMEOUT_S = 6.0
_READ_TIMEOUT_S = 5.0
_MAX_TIMEOUT_S = 600
# FFmpeg makes a rate of a clock where a stream names none.
_MAX_FPS = 240
_MAX_FRAMES = 1_000_000_000
# FFmpeg estimates the number of frames of some files.
_COMPLETE = 0.9
_MJPG = int.from_bytes(b"MJPG", "little")

_OPTIONS_VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_FFMPEG_LEVEL, _OPENCV_LEVEL = "OPENCV_FFMPEG_LOGLEVEL", "OPENCV_LOG_LEVEL"
_ENVIRONMENT = threading.Lock()


class NetworkCamera:
    """A stream of a network camera, or a file behind HTTP.

    Args:
        url: With credentials, for FFmpeg alone.
        shown: Without them, for everybody else.
        transport: For RTSP; None for TCP, or for UDP where a camera refuses TCP.
        timeout_s: So long a camera may send nothing.
    """

    def __init__(
        self, url: str, shown: str, transport: Transport | None = None, timeout_s: float = _READ_TIMEOUT_S
    ) -> None:
        self._url = url
        self._shown = shown
        self._transport = transport
        self._timeout_s = timeout_s
        self._capture: cv2.VideoCapture | None = None
        self._grabber: Grabber | None = None
        self._frames: int | None = None
        self._is_jpeg = False
        self._seq = 0
        # Releasing a capture in which another thread reads would free memory that is still written to.
        self._in_use = threading.Lock()

    def open(self) -> SourceInfo:
        """Connect and wait for the first pictures; see `camera.base.FrameSource`."""
        import cv2

        _keep_quiet()
        with self._in_use:
            if not cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG):
                raise CameraError("This OpenCV was built without FFmpeg: python -m pip install opencv-python")
            parameters = (
                *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(_OPEN_TIMEOUT_S * 1000)),
                *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(self._timeout_s * 1000)),
                # Each further thread of a decoder holds a frame back.
                *(cv2.CAP_PROP_N_THREADS, 1),
            )
            started = time.monotonic()
            with _options_for(self._url, self._transport):
                capture = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, parameters)
            if not capture.isOpened():
                capture.release()
                is_late = time.monotonic() - started >= _OPEN_TIMEOUT_S
                raise why_not_open(self._url, self._shown, _OPEN_TIMEOUT_S if is_late else None)
            self._capture = capture
            self._seq = 0
            info = self._look(capture)
            self._grabber = Grabber(
                capture, info.fps, self._timeout_s, live=info.live, has_stamps=not self._is_jpeg
            )
            return info

    def read(self) -> Frame:
        """Wait for the next frame; see `camera.base.FrameSource`."""
        with self._in_use:
            if self._capture is None or self._grabber is None:
                raise CameraError(f"{self._shown} is not open.")
            try:
                grabbed = self._grabber.grab()
            except TimeoutError:
                raise CameraError(
                    f"{self._shown} sent nothing for {self._timeout_s:g} s: it hangs, or the network is down."
                ) from None
            except EOFError:
                raise self._end() from None
            seq = self._seq + grabbed.passed
            self._seq = seq + 1
            return Frame(self._decode(self._capture), seq, grabbed.captured_ns, self._shown)

    def close(self) -> None:
        """Disconnect, after a `read` that is under way."""
        if not self._in_use.acquire(timeout=max(_OPEN_TIMEOUT_S, self._timeout_s + MAX_OPENING_S) + 1):
            return
        try:
            if self._capture is not None:
                self._capture.release()
                self._capture = self._grabber = None
        finally:
            self._in_use.release()

    def _look(self, capture: cv2.VideoCapture) -> SourceInfo:
        import cv2

        frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._frames = int(frames) if 0 < frames < _MAX_FRAMES else None
        is_http = urlsplit(self._url).scheme.lower().startswith("http")
        self._is_jpeg = int(capture.get(cv2.CAP_PROP_FOURCC)) == _MJPG
        if self._is_jpeg:
            # OpenCV scales each picture to the size of the first one; a JPEG as received knows its own.
            self._is_jpeg = capture.set(cv2.CAP_PROP_FORMAT, -1)
        fps = capture.get(cv2.CAP_PROP_FPS)
        # MJPEG over HTTP has no rate; FFmpeg says 25.
        has_rate = 0 < fps <= _MAX_FPS and not (is_http and self._is_jpeg and self._frames is None)
        width, height = (
            int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        return SourceInfo(
            name=self._shown,
            live=not is_http or self._frames is None,
            fps=fps if has_rate else None,
            frames=self._frames,
            size=(width, height) if width > 0 and height > 0 else None,
        )

    def _decode(self, capture: cv2.VideoCapture) -> NDArray[np.uint8]:
        import cv2

        ok, received = capture.retrieve()
        if not ok:
            raise self._bad()
        image = received.astype(np.uint8, copy=False)
        if not self._is_jpeg:
            return image
        if (decoded := cv2.imdecode(image.ravel(), cv2.IMREAD_COLOR)) is None:
            raise self._bad()
        return decoded.astype(np.uint8, copy=False)

    def _bad(self) -> BadFrameError:
        return BadFrameError(f"{self._shown} sent a picture that cannot be decoded.")

    def _end(self) -> CameraError:
        if self._frames is None:
            return CameraError(f"{self._shown} ended the stream: the camera was switched off or restarted.")
        if self._seq < self._frames * _COMPLETE:
            return CameraError(
                f"{self._shown} broke off after {self._seq} of {self._frames} frames: check the network."
            )
        return EndOfStream(f"{self._shown} has no more frames.")


def from_uri(uri: Uri) -> NetworkCamera:
    """Return the camera that a URI such as `rtsp://user:password@host:554/stream#transport=udp` means.

    Raises:
        UnsupportedSourceError: There is no host, or an option is unknown or wrong.
    """
    # FFmpeg knows its protocols in small letters only.
    url = uri.scheme + uri.text.partition("#")[0][len(uri.scheme) :]
    _check_address(uri, url)
    is_rtsp = uri.scheme.startswith("rtsp")
    no_more(uri, ("transport", "timeout") if is_rtsp else ("timeout",))
    timeout_s = number(uri, "timeout", 0.1, _MAX_TIMEOUT_S)
    transport = choice(uri, "transport", _TRANSPORTS)
    return NetworkCamera(url, uri.shown, transport, timeout_s or _READ_TIMEOUT_S)


def _check_address(uri: Uri, url: str) -> None:
    # What urllib raises quotes the password.
    try:
        parts = urlsplit(url)
        host = parts.hostname
        (host or "").encode("idna")
    except ValueError:
        raise UnsupportedSourceError(f"{uri.shown} is no valid URI: its host is wrong.") from None
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise UnsupportedSourceError(f"{uri.shown} is no valid URI: its port is wrong: give 1 to 65535.")
    if not host:
        raise UnsupportedSourceError(f"{uri.shown} names no host: {uri.scheme}://HOST/PATH.")


def _keep_quiet() -> None:
    """Keep OpenCV and FFmpeg from writing to stderr: what is to be said, our own messages say.

    FFmpeg's level is read once in a process, when a stream or a video is first opened. A user's levels stay.
    """
    os.environ.setdefault(_FFMPEG_LEVEL, "-8")  # AV_LOG_QUIET
    if _OPENCV_LEVEL not in os.environ:
        limit_log(ERRORS)


@contextmanager
def _options_for(url: str, transport: Transport | None) -> Iterator[None]:
    """Pass the transport to FFmpeg while an RTSP stream is opened.

    There is no other way than this variable, which OpenCV reads when it opens a stream: in one process, RTSP
    streams are therefore opened one after the other. Without a transport of ours, a user's own options stay.
    """
    if not url.lower().startswith("rtsp"):
        yield
        return
    with _ENVIRONMENT:
        before = os.environ.get(_OPTIONS_VARIABLE)
        if transport is not None:
            os.environ[_OPTIONS_VARIABLE] = f"rtsp_transport;{transport}"
        try:
            yield
        finally:
            if before is not None:
                os.environ[_OPTIONS_VARIABLE] = before
            else:
                os.environ.pop(_OPTIONS_VARIABLE, None)
