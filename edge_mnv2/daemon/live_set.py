"""Cameras on one engine that run until they are told otherwise, and take new settings while they run."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from edge_mnv2.camera_checks import check_cameras, for_each
from edge_mnv2.camera_run import CameraRun, Surroundings
from edge_mnv2.daemon.changes import Changes, changes_between
from edge_mnv2.daemon.member import Member
from edge_mnv2.errors import EdgeMnv2Error, RunError
from edge_mnv2.event_hub import EventHub
from edge_mnv2.live_run import snapshot_of
from edge_mnv2.predictor import Predictor, open_predictor
from edge_mnv2.readings import DeviceReading, Snapshot
from edge_mnv2.services import Services
from edge_mnv2.settings import CameraSettings, RunConfig

# So long loops may take to end where others go on.
_END_S = 4.0
# At the end of all, so much is left for what they share: it ends last.
_SERVICES_END_S = 1.0

_log = logging.getLogger(__name__)


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
    """Runs what settings say until `close`; see `start`, `apply`, `tick`: one at a time.

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
        self._members: dict[str, Member] = {}
        # Whoever changes what runs holds this: `close` may come while another thread starts or applies.
        self._changing = threading.Lock()
        self._is_closed = False
        self._services = Services(self._quit, events, self.snapshot)
        self._predictor: Predictor | None = None

    def start(self) -> None:
        """Open engine and services, and start all cameras; in any thread.

        Raises:
            CameraError: There is no such kind of source.
            EdgeMnv2Error, EngineError: The settings cannot be followed, or it was closed meanwhile.
        """
        each = cameras_of(self.settings)
        check_cameras(each, self.settings.web_token_file)
        with ExitStack() as stack:
            runs = for_each(each, self._new_run)
            for run in runs.values():
                stack.callback(run.close)
            self._services.open(self.settings)
            stack.callback(self._services.close)
            predictor = open_predictor(self.settings.model, self.settings.predictor_options())
            stack.callback(predictor.close)
            with self._changing:
                self._check_open()
                self._predictor = predictor
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
        try:
            with self._changing:
                self._check_open()
                self._follow(prepared)
        except EdgeMnv2Error:
            self._discard(prepared)
            raise
        return changes

    def tick(self) -> None:
        """See to loops that have ended: start again those that could not begin.

        Raises:
            RunError: The engine failed: the whole process should start anew.
        """
        for member in self._members.values():
            member.tick(self._kept, self._new_run, self._services.views, self._services.tell_end)

    @property
    def has_ended(self) -> bool:
        """Whether every camera has come to its end: files do."""
        return all(member.has_ended for member in self._members.values())

    @property
    def has_failed(self) -> bool:
        """Whether every camera has come to its end, one of them because it was given up."""
        return self.has_ended and any(member.has_failed for member in self._members.values())

    @property
    def is_quit(self) -> bool:
        """Whether somebody asked for the end in a window."""
        return self._quit.is_set()

    def snapshot(self) -> Snapshot:
        """Return everything at this moment; from any thread."""
        members = tuple(self._members.items())
        return snapshot_of({name: member.run for name, member in members}, self._read_device)

    def close(self, deadline_s: float) -> bool:
        """End all loops side by side, then services and engine. Calling it again does nothing.

        Args:
            deadline_s: When it gives up waiting, of `time.monotonic`.

        Returns:
            Whether all has ended; else threads hang that only the end of the process ends.
        """
        self._is_closed = True
        # While a model is opened nothing is changed; what holds this is done in moments.
        if not self._changing.acquire(timeout=max(0.0, deadline_s - time.monotonic())):
            return False
        try:
            have_ended = self._end(tuple(self._members), deadline_s - _SERVICES_END_S)
            self._services.close(timeout_s=max(0.1, deadline_s - time.monotonic()))
            # Under a loop that hangs in it, an engine is not closed: the end of the process does that.
            if self._predictor is not None and have_ended:
                self._predictor.close()
            self._predictor = None
        finally:
            self._changing.release()
        return have_ended

    # --- one camera

    def _new_run(self, name: str, camera: CameraSettings) -> CameraRun:
        # A daemon starts with the device, cameras may take longer.
        surroundings = Surroundings(None, self._read_device, self._events, keeps_files=True)
        return CameraRun(name, camera, threading.Event(), surroundings, waits=True)

    def _start(self, name: str, run: CameraRun) -> None:
        assert self._predictor is not None  # noqa: S101 - opened before any camera
        predictor = self._predictor.for_camera(run.settings.decoder_options())
        member = Member(run, predictor, self._services.views(run, predictor))
        # A new dictionary: another thread may be going through the old one.
        self._members = {**self._members, name: member}
        member.begin(self._kept)

    def _end(self, names: Sequence[str], deadline_s: float) -> bool:
        """End loops side by side, and forget their cameras; return whether all ended until the deadline."""
        members = [self._members[name] for name in names]
        self._members = {name: member for name, member in self._members.items() if name not in names}
        for member in members:
            member.stop()
        have_ended = [member.close(deadline_s) for member in members]  # each, whatever the others did
        return all(have_ended)

    def _check_open(self) -> None:
        if self._is_closed:
            raise RunError("the daemon is ending")

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

    def _follow(self, prepared: _Prepared) -> None:
        """Run with new settings from now on.

        Raises:
            EdgeMnv2Error: The services cannot be opened; all is as before.
        """
        changes, settings = prepared.changes, prepared.settings
        if changes.services:
            self._change_services(settings, changes.services)
        have_ended = self._end(changes.removed, time.monotonic() + _END_S)
        for name in changes.removed:
            if name not in changes.added:
                self._services.forget(name)
        if prepared.predictor is not self._predictor and self._predictor is not None and have_ended:
            self._predictor.close()
        self._predictor, self.settings = prepared.predictor, settings
        for name, run in prepared.runs.items():
            self._start(name, run)
        for name, camera in cameras_of(settings).items():
            if name in prepared.runs:
                continue
            member = self._members[name]
            member.run.settings = camera
            if name in changes.decoders:
                member.predictor.change_decoder(camera.decoder_options())
            if name in changes.outputs:
                member.write_elsewhere(self._kept)

    def _discard(self, prepared: _Prepared) -> None:
        for run in prepared.runs.values():
            run.close()
        if prepared.predictor is not self._predictor:
            prepared.predictor.close()

    def _change_services(self, settings: RunConfig, parts: Sequence[str]) -> None:
        """Open these parts anew, and tell the loops where they are; those of before where that fails."""
        # They go first: the new ones may want the same port.
        self._services.close(parts)
        try:
            self._services.open(settings, parts)
        except EdgeMnv2Error:
            try:
                self._services.open(self.settings, parts)
            except EdgeMnv2Error as error:
                _log.error("%s: gone, and cannot be opened again: %s", ", ".join(parts), error)
            raise
        finally:
            for member in self._members.values():
                member.views = self._services.views(member.run, member.predictor, is_new=False)
                member.write_elsewhere(self._kept)
