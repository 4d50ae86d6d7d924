"""Sends one camera's results and states; it never waits for the broker."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone

from edge_mnv2.mqtt.objects import Objects
from edge_mnv2.mqtt.topics import Message, Topics, to_payload
from edge_mnv2.object_counts import count_objects
from edge_mnv2.results import CameraStatus, FrameResult
from edge_mnv2.sinks.record import to_record, to_state_record

Send = Callable[[Message], None]


class CameraChannel:
    """Everything that is said of one camera, whichever sink says it. Any thread may use it.

    Args:
        camera: Its name.
        topics: Where to send.
        objects: Decides when objects are told.
        send: Takes a message, now or again.
        result_interval_s: Shortest time between two records; None: none are sent.
    """

    def __init__(
        self,
        camera: str,
        topics: Topics,
        objects: Objects,
        send: Send,
        result_interval_s: float | None,
    ) -> None:
        self._camera = camera
        self._topics = topics
        self._objects = objects
        self._send = send
        self._result_interval_s = result_interval_s
        self._result_due_s = 0.0
        self._state: CameraStatus | None = None
        self._is_retired = False

    def write(self, result: FrameResult) -> None:
        """Send a result, if it is time for one, and what it changes."""
        if self._state is None or self._state.state == "ended":
            # Files have no states of their own; a camera tells its own before its first frame.
            self._tell(CameraStatus(result.origin, "live", "", result.captured_at, camera=result.camera))
        now_s = time.monotonic()
        self._tell_objects(self._objects.update(count_objects(result.found, result.labels), now_s))
        if self._result_interval_s is not None and now_s >= self._result_due_s:
            self._result_due_s = now_s + self._result_interval_s
            topic = self._topics.result(self._camera)
            self._send(Message(topic, to_payload(to_record(result)), is_result=True))

    def show(self, status: CameraStatus) -> None:
        """Send a change of state; a camera that is away sees nothing."""
        if status.is_change or self._state is None:
            self._tell(status)
        if status.state != "live":
            self._tell_objects(self._objects.update({}, time.monotonic()))

    def tick(self) -> None:
        """Let time pass: a class that was seen may have gone."""
        self._tell_objects(self._objects.tick(time.monotonic()))

    def repeat(self) -> Message | None:
        """Return what was said of objects last, so that it does not expire; None if the camera is silent."""
        news = self._objects.repeat()
        return None if news is None else self._objects_message(news)

    def retire(self) -> None:
        """Leave the word to another channel of this camera: the end of this one is no end of the camera."""
        self._is_retired = True

    def end(self) -> None:
        """Say that no more results will come."""
        if self._is_retired:
            return
        if self._state is not None and self._state.state != "ended":
            now = datetime.now(timezone.utc)
            self._tell(replace(self._state, state="ended", reason="", at=now, canvas=None))
        self._tell_objects(self._objects.update({}, time.monotonic()))

    def _tell(self, status: CameraStatus) -> None:
        self._state = replace(status, canvas=None)
        record = to_state_record(status)
        self._send(Message(self._topics.state(self._camera), to_payload(record), retain=True))
        # The topic above holds the newest state; this one tells of all.
        event = {**record, "camera_name": self._camera}
        self._send(Message(self._topics.events, to_payload(event)))

    def _tell_objects(self, news: dict[str, object] | None) -> None:
        if news is not None:
            self._send(self._objects_message(news))

    def _objects_message(self, news: dict[str, object]) -> Message:
        return Message(self._topics.objects(self._camera), to_payload(news), retain=True)


class MqttSink:
    """Hands what the loop finds to a camera's channel.

    Args:
        channel: Of the camera.
        check: Raises SinkError where the connection's thread has failed.
    """

    def __init__(self, channel: CameraChannel, check: Callable[[], None]) -> None:
        check()
        self._channel = channel
        self._check = check

    def write(self, result: FrameResult) -> None:
        """Take a result."""
        self._check()
        self._channel.write(result)

    def show(self, status: CameraStatus) -> None:
        """Take the camera's state."""
        self._check()
        self._channel.show(status)

    def close(self) -> None:
        """Say that the camera has ended."""
        self._channel.end()
