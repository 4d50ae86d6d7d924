"""One camera from its settings to its loop: the source, who keeps its frames, its outputs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from camera import CameraError, FrameSource, SourceInfo, StateChange, open_source
from camera.credentials import uri_without_credentials, without_credentials
from camera.session_writer import Recorded, SessionWriter
from camera.uri import parse_uri
from edge_mnv2.errors import EdgeMnv2Error, OutputPathError
from edge_mnv2.event_hub import EventHub
from edge_mnv2.mailbox import Mailbox
from edge_mnv2.outlets import SinksFor
from edge_mnv2.pipeline import RunControl, run_pipeline
from edge_mnv2.predictor import Predictor
from edge_mnv2.readings import CameraFigures, DeviceReading
from edge_mnv2.run_summary import RunSummary
from edge_mnv2.settings import CameraSettings
from edge_mnv2.sinks.base import SinkSpec, check_outputs
from edge_mnv2.sinks.session import RecordedDevice
from edge_mnv2.sinks.specs import jsonl_rotation, jsonl_spec, pictures_spec, session_spec, video_spec
from edge_mnv2.telemetry.camera_meter import CameraMeter


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a camera's loop is connected with.

    Attributes:
        on_frame: As `pipeline.RunControl.on_frame`.
        read_device: As `pipeline.RunControl.read_device`; a recorded session gives its own readings instead.
        events: Where events of all kinds come together.
        keeps_files: Whether what an earlier run wrote stays, and this one writes beside it or after it.
    """

    on_frame: Callable[[int, int | None], None] | None
    read_device: Callable[[], DeviceReading | None]
    events: EventHub
    keeps_files: bool = False


class CameraRun:
    """A camera that is not open yet, with all that its loop needs; `loop` opens it.

    Args:
        name: Empty where there is only one.
        settings: Of this camera; what of them concerns outputs may be replaced while it runs.
        stop: Set by whoever wants its loop to end.
        surroundings: What is around it.
        waits: Whether to go on trying where it does not answer at the start.

    Attributes:
        control: What its loop is watched and told by.
        meter: What it says of itself while it runs.
        session: Who keeps the frames; None where nobody does.

    Raises:
        CameraError: There is no such kind of source, or no such file.
        OutputPathError: The session cannot be written.
    """

    def __init__(
        self,
        name: str,
        settings: CameraSettings,
        stop: threading.Event,
        surroundings: Surroundings,
        *,
        waits: bool = False,
    ) -> None:
        self.name = name
        self.settings = settings
        self.session: SessionWriter | None = None
        self._drops_elsewhere: dict[str, Callable[[], int]] = {}
        self._hud_is_on = True
        self._keeps_files = surroundings.keeps_files
        self.meter = CameraMeter(uri_without_credentials(settings.source))
        states: Mailbox[StateChange] = Mailbox()
        options = settings.camera_options(waits=waits)
        recorded = RecordedDevice()
        is_replay = parse_uri(settings.source).scheme == "replay"
        self.control = RunControl(
            stop=stop,
            max_frames=settings.max_frames,
            on_frame=surroundings.on_frame,
            states=states,
            shows_hud=lambda: self._hud_is_on,
            meter=self.meter,
            read_device=recorded.latest if is_replay else surroundings.read_device,
            on_trouble=surroundings.events.tell,
            name=name,
        )
        self._forget_events = surroundings.events.add(self.control.events.put)
        if settings.record_session is None:
            self._source: FrameSource = open_source(settings.source, options, states.put, recorded.take)
            return
        session = self.session = _open_session(settings, settings.record_session)
        self.count_drops(f"session {session.path}", lambda: session.dropped)

        def take(change: StateChange) -> None:
            states.put(change)
            session.state(change)

        try:
            self._source = Recorded(open_source(settings.source, options, take, recorded.take), session)
        except BaseException:
            session.close()
            raise

    def show_hud(self, is_on: bool) -> None:
        """Draw the status line, or leave it out; from any thread."""
        self._hud_is_on = is_on

    def read_device(self) -> DeviceReading:
        """Return what the device says, or said where this is a recorded session; at once, from any thread."""
        return self.control.read_device() or DeviceReading()

    def count_drops(self, cause: str, read: Callable[[], int]) -> None:
        """Count what is lost elsewhere among this camera's drops, instead of an earlier one of this cause."""
        self._drops_elsewhere = {**self._drops_elsewhere, cause: read}

    def figures(self) -> CameraFigures:
        """Return what the camera says of itself; from any thread."""
        figures = self.meter.figures()
        return replace(figures, drops={**figures.drops, **self._elsewhere()})

    def _elsewhere(self) -> dict[str, int]:
        return {cause: read() for cause, read in self._drops_elsewhere.items()}

    def sinks_for(self, kept: Sequence[Path], views: Sequence[SinkSpec]) -> SinksFor:
        """Return who describes the outputs once the source is open.

        Args:
            kept: Files that no output may take the place of.
            views: Outputs that are not this camera's alone, or no files.
        """
        views, kept, settings, keeps = list(views), list(kept), self.settings, self._keeps_files
        if self.session is not None:
            views.append(session_spec(self.session))
            kept.append(self.session.path)
        return lambda info: [*_files(settings, kept, info, keeps=keeps), *views]

    def change_outputs(self, kept: Sequence[Path], views: Sequence[SinkSpec]) -> None:
        """Let the running loop write what `settings` say now; what did not change goes on."""
        self.control.outputs.put(self.sinks_for(kept, views))

    def loop(self, predictor: Predictor, sinks_for: SinksFor) -> RunSummary:
        """Run until the source ends or a stop is asked for; as `pipeline.run_pipeline`."""
        try:
            summary = run_pipeline(self._source, predictor, sinks_for, self.control)
        except (CameraError, EdgeMnv2Error) as error:
            self.meter.ended(without_credentials(str(error)))
            raise
        self.meter.ended(summary.cause)
        summary.drops.update(self._elsewhere())
        if self.session is not None:
            _finish_session(self.session, summary)
        return summary

    def close(self) -> None:
        """Close what a loop that never began leaves open; afterwards it does nothing."""
        self._forget_events()
        self._source.close()
        if self.session is not None:
            self.session.close()


def _open_session(settings: CameraSettings, path: Path) -> SessionWriter:
    limit = settings.session_max_mb
    try:
        return SessionWriter(path, settings.session_quality, None if limit is None else limit * 1_000_000)
    except OSError as error:
        raise OutputPathError(f"{path} cannot be written: {error.strerror}. Choose another path.") from error


def _finish_session(session: SessionWriter, summary: RunSummary) -> None:
    session.close()
    summary.drops[f"session {session.path}"] = session.dropped  # now that all is written
    if session.failure is not None and not session.is_full:
        summary.failures.append(session.failure)


def _files(camera: CameraSettings, kept: Sequence[Path], info: SourceInfo, *, keeps: bool) -> list[SinkSpec]:
    """Describe the outputs into files; none of them may take the place of those in `kept`."""
    specs = []
    if camera.video is not None:
        specs.append(video_spec(camera.video, info.fps, is_live=info.live, keeps=keeps))
    if camera.jsonl is not None:
        specs.append(
            jsonl_spec(camera.jsonl, masks=camera.masks, rotation=jsonl_rotation(camera), is_live=info.live)
        )
    if camera.pictures is not None:
        # Of a video or a camera there are many by the same name.
        numbered = info.live or info.size is not None
        specs.append(pictures_spec(camera.pictures, numbered=numbered, dated=keeps))
    check_outputs(kept, specs)
    return specs
