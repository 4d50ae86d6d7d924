"""A GStreamer pipeline through gi (PyGObject) and its appsink.

Only GStreamer's core is used through gi; the appsink is asked by its signals and properties, so that the
typelibs of the plug-ins need not be there. https://gstreamer.freedesktop.org/documentation/app/appsink.html
"""

from __future__ import annotations

import logging
import threading
import time
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from camera.base import Frame, SourceInfo
from camera.bounded import finish_within
from camera.credentials import without_credentials
from camera.errors import BadFrameError, CameraError, EndOfStream, UnsupportedSourceError

if TYPE_CHECKING:
    from gi.repository import Gst, GstApp

_OPEN_TIMEOUT_S = 8.0
_SLICE_S = 0.2
# A frame older than this, or from the future, is stamped by a clock that is not the pipeline's.
_PLAUSIBLE_AGE_NS = 10_000_000_000
_NO_SUCH_ELEMENT = 1  # GstParseError

_log = logging.getLogger(__name__)


class AppsinkPipeline:
    """The frames that reach the appsink of a pipeline.

    Args:
        pipeline: As for `gst-launch-1.0`, with one appsink that gets BGR.
        origin: How records name it, without credentials.
        patience_s: So long `read` waits for a frame; None: until there is one, or `close`.
        missing_hint: What to do where an element is not there; empty: what may be done about any.
    """

    def __init__(
        self, pipeline: str, origin: str, patience_s: float | None = None, missing_hint: str = ""
    ) -> None:
        self._text = pipeline
        self._origin = origin
        self._patience_s = patience_s
        self._missing_hint = missing_hint
        self._pipeline: Gst.Pipeline | None = None
        self._sink: GstApp.AppSink | None = None
        self._first: Gst.Sample | None = None
        self._closed = threading.Event()
        self._arrived = 0  # frames that reached the appsink, those that it dropped included
        self._seq = -1
        self._counts_drops = False
        self._is_live = False

    def open(self) -> SourceInfo:
        """Start the pipeline and wait for its first frame; see `camera.base.FrameSource`."""
        gst = _gstreamer()
        self._closed.clear()
        pipeline = self._parsed(gst)
        sink = self._find_sink(pipeline)
        self._watch(gst, sink)
        self._pipeline, self._sink = pipeline, sink
        try:
            self._start(gst, pipeline)
            self._first = self._next_sample(_OPEN_TIMEOUT_S)
            width, height, fps = self._picture(self._first)
        except CameraError:
            self.close()
            raise
        # Frames of a file may be stamped by their place in it; those of a camera by when they were taken.
        latency = gst.Query.new_latency()
        self._is_live = sink.get_static_pad("sink").peer_query(latency) and latency.parse_latency()[0]
        return SourceInfo(self._origin, live=True, fps=fps, frames=None, size=(width, height))

    def read(self) -> Frame:
        """Wait for the next frame; see `camera.base.FrameSource`."""
        self._raise_errors()
        first, self._first = self._first, None
        # What came since it was opened is newer.
        sample = self._pulled(0.0) if first is not None else None
        sample = sample or first or self._next_sample(self._patience_s)
        width, height, _ = self._picture(sample)
        buffer = sample.get_buffer()
        captured_ns = self._captured_ns(sample, buffer)
        # One copy, which gi makes: the buffer goes back to the pipeline at once.
        data = buffer.extract_dup(0, buffer.get_size())
        strides = (_stride(len(data), 3 * width, height), 3, 1)
        try:
            padded = np.ndarray((height, width, 3), np.uint8, data, strides=strides)
        except ValueError:
            raise BadFrameError(
                f"{self._origin} sent {len(data)} bytes for a frame of {width}x{height} pixels."
            ) from None
        image = np.ascontiguousarray(padded)
        self._seq = max(self._seq + 1, self._arrived - 1 if self._counts_drops else 0)
        return Frame(image, self._seq, captured_ns, self._origin)

    def close(self) -> None:
        """Stop the pipeline; an element that hangs is left behind after a few seconds."""
        self._closed.set()
        pipeline, self._pipeline, self._sink, self._first = self._pipeline, None, None, None
        if pipeline is None:
            return
        state = _gstreamer().State.NULL
        if not finish_within(lambda: _set_state(pipeline, state)):
            _log.warning(
                "%s: the pipeline does not stop; its device stays in use until this process ends.",
                self._origin,
            )

    def _parsed(self, gst: ModuleType) -> Gst.Pipeline:
        from gi.repository import GLib

        try:
            parsed = gst.parse_launch(self._text)
        except GLib.Error as error:
            said = without_credentials(error.message)
            if error.code == _NO_SUCH_ELEMENT:
                element = said.rpartition(' "')[2].rstrip('"')
                hint = self._missing_hint or (
                    f"check its spelling. Whether it is installed: gst-inspect-1.0 {element}."
                )
                raise UnsupportedSourceError(f"GStreamer has {said} here: {hint}") from None
            raise UnsupportedSourceError(f"{self._origin} is no pipeline that works: {said}.") from None
        if not isinstance(parsed, gst.Pipeline):
            raise UnsupportedSourceError(f"{self._origin} is not a pipeline: join elements by !.")
        return parsed

    def _find_sink(self, pipeline: Gst.Pipeline) -> GstApp.AppSink:
        sinks = []
        iterator = pipeline.iterate_sinks()
        while (item := iterator.next())[0].value_nick == "ok":
            if item[1].get_factory().get_name() == "appsink":
                sinks.append(item[1])
        if len(sinks) != 1:
            raise UnsupportedSourceError(f"{self._origin} has {len(sinks)} appsinks, where one is needed.")
        return sinks[0]

    def _watch(self, gst: ModuleType, sink: GstApp.AppSink) -> None:
        """Bound the queue of the appsink, and count what reaches it."""
        if sink.get_property("max-buffers") == 0:  # no limit: its latency would grow
            sink.set_property("max-buffers", 1)
            sink.set_property("drop", True)
        self._counts_drops = sink.get_property("max-buffers") == 1

        def count(_pad: Gst.Pad, _info: Gst.PadProbeInfo) -> Gst.PadProbeReturn:
            self._arrived += 1
            return gst.PadProbeReturn.OK

        sink.get_static_pad("sink").add_probe(gst.PadProbeType.BUFFER, count)

    def _start(self, gst: ModuleType, pipeline: Gst.Pipeline) -> None:
        """Start the pipeline in a thread of its own: some sources open their device there, and hang."""
        results: list[Gst.StateChangeReturn] = []
        if not finish_within(
            lambda: results.append(_set_state(pipeline, gst.State.PLAYING)), _OPEN_TIMEOUT_S
        ):
            raise CameraError(f"{self._origin} did not start within {_OPEN_TIMEOUT_S:g} s.")
        if results == [gst.StateChangeReturn.FAILURE]:
            self._raise_errors()
            raise CameraError(f"{self._origin} cannot be started.")

    def _next_sample(self, patience_s: float | None) -> Gst.Sample:
        deadline = None if patience_s is None else time.monotonic() + patience_s
        while True:
            sample = self._pulled(_SLICE_S)
            if sample is not None:
                return sample
            self._raise_errors()
            sink = self._sink
            if self._closed.is_set() or sink is None:
                raise CameraError(f"{self._origin} is not open.")
            if sink.get_property("eos"):
                raise EndOfStream(f"{self._origin} has ended.")
            if deadline is not None and time.monotonic() > deadline:
                raise CameraError(f"{self._origin} gave no frame for {patience_s:g} s.")

    def _pulled(self, timeout_s: float) -> Gst.Sample | None:
        sink = self._sink
        return None if sink is None else sink.emit("try-pull-sample", int(timeout_s * 1e9))

    def _raise_errors(self) -> None:
        """Look for errors; all other messages are thrown away, lest they pile up."""
        pipeline = self._pipeline
        if pipeline is None:
            return
        gst = _gstreamer()
        message = pipeline.get_bus().pop_filtered(gst.MessageType.ERROR)
        if message is not None:
            error, details = message.parse_error()
            # The details begin with a place in GStreamer's source; what follows says more than the error.
            more = (details or "").rpartition("\n")[2]
            said = f"{error.message.rstrip('.')}" + (f" ({more})" if more and "\n" in details else "")
            raise CameraError(f"{self._origin}: {message.src.get_name()} says: {without_credentials(said)}.")

    def _picture(self, sample: Gst.Sample) -> tuple[int, int, float | None]:
        """Return width, height and nominal rate; they may change from frame to frame."""
        caps = sample.get_caps().get_structure(0)
        form = caps.get_string("format")
        if caps.get_name() != "video/x-raw" or form != "BGR":
            raise UnsupportedSourceError(
                f"{self._origin}: the appsink gets {caps.get_name()} {form or ''}".rstrip()
                + ": put 'videoconvert ! video/x-raw,format=BGR' before it, or leave the appsink out."
            )
        _, width = caps.get_int("width")
        _, height = caps.get_int("height")
        has_rate, frames, seconds = caps.get_fraction("framerate")
        return width, height, frames / seconds if has_rate and frames and seconds else None

    def _captured_ns(self, sample: Gst.Sample, buffer: Gst.Buffer) -> int:
        now_ns = time.monotonic_ns()
        gst = _gstreamer()
        pipeline = self._pipeline
        if not self._is_live or pipeline is None or buffer.pts == gst.CLOCK_TIME_NONE:
            return now_ns
        running_ns = sample.get_segment().to_running_time(gst.Format.TIME, buffer.pts)
        # Whatever clock the pipeline chose: the age is a difference of two of its times.
        age_ns = pipeline.get_pipeline_clock().get_time() - pipeline.get_base_time() - running_ns
        return now_ns - age_ns if 0 <= age_ns < _PLAUSIBLE_AGE_NS else now_ns


def find_gstreamer() -> ModuleType | None:
    """Return GStreamer's module, initialised; None where gi or GStreamer's typelib is not there."""
    try:
        import gi

        gi.require_version("Gst", "1.0")
        from gi.repository import Gst
    except (ImportError, ValueError):
        return None
    Gst.init(None)  # again, it does nothing
    return Gst  # type: ignore[no-any-return]


def _gstreamer() -> ModuleType:
    gst = find_gstreamer()
    if gst is None:
        raise CameraError("GStreamer for Python is gone: sudo apt install python3-gi gir1.2-gstreamer-1.0.")
    return gst


def _set_state(element: Gst.Element, state: Gst.State) -> Gst.StateChangeReturn:
    return element.set_state(state)


def _stride(size_bytes: int, row_bytes: int, height: int) -> int:
    """Return the distance of two rows in bytes: padded to a multiple of 4, by some elements to more."""
    # Some leave out the padding of the last row.
    return (row_bytes + 3) // 4 * 4 if size_bytes % height else size_bytes // height
