"""Runs a source in the system's Python, which has gi; what it saw goes to standard output, as JSON.

Called with a JSON object: `uri`, and optionally `way` (`gi`, `opencv`), `frames`, `pause_s` before each one,
`rounds` (open and close so often), `close_after_s` (by another thread), `open_timeout_s`, `patience_s`,
`argus` (the elements that stand in for nvarguscamerasrc), `isolation`.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from camera import argus, gst_appsink, gst_opencv, gstreamer
from camera.base import FrameSource
from camera.errors import CameraError
from camera.factory import open_source
from camera.options import CameraOptions
from camera.uri import parse_uri, raw_source


def main() -> None:
    asked = json.loads(sys.argv[1])
    if asked.get("way") == "opencv":
        gstreamer.find_gstreamer = lambda: None
    else:
        gstreamer.opencv_has_gstreamer = lambda: False
    argus._PATIENCE_S = asked.get("patience_s", argus._PATIENCE_S)
    if "open_timeout_s" in asked:
        gst_appsink._OPEN_TIMEOUT_S = gst_opencv._OPEN_TIMEOUT_S = asked["open_timeout_s"]
    if "isolation" in asked:
        source = open_source(asked["uri"], CameraOptions(isolation=asked["isolation"]))
    elif "argus" in asked:
        source = argus_stand_in(asked["uri"], asked["argus"])
    else:
        source = raw_source(asked["uri"])
    seen: dict[str, object] = {"frames": [], "rounds": []}
    for _ in range(asked.get("rounds", 1)):
        use(source, asked, seen)
        seen["rounds"].append({"threads": count("/proc/self/task"), "fds": count("/proc/self/fd")})
    seen["shown"] = parse_uri(asked["uri"]).shown
    seen["python_threads"] = [thread.name for thread in threading.enumerate()]
    print("SEEN", json.dumps(seen), flush=True)  # noqa: T201 - what it is for


def count(folder: str) -> int:
    return len(list(Path(folder).iterdir()))


def argus_stand_in(text: str, camera: str) -> gstreamer.GStreamerSource:
    """Return the source for an Argus camera, with other elements in the place of NVIDIA's."""
    uri = parse_uri(text)
    options = argus.read_options(uri)
    return argus.argus_source(argus.argus_pipeline(options, camera, "videoconvert"), options, uri.shown)


def use(source: FrameSource, asked: dict, seen: dict) -> None:
    try:
        info = source.open()
        seen["info"] = {"live": info.live, "fps": info.fps, "size": info.size, "name": info.name}
        if "close_after_s" in asked:
            threading.Timer(asked["close_after_s"], source.close).start()
        time.sleep(asked.get("pause_s", 0))
        for _ in range(asked.get("frames", 5)):
            called_ns = time.monotonic_ns()
            frame = source.read()
            now_ns = time.monotonic_ns()
            image = frame.image
            seen["frames"].append(
                {
                    "shape": image.shape,
                    "contiguous": image.flags.c_contiguous,
                    "seq": frame.seq,
                    "age_ms": (now_ns - frame.captured_ns) / 1e6,
                    "waited_ms": (now_ns - called_ns) / 1e6,
                    "origin": frame.origin,
                    "left": image[1, 1].tolist(),
                    "right": image[1, -2].tolist(),
                    "bars": bool((image[: image.shape[0] // 2] == image[0]).all()),
                }
            )
            frame.release()
            time.sleep(asked.get("pause_s", 0))
    except CameraError as error:
        seen["error"] = {"type": type(error).__name__, "text": str(error)}
    started = time.monotonic()
    source.close()
    seen["closed_in_s"] = time.monotonic() - started


main()
