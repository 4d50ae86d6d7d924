"""One sink as the loop sees it: its failures stay its own. For files, which wait; see `queued_outlet` too."""

from __future__ import annotations

import logging

from edge_mnv2.errors import SinkError
from edge_mnv2.readings import DeviceEvent
from edge_mnv2.results import CameraStatus, FrameResult
from edge_mnv2.sinks.base import EventSink, Sink, SinkSpec, StateSink

_MAX_FAILURES = 100

Item = FrameResult | CameraStatus | DeviceEvent

_log = logging.getLogger(__name__)


class Outlet:
    """Writes directly: the loop waits for the sink and no result is lost. For files and batches.

    A sink that fails is reported once and not written to again; the others go on.

    Attributes:
        failures: What went wrong, one line each.
        dropped: Results that did not reach the sink.
    """

    def __init__(self, spec: SinkSpec) -> None:
        self.name = spec.name
        self.failures: list[str] = []
        self.dropped = 0
        self._spec = spec
        self._sink: Sink | None = spec.open(0)

    @property
    def is_alive(self) -> bool:
        """Whether results still reach the sink."""
        return self._sink is not None

    @property
    def trouble(self) -> str:
        """What is wrong now, empty where nothing is."""
        return "" if self._sink is not None or not self.failures else self.failures[-1]

    @property
    def wants_canvas(self) -> bool:
        """Whether the next result needs a canvas."""
        return wants_canvas(self._spec)

    @property
    def may_want_canvas(self) -> bool:
        """Whether any result may need one: somebody may look later."""
        return self._spec.wants_canvas

    def write(self, result: Item) -> None:
        """Hand one result to the sink, or a state or an event to one that takes them."""
        if self._sink is None:
            self.dropped += isinstance(result, FrameResult)
            return
        try:
            hand_over(self._sink, result)
        except SinkError as error:
            self.dropped += 1
            report(self.failures, error)
            self.close()

    def stop(self) -> None:
        """Do nothing: nothing is waiting."""

    def close(self) -> None:
        """Close the sink."""
        sink, self._sink = self._sink, None
        if sink is not None:
            close_sink(sink, self.failures)


def wants_canvas(spec: SinkSpec) -> bool:
    """Return whether a sink needs the next result's canvas."""
    return spec.wants_canvas and (spec.is_watched is None or spec.is_watched())


def hand_over(sink: Sink, item: Item) -> None:
    """Give a sink an item, if it takes such ones.

    Raises:
        SinkError: It failed.
    """
    if isinstance(item, FrameResult):
        sink.write(item)
    elif isinstance(item, DeviceEvent):
        if isinstance(sink, EventSink):
            sink.note(item)
    elif isinstance(sink, StateSink):
        sink.show(item)


def close_sink(sink: Sink, failures: list[str]) -> None:
    """Close a sink; what goes wrong is reported."""
    try:
        sink.close()
    except SinkError as error:
        report(failures, error)


def report(failures: list[str], error: SinkError) -> None:
    """Log a failure and add it to the others, once."""
    message = str(error)
    if message not in failures and len(failures) < _MAX_FAILURES:
        failures.append(message)
        _log.error("%s", message)
