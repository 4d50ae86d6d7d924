"""`edge-mnv2 cameras`: which are there, and what one really delivers."""

from __future__ import annotations

import dataclasses
import json
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_mnv2.cli.console import make_console

if TYPE_CHECKING:
    from camera.listing import ListedCamera
    from camera.measure import Measurement
    from camera.states import StateChange
    from camera.v4l2_modes import Mode

app = typer.Typer(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]

_NOTHING = (
    "No camera was found. Plug in a USB camera, or give the address of an IP camera: "
    "rtsp://USER:PASSWORD@HOST/STREAM. test:// works without one."
)


@app.callback()
def cameras(context: typer.Context, as_json: Json = False) -> None:
    """List the cameras that are there, each with its URI; or measure one: cameras probe URI.

    Found are those at the camera port and V4L2 devices, not what is in the network.
    """
    if context.invoked_subcommand is not None:
        return
    from camera.listing import list_cameras

    found = list_cameras()
    if as_json:
        typer.echo(json.dumps([_as_dict(camera) for camera in found], indent=2))
        return
    if not found:
        typer.echo(_NOTHING)
        return
    _print_table(found)
    # Outside of the table, so that a line can be copied whole.
    for camera in found:
        typer.echo(camera.uri if camera.problem is None else f"{camera.uri}: {camera.problem}")
        if camera.link is not None and camera.problem is None:
            typer.echo(f"{camera.link}  (the same camera, whatever its number becomes)")


@app.command("probe")
def probe(
    context: typer.Context,
    uri: Annotated[str, typer.Argument(metavar="URI", help="Anything that --source of run takes.")],
    seconds: Annotated[
        float, typer.Option("--seconds", "-s", min=0.1, max=3600, help="How long to measure.")
    ] = 5.0,
    as_json: Json = False,
) -> int:
    """Open a camera, measure its real rate, jitter and latency, and say what is wrong, a line per problem.

    A camera's first second does not count: some send at once what they had gathered. Of files, it says how
    fast they are decoded.
    """
    from camera import open_source
    from camera.diagnosis import problems
    from camera.measure import measure
    from camera.uri import parse_uri

    states: list[StateChange] = []
    source = open_source(uri, on_state=states.append)
    seen = measure(source, seconds, stop=context.obj.event)
    if seen is None:
        raise typer.Abort
    lines = problems(seen, parse_uri(uri), states)
    if as_json:
        report: dict[str, Any] = {
            **_measured_as_dict(seen),
            "states": [
                {"state": change.state.value, "reason": change.reason, "attempt": change.attempt}
                for change in states
            ],
            "problems": lines,
        }
        typer.echo(json.dumps(report, indent=2))
    else:
        _print_measurement(seen, states)
        for line in lines:
            typer.echo(f"problem: {line}")
        if not lines:
            typer.echo("No problem was found.")
    return 1 if lines else 0


def _print_table(found: tuple[ListedCamera, ...]) -> None:
    from rich.table import Table

    from camera.device_users import users_in_words

    table = Table("URI", "name", "driver", "bus", "formats", "state", title="Cameras", title_justify="left")
    for camera in found:
        in_use = f"in use by {users_in_words(camera.users)}" if camera.users else "free"
        table.add_row(
            camera.uri,
            camera.name,
            camera.driver,
            camera.bus,
            "\n".join(_summary(camera.modes)),
            in_use if camera.problem is None else "not usable",
        )
    make_console().print(table)


def _summary(modes: tuple[Mode, ...]) -> list[str]:
    """Return how large formats are, and how fast at that size; those that are alike share a line."""
    largest: dict[str, Mode] = {}
    for mode in modes:
        known = largest.get(mode.fourcc)
        if known is None or mode.width * mode.height > known.width * known.height:
            largest[mode.fourcc] = mode
    alike: dict[str, list[str]] = {}
    for mode in largest.values():
        rate = f" at {mode.rates[0]:.4g}" if mode.rates else ""
        alike.setdefault(f"up to {mode.width}x{mode.height}{rate}", []).append(mode.fourcc.strip())
    return [f"{', '.join(names)} {words}" for words, names in alike.items()]


def _as_dict(camera: ListedCamera) -> dict[str, Any]:
    return {
        "uri": camera.uri,
        "name": camera.name,
        "driver": camera.driver,
        "bus": camera.bus,
        "link": camera.link,
        "usable": camera.problem is None,
        "problem": camera.problem,
        "used_by": [dataclasses.asdict(user) for user in camera.users],
        "modes": [
            {
                "format": mode.fourcc,
                "width": mode.width,
                "height": mode.height,
                "smallest": mode.smallest,
                "fps": [round(rate, 3) for rate in mode.rates],
            }
            for mode in camera.modes
        ],
    }


def _print_measurement(seen: Measurement, states: list[StateChange]) -> None:
    from rich.table import Table

    nominal = f"{seen.info.fps:.4g}" if seen.info.fps else "unknown"
    fps = "-" if seen.fps is None else f"{seen.fps:.2f}"
    table = Table(title=seen.info.name, title_justify="left", show_header=False)
    first = "none" if seen.first_frame_s is None else f"after {seen.first_frame_s:.2f} s"
    table.add_row("first frame", f"{first} (open after {seen.open_s:.2f} s)")
    table.add_row("frames", str(seen.frames) + (", then it ended" if seen.ended else ""))
    table.add_row("size", ", ".join(f"{width}x{height}" for width, height in seen.sizes) or "-")
    # How fast a file can be read says nothing of its own rate.
    table.add_row(
        *(("fps", f"{fps} (nominal: {nominal})") if seen.info.live else ("decoded per second", fps))
    )
    if not seen.info.live and seen.info.fps:
        table.add_row("nominal fps", nominal)
    # What a file's frames are timed by is when they were read.
    ages_ms = seen.ages_ms if seen.info.live else None
    interval = "interval" if seen.info.live else "time per frame"
    for name, spread in ((interval, seen.intervals_ms), ("age at arrival", ages_ms)):
        if spread is not None:
            table.add_row(name, f"p50 {spread.p50:.1f} ms, p95 {spread.p95:.1f} ms")
    table.add_row("dropped", str(seen.dropped))
    if seen.bad_frames:
        table.add_row("damaged", str(seen.bad_frames))
    if states:
        table.add_row("states", ", ".join(_states_in_words(states)))
    make_console().print(table)


def _states_in_words(states: list[StateChange]) -> list[str]:
    """Return the states in their order; those in a row are counted."""
    rows = [(state, len(list(row))) for state, row in groupby(change.state.value for change in states)]
    return [state if count == 1 else f"{state} ({count} times)" for state, count in rows]


def _measured_as_dict(seen: Measurement) -> dict[str, Any]:
    intervals, ages = seen.intervals_ms, seen.ages_ms
    rate = None if seen.fps is None else round(seen.fps, 3)
    return {
        "source": seen.info.name,
        "live": seen.info.live,
        "open_s": round(seen.open_s, 3),
        "first_frame_s": None if seen.first_frame_s is None else round(seen.first_frame_s, 3),
        "frames": seen.frames,
        "dropped": seen.dropped,
        "bad_frames": seen.bad_frames,
        "sizes": seen.sizes,
        "nominal_fps": seen.info.fps,
        "fps": rate if seen.info.live else None,
        "decoded_per_s": None if seen.info.live else rate,
        "interval_ms": None if intervals is None else dataclasses.asdict(intervals),
        "age_ms": None if ages is None else dataclasses.asdict(ages),
        "ended": seen.ended,
    }
