"""All outputs of one loop: written side by side, and replaced one by one while the loop goes on."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from camera import SourceInfo
from edge_mnv2.errors import EdgeMnv2Error
from edge_mnv2.readings import DeviceEvent
from edge_mnv2.sinks.base import SinkSpec, check_outputs
from edge_mnv2.sinks.outlet import Item, Outlet
from edge_mnv2.sinks.queued_outlet import QueuedOutlet
from edge_mnv2.threads import Worker

SinksFor = Callable[[SourceInfo], Sequence[SinkSpec]]

# A queued outlet bounds its own end; a direct one has written all that it was given.
_RETIRE_S = 15.0

_log = logging.getLogger(__name__)


class OutputBox:
    """New outputs for a running loop: any thread puts them, the loop takes them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: SinksFor | None = None

    def put(self, sinks_for: SinksFor) -> None:
        """Ask for these instead of what is written now."""
        with self._lock:
            self._waiting = sinks_for

    def take(self) -> SinksFor | None:
        """Return what was asked for since the last call."""
        if self._waiting is None:  # asked between any two frames: without a lock
            return None
        with self._lock:
            waiting, self._waiting = self._waiting, None
        return waiting


class Outlets:
    """The open outputs of a loop; one thread uses them.

    Args:
        info: Of the open source. A live one gets a queue for each output, and never waits for it.
        sinks_for: Describes them.
        on_trouble: As of `sinks.queued_outlet.QueuedOutlet`.

    Attributes:
        failures: What went wrong with outputs that are closed, one line each.

    Raises:
        OutputPathError: One cannot be opened; those before it are closed again.
    """

    def __init__(
        self,
        info: SourceInfo,
        sinks_for: SinksFor,
        on_trouble: Callable[[DeviceEvent], None] | None = None,
    ) -> None:
        self.failures: list[str] = []
        self._info = info
        self._on_trouble = on_trouble
        # The sum never becomes less, whoever reads it meanwhile: an outlet is counted here until its
        # drops are among those of before.
        self._counting = threading.Lock()
        self._dropped_before: Counter[str] = Counter()
        self._counted: list[Outlet | QueuedOutlet] = []
        self._retiring: list[Worker] = []
        self._open: dict[SinkSpec, Outlet | QueuedOutlet] = {}
        specs = sinks_for(info)
        check_outputs(info.paths, specs)
        with ExitStack() as stack:
            for spec in specs:
                self._open[spec] = self._new(spec)
                stack.callback(self._open[spec].close)
            stack.pop_all()

    @property
    def wants_canvas(self) -> bool:
        """Whether the next result needs a canvas."""
        return any(outlet.wants_canvas for outlet in self._open.values())

    @property
    def may_want_canvas(self) -> bool:
        """Whether any result may need one: somebody may look later."""
        return any(outlet.may_want_canvas for outlet in self._open.values())

    @property
    def are_gone(self) -> bool:
        """Whether there were outputs, and results reach none of them any more."""
        return bool(self._open) and not any(outlet.is_alive for outlet in self._open.values())

    def write(self, item: Item) -> None:
        """Hand a result, a state or an event to each."""
        for outlet in self._open.values():
            outlet.write(item)

    def drops(self) -> dict[str, int]:
        """Return results that did not reach an output, by its name; from any thread."""
        with self._counting:
            dropped = Counter(self._dropped_before)
            for outlet in self._counted:
                dropped[outlet.name] += outlet.dropped
        return dict(dropped)

    def troubles(self) -> tuple[str, ...]:
        """Return what is wrong with outputs now, one sentence each; from any thread."""
        troubles = (outlet.trouble for outlet in tuple(self._open.values()))
        return tuple(trouble for trouble in troubles if trouble)

    def replace(self, sinks_for: SinksFor) -> None:
        """Write what is described from now on: outputs of the same description go on undisturbed.

        One that cannot be opened is reported, and the others change nevertheless; whatever is no longer
        wanted finishes in a thread of its own.
        """
        try:
            specs = sinks_for(self._info)
            check_outputs(self._info.paths, specs)
        except EdgeMnv2Error as error:
            _log.error("the outputs stay as they were: %s", error)
            return
        before, self._open = self._open, {}
        # Closed first: a new one may write the same file.
        for spec in before.keys() - set(specs):
            self._retire(before[spec])
        for spec in specs:
            try:
                self._open[spec] = before.get(spec) or self._new(spec)
            except EdgeMnv2Error as error:
                _log.error("%s", error)
                self.failures.append(str(error))

    def close(self) -> None:
        """Write what is left, and close all; side by side, so that slow ones do not add up."""
        for outlet in self._open.values():
            outlet.stop()
        for outlet in self._open.values():
            outlet.close()
        for worker in self._retiring:
            worker.join(_RETIRE_S)
        for outlet in self._open.values():
            self.failures.extend(outlet.failures)

    def _new(self, spec: SinkSpec) -> Outlet | QueuedOutlet:
        outlet = QueuedOutlet(spec, self._on_trouble) if self._info.live else Outlet(spec)
        with self._counting:
            self._counted.append(outlet)
        return outlet

    def _retire(self, outlet: Outlet | QueuedOutlet) -> None:
        self._retiring = [worker for worker in self._retiring if not worker.join(0)]

        def finish() -> None:
            outlet.close()
            with self._counting:
                self._counted.remove(outlet)
                self._dropped_before[outlet.name] += outlet.dropped
            self.failures.extend(outlet.failures)

        outlet.stop()
        worker = Worker(finish, f"finish {outlet.name}")
        self._retiring.append(worker)
        # Most end at once, and a new one may write the same file; a blocked one must not hold the loop up.
        worker.join(0.2)
