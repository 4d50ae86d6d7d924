"""What a recorded session says beside the frames: ages, stages, and what the device's sensors read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import cast, get_args

from camera.session_writer import SessionWriter
from edge_mnv2.readings import DeviceReading, Kind, PowerReading, Reading, Throttling
from edge_mnv2.results import FrameResult

_INTERVAL_NS = 1_000_000_000


class SessionTelemetry:
    """Adds one set of readings a second to a session; its frames come from the source, not from here.

    Args:
        writer: Of the session; it stays its owner's.
    """

    def __init__(self, writer: SessionWriter) -> None:
        self._writer = writer
        self._due_ns = 0

    def write(self, result: FrameResult) -> None:
        """Add readings, if they are due."""
        now_ns = time.monotonic_ns()
        if now_ns < self._due_ns:
            return
        self._due_ns = now_ns + _INTERVAL_NS
        device = result.device or DeviceReading()
        stages = {f"{stage}_ms": round(value, 2) for stage, value in result.stages_ms.items()}
        self._writer.telemetry(
            {
                "seq": result.seq,
                "age_ms": round(result.age_ms, 1),
                **stages,
                "temperature_c": device.temperature_c.value,
                "temperature_kind": device.temperature_c.kind,
                "power_w": device.power_w.value,
                "power_kind": device.power_w.kind,
                "throttled": None if device.throttling is None else ",".join(sorted(device.throttling.now)),
            }
        )

    def close(self) -> None:
        """Do nothing: who opened the session closes it."""


class RecordedDevice:
    """What the device of a recorded session said, instead of the one that replays it."""

    def __init__(self) -> None:
        self._latest = DeviceReading()

    def take(self, values: Mapping[str, float | str | None]) -> None:
        """Take the next set of readings, as `SessionTelemetry` wrote it; from any thread, one at a time."""
        power = _reading(values, "power_w", "power_kind")
        self._latest = DeviceReading(
            temperature_c=_reading(values, "temperature_c", "temperature_kind"),
            power_w=power,
            power=PowerReading(power),
            throttling=_throttling(values.get("throttled")),
            at_ns=time.monotonic_ns(),
        )

    def latest(self) -> DeviceReading:
        """Return the newest readings; before the first, all is unavailable. From any thread."""
        return self._latest


def _reading(values: Mapping[str, float | str | None], name: str, kind_name: str) -> Reading:
    value, kind = values.get(name), values.get(kind_name)
    if not isinstance(value, (int, float)):
        return Reading()
    # Older sessions do not say how a value was obtained: no more is claimed than is known.
    return Reading(value, cast("Kind", kind) if kind in get_args(Kind) else "estimated", "recorded")


def _throttling(now: float | str | None) -> Throttling | None:
    if not isinstance(now, str):
        return None
    return Throttling(now=frozenset(filter(None, now.split(","))), sensor="recorded")
