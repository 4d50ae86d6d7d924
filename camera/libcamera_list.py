"""Which cameras libcamera knows, asked of picamera2 or of its tools in a child process that may hang."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_TIMEOUT_S = 15.0
# The last line is ours: libcamera and Python may print before it.
_PICAMERA2 = "import json, picamera2; print(json.dumps(picamera2.Picamera2.global_camera_info()))"
# `0 : imx219 [3280x2464 10-bit RGGB] (/base/soc/i2c0mux/i2c@1/imx219@10)`
_RPICAM_LINE = re.compile(r"^\s*(\d+)\s*:\s*(\S+)(?:\s+\[[^\]]*\])?\s+\((.+)\)\s*$", re.MULTILINE)
# `1: 'imx219' (/base/soc/i2c0mux/i2c@1/imx219@10)`, counted from 1
_CAM_LINE = re.compile(r"^\s*(\d+):\s*(.+?)\s+\((.+)\)\s*$", re.MULTILINE)

Runner = Callable[[Sequence[str]], "str | None"]


@dataclass(frozen=True, slots=True)
class LibcameraCamera:
    """A camera of libcamera.

    Attributes:
        number: As picamera2 counts.
        model: Of its sensor, such as `imx708`.
        path: Of its sensor in the device tree.
    """

    number: int
    model: str
    path: str


def libcamera_cameras(run: Runner | None = None) -> tuple[LibcameraCamera, ...]:
    """Return the cameras at the camera port; none without picamera2 and without a tool of libcamera.

    USB cameras, which libcamera knows too, are left out: V4L2 gives their pictures with less work.

    Args:
        run: Returns what a command prints, None where it is missing or fails; for tests.
    """
    run = _output_of if run is None else run
    found: list[LibcameraCamera] | None = None
    if importlib.util.find_spec("picamera2") is not None or run is not _output_of:
        found = _from_picamera2(run([sys.executable, "-c", _PICAMERA2]))
    for command, line, first in (
        (("rpicam-hello", "--list-cameras"), _RPICAM_LINE, 0),
        (("libcamera-hello", "--list-cameras"), _RPICAM_LINE, 0),
        (("cam", "-l"), _CAM_LINE, 1),
    ):
        if found is not None:
            break
        printed = run(command)
        if printed is not None:
            found = [
                LibcameraCamera(int(number) - first, model.strip("'"), path)
                for number, model, path in line.findall(printed)
            ]
    return tuple(camera for camera in found or () if "usb" not in camera.path.lower())


def _from_picamera2(printed: str | None) -> list[LibcameraCamera] | None:
    try:
        entries = json.loads((printed or "").strip().rpartition("\n")[2])
        return [
            LibcameraCamera(int(entry.get("Num", index)), str(entry["Model"]), str(entry.get("Id", "")))
            for index, entry in enumerate(entries)
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _output_of(command: Sequence[str]) -> str | None:
    """Return both streams of a command; the tools list their cameras on either."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace")
