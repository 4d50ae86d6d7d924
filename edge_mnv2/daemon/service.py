"""The daemon: follows a file of settings until it is told to end, and tells systemd how it fares."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from camera import CameraError
from edge_mnv2.config_check import check_file
from edge_mnv2.daemon.health import DEFAULT_LIMIT_S, Health
from edge_mnv2.daemon.live_set import LiveSet
from edge_mnv2.daemon.notify import Notifier
from edge_mnv2.daemon.status_socket import StatusServer
from edge_mnv2.daemon.status_text import status_document, status_line
from edge_mnv2.errors import EdgeMnv2Error
from edge_mnv2.event_hub import EventHub
from edge_mnv2.telemetry.sampler import DeviceSampler
from edge_mnv2.threads import Worker
from engines import EngineError

# Signals are looked at so often.
_TICK_S = 0.2
_STATUS_INTERVAL_S = 2.0
# While it starts, systemd is asked again and again for so much more time.
_EXTENSION_S = 30.0
# Of the 5 s that the end may take: a start that is under way; loops and services; a sensor that hangs.
_START_END_S, _END_S, _SENSOR_END_S = 1.0, 4.2, 0.3

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Signals:
    """What the daemon is told from outside.

    Attributes:
        stop: Set to end it.
        reload: Set to have it read its settings again; it clears this.
    """

    stop: threading.Event
    reload: threading.Event


@dataclass(frozen=True, slots=True)
class DaemonEnd:
    """How the daemon ended.

    Attributes:
        code: The exit code: 0 after a stop; 1 where nothing is left that could go on.
        is_clean: Whether all has ended; else threads hang in foreign code, and an orderly end of the process
            might hang or crash with them.
    """

    code: int
    is_clean: bool


def run_daemon(
    config: Path,
    signals: Signals,
    notifier: Notifier,
    socket_path: Path,
    limit_s: float = DEFAULT_LIMIT_S,
    flush_log: Callable[[], None] = lambda: None,
) -> DaemonEnd:
    """Follow a file of settings until a stop is asked for, and for at most five seconds longer.

    Where every source has come to its end, files do, it waits for other settings.

    Args:
        config: The YAML file.
        signals: From outside.
        notifier: To systemd, if it is there.
        socket_path: Where `status` asks.
        limit_s: So long each camera may show no movement while the watchdog is still told that all is well.
        flush_log: Called about once a second: has the log tell what it counts.

    Raises:
        CameraError, EdgeMnv2Error, EngineError: It could not start, or the engine failed.
    """
    events = EventHub()
    sampler = DeviceSampler(on_event=events.tell)
    try:
        live = LiveSet(check_file(config), [config], sampler.latest, events)
        return _Daemon(config, signals, notifier, Health(limit_s), live, flush_log).run(socket_path)
    finally:
        sampler.close(_SENSOR_END_S)
        notifier.close()


class _Daemon:
    """The state of the daemon. Its thread is the main one, where signals arrive."""

    def __init__(
        self,
        config: Path,
        signals: Signals,
        notifier: Notifier,
        health: Health,
        live: LiveSet,
        flush_log: Callable[[], None],
    ) -> None:
        self._config = config
        self._signals = signals
        self._notifier = notifier
        self._health = health
        self._live = live
        self._flush_log = flush_log
        self._is_ready = False
        self._work: Worker | None = None
        self._stuck: list[str] = []
        self._has_ended = False
        self._next_alive_s = self._next_status_s = 0.0

    def run(self, socket_path: Path) -> DaemonEnd:
        """Start, serve, end."""
        server = StatusServer(socket_path, lambda: status_document(self._live.snapshot(), self._config))
        code, is_closed = 0, False
        try:
            if self._start():
                code = self._serve()
        finally:
            self._notifier.stopping()
            is_closed = self._live.close(time.monotonic() + _END_S)
            server.close()
        return DaemonEnd(code, is_closed and (self._work is None or self._work.join(0)))

    def _serve(self) -> int:
        """Go on until a stop is asked for, or nothing is left to go on; return the exit code."""
        while not (self._signals.stop.is_set() or self._live.is_quit):
            # Not by the event: whoever waits for it here, where its signal arrives, waits for ever.
            time.sleep(_TICK_S)
            self._live.tick()
            if self._live.has_failed:
                return 1
            if self._signals.reload.is_set():
                self._signals.reload.clear()
                self._reload()
            self._tell()
        return 0

    def _start(self) -> bool:
        """Open all; False where a stop was asked for meanwhile.

        In a thread of its own: a first start may build the engine's files for minutes, and systemd wants to
        hear that this goes on.
        """
        worker = self._work = Worker(self._live.start, "start")
        self._notifier.status("starting: opening the model")
        while not worker.join(_TICK_S):
            self._notifier.extend(_EXTENSION_S)
            if self._signals.stop.is_set():
                # What is under way cannot be cut short; most of it is done soon.
                _log.info("stopped while starting")
                worker.join(_START_END_S)
                return False
        worker.check()
        return True

    def _reload(self) -> None:
        """Follow the file as it is now; where that cannot be, say all that is wrong and go on as before.

        In a thread of its own: a model that is new here may take minutes, and cameras go on meanwhile.
        """
        self._notifier.reloading()
        worker = self._work = Worker(self._follow_file, "reload")
        while not worker.join(_TICK_S):
            if self._signals.stop.is_set():
                return
            self._tell()
        worker.check()
        # The start is over when there was a result, reading settings when they are followed or refused.
        self._notifier.ready()

    def _follow_file(self) -> None:
        try:
            changes = self._live.apply(check_file(self._config))
        except (CameraError, EdgeMnv2Error, EngineError) as error:
            if self._signals.stop.is_set():
                return  # it is ending, and that is no fault of the settings
            for line in str(error).splitlines():
                _log.error("%s", line)
            _log.error("the settings in %s are refused: those of before stay", self._config)
        else:
            for line in changes.lines() or ["nothing has changed"]:
                _log.info("settings read again: %s", line)

    def _tell(self) -> None:
        """Tell systemd what there is to tell."""
        now_s = time.monotonic()
        interval_s = min(1.0, (self._notifier.watchdog_s or 2.0) / 2)
        if now_s < self._next_alive_s:
            return
        self._next_alive_s = now_s + interval_s
        self._flush_log()
        snapshot = self._live.snapshot()
        if self._live.has_ended and not self._has_ended:
            _log.info("all sources have come to their end; SIGHUP has the settings read again")
        self._has_ended = self._live.has_ended
        stuck = self._health.stuck(snapshot.cameras)
        if stuck and stuck != self._stuck:
            _log.error("nothing moves in: %s; the watchdog is told nothing any more", ", ".join(stuck))
        self._stuck = stuck
        if not stuck:
            self._notifier.alive()
            if not self._is_ready:
                self._notifier.extend(_EXTENSION_S)
        if not self._is_ready and any(camera.frames for camera in snapshot.cameras.values()):
            self._is_ready = True
            self._notifier.ready()
            _log.info("ready: %s", status_line(snapshot))
        if now_s >= self._next_status_s:
            self._next_status_s = now_s + _STATUS_INTERVAL_S
            self._notifier.status(status_line(snapshot))
