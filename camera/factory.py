"""From a URI to a source that can be relied on."""

from __future__ import annotations

import threading
from functools import partial

from camera.base import FrameSource
from camera.isolation.process_reader import ProcessReader
from camera.options import CameraOptions, Transform
from camera.replay import OnTelemetry, Replay
from camera.states import OnState
from camera.supervised import Supervised
from camera.thread_reader import ThreadReader
from camera.timed import TimedSource
from camera.transform import Transformed
from camera.uri import is_live, parse_uri, raw_source

_DEFAULTS = CameraOptions()


def open_source(
    uri: str,
    options: CameraOptions = _DEFAULTS,
    on_state: OnState | None = None,
    on_telemetry: OnTelemetry | None = None,
) -> FrameSource:
    """Return the source that a URI means; it is not opened yet.

    A camera is read by a process of its own and comes back when it is lost; see `Supervised`. Files, folders,
    globs and recorded sessions are read as they are, and so is `test://` where no isolation is asked for.

    Args:
        uri: A number or `/dev/videoN`, `SCHEME://...` (see `camera.uri.KINDS`), or a video, a picture, a
            folder or a glob of pictures, with or without `file://`.
        options: How a camera is driven, and what is done to each frame.
        on_state: Called with each change of a camera's state, in the thread that opens or reads it; of a
            recorded session, with those that were recorded.
        on_telemetry: Called with each set of readings of a recorded session, in the thread that reads it.

    Raises:
        SourceNotFoundError: No such file, folder, or nothing matches the glob.
        UnsupportedSourceError: The scheme is unknown, or an option is wrong.
    """
    # Of a camera, too: what is wrong with its options is said early.
    source = _transformed(uri, options.transform, on_state, on_telemetry)
    parsed = parse_uri(uri)
    if not is_live(uri) or (parsed.scheme == "test" and options.isolation is None):
        return source
    left_behind: list[threading.Thread] = []

    def make() -> TimedSource:
        if options.isolation == "thread":
            return ThreadReader(partial(_transformed, uri, options.transform), parsed.shown, left_behind)
        return ProcessReader(uri, options.transform, left_behind=left_behind)

    return Supervised(make, parsed.shown, options.supervision, on_state, has_user=parsed.has_user)


def _transformed(
    uri: str,
    transform: Transform,
    on_state: OnState | None = None,
    on_telemetry: OnTelemetry | None = None,
) -> FrameSource:
    source = raw_source(uri)
    if isinstance(source, Replay):
        source.set_on_state(on_state)
        source.set_on_telemetry(on_telemetry)
    return source if transform == Transform() else Transformed(source, transform)
