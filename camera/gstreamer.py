"""GStreamer pipelines (`gst://PIPELINE`), run by whichever library is there: gi, or OpenCV with GStreamer.

gi (PyGObject) comes with the system's Python alone, as does an OpenCV with GStreamer; PyPI's has none. gi is
preferred: it says what went wrong, and when a frame was taken.
"""

from __future__ import annotations

from camera.base import Frame, FrameSource, SourceInfo
from camera.errors import BadFrameError, CameraError, EndOfStream, UnsupportedSourceError
from camera.gst_appsink import AppsinkPipeline, find_gstreamer
from camera.gst_opencv import OpencvPipeline, opencv_has_gstreamer
from camera.gst_text import with_appsink
from camera.uri import Uri


class GStreamerSource:
    """Frames of a GStreamer pipeline.

    Args:
        pipeline: As for `gst-launch-1.0`. Where there is no appsink, one for BGR is added.
        origin: How records name it, without credentials.
        hint: What to do when it fails, appended to messages; empty: nothing special.
        endless: The pipeline never ends by itself, so that its end is a failure.
        patience_s: So long `read` waits for a frame; None: until there is one, or `close`. OpenCV waits as
            long as it likes.
        missing_hint: What to do where an element is not there; empty: what may be done about any. OpenCV does
            not say so.
    """

    def __init__(
        self,
        pipeline: str,
        origin: str,
        *,
        hint: str = "",
        endless: bool = False,
        patience_s: float | None = None,
        missing_hint: str = "",
    ) -> None:
        self._pipeline = with_appsink(pipeline)
        self._origin = origin
        self._hint = hint
        self._endless = endless
        self._patience_s = patience_s
        self._missing_hint = missing_hint
        self._running: FrameSource | None = None

    def open(self) -> SourceInfo:
        """Start the pipeline and wait for its first frame; see `camera.base.FrameSource`."""
        self.close()
        self._running = self._runner()
        try:
            return self._running.open()
        except CameraError as error:
            self.close()
            raise self._explained(error) from error

    def read(self) -> Frame:
        """Wait for the next frame; see `camera.base.FrameSource`."""
        if self._running is None:
            raise CameraError(f"{self._origin} is not open.")
        try:
            return self._running.read()
        except CameraError as error:
            raise self._explained(error) from error

    def close(self) -> None:
        """Stop the pipeline; within seconds, even if an element hangs. Calling it again does nothing."""
        running, self._running = self._running, None
        if running is not None:
            running.close()

    def _runner(self) -> FrameSource:
        if find_gstreamer() is not None:
            return AppsinkPipeline(self._pipeline, self._origin, self._patience_s, self._missing_hint)
        if opencv_has_gstreamer():
            return OpencvPipeline(self._pipeline, self._origin)
        raise CameraError(
            f"{self._origin} needs GStreamer: sudo apt install python3-gi gir1.2-gstreamer-1.0 "
            "gstreamer1.0-plugins-good (or python3-opencv), and an environment that sees the system's "
            "packages: python3 -m venv --system-site-packages. OpenCV from PyPI has no GStreamer."
        )

    def _explained(self, error: CameraError) -> CameraError:
        """Return an error of the same kind with the hint, or a failure where the end is one."""
        if isinstance(error, EndOfStream):
            if not self._endless:
                return error
            return CameraError(f"{self._origin} stopped sending. {self._hint}".rstrip())
        if isinstance(error, (UnsupportedSourceError, BadFrameError)):
            return error  # the hint is about the device
        return type(error)(f"{error} {self._hint}".rstrip())


def from_uri(uri: Uri) -> GStreamerSource:
    """Return the source for `gst://PIPELINE`: all that follows is the pipeline, `?` and `#` included.

    Raises:
        UnsupportedSourceError: The pipeline is empty.
    """
    pipeline = uri.address.strip()
    if not pipeline:
        raise UnsupportedSourceError("gst:// needs a pipeline, such as 'gst://v4l2src ! decodebin'.")
    return GStreamerSource(pipeline, uri.shown)
