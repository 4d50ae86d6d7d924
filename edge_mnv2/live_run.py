"""A run as its settings say: cameras, one engine, outputs, a live view."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from camera import (
    FrameSource,
    SourceInfo,
    SourceNotFoundError,
    StateChange,
    UnsupportedSourceError,
    open_source,
)
from camera.credentials import without_credentials
from camera.session_writer import Recorded, SessionWriter
from camera.uri import parse_uri
from edge_mnv2.camera_states import StateBox
from edge_mnv2.cameras import run_side_by_side
from edge_mnv2.errors import OutputPathError, RequestError
from edge_mnv2.pipeline import RunControl, run_pipeline
from edge_mnv2.predictor import Predictor, open_predictor
from edge_mnv2.run_summary import RunSummary
from edge_mnv2.settings import CameraSettings, RunConfig
from edge_mnv2.sinks.base import SinkSpec, check_outputs
from edge_mnv2.sinks.specs import jsonl_spec, pictures_spec, session_spec, video_spec, window_spec
from edge_mnv2.sinks.video import check_video_path
from edge_mnv2.web.access import read_token
from edge_mnv2.web.address import parse_web_address
from edge_mnv2.web.feed import CameraFigures
from edge_mnv2.web.server import WebOptions, WebServer

_Made = TypeVar("_Made")

_log = logging.getLogger(__name__)


def run_settings(
    settings: RunConfig,
    kept: Sequence[Path],
    stop: threading.Event,
    on_frame: Mapping[str, Callable[[int, int | None], None]] | None = None,
) -> dict[str, RunSummary]:
    """Run until every source ends or a stop is asked for.

    Args:
        settings: What to do.
        kept: Files that no output may take the place of.
        stop: Set by whoever wants the run to end.
        on_frame: As `pipeline.RunControl.on_frame`, by name of the camera, as below.

    Returns:
        What each camera did, by name; the name is empty where there is only one.

    Raises:
        CameraError: The source cannot be opened.
        RequestError: The settings cannot be followed; of several cameras, a line for each that is wrong.
        EngineError, RunError: The model cannot be run.
    """
    each = settings.each_camera()
    _for_each(each, _check_of(each, settings.web_token_file))
    with ExitStack() as stack:
        feeds = _for_each(each, lambda name, camera: _open_feed(camera, stack, waits=bool(name)))
        server = None
        if settings.web is not None:
            token_file = settings.web_token_file
            token = None if token_file is None else read_token(token_file)
            options = WebOptions(token, settings.web_names or ())
            server = WebServer.start(parse_web_address(settings.web), options)
            stack.callback(server.close)
            _log.info("live view: %s", server.address.url)
        predictor = open_predictor(settings.model, settings.predictor_options())
        stack.callback(predictor.close)
        run = _Run(settings, kept, stop, on_frame or {}, server)
        if "" in each:
            return {"": run.loop("", each[""], feeds[""], predictor)()}
        each_own = _for_each(each, lambda _, camera: predictor.for_camera(camera.decoder_options()))
        loops = {name: run.loop(name, camera, feeds[name], each_own[name]) for name, camera in each.items()}
        return run_side_by_side(loops, stop)


@dataclass(frozen=True, slots=True)
class _Feed:
    """A source that is not open yet, what it will say of itself, and who keeps its frames."""

    source: FrameSource
    states: StateBox
    session: SessionWriter | None


@dataclass(frozen=True, slots=True)
class _Run:
    """What all cameras have in common."""

    settings: RunConfig
    kept: Sequence[Path]
    stop: threading.Event
    on_frame: Mapping[str, Callable[[int, int | None], None]]
    server: WebServer | None

    def loop(
        self, name: str, camera: CameraSettings, feed: _Feed, predictor: Predictor
    ) -> Callable[[], RunSummary]:
        """Return the loop of one camera."""
        hud = _Switch()
        control = RunControl(
            stop=self.stop,
            max_frames=camera.max_frames,
            on_frame=self.on_frame.get(name),
            states=feed.states,
            shows_hud=lambda: hud.is_on,
            name=name,
        )
        views: list[SinkSpec] = []
        shown = name or "camera"
        if self.server is not None:
            views.append(self.server.add_camera(shown, predictor, lambda: _figures(control, feed.session)))
        if self.settings.display:
            views.append(window_spec(name or without_credentials(camera.source), self.stop.set, hud.turn))
        if feed.session is not None:
            views.append(session_spec(feed.session))

        def loop() -> RunSummary:
            kept = self.kept if feed.session is None else [*self.kept, feed.session.path]
            try:
                summary = run_pipeline(
                    feed.source, predictor, lambda info: [*_files(camera, kept, info), *views], control
                )
            except Exception as error:
                self.tell_end(shown, str(error), is_lost=True)
                raise
            self.tell_end(shown, summary.cause or _end_of(summary), is_lost=bool(summary.cause))
            if feed.session is not None:
                _finish_session(feed.session, summary)
            return summary

        return loop

    def tell_end(self, name: str, reason: str, *, is_lost: bool) -> None:
        """Let the live view say that a camera's loop has ended: the others go on."""
        if self.server is not None:
            self.server.end_camera(name, reason, is_lost=is_lost)


