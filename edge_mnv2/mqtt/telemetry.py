"""What the topics of telemetry and events carry, as JSON-ready values."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from edge_mnv2.readings import DeviceEvent, Snapshot, as_plain

SCHEMA = 1
_DIGITS = 4


def to_telemetry(snapshot: Snapshot, now: datetime) -> dict[str, Any]:
    """Return everything at one moment, as `edge-mnv2 status` does; what is unavailable is null, never 0.

    Args:
        snapshot: The moment.
        now: Its time.
    """
    found: dict[str, Any] = _rounded(
        {
            "schema": SCHEMA,
            "time": as_plain(now),
            "fps": snapshot.fps,
            "joules_per_frame": snapshot.joules_per_frame(),
            "joules_per_frame_above_idle": snapshot.joules_per_frame(above_idle=True),
            **as_plain(snapshot),
        }
    )
    return found


def to_event(event: DeviceEvent) -> dict[str, Any]:
    """Return a change of the device; `event` tells it from a camera's, which has `camera`."""
    told = {"name": event.name, "active": event.is_active, "text": event.text}
    return {"schema": SCHEMA, "time": as_plain(event.at), "event": told}


def _rounded(value: Any) -> Any:  # noqa: ANN401 - whatever readings hold
    """Round floats: more digits are noise that is sent, and stored, every time."""
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return value
