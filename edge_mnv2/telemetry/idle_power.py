"""What the device takes while it idles: measured once, remembered per sensor."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_mnv2.files import expand_user, write_atomically
from edge_mnv2.readings import PowerReading
from edge_mnv2.telemetry.energy import EnergyMeter

_FILE = "idle-power.json"
# Longer than any sane interval between two readings of an idle measurement.
_MAX_GAP_S = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IdlePower:
    """Idle power of a device, by one sensor.

    Attributes:
        power_w: Mean, in watts.
        span_s: How long it was measured.
        cpu_share: Mean busy share of all cores meanwhile, 0 to 1; None where unknown.
        measured_at: ISO 8601, UTC.
    """

    power_w: float
    span_s: float
    cpu_share: float | None
    measured_at: str


def idle_power_path() -> Path:
    """Return where idle power is remembered by default, by the XDG base directory specification."""
    base = os.environ.get("XDG_STATE_HOME", "")
    # The specification: a relative path is to be ignored.
    root = Path(base) if Path(base).is_absolute() else expand_user("~/.local/state")
    return root / "edge-mnv2" / _FILE


def recall_idle(sensor: str, path: Path | None = None) -> IdlePower | None:
    """Return what was remembered for a sensor, None where it was never measured.

    Args:
        sensor: Its name, `PowerReading.total_w.sensor`: watts of one sensor say nothing about another's.
        path: The state file; None for the default. A damaged one is as good as none, and logged.
    """
    content = _read(path or idle_power_path())
    if sensor not in content:
        return None
    values = content[sensor]
    if isinstance(values, dict) and values.keys() == {field.name for field in fields(IdlePower)}:
        numbers = (values["power_w"], values["span_s"])
        if all(isinstance(number, (int, float)) and 0 <= number < math.inf for number in numbers):
            return IdlePower(**values)
    _log.warning("The remembered idle power of %s is damaged. Measure it: edge-mnv2 power --idle", sensor)
    return None


def remember_idle(sensor: str, idle: IdlePower, path: Path | None = None) -> None:
    """Remember idle power for a sensor, beside that of others.

    Root may measure what a service of another user is to know: the file is no secret, all may read it.

    Raises:
        OSError: The file cannot be written; the old one is whole then.
    """
    path = path or idle_power_path()
    content = {**_read(path), sensor: asdict(idle)}
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    write_atomically(path, text.encode(), is_for_all=True)


def measure_idle(
    read: Callable[[], PowerReading],
    seconds: float,
    wait: Callable[[float], bool],
    on_second: Callable[[int], None],
    busy: Callable[[], float | None],
    clock: Callable[[], int] = time.monotonic_ns,
) -> IdlePower | None:
    """Read power once a second; return the mean.

    Args:
        read: Reads the sensor.
        seconds: How long.
        wait: Waits for so many seconds; returns whether to go on.
        on_second: Told how many seconds have passed.
        busy: Returns the busy share of the cores since it was last asked.
        clock: Tells the time in nanoseconds.

    Returns:
        None where it was interrupted, or power was unavailable for more than half of the time.
    """
    meter = EnergyMeter(_MAX_GAP_S)
    busy()
    begun_ns = clock()
    while True:
        total_w = read().total_w.value
        now_ns = clock()
        meter.add(now_ns, total_w)
        left_s = seconds - (now_ns - begun_ns) / 1e9
        on_second(round(seconds - max(left_s, 0.0)))
        if left_s <= 0:
            break
        if not wait(min(left_s, 1.0)):
            return None
    energy = meter.energy()
    if energy.total_j is None or energy.span_s < seconds / 2:
        return None
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return IdlePower(energy.total_j / energy.span_s, energy.span_s, busy(), at)


def _read(path: Path) -> dict[str, Any]:
    """Return the whole state; empty where there is none, or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _log.warning(
            "%s cannot be read (%s): idle power is unknown. Measure it: edge-mnv2 power --idle", path, error
        )
        return {}
    if not isinstance(content, dict):
        _log.warning("%s holds no idle power. Measure it: edge-mnv2 power --idle", path)
        return {}
    return content
