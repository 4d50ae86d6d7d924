"""`edge-mnv2 power`: what the device takes, live; and what it takes while it idles."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_mnv2.cli.console import make_console, print_error, progress
from edge_mnv2.cli.power_view import Moment, as_json_line, as_line, as_table, nothing

if TYPE_CHECKING:
    from edge_mnv2.readings import PowerReading
    from edge_mnv2.telemetry.power import PowerSensor

# Between two looks at a request to stop: nobody may wait for its event in the main thread.
_NAP_S = 0.1
# A device whose cores are busier than this does not idle.
_MOST_BUSY = 0.1

_log = logging.getLogger(__name__)


def power(
    context: typer.Context,
    interval: Annotated[
        float, typer.Option("--interval", "-i", min=0.1, max=3600, help="Seconds between two readings.")
    ] = 1.0,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="Stop after so many readings.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object for each reading.")] = False,
    idle: Annotated[
        float | None,
        typer.Option(
            "--idle",
            metavar="[SECONDS]",
            min=2,
            max=86400,
            help="Measure what the device takes while it idles, and remember it. Left out: 60.",
        ),
    ] = None,
    idle_file: Annotated[
        Path | None,
        typer.Option(
            "--idle-file", help="Where idle power is remembered. Left out: the user's state folder."
        ),
    ] = None,
) -> int:
    """Show the device's power live: total, rails, energy, and which sensor says so.

    Where no sensor tells power, it says why and what would help, and the exit code is 1.
    """
    from edge_mnv2.errors import RequestError
    from edge_mnv2.telemetry import power as sensors

    if idle is not None and count is not None:
        raise RequestError("--idle measures for a time: leave --count out.")
    sensor = sensors.find_power_sensor()
    if sensor is None:
        if as_json:
            typer.echo(json.dumps(nothing()))
        for reason in sensors.why_no_power():
            print_error(f"power is unavailable. {reason}")
        return 1
    stop: threading.Event = context.obj.event
    try:
        if idle is not None:
            return _measure_idle(sensor, idle, stop, idle_file, as_json=as_json)
        with _show(as_json=as_json) as show:
            return _watch(sensor, show, interval, count, stop, idle_file)
    finally:
        sensor.close()


def _watch(
    sensor: PowerSensor,
    show: Callable[[Moment], None],
    interval_s: float,
    count: int | None,
    stop: threading.Event,
    idle_file: Path | None,
) -> int:
    """Read and show until the count is reached or a stop is asked for; return the exit code."""
    from edge_mnv2.telemetry.energy import EnergyMeter
    from edge_mnv2.telemetry.idle_power import recall_idle
    from edge_mnv2.telemetry.thermal import Thermometers, processor_temperature

    meter, thermometers = EnergyMeter(max(10.0, 3 * interval_s)), Thermometers(Path("/sys"))
    first = sensor.read().total_w
    idle = recall_idle(first.sensor, idle_file)
    # A counter of energy tells power from its second reading on.
    is_on = first.value is not None or _wait(interval_s, stop)
    is_known, readings = False, 0
    due_s = time.monotonic()
    while is_on:
        reading = sensor.read()
        meter.add(time.monotonic_ns(), reading.total_w.value)
        energy = meter.energy(None if idle is None else idle.power_w)
        temperature_c = processor_temperature(thermometers.read())
        show(Moment(datetime.now(timezone.utc), reading, energy, temperature_c))
        is_known |= reading.total_w.value is not None
        readings += 1
        due_s = max(due_s + interval_s, time.monotonic())
        is_on = readings != count and _wait(due_s - time.monotonic(), stop)
    thermometers.close()
    if not is_known and readings:
        print_error(f"power was unavailable all the time: {_why_silent(reading)}")
    return 0 if is_known or not readings else 1


def _why_silent(reading: PowerReading) -> str:
    if reading.scope == "battery":
        return "a battery tells what the device takes only while it discharges. Unplug the charger."
    return f"{reading.total_w.sensor} cannot be read any more."


def _measure_idle(
    sensor: PowerSensor, seconds: float, stop: threading.Event, path: Path | None, *, as_json: bool
) -> int:
    """Measure idle power and remember it; return the exit code."""
    from dataclasses import asdict

    from edge_mnv2.errors import RunError
    from edge_mnv2.telemetry.idle_power import idle_power_path, measure_idle, remember_idle
    from edge_mnv2.telemetry.load import CpuLoad

    load = CpuLoad(Path("/proc"))
    with progress("seconds of idling") as on_second:
        total = round(seconds)
        idle = measure_idle(
            sensor.read,
            seconds,
            lambda left_s: _wait(left_s, stop),
            lambda done: on_second(done, total),
            load.read_share,
        )
    load.close()
    reading = sensor.read()
    name = reading.total_w.sensor
    if stop.is_set():
        print_error("interrupted: idle power is not remembered.")
        return 1
    if idle is None:
        print_error(f"power was unavailable for too long: {_why_silent(reading)}")
        return 1
    if idle.cpu_share is not None and idle.cpu_share > _MOST_BUSY:
        _log.warning(
            "The processor was %.0f %% busy meanwhile: that is not idle. Stop what runs, and measure again.",
            idle.cpu_share * 100,
        )
    target = path or idle_power_path()
    try:
        remember_idle(name, idle, target)
    except OSError as error:
        raise RunError(f"Idle power cannot be remembered in {target}: {error.strerror}.") from error
    if as_json:
        measured = {**asdict(idle), "power_w": round(idle.power_w, 4)}  # no sensor tells tenths of milliwatts
        typer.echo(json.dumps({"sensor": name, **measured, "file": str(target)}))
    else:
        typer.echo(f"Idle: {idle.power_w:.3f} W over {idle.span_s:.0f} s, by {name}. Remembered in {target}")
    return 0


def _wait(seconds: float, stop: threading.Event) -> bool:
    """Wait; return False as soon as a stop is asked for."""
    end_s = time.monotonic() + seconds
    while not stop.is_set():
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            return True
        time.sleep(min(left_s, _NAP_S))
    return False


@contextmanager
def _show(*, as_json: bool) -> Iterator[Callable[[Moment], None]]:
    """Yield what shows a moment: a table that is drawn anew on a terminal, a line or an object elsewhere."""
    if as_json or not sys.stdout.isatty():
        write = as_json_line if as_json else as_line
        # Whoever reads them from a pipe wants each at once.
        yield lambda moment: _print_line(write(moment))
        return
    from rich.live import Live

    with Live(console=make_console(), auto_refresh=False) as live:
        yield lambda moment: live.update(as_table(moment), refresh=True)


def _print_line(line: str) -> None:
    """Print a line on standard output, and flush it."""
    typer.echo(line)
    sys.stdout.flush()
