from __future__ import annotations

from pathlib import Path

import pytest

from camera.argus import ArgusOptions, argus_pipeline, from_uri, read_options
from camera.errors import UnsupportedSourceError
from camera.uri import parse_uri
from tests.camera.system_python import run_source

RESTART = "sudo systemctl restart nvargus-daemon"


def test_the_pipeline_asks_the_image_processor_for_all_of_it() -> None:
    options = read_options(
        parse_uri("argus://1?size=640x480&fps=29.97&mode=4&exposure_us=100-8000&gain=1.5-8&wbmode=3&flip=180")
    )
    assert argus_pipeline(options) == (
        "nvarguscamerasrc sensor-id=1 sensor-mode=4 "
        'exposuretimerange="100000 8000000" gainrange="1.5 8" wbmode=3 '
        "! video/x-raw(memory:NVMM),format=NV12,width=640,height=480,framerate=2997/100 "
        "! nvvidconv flip-method=2 ! video/x-raw,format=BGRx"
    )
    assert argus_pipeline(ArgusOptions()) == (
        "nvarguscamerasrc sensor-id=0 "
        "! video/x-raw(memory:NVMM),format=NV12,width=1280,height=720,framerate=30/1 "
        "! nvvidconv flip-method=0 ! video/x-raw,format=BGRx"
    )
    assert read_options(parse_uri("argus://0?gain=2")).gain == (2.0, 2.0)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("argus://front", "give the number of the camera, as in argus://0"),
        ("argus://0?sizes=1x1", "option sizes=1x1 is unknown. Did you mean size"),
        ("argus://0?gain=8-1", "gain=8-1 is wrong: give LOW-HIGH"),
        ("argus://0?exposure_us=long", "exposure_us=long is wrong: give LOW-HIGH"),
        ("argus://0?flip=sideways", "give one of none, left, 180, right"),
        ("argus://0?fps=0", "give a number from 1 to 240"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_opened(uri: str, said: str) -> None:
    with pytest.raises(UnsupportedSourceError, match=said):
        from_uri(parse_uri(uri))


@pytest.mark.parametrize("way", ["gi", "opencv"])
def test_frames_come_through_the_pipeline_with_a_stand_in_for_the_camera(way: str) -> None:
    seen = run_source("argus://0?size=322x200&fps=60", way, argus="videotestsrc is-live=true")
    assert seen["info"] == {
        "live": True,
        "fps": 60.0,
        "size": [322, 200],
        "name": "argus://0?size=322x200&fps=60",
    }
    assert [frame["shape"] for frame in seen["frames"]] == [[200, 322, 3]] * 5
    assert all(frame["bars"] and frame["right"][0] > 200 > frame["right"][2] for frame in seen["frames"])
    assert "error" not in seen


@pytest.mark.parametrize(
    ("camera", "frames", "said"),
    [
        # nvarguscamerasrc ends the stream where a camera fails, or is not there at all.
        ("videotestsrc is-live=true num-buffers=4", 1, "stopped sending"),
        ("videotestsrc is-live=true num-buffers=0", 0, "stopped sending"),
        (
            "videotestsrc is-live=true ! identity name=argus error-after=4",
            1,
            "argus says: Failed after iterations",
        ),
        ("videotestsrc is-live=true ! valve drop=true", 0, "gave no frame for 1 s"),
        ("videotestsrc is-live=true ! identity sleep-time=900000", 1, "gave no frame for 0.2 s"),
    ],
)
def test_a_camera_or_daemon_that_fails_is_an_error_with_the_remedy(
    camera: str, frames: int, said: str
) -> None:
    seen = run_source("argus://1", argus=camera, frames=99, open_timeout_s=1, patience_s=0.2)
    assert len(seen["frames"]) >= frames
    assert seen["error"]["type"] == "CameraError"
    assert said in seen["error"]["text"]
    assert RESTART in seen["error"]["text"]
    assert "is 1 its number" in seen["error"]["text"]


def test_a_machine_without_nvidias_elements_says_which_is_missing() -> None:
    if Path("/etc/nv_tegra_release").exists():
        pytest.skip("this is a Jetson, which has them")
    seen = run_source("argus://0")
    assert seen["error"]["type"] == "UnsupportedSourceError"
    assert 'no element "nvarguscamerasrc"' in seen["error"]["text"]
    assert "this is no Jetson, or the GStreamer plug-ins of its JetPack" in seen["error"]["text"]
    assert "spelling" not in seen["error"]["text"]
    assert RESTART not in seen["error"]["text"]
