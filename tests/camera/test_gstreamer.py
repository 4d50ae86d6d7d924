from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from camera import gstreamer
from camera.errors import CameraError, UnsupportedSourceError
from camera.gst_text import with_appsink
from camera.uri import parse_uri, raw_source
from tests.camera.system_python import run_source

BARS = "videotestsrc is-live=true ! video/x-raw,framerate=100/1"
WRONG = "UnsupportedSourceError"
SECRET = "hunter2-" + "secret"


@pytest.mark.parametrize("way", ["gi", "opencv"])
@pytest.mark.parametrize("size", ["640x480", "637x101", "638x100", "639x33", "61x4"])
def test_frames_of_any_width_are_bgr_without_padding(way: str, size: str) -> None:
    width, height = map(int, size.split("x"))
    seen = run_source(f"gst://{BARS},width={width},height={height}", way, frames=3)
    assert seen["info"] == {"live": True, "fps": 100.0, "size": [width, height], "name": seen["shown"]}
    assert len(seen["frames"]) == 3
    for frame in seen["frames"]:
        assert frame["shape"] == [height, width, 3]
        assert frame["contiguous"]
        assert frame["bars"]  # a wrong stride shears them
        assert min(frame["left"]) > 200  # SMPTE's first bar is white
        blue, green, red = frame["right"]  # and its last one blue
        assert blue > 200
        assert max(green, red) < 50
        assert frame["origin"] == seen["shown"]
    assert "error" not in seen


def test_the_newest_frame_wins_and_drops_are_gaps() -> None:
    seen = run_source(f"gst://{BARS}", frames=4, pause_s=0.5)
    numbers = [frame["seq"] for frame in seen["frames"]]
    assert numbers[0] > 5  # the child pauses after it has opened the source, too
    assert numbers[1] - numbers[0] > 5
    assert numbers[3] - numbers[2] > 5
    # Not the one that waited through the pause.
    assert all(frame["age_ms"] < 400 for frame in seen["frames"])


def test_the_age_of_a_live_frame_counts_from_its_capture() -> None:
    slow = run_source(
        "gst://videotestsrc is-live=true ! video/x-raw,framerate=5/1 ! identity sleep-time=150000"
    )
    assert all(150 <= frame["age_ms"] < 5000 for frame in slow["frames"])
    # Stamps of what is not live are places in a film.
    film = run_source(
        "gst://videotestsrc ! video/x-raw,framerate=100/1 ! identity sleep-time=60000", frames=20
    )
    assert all(0 <= frame["age_ms"] < 400 for frame in film["frames"])  # they fall behind by a second


def test_a_stream_that_ends_has_ended() -> None:
    seen = run_source("gst://videotestsrc is-live=true num-buffers=3", frames=9)
    assert seen["error"] == {"type": "EndOfStream", "text": f"{seen['shown']} has ended."}
    assert 1 <= len(seen["frames"]) <= 3


def test_an_error_in_mid_stream_says_which_element_and_why() -> None:
    seen = run_source("gst://videotestsrc is-live=true ! identity name=middle error-after=4", frames=99)
    assert len(seen["frames"]) >= 1
    assert seen["error"]["type"] == "CameraError"
    assert "middle says: Failed after iterations as requested" in seen["error"]["text"]


@pytest.mark.parametrize(
    "rest", ["concat name=c", "concat name=c ! video/x-raw,format=BGR ! appsink max-buffers=2"]
)
def test_the_size_may_change_in_mid_stream(rest: str) -> None:
    parts = (
        f"videotestsrc num-buffers=40 ! video/x-raw,{size},format=BGR ! identity sleep-time=10000 ! c."
        for size in ("width=64,height=48", "width=61,height=50")
    )
    seen = run_source(f"gst://{' '.join(parts)} {rest}", frames=999)
    assert {tuple(frame["shape"]) for frame in seen["frames"]} == {(48, 64, 3), (50, 61, 3)}
    assert all(frame["bars"] and frame["contiguous"] for frame in seen["frames"])
    assert seen["error"]["type"] == "EndOfStream"


@pytest.mark.parametrize(
    ("pipeline", "kind", "said"),
    [
        ("videotestsrc ! vidoconvert", WRONG, 'no element "vidoconvert".*gst-inspect-1.0 vidoconvert'),
        ("videotestsrc pattrn=1", WRONG, 'no property "pattrn" in element "videotestsrc"'),
        ("videotestsrc ! ! identity", WRONG, "syntax error"),
        ("audiotestsrc ! video/x-raw", WRONG, "could not link audiotestsrc0"),
        ("videotestsrc ! appsink", WRONG, "put 'videoconvert ! video/x-raw,format=BGR' before it"),
        ("videotestsrc ! tee name=t ! appsink t. ! appsink", WRONG, "has 2 appsinks"),
        (
            "v4l2src device=/dev/video99",
            "CameraError",
            "v4l2src0 says: Cannot identify device '/dev/video99'",
        ),
        ("videotestsrc is-live=true ! valve drop=true", "CameraError", "gave no frame for 1 s"),
    ],
)
def test_what_is_wrong_with_a_pipeline_is_said(pipeline: str, kind: str, said: str) -> None:
    seen = run_source(f"gst://{pipeline}", open_timeout_s=1)
    assert seen["error"]["type"] == kind
    assert re.search(said, seen["error"]["text"])
    assert seen["python_threads"] == ["MainThread"]