@dataclass(slots=True)
class _Switch:
    is_on: bool = True

    def turn(self, is_on: bool) -> None:
        self.is_on = is_on


def _end_of(summary: RunSummary) -> str:
    return "The run was stopped." if summary.interrupted else f"It ended after {summary.frames} frames."


def _figures(control: RunControl, session: SessionWriter | None) -> CameraFigures:
    drops = control.figures.read_drops()
    if session is not None:
        drops[f"session {session.path}"] = session.dropped
    return CameraFigures(control.figures.engine, drops)


def _open_feed(camera: CameraSettings, stack: ExitStack, *, waits: bool) -> _Feed:
    # One of several is waited for: after a power cut it may start more slowly than this device.
    states, options = StateBox(), camera.camera_options(waits=waits)
    if camera.record_session is None:
        return _Feed(open_source(camera.source, options, states.put), states, None)
    limit = camera.session_max_mb
    try:
        session = SessionWriter(
            camera.record_session, camera.session_quality, None if limit is None else limit * 1_000_000
        )
    except OSError as error:
        raise OutputPathError(
            f"{camera.record_session} cannot be written: {error.strerror}. Choose another path."
        ) from error
    stack.callback(session.close)
    if session.path != camera.record_session:
        _log.info("%s is there already: this session goes to %s", camera.record_session, session.path)

    def take(change: StateChange) -> None:
        states.put(change)
        session.state(change)

    source = open_source(camera.source, options, take)
    return _Feed(Recorded(source, session), states, session)


def _finish_session(session: SessionWriter, summary: RunSummary) -> None:
    session.close()
    summary.drops[f"session {session.path}"] = session.dropped
    if session.failure is not None and not session.is_full:
        summary.failures.append(session.failure)


def _for_each(
    cameras: Mapping[str, CameraSettings], do: Callable[[str, CameraSettings], _Made]
) -> dict[str, _Made]:
    """Return what was done for each camera; what is wrong is told at once, with the names of the cameras.

    Raises:
        RequestError: A line for each mistake; of a single camera, the first as it is.
        SourceNotFoundError, UnsupportedSourceError: Of a single camera alone.
    """
    done, wrong = {}, []
    for name, camera in cameras.items():
        try:
            done[name] = do(name, camera)
        except (RequestError, SourceNotFoundError, UnsupportedSourceError) as error:
            if not name:
                raise
            wrong += [f"{name}: {line}" for line in str(error).splitlines()]
    if wrong:
        raise RequestError("\n".join(wrong))
    return done


def _check_of(
    cameras: Mapping[str, CameraSettings], token_file: Path | None
) -> Callable[[str, CameraSettings], None]:
    """Return what refuses sources that cannot be right, and files that are another's input or output.

    It raises:
        CameraError: As `open_source`.
        OutputPathError: Naming the path.
        RequestError: A video has a name that says no format we write.
    """
    written: set[Path] = set()
    read = {path.resolve() for path in map(_file_of, cameras.values()) if path is not None}
    read |= set() if token_file is None else {token_file.resolve()}

    def check(_: str, camera: CameraSettings) -> None:
        open_source(camera.source, camera.camera_options())  # for its errors: nothing is opened yet
        if camera.video is not None:
            check_video_path(camera.video)
        for path in (camera.video, camera.jsonl, camera.pictures, camera.record_session):
            if path is None:
                continue
            # Standard output has one place, too: long lines of several cameras would tear each other.
            place = path if str(path) == "-" else path.resolve()
            if place in read:
                raise OutputPathError(f"{path} holds what this run reads: choose another path.")
            if place in written:
                raise OutputPathError(f"{path} is given for two outputs: choose another path.")
            written.add(place)

    return check


def _file_of(camera: CameraSettings) -> Path | None:
    try:
        uri = parse_uri(camera.source)
    except UnsupportedSourceError:
        return None  # it is refused when its turn comes
    return Path(uri.address) if uri.scheme in ("file", "replay") else None


def _files(camera: CameraSettings, kept: Sequence[Path], info: SourceInfo) -> list[SinkSpec]:
    """Describe the outputs into files; none of them may take the place of those in `kept`."""
    specs = []
    if camera.video is not None:
        specs.append(video_spec(camera.video, info.fps, is_live=info.live))
    if camera.jsonl is not None:
        specs.append(jsonl_spec(camera.jsonl, masks=camera.masks))
    if camera.pictures is not None:
        # Of a video or a camera there are many by the same name.
        specs.append(pictures_spec(camera.pictures, numbered=info.live or info.size is not None))
    check_outputs(kept, specs)
    return specs
