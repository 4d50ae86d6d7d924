"""How a reading of power looks: as a table, a line, or JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from edge_mnv2.readings import Energy, PowerReading, Reading

_JOULES_PER_WATT_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Moment:
    """What one reading showed.

    Attributes:
        at: When, with its time zone.
        power: Total and rails.
        energy: Since the first reading.
        temperature_c: Of the processor.
    """

    at: datetime
    power: PowerReading
    energy: Energy
    temperature_c: Reading


def as_table(moment: Moment) -> Table:
    """Return a moment as a table, a row for each rail."""
    from rich.table import Table

    found, energy = moment.power, moment.energy
    table = Table(title="Power", title_justify="left", show_header=False)
    table.add_row("total", f"{_watts(found.total_w.value)} ({found.total_w.kind}, {found.scope})")
    table.add_row("sensor", found.total_w.sensor)
    for rail in found.rails:
        table.add_row(f"  {rail.name}", _watts(rail.power_w))
    if found.total_w.kind == "estimated":
        table.add_row("  sum of the rails, measured", _watts(_rails_sum_w(found)))
    table.add_row("energy", _joules(energy.total_j, energy.span_s))
    if energy.idle_w is not None:
        table.add_row("idle, remembered", _watts(energy.idle_w))
        table.add_row("energy above idle", _joules(energy.above_idle_j, energy.span_s))
    table.add_row("temperature", _celsius(moment.temperature_c))
    return table


def as_line(moment: Moment) -> str:
    """Return a moment as one line."""
    found, energy = moment.power, moment.energy
    rails = ", ".join(f"{rail.name} {_watts(rail.power_w)}" for rail in found.rails)
    parts = [
        moment.at.astimezone().strftime("%H:%M:%S"),
        _watts(found.total_w.value),
        f"{found.total_w.sensor} ({found.total_w.kind}, {found.scope})",
        f"energy {_joules(energy.total_j, energy.span_s)}",
        f"temperature {_celsius(moment.temperature_c)}",
    ]
    return "  ".join([*parts, *([rails] if rails else [])])


def as_json_line(moment: Moment) -> str:
    """Return a moment as a JSON object; what is unavailable is null."""
    found, energy = moment.power, moment.energy
    content = {
        **nothing(),
        "time": moment.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "power_w": _rounded(found.total_w.value),
        "kind": found.total_w.kind,
        "sensor": found.total_w.sensor,
        "scope": found.scope,
        "rails_w": {rail.name: _rounded(rail.power_w) for rail in found.rails},
        "energy_j": _rounded(energy.total_j),
        "span_s": round(energy.span_s, 3),
        "idle_w": _rounded(energy.idle_w),
        "above_idle_j": _rounded(energy.above_idle_j),
        "temperature_c": moment.temperature_c.value,
    }
    return json.dumps(content)


def nothing() -> dict[str, Any]:
    """Return the object of a device without a sensor; all keys are there."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    unknown = ("energy_j", "span_s", "idle_w", "above_idle_j", "temperature_c")
    head: dict[str, Any] = {
        "time": now,
        "power_w": None,
        "kind": "unavailable",
        "sensor": "",
        "scope": "",
        "rails_w": {},
    }
    return {**head, **dict.fromkeys(unknown)}


def _rails_sum_w(found: PowerReading) -> float | None:
    powers = [rail.power_w for rail in found.rails if rail.power_w is not None]
    return sum(powers) if powers and len(powers) == len(found.rails) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _watts(value: float | None) -> str:
    return "unavailable" if value is None else f"{value:.3f} W"


def _joules(total_j: float | None, span_s: float) -> str:
    if total_j is None:
        return "unavailable"
    return f"{total_j:.1f} J ({total_j / _JOULES_PER_WATT_HOUR:.4f} Wh) in {span_s:.1f} s"


def _celsius(temperature_c: Reading) -> str:
    value = temperature_c.value
    return "unavailable" if value is None else f"{value:.1f} °C by {temperature_c.sensor}"
