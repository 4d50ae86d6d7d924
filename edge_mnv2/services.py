"""What the cameras of a run have in common beside the engine: live view, windows, metrics, MQTT."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

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
from edge_mnv2.web.access import read_token
from edge_mnv2.web.address import parse_web_address
from edge_mnv2.web.metrics_server import DEFAULT_METRICS_ADDRESS, MetricsServer
from edge_mnv2.web.server import WebOptions, WebServer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Services:
    """What all cameras of a run share; see `open`."""

    settings: RunConfig
    stop: threading.Event
    web: WebServer | None
    mqtt: MqttConnection | None
    close: Callable[[], None]

    @classmethod
    def open(
        cls,
        settings: RunConfig,
        stop: threading.Event,
        events: EventHub,
        read: Callable[[], Snapshot],
    ) -> Services:
        """Open what the settings ask for; `close` closes it.

        Args:
            settings: Of the run.
            stop: Set where somebody closes the window.
            events: Of the run.
            read: Returns the present moment, at once.

        Raises:
            RequestError: It cannot be opened.
        """
        token = None if settings.web_token_file is None else read_token(settings.web_token_file)
        names = settings.web_names or ()
        web: WebServer | None = None
        mqtt: MqttConnection | None = None
        with ExitStack() as stack:
            if settings.web is not None:
                options = WebOptions(token, names, read_device=lambda: read().device, read_snapshot=read)
                web = WebServer.start(parse_web_address(settings.web), options)
                stack.callback(web.close)
                _log.info("live view: %s", web.address.url)
            if settings.metrics is not None:
                address = parse_web_address(settings.metrics, DEFAULT_METRICS_ADDRESS)
                metrics = MetricsServer.start(address, read, token, names)
                stack.callback(metrics.close)
                _log.info("metrics: %smetrics", metrics.address.url)
            if settings.mqtt is not None:
                mqtt = MqttConnection.start(settings.mqtt, read)
                stack.callback(mqtt.close)
                stack.callback(events.add(mqtt.publish_event))
            return cls(settings, stop, web, mqtt, stack.pop_all().close)

    def views(self, camera: CameraRun, predictor: Predictor) -> list[SinkSpec]:
        """Describe the outputs of a camera that are not files of its own, instead of those it had before."""
        name, views = shown_name(camera.name), []
        if self.web is not None:
            self.web.remove_camera(name)
            views.append(self.web.add_camera(name, predictor, camera.figures))
        if self.mqtt is not None:
            mqtt = self.mqtt
            views.append(mqtt.add_camera(name, predictor.task, predictor.labels.values()))
            camera.count_drops("mqtt buffer", lambda: mqtt.dropped(name))
        if self.settings.display:
            title = camera.name or without_credentials(camera.settings.source)
            views.append(window_spec(title, self.stop.set, camera.show_hud))
        return views

    def tell_end(self, name: str, end: RunSummary | Exception | None) -> None:
        """Let the live view say how a camera's loop has ended: the others go on.

        Args:
            name: Of the camera.
            end: What the loop did, or what it failed with.
        """
        if self.web is None:
            return
        reason, is_lost = str(end), True
        if isinstance(end, RunSummary):
            is_lost = bool(end.cause)
            reason = end.cause or _end_of(end)
        self.web.end_camera(shown_name(name), reason, is_lost=is_lost)

    def forget(self, name: str) -> None:
        """Show a camera no more."""
        if self.web is not None:
            self.web.remove_camera(shown_name(name))
        if self.mqtt is not None:
            self.mqtt.remove_camera(shown_name(name))


def shown_name(name: str) -> str:
    """Return what a camera is called where each must have a name."""
    return name or "camera"


def _end_of(summary: RunSummary) -> str:
    return "The run was stopped." if summary.interrupted else f"It ended after {summary.frames} frames."
