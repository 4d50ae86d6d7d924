"""What is wrong with a camera, one line for each problem, from what was measured."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from camera.measure import Measurement
from camera.states import CameraState, StateChange
from camera.uri import Uri
from camera.v4l2_device import Ioctl, opened
from camera.v4l2_modes import Mode

# Below these, a camera does what it promises.
_LEAST_RATE = 0.85
_MOST_JITTER = 1.6
_MOST_DROPS = 0.02
_MOST_AGE_MS = 1000.0
# Controls by which a camera lengthens its exposure beyond the frame interval, in new and old kernels.
_SLOWING_CONTROLS = ("exposure_dynamic_framerate", "exposure_auto_priority")
_SLOWNESS = "in low light, a long exposure lowers the rate; else look at network, cable and processor."


def problems(
    seen: Measurement, uri: Uri, states: Iterable[StateChange] = (), ioctl: Ioctl = fcntl.ioctl
) -> list[str]:
    """Return what is wrong, one line each; empty where all is well.

    Args:
        seen: The measurement.
        uri: Of the source; a V4L2 device is asked what it is set to.
        states: Through which the camera went.
        ioctl: Asks V4L2 drivers.
    """
    lines = _losses(states, seen.failure)
    if seen.failure is not None:
        lines.append(seen.failure)
    elif seen.first_frame_s is None:
        lines.append("No frame came before it was stopped." if seen.stopped else "No frame came.")
    elif not seen.frames:
        lines.append(_too_short(seen))
    if seen.bad_frames:
        many = "1 frame" if seen.bad_frames == 1 else f"{seen.bad_frames} frames"
        where = "cable and connection" if seen.info.live else "the file"
        lines.append(f"{many} could not be decoded: check {where}.")
    if seen.info.live and len(seen.sizes) > 1:  # pictures in a folder have their own sizes
        sizes = ", ".join(f"{width}x{height}" for width, height in seen.sizes)
        lines.append(f"The size changed while it ran: {sizes}.")
    if seen.info.live:
        lines += [*_rate_problems(seen, uri, ioctl), *_time_problems(seen)]
    return lines


def _too_short(seen: Measurement) -> str:
    """Return why frames came, and none was measured: those of the first second do not count."""
    if seen.stopped:
        return "It was stopped before anything could be measured: its first second does not count."
    return (
        "It ended before anything could be measured: its first second does not count. Let the camera or the "
        "pipeline run longer, or give a recording by the name of its file."
    )


def _losses(states: Iterable[StateChange], failure: str | None) -> list[str]:
    """Return a line for each way in which the camera was lost, however often that happened."""
    kinds: dict[str, list[str]] = {}
    for change in states:
        # One that stalls is lost by that: the same reason follows.
        if change.state is CameraState.LOST and change.reason != failure:
            kinds.setdefault(re.sub(r"\d+", "0", change.reason), []).append(change.reason)
    return [
        f"It was lost{f' {len(reasons)} times' if len(reasons) > 1 else ''}: {reasons[-1]}"
        for reasons in kinds.values()
    ]


def _rate_problems(seen: Measurement, uri: Uri, ioctl: Ioctl) -> list[str]:
    nominal, lines = seen.info.fps, []
    if nominal and seen.fps is not None and seen.fps < _LEAST_RATE * nominal:
        lines.append(
            f"It gives {seen.fps:.1f} instead of {nominal:.4g} fps: "
            + (_v4l2_slowness(uri, ioctl) if uri.scheme == "v4l2" else _SLOWNESS)
        )
    if uri.scheme == "v4l2" and nominal:
        lines += _v4l2_better_format(uri, nominal, ioctl)
    spread = seen.intervals_ms
    if spread is not None and seen.frames > 10 and spread.p95 > _MOST_JITTER * spread.p50:
        lines.append(
            f"It is uneven: half of the intervals are below {spread.p50:.0f} ms, but 5 % are above "
            f"{spread.p95:.0f} ms."
        )
    if seen.dropped > _MOST_DROPS * (seen.frames + seen.dropped):
        lines.append(
            f"{seen.dropped} of {seen.frames + seen.dropped} frames were lost on the way: ask for a "
            "smaller size or rate, or free the processor."
        )
    return lines


def _time_problems(seen: Measurement) -> list[str]:
    lines = []
    if seen.in_future:
        lines.append(f"{seen.in_future} frames have timestamps in the future: their ages mean nothing.")
    if seen.backwards:
        lines.append(f"{seen.backwards} timestamps do not come after the one before.")
    if seen.ages_ms is not None and seen.ages_ms.p50 > _MOST_AGE_MS:
        lines.append(
            f"Frames are {seen.ages_ms.p50 / 1000:.1f} s old when they arrive: something on the way "
            "holds them back."
        )
    return lines


def _v4l2_slowness(uri: Uri, ioctl: Ioctl) -> str:
    """Return why a V4L2 device may be slow, with the option that helps where it has one."""
    try:
        with opened(Path(uri.address), ioctl) as device:
            controls = {control.name: control.number for control in device.controls()}
            for name in _SLOWING_CONTROLS:
                if name in controls and device.control_value(controls[name]):
                    return (
                        f"in low light, automatic exposure lowers the rate: add the option {name}=0 to the "
                        "URI, or light."
                    )
    except OSError:
        pass  # it is gone by now; the general advice holds
    return "ask for a smaller size or format=MJPG, and try another USB port; in low light, add light."


def _v4l2_better_format(uri: Uri, nominal: float, ioctl: Ioctl) -> list[str]:
    """Return a line where another format of the same size is faster, and no rate was asked for."""
    if "fps" in uri.options:
        return []
    try:
        with opened(Path(uri.address), ioctl) as device:
            kind = device.info().buffer_type
            fourcc, width, height = device.current_mode(kind)
            modes = device.modes(tuple(one for one in ("MJPG", "JPEG") if one in device.formats(kind)))
    except OSError:
        return []
    return faster_format(fourcc, (width, height), nominal, modes)


def faster_format(fourcc: str, size: tuple[int, int], nominal: float, modes: Sequence[Mode]) -> list[str]:
    """Return a line where a compressed format gives more frames: USB 2 carries 24 MB/s at most."""
    for mode in modes:
        if mode.fourcc != fourcc and mode.has_size(*size) and mode.rates and mode.rates[0] > 1.2 * nominal:
            return [
                f"{fourcc.strip()} gives {nominal:.4g} fps at {size[0]}x{size[1]}, {mode.fourcc} gives "
                f"{mode.rates[0]:.4g}: ask for format={mode.fourcc}."
            ]
    return []
