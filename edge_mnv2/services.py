"""What the cameras of a run have in common beside the engine: live view, windows, metrics, MQTT."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack

from camera.credentials import without_credentials
from edge_mnv2.camera_run import CameraRun
from edge_mnv2.event_hub import EventHub
from edge_mnv2.mqtt.service import MqttConnection
from edge_mnv2.predictor import Predictor
from edge_mnv2.readings import Snapshot
from edge_mnv2.run_summary import RunSummary
from edge_mnv2.settings import RunConfig
from edge_mnv2.sinks.base import SinkSpec
from edge_mnv2.sinks.specs import window_spec
from edge_mnv2.threads import Worker
from edge_mnv2.web.access import read_token
from edge_mnv2.web.address import parse_web_address
from edge_mnv2.web.metrics_server import DEFAULT_METRICS_ADDRESS, MetricsServer
from edge_mnv2.web.server import WebOptions, WebServer

_CLOSE_S = 6.0

_log = logging.getLogger(__name__)


# The settings of each part: what only concerns one must not disturb another.
_LISTENERS = ("web_token_file", "web_names")
PARTS: Mapping[str, tuple[str, ...]] = {
    "web": ("web", *_LISTENERS),
    "metrics": ("metrics", *_LISTENERS),
    "mqtt": ("mqtt",),
    "display": ("display",),
}


class Services:
    """What all cameras of a run share; nothing is open yet. One thread at a time uses it.

    Args:
        stop: Set where somebody closes the window.
        events: Of the run.
        read: Returns the present moment, at once.
    """

    def __init__(self, stop: threading.Event, events: EventHub, read: Callable[[], Snapshot]) -> None:
        self._stop = stop
        self._events = events
        self._read = read
        self._web: WebServer | None = None
        self._mqtt: MqttConnection | None = None
        self._has_windows = False
        self._closers: dict[str, ExitStack] = {}
        self._views: dict[tuple[str, str], SinkSpec] = {}

    def open(self, settings: RunConfig, parts: Collection[str] = tuple(PARTS)) -> None:
        """Open what the settings ask for.

        Args:
            settings: Of the run.
            parts: Which of `PARTS`; none of them is open.

        Raises:
            RequestError: One of them cannot be opened; none of them is, then.
        """
        opened: list[str] = []
        try:
            for part in parts:
                self._closers[part] = ExitStack()
                opened.append(part)
                self._open(part, settings, self._closers[part])
        except BaseException:
            self.close(opened)
            raise

    def close(self, parts: Collection[str] = tuple(PARTS), timeout_s: float = _CLOSE_S) -> None:
        """Close parts, side by side; whatever takes longer is left behind. Again, it does nothing."""
        closers = {part: self._closers.pop(part) for part in parts if part in self._closers}
        self._views = {key: view for key, view in self._views.items() if key[0] not in closers}
        workers = {part: Worker(closer.close, f"close {part}") for part, closer in closers.items()}
        deadline_s = time.monotonic() + timeout_s
        for part, worker in workers.items():
            if not worker.join(max(0.0, deadline_s - time.monotonic())):
                _log.warning("%s does not end in time", part)
            worker.check()

    def views(self, camera: CameraRun, predictor: Predictor, *, is_new: bool = True) -> list[SinkSpec]:
        """Describe the outputs of a camera that are not files of its own.

        Args:
            camera: Its parts.
            predictor: Its own.
            is_new: Whether the camera is; else what was described before stays as it is.
        """
        name = shown_name(camera.name)
        makers: list[tuple[str, Callable[[], SinkSpec]]] = []
        if (web := self._web) is not None:

            def show() -> SinkSpec:
                web.remove_camera(name)
                return web.add_camera(name, predictor, camera.figures)

            makers.append(("web", show))
        if (mqtt := self._mqtt) is not None:
            makers.append(("mqtt", lambda: mqtt.add_camera(name, predictor.task, predictor.labels.values())))
            camera.count_drops("mqtt buffer", lambda: mqtt.dropped(name))
        if self._has_windows:
            title = camera.name or without_credentials(camera.settings.source)
            makers.append(("display", lambda: window_spec(title, self._stop.set, camera.show_hud)))
        for part, make in makers:
            if is_new or (part, name) not in self._views:
                self._views[part, name] = make()
        return [self._views[part, name] for part, _ in makers]

    def tell_end(self, name: str, end: RunSummary | Exception | None) -> None:
        """Let the live view say how a camera's loop has ended: the others go on.

        Args:
            name: Of the camera.
            end: What the loop did, or what it failed with.
        """
        if self._web is None:
            return
        reason, is_lost = str(end), True
        if isinstance(end, RunSummary):
            is_lost = bool(end.cause)
            reason = end.cause or _end_of(end)
        self._web.end_camera(shown_name(name), reason, is_lost=is_lost)

    def forget(self, name: str) -> None:
        """Show a camera no more."""
        self._views = {key: view for key, view in self._views.items() if key[1] != shown_name(name)}
        if self._web is not None:
            self._web.remove_camera(shown_name(name))
        if self._mqtt is not None:
            self._mqtt.remove_camera(shown_name(name))

    def _open(self, part: str, settings: RunConfig, stack: ExitStack) -> None:
        token = None if settings.web_token_file is None else read_token(settings.web_token_file)
        names = settings.web_names or ()
        read = self._read
        if part == "web" and settings.web is not None:
            options = WebOptions(token, names, read_device=lambda: read().device, read_snapshot=read)
            web = self._web = WebServer.start(parse_web_address(settings.web), options)
            stack.callback(setattr, self, "_web", None)
            stack.callback(web.close)
            _log.info("live view: %s", web.address.url)
        if part == "metrics" and settings.metrics is not None:
            address = parse_web_address(settings.metrics, DEFAULT_METRICS_ADDRESS)
            metrics = MetricsServer.start(address, read, token, names)
            stack.callback(metrics.close)
            _log.info("metrics: %smetrics", metrics.address.url)
        if part == "mqtt" and settings.mqtt is not None:
            mqtt = self._mqtt = MqttConnection.start(
                settings.mqtt, read, cameras=[shown_name(name) for name in settings.each_camera()]
            )
            stack.callback(setattr, self, "_mqtt", None)
            stack.callback(mqtt.close)
            stack.callback(self._events.add(mqtt.publish_event))
        if part == "display":
            self._has_windows = settings.display


def changed_parts(old: RunConfig, new: RunConfig) -> tuple[str, ...]:
    """Return which of `PARTS` other settings concern."""
    return tuple(
        part
        for part, names in PARTS.items()
        if any(getattr(old, name) != getattr(new, name) for name in names)
    )


def shown_name(name: str) -> str:
    """Return what a camera is called where each must have a name."""
    return name or "camera"


def _end_of(summary: RunSummary) -> str:
    return "The run was stopped." if summary.interrupted else f"It ended after {summary.frames} frames."
