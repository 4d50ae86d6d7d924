from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

import camera.bounded
import camera.picamera
from camera import CameraOptions, CameraState, Supervision, open_source
from camera.errors import CameraError, SourceNotFoundError, UnsupportedSourceError
from camera.picamera import PiCamera, PiCameraOptions, from_uri
from camera.picamera_acquire import acquire
from camera.uri import parse_uri

SITE = Path(__file__).parent / "fakes" / "picamera2_site"
RED = (10, 200)  # blue and red in OpenCV's order; green counts the frames


@pytest.fixture(params=["0.3.12", "0.3.38"])
def pi(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A picamera2, old and new, with two cameras, on a machine that was suspended for an hour."""
    before = set(threading.enumerate())
    monkeypatch.syspath_prepend(SITE)
    sys.modules.pop("picamera2", None)
    fake = importlib.import_module("picamera2")
    if request.param == "0.3.12":
        fake.become_old()
    real_clock = time.clock_gettime_ns
    monkeypatch.setattr(
        camera.picamera.time,
        "clock_gettime_ns",
        lambda clock: fake.boottime_ns() if clock == time.CLOCK_BOOTTIME else real_clock(clock),
    )
    yield fake
    fake.scene.stop_gate.set()
    fake.scene.flowing.set()
    # Those that hung in `stop` go on, and close their camera.
    for thread in set(threading.enumerate()) - before:
        if thread.name == "camera driver":
            thread.join(30)
    for opened in fake.scene.opened:
        opened.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
    sys.modules.pop("picamera2", None)
    assert fake.scene.violations == []


def test_frames_are_bgr_and_know_when_they_were_taken(pi: ModuleType) -> None:
    source = from_uri(parse_uri("picamera://0?size=320x240&fps=100"))
    before_ns = time.monotonic_ns()
    info = source.open()
    assert (info.name, info.live, info.fps, info.size) == (
        "picamera://0?size=320x240&fps=100",
        True,
        100.0,
        (320, 240),
    )
    stamps = []
    for _ in range(5):
        with source.read() as frame:
            assert frame.image.shape == (240, 320, 3)
            assert frame.image.flags.c_contiguous
            assert (frame.image[..., 0] == RED[0]).all()
            assert (frame.image[..., 2] == RED[1]).all()
            assert frame.origin == info.name
            stamps.append(frame.captured_ns)
    source.close()
    # The fake's clock is an hour ahead: a stamp taken as it is, or not at all, is no frame's time.
    assert before_ns <= stamps[0]
    assert all(earlier < later for earlier, later in pairwise(stamps))
    assert stamps[-1] <= time.monotonic_ns()
    assert len({stamp % 1_000_000 for stamp in stamps}) > 1


def test_a_stamp_is_the_sensors_and_not_that_of_the_arrival(pi: ModuleType) -> None:
    source = from_uri(parse_uri("picamera://0?size=32x32&fps=100"))
    source.open()
    source.read().release()
    # picamera2 keeps the newest frame for whoever asks; with no newer one, it is as old as the pause.
    wait_for(lambda: len(pi.scene.opened[0].completed_requests) == 1)
    pi.scene.flowing.clear()
    asked_ns = time.monotonic_ns()
    frame = source.read()
    assert frame.captured_ns < asked_ns
    frame.release()
    source.close()


def test_a_frame_is_the_cameras_own_buffer_until_it_is_released(pi: ModuleType) -> None:
    source = from_uri(parse_uri("picamera://0?size=64x48&fps=100"))
    source.open()
    frame = source.read()
    number = int(frame.image[0, 0, 1])
    wait_for(lambda: pi.scene.taken > 12)
    assert (frame.image[..., 1] == number).all()  # twice as many frames later as there are buffers
    image = frame.image
    assert not image.flags.owndata
    frame.release()
    frame.release()
    assert (image == 0xEE).any() or (image[..., 1] != number).any()  # it is the sensor's again
    source.close()


def test_gaps_in_seq_are_frames_for_which_nobody_was_there(pi: ModuleType) -> None:
    source = from_uri(parse_uri("picamera://0?size=64x48&fps=100"))
    source.open()
    first = source.read()
    first.release()
    wait_for(lambda: pi.scene.taken > 10)
    second = source.read()
    assert first.seq == 0
    assert second.seq >= 9
    second.release()
    source.close()


def test_what_the_sensor_took_while_no_buffer_was_free_is_missing_in_seq(pi: ModuleType) -> None:
    """libcamera counts requests, and jobs of the image processor: neither count has these frames."""
    source = from_uri(parse_uri("picamera://0?size=64x48&fps=100&buffers=2"))
    source.open()
    held = [source.read() for _ in range(2)]
    numbers = [int(frame.image[0, 0, 1]) for frame in held]  # the fake sensor's own, modulo 256
    wait_for(lambda: pi.scene.unserved >= 10)
    for frame in held:
        frame.release()
    for _ in range(3):
        with source.read() as frame:
            numbers.append(int(frame.image[0, 0, 1]))
            held.append(frame)
    assert held[2].seq >= 11
    for frame, number in zip(held, numbers, strict=True):
        assert frame.seq % 256 == (number - numbers[0]) % 256
    source.close()


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([(0, 33333), (33_333_000, 33333), (133_332_000, 33333)], [0, 1, 4]),
        # Automatic exposure: the rate falls to a half, and is back.
        ([(0, 33333), (33_333_000, 66666), (99_999_000, 66666), (166_665_000, 33333)], [0, 1, 2, 3]),
        ([(0, 33333), (99_999_000, 66666), (299_997_000, 66666)], [0, 1, 4]),  # it cannot be told better
        ([(0, 33333), (None, 33333), (133_332_000, 33333), (166_665_000, 33333)], [0, 1, 2, 3]),
        ([(0, None), (133_332_000, None), (100, 0)], [0, 1, 2]),
        ([(10**12, 33333), (0, 33333)], [0, 1]),
    ],
)
def test_frames_are_counted_by_stamps_and_durations(
    stamps: list[tuple[int | None, int | None]], expected: list[int]
) -> None:
    camera = PiCamera(PiCameraOptions(), "picamera://0")
    seq, found = -1, []
    for stamp in stamps:
        seq += 1 + camera._lost_before(*stamp)
        found.append(seq)
    assert found == expected


def test_a_reader_that_holds_all_buffers_starves_and_recovers(
    pi: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera.picamera, "_PATIENCE_S", 0.2)
    source = from_uri(parse_uri("picamera://0?size=64x48&fps=100&buffers=3"))
    source.open()
    held = [source.read() for _ in range(3)]
    for _ in range(3):
        with pytest.raises(CameraError, match="gave no frame"):
            source.read()
    assert pi.scene.unserved > 0
    for frame in held:
        frame.release()
    # A capture that was waited for in vain is waited for again: its buffer is not lost.
    for _ in range(10):
        source.read().release()
    source.close()


def test_padded_rows_are_copied_and_given_back_at_once(pi: ModuleType) -> None:
    pi.scene.stride_padding = 20
    source = from_uri(parse_uri("picamera://0?size=62x48&fps=100&buffers=2"))
    source.open()
    frames = [source.read() for _ in range(8)]
    for frame in frames:
        assert frame.image.shape == (48, 62, 3)
        assert frame.image.flags.c_contiguous
        assert (frame.image[..., 2] == RED[1]).all()
    assert len({int(frame.image[0, 0, 1]) for frame in frames}) == 8
    source.close()


def test_frames_may_be_released_after_the_camera_was_closed(pi: ModuleType) -> None:
    source = from_uri(parse_uri("picamera://0?size=64x48&fps=100"))
    source.open()
    frame = source.read()
    source.close()
    assert frame.image.shape == (48, 64, 3)
    frame.release()
    source.open()
    source.read().release()
    frame.release()
    source.close()
    source.close()
    with pytest.raises(CameraError, match="is not open"):
        source.read()


def test_a_pulled_ribbon_is_noticed_and_closing_does_not_hang(
    pi: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(camera.picamera, "_PATIENCE_S", 0.2)
    source = from_uri(parse_uri("picamera://0?size=64x48&fps=100"))
    source.open()
    source.read().release()
    pi.scene.flowing.clear()
    pi.scene.stop_gate.clear()
    with pytest.raises(CameraError, match=r"gave no frame for .* check its ribbon"):
        read_until_it_fails(source)
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        source.close()
    assert time.monotonic() - started < 30
    assert "does not stop: is its ribbon in place? It stays in use until this process ends." in caplog.text
    # Opening it again says what is the matter, rather than to hang.
    with pytest.raises(CameraError, match="is busy"):
        source.open()
    assert not exits_with(pi.scene.opened[0])


def read_until_it_fails(source: PiCamera) -> None:
    while True:
        source.read().release()


def test_a_camera_that_hangs_in_its_own_process_is_killed_and_comes_back(
    pi: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SITE))
    monkeypatch.setenv("FAKE_PICAMERA2_LOST_AFTER", "20")
    states: list[CameraState] = []
    source = open_source(
        "picamera://0?size=64x48&fps=100",
        CameraOptions(supervision=Supervision(stall_s=0.5, first_pause_s=0.01)),
        lambda change: states.append(change.state),
    )
    source.open()
    for _ in range(50):  # each process gives 20 at most
        with source.read() as frame:
            assert frame.image.shape == (48, 64, 3)
            assert (frame.image[..., 2] == RED[1]).all()
    source.close()
    assert states.count(CameraState.LOST) >= 2
    assert states.count(CameraState.LIVE) >= 3


def exits_with(opened: object) -> bool:
    """Tell whether picamera2 would close this camera at exit, where it would hang."""
    registered = []

    class Probe:
        def __eq__(self, other: object) -> bool:
            registered.append(other)
            return False

        __hash__ = None  # type: ignore[assignment]

    importlib.import_module("atexit").unregister(Probe())
    return any(getattr(one, "__self__", None) is opened for one in registered)


def test_a_camera_without_frames_can_still_be_closed(
    pi: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(camera.picamera, "_PATIENCE_S", 0.2)
    source = from_uri(parse_uri("picamera://0?size=64x48&fps=100"))
    source.open()
    pi.scene.flowing.clear()
    with pytest.raises(CameraError, match="gave no frame"):
        read_until_it_fails(source)
    source.close()
    # In old versions, `stop` waits behind the capture.
    is_old = not hasattr(pi.Picamera2, "cancel_all_and_flush")
    assert ("does not stop" in caplog.text) is is_old
    assert (pi.scene.opened[0].camera is None) is not is_old


def test_close_wakes_a_reader(pi: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera.picamera, "_PATIENCE_S", 1000)
    source = from_uri(parse_uri("picamera://0?size=64x48&fps=100"))
    source.open()
    pi.scene.flowing.clear()
    errors: list[BaseException] = []

    def read() -> None:
        try:
            while True:
                source.read().release()
        except CameraError as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    opened = pi.scene.opened[0]

    def is_waiting() -> bool:
        with opened.lock:  # not in the middle of taking a frame
            return bool(opened._job_list) and not opened.completed_requests

    wait_for(is_waiting)
    source.close()
    reader.join(30)
    assert len(errors) == 1


def test_controls_reach_the_camera_as_what_they_are(pi: ModuleType) -> None:
    source = from_uri(
        parse_uri(
            "picamera://1?size=64x48&fps=50&AfMode=continuous&ExposureTime=8000&AnalogueGain=2.5&AeEnable=no"
            "&ColourGains=1.5,2&ScalerCrop=0,0,1000,800"
        )
    )
    source.open()
    opened = pi.scene.opened[0]
    assert opened.camera == 1
    assert opened.camera_config["controls"] == {
        "AfMode": 2,
        "ExposureTime": 8000,
        "AnalogueGain": 2.5,
        "AeEnable": False,
        "ColourGains": (1.5, 2.0),
        "ScalerCrop": (0, 0, 1000, 800),
        "FrameDurationLimits": (20000, 20000),
    }
    source.close()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        (
            "picamera://0?ExposureTim=1",
            "no control ExposureTim. Did you mean ExposureTime[?] It has: AeEnable",
        ),
        ("picamera://0?AnalogueGain=99", "AnalogueGain=99 is wrong: give a number from 1 to 16"),
        ("picamera://0?AfMode=often", "give a number from 0 to 2, or one of manual, auto, continuous"),
        ("picamera://0?AeEnable=maybe", "give yes or no"),
        ("picamera://0?fps=200", "cannot give 200 frames per second: at 1280x720 at most 120"),
        ("picamera://0?size=1920x1080&fps=100", "at 1920x1080 at most 56.0"),
        ("picamera://0?sise=64x48", "option sise=64x48 is unknown. Did you mean size"),
        ("picamera://front", "give the number of the camera, as in picamera://0"),
    ],
)
def test_what_the_camera_cannot_do_is_said_with_what_it_can(pi: ModuleType, uri: str, said: str) -> None:
    with pytest.raises(UnsupportedSourceError, match=said):
        from_uri(parse_uri(uri)).open()
    for opened in pi.scene.opened:
        assert opened.camera is None  # it was closed


def test_a_camera_without_bgr_is_sent_to_v4l2(pi: ModuleType) -> None:
    pi.scene.only_format = "MJPEG"
    with pytest.raises(
        UnsupportedSourceError, match="gives no RGB888 but MJPEG: for a USB camera, use /dev/videoN"
    ):
        from_uri(parse_uri("picamera://0")).open()


def test_missing_cameras_are_told_with_those_that_are_there(pi: ModuleType) -> None:
    with pytest.raises(
        SourceNotFoundError, match=r"no camera picamera://2. Present: 0 \(imx708\), 1 \(imx219\)"
    ):
        from_uri(parse_uri("picamera://2")).open()
    pi.scene.models.clear()
    with pytest.raises(SourceNotFoundError, match=r"finds no camera\. Check the ribbon with the power off"):
        from_uri(parse_uri("picamera://0")).open()


def test_a_busy_camera_is_told_with_who_uses_it(pi: ModuleType, tmp_path: Path) -> None:
    pi.scene.busy = True
    with pytest.raises(
        CameraError, match=r"busy\. Another process uses it, such as rpicam-vid.*fuser -v /dev/media"
    ):
        acquire(0, "picamera://0", tmp_path)
    for name in ("media0", "media1"):
        (tmp_path / name).touch()
    used = rf"busy\. It is used by this program \(pid {os.getpid()}\)\.$"
    with (tmp_path / "media1").open(), pytest.raises(CameraError, match=used):
        acquire(0, "picamera://0", tmp_path)


def test_without_picamera2_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(CameraError, match=r"apt install python3-picamera2.*--system-site-packages"):
        from_uri(parse_uri("picamera://0")).open()


def wait_for(happened: object) -> None:
    """Wait until something is so; the test's own time-out is the limit."""
    until = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.002)