@pytest.mark.parametrize("way", ["gi", "opencv"])
def test_passwords_in_a_pipeline_are_not_shown(way: str) -> None:
    pipeline = (
        f"rtspsrc location=rtsp://admin:{SECRET}@127.0.0.1:9/x user-id=admin user-pw={SECRET} ! decodebin"
    )
    seen = run_source(f"gst://{pipeline}", way)
    assert "rtspsrc location=rtsp://***@127.0.0.1:9/x" in seen["error"]["text"]
    assert SECRET not in seen["output"]


def test_passwords_in_what_an_element_says_are_not_shown() -> None:
    seen = run_source(f"gst://filesrc location=rtsp://admin:{SECRET}@host/x ! decodebin")
    assert re.search(r'filesrc0 says: .*No such file "rtsp://\*\*\*@host/x"', seen["error"]["text"])
    assert SECRET not in seen["output"]


def test_a_reader_is_woken_by_close() -> None:
    seen = run_source("gst://videotestsrc is-live=true ! video/x-raw,framerate=1/60", close_after_s=0.3)
    assert len(seen["frames"]) == 1
    assert seen["error"] == {"type": "CameraError", "text": f"{seen['shown']} is not open."}


def test_an_element_that_hangs_is_left_behind(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # opening it for reading hangs until somebody writes
    seen = run_source(f"gst://filesrc location={pipe} ! decodebin", open_timeout_s=0.5)
    assert seen["error"]["text"] == f"{seen['shown']} did not start within 0.5 s."
    assert seen["closed_in_s"] < 30
    assert "the pipeline does not stop; its device stays in use until this process ends" in seen["output"]


@pytest.mark.parametrize("way", ["gi", "opencv"])
def test_opening_again_and_again_leaves_nothing(way: str) -> None:
    seen = run_source("gst://videotestsrc is-live=true", way, frames=2, rounds=12)
    assert len(seen["frames"]) == 24
    early, late = seen["rounds"][3], seen["rounds"][-1]
    # One per round would be 8 more; a thread that is just ending may still be counted.
    assert late["threads"] <= early["threads"] + 2
    assert late["fds"] <= early["fds"] + 2


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_a_supervised_pipeline_is_read_by_a_process_or_thread_of_its_own(isolation: str) -> None:
    seen = run_source(f"gst://{BARS},width=637,height=101", isolation=isolation)
    assert seen["info"]["size"] == [637, 101]
    assert len(seen["frames"]) == 5
    assert all(frame["bars"] and frame["age_ms"] < 5000 for frame in seen["frames"])
    assert "error" not in seen


def test_opencv_says_where_to_look() -> None:
    ended = run_source("gst://videotestsrc is-live=true num-buffers=3", "opencv", frames=9)
    assert len(ended["frames"]) >= 1
    assert ended["error"]["text"].endswith("gives no more frames: it failed, stalled or ended.")
    typo = run_source("gst://videotestsrc ! vidoconvert", "opencv", open_timeout_s=1)
    assert re.search(r"cannot be started\. gst-launch-1\.0 .* says why", typo["error"]["text"])
    gray = run_source("gst://videotestsrc ! video/x-raw,format=GRAY8 ! appsink", "opencv")
    assert "the appsink gets no BGR" in gray["error"]["text"]


def test_without_gstreamer_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gstreamer, "find_gstreamer", lambda: None)
    monkeypatch.setattr(gstreamer, "opencv_has_gstreamer", lambda: False)
    source = raw_source("gst://videotestsrc")
    with pytest.raises(
        CameraError, match=r"apt install python3-gi .* \(or python3-opencv\).*--system-site-packages"
    ):
        source.open()
    with pytest.raises(CameraError, match="is not open"):
        source.read()
    source.close()


def test_the_whole_text_is_the_pipeline() -> None:
    with pytest.raises(UnsupportedSourceError, match="gst:// needs a pipeline"):
        gstreamer.from_uri(parse_uri("gst:// "))
    pipeline = 'souphttpsrc location="http://host/x?a=1#b" ! jpegdec'
    assert parse_uri(f"gst://{pipeline}").address == pipeline


@pytest.mark.parametrize(
    ("pipeline", "has_sink"),
    [
        ("a ! b", False),
        ("a ! appsink", True),
        ("a !appsink! b", True),
        ("appsink name=s  a ! s.", True),
        ("a name=appsinks ! b", False),
        ("a ! myappsink x=1", False),
        ("a ! b !", False),
    ],
)
def test_an_appsink_is_added_where_there_is_none(pipeline: str, has_sink: bool) -> None:
    text = with_appsink(pipeline)
    if has_sink:
        assert text == pipeline
    else:
        assert text.startswith(pipeline.rstrip(" !") + " ! videoconvert ! video/x-raw,format=BGR ! appsink ")
        assert text.endswith("drop=true max-buffers=1 sync=false")
