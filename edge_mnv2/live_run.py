"""A run as its settings say: cameras, one engine, outputs, what they share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from edge_mnv2 import __version__
from edge_mnv2.camera_checks import check_cameras, for_each
from edge_mnv2.camera_run import CameraRun, Surroundings
from edge_mnv2.cameras import run_side_by_side
from edge_mnv2.event_hub import EventHub
from edge_mnv2.predictor import Predictor, open_predictor
from edge_mnv2.readings import DeviceReading, Snapshot
from edge_mnv2.run_summary import RunSummary
from edge_mnv2.services import Services, shown_name
from edge_mnv2.settings import CameraSettings, RunConfig
from edge_mnv2.telemetry.memory import process_start
from edge_mnv2.telemetry.sampler import DeviceSampler


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
        # A recorded session that is played alone shows its own device on the page, too.
        alone = cameras.get("")
        read_device = sampler.latest if alone is None else alone.read_device
        services = Services(stop, events, partial(snapshot_of, cameras, read_device))
        stack.callback(services.close)
        services.open(settings)
        predictor = open_predictor(settings.model, settings.predictor_options())
        stack.callback(predictor.close)
        if "" in each:
            return {"": _loop(services, cameras[""], predictor, kept)()}
        each_own = for_each(each, lambda _, camera: predictor.for_camera(camera.decoder_options()))
        loops = {name: _loop(services, run, each_own[name], kept) for name, run in cameras.items()}
        return run_side_by_side(loops, stop)


def snapshot_of(cameras: Mapping[str, CameraRun], read_device: Callable[[], DeviceReading]) -> Snapshot:
    """Return everything at this moment; from any thread.

    Args:
        cameras: By name.
        read_device: Returns what the device says, at once.
    """
    figures = {shown_name(name): run.figures() for name, run in tuple(cameras.items())}
    return Snapshot(read_device(), figures, process_start(), __version__)


def _loop(
    services: Services, camera: CameraRun, predictor: Predictor, kept: Sequence[Path]
) -> Callable[[], RunSummary]:
    """Return the loop of one camera."""
    sinks_for = camera.sinks_for(kept, services.views(camera, predictor))

    def loop() -> RunSummary:
        try:
            summary = camera.loop(predictor, sinks_for)
        except Exception as error:
            services.tell_end(camera.name, error)
            raise
        services.tell_end(camera.name, summary)
        return summary

    return loop
