"""A run as its settings say: cameras, one engine, outputs, a live view."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from camera.credentials import without_credentials
from edge_mnv2.camera_checks import check_cameras, for_each
from edge_mnv2.camera_run import CameraRun, Surroundings
from edge_mnv2.cameras import run_side_by_side
from edge_mnv2.event_hub import EventHub
from edge_mnv2.predictor import Predictor, open_predictor
from edge_mnv2.readings import DeviceReading
from edge_mnv2.run_summary import RunSummary
from edge_mnv2.settings import CameraSettings, RunConfig
from edge_mnv2.sinks.base import SinkSpec
from edge_mnv2.sinks.specs import window_spec
from edge_mnv2.telemetry.sampler import DeviceSampler
from edge_mnv2.web.access import read_token
from edge_mnv2.web.address import parse_web_address
from edge_mnv2.web.feed import CameraFigures
from edge_mnv2.web.server import WebOptions, WebServer

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
    check_cameras(each, settings.web_token_file)
    on_frame = on_frame or {}
    with ExitStack() as stack:
        events = EventHub()
        sampler = DeviceSampler(on_event=events.tell)
        stack.callback(sampler.close)

        def make(name: str, camera: CameraSettings) -> CameraRun:
            # One of several is waited for: after a power cut it may start more slowly than this device.
            surroundings = Surroundings(on_frame.get(name), sampler.latest, events)
            run = CameraRun(name, camera, stop, surroundings, waits=bool(name))
            stack.callback(run.close)
            return run

        cameras = for_each(each, make)
        services = Services.open(settings, stop, sampler.latest)
        stack.callback(services.close)
        predictor = open_predictor(settings.model, settings.predictor_options())
        stack.callback(predictor.close)
        if "" in each:
            return {"": services.loop(cameras[""], predictor, kept)()}
        each_own = for_each(each, lambda _, camera: predictor.for_camera(camera.decoder_options()))
        loops = {name: services.loop(run, each_own[name], kept) for name, run in cameras.items()}
        return run_side_by_side(loops, stop)


@dataclass(frozen=True, slots=True)
class Services:
    """What all cameras of a run have in common beside the engine; see `open`."""

    settings: RunConfig
    stop: threading.Event
    server: WebServer | None

    @classmethod
    def open(
        cls, settings: RunConfig, stop: threading.Event, read_device: Callable[[], DeviceReading]
    ) -> Services:
        """Open what the settings ask for.

        Args:
            settings: Of the run.
            stop: Set where somebody closes the window.
            read_device: Returns what the device says, at once.

        Raises:
            RequestError: It cannot be opened.
        """
        server = None
        if settings.web is not None:
            token_file = settings.web_token_file
            token = None if token_file is None else read_token(token_file)
            options = WebOptions(token, settings.web_names or (), read_device=read_device)
            server = WebServer.start(parse_web_address(settings.web), options)
            _log.info("live view: %s", server.address.url)
        return cls(settings, stop, server)

    def close(self) -> None:
        """Close all."""
        if self.server is not None:
            self.server.close()

    def views(self, camera: CameraRun, predictor: Predictor) -> list[SinkSpec]:
        """Describe the outputs of a camera that are not files of its own, instead of those it had before."""
        views: list[SinkSpec] = []
        if self.server is not None:
            self.forget(camera.name)
            views.append(self.server.add_camera(shown_name(camera.name), predictor, lambda: _figures(camera)))
        if self.settings.display:
            shown = camera.name or without_credentials(camera.settings.source)
            views.append(window_spec(shown, self.stop.set, camera.show_hud))
        return views

    def loop(self, camera: CameraRun, predictor: Predictor, kept: Sequence[Path]) -> Callable[[], RunSummary]:
        """Return the loop of a camera."""
        sinks_for = camera.sinks_for(kept, self.views(camera, predictor))

        def loop() -> RunSummary:
            try:
                summary = camera.loop(predictor, sinks_for)
            except Exception as error:
                self.tell_end(camera.name, error)
                raise
            self.tell_end(camera.name, summary)
            return summary

        return loop

    def tell_end(self, name: str, end: RunSummary | Exception | None) -> None:
        """Let the live view say how a camera's loop has ended: the others go on.

        Args:
            name: Of the camera.
            end: What the loop did, or what it failed with.
        """
        if self.server is None:
            return
        reason, is_lost = str(end), True
        if isinstance(end, RunSummary):
            is_lost = bool(end.cause)
            reason = end.cause or _end_of(end)
        self.server.end_camera(shown_name(name), reason, is_lost=is_lost)

    def forget(self, name: str) -> None:
        """Show a camera no more."""
        if self.server is not None:
            self.server.remove_camera(shown_name(name))


def shown_name(name: str) -> str:
    """Return what a camera is called where each must have a name."""
    return name or "camera"


def _end_of(summary: RunSummary) -> str:
    return "The run was stopped." if summary.interrupted else f"It ended after {summary.frames} frames."


def _figures(camera: CameraRun) -> CameraFigures:
    figures = camera.meter.figures()
    return CameraFigures(f"{figures.engine} {figures.precision}".strip(), camera.drops())
