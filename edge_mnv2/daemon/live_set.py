"""Cameras on one engine that run until they are told otherwise, and take new settings while they run."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from camera import CameraError
from edge_mnv2.camera_checks import check_cameras, for_each
from edge_mnv2.camera_run import CameraRun, Surroundings
from edge_mnv2.daemon.changes import Changes, changes_between
from edge_mnv2.errors import EdgeMnv2Error, OutputPathError, RunError
from edge_mnv2.event_hub import EventHub
from edge_mnv2.live_run import snapshot_of
from edge_mnv2.predictor import Predictor, open_predictor
from edge_mnv2.readings import DeviceReading, Snapshot
from edge_mnv2.run_summary import RunSummary
from edge_mnv2.services import Services, shown_name
from edge_mnv2.settings import CameraSettings, RunConfig
from edge_mnv2.sinks.base import SinkSpec
from edge_mnv2.threads import Worker

# A loop that could not begin is started again after pauses that double.
_FIRST_PAUSE_S, _MAX_PAUSE_S = 1.0, 60.0
# All loops are told to end before the first one is waited for.
_END_S = 4.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Member:
    """One camera that runs, or waits to be started again.

    Attributes:
        run: Its parts; another one after each start.
        predictor: Its own view of the shared engine.
        views: Outputs that are not files of its own.
        stop: Ends its loop.
        worker: Its loop's thread.
        summary: What its loop did; None while it runs.
        refusal: Why it could not begin.
        pause_s: Before the next start.
        start_at_s: When that is; None while it runs, and when it has ended for good.
    """

    run: CameraRun
    predictor: Predictor
    views: list[SinkSpec]
    stop: threading.Event
    worker: Worker | None = None
    summary: RunSummary | None = None
    refusal: CameraError | OutputPathError | None = None
    pause_s: float = _FIRST_PAUSE_S
    start_at_s: float | None = None


@dataclass(slots=True)
class _Prepared:
    """New settings that were found right, with what they need; nothing runs with them yet."""

    settings: RunConfig
    changes: Changes
    predictor: Predictor
    runs: dict[str, CameraRun] = field(default_factory=dict)


def cameras_of(settings: RunConfig) -> dict[str, CameraSettings]:
    """Return the settings of each camera as a daemon takes them: its records outlive it."""
    return {
        name: camera if camera.jsonl_append is not None else camera.model_copy(update={"jsonl_append": True})
        for name, camera in settings.each_camera().items()
    }


class LiveSet:
    """Runs what settings say until `close`; see `start`, `apply`, `tick`. One thread uses it.

    Args:
        settings: Of the run.
        kept: Files that no output may take the place of.
        read_device: Returns what the device says, at once.
        events: Where events of all kinds come together.
    """

    def __init__(
        self,
        settings: RunConfig,
        kept: Sequence[Path],
        read_device: Callable[[], DeviceReading],
        events: EventHub,
    ) -> None:
        self.settings = settings
        self._read_device = read_device
        self._events = events
        self._kept = kept
        self._quit = threading.Event()
        self._members: dict[str, _Member] = {}
        self._services: Services | None = None
        self._predictor: Predictor | None = None

    def start(self) -> None:
        """Open engine and services, and start all cameras.

        Raises:
            CameraError: There is no such kind of source.
            EdgeMnv2Error, EngineError: The settings cannot be followed.
        """
        each = cameras_of(self.settings)
        check_cameras(each, self.settings.web_token_file)
        with ExitStack() as stack:
            runs = for_each(each, self._new_run)
            for run in runs.values():
                stack.callback(run.close)
            services = self._services = self._open_services(self.settings)
            stack.callback(services.close)
            self._predictor = open_predictor(self.settings.model, self.settings.predictor_options())
            stack.callback(self._predictor.close)
            for name, run in runs.items():
                self._start(name, run)
            stack.pop_all()

    def apply(self, settings: RunConfig) -> Changes:
        """Follow new settings: what they change starts anew, all else goes on undisturbed.

        Returns:
            What was changed.

        Raises:
            CameraError, EdgeMnv2Error, EngineError: They cannot be followed; all runs as before.
        """
        changes = changes_between(self.settings, settings)
        prepared = self._prepare(settings, changes)
        if changes.services:
            try:
                self._change_services(settings)
            except EdgeMnv2Error:
                self._discard(prepared)
                raise
        self._end(changes.removed)
        for name in changes.removed:
            if name not in changes.added and self._services is not None:
                self._services.forget(name)
        if prepared.predictor is not self._predictor and self._predictor is not None:
            self._predictor.close()
        self._predictor, self.settings = prepared.predictor, settings
        for name, run in prepared.runs.items():
            self._start(name, run)
        each = cameras_of(settings)
        for name, member in self._members.items():
            if name in prepared.runs:
                continue
            member.run.settings = each[name]
            if name in changes.decoders:
                member.predictor.change_decoder(each[name].decoder_options())
            if name in changes.outputs:
                member.run.change_outputs(self._kept, member.views)
        return changes

    def tick(self) -> None:
        """See to loops that have ended: start again those that could not begin.

        Raises:
            RunError: The engine failed: the whole process should start anew.
        """
        now_s = time.monotonic()
        for name, member in list(self._members.items()):
            if member.worker is not None and member.worker.join(0):
                self._note_end(name, member, now_s)
            elif member.start_at_s is not None and now_s >= member.start_at_s:
                self._start_again(name, member)

    @property
    def has_ended(self) -> bool:
        """Whether every camera has come to its end: files do."""
        return all(member.worker is None and member.start_at_s is None for member in self._members.values())

    @property
    def is_quit(self) -> bool:
        """Whether somebody asked for the end in a window."""
        return self._quit.is_set()

    def snapshot(self) -> Snapshot:
        """Return everything at this moment; from any thread."""
        members = tuple(self._members.items())
        return snapshot_of({name: member.run for name, member in members}, self._read_device)

    def summaries(self) -> Mapping[str, RunSummary]:
        """Return what each loop that has ended did."""
        return {name: m.summary for name, m in self._members.items() if m.summary is not None}

    def close(self) -> None:
        """End all loops side by side, then services and engine. Calling it again does nothing."""
        self._end(tuple(self._members))
        if self._services is not None:
            self._services.close()
        if self._predictor is not None:
            self._predictor.close()
        self._services = self._predictor = None

    # --- one camera

    def _new_run(self, name: str, camera: CameraSettings) -> CameraRun:
        # A daemon starts with the device, cameras may take longer.
        surroundings = Surroundings(None, self._read_device, self._events, keeps_files=True)
        return CameraRun(name, camera, threading.Event(), surroundings, waits=True)

    def _start(self, name: str, run: CameraRun) -> None:
        assert self._predictor is not None  # noqa: S101 - opened before any camera
        predictor = self._predictor.for_camera(run.settings.decoder_options())
        member = _Member(run, predictor, self._views(run, predictor), run.control.stop)
        self._members[name] = member
        self._begin(name, member)

    def _begin(self, name: str, member: _Member) -> None:
        run, member.start_at_s, member.refusal = member.run, None, None
        sinks_for = run.sinks_for(self._kept, member.views)

        def loop() -> None:
            try:
                member.summary = run.loop(member.predictor, sinks_for)
            except (CameraError, OutputPathError) as error:
                member.refusal = error

        member.worker = Worker(loop, f"loop {name}")

    def _note_end(self, name: str, member: _Member, now_s: float) -> None:
        assert member.worker is not None  # noqa: S101 - only such ones are noted
        member.worker.check()
        member.worker = None
        if self._services is not None:
            self._services.tell_end(name, member.summary or member.refusal)
        if member.refusal is not None:
            _log.error("%s%s", f"{name}: " if name else "", member.refusal)
            member.run.close()
            member.start_at_s = now_s + member.pause_s
            member.pause_s = min(member.pause_s * 2, _MAX_PAUSE_S)
        elif member.summary is not None and member.summary.has_engine_failed:
            raise RunError(member.summary.cause)

    def _start_again(self, name: str, member: _Member) -> None:
        try:
            member.run = self._new_run(name, member.run.settings)
        except (CameraError, OutputPathError) as error:
            _log.info("%s%s", f"{name}: " if name else "", error)
            member.start_at_s = time.monotonic() + member.pause_s
            member.pause_s = min(member.pause_s * 2, _MAX_PAUSE_S)
            return
        member.stop = member.run.control.stop
        member.views = self._views(member.run, member.predictor)
        self._begin(name, member)

    def _end(self, names: Sequence[str]) -> None:
        """End loops side by side, and forget their cameras."""
        members = {name: self._members.pop(name) for name in names}
        for member in members.values():
            member.stop.set()
        end_s = time.monotonic() + _END_S
        for name, member in members.items():
            if member.worker is not None and not member.worker.join(max(0.0, end_s - time.monotonic())):
                _log.error("the loop of the camera %s does not end", shown_name(name))
            member.run.close()

    # --- new settings

    def _prepare(self, settings: RunConfig, changes: Changes) -> _Prepared:
        """Make what new settings need, or raise, without a change to what runs."""
        assert self._predictor is not None  # noqa: S101 - `start` comes first
        each = cameras_of(settings)
        check_cameras(each, settings.web_token_file)
        with ExitStack() as stack:
            predictor = self._predictor
            if changes.engine:
                predictor = open_predictor(settings.model, settings.predictor_options())
                stack.callback(predictor.close)
            # What is wrong with classes is said here.
            for_each(each, lambda _, camera: predictor.for_camera(camera.decoder_options()))
            prepared = _Prepared(settings, changes, predictor)
            for name in changes.added:
                prepared.runs[name] = self._new_run(name, each[name])
                stack.callback(prepared.runs[name].close)
            stack.pop_all()
        return prepared

    def _discard(self, prepared: _Prepared) -> None:
        for run in prepared.runs.values():
            run.close()
        if prepared.predictor is not self._predictor:
            prepared.predictor.close()

    def _change_services(self, settings: RunConfig) -> None:
        """Open the services anew, and tell the loops where they are now; those of before where that fails."""
        if self._services is not None:
            # They go first: the new ones may want the same port.
            self._services.close()
        try:
            self._services = self._open_services(settings)
        except EdgeMnv2Error:
            self._services = self._open_services(self.settings)
            raise
        finally:
            for member in self._members.values():
                member.views = self._views(member.run, member.predictor)
                member.run.change_outputs(self._kept, member.views)

    def _open_services(self, settings: RunConfig) -> Services:
        return Services.open(settings, self._quit, self._events, self.snapshot)

    def _views(self, run: CameraRun, predictor: Predictor) -> list[SinkSpec]:
        return [] if self._services is None else self._services.views(run, predictor)
