"""The system's Python, which has gi and an OpenCV with GStreamer where a virtual environment has neither."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

_PYTHON = "/usr/bin/python3"
_CHILD = Path(__file__).parent / "gst_child.py"
_PROBES = {
    "gi": (
        "import sys, numpy, gi; assert sys.version_info >= (3, 10); gi.require_version('Gst', '1.0'); "
        "from gi.repository import Gst; Gst.init(None); "
        "assert all(map(Gst.ElementFactory.find, ('videotestsrc', 'videoconvert', 'appsink', 'rtspsrc')))",
        "python3-gi gir1.2-gstreamer-1.0 python3-numpy gstreamer1.0-plugins-base gstreamer1.0-plugins-good",
    ),
    "opencv": (
        "import re, cv2; assert re.search(r'GStreamer:\\s+YES', cv2.getBuildInformation())",
        "python3-opencv gstreamer1.0-plugins-base",
    ),
}


@functools.cache
def _missing(way: str) -> str | None:
    """Return the packages that a way lacks, None where it is there."""
    code, packages = _PROBES[way]
    try:
        done = subprocess.run([_PYTHON, "-c", code], capture_output=True, check=False, timeout=60)
    except FileNotFoundError:
        return packages
    return packages if done.returncode else None


def run_source(uri: str, way: str = "gi", **asked: object) -> dict[str, Any]:
    """Use a source in the system's Python, and return what `gst_child` saw, with all its `output`."""
    if packages := _missing(way):
        pytest.skip(f"needs GStreamer in {_PYTHON}: sudo apt install --no-install-recommends {packages}")
    done = subprocess.run(
        [_PYTHON, str(_CHILD), json.dumps({"uri": uri, "way": way, **asked})],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    output = done.stdout + done.stderr
    seen = [line.removeprefix("SEEN ") for line in done.stdout.splitlines() if line.startswith("SEEN ")]
    assert seen, output
    assert done.returncode == 0, output
    return {**json.loads(seen[0]), "output": output}
